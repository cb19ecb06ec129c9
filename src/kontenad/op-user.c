/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "file-util.h"
#include "identity.h"
#include "json-util.h"
#include "keyring.h"
#include "kontena-limits.h"
#include "operation.h"
#include "string-util.h"

static int user_get(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_(user_row_freep) UserRow *row = NULL;
        int r;

        r = call_user(c, "email", &row, reterr);
        return r < 0 ? r : render_user(c->master, row, ret);
}

static int user_list(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_(user_row_list_done) UserRowList l = {};
        int r;

        r = store_list_users(c->master->store, &l);
        return r < 0 ? r : render_users(c->master, &l, ret);
}

static int check_not_last(OperationCall *c, const UserRow *row, KError *reterr) {
        uint64_t others = 0;
        int r;

        if (!user_has_role(row, ROLE_MASTER_ADMIN))
                return 0;
        r = store_count_users_with_role(c->master->store, ROLE_MASTER_ADMIN, row->id, &others);
        if (r < 0)
                return r;
        if (others == 0)
                return kerror_set(reterr, K_CONFLICT, "'%s' is the last one with the role %s.", row->email,
                                ROLE_MASTER_ADMIN);
        return 0;
}

static int user_remove(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_(user_row_freep) UserRow *row = NULL;
        int r;

        r = call_user(c, "email", &row, reterr);
        if (r < 0)
                return r;
        if (c->caller->user && streq(c->caller->user, row->email))
                return kerror_set(reterr, K_CONFLICT, "You cannot remove yourself.");
        if (user_has_role(row, ROLE_MASTER_ADMIN) && !call_is_admin(c))
                return kerror_set(
                                reterr, K_ACCESS_DENIED, "Only a %s can remove another.", ROLE_MASTER_ADMIN);
        r = check_not_last(c, row, reterr);
        return r < 0 ? r : store_delete_user(c->master->store, row->id);
}

static int get_role(OperationCall *c, const char **ret, KError *reterr) {
        int r;

        r = call_string(c, "role", ret, reterr);
        if (r < 0)
                return r;
        if (!user_role_is_valid(*ret))
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "There is no role '%s'; there are %s, %s and %s.", *ret, ROLE_MASTER_ADMIN,
                                ROLE_USER_ADMIN, ROLE_GRID_ADMIN);
        return 0;
}

static int user_add_role(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_(user_row_freep) UserRow *row = NULL;
        const char *role = "";
        int r;

        r = call_user(c, "email", &row, reterr);
        if (r >= 0)
                r = get_role(c, &role, reterr);
        if (r < 0)
                return r;
        if (!strv_contains(row->roles, role)) {
                r = strv_extend(&row->roles, role);
                if (r < 0)
                        return r;
                row->updated_at = now_realtime();
                r = store_put_user(c->master->store, row);
                if (r < 0)
                        return r;
        }

        return render_user(c->master, row, ret);
}

static void strv_drop(char **l, const char *s) {
        char **to = l;

        for (char **from = l; from && *from; from++)
                if (streq(*from, s))
                        free(*from);
                else
                        *to++ = *from;
        if (to)
                *to = NULL;
}

static int user_remove_role(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_(user_row_freep) UserRow *row = NULL;
        const char *role = "";
        int r;

        r = call_user(c, "email", &row, reterr);
        if (r >= 0)
                r = get_role(c, &role, reterr);
        if (r >= 0 && streq(role, ROLE_MASTER_ADMIN)) {
                if (streq(row->email, EMAIL_ADMIN))
                        return kerror_set(reterr, K_CONFLICT, "'%s' is always %s; remove the user instead.",
                                        EMAIL_ADMIN, ROLE_MASTER_ADMIN);
                r = check_not_last(c, row, reterr);
        }
        if (r < 0)
                return r;
        if (strv_contains(row->roles, role)) {
                strv_drop(row->roles, role);
                row->updated_at = now_realtime();
                r = store_put_user(c->master->store, row);
                if (r < 0)
                        return r;
        }

        return render_user(c->master, row, ret);
}

/* Invitations */

typedef struct Invitation {
        char *email; /* owned */
        const char *name, *external_id;
        char **roles; /* owned */
} Invitation;

static void invitation_done(Invitation *i) {
        free(i->email);
        strv_free(i->roles);
}

static int read_invitation(OperationCall *c, Invitation *i, KError *reterr) {
        const char *email;
        int r;

        r = call_string(c, "email", &email, reterr);
        if (r >= 0)
                r = email_normalize(email, &i->email, reterr);
        if (r >= 0)
                r = call_string(c, "name", &i->name, reterr);
        if (r >= 0)
                r = call_string(c, "external_id", &i->external_id, reterr);
        if (r >= 0)
                r = json_find_strv(c->parameters, "roles", &i->roles, reterr);
        if (r < 0)
                return r;
        if (streq(i->email, EMAIL_ADMIN))
                return kerror_set(reterr, K_CONFLICT,
                                "'%s' comes in with a code of 'kontenactl master admin-code'.", EMAIL_ADMIN);
        STRV_FOREACH(role, i->roles)
                if (!user_role_is_valid(*role))
                        return kerror_set(reterr, K_INVALID_ARGUMENT, "There is no role '%s'.", *role);
        if (i->roles && i->roles[0] && !call_is_admin(c))
                return kerror_set(reterr, K_ACCESS_DENIED, "Only a %s can give roles.", ROLE_MASTER_ADMIN);

        return 0;
}

