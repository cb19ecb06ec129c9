/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "bus-json.h"
#include "confirm.h"
#include "ctl.h"
#include "file-util.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "secret-input.h"
#include "string-util.h"

#define IMPORT_SIZE_MAX (16U * 1024U * 1024U)

static const TableColumn secret_columns[] = {
        { .title = "SECRET", .key = "name", .shrink = 16 },
        { .title = "CREATED", .key = "created_at", .format = format_relative_time },
        { .title = "UPDATED", .key = "updated_at", .format = format_relative_time },
        { .title = "SERVICES", .key = "services", .shrink = 12 },
        {},
};

static const TableColumn secret_fields[] = {
        { .title = "Secret", .key = "name" },
        { .title = "Created", .key = "created_at", .format = format_absolute_time },
        { .title = "Updated", .key = "updated_at", .format = format_absolute_time },
        { .title = "Services", .key = "services" },
        { .title = "Value", .key = "value" },
        {},
};

/* As an argument everybody on the machine can see it, so that is for those who know. */
static int get_value(const Arguments *a, char **ret, KError *reterr) {
        _cleanup_free_ char *prompt = NULL;

        if (arguments_arg(a, 1)) {
                *ret = strdup(arguments_arg(a, 1));
                return *ret ? 0 : kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
        }
        prompt = strprintf("Value of '%s': ", arguments_arg(a, 0));
        if (!prompt)
                return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
        return secret_input(prompt, "value", SECRET_SIZE_MAX, ret, reterr);
}

static int write_secret(Ctl *c, const char *grid, const char *name, const char *value, const char *only,
                char ***ret_services, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        int r;

        r = ctl_message(c, "WriteSecret", &m, reterr);
        if (r < 0)
                return r;
        r = sd_bus_message_sensitive(m);
        if (r >= 0)
                r = sd_bus_message_append(m, "sss", grid, name, value);
        if (r >= 0)
                r = only ? sd_bus_message_append(m, "a{sv}", 1, "only", "s", only)
                         : sd_bus_message_append(m, "a{sv}", 0);
        if (r < 0)
                return kerror_set_errno(reterr, r,
                                "Cannot make the call: %m; a value is text, which is valid UTF-8.");
        r = ctl_send(c, m, &reply, reterr);
        if (r < 0)
                return r;
        r = sd_bus_message_read_strv(reply, ret_services);
        return r < 0 ? kerror_set_errno(reterr, r, "The master's answer cannot be read: %m") : 0;
}

static int put(Ctl *c, const Arguments *a, const char *only, KError *reterr) {
        _cleanup_strv_free_ char **services = NULL;
        _cleanup_free_ char *joined = NULL;
        _cleanup_erase_ char *value = NULL;
        const char *grid, *name = arguments_arg(a, 0);
        int r;

        r = ctl_grid(c, &grid, reterr);
        if (r >= 0)
                r = get_value(a, &value, reterr);
        if (r >= 0)
                r = write_secret(c, grid, name, value, only, &services, reterr);
        if (r < 0)
                return r;

        if (!services) {
                ctl_say(c, "Secret '%s' is written.", name);
                return 0;
        }
        joined = strv_join(services, ", ");
        ctl_say(c,
                        "Secret '%s' is written; used by: %s. Stateless services are deployed again by "
                        "themselves.",
                        name, strna(joined));
        return 0;
}

int command_vault_write(Ctl *c, const Arguments *a, KError *reterr) {
        return put(c, a, "new", reterr);
}

int command_vault_update(Ctl *c, const Arguments *a, KError *reterr) {
        return put(c, a, arguments_has(a, "upsert") ? NULL : "existing", reterr);
}

int command_vault_read(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_json_ json_object *secret = NULL;
        const char *grid;
        int r;

        r = ctl_grid(c, &grid, reterr);
        if (r >= 0)
                r = ctl_call_json(c, "ReadSecret", &secret, reterr, "ss", grid, arguments_arg(a, 0));
        if (r < 0)
                return r;
        if (arguments_has(a, "value")) {
                puts(row_string(secret, "value"));
                return 0;
        }
        return ctl_print_record(c, secret_fields, secret, reterr);
}

static int list_secrets(Ctl *c, const char **ret_grid, json_object **ret, KError *reterr) {
        int r;

        r = ctl_grid(c, ret_grid, reterr);
        if (r < 0)
                return r;
        return ctl_call_json(c, "ListSecrets", ret, reterr, "s", *ret_grid);
}

