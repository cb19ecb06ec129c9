/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>

#include "ctl.h"
#include "file-util.h"
#include "join-token.h"
#include "json-util.h"
#include "node-local.h"
#include "string-util.h"

/* As systemctl's: something that should run does not. */
#define EXIT_PROBLEM 3

static void print_clean(const char *before, const char *text, const char *after) {
        _cleanup_free_ char *clean = text_escape(text, /* keep_newlines= */ false);

        printf("%s%s%s", before, strna(clean), after);
}

static void print_dot(Color color, Glyph g) {
        printf("%s%s%s ", color_on(color), glyph(g), color_off(color));
}

static void print_heading(const char *text) {
        printf("\n%s%s%s\n", color_on(COLOR_BOLD), text, color_off(COLOR_BOLD));
}

static size_t widest(json_object *rows, char *(*name)(json_object *) ) {
        size_t w = 0;

        FOREACH_JSON_ARRAY(row, rows) {
                _cleanup_free_ char *s = name(row);

                w = MAX(w, s ? text_width(s) : 0);
        }

        return w;
}

static char *node_name(json_object *row) {
        return text_escape(row_string(row, "name"), /* keep_newlines= */ false);
}

static char *service_name(json_object *row) {
        _cleanup_free_ char *s = service_display_name(row_string(row, "stack"), row_string(row, "name"));

        return s ? text_escape(s, /* keep_newlines= */ false) : NULL;
}

static void print_padded(const char *s, size_t width) {
        printf("%s%*s", strna(s), (int) (width - MIN(width, text_width(strempty(s)))), "");
}

static void print_node(json_object *n, size_t width) {
        const char *state = row_string(n, "state");
        bool drained = streq(row_string(n, "availability"), "drain"),
             online = STR_IN_SET(state, "online", "drain");
        Color color = online ? (drained ? COLOR_YELLOW : COLOR_GREEN)
                             : state_color(n, json_object_object_get(n, "state"));
        _cleanup_free_ char *name = node_name(n);
        char total[TIME_TEXT_MAX], seen[TIME_TEXT_MAX];
        int64_t memory = row_int(n, "memory_total"), available = row_int(n, "memory_available"),
                last = row_int(n, "last_seen");

        printf("  ");
        print_dot(color, online ? GLYPH_DOT : GLYPH_CIRCLE);
        print_padded(name, width);
        printf(" %s%-10s%s %3" PRIi64 " instance%s", color_on(color), online && drained ? "drain" : state,
                        color_off(color), row_int(n, "instances"), row_int(n, "instances") == 1 ? "" : "s");
        if (online && memory > 0)
                printf(", %s of %s memory free", bytes_to_text((uint64_t) available, seen),
                                bytes_to_text((uint64_t) memory, total));
        if (!online && last > 0)
                printf(", last seen %s", relative_time_to_text((uint64_t) last, now_realtime(), seen));
        putchar('\n');
}

static void print_service(json_object *s, size_t width) {
        const char *state = row_string(s, "state"), *problem = row_string(s, "problem");
        int64_t running = row_int(s, "running"), count = row_int(s, "count");
        bool deploying = row_bool(s, "deploying"), wanted = streq(state, "running"),
             full = running >= count && isempty(problem);
        Color color = deploying ? COLOR_YELLOW : !wanted ? COLOR_NONE : full ? COLOR_GREEN : COLOR_RED;
        _cleanup_free_ char *name = service_name(s), *ports = NULL;

        printf("  ");
        print_dot(color, !wanted ? GLYPH_CIRCLE : full || deploying ? GLYPH_DOT : GLYPH_CROSS);
        print_padded(name, width);
        printf(" %s%-11s%s %" PRIi64 "/%" PRIi64, color_on(color), deploying ? "deploying" : state,
                        color_off(color), running, count);
        print_clean("  ", row_string(s, "image"), "");
        if (json_value_to_text(json_object_object_get(s, "ports"), &ports) >= 0 && ports)
                print_clean("  ", ports, "");
        putchar('\n');
}

