/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "json-util.h"
#include "rest-internal.h"
#include "string-util.h"

/* The description of what is served, from the tables that serve it. */

static int field_schema(const RestField *f, RestType type, json_object **ret);

static const char *type_name(RestType type) {
        static const char *const names[] = {
                [REST_STRING] = "string",
                [REST_INTEGER] = "integer",
                [REST_NUMBER] = "number",
                [REST_BOOLEAN] = "boolean",
                [REST_ARRAY] = "array",
                [REST_OBJECT] = "object",
        };

        return (size_t) type < ELEMENTSOF(names) ? names[type] : NULL;
}

static int fields_schema(const RestField *fields, json_object *o) {
        _cleanup_json_ json_object *properties = json_object_new_object(),
                                   *required = json_object_new_array();
        int r;

        if (!properties || !required)
                return -ENOMEM;
        for (const RestField *f = fields; f && f->name; f++) {
                json_object *schema;

                r = field_schema(f, f->type, &schema);
                if (r >= 0)
                        r = json_add(properties, f->name, schema);
                if (r >= 0 && (f->flags & REST_REQUIRED))
                        r = json_append_string(required, f->name);
                if (r < 0)
                        return r;
        }
        if (json_object_array_length(required) > 0 && json_add(o, "required", TAKE_PTR(required)) < 0)
                return -ENOMEM;
        return json_add(o, "properties", TAKE_PTR(properties));
}

static int add_bounds(const RestField *f, RestType type, json_object *o) {
        const char *min = type == REST_STRING ? "minLength" : type == REST_ARRAY ? "minItems" : "minimum";
        const char *max = type == REST_STRING ? "maxLength" : type == REST_ARRAY ? "maxItems" : "maximum";
        int r = 0;

        if (f->min != 0)
                r = json_add_i64(o, min, f->min);
        if (r >= 0 && f->max != 0)
                r = json_add_i64(o, max, f->max);
        return r;
}

static int add_options(const RestField *f, json_object *o) {
        json_object *l = json_object_new_array();
        int r = l ? 0 : -ENOMEM;

        for (const char *const *s = f->options; *s && r >= 0; s++)
                r = json_append_string(l, *s);
        if (r < 0) {
                json_object_put(l);
                return r;
        }
        return json_add(o, "enum", l);
}

