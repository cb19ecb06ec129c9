/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "curl-load.h"

#include <dlfcn.h>
#include <string.h>

#include "macro.h"

typeof(curl_easy_cleanup) *sym_curl_easy_cleanup;
typeof(curl_easy_getinfo) *sym_curl_easy_getinfo;
typeof(curl_easy_init) *sym_curl_easy_init;
typeof(curl_easy_setopt) *sym_curl_easy_setopt;
typeof(curl_easy_strerror) *sym_curl_easy_strerror;
typeof(curl_multi_add_handle) *sym_curl_multi_add_handle;
typeof(curl_multi_assign) *sym_curl_multi_assign;
typeof(curl_multi_cleanup) *sym_curl_multi_cleanup;
typeof(curl_multi_info_read) *sym_curl_multi_info_read;
typeof(curl_multi_init) *sym_curl_multi_init;
typeof(curl_multi_remove_handle) *sym_curl_multi_remove_handle;
typeof(curl_multi_setopt) *sym_curl_multi_setopt;
typeof(curl_multi_socket_action) *sym_curl_multi_socket_action;
typeof(curl_slist_append) *sym_curl_slist_append;
typeof(curl_slist_free_all) *sym_curl_slist_free_all;

static const struct {
        const char *name;
        void *where;
} symbols[] = {
        { "curl_easy_cleanup", &sym_curl_easy_cleanup },
        { "curl_easy_getinfo", &sym_curl_easy_getinfo },
        { "curl_easy_init", &sym_curl_easy_init },
        { "curl_easy_setopt", &sym_curl_easy_setopt },
        { "curl_easy_strerror", &sym_curl_easy_strerror },
        { "curl_multi_add_handle", &sym_curl_multi_add_handle },
        { "curl_multi_assign", &sym_curl_multi_assign },
        { "curl_multi_cleanup", &sym_curl_multi_cleanup },
        { "curl_multi_info_read", &sym_curl_multi_info_read },
        { "curl_multi_init", &sym_curl_multi_init },
        { "curl_multi_remove_handle", &sym_curl_multi_remove_handle },
        { "curl_multi_setopt", &sym_curl_multi_setopt },
        { "curl_multi_socket_action", &sym_curl_multi_socket_action },
        { "curl_slist_append", &sym_curl_slist_append },
        { "curl_slist_free_all", &sym_curl_slist_free_all },
};

int curl_load(KError *reterr) {
        static const char *const names[] = { "libcurl-gnutls.so.4", "libcurl.so.4" };
        static void *library;
        void *l = NULL;

        if (library)
                return 0;
        for (size_t i = 0; i < ELEMENTSOF(names) && !l; i++)
                l = dlopen(names[i], RTLD_NOW | RTLD_NODELETE);
        if (!l)
                return kerror_set(reterr, K_NOT_SUPPORTED,
                                "Logging in by an external provider needs libcurl, which is not installed "
                                "on the master (%s).",
                                names[0]);
        for (size_t i = 0; i < ELEMENTSOF(symbols); i++) {
                void *symbol = dlsym(l, symbols[i].name);

                if (!symbol) {
                        (void) dlclose(l);
                        return kerror_set(reterr, K_NOT_SUPPORTED,
                                        "The master's libcurl has no '%s', it is too old.", symbols[i].name);
                }
                memcpy(symbols[i].where, &symbol, sizeof(symbol));
        }
        library = l;
        return 0;
}