static void print_problems(json_object *problems) {
        if (!problems || json_object_array_length(problems) == 0)
                return;

        print_heading("Problems:");
        FOREACH_JSON_ARRAY(p, problems) {
                printf("  ");
                print_dot(COLOR_RED, GLYPH_CROSS);
                print_clean("", json_object_get_string(p), "\n");
        }
}

static json_object *list_of(json_object *status, const char *key) {
        json_object *l = json_object_object_get(status, key);

        return json_object_is_type(l, json_type_array) ? l : NULL;
}

/* Returns 1 if something is wrong with it. */
static int print_grid(json_object *status) {
        json_object *grid = json_object_object_get(status, "grid"), *nodes = list_of(status, "nodes");
        json_object *services = list_of(status, "services"), *problems = list_of(status, "problems");
        size_t n_problems = problems ? json_object_array_length(problems) : 0, online = 0, width;

        FOREACH_JSON_ARRAY(n, nodes)
                online += STR_IN_SET(row_string(n, "state"), "online", "drain");

        print_dot(n_problems > 0 ? COLOR_RED : COLOR_GREEN, GLYPH_DOT);
        print_clean("Grid ", row_string(grid, "name"), "");
        if (n_problems == 0)
                puts(", all well");
        else
                printf(", %zu problem%s\n", n_problems, n_problems == 1 ? "" : "s");
        printf("     Nodes: %zu of %zu online\n", online, nodes ? json_object_array_length(nodes) : 0);
        printf("  Services: %zu\n", services ? json_object_array_length(services) : 0);
        print_clean("    Subnet: ", row_string(grid, "subnet"), "\n");

        if (nodes && json_object_array_length(nodes) > 0) {
                print_heading("Nodes:");
                width = widest(nodes, node_name);
                FOREACH_JSON_ARRAY(n, nodes)
                        print_node(n, width);
        }
        if (services && json_object_array_length(services) > 0) {
                print_heading("Services:");
                width = widest(services, service_name);
                FOREACH_JSON_ARRAY(s, services)
                        print_service(s, width);
        }
        print_problems(problems);
        return n_problems > 0;
}

static int print_master(json_object *master) {
        _cleanup_free_ char *address = master_address(row_string(master, "ListenURL"));
        const char *reason = row_string(master, "ReadOnlyReason");

        print_dot(isempty(reason) ? COLOR_GREEN : COLOR_RED, GLYPH_DOT);
        print_clean("Master ", row_string(master, "Version"), "");
        print_clean(", ", strempty(address), "\n");
        if (!isempty(reason)) {
                print_clean("  Changes are refused: ", reason, "\n");
                return 1;
        }
        return 0;
}

static int print_local_node(json_object *node) {
        const char *state = row_string(node, "ChannelState"), *text = row_string(node, "ChannelStatus");
        _cleanup_free_ char *address = master_address(row_string(node, "MasterURL"));
        json_object *instances = list_of(node, "instances");
        bool ready = streq(state, "ready");
        size_t running = 0;

        FOREACH_JSON_ARRAY(i, instances)
                running += streq(row_string(i, "state"), "running");

        print_dot(ready ? COLOR_GREEN : COLOR_RED, ready ? GLYPH_DOT : GLYPH_CIRCLE);
        print_clean("This machine as a node: ", streq(state, "idle") ? "it has not joined a grid" : state,
                        "\n");
        if (!isempty(row_string(node, "MasterURL")))
                print_clean("    Master: ", strempty(address), "\n");
        if (!isempty(row_string(node, "Grid")))
                print_clean("      Grid: ", row_string(node, "Grid"), "\n");
        if (!isempty(text))
                print_clean("   Channel: ", text, "\n");
        if (!isempty(row_string(node, "NetworkError")))
                print_clean("   Network: ", row_string(node, "NetworkError"), "\n");
        if (instances)
                printf(" Instances: %zu, %zu running\n", json_object_array_length(instances), running);

        FOREACH_JSON_ARRAY(i, instances) {
                Color color = state_color(i, json_object_object_get(i, "state"));

                printf("  ");
                print_dot(color, color == COLOR_GREEN ? GLYPH_DOT : GLYPH_CIRCLE);
                print_clean("", row_string(i, "unit"), "");
                print_clean(" ", row_string(i, "state"), "");
                print_clean(isempty(row_string(i, "error")) ? "" : ": ", row_string(i, "error"), "\n");
        }

        return !ready || !isempty(row_string(node, "NetworkError"));
}

