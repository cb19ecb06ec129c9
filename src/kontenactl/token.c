/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>

#include "ctl.h"
#include "file-util.h"
#include "json-util.h"
#include "parse-util.h"
#include "string-util.h"

/* Of what is kept only the end is known. */
static int format_last_four(json_object *row, json_object *value, char **ret) {
        const char *s = row_string(row, "access_token_last_four");

        if (isempty(s))
                s = row_string(row, "code_last_four");
        *ret = strjoin("…", s);
        return *ret ? 0 : -ENOMEM;
}

static int format_expiry(json_object *row, json_object *value, char **ret) {
        if (row_int(row, "expires_at") == 0) {
                *ret = strdup("never");
                return *ret ? 0 : -ENOMEM;
        }
        return format_relative_time(row, value, ret);
}

static const TableColumn token_columns[] = {
        { .title = "TOKEN", .key = "id" },
        { .title = "KIND", .key = "kind" },
        { .title = "ENDS IN", .key = "kind", .format = format_last_four },
        { .title = "SCOPES", .key = "scopes" },
        { .title = "EXPIRES", .key = "expires_at", .format = format_expiry },
        { .title = "USED", .key = "used_at", .format = format_relative_time },
        { .title = "DESCRIPTION", .key = "description", .shrink = 12 },
        {},
};

static int format_owner(json_object *row, json_object *value, char **ret) {
        *ret = strdup(value ? row_string(value, "email") : "");
        return *ret ? 0 : -ENOMEM;
}

static const TableColumn token_fields[] = {
        { .title = "Id", .key = "id" },
        { .title = "Kind", .key = "kind" },
        { .title = "User", .key = "user", .format = format_owner },
        { .title = "Scopes", .key = "scopes" },
        { .title = "Description", .key = "description" },
        { .title = "Ends in", .key = "kind", .format = format_last_four },
        { .title = "Created", .key = "created_at", .format = format_absolute_time },
        { .title = "Used", .key = "used_at", .format = format_absolute_time },
        { .title = "Expires", .key = "expires_at", .format = format_expiry },
        { .title = "Token", .key = "access_token" },
        { .title = "Refresh token", .key = "refresh_token" },
        { .title = "Code", .key = "code" },
        {},
};

int command_token_list(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_json_ json_object *rows = NULL;
        int r;

        r = ctl_call_json(c, "ListTokens", &rows, reterr, "s", strempty(arguments_get(a, "user")));
        if (r < 0)
                return r;
        return ctl_print_rows(
                        c, token_columns, rows, "No tokens; make one with: kontenactl token create", reterr);
}

int command_token_show(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_json_ json_object *token = NULL;
        int r;

        r = ctl_call_json(c, "GetToken", &token, reterr, "s", arguments_arg(a, 0));
        return r < 0 ? r : ctl_print_record(c, token_fields, token, reterr);
}

int command_token_create(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_json_ json_object *token = NULL;
        _cleanup_strv_free_ char **scopes = NULL;
        const char *v = arguments_get(a, "expires-in");
        uint64_t usec = 0;
        int r;

        if (v && (parse_sec(v, &usec) < 0 || usec / USEC_PER_SEC > UINT32_MAX))
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "--expires-in=%s: a time is wanted, say 8h or 30d.", v);
        r = strv_split(arguments_get(a, "scope") ?: "user", ", ", &scopes);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Out of memory.");

        r = ctl_message(c, "CreateToken", &m, reterr);
        if (r < 0)
                return r;
        r = sd_bus_message_append_strv(m, scopes);
        if (r >= 0)
                r = sd_bus_message_append(m, "usss", (uint32_t) (usec / USEC_PER_SEC),
                                strempty(arguments_get(a, "description")),
                                strempty(arguments_get(a, "user")),
                                arguments_has(a, "code") ? "code" : "bearer");
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make the call: %m");
        r = ctl_send_json(c, m, &token, reterr);
        if (r < 0)
                return r;
        if (arguments_has(a, "value")) {
                puts(row_string(token, arguments_has(a, "code") ? "code" : "access_token"));
                return 0;
        }
        return ctl_print_record(c, token_fields, token, reterr);
}

int command_token_remove(Ctl *c, const Arguments *a, KError *reterr) {
        int r;

        for (size_t i = 0; i < a->n_args; i++) {
                r = ctl_call(c, "RemoveToken", NULL, reterr, "s", a->args[i]);
                if (r < 0)
                        return r;
        }
        ctl_say(c, a->n_args == 1 ? "The token is of no use any more."
                                  : "The tokens are of no use any more.");
        return 0;
}

static const TableColumn code_fields[] = {
        { .title = "Code", .key = "code" },
        { .title = "Until", .key = "expires_at", .format = format_absolute_time },
        {},
};

int command_master_admin_code(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_json_ json_object *o = json_object_new_object();
        const char *code;
        uint64_t expires;
        int r;

        if (!o)
                return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
        r = ctl_call(c, "CreateAdminCode", &reply, reterr, NULL);
        if (r < 0)
                return r;
        r = sd_bus_message_read(reply, "st", &code, &expires);
        if (r >= 0)
                r = json_add_string(o, "code", code);
        if (r >= 0)
                r = json_add_u64(o, "expires_at", expires);
        if (r < 0)
                return kerror_set_errno(reterr, r, "The master's answer cannot be read: %m");
        return ctl_print_record(c, code_fields, o, reterr);
}
