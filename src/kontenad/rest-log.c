/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>

#include "event-util.h"
#include "file-util.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "log-streams.h"
#include "names.h"
#include "parse-util.h"
#include "rest-internal.h"
#include "rest-render.h"
#include "rest-rows.h"
#include "string-util.h"

/* Output of containers. Whoever may read a service, or a list of them, may read what they write: an operation says so, and then a view
 * is opened, of one service or of all of the grid. */

#define LIMIT_DEFAULT 100U
#define GATHER_USEC   (5U * USEC_PER_MSEC) /* entries that come together are put in order */

typedef struct Item {
        uint64_t time;
        uint32_t order;
        json_object *o;
} Item;

typedef struct LogView {
        unsigned n_ref; /* the request and the view's sink have one */
        RestCall *call; /* NULL: over */
        Master *master;
        GridRow *grid;
        char *id; /* of the view; NULL: not open */
        char **containers, **nodes, **services;
        const char *stack;  /* of the path; NULL: any */
        const char *search; /* of the call */
        uint32_t limit;
        bool has_from, follow, shown; /* shown: what there was has been sent */
        uint64_t from_time, since;
        uint32_t from_order;
        Item *items;
        size_t n_items, n_allocated, bytes;
        sd_event_source *timer;
} LogView;

static void items_clear(LogView *v) {
        FOREACH_ARRAY(i, v->items, v->n_items)
                json_object_put(i->o);
        v->items = mfree(v->items);
        v->n_items = v->n_allocated = v->bytes = 0;
}

static LogView *view_unref(LogView *v) {
        if (!v || --v->n_ref > 0)
                return NULL;

        items_clear(v);
        sd_event_source_disable_unref(v->timer);
        grid_row_free(v->grid);
        strv_free(v->containers);
        strv_free(v->nodes);
        strv_free(v->services);
        free(v->id);
        free(v);
        return NULL;
}

/* The request is over. */
static void view_leave(void *userdata) {
        _cleanup_free_ char *id = NULL;
        LogView *v = userdata;

        v->call = NULL;
        v->timer = sd_event_source_disable_unref(v->timer);
        id = TAKE_PTR(v->id);
        if (id && v->master->log_streams)
                (void) log_streams_close(v->master->log_streams, id);
        view_unref(v);
}

static int compare_items(const void *a, const void *b) {
        const Item *x = a, *y = b;

        if (x->time != y->time)
                return x->time < y->time ? -1 : 1;
        return x->order < y->order ? -1 : x->order > y->order;
}

/* The same line has the same id, however it is asked for: FNV-1a of what tells it from others of its microsecond. */
static uint32_t entry_order(const LogEntry *e) {
        const char *const parts[] = { e->node, e->service, e->instance, e->message };
        uint32_t h = 2166136261U;

        FOREACH_ARRAY(part, parts, ELEMENTSOF(parts)) {
                for (const char *p = *part; *p; p++)
                        h = (h ^ (uint8_t) *p) * 16777619U;
                h = (h ^ 0xffU) * 16777619U;
        }
        return h;
}

static bool is_wanted(const LogView *v, const LogEntry *e, uint32_t order) {
        if (STR_IN_SET(e->stream, "warning", "denied")) /* of the view itself: no container's */
                return false;
        if (v->has_from && (e->time < v->from_time || (e->time == v->from_time && order <= v->from_order)))
                return false;
        if (!v->has_from && e->time <= v->since)
                return false;
        if (v->nodes && !strv_contains(v->nodes, e->node))
                return false;
        if (v->services && !strv_contains(v->services, e->service))
                return false;
        if (v->stack) {
                const char *rest = startswith(e->service, v->stack);

                if (!rest || *rest != '/')
                        return false;
        }
        if (v->containers) {
                _cleanup_free_ char *name = rest_log_container(e);

                if (!name || !strv_contains(v->containers, name))
                        return false;
        }
        return !v->search || strcasestr(e->message, v->search);
}

