/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "json-util.h"
#include "rest-render.h"
#include "rest-rows.h"
#include "rest.h"
#include "string-util.h"

static const char *const scopes[] = { "instance", "stack", "grid", NULL };

static const RestField create_fields[] = {
        { "name", REST_STRING, REST_REQUIRED, .pattern = "^[A-Za-z0-9_][A-Za-z0-9_-]*$" },
        { "scope", REST_STRING, REST_REQUIRED, .options = scopes },
        { "driver", REST_STRING, REST_REQUIRED, .summary = "\"local\"" },
        { "driver_opts", REST_OBJECT },
        {},
};

static int reply_volume(RestCall *c, int status, json_object *volume) {
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        json_object *o;
        int r;

        r = rest_find_grid(c, &g);
        if (r >= 0)
                r = rest_render_volume(g, volume, &o);
        return r < 0 ? r : rest_reply(c, status, o);
}

static void fail(RestCall *c, const KError *error, const char *name) {
        _cleanup_free_ char *text = NULL;

        if (error->code != K_NO_SUCH_VOLUME) {
                (void) rest_reply_kerror(c, error);
                return;
        }
        text = strjoin("Volume ", name, " not found");
        rest_finish(c, text ? rest_reply_error(c, 404, text) : -ENOMEM);
}

static int volume_params(RestCall *c, const char *name, json_object **ret) {
        _cleanup_json_ json_object *o = NULL;
        int r;

        r = rest_grid_params(c, &o);
        REST_ADD(r, json_add_string(o, "volume", name));
        if (r < 0)
                return r;
        *ret = TAKE_PTR(o);
        return 0;
}

/* The list alone does not say where they are: each is asked for, one after the other. */
typedef struct Listing {
        json_object *names, *volumes;
        size_t next;
} Listing;

static void listing_free(void *userdata) {
        Listing *l = userdata;

        json_object_put(l->names);
        json_object_put(l->volumes);
        free(l);
}

static int list_next(RestCall *c);

static void on_listed_one(RestCall *c, json_object *result, const KError *error) {
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        Listing *l = rest_userdata(c);
        json_object *o;
        int r = 0;

        if (error && error->code != K_NO_SUCH_VOLUME) { /* that one went meanwhile */
                (void) rest_reply_kerror(c, error);
                return;
        }
        if (!error) {
                r = rest_find_grid(c, &g);
                if (r >= 0)
                        r = rest_render_volume(g, result, &o);
                if (r >= 0)
                        r = json_append(l->volumes, o);
        }
        rest_finish(c, r < 0 ? r : list_next(c));
}

static int list_next(RestCall *c) {
        Listing *l = rest_userdata(c);
        json_object *params;
        int r;

        if (l->next >= json_object_array_length(l->names))
                return rest_reply_list(c, "volumes", json_object_get(l->volumes));
        r = volume_params(
                        c, json_object_get_string(json_object_array_get_idx(l->names, l->next++)), &params);
        return r < 0 ? r : rest_call(c, "volume.get", params, on_listed_one);
}

static void on_listed(RestCall *c, json_object *result, const KError *error) {
        json_object *volumes = NULL;
        Listing *l;
        int r = 0;

        if (error) {
                (void) rest_reply_kerror(c, error);
                return;
        }
        l = new0(Listing, 1);
        if (!l) {
                rest_finish(c, -ENOMEM);
                return;
        }
        rest_set_userdata(c, l, listing_free);
        l->names = json_object_new_array();
        l->volumes = json_object_new_array();
        if (!l->names || !l->volumes)
                r = -ENOMEM;
        (void) json_find_array(result, "volumes", &volumes, NULL);
        FOREACH_JSON_ARRAY(v, volumes) {
                const char *name = "";

                (void) json_find_string(v, "name", &name, NULL);
                REST_ADD(r, json_append_string(l->names, name));
        }
        rest_finish(c, r < 0 ? r : list_next(c));
}

static int list_volumes(RestCall *c, KError *reterr) {
        json_object *params;
        int r;

        r = rest_grid_params(c, &params);
        return r < 0 ? r : rest_call(c, "volume.list", params, on_listed);
}

