/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <pwd.h>

#include "confirm.h"
#include "ctl.h"
#include "json-util.h"
#include "parse-util.h"
#include "string-util.h"

static const TableColumn user_columns[] = {
        { .title = "EMAIL", .key = "email", .shrink = 20 },
        { .title = "NAME", .key = "name", .shrink = 12 },
        { .title = "ROLES", .key = "roles", .shrink = 12 },
        { .title = "GRIDS", .key = "grids", .shrink = 12 },
        { .title = "INVITED", .key = "invited", .format = format_yes_no },
        {},
};

static const TableColumn user_fields[] = {
        { .title = "E-mail", .key = "email" },
        { .title = "Name", .key = "name" },
        { .title = "Roles", .key = "roles" },
        { .title = "Grids", .key = "grids" },
        { .title = "Linux users", .key = "uids" },
        { .title = "Invited", .key = "invited", .format = format_yes_no },
        { .title = "Since", .key = "created_at", .format = format_absolute_time },
        {},
};

static const TableColumn invitation_fields[] = {
        { .title = "E-mail", .key = "email" },
        { .title = "Invite code", .key = "invite_code" },
        { .title = "Until", .key = "invite_expires_at", .format = format_absolute_time },
        {},
};

int command_user_list(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_json_ json_object *rows = NULL;
        int r;

        r = ctl_call_json(c, "ListUsers", &rows, reterr, NULL);
        if (r < 0)
                return r;
        return ctl_print_rows(c, user_columns, rows,
                        "No users yet; 'kontenactl master admin-code' lets the first one in.", reterr);
}

/* Without an argument: whom the caller is mapped to. */
int command_user_show(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_json_ json_object *user = NULL;
        int r;

        r = ctl_call_json(c, "GetUser", &user, reterr, "s", strempty(arguments_arg(a, 0)));
        return r < 0 ? r : ctl_print_record(c, user_fields, user, reterr);
}

int command_user_invite(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_json_ json_object *invitation = NULL;
        _cleanup_strv_free_ char **roles = NULL;
        int r;

        for (size_t i = 0; i < a->n_given; i++)
                if (streq(a->given[i].def->name, "role") && strv_extend(&roles, a->given[i].value) < 0)
                        return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
        r = ctl_message(c, "InviteUser", &m, reterr);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "sss", arguments_arg(a, 0), strempty(arguments_get(a, "name")),
                        strempty(arguments_get(a, "external-id")));
        if (r >= 0)
                r = sd_bus_message_append_strv(m, roles);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make the call: %m");
        r = ctl_send_json(c, m, &invitation, reterr);
        if (r < 0)
                return r;
        return ctl_print_record(c, invitation_fields, invitation, reterr);
}

int command_user_remove(Ctl *c, const Arguments *a, KError *reterr) {
        int r;

        for (size_t i = 0; i < a->n_args; i++) {
                r = confirm(arguments_has(a, "force"), reterr,
                                "Remove the user '%s' and all tokens of theirs?", a->args[i]);
                if (r >= 0)
                        r = ctl_call(c, "RemoveUser", NULL, reterr, "s", a->args[i]);
                if (r < 0)
                        return r;
                ctl_say(c, "User '%s' is removed.", a->args[i]);
        }

        return 0;
}

static int change_role(Ctl *c, const Arguments *a, const char *method, KError *reterr) {
        _cleanup_json_ json_object *user = NULL;
        int r;

        r = ctl_call_json(c, method, &user, reterr, "ss", arguments_arg(a, 0), arguments_arg(a, 1));
        return r < 0 ? r : ctl_print_record(c, user_fields, user, reterr);
}

int command_user_add_role(Ctl *c, const Arguments *a, KError *reterr) {
        return change_role(c, a, "AddUserRole", reterr);
}

int command_user_remove_role(Ctl *c, const Arguments *a, KError *reterr) {
        return change_role(c, a, "RemoveUserRole", reterr);
}

static int find_uid(Ctl *c, const char *text, uint32_t *ret, KError *reterr) {
        const struct passwd *p;
        unsigned uid;

        if (safe_atou(text, &uid) >= 0) {
                *ret = uid;
                return 0;
        }
        if (ctl_is_remote(c))
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "'%s': of another machine's users the number is wanted.", text);
        p = getpwnam(text);
        if (!p)
                return kerror_set(
                                reterr, K_INVALID_ARGUMENT, "There is no user '%s' on this machine.", text);
        *ret = p->pw_uid;
        return 0;
}

int command_user_map(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_json_ json_object *user = NULL;
        uint32_t uid = 0;
        int r;

        r = find_uid(c, arguments_arg(a, 1), &uid, reterr);
        if (r >= 0)
                r = ctl_call_json(c, arguments_has(a, "remove") ? "UnmapUser" : "MapUser", &user, reterr,
                                "su", arguments_arg(a, 0), uid);
        return r < 0 ? r : ctl_print_record(c, user_fields, user, reterr);
}

/* Members of a grid */

static int members(Ctl *c, const char *method, const char *email, KError *reterr) {
        _cleanup_json_ json_object *rows = NULL;
        const char *grid;
        int r;

        r = ctl_grid(c, &grid, reterr);
        if (r < 0)
                return r;
        if (email)
                r = ctl_call_json(c, method, &rows, reterr, "ss", grid, email);
        else
                r = ctl_call_json(c, method, &rows, reterr, "s", grid);
        if (r < 0)
                return r;
        return ctl_print_rows(c, user_columns, rows,
                        "No users are in this grid; put one in with: kontenactl grid add-user EMAIL",
                        reterr);
}

int command_grid_users(Ctl *c, const Arguments *a, KError *reterr) {
        return members(c, "ListGridUsers", NULL, reterr);
}

int command_grid_add_user(Ctl *c, const Arguments *a, KError *reterr) {
        return members(c, "AddGridUser", arguments_arg(a, 0), reterr);
}

int command_grid_remove_user(Ctl *c, const Arguments *a, KError *reterr) {
        return members(c, "RemoveGridUser", arguments_arg(a, 0), reterr);
}
