/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-event.h>

#include "kerror.h"
#include "macro.h"

/* One request to somebody else's server, by libcurl in the loop; the library is loaded by the first, for most masters never make one. (Names are resolved in a thread of libcurl's, which touches nothing of
 * ours, and which nobody waits for: a resolver that does not answer keeps it, not the loop.) No redirects, a bounded answer, a time limit. */
typedef struct HttpFetch HttpFetch;

typedef struct HttpQuery {
        const char *url;             /* http: or https: */
        const char *body;            /* NULL: GET, otherwise POST */
        char *const *headers;        /* "Accept: text/plain" */
        const char *user, *password; /* for basic authentication; NULL: none */
        bool insecure;               /* any certificate will do */
        uint64_t timeout_usec;       /* 0: LOGIN_TIMEOUT_USEC */
} HttpQuery;

/* What was answered, borrowed; or error. Called exactly once, from the loop; the request may be freed inside. */
typedef struct HttpAnswer {
        long status;
        const char *content_type; /* "": none */
        const char *body;         /* with a NUL behind it */
        size_t size;
} HttpAnswer;
typedef void (*http_done_t)(const HttpAnswer *answer, const KError *error, void *userdata);

int http_fetch_new(sd_event *event, const HttpQuery *q, http_done_t done, void *userdata, HttpFetch **ret,
                KError *reterr);
HttpFetch *http_fetch_free(HttpFetch *r); /* done is not called any more */
DEFINE_TRIVIAL_CLEANUP_FUNC(HttpFetch *, http_fetch_free);
