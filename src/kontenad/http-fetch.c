/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "http-fetch.h"

#include <sys/epoll.h>

#include "curl-load.h"
#include "file-util.h"
#include "kontena-limits.h"
#include "string-util.h"

struct HttpFetch {
        sd_event *event;
        CURLM *multi;
        CURL *easy;
        struct curl_slist *headers;
        sd_event_source *timer;
        char *body; /* sent; erased */
        char *answer;
        size_t size, allocated;
        char error[CURL_ERROR_SIZE];
        http_done_t done;
        void *userdata;
};

HttpFetch *http_fetch_free(HttpFetch *r) {
        if (!r)
                return NULL;

        if (r->multi && r->easy)
                (void) sym_curl_multi_remove_handle(r->multi, r->easy);
        sym_curl_easy_cleanup(r->easy);
        (void) sym_curl_multi_cleanup(r->multi);                /* takes its sockets from the loop */
        for (struct curl_slist *h = r->headers; h; h = h->next) /* one of them authorizes */
                erase_memory(h->data, strlen(h->data));
        sym_curl_slist_free_all(r->headers);
        sd_event_source_disable_unref(r->timer);
        erase_and_freep(&r->body);
        if (r->answer)
                erase_memory(r->answer, r->size);
        free(r->answer);
        sd_event_unref(r->event);
        free(r);
        return NULL;
}

/* The last thing that happens to r: done may free it. */
static void finish(HttpFetch *r, CURLcode code) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        HttpAnswer answer = { .body = r->answer ?: "", .size = r->size };
        char *type = NULL;

        if (code != CURLE_OK) {
                (void) kerror_set(&error, K_NETWORK, "%s",
                                r->error[0] ? r->error : sym_curl_easy_strerror(code));
                r->done(NULL, &error, r->userdata);
                return;
        }
        (void) sym_curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &answer.status);
        (void) sym_curl_easy_getinfo(r->easy, CURLINFO_CONTENT_TYPE, &type);
        answer.content_type = strempty(type);
        r->done(&answer, NULL, r->userdata);
}

static int act(HttpFetch *r, curl_socket_t fd, int mask) {
        int running, left;
        CURLMsg *m;

        (void) sym_curl_multi_socket_action(r->multi, fd, mask, &running);
        while ((m = sym_curl_multi_info_read(r->multi, &left)))
                if (m->msg == CURLMSG_DONE) {
                        finish(r, m->data.result);
                        return 0;
                }
        return 0;
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        int mask = 0;

        if (revents & (EPOLLIN | EPOLLHUP))
                mask |= CURL_CSELECT_IN;
        if (revents & EPOLLOUT)
                mask |= CURL_CSELECT_OUT;
        if (revents & EPOLLERR)
                mask |= CURL_CSELECT_ERR;
        return act(userdata, fd, mask);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        return act(userdata, CURL_SOCKET_TIMEOUT, 0);
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *userdata, void *assigned) {
        sd_event_source *source = assigned;
        HttpFetch *r = userdata;
        uint32_t events = 0;

        if (what == CURL_POLL_REMOVE) {
                sd_event_source_disable_unref(source);
                return 0;
        }
        if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
                events |= EPOLLIN;
        if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
                events |= EPOLLOUT;
        if (source)
                return sd_event_source_set_io_events(source, events) < 0 ? -1 : 0;
        if (sd_event_add_io(r->event, &source, fd, events, on_io, r) < 0)
                return -1;
        (void) sym_curl_multi_assign(r->multi, fd, source);
        return 0;
}

static int on_timeout(CURLM *multi, long msec, void *userdata) {
        HttpFetch *r = userdata;
        int q;

        if (msec < 0)
                return sd_event_source_set_enabled(r->timer, SD_EVENT_OFF) < 0 ? -1 : 0;
        q = sd_event_source_set_time_relative(r->timer, (uint64_t) msec * USEC_PER_MSEC);
        if (q >= 0)
                q = sd_event_source_set_enabled(r->timer, SD_EVENT_ONESHOT);
        return q < 0 ? -1 : 0;
}