/* The master's own state and each grid asked for. Sets *ret to NULL when no master is here. */
static int get_master(Ctl *c, json_object **ret_master, json_object **ret_grids, KError *reterr) {
        _cleanup_json_ json_object *master = NULL, *list = NULL, *grids = json_object_new_array();
        int r;

        r = ctl_get_properties(c, MASTER_NAME, MASTER_PATH, MASTER_MANAGER, &master, reterr);
        if (r < 0)
                return r;

        if (!grids)
                return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
        if (!c->grid) {
                r = ctl_call_json(c, "ListGrids", &list, reterr, NULL);
                if (r < 0)
                        return r;
        } else {
                list = json_object_new_array();
                if (json_append(list, json_object_new_object()) < 0 ||
                                json_add_string(json_object_array_get_idx(list, 0), "name", c->grid) < 0)
                        return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
        }

        FOREACH_JSON_ARRAY(g, list) {
                json_object *status;

                r = ctl_call_json(c, "GetStatus", &status, reterr, "s", row_string(g, "name"));
                if (r < 0)
                        return r;
                if (json_append(grids, status) < 0)
                        return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
        }

        *ret_master = TAKE_PTR(master);
        *ret_grids = TAKE_PTR(grids);
        return 0;
}

static int get_local_node(Ctl *c, json_object **ret) {
        _cleanup_json_ json_object *node = NULL, *instances = NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;
        int r;

        r = node_local_properties(c, &node, &error);
        if (r < 0)
                return error.code == K_UNAVAILABLE ? 0 : r;

        r = node_local_instances(c, &instances, NULL);
        if (r >= 0)
                r = json_add(node, "instances", TAKE_PTR(instances));

        *ret = TAKE_PTR(node);
        return 1;
}

int command_status(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_json_ json_object *master = NULL, *grids = NULL, *node = NULL,
                                   *all = json_object_new_object();
        _cleanup_kerror_ KError error = KERROR_NULL;
        int r, problems = 0;

        (void) get_local_node(c, &node);
        r = get_master(c, &master, &grids, &error);
        /* A machine that is only a node has no master to ask. */
        if (r < 0 && (error.code != K_UNAVAILABLE || !node)) {
                kerror_move(reterr, &error);
                return r;
        }

        ctl_open_pager(c);
        if (c->json != JSON_OFF) {
                if (!all || json_object_object_add(all, "master", TAKE_PTR(master)) < 0 ||
                                json_object_object_add(all, "grids", TAKE_PTR(grids)) < 0 ||
                                json_object_object_add(all, "node", TAKE_PTR(node)) < 0)
                        return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
                return ctl_print_json(c, all);
        }

        if (master) {
                problems |= print_master(master);
                if (json_object_array_length(grids) == 0)
                        puts("\nThere is no grid yet; make one with: kontenactl grid create NAME");
                FOREACH_JSON_ARRAY(g, grids) {
                        putchar('\n');
                        problems |= print_grid(g);
                }
        }
        if (node && !(master && streq(row_string(node, "ChannelState"), "idle"))) {
                if (master)
                        putchar('\n');
                problems |= print_local_node(node);
        }

        return problems ? EXIT_PROBLEM : 0;
}
