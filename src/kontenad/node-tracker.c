/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "node-tracker.h"

#include <sodium.h>

#include "events.h"
#include "file-util.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "log-streams.h"
#include "log.h"
#include "node-message.h"
#include "node-status.h"
#include "node-tracker-internal.h"
#include "parse-util.h"
#include "streams.h"
#include "string-util.h"
#include "volume.h"

/* Reports and pongs of many nodes are written in one transaction. */
#define ROWS_DELAY_USEC    (1 * USEC_PER_SEC)
/* Others wait for so long at most until the rest has its turn. */
#define TURN_USEC          (5 * USEC_PER_MSEC)
/* Reconnecting takes up to a few seconds when the master was gone for a moment, more when it was for long. */
#define SETTLE_USEC        (30 * USEC_PER_SEC)
#define SEEN_INTERVAL_USEC (60 * USEC_PER_SEC)

/* The routes of this machine collide with the grid's subnet. The node tries again: its administrator may change them. */
#define CLOSE_COLLISION    4009

void node_tracker_on_greeting(NodeTracker *t, node_greeted_t greeted, void *userdata) {
        assert(t);

        t->greeted = greeted;
        t->greeted_userdata = userdata;
}

const char *node_state(const NodeRow *n) {
        assert(n);

        if (!n->connected)
                return n->connected_at == 0 ? "created" : "offline";
        if (!n->report)
                return "connecting";
        return n->availability == NODE_DRAIN ? "drain" : "online";
}

uint32_t node_overlay_address(const GridRow *g, uint32_t number) {
        Ipv4Prefix subnet;

        if (parse_ipv4_prefix(g->subnet, &subnet) < 0)
                return 0;
        return subnet.address | number;
}

static void link_free(NodeTracker *t, NodeLink *l) {
        HASH_DEL(t->links, l);
        node_mark_forget(t, l);
        sent_state_done(&l->sent);
        json_object_put(l->report);
        free(l->node_id);
        free(l->grid_id);
        free(l);
}

/* NULL when this session was replaced: only the current one speaks for its node (trap 1). */
static NodeLink *link_of(NodeTracker *t, NodeSession *s) {
        NodeLink *l = node_tracker_find_link(t, session_node_id(s));

        return l && l->session_id == session_id(s) ? l : NULL;
}

static void arm(sd_event_source *s, uint64_t delay) {
        int r;

        r = sd_event_source_set_time_relative(s, delay);
        if (r >= 0)
                r = sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
        if (r < 0)
                log_error_errno(r, "Nodes cannot be served: %m");
}

void node_tracker_arm_sooner(sd_event_source *s, uint64_t delay) {
        uint64_t at;
        int enabled;

        if (sd_event_source_get_enabled(s, &enabled) >= 0 && enabled != SD_EVENT_OFF &&
                        sd_event_source_get_time(s, &at) >= 0 && at <= now_monotonic() + delay)
                return;
        arm(s, delay);
}

/* Reports and last-seen times */

static int store_row(NodeTracker *t, NodeLink *l) {
        _cleanup_(node_row_freep) NodeRow *row = NULL;
        int r;

        /* Nearly always only figures have changed. */
        if (!l->report || node_report_gist(l->report) == l->gist) {
                r = store_put_node_seen(t->master->store, l->node_id, l->grid_id, l->report, l->seen);
                return r == -ENOENT ? 0 : r;
        }

        r = store_get_node(t->master->store, l->node_id, &row);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return r;

        json_object_put(row->report);
        row->report = json_object_get(l->report);
        row->last_seen_at = MAX(l->seen, row->last_seen_at);
        return store_put_node(t->master->store, row);
}

static void row_is_stored(NodeLink *l) {
        if (l->report)
                l->gist = node_report_gist(l->report);
        json_object_put(l->report);
        l->report = NULL;
        l->seen_stored = l->seen;
}

static bool row_is_due(const NodeLink *l) {
        return l->report || l->seen >= l->seen_stored + SEEN_INTERVAL_USEC;
}

