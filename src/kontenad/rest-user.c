/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "rest-user.h"

#include "identity.h"
#include "json-util.h"
#include "rest-internal.h"
#include "rest-rows.h"
#include "string-util.h"

#define NOT_ALLOWED "Operation not allowed"

static const struct {
        const char *name, *description;
} roles[] = {
        { ROLE_MASTER_ADMIN, "Master admin" },
        { ROLE_USER_ADMIN, "Invite and remove users" },
        { ROLE_GRID_ADMIN, "Grid admin" },
};

static int add_roles(json_object *o, json_object *user) {
        _cleanup_json_ json_object *l = json_object_new_array();
        _cleanup_strv_free_ char **names = NULL;
        int r;

        r = l ? json_find_strv(user, "roles", &names, NULL) : -ENOMEM;
        STRV_FOREACH(name, names) {
                const char *description = *name;
                json_object *role;

                FOREACH_ARRAY(known, roles, ELEMENTSOF(roles))
                        if (streq(known->name, *name))
                                description = known->description;
                role = r >= 0 ? rest_params("name", *name, "description", description, NULL) : NULL;
                if (r >= 0)
                        r = json_append(l, role);
        }
        return r < 0 ? r : json_add(o, "roles", TAKE_PTR(l));
}

static int render(json_object *user, json_object **ret) {
        static const char *const same[] = { "id", "email", NULL };
        _cleanup_json_ json_object *o = json_object_new_object();
        const char *name = NULL;
        int r;

        (void) json_find_string(user, "name", &name, NULL);
        r = o ? rest_copy_fields(o, user, same) : -ENOMEM;
        if (r >= 0)
                r = json_add_string(o, "name", empty_to_null(name));
        if (r >= 0)
                r = add_roles(o, user);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

int rest_reply_users(RestCall *c, json_object *result) {
        _cleanup_json_ json_object *o = json_object_new_object(), *l = json_object_new_array();
        json_object *users = NULL;
        int r = o && l ? 0 : -ENOMEM;

        (void) json_find_array(result, "users", &users, NULL);
        FOREACH_JSON_ARRAY(user, users) {
                json_object *one;

                if (r >= 0)
                        r = render(user, &one);
                if (r >= 0)
                        r = json_append(l, one);
        }
        if (r >= 0)
                r = json_add(o, "users", TAKE_PTR(l));
        return r < 0 ? r : rest_reply(c, rest_route(c)->status ?: 200, TAKE_PTR(o));
}

static void on_user(RestCall *c, json_object *result, const KError *error) {
        json_object *o;
        int r;

        if (kerror_is_set(error)) {
                (void) rest_reply_kerror(c, error);
                return;
        }
        r = render(result, &o);
        rest_finish(c, r < 0 ? r : rest_reply(c, rest_route(c)->status ?: 200, o));
}

static int rest_get_user(RestCall *c, KError *reterr) {
        return rest_call(c, "user.get", NULL, on_user);
}

static void on_users(RestCall *c, json_object *result, const KError *error) {
        if (!kerror_is_set(error))
                rest_finish(c, rest_reply_users(c, result));
        else if (error->code == K_ACCESS_DENIED)
                (void) rest_reply_error(c, 403, NOT_ALLOWED);
        else
                (void) rest_reply_kerror(c, error);
}

static int rest_list_users(RestCall *c, KError *reterr) {
        return rest_call(c, "user.list", NULL, on_users);
}

/* The only map of errors that comes with 400. */
static int reply_user_error(RestCall *c, const char *sentence) {
        _cleanup_json_ json_object *o = json_object_new_object();
        int r;

        r = o ? json_add(o, "error", rest_params("user", sentence, NULL)) : -ENOMEM;
        return r < 0 ? r : rest_reply(c, 400, TAKE_PTR(o));
}

static void on_removed(RestCall *c, json_object *result, const KError *error) {
        if (!kerror_is_set(error))
                (void) rest_reply(c, 200, json_object_new_object());
        else if (error->code == K_ACCESS_DENIED)
                (void) reply_user_error(c, NOT_ALLOWED);
        else if (error->code == K_CONFLICT)
                (void) reply_user_error(c, strstr(kerror_message(error), "yourself")
                                                           ? "Cannot remove itself"
                                                           : kerror_message(error));
        else
                (void) rest_reply_kerror(c, error);
}

static int rest_remove_user(RestCall *c, KError *reterr) {
        return rest_call(c, "user.remove", rest_params("email", rest_segment(c, "email"), NULL), on_removed);
}

static const char *wanted_role(RestCall *c) {
        const char *role = rest_segment(c, "role");

        if (!role)
                (void) json_find_string(rest_body(c), "role", &role, NULL);
        return strempty(role);
}

static void on_role(RestCall *c, json_object *result, const KError *error) {
        _cleanup_free_ char *sentence = NULL;

        if (!kerror_is_set(error))
                on_user(c, result, NULL);
        else if (error->code == K_ACCESS_DENIED)
                (void) rest_reply_field_error(c, "current_user", NOT_ALLOWED);
        else if (error->code == K_INVALID_ARGUMENT && !user_role_is_valid(wanted_role(c))) {
                sentence = strjoin("Role '", wanted_role(c), "' not found");
                (void) rest_reply_field_error(c, "role", sentence ?: "not found");
        } else if (error->code == K_CONFLICT)
                (void) rest_reply_field_error(
                                c, "role", "Not allowed to remove last user from Master admin role");
        else
                (void) rest_reply_kerror(c, error);
}

static int rest_add_role(RestCall *c, KError *reterr) {
        return rest_call(c, "user.add-role",
                        rest_params("email", rest_segment(c, "email"), "role", wanted_role(c), NULL),
                        on_role);
}

static int rest_remove_role(RestCall *c, KError *reterr) {
        return rest_call(c, "user.remove-role",
                        rest_params("email", rest_segment(c, "email"), "role", wanted_role(c), NULL),
                        on_role);
}

static const RestField role_body[] = {
        { .name = "role", .type = REST_STRING, .flags = REST_REQUIRED, .max = 64 },
        {},
};

#define ROUTE(m, p, o, s, h) .method = (m), .pattern = (p), .operation = (o), .summary = (s), .handler = (h)

const RestRoute user_routes[] = {
        { ROUTE("GET", "/v1/user", "user.get", "Who the caller is", rest_get_user) },
        { ROUTE("GET", "/v1/users", "user.list", "All users", rest_list_users) },
        { ROUTE("DELETE", "/v1/users/:email", "user.remove", "Remove a user and their tokens",
                        rest_remove_user) },
        { ROUTE("POST", "/v1/users/:email/roles", "user.add-role", "Give a role", rest_add_role),
                        .body = role_body, .status = 201 },
        { ROUTE("DELETE", "/v1/users/:email/roles/:role", "user.remove-role", "Take a role",
                        rest_remove_role) },
};
const size_t n_user_routes = ELEMENTSOF(user_routes);
