/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "rest-list.h"

#include <json-c/printbuf.h>

#include "file-util.h"
#include "json-util.h"
#include "rest-internal.h"
#include "rest-rows.h"
#include "string-util.h"

#define STEP_USEC (5U * USEC_PER_MSEC)

struct RestList {
        RestCall *call;
        char **ids;
        size_t next;
        rest_row_t row;
        uint32_t left; /* as many more are shown */
        sd_event_source *source;

        struct printbuf *
                        answer; /* what is there of it; it grows by realloc(), which moves pages and does not copy */
        bool any;
};

RestList *rest_list_free(RestList *l) {
        if (!l)
                return NULL;

        sd_event_source_disable_unref(l->source);
        strv_free(l->ids);
        printbuf_free(l->answer);
        free(l);
        return NULL;
}

static int append(RestList *l, const char *text) {
        size_t n = strlen(text);

        return n > INT_MAX || printbuf_memappend(l->answer, text, (int) n) < 0 ? -ENOMEM : 0;
}

static int append_row(RestList *l, const char *id) {
        _cleanup_json_ json_object *o = NULL;
        const char *text;
        int r;

        r = l->row(l->call, id, &o);
        if (r < 0 || !o)
                return r;
        text = json_text(o);
        if (!text)
                return -ENOMEM;
        r = l->any ? append(l, ",") : 0;
        if (r >= 0)
                r = append(l, text);
        if (r < 0)
                return r;
        l->any = true;
        l->left--;
        return 0;
}

/* 1: there are more. */
static int step(RestList *l) {
        uint64_t until = now_monotonic() + STEP_USEC;
        int r;

        while (l->ids[l->next] && l->left > 0) {
                r = append_row(l, l->ids[l->next++]);
                if (r < 0)
                        return r;
                if (now_monotonic() >= until)
                        return 1;
        }
        r = append(l, "]}");
        return r < 0 ? r : rest_reply_consume(l->call, TAKE_PTR(l->answer->buf), (size_t) l->answer->bpos);
}

static int on_step(sd_event_source *source, uint64_t usec, void *userdata) {
        RestList *l = userdata;
        RestCall *c = l->call;
        int r;

        rest_enter(c);
        r = c->http ? step(l) : -EPIPE; /* the client has gone */
        if (r > 0) {
                r = sd_event_source_set_time_relative(source, 0);
                if (r >= 0)
                        r = sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
        }
        rest_finish(c, r);
        rest_leave(c);
        return 0;
}

int rest_reply_rows(RestCall *c, const char *key, char **consumed_ids, uint32_t limit, rest_row_t row) {
        _cleanup_(rest_list_freep) RestList *l = NULL;
        _cleanup_strv_free_ char **ids = consumed_ids;
        int r;

        assert(!c->list);

        l = new0(RestList, 1);
        if (!l)
                return -ENOMEM;
        l->call = c;
        l->row = row;
        l->left = limit;
        l->ids = ids ? TAKE_PTR(ids) : new0(char *, 1);
        l->answer = printbuf_new();
        if (!l->ids || !l->answer)
                return -ENOMEM;
        if (sprintbuf(l->answer, "{\"%s\":[", key) < 0)
                return -ENOMEM;
        /* Not deferred: that would come before whatever else waits, each time. */
        r = sd_event_add_time_relative(
                        c->rest->master->event, &l->source, CLOCK_MONOTONIC, 0, 1, on_step, l);
        if (r < 0)
                return r;

        c->list = TAKE_PTR(l);
        return 0;
}
