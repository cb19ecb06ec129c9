/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "image-reference.h"
#include "json-util.h"
#include "rest-render.h"
#include "rest-rows.h"
#include "rest.h"
#include "string-util.h"

/* Credentials for registries outside of the grid */

static const RestField create_fields[] = {
        { "url", REST_STRING, REST_REQUIRED, .pattern = "^https?://[^/]+" },
        { "username", REST_STRING, REST_REQUIRED },
        { "password", REST_STRING, REST_REQUIRED },
        { "email", REST_STRING, REST_EMPTY },
        {},
};

/* "https://index.docker.io/v1/" -> "index.docker.io"; the scheme's own port is left out. */
static char *name_of_url(const char *url) {
        const char *host = strstr(url, "://"), *port;
        bool tls = startswith(url, "https:");
        size_t n;

        if (!host)
                return strdup(url);
        host += 3;
        n = strcspn(host, "/?#");
        port = memchr(host, ':', n);
        if (port && ((tls && strneq(port, ":443", n - (size_t) (port - host))) ||
                                    (!tls && strneq(port, ":80", n - (size_t) (port - host)))))
                n = (size_t) (port - host);
        return strndup(host, n);
}

static int find_row(RestCall *c, GridRow **ret_grid, RegistryRow **ret, const char *name) {
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        _cleanup_free_ char *canonical = NULL;
        int r;

        r = registry_name_parse(name, &canonical, NULL);
        if (r < 0)
                return r == -EINVAL ? -ENOENT : r;
        r = rest_find_grid(c, &g);
        if (r >= 0)
                r = store_find_registry(rest_master(c)->store, g->id, canonical, ret);
        if (r < 0)
                return r;
        *ret_grid = TAKE_PTR(g);
        return 0;
}

static int reply_registries(RestCall *c) {
        _cleanup_(registry_row_list_done) RegistryRowList l = {};
        _cleanup_json_ json_object *array = json_object_new_array();
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        int r;

        r = array ? rest_find_grid(c, &g) : -ENOMEM;
        if (r >= 0)
                r = store_list_registries(rest_master(c)->store, g->id, &l);
        if (r < 0)
                return r;
        FOREACH_ARRAY(row, l.rows, l.n) {
                json_object *o;

                r = rest_render_registry(g, *row, &o);
                if (r >= 0)
                        r = json_append(array, o);
                if (r < 0)
                        return r;
        }
        return rest_reply_list(c, "external_registries", TAKE_PTR(array));
}

static int reply_registry(RestCall *c, int status, const char *name) {
        _cleanup_(registry_row_freep) RegistryRow *row = NULL;
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        json_object *o;
        int r;

        r = find_row(c, &g, &row, name);
        if (r >= 0)
                r = rest_render_registry(g, row, &o);
        return r < 0 ? r : rest_reply(c, status, o);
}

static void on_shown(RestCall *c, json_object *result, const KError *error) {
        if (error)
                (void) rest_reply_kerror(c, error);
        else
                rest_finish(c, reply_registry(c, 200, strempty(rest_segment(c, "name"))));
}

static int list_registries(RestCall *c, KError *reterr) {
        json_object *params;
        int r;

        r = rest_grid_params(c, &params);
        return r < 0 ? r : rest_call_then(c, "registry.list", params, reply_registries);
}

static int show_registry(RestCall *c, KError *reterr) {
        json_object *params;
        int r;

        r = rest_grid_params(c, &params);
        return r < 0 ? r : rest_call(c, "registry.list", params, on_shown);
}

static void on_added(RestCall *c, json_object *result, const KError *error) {
        const char *name = "", *message;

        if (error) {
                message = kerror_message(error);
                rest_fail(c, error,
                                strstr(message, "user name")  ? "username"
                                : strstr(message, "password") ? "password"
                                : strstr(message, "email")    ? "email"
                                                              : "url");
                return;
        }
        (void) json_find_string(result, "name", &name, NULL);
        rest_finish(c, reply_registry(c, 201, name));
}

static int add_registry(RestCall *c) {
        _cleanup_json_ json_object *params = NULL, *options = json_object_new_object();
        _cleanup_free_ char *name = name_of_url(rest_body_string(c, "url"));
        int r;

        r = name && options ? rest_grid_params(c, &params) : -ENOMEM;
        REST_ADD(r, json_add_string(params, "registry", name));
        REST_ADD(r, json_add_string(params, "username", rest_body_string(c, "username")));
        REST_ADD(r, json_add_string(params, "password", rest_body_string(c, "password")));
        if (!isempty(rest_body_string(c, "email")))
                REST_ADD(r, json_add_string(options, "email", rest_body_string(c, "email")));
        REST_ADD(r, json_add(params, "options", TAKE_PTR(options)));
        return r < 0 ? r : rest_call(c, "registry.add", TAKE_PTR(params), on_added);
}

/* What is there is not replaced unseen. */
static void on_listed_before(RestCall *c, json_object *result, const KError *error) {
        _cleanup_free_ char *name = name_of_url(rest_body_string(c, "url"));
        _cleanup_(registry_row_freep) RegistryRow *row = NULL;
        _cleanup_(grid_row_freep) GridRow *g = NULL;

        if (error) {
                (void) rest_reply_kerror(c, error);
                return;
        }
        if (name && find_row(c, &g, &row, name) >= 0)
                (void) rest_reply_field_error(c, "name", "is already taken");
        else
                rest_finish(c, add_registry(c));
}

static int create_registry(RestCall *c, KError *reterr) {
        json_object *params;
        int r;

        r = rest_grid_params(c, &params);
        return r < 0 ? r : rest_call(c, "registry.list", params, on_listed_before);
}

/* The body is empty, as the reference's is. */
static void on_removed(RestCall *c, json_object *result, const KError *error) {
        if (error && error->code == K_INVALID_ARGUMENT)
                (void) rest_reply_error(c, 404, "Not found"); /* what has no name of a registry is none */
        else if (error)
                (void) rest_reply_kerror(c, error);
        else
                rest_finish(c, rest_reply_empty(c, 200));
}

static int remove_registry(RestCall *c, KError *reterr) {
        json_object *params;
        int r;

        r = rest_grid_params(c, &params);
        if (r < 0)
                return r;
        r = json_add_string(params, "registry", strempty(rest_segment(c, "name")));
        if (r < 0) {
                json_object_put(params);
                return r;
        }
        return rest_call(c, "registry.remove", params, on_removed);
}

const RestRoute registry_routes[] = {
        { "GET", "/v1/grids/:grid/external_registries", .operation = "registry.list",
                        .summary = "Registries that the grid has credentials for",
                        .handler = list_registries },
        { "POST", "/v1/grids/:grid/external_registries", .operation = "registry.add",
                        .summary = "Add credentials for a registry", .body = create_fields,
                        .handler = create_registry, .status = 201 },
        { "GET", "/v1/external_registries/:grid/:name", .operation = "registry.list",
                        .summary = "A registry that the grid has credentials for",
                        .handler = show_registry },
        { "DELETE", "/v1/external_registries/:grid/:name", .operation = "registry.remove",
                        .summary = "Remove the credentials for a registry", .handler = remove_registry },
};
const size_t n_registry_routes = ELEMENTSOF(registry_routes);
