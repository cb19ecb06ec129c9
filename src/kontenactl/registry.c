/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "confirm.h"
#include "ctl.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "secret-input.h"
#include "string-util.h"

static const TableColumn registry_columns[] = {
        { .title = "REGISTRY", .key = "name", .shrink = 16 },
        { .title = "USER", .key = "username", .shrink = 12 },
        { .title = "EMAIL", .key = "email", .shrink = 12 },
        { .title = "UPDATED", .key = "updated_at", .format = format_relative_time },
        {},
};

int command_registry_add(Ctl *c, const Arguments *a, KError *reterr) {
        const char *registry = arguments_arg(a, 0) ?: "docker.io", *username = arguments_get(a, "username"),
                   *email = arguments_get(a, "email");
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        _cleanup_erase_ char *password = NULL;
        _cleanup_free_ char *prompt = NULL;
        const char *grid, *name;
        int replaced, r;

        if (isempty(username))
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "--username=NAME is needed; the password is read from standard input.");
        r = ctl_grid(c, &grid, reterr);
        if (r < 0)
                return r;
        prompt = strprintf("Password of '%s' for '%s': ", username, registry);
        if (!prompt)
                return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
        r = secret_input(prompt, "password", REGISTRY_PASSWORD_MAX, &password, reterr);
        if (r >= 0)
                r = ctl_message(c, "AddRegistry", &m, reterr);
        if (r < 0)
                return r;

        r = sd_bus_message_sensitive(m);
        if (r >= 0)
                r = sd_bus_message_append(m, "ssss", grid, registry, username, password);
        if (r >= 0)
                r = email ? sd_bus_message_append(m, "a{sv}", 1, "email", "s", email)
                          : sd_bus_message_append(m, "a{sv}", 0);
        if (r < 0)
                return kerror_set_errno(reterr, r,
                                "Cannot make the call: %m; a password is text, which is valid UTF-8.");
        r = ctl_send(c, m, &reply, reterr);
        if (r < 0)
                return r;
        r = sd_bus_message_read(reply, "sb", &name, &replaced);
        if (r < 0)
                return kerror_set_errno(reterr, r, "The master's answer cannot be read: %m");

        ctl_say(c, "Images of '%s' are pulled as '%s' from now on%s.", name, username,
                        replaced ? ", with this password" : "");
        return 0;
}

int command_registry_list(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_json_ json_object *rows = NULL;
        const char *grid;
        int r;

        r = ctl_grid(c, &grid, reterr);
        if (r >= 0)
                r = ctl_call_json(c, "ListRegistries", &rows, reterr, "s", grid);
        if (r < 0)
                return r;
        return ctl_print_rows(c, registry_columns, rows, "There are no credentials for registries.", reterr);
}

int command_registry_remove(Ctl *c, const Arguments *a, KError *reterr) {
        const char *grid;
        int r;

        r = ctl_grid(c, &grid, reterr);
        if (r < 0)
                return r;
        for (size_t i = 0; i < a->n_args; i++) {
                r = confirm(arguments_has(a, "force"), reterr, "Remove the credentials for '%s'?",
                                a->args[i]);
                if (r >= 0)
                        r = ctl_call(c, "RemoveRegistry", NULL, reterr, "ss", grid, a->args[i]);
                if (r < 0)
                        return r;
                ctl_say(c, "The credentials for '%s' are removed.", a->args[i]);
        }

        return 0;
}
