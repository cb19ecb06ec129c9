/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "http-scan.h"

#include "kontena-limits.h"
#include "string-util.h"

#define METHOD_MAX  16U
#define HEADERS_MAX 100U
#define LENGTH_MAX  18U /* digits */

static bool is_token(unsigned char c) {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
               (c != '\0' && strchr("!#$%&'*+-.^_`|~", c));
}

static void word_add(HttpScan *s, char c) {
        if (s->word_length < sizeof(s->word) - 1)
                s->word[s->word_length] = c >= 'A' && c <= 'Z' ? (char) (c | 0x20) : c;
        s->word_length++;
}

static bool word_is(HttpScan *s, const char *word) {
        return s->word_length == strlen(word) && strneq(s->word, word, s->word_length);
}

static void word_clear(HttpScan *s) {
        memset(s->word, 0, sizeof(s->word));
        s->word_length = 0;
}

static int name_end(HttpScan *s) {
        s->header = 0;
        if (++s->n_headers > HEADERS_MAX)
                return 431;
        if (word_is(s, "content-length")) {
                if (s->has_length)
                        return 400;
                s->has_length = true;
                s->header = 'l';
        } else if (word_is(s, "transfer-encoding"))
                return 411; /* nothing of ours is sent in chunks */
        else if (word_is(s, "host")) {
                if (s->has_host)
                        return 400;
                s->has_host = true;
                s->header = 'h';
        }
        word_clear(s);
        return 0;
}

static int length_add(HttpScan *s, unsigned char c) {
        if (c == ' ' || c == '\t') {
                s->length_ended = s->length_length > 0;
                return 0;
        }
        if (c < '0' || c > '9' || s->length_ended || s->length_length >= LENGTH_MAX)
                return 400;
        s->length[s->length_length++] = (char) c;
        return 0;
}

static int head_end(HttpScan *s) {
        uint64_t n = 0, heads = s->n_heads + 1, requests = s->n_requests;

        if (!s->has_host && !s->is_1_0)
                return 400;
        if (s->has_length && s->length_length == 0)
                return 400;
        for (size_t i = 0; i < s->length_length; i++)
                n = n * 10 + (uint64_t) (s->length[i] - '0');

        *s = (HttpScan){ .n_heads = heads, .n_requests = n > 0 ? requests : requests + 1 };
        if (n > 0) {
                s->state = HTTP_SCAN_BODY;
                s->body_left = n;
        }
        return 0;
}

static int scan_byte(HttpScan *s, unsigned char c) {
        switch (s->state) {
        case HTTP_SCAN_METHOD:
                if (c == ' ' && s->word_length > 0) {
                        word_clear(s);
                        s->state = HTTP_SCAN_TARGET;
                        return 0;
                }
                if (!is_token(c) || s->word_length >= METHOD_MAX)
                        return 400;
                word_add(s, (char) c);
                return 0;

        case HTTP_SCAN_TARGET:
                if (c == ' ' && s->word_length > 0) {
                        word_clear(s);
                        s->state = HTTP_SCAN_VERSION;
                        return 0;
                }
                if (c <= ' ' || c == 0x7f)
                        return 400;
                s->word_length++;
                return 0;

        case HTTP_SCAN_VERSION:
                if (c == '\r') {
                        s->is_1_0 = word_is(s, "http/1.0");
                        if (!s->is_1_0 && !word_is(s, "http/1.1"))
                                return 505;
                        word_clear(s);
                        s->state = HTTP_SCAN_LINE_END;
                        return 0;
                }
                if (c <= ' ' || c >= 0x7f || s->word_length > 8)
                        return 400;
                word_add(s, (char) c);
                return 0;

        case HTTP_SCAN_NAME_START:
                if (c == '\r') {
                        s->state = HTTP_SCAN_HEAD_END;
                        return 0;
                }
                s->state = HTTP_SCAN_NAME;
                _fallthrough_; /* a space here would be a folded line, and is no token */

        case HTTP_SCAN_NAME:
                if (c == ':' && s->word_length > 0) {
                        s->state = HTTP_SCAN_VALUE;
                        return name_end(s);
                }
                if (!is_token(c))
                        return 400;
                word_add(s, (char) c);
                return 0;

        case HTTP_SCAN_VALUE:
                if (c == '\r') {
                        s->state = HTTP_SCAN_LINE_END;
                        return 0;
                }
                if ((c < ' ' && c != '\t') || c == 0x7f)
                        return 400;
                return s->header == 'l' ? length_add(s, c) : 0;

        case HTTP_SCAN_LINE_END:
                s->state = HTTP_SCAN_NAME_START;
                return c == '\n' ? 0 : 400;

        case HTTP_SCAN_HEAD_END:
                return c == '\n' ? head_end(s) : 400;

        case HTTP_SCAN_BODY:
        default:
                return 0;
        }
}

int http_scan(HttpScan *s, const void *data, size_t size) {
        const unsigned char *p = data, *end = p + size;

        while (p < end) {
                int r;

                if (s->state == HTTP_SCAN_BODY) {
                        size_t n = (size_t) MIN((uint64_t) (end - p), s->body_left);

                        p += n;
                        s->body_left -= n;
                        if (s->body_left == 0) {
                                s->state = HTTP_SCAN_METHOD;
                                s->n_requests++;
                        }
                        continue;
                }
                if (++s->head_size > LISTENER_HEAD_SIZE_MAX)
                        return 431;
                r = scan_byte(s, *p++);
                if (r != 0)
                        return r;
        }
        return 0;
}