/* Of one, or with NULL of as many as there is time for in one turn. 1: some are left. */
static int store_rows(NodeTracker *t, NodeLink *only) {
        uint64_t until = now_monotonic() + TURN_USEC;
        _cleanup_(store_rollbackp) Store *tx = NULL;
        NodeLink *l, *end = NULL;
        int r;

        for (l = only ?: t->links; l; l = l->hh.next) {
                if (l == end || (tx && now_monotonic() >= until))
                        break;
                if (only)
                        end = only->hh.next;
                if (!row_is_due(l))
                        continue;
                if (!tx) {
                        r = store_begin_retold(t->master->store, NULL);
                        if (r < 0)
                                return r;
                        tx = t->master->store;
                }
                r = store_row(t, l);
                if (r < 0)
                        return r;
        }
        end = l;
        if (!tx)
                return 0;

        r = store_commit(t->master->store, NULL);
        if (r < 0)
                return r;
        tx = NULL;

        for (l = only ?: t->links; l != end; l = l->hh.next)
                if (row_is_due(l))
                        row_is_stored(l);
        return end && !only;
}

static int on_rows_timer(sd_event_source *s, uint64_t usec, void *userdata) {
        NodeTracker *t = userdata;
        int r;

        r = t->unmarked ? node_mark_all(t, false) : 0;
        if (r >= 0)
                r = store_rows(t, NULL);
        if (r < 0) {
                log_warning_errno(r, "What nodes reported cannot be stored, trying again: %m");
                node_tracker_arm_sooner(t->rows_timer, TRACKER_RETRY_USEC);
        } else if (r > 0)
                node_tracker_arm_sooner(t->rows_timer, 0);
        return 0;
}

/* Sessions */

static int handler_admit(const NodeIntroduction *who, char **ret_node_id, KError *reterr, void *userdata) {
        NodeTracker *t = userdata;

        return node_admission_check(t->admission, who, now_realtime(), ret_node_id, reterr);
}

static int new_link(NodeTracker *t, const char *node_id, NodeLink **ret) {
        _cleanup_(node_row_freep) NodeRow *row = NULL;
        NodeLink *l;
        int r;

        r = store_get_node(t->master->store, node_id, &row);
        if (r < 0)
                return r;
        l = new0(NodeLink, 1);
        if (!l)
                return -ENOMEM;
        l->node_id = TAKE_PTR(row->id);
        l->grid_id = TAKE_PTR(row->grid_id);
        HASH_ADD_KEYPTR(hh, t->links, l->node_id, strlen(l->node_id), l);
        if (!l->hh.tbl) {
                free(l->node_id);
                free(l->grid_id);
                free(l);
                return -ENOMEM;
        }

        *ret = l;
        return 0;
}

static void handler_opened(NodeSession *s, void *userdata) {
        NodeTracker *t = userdata;
        NodeLink *l = node_tracker_find_link(t, session_node_id(s));
        bool replaces = l;
        int r;

        if (l) /* nothing of the old connection holds for the new one */
                link_free(t, l);
        r = new_link(t, session_node_id(s), &l);
        if (r < 0) {
                log_warning_errno(r, "Node '%s' cannot be served: %m", session_node_id(s));
                session_close(s, r == -ENOENT ? 4040 : 4050,
                                r == -ENOENT ? "The node was removed from its grid."
                                             : "The master cannot serve the node now.");
                return;
        }
        l->session = s;
        l->session_id = session_id(s);
        l->seen = l->seen_stored = now_realtime();

        if (replaces)
                log_info("A newer connection of node '%s' from %s replaces the old one.", l->node_id,
                                session_address(s));
        node_mark_soon(t, l);
}

static void handler_closed(NodeSession *s, int code, const char *reason, void *userdata) {
        NodeTracker *t = userdata;
        NodeLink *l = link_of(t, s);
        _cleanup_free_ char *node_id = NULL, *grid_id = NULL;
        NodeLink *other;

        if (!l)
                return;
        node_mark_now(t, l);
        if (row_is_due(l) && store_rows(t, l) < 0)
                log_warning("The last report of node '%s' is lost.", l->node_id);

        node_id = TAKE_PTR(l->node_id);
        grid_id = TAKE_PTR(l->grid_id);
        link_free(t, l);
        log_streams_node_gone(t->master, node_id);
        node_mark(t, node_id, false, reason);

        /* A grid without connections needs no view. */
        for (other = t->links; other; other = other->hh.next)
                if (streq(other->grid_id, grid_id))
                        return;
        node_desired_forget(t, grid_id);
}

