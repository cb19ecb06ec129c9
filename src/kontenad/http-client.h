/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-event.h>

#include "kerror.h"
#include "macro.h"

/* One request to somebody else's server, by libcurl in the loop. (Names are resolved in a thread of libcurl's, which touches nothing of
 * ours.) No redirects, a bounded answer, a time limit. */
typedef struct HttpRequest HttpRequest;

typedef struct HttpQuery {
        const char *url;             /* http: or https: */
        const char *body;            /* NULL: GET, otherwise POST */
        char *const *headers;        /* "Accept: text/plain" */
        const char *user, *password; /* for basic authentication; NULL: none */
        bool insecure;               /* any certificate will do */
} HttpQuery;

/* What was answered, borrowed; or error. Called exactly once, from the loop; the request may be freed inside. */
typedef struct HttpAnswer {
        long status;
        const char *content_type; /* "": none */
        const char *body;         /* with a NUL behind it */
        size_t size;
} HttpAnswer;
typedef void (*http_done_t)(const HttpAnswer *answer, const KError *error, void *userdata);

int http_request_new(sd_event *event, const HttpQuery *q, http_done_t done, void *userdata,
                HttpRequest **ret, KError *reterr);
HttpRequest *http_request_free(HttpRequest *r); /* done is not called any more */
DEFINE_TRIVIAL_CLEANUP_FUNC(HttpRequest *, http_request_free);

/* Appends KEY=VALUE to a query or form: percent-encoded, with separator in front. */
int uri_unescape_form(const char *s, size_t n, char **ret); /* -EINVAL: has a NUL byte in it */
int uri_append(char **uri, const char *separator, const char *key, const char *value);