int command_vault_list(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_json_ json_object *rows = NULL;
        const char *grid;
        int r;

        r = list_secrets(c, &grid, &rows, reterr);
        if (r < 0)
                return r;
        return ctl_print_rows(c, secret_columns, rows,
                        "The vault is empty; put something into it with: kontenactl vault write NAME",
                        reterr);
}

static int remove_secret(Ctl *c, const char *grid, const char *name, bool force, KError *reterr) {
        return ctl_call(c, "RemoveSecret", NULL, reterr, "ssb", grid, name, (int) force);
}

int command_vault_remove(Ctl *c, const Arguments *a, KError *reterr) {
        bool force = arguments_has(a, "force");
        const char *grid;
        int r;

        r = ctl_grid(c, &grid, reterr);
        if (r < 0)
                return r;
        for (size_t i = 0; i < a->n_args; i++) {
                r = confirm(force, reterr, "Remove the secret '%s'?", a->args[i]);
                if (r >= 0)
                        r = remove_secret(c, grid, a->args[i], force, reterr);
                if (r < 0)
                        return r;
                ctl_say(c, "Secret '%s' is removed.", a->args[i]);
        }

        return 0;
}

int command_vault_export(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_json_ json_object *rows = NULL, *all = json_object_new_object();
        const char *grid;
        int r;

        if (!all)
                return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
        r = list_secrets(c, &grid, &rows, reterr);
        if (r < 0)
                return r;
        FOREACH_JSON_ARRAY(row, rows) { /* sorted by name */
                _cleanup_json_ json_object *secret = NULL;

                r = ctl_call_json(c, "ReadSecret", &secret, reterr, "ss", grid, row_string(row, "name"));
                if (r < 0)
                        return r;
                if (json_add_string(all, row_string(row, "name"), row_string(secret, "value")) < 0)
                        return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
        }

        return ctl_print_json(c, all);
}

static int load(const Arguments *a, json_object **ret, KError *reterr) {
        _cleanup_close_ int file = -EBADF;
        _cleanup_erase_ char *text = NULL;
        const char *path = arguments_arg(a, 0);
        json_object *o;
        size_t n;
        int r;

        if (path && !streq(path, "-")) {
                file = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
                if (file < 0)
                        return kerror_set_errno(reterr, -errno, "Cannot read '%s': %m", path);
        }
        r = secret_read_all(file >= 0 ? file : STDIN_FILENO, IMPORT_SIZE_MAX, &text, &n, reterr);
        if (r < 0)
                return r;
        r = json_parse(text, n, IMPORT_SIZE_MAX, &o, reterr);
        if (r < 0)
                return r;
        if (!json_object_is_type(o, json_type_object) || json_object_object_length(o) == 0) {
                json_object_put(o);
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "No secrets: a JSON object of names and values is wanted.");
        }

        *ret = o;
        return 0;
}

static bool means_null(const Arguments *a, json_object *value) {
        return !value ||
               (arguments_has(a, "empty-is-null") && json_object_is_type(value, json_type_string) &&
                               json_object_get_string_len(value) == 0);
}

int command_vault_import(Ctl *c, const Arguments *a, KError *reterr) {
        unsigned n_write = 0, n_remove = 0;
        _cleanup_json_ json_object *all = NULL;
        const char *grid;
        int r;

        r = ctl_grid(c, &grid, reterr);
        if (r >= 0)
                r = load(a, &all, reterr);
        if (r < 0)
                return r;
        json_object_object_foreach(all, name, value) {
                if (json_object_is_type(value, json_type_object) ||
                                json_object_is_type(value, json_type_array))
                        return kerror_set(reterr, K_INVALID_ARGUMENT, "The value of '%s' is not a text.",
                                        name);
                if (!means_null(a, value))
                        n_write++;
                else if (!arguments_has(a, "skip-null"))
                        n_remove++;
        }

        r = confirm(arguments_has(a, "force"), reterr, "Write %u secrets and remove %u?", n_write, n_remove);
        if (r < 0)
                return r;
        json_object_object_foreach(all, key, v) {
                _cleanup_strv_free_ char **services = NULL;
                _cleanup_kerror_ KError error = KERROR_NULL;

                if (!means_null(a, v))
                        r = write_secret(c, grid, key, json_object_get_string(v), NULL, &services, reterr);
                else if (!arguments_has(a, "skip-null")) {
                        r = remove_secret(c, grid, key, arguments_has(a, "force"), &error);
                        if (r < 0 && error.code == K_NO_SUCH_SECRET)
                                r = 0;
                        else if (r < 0)
                                r = kerror_set(reterr, error.code, "%s", kerror_message(&error));
                }
                if (r < 0)
                        return r;
        }

        ctl_say(c, "%u secrets are written, %u removed.", n_write, n_remove);
        return 0;
}