static void on_shown(RestCall *c, json_object *result, const KError *error) {
        if (error)
                fail(c, error, strempty(rest_segment(c, "volume")));
        else
                rest_finish(c, reply_volume(c, 200, result));
}

static int show_volume(RestCall *c, KError *reterr) {
        json_object *params;
        int r;

        r = volume_params(c, strempty(rest_segment(c, "volume")), &params);
        return r < 0 ? r : rest_call(c, "volume.get", params, on_shown);
}

static void on_made_shown(RestCall *c, json_object *result, const KError *error) {
        if (error)
                (void) rest_reply_kerror(c, error);
        else
                rest_finish(c, reply_volume(c, 201, result));
}

static void on_created(RestCall *c, json_object *result, const KError *error) {
        json_object *params;
        int r;

        if (error && error->code == K_ALREADY_EXISTS)
                (void) rest_reply_field_error(c, "name", "Volume with given name already exists");
        else if (error && error->code == K_NOT_SUPPORTED)
                (void) rest_reply_field_error(c, "driver", kerror_message(error));
        else if (error)
                rest_fail(c, error, strstr(kerror_message(error), "option") ? "driver_opts" : "name");
        else {
                r = volume_params(c, rest_body_string(c, "name"), &params);
                rest_finish(c, r < 0 ? r : rest_call(c, "volume.get", params, on_made_shown));
        }
}

static int create_volume(RestCall *c, KError *reterr) {
        _cleanup_json_ json_object *params = NULL, *settings = json_object_new_object();
        json_object *options = NULL;
        int r;

        if (strchr(rest_body_string(c, "driver"), ':'))
                return rest_reply_field_error(c, "driver", "Driver version tag cannot be used");
        (void) json_find_object(rest_body(c), "driver_opts", &options, NULL);
        r = settings ? rest_grid_params(c, &params) : -ENOMEM;
        REST_ADD(r, json_add_string(settings, "driver", rest_body_string(c, "driver")));
        REST_ADD(r, json_add_string(settings, "scope", rest_body_string(c, "scope")));
        if (options)
                REST_ADD(r, json_add(settings, "options", json_object_get(options)));
        REST_ADD(r, json_add(params, "settings", TAKE_PTR(settings)));
        REST_ADD(r, json_add_string(params, "name", rest_body_string(c, "name")));
        return r < 0 ? r : rest_call(c, "volume.create", TAKE_PTR(params), on_created);
}

static void on_removed(RestCall *c, json_object *result, const KError *error) {
        const char *name = strempty(rest_segment(c, "volume"));

        if (!error)
                rest_finish(c, rest_reply_nothing(c, 200));
        else if (error->code == K_IN_USE) {
                const char *users = strstr(kerror_message(error), ": ");
                size_t n = users ? strcspn(users + 2, ".") : 0;
                _cleanup_free_ char *text = strprintf(
                                "Volume still in use in services [%.*s]", (int) n, users ? users + 2 : "");

                rest_finish(c, text ? rest_reply_field_error(c, name, text) : -ENOMEM);
        } else
                fail(c, error, name);
}

static int remove_volume(RestCall *c, KError *reterr) {
        json_object *params;
        int r;

        r = volume_params(c, strempty(rest_segment(c, "volume")), &params);
        return r < 0 ? r : rest_call(c, "volume.remove", params, on_removed);
}

#define V "/v1/volumes/:grid"

const RestRoute volume_routes[] = {
        { "GET", V, .operation = "volume.list", .summary = "Volumes of a grid", .handler = list_volumes },
        { "POST", V, .operation = "volume.create", .summary = "Make a volume", .body = create_fields,
                        .handler = create_volume, .status = 201 },
        { "GET", V "/:volume", .operation = "volume.get", .summary = "A volume", .handler = show_volume },
        { "DELETE", V "/:volume", .operation = "volume.remove",
                        .summary = "Remove a volume with what is in it", .handler = remove_volume },
};
const size_t n_volume_routes = ELEMENTSOF(volume_routes);