static void handler_seen(NodeSession *s, void *userdata) {
        NodeTracker *t = userdata;
        NodeLink *l = link_of(t, s);

        if (!l)
                return;
        l->seen = now_realtime();
        if (row_is_due(l))
                node_tracker_arm_sooner(t->rows_timer, ROWS_DELAY_USEC);
}

/* Trap 18: a machine may not join whose routes collide with the grid's subnet. One that is in the grid already keeps running; a
 * warning says what has changed there. Returns 1 when the session was closed. */
static int check_routes(NodeTracker *t, NodeLink *l, uint64_t id, json_object *report) {
        _cleanup_(grid_row_freep) GridRow *grid = NULL;
        _cleanup_(node_row_freep) NodeRow *row = NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;
        bool joined;
        int r;

        r = store_get_node(t->master->store, l->node_id, &row);
        if (r < 0)
                return r;
        r = store_get_grid(t->master->store, l->grid_id, &grid);
        if (r < 0)
                return r;
        if (row->report)
                l->gist = node_report_gist(row->report);
        if (node_report_check_routes(grid, report, &error) >= 0)
                return 0;

        joined = row->report;
        if (!joined)
                node_admission_refused(t->admission,
                                &(NodeIntroduction){ .node_key = row->node_key,
                                                .name = row->name,
                                                .address = session_address(l->session) },
                                l->grid_id, CLOSE_COLLISION, kerror_message(&error), now_realtime());
        else
                (void) events_add(t->master,
                                &(EventInfo){ .severity = "warning",
                                                .type = "node:network",
                                                .grid_id = l->grid_id,
                                                .node_id = l->node_id },
                                "Node '%s': %s", row->name, kerror_message(&error));
        if (joined)
                return 0;

        (void) session_reply_error(l->session, id, &error);
        session_close(l->session, CLOSE_COLLISION, kerror_message(&error));
        return 1;
}

static int store_first_report(NodeTracker *t, NodeLink *l, json_object *report) {
        _cleanup_(store_rollbackp) Store *tx = NULL;
        int r;

        json_object_put(l->report);
        l->report = json_object_get(report);
        /* What it was when the node was last here: nobody waits for that. */
        if (node_report_gist(report) == l->gist) {
                node_tracker_arm_sooner(t->rows_timer, ROWS_DELAY_USEC);
                return 0;
        }

        r = store_begin_retold(t->master->store, NULL);
        if (r < 0)
                return r;
        tx = t->master->store;
        r = store_row(t, l);
        if (r < 0)
                return r;
        r = store_commit(t->master->store, NULL);
        if (r < 0)
                return r;
        tx = NULL;

        row_is_stored(l);
        return 0;
}

static int reply_error(NodeLink *l, uint64_t id, int error, KError *e) {
        (void) kerror_set_errno(e, error, "The master cannot answer now: %m");
        return session_reply_error(l->session, id, e);
}

static int method_hello(NodeTracker *t, NodeLink *l, uint64_t id, json_object *params) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        json_object *report = NULL, *instances = NULL, *volumes = NULL, *result;
        int r;

        if (json_get_object(params, "report", &report, &error) < 0 ||
                        json_get_array(params, "instances", &instances, &error) < 0 ||
                        json_find_object(params, "volumes", &volumes, &error) < 0 ||
                        node_report_validate(report, &error) < 0) {
                log_warning("The first message of node '%s' is malformed: %s", l->node_id,
                                kerror_message(&error));
                return -EBADMSG;
        }

        node_mark_now(t, l);
        r = check_routes(t, l, id, report);
        if (r != 0)
                return r < 0 ? reply_error(l, id, r, &error) : 0;

        /* Without a store that can be written the node is served all the same: it gets what is wanted of it. */
        r = store_first_report(t, l, report);
        if (r < 0) {
                log_warning_errno(
                                r, "The report of node '%s' cannot be stored, trying again: %m", l->node_id);
                node_tracker_arm_sooner(t->rows_timer, TRACKER_RETRY_USEC);
        }
        r = node_status_take(t->master, l->node_id, instances, /* complete= */ true, now_realtime(), &error);
        if (r < 0) {
                /* What it has said is lost, so it has to come again. */
                log_warning("What runs on node '%s' cannot be stored: %s", l->node_id,
                                kerror_message(&error));
                (void) session_reply_error(l->session, id, &error);
                session_close(l->session, 4050, "The master cannot store what the node said.");
                return 0;
        }

        /* Not there: a node of old, which has no quotas and says nothing of its volumes. */
        if (volumes && volume_status_take(t->master, l->node_id, volumes, /* complete= */ true, &error) <
                                        0) {
                log_warning("The volumes of node '%s' cannot be stored: %s", l->node_id,
                                kerror_message(&error));
                kerror_done(&error);
        }

        r = node_desired_whole(t, l, &result);
        if (r < 0)
                return reply_error(l, id, r, &error);
        l->ready = true;
        r = session_reply(l->session, id, result);
        if (r >= 0 && t->greeted)
                t->greeted(l->session, report, t->greeted_userdata);
        return r;
}

