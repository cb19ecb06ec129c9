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

/* What the master is set to. */

#define IMPORT_SIZE_MAX (8U * 1024U * 1024U)

static int list(Ctl *c, const char *filter, json_object **ret, KError *reterr) {
        return ctl_call_json(c, "ListConfig", ret, reterr, "s", strempty(filter));
}

static const TableColumn config_columns[] = {
        { .title = "KEY", .key = "key" },
        { .title = "VALUE", .key = "value", .shrink = 20 },
        {},
};

/* On a terminal somebody may look over one's shoulder. */
int command_config_list(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_json_ json_object *values = NULL, *rows = json_object_new_array();
        int r;

        if (!rows)
                return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
        r = list(c, arguments_arg(a, 0), &values, reterr);
        if (r < 0)
                return r;
        json_object_object_foreach(values, key, value) {
                bool hide = endswith(key, "_secret") && !arguments_has(a, "secrets");
                json_object *row = json_object_new_object();

                if (!row || json_add_string(row, "key", key) < 0 ||
                                json_add_string(row, "value",
                                                hide ? "(hidden)" : json_object_get_string(value)) < 0 ||
                                json_append(rows, row) < 0)
                        return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
        }
        return ctl_print_rows(c, config_columns, rows, "Nothing is set.", reterr);
}

int command_config_get(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const char *value;
        int r;

        r = ctl_call(c, "GetConfig", &reply, reterr, "s", arguments_arg(a, 0));
        if (r < 0)
                return r;
        r = sd_bus_message_read(reply, "s", &value);
        if (r < 0)
                return kerror_set_errno(reterr, r, "The master's answer cannot be read: %m");
        return ctl_print_text(c, "value", value, reterr);
}

static int set(Ctl *c, json_object *values, bool replace, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        r = ctl_message(c, "SetConfig", &m, reterr);
        if (r < 0)
                return r;
        r = sd_bus_message_sensitive(m);
        if (r >= 0)
                r = bus_json_append(m, "a{sv}", values, reterr);
        if (r >= 0)
                r = sd_bus_message_append(m, "b", (int) replace);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make the call: %m");
        return ctl_send(c, m, NULL, reterr);
}

/* Without a value it is asked for. A secret on a command line can be seen by everybody on the machine. */
static int take(json_object *values, const char *argument, KError *reterr) {
        const char *equals = strchr(argument, '=');
        _cleanup_free_ char *key = strndup(argument, strcspn(argument, "=")), *prompt = NULL;
        _cleanup_erase_ char *value = NULL;
        int r;

        if (!key)
                return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
        if (equals && endswith(key, "_secret"))
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "'%s' is secret: leave out the value, it is read from standard input.", key);
        if (!equals) {
                prompt = strprintf("Value of '%s': ", key);
                if (!prompt)
                        return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
                r = secret_input(prompt, "value", CONFIG_VALUE_SIZE_MAX, &value, reterr);
                if (r < 0)
                        return r;
        }
        r = json_add_string(values, key, equals ? equals + 1 : value);
        return r < 0 ? kerror_set_errno(reterr, r, "Out of memory.") : 0;
}

int command_config_set(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_json_ json_object *values = json_object_new_object();
        unsigned asked = 0;
        int r;

        if (!values)
                return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
        for (size_t i = 0; i < a->n_args; i++) {
                asked += !strchr(a->args[i], '=');
                if (asked > 1 && !isatty(STDIN_FILENO))
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "Only one value can be read from standard input.");
                r = take(values, a->args[i], reterr);
                if (r < 0)
                        return r;
        }
        r = set(c, values, false, reterr);
        if (r < 0)
                return r;
        ctl_say(c, "%zu values are set.", a->n_args);
        return 0;
}

int command_config_unset(Ctl *c, const Arguments *a, KError *reterr) {
        int r;

        for (size_t i = 0; i < a->n_args; i++) {
                r = ctl_call(c, "UnsetConfig", NULL, reterr, "s", a->args[i]);
                if (r < 0)
                        return r;
        }
        return 0;
}

int command_config_export(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_json_ json_object *values = NULL;
        int r;

        r = list(c, NULL, &values, reterr);
        return r < 0 ? r : ctl_print_json(c, values);
}

static int load(const char *path, json_object **ret, KError *reterr) {
        _cleanup_close_ int file = -EBADF;
        _cleanup_json_ json_object *o = NULL;
        _cleanup_erase_ char *text = NULL;
        size_t n;
        int r;

        if (path && !streq(path, "-")) {
                file = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
                if (file < 0)
                        return kerror_set_errno(reterr, -errno, "Cannot read '%s': %m", path);
        }
        r = secret_read_all(file >= 0 ? file : STDIN_FILENO, IMPORT_SIZE_MAX, &text, &n, reterr);
        if (r >= 0)
                r = json_parse(text, n, IMPORT_SIZE_MAX, &o, reterr);
        if (r < 0)
                return r;
        if (!json_object_is_type(o, json_type_object))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "A JSON object of keys and values is wanted.");

        *ret = TAKE_PTR(o);
        return 0;
}

int command_config_import(Ctl *c, const Arguments *a, KError *reterr) {
        bool replace = arguments_has(a, "replace");
        _cleanup_json_ json_object *values = NULL;
        int r;

        r = load(arguments_arg(a, 0), &values, reterr);
        if (r < 0)
                return r;
        if (replace) {
                r = confirm(arguments_has(a, "force"), reterr, "Replace all that the master is set to?");
                if (r < 0)
                        return r;
        }
        r = set(c, values, replace, reterr);
        if (r < 0)
                return r;
        ctl_say(c, "%i values are set.", json_object_object_length(values));
        return 0;
}
