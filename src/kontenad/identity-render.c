/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "identity.h"

#include "file-util.h"
#include "json-util.h"
#include "master-config.h"
#include "string-util.h"

/* roles as they have effect: the first administrator has his for ever. */
static int add_roles(json_object *o, const UserRow *row) {
        _cleanup_strv_free_ char **l = strv_copy(row->roles);
        int r;

        if (row->roles && !l)
                return -ENOMEM;
        if (streq(row->email, EMAIL_ADMIN) && !strv_contains(l, ROLE_MASTER_ADMIN)) {
                r = strv_extend(&l, ROLE_MASTER_ADMIN);
                if (r < 0)
                        return r;
        }
        return json_add_strv(o, "roles", l);
}

int render_user(Master *m, const UserRow *row, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();
        _cleanup_(grid_row_list_done) GridRowList grids = {};
        _cleanup_strv_free_ char **names = NULL, **uids = NULL;
        int r;

        if (!o)
                return -ENOMEM;
        r = store_list_user_grids(m->store, row->id, &grids);
        FOREACH_ARRAY(g, grids.rows, grids.n)
                if (r >= 0)
                        r = strv_extend(&names, (*g)->name);
        if (r >= 0)
                r = store_list_uids(m->store, row->id, &uids);
        if (r < 0)
                return r;

        if (json_add_string(o, "id", row->id) < 0 || json_add_string(o, "email", row->email) < 0 ||
                        json_add_string(o, "name", strempty(row->name)) < 0 || add_roles(o, row) < 0 ||
                        json_add_strv(o, "grids", names) < 0 || json_add_strv(o, "uids", uids) < 0 ||
                        json_add_bool(o, "invited", row->invite_expires_at > now_realtime()) < 0 ||
                        json_add_u64(o, "created_at", row->created_at) < 0)
                return -ENOMEM;

        *ret = TAKE_PTR(o);
        return 0;
}

int render_users(Master *m, const UserRowList *l, json_object **ret) {
        _cleanup_json_ json_object *array = json_object_new_array();
        int r;

        if (!array)
                return -ENOMEM;
        FOREACH_ARRAY(row, l->rows, l->n) {
                json_object *user;

                r = render_user(m, *row, &user);
                if (r >= 0)
                        r = json_append(array, user);
                if (r < 0)
                        return r;
        }
        return json_wrap("users", TAKE_PTR(array), ret);
}

static int add_user(json_object *o, const UserRow *user) {
        _cleanup_json_ json_object *u = json_object_new_object();

        if (!u || json_add_string(u, "id", user->id) < 0 || json_add_string(u, "email", user->email) < 0 ||
                        json_add_string(u, "name", strempty(user->name)) < 0)
                return -ENOMEM;
        return json_add(o, "user", TAKE_PTR(u));
}

static int add_server(Master *m, json_object *o) {
        _cleanup_json_ json_object *s = json_object_new_object();
        _cleanup_free_ char *name = NULL;
        int r;

        r = master_config_get(m, "server.name", &name);
        if (r < 0 && r != -ENOENT)
                return r;
        if (!s || json_add_string(s, "name", strempty(name)) < 0)
                return -ENOMEM;
        return json_add(o, "server", TAKE_PTR(s));
}

int render_token(Master *m, const TokenRow *row, const UserRow *user, const IssuedToken *plain,
                json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();
        uint64_t now = now_realtime();
        bool code = row->kind == TOKEN_CODE;
        int r = 0;

        if (!o)
                return -ENOMEM;
        if (json_add_string(o, "id", row->id) < 0 ||
                        json_add_string(o, "kind", token_kind_to_string(row->kind)) < 0 ||
                        json_add_strv(o, "scopes", row->scopes) < 0 ||
                        json_add_string(o, "description", strempty(row->description)) < 0 ||
                        json_add_u64(o, "created_at", row->created_at) < 0 ||
                        json_add_u64(o, "used_at", row->used_at) < 0 ||
                        json_add_u64(o, "expires_at", row->expires_at) < 0 || add_user(o, user) < 0)
                return -ENOMEM;
        if (row->expires_at > 0) /* negative when it has */
                r = json_add_i64(o, "expires_in",
                                ((int64_t) row->expires_at - (int64_t) now) / (int64_t) USEC_PER_SEC);
        if (r >= 0 && code)
                r = json_add_u64(o, "code_expires_at", row->ends_at);
        if (r >= 0)
                r = json_add_string(o, code ? "code_last_four" : "access_token_last_four", row->last_four);
        if (r >= 0 && row->refresh_last_four)
                r = json_add_string(o, "refresh_token_last_four", row->refresh_last_four);
        if (r >= 0 && plain)
                r = json_add_string(o, code ? "code" : "access_token", plain->token);
        if (r >= 0 && plain && plain->refresh)
                r = json_add_string(o, "refresh_token", plain->refresh);
        if (r >= 0)
                r = add_server(m, o);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}