static int method_get(NodeTracker *t, NodeLink *l, uint64_t id) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        json_object *result;
        int r;

        if (!l->ready)
                return -EBADMSG; /* hello comes first */
        log_info("Node '%s' lost count of its differences, it gets everything.", l->node_id);
        r = node_desired_whole(t, l, &result);
        if (r < 0)
                return reply_error(l, id, r, &error);
        return session_reply(l->session, id, result);
}

static int method_report(NodeTracker *t, NodeLink *l, json_object *params) {
        _cleanup_kerror_ KError error = KERROR_NULL;

        if (node_report_validate(params, &error) < 0) {
                log_warning("A report of node '%s' is refused: %s", l->node_id, kerror_message(&error));
                return -EBADMSG;
        }
        json_object_put(l->report);
        l->report = json_object_get(params);
        l->seen = now_realtime();
        node_tracker_arm_sooner(t->rows_timer, ROWS_DELAY_USEC);
        return 0;
}

static int method_status(NodeTracker *t, NodeLink *l, json_object *params) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        json_object *instances = NULL;
        int r;

        r = json_get_array(params, "instances", &instances, &error);
        if (r >= 0)
                r = node_status_take(t->master, l->node_id, instances, /* complete= */ false, now_realtime(),
                                &error);
        if (r >= 0)
                return 0;

        log_warning("Statuses of node '%s' are not taken: %s", l->node_id, kerror_message(&error));
        if (error.code == K_INVALID_ARGUMENT || error.code == K_LIMIT_EXCEEDED)
                return -EBADMSG;
        /* Lost unless the node says it again: it does on a new connection. */
        session_close(l->session, 4050, "The master cannot store what the node said.");
        return 0;
}

/* What is lost now the node says again with its next greeting. */
static int method_volumes(NodeTracker *t, NodeLink *l, json_object *params) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        json_object *volumes = NULL;
        int r;

        r = json_get_object(params, "volumes", &volumes, &error);
        if (r >= 0)
                r = volume_status_take(t->master, l->node_id, volumes, /* complete= */ false, &error);
        if (r < 0)
                log_warning("The volumes of node '%s' cannot be stored: %s", l->node_id,
                                kerror_message(&error));
        return 0;
}

static int method_event(NodeTracker *t, NodeLink *l, json_object *params) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        uint64_t now = now_realtime(), minute = now / (60 * USEC_PER_SEC);

        if (minute != l->event_minute) {
                if (l->events_dropped > 0)
                        (void) events_add(t->master,
                                        &(EventInfo){ .severity = "warning",
                                                        .type = "node:events",
                                                        .grid_id = l->grid_id,
                                                        .node_id = l->node_id },
                                        "%u more events of the node came within one minute and were "
                                        "dropped.",
                                        l->events_dropped);
                l->event_minute = minute;
                l->events_in_minute = l->events_dropped = 0;
        }
        if (l->events_in_minute >= NODE_EVENTS_PER_MINUTE_MAX) {
                l->events_dropped++;
                return 0;
        }
        l->events_in_minute++;

        if (node_event_take(t->master, l->grid_id, l->node_id, params, now, &error) < 0)
                log_warning("An event of node '%s' is ignored: %s", l->node_id, kerror_message(&error));
        return 0;
}

