/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>

#include "file-util.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "names.h"
#include "parse-util.h"
#include "rest-internal.h"
#include "rest-render.h"
#include "rest-rows.h"
#include "string-util.h"

#define LIMIT_DEFAULT  100U
#define SEARCHED       1000U /* events that are looked through when only some are wanted */
#define ROUND_MAX      300U  /* in one round of a stream */
#define POLL_USEC      (USEC_PER_SEC / 2)
#define SKIPPED_MAX    5U
#define POLL_BUSY_USEC (USEC_PER_SEC / 10)

typedef struct EventView {
        char **nodes, **services, **stacks; /* NULL: all; services as "stack/name" */
        uint32_t limit;
        uint64_t since, after; /* microseconds; an id. After the first round one of them says where to go on. */
        bool follow;
        sd_event_source *timer;
        uint64_t n_events; /* of the store, when it was last asked */
        unsigned n_skipped;
} EventView;

static void view_free(void *userdata) {
        EventView *v = userdata;

        sd_event_source_disable_unref(v->timer);
        strv_free(v->nodes);
        strv_free(v->services);
        strv_free(v->stacks);
        free(v);
}

static bool is_wanted(const EventView *v, json_object *row) {
        _cleanup_free_ char *service = strjoin(rest_text(row, "stack"), "/", rest_text(row, "service"));

        if (v->nodes && !strv_contains(v->nodes, rest_text(row, "node")))
                return false;
        if (v->stacks && !strv_contains(v->stacks, rest_text(row, "stack")))
                return false;
        return !v->services || (service && strv_contains(v->services, service));
}

static int add_relationship(json_object *l, const char *type, char *id) {
        _cleanup_json_ json_object *o = json_object_new_object();
        _cleanup_free_ char *owned = id;

        if (!o || !owned || json_add_string(o, "id", owned) < 0 || json_add_string(o, "type", type) < 0)
                return -ENOMEM;
        return json_append(l, TAKE_PTR(o));
}

static int add_relationships(json_object *item, json_object *row) {
        const char *grid = rest_text(row, "grid"), *stack = rest_text(row, "stack"),
                   *service = rest_text(row, "service"), *node = rest_text(row, "node");
        _cleanup_json_ json_object *l = json_object_new_array();
        int r = l ? 0 : -ENOMEM;

        if (r >= 0 && !isempty(grid))
                r = add_relationship(l, "grid", strdup(grid));
        if (r >= 0 && !isempty(stack))
                r = add_relationship(l, "stack", strjoin(grid, "/", stack));
        if (r >= 0 && !isempty(service))
                r = add_relationship(l, "service", strjoin(grid, "/", stack, "/", service));
        if (r >= 0 && !isempty(node))
                r = add_relationship(l, "node", strjoin(grid, "/", node));
        return r < 0 ? r : json_add(item, "relationships", TAKE_PTR(l));
}

static int add_meta(json_object *item, json_object *row) {
        _cleanup_json_ json_object *meta = NULL;
        int64_t instance = 0;

        (void) json_find_i64(row, "instance", &instance, NULL);
        if (instance <= 0)
                return json_add_string(item, "meta", NULL);
        meta = json_object_new_object();
        if (!meta || json_add_i64(meta, "instance_number", instance) < 0)
                return -ENOMEM;
        return json_add(item, "meta", TAKE_PTR(meta));
}

