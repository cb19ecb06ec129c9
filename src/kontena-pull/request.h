/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "image-reference.h"
#include "kerror.h"
#include "macro.h"
#include "manifest.h"

/* What noded asks for, as one JSON object:
 *
 *   store         the image store's path               reference   the image
 *   username, password, ca_file, insecure              of its registry; all may be missing
 *   mirrors       list of {registry, username, password, ca_file, insecure}, asked first
 *   architecture, variant                              this machine's where missing
 *   proxy         {http, https, no}: as the variables http_proxy, https_proxy and no_proxy
 *   size_max, entries_max                              lower than what we take anyway
 *   attempts      at one question to a registry, instead of PULL_ATTEMPTS_MAX
 *   resolve       only what the reference means now; nothing is fetched
 *   stall_sec     give up on a connection without a byte for so long */
typedef struct Endpoint {
        char *host;
        char *username, *password;
        char *ca_file;
        bool insecure;
} Endpoint;

typedef struct Request {
        char *store;
        char *written; /* the reference as it was given */
        ImageReference reference;
        char *normalized;
        Endpoint *endpoints; /* mirrors in their order, the registry itself last */
        size_t n_endpoints;
        char *architecture, *variant;
        char *http_proxy, *https_proxy, *no_proxy;
        uint64_t size_max, entries_max;
        uint64_t stall_usec;
        unsigned attempts;
        bool resolve;
} Request;

int request_parse(json_object *o, Request *ret, KError *reterr);
void request_done(Request *r);
#define _cleanup_request_ _cleanup_(request_done)
