/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "reporter.h"

#include <utlist.h>

#include "file-util.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "log.h"
#include "string-util.h"

typedef struct Change {
        char *id;
        json_object *status; /* NULL: ask when it is sent */
        struct Change *next;
} Change;

typedef struct Queued {
        json_object *event;
        struct Queued *next;
} Queued;

struct Reporter {
        sd_event_source *timer;
        reporter_send_t send;
        reporter_status_t status;
        void *userdata;
        bool open, armed;

        Change *changes, *last_change;
        Queued *events, *last_event;
        size_t n_events;
        uint64_t n_dropped;
};

static void change_free(Change *c) {
        json_object_put(c->status);
        free(c->id);
        free(c);
}

static void drop_changes(Reporter *r) {
        while (r->changes) {
                Change *c = r->changes;

                LL_DELETE(r->changes, c);
                change_free(c);
        }
        r->last_change = NULL;
}

static void drop_oldest_event(Reporter *r) {
        Queued *q = r->events;

        r->events = q->next;
        if (!r->events)
                r->last_event = NULL;
        json_object_put(q->event);
        free(q);
        r->n_events--;
}

Reporter *reporter_free(Reporter *r) {
        if (!r)
                return NULL;

        sd_event_source_disable_unref(r->timer);
        drop_changes(r);
        while (r->events)
                drop_oldest_event(r);
        free(r);
        return NULL;
}

static void arm(Reporter *r) {
        if (!r->open || r->armed)
                return;

        if (sd_event_source_set_time_relative(r->timer, REPORTER_DELAY_USEC) < 0 ||
                        sd_event_source_set_enabled(r->timer, SD_EVENT_ONESHOT) < 0)
                return;
        r->armed = true;
}

static int send_changes(Reporter *r) {
        _cleanup_json_ json_object *params = json_object_new_object(), *l = json_object_new_array();
        int q;

        if (!params || !l)
                return -ENOMEM;

        for (Change *c = r->changes; c; c = c->next) {
                json_object *status = NULL;

                if (c->status)
                        status = json_object_get(c->status);
                else {
                        q = r->status(c->id, &status, r->userdata);
                        if (q == -ENOENT)
                                continue;
                        if (q < 0)
                                return q;
                }
                q = json_append(l, status);
                if (q < 0)
                        return q;
        }
        if (json_object_array_length(l) > 0) {
                q = json_add(params, "instances", TAKE_PTR(l));
                if (q >= 0)
                        q = r->send("instances.status", TAKE_PTR(params), r->userdata);
                if (q < 0)
                        return q;
        }

        drop_changes(r);
        return 0;
}

static int send_events(Reporter *r) {
        while (r->events) {
                int q = r->send("event", json_object_get(r->events->event), r->userdata);

                if (q < 0)
                        return q;
                drop_oldest_event(r);
        }

        if (r->n_dropped > 0)
                log_warning("%" PRIu64 " events were dropped while there was no connection to the master.",
                                r->n_dropped);
        r->n_dropped = 0;
        return 0;
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata) {
        Reporter *r = userdata;
        int q;

        r->armed = false;
        if (!r->open)
                return 0;

        q = send_changes(r);
        if (q >= 0)
                q = send_events(r);
        if (q < 0 && q != -ENOTCONN) {
                /* The queue is full for now. */
                log_debug_errno(q, "Cannot report to the master yet: %m");
                arm(r);
        }
        return 0;
}

int reporter_new(sd_event *event, reporter_send_t send, reporter_status_t status, void *userdata,
                Reporter **ret) {
        _cleanup_(reporter_freep) Reporter *r = NULL;
        int q;

        r = new0(Reporter, 1);
        if (!r)
                return -ENOMEM;
        r->send = send;
        r->status = status;
        r->userdata = userdata;

        q = sd_event_add_time_relative(
                        event, &r->timer, CLOCK_MONOTONIC, REPORTER_DELAY_USEC, USEC_PER_MSEC, on_timer, r);
        if (q >= 0)
                q = sd_event_source_set_enabled(r->timer, SD_EVENT_OFF);
        if (q < 0)
                return q;

        *ret = TAKE_PTR(r);
        return 0;
}

void reporter_open(Reporter *r) {
        r->open = true;
        arm(r);
}

void reporter_close(Reporter *r) {
        r->open = false;
        drop_changes(r);
}

static void note(Reporter *r, const char *id, json_object *status) {
        Change *c;

        LL_FOREACH(r->changes, c)
                if (streq(c->id, id))
                        break;
        if (!c) {
                c = new0(Change, 1);
                if (c)
                        c->id = strdup(id);
                if (!c || !c->id) {
                        free(c);
                        json_object_put(status);
                        (void) log_oom();
                        return;
                }
                if (r->last_change)
                        r->last_change->next = c;
                else
                        r->changes = c;
                r->last_change = c;
        }

        json_object_put(c->status);
        c->status = status;
        arm(r);
}

void reporter_instance_changed(Reporter *r, const char *id) {
        if (r->open)
                note(r, id, NULL);
}

void reporter_instance_removed(Reporter *r, const char *id, json_object *status) {
        if (r->open)
                note(r, id, status);
        else
                json_object_put(status);
}

void reporter_event(Reporter *r, json_object *event) {
        Queued *q;

        q = new0(Queued, 1);
        if (!q || json_add_u64(event, "time", now_realtime()) < 0) {
                free(q);
                json_object_put(event);
                (void) log_oom();
                return;
        }

        q->event = event;
        if (r->last_event)
                r->last_event->next = q;
        else
                r->events = q;
        r->last_event = q;
        r->n_events++;
        if (r->n_events > NODE_EVENTS_QUEUED_MAX) {
                drop_oldest_event(r);
                r->n_dropped++;
        }

        arm(r);
}

size_t reporter_events_queued(const Reporter *r) {
        return r->n_events;
}

uint64_t reporter_events_dropped(const Reporter *r) {
        return r->n_dropped;
}