/* Whether the caller sees all that the user was given before coming: grids, and users of the master's machine. */
static int is_within(OperationCall *c, const UserRow *row) {
        _cleanup_(grid_row_list_done) GridRowList grids = {};
        const UserRow *caller = caller_user(c->caller);
        _cleanup_strv_free_ char **uids = NULL;
        int r;

        r = store_list_uids(c->master->store, row->id, &uids);
        if (r >= 0)
                r = store_list_user_grids(c->master->store, row->id, &grids);
        if (r < 0)
                return r;
        if (strv_length(uids) > 0)
                return false;
        FOREACH_ARRAY(g, grids.rows, grids.n) {
                r = caller ? store_is_grid_user(c->master->store, (*g)->id, caller->id) : 0;
                if (r <= 0)
                        return r;
        }
        return true;
}

/* Whoever has the code becomes that user. So that a user_admin cannot become one who may more, those who are there already, or
 * are awaited in grids of others, are invited again by a master_admin only. */
static int find_invited(OperationCall *c, const Invitation *i, UserRow **ret, KError *reterr) {
        _cleanup_(user_row_freep) UserRow *row = NULL;
        uint64_t tokens = 0;
        int r;

        r = store_find_user(c->master->store, i->email, &row);
        if (r == -ENOENT && !isempty(i->external_id))
                r = store_find_user_by_external_id(c->master->store, i->external_id, &row);
        if (r < 0)
                return r;
        r = store_count_tokens(c->master->store, row->id, &tokens);
        if (r < 0)
                return r;
        if ((row->external_id || tokens > 0 || (row->roles && row->roles[0])) && !call_is_admin(c))
                return kerror_set(reterr, K_ACCESS_DENIED,
                                "'%s' is here already; only a %s can invite them again.", row->email,
                                ROLE_MASTER_ADMIN);
        r = call_is_admin(c) ? true : is_within(c, row);
        if (r < 0)
                return r;
        if (r == 0)
                return kerror_set(reterr, K_ACCESS_DENIED,
                                "'%s' was given more than you have yourself; only a %s can invite them "
                                "again.",
                                row->email, ROLE_MASTER_ADMIN);

        *ret = TAKE_PTR(row);
        return 0;
}

static int new_user(OperationCall *c, const Invitation *i, UserRow **ret, KError *reterr) {
        _cleanup_(user_row_list_done) UserRowList all = {};
        _cleanup_(user_row_freep) UserRow *row = NULL;
        int r;

        r = store_list_users(c->master->store, &all);
        if (r < 0)
                return r;
        if (all.n >= USERS_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "There are %zu users, more are not possible.",
                                all.n);

        row = new0(UserRow, 1);
        if (!row)
                return -ENOMEM;
        row->id = store_new_id();
        row->email = strdup(i->email);
        row->created_at = now_realtime();
        if (!row->id || !row->email)
                return -ENOMEM;
        if (!isempty(i->external_id)) {
                _cleanup_(user_row_freep) UserRow *other = NULL;

                r = store_find_user_by_external_id(c->master->store, i->external_id, &other);
                if (r >= 0)
                        return kerror_set(reterr, K_ALREADY_EXISTS, "'%s' has that external id already.",
                                        other->email);
                if (r != -ENOENT)
                        return r;
                row->external_id = strdup(i->external_id);
                if (!row->external_id)
                        return -ENOMEM;
        }

        *ret = TAKE_PTR(row);
        return 0;
}

static int user_invite(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_(invitation_done) Invitation i = {};
        _cleanup_(user_row_freep) UserRow *row = NULL;
        _cleanup_json_ json_object *o = json_object_new_object();
        _cleanup_erase_ char *code = NULL;
        json_object *user;
        int r;

        if (!o)
                return -ENOMEM;
        r = read_invitation(c, &i, reterr);
        if (r < 0)
                return r;
        r = find_invited(c, &i, &row, reterr);
        if (r == -ENOENT)
                r = new_user(c, &i, &row, reterr);
        if (r >= 0 && !isempty(i.name))
                r = free_and_strdup(&row->name, i.name);
        if (r >= 0)
                r = random_hex(6, &code);
        if (r < 0)
                return r;
        STRV_FOREACH(role, i.roles)
                if (!strv_contains(row->roles, *role) && strv_extend(&row->roles, *role) < 0)
                        return -ENOMEM;
        keyring_hash_token(c->master->keyring, code, row->invite_hash);
        row->invite_expires_at = now_realtime() + INVITE_LIFETIME_USEC;
        row->updated_at = now_realtime();
        r = store_put_user(c->master->store, row);
        if (r < 0)
                return r;

        r = render_user(c->master, row, &user);
        if (r >= 0)
                r = json_add(o, "user", user);
        if (r >= 0)
                r = json_add_string(o, "email", row->email);
        if (r >= 0)
                r = json_add_u64(o, "invite_expires_at", row->invite_expires_at);
        if (r >= 0)
                r = json_add_string(o, "invite_code", code);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

/* Linux users */

static int get_uid(OperationCall *c, uid_t *ret, KError *reterr) {
        uint64_t uid = 0;
        int r;

        r = json_get_u64(c->parameters, "uid", &uid, reterr);
        if (r < 0)
                return r;
        if (uid >= UINT32_MAX)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "There is no uid %llu.",
                                (unsigned long long) uid);
        *ret = (uid_t) uid;
        return 0;
}

