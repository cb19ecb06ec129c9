/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "identity.h"
#include "operation.h"
#include "string-util.h"

static int render_members(OperationCall *c, json_object **ret) {
        _cleanup_(user_row_list_done) UserRowList l = {};
        int r;

        r = store_list_grid_users(c->master->store, c->grid->id, &l);
        return r < 0 ? r : render_users(c->master, &l, ret);
}

static int grid_list_users(OperationCall *c, json_object **ret, KError *reterr) {
        return render_members(c, ret);
}

static int grid_add_user(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_(user_row_freep) UserRow *user = NULL;
        int r;

        r = call_user(c, "email", &user, reterr);
        if (r >= 0)
                r = store_add_grid_user(c->master->store, c->grid->id, user->id);
        return r < 0 ? r : render_members(c, ret);
}

static int grid_remove_user(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_(user_row_list_done) UserRowList l = {};
        _cleanup_(user_row_freep) UserRow *user = NULL;
        int r;

        r = call_user(c, "email", &user, reterr);
        if (r >= 0)
                r = store_is_grid_user(c->master->store, c->grid->id, user->id);
        if (r == 0)
                return kerror_set(reterr, K_NO_SUCH_USER, "'%s' is no member of grid '%s'.", user->email,
                                c->grid->name);
        if (r >= 0)
                r = store_list_grid_users(c->master->store, c->grid->id, &l);
        if (r < 0)
                return r;
        if (l.n < 2)
                return kerror_set(reterr, K_CONFLICT, "'%s' is the last member of grid '%s'.", user->email,
                                c->grid->name);
        r = store_remove_grid_user(c->master->store, c->grid->id, user->id);
        return r < 0 ? r : render_members(c, ret);
}

#define MEMBER_PARAMETERS                                                                                   \
        { "grid", PARAMETER_STRING, true }, {                                                               \
                "email", PARAMETER_STRING, true                                                             \
        }

const Operation member_operations[] = {
        {
                        .name = "grid.list-users",
                        .method = "ListGridUsers",
                        .action = "io.kontena.master1.manage-users",
                        .role = "member",
                        .flags = OPERATION_GRID,
                        .parameters = { { "grid", PARAMETER_STRING, true } },
                        .results = { "users" },
                        .perform = grid_list_users,
        },
        {
                        .name = "grid.add-user",
                        .method = "AddGridUser",
                        .action = "io.kontena.master1.manage-users",
                        .role = "members_admin",
                        .flags = OPERATION_CHANGES | OPERATION_AUDITED | OPERATION_GRID,
                        .parameters = { MEMBER_PARAMETERS },
                        .results = { "users" },
                        .perform = grid_add_user,
        },
        {
                        .name = "grid.remove-user",
                        .method = "RemoveGridUser",
                        .action = "io.kontena.master1.manage-users",
                        .role = "members_admin",
                        .flags = OPERATION_CHANGES | OPERATION_AUDITED | OPERATION_GRID,
                        .parameters = { MEMBER_PARAMETERS },
                        .results = { "users" },
                        .perform = grid_remove_user,
        },
};
const size_t n_member_operations = ELEMENTSOF(member_operations);
