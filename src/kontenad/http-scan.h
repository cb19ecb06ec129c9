/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"

/* Watches the bytes of one connection before an HTTP library reads them, so that there is one opinion of where a request ends: lines end
 * in CRLF, no line is folded, a length is said once and in digits, nothing is chunked. Whoever stands in front of us cannot be made to see
 * other requests than we do. */
typedef enum HttpScanState {
        HTTP_SCAN_METHOD,
        HTTP_SCAN_TARGET,
        HTTP_SCAN_VERSION,
        HTTP_SCAN_NAME_START,
        HTTP_SCAN_NAME,
        HTTP_SCAN_VALUE,
        HTTP_SCAN_LINE_END, /* LF is missing */
        HTTP_SCAN_HEAD_END, /* likewise, of the empty line */
        HTTP_SCAN_BODY,
} HttpScanState;

typedef struct HttpScan {
        HttpScanState state;
        size_t head_size;
        unsigned n_headers;
        char word[32]; /* the name or version, as long as it fits */
        size_t word_length;
        char header; /* which of those we know: 'l' Content-Length, 't' Transfer-Encoding, 'h' Host; 0: another */
        char length[20];
        size_t length_length;
        bool length_ended, has_length, has_host, is_1_0;
        uint64_t body_left;
        uint64_t n_heads, n_requests; /* whole ones so far */
} HttpScan;

/* 0, or the HTTP status that says why these bytes are refused; then it is over. */
int http_scan(HttpScan *s, const void *data, size_t size);

/* A request has begun and is not whole. */
static inline bool http_scan_is_inside(const HttpScan *s) {
        return s->head_size > 0 || s->state == HTTP_SCAN_BODY;
}