static int field_schema(const RestField *f, RestType type, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();
        bool outer = type == f->type;
        int r = 0;

        if (!o)
                return -ENOMEM;
        if (type_name(type))
                r = json_add_string(o, "type", type_name(type));
        if (r >= 0 && outer && f->summary)
                r = json_add_string(o, "description", f->summary);
        /* The reference takes a null for what may be left out. */
        if (r >= 0 && outer && (!(f->flags & REST_REQUIRED) || (f->flags & REST_NULLABLE)))
                r = json_add_bool(o, "nullable", true);
        if (r >= 0 && outer && STR_IN_SET(strempty(type_name(type)), "string", "integer", "number", "array"))
                r = add_bounds(f, type, o);
        if (r >= 0 && type == REST_STRING && f->pattern)
                r = json_add_string(o, "pattern", f->pattern);
        if (r >= 0 && type == REST_STRING && f->options)
                r = add_options(f, o);
        if (r >= 0 && type == REST_ARRAY) {
                json_object *items;

                r = field_schema(f, f->element == REST_ARRAY ? REST_ANY : f->element, &items);
                if (r >= 0)
                        r = json_add(o, "items", items);
        }
        if (r >= 0 && type == REST_OBJECT && f->fields)
                r = fields_schema(f->fields, o);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

/* "/v1/grids/:grid" → "/v1/grids/{grid}", and its parameters */
static int path_of(const RestRoute *route, char **ret, json_object *parameters) {
        _cleanup_free_ char *path = strdup("");
        const char *p = route->pattern;
        int r;

        while (path && *p) {
                size_t n = strcspn(p + 1, "/") + 1;
                bool named = n > 1 && (p[1] == ':' || p[1] == '*');
                _cleanup_free_ char *name = named ? strndup(p + 2, n - 2) : strndup(p, n);
                json_object *o, *schema;
                char *longer;

                if (!name)
                        return -ENOMEM;
                longer = named ? strjoin(path, "/{", name, "}") : strjoin(path, name);
                free(path);
                path = longer;
                p += n;
                if (!named)
                        continue;

                o = json_object_new_object();
                schema = json_object_new_object();
                r = o ? json_add(o, "schema", schema) : -ENOMEM;
                if (r >= 0)
                        r = json_add_string(schema, "type", "string");
                if (r >= 0)
                        r = json_add_string(o, "name", name);
                if (r >= 0)
                        r = json_add_string(o, "in", "path");
                if (r >= 0)
                        r = json_add_bool(o, "required", true);
                if (r < 0) {
                        json_object_put(o);
                        return r;
                }
                r = json_append(parameters, o);
                if (r < 0)
                        return r;
        }
        if (!path)
                return -ENOMEM;

        *ret = TAKE_PTR(path);
        return 0;
}

static int add_query(const RestRoute *route, json_object *parameters) {
        for (const RestField *f = route->query; f && f->name; f++) {
                _cleanup_json_ json_object *o = json_object_new_object();
                json_object *schema;
                int r;

                if (!o)
                        return -ENOMEM;
                r = field_schema(f, f->type, &schema);
                if (r >= 0)
                        r = json_add(o, "schema", schema);
                if (r >= 0)
                        r = json_add_string(o, "name", f->name);
                if (r >= 0)
                        r = json_add_string(o, "in", "query");
                if (r >= 0)
                        r = json_append(parameters, TAKE_PTR(o));
                if (r < 0)
                        return r;
        }
        return 0;
}

static int add_response(json_object *responses, int status, const char *description) {
        _cleanup_json_ json_object *o = json_object_new_object();
        _cleanup_free_ char *key = strprintf("%d", status);

        if (!o || !key || json_add_string(o, "description", description) < 0)
                return -ENOMEM;
        return json_add(responses, key, TAKE_PTR(o));
}

static int add_responses(const RestRoute *route, json_object *operation) {
        _cleanup_json_ json_object *o = json_object_new_object();
        int r;

        if (!o)
                return -ENOMEM;
        if (route->flags & REST_WEBSOCKET) {
                r = add_response(o, 101, "A WebSocket");
                if (r >= 0)
                        r = add_response(o, 426, "Not asked for as a WebSocket");
        } else
                r = add_response(o, route->status ?: 200,
                                route->flags & REST_STREAM
                                                ? "Done; with the query follow, one object in each chunk"
                                                : "Done");
        if (r >= 0 && (route->body || route->described_body))
                r = add_response(o, route->flags & REST_OAUTH ? 400 : 422, "A field does not fit");
        if (r >= 0 && !(route->flags & REST_OPEN))
                r = add_response(o, 403, "No token, or one that may not");
        if (r >= 0 && strchr(route->pattern, ':'))
                r = add_response(o, 404, "Not found");
        if (r < 0)
                return r;
        return json_add(operation, "responses", TAKE_PTR(o));
}

static int add_body(const RestRoute *route, json_object *operation) {
        _cleanup_json_ json_object *o = json_object_new_object(), *content = json_object_new_object(),
                                   *schema = json_object_new_object();
        static const char *const types[] = { "application/json", "application/x-www-form-urlencoded" };
        int r;

        if (!o || !content || !schema || json_add_string(schema, "type", "object") < 0)
                return -ENOMEM;
        r = fields_schema(route->body ?: route->described_body, schema);
        for (size_t i = 0; i < (route->flags & REST_FORM ? 2U : 1U) && r >= 0; i++) {
                json_object *media = json_object_new_object();

                r = json_add(content, types[i], media);
                if (r >= 0)
                        r = json_add(media, "schema", json_object_get(schema));
        }
        if (r >= 0)
                r = json_add(o, "content", TAKE_PTR(content));
        if (r < 0)
                return r;
        return json_add(operation, "requestBody", TAKE_PTR(o));
}

static int add_security(const RestRoute *route, json_object *operation) {
        _cleanup_json_ json_object *l = json_object_new_array();
        json_object *need;

        if (!l)
                return -ENOMEM;
        if (route->flags & (REST_OPEN | REST_ANY_TOKEN) && json_append(l, json_object_new_object()) < 0)
                return -ENOMEM;
        if (!(route->flags & REST_OPEN)) {
                need = json_object_new_object();
                if (json_append(l, need) < 0 || json_add(need, "token", json_object_new_array()) < 0)
                        return -ENOMEM;
        }
        return json_add(operation, "security", TAKE_PTR(l));
}

static int describe(const RestRoute *route, json_object *paths) {
        _cleanup_json_ json_object *o = json_object_new_object(), *parameters = json_object_new_array();
        const Operation *operation = route->operation ? operation_find(route->operation) : NULL;
        _cleanup_free_ char *path = NULL, *method = strdup(route->method ?: "POST");
        json_object *item = NULL;
        int r;

        if (!o || !parameters || !method)
                return -ENOMEM;
        for (char *p = method; *p; p++)
                *p = (char) (*p | 0x20);
        r = path_of(route, &path, parameters);
        if (r >= 0)
                r = add_query(route, parameters);
        if (r >= 0)
                r = json_add_string(o, "summary", route->summary);
        if (r >= 0 && operation)
                r = json_add_string(o, "x-kontena-operation", operation->name);
        if (r >= 0 && operation)
                r = json_add_string(o, "x-kontena-role", operation->role);
        if (r >= 0)
                r = json_add(o, "parameters", TAKE_PTR(parameters));
        if (r >= 0 && (route->body || route->described_body))
                r = add_body(route, o);
        if (r >= 0)
                r = add_responses(route, o);
        if (r >= 0)
                r = add_security(route, o);
        if (r < 0)
                return r;

        if (!json_object_object_get_ex(paths, path, &item)) {
                item = json_object_new_object();
                r = json_add(paths, path, item);
                if (r < 0)
                        return r;
        }
        return json_add(item, method, TAKE_PTR(o));
}

static int add_head(json_object *o) {
        json_object *info = json_object_new_object(), *components, *schemes, *token;
        int r;

        r = json_add(o, "info", info);
        if (r >= 0)
                r = json_add_string(o, "openapi", "3.0.3");
        if (r >= 0)
                r = json_add_string(info, "title", "Kontena master");
        if (r >= 0)
                r = json_add_string(info, "version", KONTENA_VERSION);
        if (r < 0)
                return r;

        components = json_object_new_object();
        r = json_add(o, "components", components);
        if (r < 0)
                return r;
        schemes = json_object_new_object();
        r = json_add(components, "securitySchemes", schemes);
        if (r < 0)
                return r;
        token = json_object_new_object();
        r = json_add(schemes, "token", token);
        if (r >= 0)
                r = json_add_string(token, "type", "http");
        if (r >= 0)
                r = json_add_string(token, "scheme", "bearer");
        return r;
}

int rest_openapi(json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();
        const RestRoute *route;
        json_object *paths;
        int r;

        assert(ret);

        if (!o)
                return -ENOMEM;
        r = add_head(o);
        if (r < 0)
                return r;
        paths = json_object_new_object();
        r = json_add(o, "paths", paths);
        for (size_t i = 0; r >= 0 && (route = rest_route_by_index(i)); i++)
                r = describe(route, paths);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}
