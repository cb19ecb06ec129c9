/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "json-util.h"
#include "rest-render.h"
#include "rest-rows.h"
#include "rest.h"
#include "string-util.h"

/* The vault */

static const RestField create_fields[] = {
        { "name", REST_STRING, REST_REQUIRED, .pattern = "^[A-Za-z0-9_][A-Za-z0-9_-]*$" },
        { "value", REST_STRING, REST_REQUIRED },
        {},
};
static const RestField update_fields[] = {
        { "value", REST_STRING, REST_REQUIRED },
        { "name", REST_STRING, .summary = "With upsert: of the one that is made" },
        { "upsert", REST_BOOLEAN },
        {},
};

static int secret_params(RestCall *c, const char *name, json_object **ret) {
        _cleanup_json_ json_object *o = NULL;
        int r;

        r = rest_grid_params(c, &o);
        REST_ADD(r, json_add_string(o, "name", name));
        if (r < 0)
                return r;
        *ret = TAKE_PTR(o);
        return 0;
}

static int write_params(RestCall *c, const char *name, const char *only, json_object **ret) {
        _cleanup_json_ json_object *o = NULL, *options = json_object_new_object();
        int r;

        r = options ? secret_params(c, name, &o) : -ENOMEM;
        REST_ADD(r, json_add_string(o, "value", rest_body_string(c, "value")));
        REST_ADD(r, json_add_string(options, "only", only));
        REST_ADD(r, json_add(o, "options", TAKE_PTR(options)));
        if (r < 0)
                return r;
        *ret = TAKE_PTR(o);
        return 0;
}

static int reply_secrets(RestCall *c, json_object *secrets) {
        _cleanup_json_ json_object *l = json_object_new_array();
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        int r;

        r = l ? rest_find_grid(c, &g) : -ENOMEM;
        if (r < 0)
                return r;
        FOREACH_JSON_ARRAY(s, secrets) {
                json_object *o;

                r = rest_render_secret(g, s, &o);
                if (r >= 0)
                        r = json_append(l, o);
                if (r < 0)
                        return r;
        }
        return rest_reply_list(c, "secrets", TAKE_PTR(l));
}

static void on_listed(RestCall *c, json_object *result, const KError *error) {
        json_object *secrets = NULL;

        if (error) {
                (void) rest_reply_kerror(c, error);
                return;
        }
        (void) json_find_array(result, "secrets", &secrets, NULL);
        rest_finish(c, reply_secrets(c, secrets));
}

static int list_secrets(RestCall *c, KError *reterr) {
        json_object *params;
        int r;

        r = rest_grid_params(c, &params);
        return r < 0 ? r : rest_call(c, "vault.list", params, on_listed);
}

/* What was just written is what was sent: reading it from the vault would be audited as somebody's look at it. */
static int reply_written(RestCall *c, int status, const char *name) {
        _cleanup_json_ json_object *secret = json_object_new_object();
        _cleanup_(secret_row_freep) SecretRow *row = NULL;
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        json_object *o, *services = rest_userdata(c);
        int r;

        r = secret ? rest_find_grid(c, &g) : -ENOMEM;
        if (r >= 0)
                r = store_find_secret(rest_master(c)->store, g->id, name, &row);
        if (r < 0)
                return r;
        r = json_add_string(secret, "name", name);
        REST_ADD(r, json_add_u64(secret, "created_at", row->created_at));
        REST_ADD(r, json_add_string(secret, "value", rest_body_string(c, "value")));
        if (services)
                REST_ADD(r, json_add(secret, "services", json_object_get(services)));
        REST_ADD(r, rest_render_secret(g, secret, &o));
        return r < 0 ? r : rest_reply(c, status, o);
}

static void put_json(void *userdata) {
        json_object_put(userdata);
}

static void take_services(RestCall *c, json_object *result) {
        json_object *services = NULL;

        (void) json_find_array(result, "services", &services, NULL);
        if (services)
                rest_set_userdata(c, json_object_get(services), put_json);
}

