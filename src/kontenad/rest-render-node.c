/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <ctype.h>

#include "json-util.h"
#include "kontena-limits.h"
#include "node-tracker.h"
#include "parse-util.h"
#include "rest-render.h"
#include "rest.h"
#include "string-util.h"

/* Where the reference's engine keeps everything; ours has one place for images and instances too. */
#define ROOT_DIRECTORY  "/var/lib/kontena"
#define ENGINE_ID_BYTES 30U
#define ENGINE_ID_GROUP 4U
#define REGION_LABEL    "region="

static json_object *group(json_object *report, const char *key) {
        json_object *o = NULL;

        if (report)
                (void) json_find_object(report, key, &o, NULL);
        return o;
}

static const char *report_text(const NodeRow *n, const char *key) {
        const char *s = NULL;

        if (n->report)
                (void) json_find_string(n->report, key, &s, NULL);
        return empty_to_null(s);
}

char *rest_engine_id(const NodeRow *n) {
        _cleanup_free_ char *id = NULL;
        uint8_t key[32];
        char *s, *p;
        size_t length;

        if (!n->node_key || unhexmem(n->node_key, key, sizeof(key)) < 0)
                return NULL;
        id = base32mem(key, ENGINE_ID_BYTES);
        if (!id)
                return NULL;
        length = strlen(id);
        s = p = new0(char, length + length / ENGINE_ID_GROUP + 1);
        if (!s)
                return NULL;
        for (size_t i = 0; i < length; i++) {
                if (i > 0 && i % ENGINE_ID_GROUP == 0)
                        *p++ = ':';
                *p++ = (char) toupper((unsigned char) id[i]);
        }
        return s;
}

/* The value of the label "region=...", "" without one. */
static const char *region(const NodeRow *n) {
        STRV_FOREACH(l, n->labels) {
                const char *value = startswith(*l, REGION_LABEL);

                if (value)
                        return value;
        }
        return "";
}

/* Where this node reaches the others. */
static int add_peers(json_object *o, const NodeRow *n, const NodeRowList *all) {
        _cleanup_strv_free_ char **l = NULL;
        static char *const none[] = { NULL };

        FOREACH_ARRAY(peer, all->rows, all->n) {
                const char *address;

                if (streq((*peer)->id, n->id))
                        continue;
                address = report_text(*peer,
                                streq(region(*peer), region(n)) ? "private_address" : "public_address");
                if (address && !strv_contains(l, address) && strv_extend(&l, address) < 0)
                        return -ENOMEM;
        }
        return json_add_strv(o, "peer_ips", l ?: none);
}

static int add_drivers(json_object *o, const char *key, json_object *names) {
        _cleanup_json_ json_object *l = json_object_new_array();

        if (!l)
                return -ENOMEM;
        FOREACH_JSON_ARRAY(name, names) {
                _cleanup_json_ json_object *row = json_object_new_object();
                int r = row ? 0 : -ENOMEM;

                REST_ADD(r, json_add_string(row, "name", json_object_get_string(name)));
                REST_ADD(r, json_add_string(row, "version", NULL));
                REST_ADD(r, json_append(l, TAKE_PTR(row)));
                if (r < 0)
                        return r;
        }
        return json_add(o, key, TAKE_PTR(l));
}

static int add_memory_usage(json_object *usage, json_object *memory) {
        _cleanup_json_ json_object *o = json_object_new_object();
        uint64_t total = json_u64_or(memory, "total", 0), free_bytes = json_u64_or(memory, "free", 0);
        int r = o ? 0 : -ENOMEM;

        REST_ADD(r, json_add_u64(o, "total", total));
        REST_ADD(r, json_add_u64(o, "free", free_bytes));
        REST_ADD(r, json_add_u64(o, "used", total - MIN(free_bytes, total)));
        REST_ADD(r, json_add_u64(o, "active", 0));
        REST_ADD(r, json_add_u64(o, "inactive", 0));
        REST_ADD(r, json_add_u64(o, "cached", json_u64_or(memory, "cached", 0)));
        REST_ADD(r, json_add_u64(o, "buffers", json_u64_or(memory, "buffers", 0)));
        REST_ADD(r, json_add(usage, "memory", TAKE_PTR(o)));
        return r;
}

