/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "host-names.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <sys/utsname.h>

#include "file-util.h"
#include "string-util.h"

#define FILE_SIZE_MAX (1024U * 1024U)
#define NAMES_MAX     128U
#define NAME_MAX_DNS  253U

typedef struct ifaddrs ifaddrs;
DEFINE_TRIVIAL_CLEANUP_FUNC(ifaddrs *, freeifaddrs);

static bool is_plausible(const char *name) {
        size_t n = strlen(name);

        return n > 0 && n <= NAME_MAX_DNS &&
               strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._*:") == n;
}

static int add(char ***l, const char *name) {
        if (!is_plausible(name) || strv_contains(*l, name) || strv_length(*l) >= NAMES_MAX)
                return 0;

        return strv_extend(l, name);
}

/* The lines of /etc/hosts that have the host name have its aliases too. */
static int add_from_hosts(char ***l, const char *host) {
        _cleanup_strv_free_ char **lines = NULL;
        _cleanup_free_ char *text = NULL;
        int r;

        r = read_file("/etc/hosts", FILE_SIZE_MAX, &text, NULL);
        if (r < 0)
                return r == -ENOMEM ? r : 0;
        r = strv_split(text, "\n", &lines);
        if (r < 0)
                return r;

        STRV_FOREACH(line, lines) {
                _cleanup_strv_free_ char **words = NULL;

                (*line)[strcspn(*line, "#")] = '\0';
                r = strv_split(*line, " \t\r", &words);
                if (r < 0)
                        return r;
                if (strv_length(words) < 2 || !strv_contains(words + 1, host))
                        continue;
                STRV_FOREACH(word, words + 1) {
                        r = add(l, *word);
                        if (r < 0)
                                return r;
                }
        }

        return 0;
}

static int add_addresses(char ***l) {
        _cleanup_(freeifaddrsp) ifaddrs *list = NULL;
        int r;

        if (getifaddrs(&list) < 0)
                return -errno;

        for (ifaddrs *i = list; i; i = i->ifa_next) {
                char text[INET6_ADDRSTRLEN];
                const void *a;

                if (!i->ifa_addr || !(i->ifa_flags & IFF_UP))
                        continue;
                if (i->ifa_addr->sa_family == AF_INET)
                        a = &((struct sockaddr_in *) i->ifa_addr)->sin_addr;
                else if (i->ifa_addr->sa_family == AF_INET6) {
                        a = &((struct sockaddr_in6 *) i->ifa_addr)->sin6_addr;
                        if (IN6_IS_ADDR_LINKLOCAL((const struct in6_addr *) a))
                                continue;
                } else
                        continue;
                if (!inet_ntop(i->ifa_addr->sa_family, a, text, sizeof(text)))
                        return -errno;
                r = add(l, text);
                if (r < 0)
                        return r;
        }

        return 0;
}

static int compare(const void *a, const void *b) {
        return strcmp(*(char *const *) a, *(char *const *) b);
}

int host_names(char *const *configured, char ***ret) {
        _cleanup_strv_free_ char **l = NULL;
        _cleanup_free_ char *qualified = NULL;
        struct utsname u;
        int r;

        assert(ret);

        if (uname(&u) < 0)
                return -errno;

        STRV_FOREACH(name, configured) {
                r = add(&l, *name);
                if (r < 0)
                        return r;
        }
        r = add(&l, u.nodename);
        if (r < 0)
                return r;
        if (strchr(u.nodename, '.')) {
                _cleanup_free_ char *first = strndup(u.nodename, strcspn(u.nodename, "."));

                if (!first)
                        return -ENOMEM;
                r = add(&l, first);
                if (r < 0)
                        return r;
        } else if (!isempty(u.domainname) && !streq(u.domainname, "(none)")) {
                qualified = strjoin(u.nodename, ".", u.domainname);
                if (!qualified)
                        return -ENOMEM;
                r = add(&l, qualified);
                if (r < 0)
                        return r;
        }
        r = add_from_hosts(&l, u.nodename);
        if (r < 0)
                return r;
        FOREACH_ARRAY(name, ((const char *const[]){ "localhost", "127.0.0.1", "::1" }), 3) {
                r = add(&l, *name);
                if (r < 0)
                        return r;
        }
        r = add_addresses(&l);
        if (r < 0)
                return r;

        qsort(l, strv_length(l), sizeof(char *), compare);
        *ret = TAKE_PTR(l);
        return 0;
}
