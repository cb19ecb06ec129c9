/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>

#include "json-util.h"
#include "names.h"
#include "rest-render.h"
#include "rest.h"
#include "string-util.h"

#define LOG_ID_LENGTH 24U

/* "web" or "shop/web" as [{"id", "name"}]. */
static int add_services(json_object *o, const GridRow *g, json_object *titles, bool named) {
        _cleanup_json_ json_object *l = json_object_new_array();

        if (!l)
                return -ENOMEM;
        FOREACH_JSON_ARRAY(t, titles) {
                const char *title = strempty(json_object_get_string(t)), *slash = strchr(title, '/');
                _cleanup_free_ char *id = slash ? strjoin(g->name, "/", title)
                                                : strjoin(g->name, "/" STACK_NULL "/", title);
                _cleanup_json_ json_object *row = json_object_new_object();
                int r = id && row ? 0 : -ENOMEM;

                REST_ADD(r, json_add_string(row, "id", id));
                if (named)
                        REST_ADD(r, json_add_string(row, "name", slash ? slash + 1 : title));
                REST_ADD(r, json_append(l, TAKE_PTR(row)));
                if (r < 0)
                        return r;
        }
        return json_add(o, "services", TAKE_PTR(l));
}

static json_object *find_array(json_object *o, const char *key) {
        json_object *l = NULL;

        (void) json_find_array(o, key, &l, NULL);
        return l;
}

static int add_places(json_object *o, json_object *places) {
        _cleanup_json_ json_object *l = json_object_new_array();

        if (!l)
                return -ENOMEM;
        FOREACH_JSON_ARRAY(p, places) {
                _cleanup_json_ json_object *row = json_object_new_object();
                int r = row ? 0 : -ENOMEM;

                REST_ADD(r, json_add_string(row, "node", rest_text(p, "node")));
                REST_ADD(r, json_add_string(row, "name", rest_text(p, "name")));
                REST_ADD(r, json_append(l, TAKE_PTR(row)));
                if (r < 0)
                        return r;
        }
        return json_add(o, "instances", TAKE_PTR(l));
}

int rest_render_volume(const GridRow *g, json_object *volume, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();
        int r = o ? 0 : -ENOMEM;

        REST_ADD(r, rest_add_id(o, "id", g->name, rest_text(volume, "name"), NULL));
        REST_ADD(r, json_add_string(o, "name", rest_text(volume, "name")));
        REST_ADD(r, rest_add_time(o, "created_at", rest_number(volume, "created_at")));
        REST_ADD(r, rest_add_time(o, "updated_at", rest_number(volume, "created_at")));
        REST_ADD(r, json_add_string(o, "scope", rest_text(volume, "scope")));
        REST_ADD(r, json_add_string(o, "driver", rest_text(volume, "driver")));
        REST_ADD(r, json_add(o, "driver_opts", json_object_new_object()));
        REST_ADD(r, add_places(o, find_array(volume, "instances")));
        REST_ADD(r, add_services(o, g, find_array(volume, "services"), /* named= */ false));
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

int rest_render_secret(const GridRow *g, json_object *secret, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();
        const char *value = NULL;
        int r = o ? 0 : -ENOMEM;

        (void) json_find_string(secret, "value", &value, NULL);
        REST_ADD(r, rest_add_id(o, "id", g->name, rest_text(secret, "name"), NULL));
        REST_ADD(r, json_add_string(o, "name", rest_text(secret, "name")));
        REST_ADD(r, rest_add_time(o, "created_at", rest_number(secret, "created_at")));
        REST_ADD(r, value ? json_add_string(o, "value", value)
                          : rest_add_time(o, "updated_at", rest_number(secret, "updated_at")));
        REST_ADD(r, add_services(o, g, find_array(secret, "services"), /* named= */ true));
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

int rest_render_registry(const GridRow *g, const RegistryRow *row, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();
        _cleanup_free_ char *url = NULL;
        int r = o ? 0 : -ENOMEM;

        if (isempty(row->url))
                url = strjoin("https://", row->name);
        else
                url = strstr(row->url, "://") ? strdup(row->url) : strjoin("https://", row->url);
        if (!url)
                return -ENOMEM;
        REST_ADD(r, rest_add_id(o, "id", g->name, row->name, NULL));
        REST_ADD(r, json_add_string(o, "name", row->name));
        REST_ADD(r, json_add_string(o, "url", url));
        REST_ADD(r, json_add_string(o, "username", row->username));
        REST_ADD(r, rest_add_text(o, "email", row->email));
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

char *rest_log_id(uint64_t time, uint32_t order) {
        return strprintf("%016" PRIx64 "%08" PRIx32, time, order);
}

int rest_parse_log_id(const char *s, uint64_t *ret_time, uint32_t *ret_order) {
        uint8_t bytes[LOG_ID_LENGTH / 2];
        uint64_t time = 0;
        uint32_t order = 0;

        if (strlen(s) != LOG_ID_LENGTH || unhexmem(s, bytes, sizeof(bytes)) < 0)
                return -EINVAL;
        for (size_t i = 0; i < sizeof(uint64_t); i++)
                time = time << 8 | bytes[i];
        for (size_t i = sizeof(uint64_t); i < sizeof(bytes); i++)
                order = order << 8 | bytes[i];

        *ret_time = time;
        *ret_order = order;
        return 0;
}

static int add_ref(json_object *o, const char *key, const char *id, const char *name) {
        _cleanup_json_ json_object *ref = json_object_new_object();
        int r = ref && id ? 0 : -ENOMEM;

        REST_ADD(r, json_add_string(ref, "id", id));
        REST_ADD(r, json_add_string(ref, "name", name));
        REST_ADD(r, json_add(o, key, TAKE_PTR(ref)));
        return r;
}

char *rest_log_container(const LogEntry *e) {
        size_t n = strcspn(e->service, "/");
        _cleanup_free_ char *stack = strndup(e->service, n);

        if (!stack)
                return NULL;
        return streq(stack, STACK_NULL) ? strdup(e->instance) : strjoin(stack, ".", e->instance);
}

int rest_render_log(const GridRow *g, const LogEntry *e, const char *id, json_object **ret) {
        size_t n = strcspn(e->service, "/");
        _cleanup_free_ char *service = strjoin(g->name, "/", e->service), *stack = strndup(e->service, n),
                            *stack_id = NULL, *name = rest_log_container(e);
        const char *service_name = e->service[n] == '/' ? e->service + n + 1 : e->service;
        _cleanup_json_ json_object *o = json_object_new_object(), *node = NULL;
        int r;

        stack_id = stack ? strjoin(g->name, "/", stack) : NULL;
        r = o && service && stack_id && name ? 0 : -ENOMEM;
        REST_ADD(r, json_add_string(o, "id", id));
        REST_ADD(r, json_add_string(o, "name", name));
        REST_ADD(r, json_add_string(o, "container_id", name));
        REST_ADD(r, add_ref(o, "service", service, service_name));
        REST_ADD(r, add_ref(o, "stack", stack_id, stack));
        REST_ADD(r, add_ref(o, "grid", g->name, g->name));
        if (r >= 0 && !isempty(e->node)) {
                node = json_object_new_object();
                r = node ? json_add_string(node, "name", e->node) : -ENOMEM;
                REST_ADD(r, json_add(o, "node", TAKE_PTR(node)));
        }
        REST_ADD(r, rest_add_time(o, "created_at", e->time));
        REST_ADD(r, json_add_string(o, "type", streq(e->stream, "stderr") ? "stderr" : "stdout"));
        REST_ADD(r, json_add_string(o, "data", e->message));
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}