/* Keeps the newest, or with "from" the oldest, of as many as are wanted. */
static void items_cut(LogView *v, size_t n) {
        size_t surplus;

        if (v->n_items <= n)
                return;
        qsort(v->items, v->n_items, sizeof(Item), compare_items);
        surplus = v->n_items - n;
        if (v->has_from)
                for (size_t i = n; i < v->n_items; i++)
                        json_object_put(v->items[i].o);
        else {
                for (size_t i = 0; i < surplus; i++)
                        json_object_put(v->items[i].o);
                memmove(v->items, v->items + surplus, n * sizeof(Item));
        }
        v->n_items = n;
}

static int keep(LogView *v, const LogEntry *e) {
        _cleanup_free_ char *id = NULL;
        uint32_t order = entry_order(e);
        json_object *o;
        int r;

        if (!is_wanted(v, e, order))
                return 0;
        if (v->n_items == v->n_allocated) {
                size_t n = v->n_allocated ? v->n_allocated * 2 : 64;
                Item *more = reallocarray(v->items, n, sizeof(Item));

                if (!more)
                        return -ENOMEM;
                v->items = more;
                v->n_allocated = n;
        }
        id = rest_log_id(e->time, order);
        if (!id)
                return -ENOMEM;
        r = rest_render_log(v->grid, e, id, &o);
        if (r < 0)
                return r;
        v->items[v->n_items++] = (Item){ e->time, order, o };
        /* Each batch of a view is bounded, but with follow more may come before they are sent. */
        if (!v->shown)
                items_cut(v, MAX(v->limit, 1U) * 2U);
        return 0;
}

static void reply_items(LogView *v) {
        _cleanup_json_ json_object *l = json_object_new_array();
        RestCall *c = v->call;
        int r = l ? 0 : -ENOMEM;

        rest_enter(c);
        items_cut(v, v->limit);
        if (v->n_items > 1)
                qsort(v->items, v->n_items, sizeof(Item), compare_items);
        FOREACH_ARRAY(i, v->items, v->n_items) {
                json_object *o = TAKE_PTR(i->o);

                if (r >= 0)
                        r = json_append(l, o);
                else
                        json_object_put(o);
        }
        rest_finish(c, r < 0 ? r : rest_reply_list(c, "logs", TAKE_PTR(l)));
        rest_leave(c);
}

static int on_gathered(sd_event_source *source, uint64_t usec, void *userdata) {
        LogView *v = userdata;

        if (!v->call)
                return 0;
        if (!v->shown)
                items_cut(v, v->limit);
        v->shown = true;
        if (v->n_items > 1)
                qsort(v->items, v->n_items, sizeof(Item), compare_items);
        FOREACH_ARRAY(i, v->items, v->n_items)
                if (rest_stream_item(v->call, TAKE_PTR(i->o)) < 0)
                        break; /* closed is called */
        items_clear(v);
        return 0;
}

static int sink_entries(const char *stream, const LogEntry *entries, size_t n, bool end, void *userdata) {
        LogView *v = userdata;
        int r;

        if (!v->call)
                return -EPIPE;
        FOREACH_ARRAY(e, entries, n) {
                r = keep(v, e);
                if (r < 0)
                        return r;
        }
        if (v->follow) {
                r = sd_event_source_set_time_relative(v->timer, GATHER_USEC);
                return r < 0 ? r : sd_event_source_set_enabled(v->timer, SD_EVENT_ONESHOT);
        }
        if (end) {
                v->id = mfree(v->id); /* it closes itself */
                reply_items(v);
        }
        return 0;
}

/* Also when the view ends by itself: the request must not wait for ever. */
static void sink_free(void *userdata) {
        LogView *v = userdata;

        v->id = mfree(v->id);
        if (v->call && v->follow)
                rest_stream_end(v->call);
        else if (v->call && !rest_is_answered(v->call)) {
                RestCall *c = v->call;

                rest_enter(c);
                (void) rest_reply_error(c, 503, "The log cannot be read now.");
                rest_leave(c);
        }
        view_unref(v);
}