static int handler_method(
                NodeSession *s, uint64_t id, const char *method, json_object *params, void *userdata) {
        NodeTracker *t = userdata;
        NodeLink *l = link_of(t, s);
        _cleanup_kerror_ KError error = KERROR_NULL;

        if (!l)
                return 0; /* replaced, what it says does not count */

        if (id > 0) {
                if (streq(method, "node.hello"))
                        return method_hello(t, l, id, params);
                if (streq(method, "desired.get"))
                        return method_get(t, l, id);
                (void) kerror_set(&error, K_NO_SUCH_OPERATION, "The master has no method '%s'.", method);
                return session_reply_error(s, id, &error);
        }

        if (!l->ready)
                return 0; /* before the answer to hello nothing else counts */
        if (streq(method, "node.report"))
                return method_report(t, l, params);
        if (streq(method, "instances.status"))
                return method_status(t, l, params);
        if (streq(method, "volumes.status"))
                return method_volumes(t, l, params);
        if (streq(method, "event"))
                return method_event(t, l, params);
        if (streq(method, "logs.data"))
                return log_streams_data(t->master, s, params);
        if (startswith(method, "stream.")) {
                int r = streams_method(t->master, s, method, params);

                if (r != 0)
                        return MIN(r, 0);
        }
        log_debug("Node '%s' sent '%s', which this version does not know.", l->node_id, method);
        return 0;
}

static int handler_binary(NodeSession *s, const void *data, size_t size, void *userdata) {
        NodeTracker *t = userdata;

        return streams_binary(t->master, s, data, size);
}

static void handler_gone(NodeSession *s, void *userdata) {
        NodeTracker *t = userdata;

        streams_session_gone(t->master, s);
}

const NodeSessionHandler *node_tracker_handler(void) {
        static const NodeSessionHandler handler = {
                .admit = handler_admit,
                .opened = handler_opened,
                .method = handler_method,
                .binary = handler_binary,
                .seen = handler_seen,
                .gone = handler_gone,
                .closed = handler_closed,
        };

        return &handler;
}

NodeTracker *node_tracker_free(NodeTracker *t) {
        NodeLink *l, *next_link;

        if (!t)
                return NULL;

        HASH_ITER(hh, t->links, l, next_link)
                link_free(t, l);
        node_mark_done(t);
        node_desired_forget(t, NULL);
        sd_event_source_disable_unref(t->flush_timer);
        sd_event_source_disable_unref(t->rows_timer);
        node_admission_free(t->admission);
        return mfree(t);
}

static int add_timer(
                NodeTracker *t, sd_event_time_handler_t handler, const char *name, sd_event_source **ret) {
        int r;

        r = sd_event_add_time_relative(
                        t->master->event, ret, CLOCK_MONOTONIC, 0, ROWS_DELAY_USEC, handler, t);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(*ret, name);
        return sd_event_source_set_enabled(*ret, SD_EVENT_OFF);
}

int node_tracker_new(Master *m, NodeTracker **ret) {
        _cleanup_(node_tracker_freep) NodeTracker *t = NULL;
        int r;

        assert(m);
        assert(ret);

        if (sodium_init() < 0)
                return -EIO;

        t = new0(NodeTracker, 1);
        if (!t)
                return -ENOMEM;
        t->master = m;
        r = node_admission_new(m, &t->admission);
        if (r < 0)
                return r;
        r = add_timer(t, node_desired_on_flush, "node-desired-state", &t->flush_timer);
        if (r < 0)
                return r;
        r = add_timer(t, on_rows_timer, "node-rows", &t->rows_timer);
        if (r < 0)
                return r;
        r = node_mark_start(t);
        if (r < 0)
                return r;
        r = store_watch(m->store, node_desired_on_change, t);
        if (r < 0)
                return r;

        t->settled_at = now_realtime() + SETTLE_USEC;
        r = node_mark_all(t, true);
        if (r < 0) {
                log_warning_errno(r, "Nodes cannot be marked as disconnected, trying again: %m");
                t->unmarked = true;
                node_tracker_arm_sooner(t->rows_timer, TRACKER_RETRY_USEC);
        }

        *ret = TAKE_PTR(t);
        return 0;
}