static int add_load(json_object *usage, json_object *report) {
        static const char *const keys[] = { "1m", "5m", "15m" };
        _cleanup_json_ json_object *o = json_object_new_object();
        json_object *l = NULL;
        int r = o ? 0 : -ENOMEM;

        (void) json_find_array(report, "load", &l, NULL);
        for (size_t i = 0; i < ELEMENTSOF(keys); i++)
                REST_ADD(r, json_add_double(o, keys[i],
                                            l ? json_object_get_double(json_object_array_get_idx(l, i))
                                              : 0));
        REST_ADD(r, json_add(usage, "load", TAKE_PTR(o)));
        return r;
}

/* Its name is the engine's directory: the reference's client looks for that. */
static int add_filesystem(json_object *usage, json_object *disk) {
        _cleanup_json_ json_object *o = json_object_new_object(), *l = json_object_new_array();
        uint64_t total = json_u64_or(disk, "total", 0), free_bytes = json_u64_or(disk, "free", 0);
        int r = o && l ? 0 : -ENOMEM;

        REST_ADD(r, json_add_string(o, "name", ROOT_DIRECTORY));
        REST_ADD(r, json_add_u64(o, "free", free_bytes));
        REST_ADD(r, json_add_u64(o, "available", free_bytes));
        REST_ADD(r, json_add_u64(o, "used", total - MIN(free_bytes, total)));
        REST_ADD(r, json_add_u64(o, "total", total));
        REST_ADD(r, json_append(l, TAKE_PTR(o)));
        REST_ADD(r, json_add(usage, "filesystem", TAKE_PTR(l)));
        return r;
}

/* Of the processor a node tells how many there are, and no more. */
static int add_cpu(json_object *usage, uint64_t cpus) {
        static const char *const keys[] = { "system", "user", "nice", "idle" };
        _cleanup_json_ json_object *o = json_object_new_object();
        int r = o ? json_add_u64(o, "num_cores", cpus) : -ENOMEM;

        FOREACH_ARRAY(key, keys, ELEMENTSOF(keys))
                REST_ADD(r, json_add_double(o, *key, 0));
        REST_ADD(r, json_add(usage, "cpu", TAKE_PTR(o)));
        return r;
}

static int add_usage(json_object *o, const NodeRow *n) {
        _cleanup_json_ json_object *usage = NULL, *seconds = NULL;
        json_object *memory = group(n->report, "memory");
        int r;

        if (!memory)
                return 0;
        usage = json_object_new_object();
        seconds = json_object_new_object();
        r = usage && seconds ? add_memory_usage(usage, memory) : -ENOMEM;
        REST_ADD(r, add_load(usage, n->report));
        REST_ADD(r, add_filesystem(usage, group(n->report, "disk")));
        REST_ADD(r, json_add_u64(seconds, "container_seconds", 0));
        REST_ADD(r, json_add(usage, "usage", TAKE_PTR(seconds)));
        REST_ADD(r, add_cpu(usage, json_u64_or(n->report, "cpus", 0)));
        REST_ADD(r, json_add(o, "resource_usage", TAKE_PTR(usage)));
        return r;
}

static int add_grid(json_object *o, const GridRow *g, const char *token) {
        static char *const none[] = { NULL };
        _cleanup_json_ json_object *grid = json_object_new_object(), *stats = json_object_new_object();
        int r = grid && stats ? 0 : -ENOMEM;

        REST_ADD(r, json_add_string(grid, "id", g->name));
        REST_ADD(r, json_add_string(grid, "name", g->name));
        REST_ADD(r, json_add_u64(grid, "initial_size", g->initial_size));
        REST_ADD(r, json_add_string(grid, "token", token));
        REST_ADD(r, json_add_string(stats, "statsd", NULL));
        REST_ADD(r, json_add(grid, "stats", TAKE_PTR(stats)));
        REST_ADD(r, json_add_strv(grid, "trusted_subnets", g->trusted_subnets ?: none));
        REST_ADD(r, json_add_string(grid, "subnet", g->subnet));
        REST_ADD(r, json_add_string(grid, "supernet", g->supernet));
        REST_ADD(r, json_add(o, "grid", TAKE_PTR(grid)));
        return r;
}

