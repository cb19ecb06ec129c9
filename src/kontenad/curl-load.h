/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#define CURL_DISABLE_TYPECHECK /* its macros know the functions by name */
#include <curl/curl.h>

#include "kerror.h"

/* libcurl brings a dozen libraries with it, several megabytes of memory: a master that nobody logs in to by an external provider does without.
 * -EOPNOTSUPP: it is not installed. Nothing but the first call does anything; the functions stand only behind a success. */
int curl_load(KError *reterr);

extern typeof(curl_easy_cleanup) *sym_curl_easy_cleanup;
extern typeof(curl_easy_getinfo) *sym_curl_easy_getinfo;
extern typeof(curl_easy_init) *sym_curl_easy_init;
extern typeof(curl_easy_setopt) *sym_curl_easy_setopt;
extern typeof(curl_easy_strerror) *sym_curl_easy_strerror;
extern typeof(curl_multi_add_handle) *sym_curl_multi_add_handle;
extern typeof(curl_multi_assign) *sym_curl_multi_assign;
extern typeof(curl_multi_cleanup) *sym_curl_multi_cleanup;
extern typeof(curl_multi_info_read) *sym_curl_multi_info_read;
extern typeof(curl_multi_init) *sym_curl_multi_init;
extern typeof(curl_multi_remove_handle) *sym_curl_multi_remove_handle;
extern typeof(curl_multi_setopt) *sym_curl_multi_setopt;
extern typeof(curl_multi_socket_action) *sym_curl_multi_socket_action;
extern typeof(curl_slist_append) *sym_curl_slist_append;
extern typeof(curl_slist_free_all) *sym_curl_slist_free_all;