static int render_item(json_object *row, json_object **ret) {
        static const char *const severities[] = { "debug", "info", "warning", "error" };
        _cleanup_json_ json_object *o = json_object_new_object();
        uint64_t time = 0, severity = 1;
        int r;

        if (!o)
                return -ENOMEM;
        (void) json_find_u64(row, "time", &time, NULL);
        for (size_t i = 0; i < ELEMENTSOF(severities); i++)
                if (streq(severities[i], rest_text(row, "severity")))
                        severity = i;
        r = rest_add_time(o, "created_at", time);
        if (r >= 0)
                r = json_add_u64(o, "severity", severity);
        if (r >= 0)
                r = json_add_string(o, "type", rest_text(row, "type"));
        if (r >= 0)
                r = json_add_string(o, "message", rest_text(row, "message"));
        if (r >= 0)
                r = add_meta(o, row);
        if (r >= 0)
                r = add_relationships(o, row);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

/* What of a result is wanted, at most the newest limit; notes where to go on. */
static int take_items(EventView *v, json_object *result, uint32_t limit, json_object **ret) {
        _cleanup_json_ json_object *l = json_object_new_array(), *wanted = json_object_new_array();
        json_object *rows = NULL, *item;
        size_t n, first;
        int r;

        if (!l || !wanted)
                return -ENOMEM;
        (void) json_find_array(result, "events", &rows, NULL);
        FOREACH_JSON_ARRAY(row, rows) {
                uint64_t id = 0;

                (void) json_find_u64(row, "id", &id, NULL);
                v->after = MAX(v->after, id);
                if (is_wanted(v, row) && json_append(wanted, json_object_get(row)) < 0)
                        return -ENOMEM;
        }
        n = json_object_array_length(wanted);
        first = n > limit ? n - limit : 0;
        for (size_t i = first; i < n; i++) {
                r = render_item(json_object_array_get_idx(wanted, i), &item);
                if (r >= 0)
                        r = json_append(l, item);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(l);
        return 0;
}

static int ask(RestCall *c, uint32_t limit, rest_result_t on_result) {
        _cleanup_json_ json_object *params = rest_params("grid", rest_segment(c, "grid"), NULL);
        EventView *v = rest_userdata(c);
        json_object *filter = json_object_new_object();
        int r;

        v->n_events = c->rest->n_events;
        v->n_skipped = 0;
        r = params ? json_add(params, "filter", filter) : -ENOMEM;
        if (r >= 0)
                r = json_add_u64(filter, "limit", limit);
        if (r >= 0 && v->after > 0)
                r = json_add_u64(filter, "after", v->after);
        if (r >= 0 && v->after == 0 && v->since > 0)
                r = json_add_u64(filter, "since", v->since);
        return r < 0 ? r : rest_call(c, "event.list", TAKE_PTR(params), on_result);
}

static int send_items(RestCall *c, json_object *items) {
        FOREACH_JSON_ARRAY(item, items) {
                int r = rest_stream_item(c, json_object_get(item));

                if (r < 0)
                        return r;
        }
        return 0;
}

static void on_more(RestCall *c, json_object *result, const KError *error) {
        _cleanup_json_ json_object *items = NULL;
        EventView *v = rest_userdata(c);
        size_t n;

        /* Who may no longer read gets no more. */
        if (kerror_is_set(error) || take_items(v, result, UINT32_MAX, &items) < 0) {
                rest_stream_end(c);
                return;
        }
        if (send_items(c, items) < 0)
                return;
        n = json_object_array_length(items);
        (void) sd_event_source_set_time_relative(v->timer, n > 0 ? POLL_BUSY_USEC : POLL_USEC);
        (void) sd_event_source_set_enabled(v->timer, SD_EVENT_ONESHOT);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        RestCall *c = userdata;
        EventView *v = rest_userdata(c);

        /* Nothing is new. Whether the caller may still read is asked now and then nevertheless. */
        if (v->n_events == c->rest->n_events && v->n_skipped < SKIPPED_MAX) {
                v->n_skipped++;
                (void) sd_event_source_set_time_relative(v->timer, POLL_USEC);
                (void) sd_event_source_set_enabled(v->timer, SD_EVENT_ONESHOT);
                return 0;
        }
        if (ask(c, ROUND_MAX, on_more) < 0)
                rest_stream_end(c);
        return 0;
}

static void on_closed(RestCall *c) {
        EventView *v = rest_userdata(c);

        v->timer = sd_event_source_disable_unref(v->timer);
}

static void on_first(RestCall *c, json_object *result, const KError *error) {
        _cleanup_json_ json_object *o = json_object_new_object(), *items = NULL;
        EventView *v = rest_userdata(c);
        int r;

        if (kerror_is_set(error)) {
                (void) rest_reply_kerror(c, error);
                return;
        }
        r = o ? take_items(v, result, v->limit, &items) : -ENOMEM;
        if (r >= 0 && !v->follow) {
                r = json_add(o, "logs", TAKE_PTR(items));
                if (r >= 0)
                        r = rest_reply(c, 200, TAKE_PTR(o));
        } else if (r >= 0) {
                if (v->after == 0)
                        v->since = now_realtime();
                r = sd_event_add_time_relative(rest_master(c)->event, &v->timer, CLOCK_MONOTONIC, POLL_USEC,
                                0, on_timer, c);
                if (r >= 0)
                        r = rest_stream_begin(c, on_closed);
                if (r >= 0)
                        (void) send_items(c, items);
        }
        if (r < 0 && !rest_is_answered(c)) {
                _cleanup_kerror_ KError e = KERROR_NULL;

                (void) kerror_set_errno(&e, r, "Events cannot be shown: %m.");
                (void) rest_reply_kerror(c, &e);
        }
}

static int read_list(RestCall *c, const char *key, char ***ret) {
        const char *s = rest_query(c, key);

        return isempty(s) ? 0 : strv_split(s, ",", ret);
}

static int view_new(RestCall *c, EventView **ret) {
        const char *since = rest_query(c, "since"), *from = rest_query(c, "from");
        EventView *v;
        int r;

        v = new0(EventView, 1);
        if (!v)
                return -ENOMEM;
        rest_set_userdata(c, v, view_free);
        v->limit = rest_limit(c, LIMIT_DEFAULT, LOG_LINES_MAX);
        v->follow = rest_query(c, "follow");
        if (from && safe_atou64(from, &v->after) < 0)
                v->after = 0;
        if (since && !from)
                (void) rest_parse_time(since, &v->since);
        r = read_list(c, "nodes", &v->nodes);
        if (r >= 0)
                r = read_list(c, "services", &v->services);
        if (r >= 0)
                r = read_list(c, "stacks", &v->stacks);
        if (r < 0)
                return r;

        *ret = v;
        return 0;
}

static int begin(RestCall *c, EventView *v) {
        bool some = v->nodes || v->services || v->stacks;

        return ask(c, some ? MAX(v->limit, SEARCHED) : v->limit, on_first);
}

static int rest_list_grid_events(RestCall *c, KError *reterr) {
        EventView *v;
        int r;

        r = view_new(c, &v);
        return r < 0 ? r : begin(c, v);
}

static int open_stack(RestCall *c) {
        EventView *v;
        int r;

        r = rest_has_stack(c);
        if (r < 0)
                return r;
        if (r == 0)
                return rest_reply_nothing(c, 404);
        r = view_new(c, &v);
        if (r >= 0) {
                v->stacks = strv_free(v->stacks);
                r = strv_extend(&v->stacks, rest_segment(c, "stack"));
        }
        return r < 0 ? r : begin(c, v);
}

static int rest_list_stack_events(RestCall *c, KError *reterr) {
        json_object *params;
        int r;

        r = rest_grid_params(c, &params);
        return r < 0 ? r : rest_call_then(c, "service.list", params, open_stack);
}

static void on_service(RestCall *c, json_object *result, const KError *error) {
        if (kerror_is_set(error))
                (void) rest_reply_kerror(c, error);
        else if (begin(c, rest_userdata(c)) < 0)
                (void) rest_reply_error(c, 500, "Internal server error");
}

static int rest_list_service_events(RestCall *c, KError *reterr) {
        EventView *v;
        int r;

        r = view_new(c, &v);
        if (r >= 0) {
                v->services = strv_free(v->services);
                r = strv_extendf(
                                &v->services, "%s/%s", rest_segment(c, "stack"), rest_segment(c, "service"));
        }
        if (r < 0)
                return r;
        return rest_call(c, "service.get",
                        rest_params("grid", rest_segment(c, "grid"), "stack", rest_segment(c, "stack"),
                                        "service", rest_segment(c, "service"), NULL),
                        on_service);
}

#define COMMON                                                                                              \
        { .name = "limit", .type = REST_INTEGER, .min = 1, .max = LOG_LINES_MAX },                          \
                        { .name = "since", .type = REST_STRING, .summary = "Date and time" },               \
                        { .name = "from",                                                                   \
                                .type = REST_STRING,                                                        \
                                .summary = "Only what came after this number" },                            \
        {                                                                                                   \
                .name = "follow", .type = REST_STRING, .summary = "With any value: never ends"              \
        }

static const RestField grid_query[] = {
        COMMON,
        { .name = "nodes", .type = REST_STRING, .summary = "Names, with commas" },
        { .name = "services", .type = REST_STRING, .summary = "STACK/NAME, with commas" },
        { .name = "stacks", .type = REST_STRING, .summary = "Names, with commas" },
        {},
};
static const RestField query[] = { COMMON, {} };

const RestRoute event_routes[] = {
        { .method = "GET",
                        .pattern = "/v1/grids/:grid/event_logs",
                        .flags = REST_STREAM,
                        .operation = "event.list",
                        .summary = "What happened in a grid",
                        .query = grid_query,
                        .handler = rest_list_grid_events },
        { .method = "GET",
                        .pattern = "/v1/stacks/:grid/:stack/event_logs",
                        .flags = REST_STREAM,
                        .operation = "event.list",
                        .summary = "What happened to the services of a stack",
                        .query = query,
                        .handler = rest_list_stack_events },
        { .method = "GET",
                        .pattern = "/v1/services/:grid/:stack/:service/event_logs",
                        .flags = REST_STREAM,
                        .operation = "event.list",
                        .summary = "What happened to a service",
                        .query = query,
                        .handler = rest_list_service_events },
};
const size_t n_event_routes = ELEMENTSOF(event_routes);