static int user_map_uid(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_(user_row_freep) UserRow *row = NULL;
        _cleanup_strv_free_ char **uids = NULL;
        uid_t uid = (uid_t) -1;
        int r;

        r = call_user(c, "email", &row, reterr);
        if (r >= 0)
                r = get_uid(c, &uid, reterr);
        if (r >= 0)
                r = store_list_uids(c->master->store, row->id, &uids);
        if (r < 0)
                return r;
        if (strv_length(uids) >= UIDS_PER_USER_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "'%s' has %u uids, more are not possible.",
                                row->email, UIDS_PER_USER_MAX);
        r = store_put_uid(c->master->store, uid, row->id);
        if (r == -EEXIST)
                return kerror_set(reterr, K_ALREADY_EXISTS, "The uid %u is another user's.", uid);
        return r < 0 ? r : render_user(c->master, row, ret);
}

static int user_unmap_uid(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_(user_row_freep) UserRow *row = NULL;
        uid_t uid = (uid_t) -1;
        int r;

        r = call_user(c, "email", &row, reterr);
        if (r >= 0)
                r = get_uid(c, &uid, reterr);
        if (r < 0)
                return r;
        r = store_delete_uid(c->master->store, uid, row->id);
        if (r == -ENOENT)
                return kerror_set(reterr, K_NO_SUCH_USER, "The uid %u is not mapped to '%s'.", uid,
                                row->email);
        return r < 0 ? r : render_user(c->master, row, ret);
}

#define CHANGE OPERATION_CHANGES | OPERATION_AUDITED
#define EMAIL                                                                                               \
        { "email", PARAMETER_STRING, true }

const Operation user_operations[] = {
        {
                        .name = "user.get",
                        .method = "GetUser",
                        .action = "io.kontena.master1.manage-users",
                        .role = "user_admin",
                        .own = "email",
                        .own_action = "io.kontena.master1.read",
                        .own_role = "user",
                        .parameters = { { "email", PARAMETER_STRING, false } },
                        .results = { "" },
                        .perform = user_get,
        },
        {
                        .name = "user.list",
                        .method = "ListUsers",
                        .action = "io.kontena.master1.manage-users",
                        .role = "user_admin",
                        .results = { "users" },
                        .perform = user_list,
        },
        {
                        .name = "user.remove",
                        .method = "RemoveUser",
                        .action = "io.kontena.master1.manage-users",
                        .role = "user_admin",
                        .flags = CHANGE,
                        .parameters = { EMAIL },
                        .perform = user_remove,
        },
        {
                        .name = "user.add-role",
                        .method = "AddUserRole",
                        .action = "io.kontena.master1.manage-users",
                        .role = "master_admin",
                        .flags = CHANGE,
                        .parameters = { EMAIL, { "role", PARAMETER_STRING, true } },
                        .results = { "" },
                        .perform = user_add_role,
        },
        {
                        .name = "user.remove-role",
                        .method = "RemoveUserRole",
                        .action = "io.kontena.master1.manage-users",
                        .role = "master_admin",
                        .flags = CHANGE,
                        .parameters = { EMAIL, { "role", PARAMETER_STRING, true } },
                        .results = { "" },
                        .perform = user_remove_role,
        },
        {
                        .name = "user.invite",
                        .method = "InviteUser",
                        .action = "io.kontena.master1.manage-users",
                        .role = "user_admin",
                        .flags = CHANGE | OPERATION_SECRET,
                        .parameters = { EMAIL, { "name", PARAMETER_STRING, false },
                                        { "external_id", PARAMETER_STRING, false },
                                        { "roles", PARAMETER_STRINGS, false } },
                        .results = { "" },
                        .perform = user_invite,
        },
        {
                        .name = "user.map-uid",
                        .method = "MapUser",
                        .action = "io.kontena.master1.manage-users",
                        .role = "master_admin",
                        .flags = CHANGE,
                        .parameters = { EMAIL, { "uid", PARAMETER_U32, true } },
                        .results = { "" },
                        .perform = user_map_uid,
        },
        {
                        .name = "user.unmap-uid",
                        .method = "UnmapUser",
                        .action = "io.kontena.master1.manage-users",
                        .role = "master_admin",
                        .flags = CHANGE,
                        .parameters = { EMAIL, { "uid", PARAMETER_U32, true } },
                        .results = { "" },
                        .perform = user_unmap_uid,
        },
};
const size_t n_user_operations = ELEMENTSOF(user_operations);