static const LogSink log_sink = {
        .entries = sink_entries,
        .free = sink_free,
};

/* "a,b" as a list; NULL: not given. */
static int split_query(RestCall *c, const char *key, char ***ret) {
        const char *s = rest_query(c, key);
        int r;

        if (!s)
                return 0;
        r = strv_split(s, ",", ret);
        if (r < 0)
                return r;
        if (!*ret) /* given, and names nothing */
                return strv_extend(ret, "");
        return 0;
}

/* Services as the view names them: "web" is "null/web". */
static int split_services(RestCall *c, char ***ret) {
        _cleanup_strv_free_ char **given = NULL;
        int r;

        r = split_query(c, "services", &given);
        if (r < 0)
                return r;
        STRV_FOREACH(s, given) {
                r = strchr(*s, '/') ? strv_extend(ret, *s) : strv_extendf(ret, STACK_NULL "/%s", *s);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Ends the request with an answer: 1. */
static int view_new(RestCall *c, LogView **ret) {
        const char *from = rest_query(c, "from"), *since = rest_query(c, "since");
        LogView *v;
        int r;

        v = new0(LogView, 1);
        if (!v)
                return -ENOMEM;
        *v = (LogView){ .n_ref = 1, .call = c, .master = rest_master(c) };
        rest_set_userdata(c, v, view_leave);
        v->limit = rest_limit(c, LIMIT_DEFAULT, LOG_LINES_MAX);
        v->follow = rest_query(c, "follow");
        if (from) {
                if (rest_parse_log_id(from, &v->from_time, &v->from_order) < 0)
                        return rest_reply_field_error(c, "from", "From is invalid") < 0 ? -ENOMEM : 1;
                v->has_from = true;
        } else if (since && rest_parse_time(since, &v->since) < 0)
                return rest_reply_field_error(c, "since", "Since is invalid") < 0 ? -ENOMEM : 1;
        r = rest_find_grid(c, &v->grid);
        if (r < 0)
                return r;

        *ret = v;
        return 0;
}

/* s NULL: all of the grid. */
static int view_open(LogView *v, const ServiceRow *s, uint32_t instance) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        LogOptions options = {
                .lines = v->limit,
                .instance = instance,
                .follow = v->follow,
                .caller = rest_caller(v->call),
        };
        RestCall *c = v->call;
        const char *id;
        int r;

        /* What is filtered here has to come first; and of what is newer than something the view would give the oldest. */
        if (v->containers || v->nodes || v->services || v->stack || v->search || v->has_from || v->since > 0)
                options.lines = LOG_LINES_MAX;
        if (v->has_from || v->since > 0)
                options.since = MAX(v->has_from ? v->from_time : v->since, 1U);
        if (v->follow) {
                r = sd_event_add_time_relative(v->master->event, &v->timer, CLOCK_MONOTONIC, 0,
                                USEC_PER_MSEC, on_gathered, v);
                if (r >= 0)
                        r = sd_event_source_set_enabled(v->timer, SD_EVENT_OFF);
                if (r < 0)
                        return r;
        }

        v->n_ref++;
        v->call = NULL; /* on failure the sink is freed before it is known why */
        r = log_streams_open(v->master->log_streams, v->grid, s, &options, &log_sink, v, &id, &error);
        v->call = c;
        if (r < 0) {
                if (!kerror_is_set(&error))
                        return r;
                return rest_reply_kerror(c, &error);
        }
        v->id = strdup(id);
        if (!v->id) {
                (void) log_streams_close(v->master->log_streams, id);
                return -ENOMEM;
        }
        return v->follow ? rest_stream_begin(c, NULL) : 0;
}

/* Of the grid, of a stack */

static int open_grid(RestCall *c) {
        LogView *v;
        int r;

        r = view_new(c, &v);
        if (r != 0)
                return MIN(r, 0);
        r = split_query(c, "containers", &v->containers);
        if (r >= 0)
                r = split_query(c, "nodes", &v->nodes);
        if (r >= 0)
                r = split_services(c, &v->services);
        return r < 0 ? r : view_open(v, NULL, 0);
}

static int grid_logs(RestCall *c, KError *reterr) {
        json_object *params;
        int r;

        r = rest_grid_params(c, &params);
        return r < 0 ? r : rest_call_then(c, "service.list", params, open_grid);
}

static int open_stack(RestCall *c) {
        LogView *v;
        int r;

        r = rest_has_stack(c);
        if (r < 0)
                return r;
        if (r == 0)
                return rest_reply_nothing(c, 404);
        r = view_new(c, &v);
        if (r != 0)
                return MIN(r, 0);
        v->stack = strempty(rest_segment(c, "stack"));
        v->search = empty_to_null(rest_query(c, "search"));
        r = split_query(c, "container", &v->containers);
        return r < 0 ? r : view_open(v, NULL, 0);
}

static int stack_logs(RestCall *c, KError *reterr) {
        json_object *params;
        int r;

        r = rest_grid_params(c, &params);
        return r < 0 ? r : rest_call_then(c, "service.list", params, open_stack);
}

/* Of a service */

static int open_service(RestCall *c) {
        _cleanup_(service_row_freep) ServiceRow *s = NULL;
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        const char *number = rest_query(c, "instance");
        unsigned instance = 0;
        LogView *v;
        int r;

        r = rest_find_service(c, &g, &s);
        if (r < 0)
                return r;
        r = view_new(c, &v);
        if (r != 0)
                return MIN(r, 0);
        if (number && (safe_atou(number, &instance) < 0 || instance > INSTANCES_PER_SERVICE_MAX))
                return rest_reply_field_error(c, "instance", "Instance isn't an integer");
        r = split_query(c, "container", &v->containers);
        v->search = empty_to_null(rest_query(c, "search"));
        return r < 0 ? r : view_open(v, s, instance);
}

static int service_logs(RestCall *c, KError *reterr) {
        json_object *params;
        int r;

        r = rest_service_params(c, &params);
        return r < 0 ? r : rest_call_then(c, "instance.list", params, open_service);
}

/* Of a container: what it wrote on that node */

static int open_container(RestCall *c) {
        _cleanup_(rest_container_done) RestContainer found = {};
        LogView *v;
        int r;

        r = rest_find_container(c, &found);
        if (r < 0)
                return r;
        r = view_new(c, &v);
        if (r != 0)
                return MIN(r, 0);
        r = strv_extend(&v->nodes, found.node->name);
        return r < 0 ? r : view_open(v, found.service, found.instance->number);
}

static int container_logs(RestCall *c, KError *reterr) {
        json_object *params;
        int r;

        r = rest_grid_params(c, &params);
        return r < 0 ? r : rest_call_then(c, "service.list", params, open_container);
}

const RestRoute log_routes[] = {
        { "GET", "/v1/grids/:grid/container_logs", .flags = REST_STREAM, .operation = "service.list",
                        .summary = "Output of a grid's containers", .handler = grid_logs },
        { "GET", "/v1/stacks/:grid/:stack/container_logs", .flags = REST_STREAM, .operation = "service.list",
                        .summary = "Output of a stack's containers", .handler = stack_logs },
        { "GET", "/v1/services/:grid/:stack/:service/container_logs", .flags = REST_STREAM,
                        .operation = "instance.list", .summary = "Output of a service's containers",
                        .handler = service_logs },
        { "GET", "/v1/containers/:grid/:node/:container/logs", .flags = REST_STREAM,
                        .operation = "service.list", .summary = "Output of a container",
                        .handler = container_logs },
};
const size_t n_log_routes = ELEMENTSOF(log_routes);
