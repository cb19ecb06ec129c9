/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "caller-stream.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "node-session.h"
#include "op-internal.h"
#include "string-util.h"

/* A command in an instance that runs, with a stream to it. */

static int check_env(json_object *options, KError *reterr) {
        json_object *env = NULL;
        size_t bytes = 0;
        int r;

        r = json_find_array(options, "env", &env, reterr);
        if (r <= 0)
                return r;
        FOREACH_JSON_ARRAY(e, env) {
                const char *s = json_object_is_type(e, json_type_string) ? json_object_get_string(e) : "";
                const char *equals = strchr(s, '=');

                if (!equals || equals == s || strlen(s) != (size_t) json_object_get_string_len(e))
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "An entry of 'env' is not of the form NAME=value.");
                bytes += strlen(s) + 1;
        }
        if (json_object_array_length(env) > EXEC_ARGUMENTS_MAX || bytes > EXEC_ARGUMENTS_SIZE_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "'env' has at most %u entries and %u bytes.",
                                EXEC_ARGUMENTS_MAX, EXEC_ARGUMENTS_SIZE_MAX);
        return 0;
}

/* What goes to the node. */
static int build(OperationCall *c, const char *instance_id, json_object **ret, KError *reterr) {
        static const char *const settings[] = { "tty", "rows", "columns", "env", "user", NULL };
        _cleanup_json_ json_object *o = NULL;
        uint64_t rows = 0, columns = 0;
        json_object *options, *argv;
        const char *user = NULL;
        bool tty = false;
        int r;

        if ((r = json_get_array(c->parameters, "argv", &argv, reterr)) < 0 ||
                        (r = call_settings(c, "options", settings, &options, reterr)) < 0 ||
                        (r = json_find_bool(options, "tty", &tty, reterr)) < 0 ||
                        (r = json_find_u64(options, "rows", &rows, reterr)) < 0 ||
                        (r = json_find_u64(options, "columns", &columns, reterr)) < 0 ||
                        (r = json_find_string(options, "user", &user, reterr)) < 0 ||
                        (r = check_env(options, reterr)) < 0)
                return r;
        if (json_object_array_length(argv) == 0 ||
                        isempty(json_object_get_string(json_object_array_get_idx(argv, 0))))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "No command is given.");
        if (rows > UINT16_MAX || columns > UINT16_MAX)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "No terminal is that large.");
        if (user && (strlen(user) > LABEL_LENGTH_MAX || !string_is_printable(user)))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'user' is not the name of one.");

        if (json_copy(options, &o) < 0)
                return -ENOMEM;
        r = json_add(o, "argv", json_object_get(argv));
        if (r >= 0)
                r = json_add_string(o, "id", instance_id);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

static int exec_open(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_(instance_row_freep) InstanceRow *instance = NULL;
        _cleanup_json_ json_object *params = NULL;
        _cleanup_free_ char *what = NULL;
        NodeSession *session;
        int r;

        r = call_instance(c, &instance, &session, reterr);
        if (r >= 0)
                r = build(c, instance->id, &params, reterr);
        if (r < 0)
                return r;
        what = strprintf("A command in %s/%s-%u", c->service->stack, c->service->name, instance->number);
        return what ? caller_stream_open(c, session, "exec", TAKE_PTR(params), what, reterr) : -ENOMEM;
}

const Operation exec_operations[] = {
        {
                        .name = "exec.open",
                        .method = "OpenExec",
                        .action = "io.kontena.master1.exec",
                        .role = "member",
                        .flags = OPERATION_LONG | OPERATION_AUDITED | OPERATION_GRID | OPERATION_SERVICE,
                        .parameters = { { "grid", PARAMETER_STRING, true },
                                        { "stack", PARAMETER_STRING, true },
                                        { "service", PARAMETER_STRING, true },
                                        { "instance", PARAMETER_U32, true },
                                        { "argv", PARAMETER_STRINGS, true },
                                        { "options", PARAMETER_OBJECT, false } },
                        .results = { "stream" },
                        .perform = exec_open,
        },
};
const size_t n_exec_operations = ELEMENTSOF(exec_operations);