static size_t on_data(char *data, size_t size, size_t n, void *userdata) {
        HttpFetch *r = userdata;

        n *= size;
        if (n > LOGIN_ANSWER_MAX - r->size)
                return 0;
        if (r->size + n + 1 > r->allocated) {
                size_t want = MAX(r->allocated * 2, r->size + n + 1);
                char *more = malloc(want); /* not realloc(), which would leave a copy behind */

                if (!more)
                        return 0;
                if (r->answer) {
                        memcpy(more, r->answer, r->size);
                        erase_memory(r->answer, r->size);
                        free(r->answer);
                }
                r->answer = more;
                r->allocated = want;
        }
        memcpy(r->answer + r->size, data, n);
        r->size += n;
        r->answer[r->size] = '\0';
        return n;
}

static CURLcode set_options(HttpFetch *r, const HttpQuery *q) {
        CURL *e = r->easy;
        CURLcode c;

#define SET(option, value)                                                                                  \
        if (c == CURLE_OK)                                                                                  \
        c = sym_curl_easy_setopt(e, option, value)
        c = sym_curl_easy_setopt(e, CURLOPT_URL, q->url);
        SET(CURLOPT_PROTOCOLS_STR, "http,https");
        SET(CURLOPT_FOLLOWLOCATION, 0L);
        SET(CURLOPT_NOSIGNAL, 1L);
        SET(CURLOPT_QUICK_EXIT, 1L); /* else the end waits for a thread that looks for a name */
        SET(CURLOPT_TIMEOUT_MS, (long) ((q->timeout_usec ?: LOGIN_TIMEOUT_USEC) / USEC_PER_MSEC));
        SET(CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
        SET(CURLOPT_SSL_VERIFYPEER, q->insecure ? 0L : 1L);
        SET(CURLOPT_SSL_VERIFYHOST, q->insecure ? 0L : 2L);
        SET(CURLOPT_USERAGENT, "kontenad/" KONTENA_VERSION);
        SET(CURLOPT_ERRORBUFFER, r->error);
        SET(CURLOPT_WRITEFUNCTION, on_data);
        SET(CURLOPT_WRITEDATA, r);
        SET(CURLOPT_HTTPHEADER, r->headers);
        if (r->body) {
                SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) strlen(r->body));
                SET(CURLOPT_POSTFIELDS, r->body);
        }
        if (q->user) {
                SET(CURLOPT_HTTPAUTH, CURLAUTH_BASIC);
                SET(CURLOPT_USERNAME, q->user);
                SET(CURLOPT_PASSWORD, strempty(q->password));
        }
#undef SET
        return c;
}

int http_fetch_new(sd_event *event, const HttpQuery *q, http_done_t done, void *userdata, HttpFetch **ret,
                KError *reterr) {
        _cleanup_(http_fetch_freep) HttpFetch *h = NULL;
        int r;

        r = curl_load(reterr);
        if (r < 0)
                return r;
        h = new0(HttpFetch, 1);
        if (!h)
                return -ENOMEM;
        h->event = sd_event_ref(event);
        h->done = done;
        h->userdata = userdata;
        r = sd_event_add_time_relative(event, &h->timer, CLOCK_MONOTONIC, 0, 1, on_timer, h);
        if (r >= 0)
                r = sd_event_source_set_enabled(h->timer, SD_EVENT_OFF);
        if (r < 0)
                return r;
        STRV_FOREACH(s, q->headers) {
                struct curl_slist *more = sym_curl_slist_append(h->headers, *s);

                if (!more)
                        return -ENOMEM;
                h->headers = more;
        }
        h->body = q->body ? strdup(q->body) : NULL;
        h->multi = sym_curl_multi_init();
        h->easy = sym_curl_easy_init();
        if (!h->multi || !h->easy || (q->body && !h->body))
                return -ENOMEM;

        (void) sym_curl_multi_setopt(h->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
        (void) sym_curl_multi_setopt(h->multi, CURLMOPT_SOCKETDATA, h);
        (void) sym_curl_multi_setopt(h->multi, CURLMOPT_TIMERFUNCTION, on_timeout);
        (void) sym_curl_multi_setopt(h->multi, CURLMOPT_TIMERDATA, h);
        if (set_options(h, q) != CURLE_OK || sym_curl_multi_add_handle(h->multi, h->easy) != CURLM_OK)
                return kerror_set(reterr, K_NETWORK, "The request cannot be made.");

        *ret = TAKE_PTR(h);
        return 0;
}
