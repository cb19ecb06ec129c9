/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus-json.h"
#include "ctl-stream.h"
#include "json-util.h"
#include "string-util.h"
#include "terminal.h"

/* "NAME=value", or "NAME" for what it is here: so a secret need not stand on a command line. */
static int read_env(const Arguments *a, bool terminal, char ***ret, KError *reterr) {
        _cleanup_strv_free_ char **given = NULL, **env = NULL;
        const char *term = getenv("TERM");
        int r;

        r = arguments_get_all(a, "env", &given, reterr);
        if (r < 0)
                return r;
        if (terminal && !isempty(term)) {
                r = strv_extendf(&env, "TERM=%s", term);
                if (r < 0)
                        return r;
        }
        STRV_FOREACH(e, given) {
                const char *value = getenv(*e);

                if (isempty(*e) || **e == '=' || (!strchr(*e, '=') && !value))
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "--env=%s: NAME=VALUE is wanted, or the NAME of a variable that is "
                                        "set here.",
                                        *e);
                r = strchr(*e, '=') ? strv_extend(&env, *e) : strv_extendf(&env, "%s=%s", *e, value);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(env);
        return 0;
}

static int build_options(const Arguments *a, bool terminal, json_object **ret, KError *reterr) {
        _cleanup_json_ json_object *o = json_object_new_object();
        const char *user = arguments_get(a, "user");
        _cleanup_strv_free_ char **env = NULL;
        unsigned rows, columns;
        int r;

        if (!o)
                return -ENOMEM;
        r = read_env(a, terminal, &env, reterr);
        if (r >= 0 && env)
                r = json_add_strv(o, "env", env);
        if (r >= 0 && user)
                r = json_add_string(o, "user", user);
        if (r >= 0 && terminal)
                r = json_add_bool(o, "tty", true);
        if (r < 0 || !terminal)
                goto out;

        /* The size is that of the terminal which is typed at, or shown on. */
        if (terminal_size(STDIN_FILENO, &rows, &columns) < 0 &&
                        terminal_size(STDOUT_FILENO, &rows, &columns) < 0) {
                rows = 24;
                columns = 80;
        }
        r = json_add_u64(o, "rows", rows);
        if (r >= 0)
                r = json_add_u64(o, "columns", columns);
out:
        if (r >= 0)
                *ret = TAKE_PTR(o);
        return r;
}

int command_exec(Ctl *c, const Arguments *a, KError *reterr) {
        bool terminal = arguments_has(a, "tty"), interactive = arguments_has(a, "interactive");
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_json_ json_object *options = NULL;
        _cleanup_service_name_ ServiceName n = {};
        unsigned number;
        int r;

        if (!a->rest || !a->rest[0])
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "kontenactl exec: COMMAND is missing; usage: kontenactl exec [-it] INSTANCE "
                                "COMMAND [ARGUMENT...]");
        r = build_options(a, terminal, &options, reterr);
        if (r < 0)
                return r;
        r = ctl_instance_find(c, arguments_arg(a, 0), &n, &number, reterr);
        if (r >= 0)
                r = ctl_message(c, "OpenExec", &m, reterr);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "sssu", n.grid, n.stack, n.service, number);
        if (r >= 0)
                r = sd_bus_message_append_strv(m, a->rest);
        if (r == -EINVAL)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "A word of the command is not UTF-8, which is all that the bus carries.");
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make the call: %m");
        r = bus_json_append(m, "a{sv}", options, reterr);
        if (r < 0)
                return r;

        return ctl_stream_run(c, m,
                        &(CtlStreamOptions){
                                        .input = interactive ? STDIN_FILENO : -EBADF,
                                        .output = STDOUT_FILENO,
                                        .error = STDERR_FILENO,
                                        .terminal = terminal,
                        },
                        reterr);
}