static void on_created(RestCall *c, json_object *result, const KError *error) {
        if (error && error->code == K_ALREADY_EXISTS)
                (void) rest_reply_field_error(c, "name", "is already taken");
        else if (error)
                rest_fail(c, error, "name");
        else {
                take_services(c, result);
                rest_finish(c, reply_written(c, 201, rest_body_string(c, "name")));
        }
}

static int create_secret(RestCall *c, KError *reterr) {
        json_object *params;
        int r;

        r = write_params(c, rest_body_string(c, "name"), "new", &params);
        return r < 0 ? r : rest_call(c, "vault.write", params, on_created);
}

static void on_shown(RestCall *c, json_object *result, const KError *error) {
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        json_object *o;
        int r;

        if (error) {
                (void) rest_reply_kerror(c, error);
                return;
        }
        r = rest_find_grid(c, &g);
        if (r >= 0)
                r = rest_render_secret(g, result, &o);
        rest_finish(c, r < 0 ? r : rest_reply(c, 200, o));
}

static int show_secret(RestCall *c, KError *reterr) {
        json_object *params;
        int r;

        r = secret_params(c, strempty(rest_segment(c, "name")), &params);
        return r < 0 ? r : rest_call(c, "vault.read", params, on_shown);
}

static void on_updated(RestCall *c, json_object *result, const KError *error) {
        const char *name = strempty(rest_segment(c, "name"));
        bool upsert = false;
        json_object *params;
        int r;

        if (!error) {
                take_services(c, result);
                rest_finish(c, reply_written(c, 200, name));
                return;
        }
        (void) json_find_bool(rest_body(c), "upsert", &upsert, NULL);
        if (error->code != K_NO_SUCH_SECRET)
                rest_fail(c, error, "value");
        else if (!upsert)
                rest_finish(c, rest_reply_empty(c, 404));
        else if (isempty(rest_body_string(c, "name")))
                (void) rest_reply_field_error(c, "name", "Name is required");
        else {
                r = write_params(c, rest_body_string(c, "name"), "new", &params);
                rest_finish(c, r < 0 ? r : rest_call(c, "vault.write", params, on_created));
        }
}

static int update_secret(RestCall *c, KError *reterr) {
        json_object *params;
        int r;

        r = write_params(c, strempty(rest_segment(c, "name")), "existing", &params);
        return r < 0 ? r : rest_call(c, "vault.write", params, on_updated);
}

static void on_removed(RestCall *c, json_object *result, const KError *error) {
        if (!error)
                rest_finish(c, rest_reply_nothing(c, 200));
        else if (error->code == K_IN_USE) /* as the reference has it, with the reason */
                (void) rest_reply_error(c, 404, kerror_message(error));
        else
                (void) rest_reply_kerror(c, error);
}

static int remove_secret(RestCall *c, KError *reterr) {
        json_object *params;
        int r;

        r = secret_params(c, strempty(rest_segment(c, "name")), &params);
        return r < 0 ? r : rest_call(c, "vault.remove", params, on_removed);
}

const RestRoute secret_routes[] = {
        { "GET", "/v1/grids/:grid/secrets", .operation = "vault.list", .summary = "Names in the vault",
                        .handler = list_secrets },
        { "POST", "/v1/grids/:grid/secrets", .operation = "vault.write",
                        .summary = "Put a secret into the vault", .body = create_fields,
                        .handler = create_secret, .status = 201 },
        { "PUT", "/v1/grids/:grid/secrets/:name", .operation = "vault.write",
                        .summary = "As PUT /v1/secrets/:grid/:name", .body = update_fields,
                        .handler = update_secret },
        { "GET", "/v1/secrets/:grid/:name", .operation = "vault.read", .summary = "A secret and its value",
                        .handler = show_secret },
        { "PUT", "/v1/secrets/:grid/:name", .operation = "vault.write", .summary = "Change a secret",
                        .body = update_fields, .handler = update_secret },
        { "DELETE", "/v1/secrets/:grid/:name", .operation = "vault.remove", .summary = "Remove a secret",
                        .handler = remove_secret },
};
const size_t n_secret_routes = ELEMENTSOF(secret_routes);