static int add_facts(json_object *o, const NodeRow *n) {
        json_object *runtime = group(n->report, "runtime"), *memory = group(n->report, "memory"),
                    *drivers = NULL;
        const char *name = NULL, *version = NULL;
        int r;

        if (runtime) {
                (void) json_find_string(runtime, "name", &name, NULL);
                (void) json_find_string(runtime, "version", &version, NULL);
        }
        if (n->report)
                (void) json_find_array(n->report, "volume_drivers", &drivers, NULL);

        r = json_add_string(o, "os", report_text(n, "os"));
        REST_ADD(r, json_add_string(o, "engine_root_dir", n->report ? ROOT_DIRECTORY : NULL));
        REST_ADD(r, rest_add_text(o, "driver", name));
        REST_ADD(r, json_add_string(o, "kernel_version", report_text(n, "kernel")));
        REST_ADD(r, json_add_string(o, "agent_version", report_text(n, "version")));
        REST_ADD(r, rest_add_text(o, "docker_version", version));
        REST_ADD(r, add_drivers(o, "network_drivers", NULL));
        REST_ADD(r, add_drivers(o, "volume_drivers", drivers));
        REST_ADD(r, memory ? json_add_u64(o, "mem_total", json_u64_or(memory, "total", 0))
                           : json_add_string(o, "mem_total", NULL));
        REST_ADD(r, json_add_string(o, "mem_limit", NULL));
        REST_ADD(r, n->report ? json_add_u64(o, "cpus", json_u64_or(n->report, "cpus", 0))
                              : json_add_string(o, "cpus", NULL));
        REST_ADD(r, json_add_string(o, "public_ip", report_text(n, "public_address")));
        REST_ADD(r, json_add_string(o, "private_ip", report_text(n, "private_address")));
        return r;
}

int rest_render_node(const GridRow *g, const NodeRow *n, const NodeRowList *all, const char *token,
                json_object **ret) {
        static char *const none[] = { NULL };
        static const uint8_t no_token[sizeof(n->token_hash)] = {};
        _cleanup_json_ json_object *o = json_object_new_object();
        _cleanup_free_ char *engine = rest_engine_id(n);
        const char *state = node_state(n);
        int r = o ? 0 : -ENOMEM;

        REST_ADD(r, rest_add_id(o, "id", g->name, n->name, NULL));
        REST_ADD(r, json_add_string(o, "node_id", engine));
        REST_ADD(r, json_add_string(o, "name", n->name));
        REST_ADD(r, json_add_u64(o, "node_number", n->number));
        REST_ADD(r, json_add_bool(o, "initial_member", n->number <= g->initial_size));
        REST_ADD(r, json_add_bool(o, "connected", n->connected));
        REST_ADD(r, json_add_bool(o, "updated", n->connected && n->report));
        REST_ADD(r, json_add_string(o, "status", state));
        REST_ADD(r, json_add_string(o, "availability", node_availability_to_string(n->availability)));
        REST_ADD(r, rest_add_time(o, "created_at", n->created_at));
        REST_ADD(r, rest_add_time(o, "updated_at", MAX(n->created_at, n->updated_at)));
        REST_ADD(r, rest_add_time(o, "connected_at", n->connected_at));
        REST_ADD(r, rest_add_time(o, "disconnected_at", n->disconnected_at));
        REST_ADD(r, rest_add_time(o, "last_seen_at", n->last_seen_at));
        REST_ADD(r, json_add_bool(o, "has_token", memcmp(n->token_hash, no_token, sizeof(no_token)) != 0));
        REST_ADD(r, json_add_strv(o, "labels", n->labels ?: none));
        REST_ADD(r, json_add_string(o, "overlay_ip", IPV4_TO_STRING(node_overlay_address(g, n->number))));
        REST_ADD(r, add_facts(o, n));
        REST_ADD(r, add_peers(o, n, all));
        REST_ADD(r, add_grid(o, g, token));
        REST_ADD(r, add_usage(o, n));
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}
