/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <utlist.h>

#include "file-util.h"
#include "json-util.h"
#include "log.h"
#include "noded-internal.h"

#define SEND_USEC     (1 * USEC_PER_SEC) /* links.status comes no faster */
#define QUESTIONS_MAX 16U

/* links.get of the master. All that come while one is being measured have its answer. */
typedef struct LinkQuestion {
        uint64_t request;
        struct LinkQuestion *next;
} LinkQuestion;

void manager_send_links(Manager *m) {
        _cleanup_json_ json_object *links = NULL;
        json_object *params;
        int r;

        if (channel_state(m->channel) != CHANNEL_READY)
                return;
        r = network_links(m->network, &links);
        if (r >= 0 && json_object_object_length(links) == 0)
                return;
        if (r >= 0)
                r = json_wrap("links", TAKE_PTR(links), &params);
        if (r >= 0)
                r = channel_notify(m->channel, "links.status", params);
        if (r < 0)
                log_warning_errno(r, "Cannot tell the master of the links to other nodes: %m");
}

static int on_links_timer(sd_event_source *s, uint64_t usec, void *userdata) {
        manager_send_links(userdata);
        return 0;
}

/* The first change is told after a moment in which others come along. */
static void send_links_soon(Manager *m) {
        int r, enabled = SD_EVENT_OFF;

        if (!m->links_timer)
                r = sd_event_add_time_relative(
                                m->event, &m->links_timer, CLOCK_MONOTONIC, SEND_USEC, 0, on_links_timer, m);
        else {
                r = sd_event_source_get_enabled(m->links_timer, &enabled);
                if (r >= 0 && enabled != SD_EVENT_OFF)
                        return;
                r = sd_event_source_set_time_relative(m->links_timer, SEND_USEC);
                if (r >= 0)
                        r = sd_event_source_set_enabled(m->links_timer, SD_EVENT_ONESHOT);
        }
        if (r < 0)
                log_error_errno(r, "Cannot set a timer, the master is told of links later: %m");
}

void manager_network_changed(Network *n, NetworkChange change, void *userdata) {
        Manager *m = userdata;

        /* Not before all parts are there: it is all told at the greeting. */
        if (!m->report)
                return;
        if (change == NETWORK_CHANGED_KEYS)
                manager_report_soon(m);
        else
                send_links_soon(m);
}

static void forget_questions(Manager *m) {
        LinkQuestion *q, *next;

        LL_FOREACH_SAFE(m->link_questions, q, next) {
                LL_DELETE(m->link_questions, q);
                free(q);
        }
}

void manager_forget_link_questions(Manager *m) {
        m->measure = network_measure_cancel(m->measure);
        forget_questions(m);
}

static void on_measured(int r, json_object *links, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        Manager *m = userdata;
        LinkQuestion *q;
        int k;

        m->measure = NULL;
        if (r < 0)
                (void) kerror_set_errno(&error, r, "Cannot measure the links: %m");
        LL_FOREACH(m->link_questions, q) {
                json_object *result = NULL;

                if (r < 0)
                        k = channel_reply_error(m->channel, q->request, &error);
                else {
                        k = json_wrap("links", json_object_get(links), &result);
                        if (k >= 0)
                                k = channel_reply(m->channel, q->request, result);
                }
                if (k < 0)
                        log_warning_errno(k, "Cannot answer the master: %m");
        }
        forget_questions(m);
}

void manager_links_get(Manager *m, uint64_t id, json_object *params) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        LinkQuestion *q = NULL, *each;
        unsigned n = 0;
        int r = 0;

        if (id == 0) /* nobody waits for an answer */
                return;
        LL_COUNT(m->link_questions, each, n);
        if (n >= QUESTIONS_MAX)
                r = kerror_set(&error, K_LIMIT_EXCEEDED,
                                "The links are being measured for too many already.");
        if (r >= 0) {
                q = new0(LinkQuestion, 1);
                r = q ? 0 : -ENOMEM;
        }
        if (r >= 0 && !m->measure)
                r = network_measure_start(m->network, on_measured, m, &m->measure, &error);
        if (r >= 0) {
                q->request = id;
                LL_PREPEND(m->link_questions, q);
                return;
        }

        free(q);
        if (!kerror_is_set(&error))
                (void) kerror_set_errno(&error, r, "Cannot measure the links: %m");
        r = channel_reply_error(m->channel, id, &error);
        if (r < 0)
                log_warning_errno(r, "Cannot answer the master: %m");
}
