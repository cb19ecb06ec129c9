/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>

#include "file-util.h"
#include "instance-internal.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "stream-exec.h"
#include "stream-provider.h"
#include "stream-pump.h"
#include "string-util.h"

/* A command in a container that runs: kind "exec". */

/* Who holds the other end of its output when the command has ended is hung up by systemd, and killed 5 s later. */
#define GRACE_USEC (7U * USEC_PER_SEC)

typedef struct Exec {
        Stream *stream;
        sd_event *event;
        StreamExec *exec;
        StreamPump *pump; /* NULL until it runs */
        bool ended;
        int status;
} Exec;

static void exec_free(void *userdata) {
        Exec *x = userdata;

        stream_pump_free(x->pump);
        stream_exec_free(x->exec);
        sd_event_unref(x->event);
        free(x);
}

static void exec_freep(Exec **x) {
        if (*x)
                exec_free(*x);
}

static void on_input_over(void *userdata) {
        Exec *x = userdata;

        (void) stream_exec_end_input(x->exec);
}

static void on_drained(void *userdata) {
        Exec *x = userdata;

        if (x->ended)
                stream_end(x->stream, x->status, NULL); /* frees x */
}

static void on_started(StreamExec *e, void *userdata) {
        static const StreamPumpHandler handler = { .input_over = on_input_over, .drained = on_drained };
        Exec *x = userdata;
        /* Of a terminal 1 is the same as 0, and there is no 2. */
        const int fds[] = { stream_exec_fd(e, 0), stream_exec_fd(e, 1), stream_exec_fd(e, 2) };

        stream_opened(x->stream);
        /* Without one on_ended() says so. */
        (void) stream_pump_new(x->event, x->stream, fds, &handler, x, &x->pump);
}

static void on_ended(StreamExec *e, int status, const KError *error, void *userdata) {
        _cleanup_kerror_ KError none = KERROR_NULL;
        Exec *x = userdata;

        if (kerror_is_set(error)) {
                stream_end(x->stream, -1, error);
                return;
        }
        if (!x->pump) {
                (void) kerror_set_errno(&none, -ENOMEM, "The output of the command cannot be read: %m");
                stream_end(x->stream, -1, &none);
                return;
        }

        x->ended = true;
        x->status = status;
        if (stream_pump_is_drained(x->pump))
                stream_end(x->stream, x->status, NULL);
        else
                stream_pump_finish(x->pump, GRACE_USEC);
}

/* What the master says to run, and where. */
static int read_options(json_object *params, StreamExecOptions *ret, char ***ret_argv, char ***ret_env,
                KError *reterr) {
        _cleanup_strv_free_ char **argv = NULL, **env = NULL;
        uint64_t rows = 0, columns = 0;
        int r;

        if ((r = json_find_strv(params, "argv", &argv, reterr)) < 0 ||
                        (r = json_find_strv(params, "env", &env, reterr)) < 0 ||
                        (r = json_find_bool(params, "tty", &ret->tty, reterr)) < 0 ||
                        (r = json_find_u64(params, "rows", &rows, reterr)) < 0 ||
                        (r = json_find_u64(params, "columns", &columns, reterr)) < 0 ||
                        (r = json_find_string(params, "user", &ret->user, reterr)) < 0)
                return r;
        if (strv_length(argv) > EXEC_ARGUMENTS_MAX || strv_length(env) > EXEC_ARGUMENTS_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "A command has at most %u arguments.",
                                EXEC_ARGUMENTS_MAX);

        ret->user = empty_to_null(ret->user);
        ret->rows = (unsigned) MIN(rows, UINT64_C(65536));
        ret->columns = (unsigned) MIN(columns, UINT64_C(65536));
        ret->argv = *ret_argv = TAKE_PTR(argv);
        ret->env = *ret_env = TAKE_PTR(env);
        return 0;
}

static int start(Exec *x, Manager *m, const Instance *i, StreamExecOptions *o, KError *reterr) {
        _cleanup_free_ char *directory = NULL, *root = NULL, *container = NULL;

        directory = instance_generation_run_directory(i, i->record.generation);
        root = directory ? strjoin(directory, "/rootfs") : NULL;
        container = strprintf("%s-%" PRIu64, i->id, i->record.generation);
        if (!directory || !root || !container)
                return -ENOMEM;

        o->event = m->event;
        o->bus = m->bus;
        o->units = m->units;
        o->want = i->want;
        o->runtime = instance_present_runtime(i)->exec_program;
        o->container_id = instance_present_runtime(i)->exec_by_directory ? directory : container;
        o->directory = directory;
        o->root_path = root;
        o->bind_unit = unit_name(i->unit);
        return stream_exec_start(o, on_started, on_ended, x, &x->exec, reterr);
}

static int exec_open(Stream *s, json_object *params, void *userdata, void **ret, KError *reterr) {
        _cleanup_strv_free_ char **argv = NULL, **env = NULL;
        _cleanup_(exec_freep) Exec *x = NULL;
        StreamExecOptions options = {};
        Manager *m = userdata;
        const char *id;
        Instance *i;
        int r;

        r = json_get_string(params, "id", &id, reterr);
        if (r >= 0)
                r = read_options(params, &options, &argv, &env, reterr);
        if (r < 0)
                return r;
        i = manager_find_instance(m, id);
        if (!i)
                return kerror_set(reterr, K_NO_SUCH_INSTANCE, "This node has no instance '%.64s'.", id);
        if (!i->want || !i->unit || i->record.generation == 0 || !unit_state_is_running(unit_state(i->unit)))
                return kerror_set(reterr, K_CONFLICT, "Instance %s-%u does not run (it is %s).",
                                instance_service(i), instance_number(i),
                                instance_state_to_string(instance_state_of(i)));
        if (!instance_present_runtime(i))
                return kerror_set(reterr, K_RUNTIME, "%s", strna(instance_runtime_error(i)));

        x = new0(Exec, 1);
        if (!x)
                return -ENOMEM;
        x->stream = s;
        x->event = sd_event_ref(m->event);
        r = start(x, m, i, &options, reterr);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(x);
        return 0;
}

static void exec_write(void *p, const void *data, size_t size) {
        Exec *x = p;

        if (x->pump)
                stream_pump_write(x->pump, data, size);
}

static void exec_end_input(void *p) {
        Exec *x = p;

        if (x->pump)
                stream_pump_end_input(x->pump);
}

static void exec_ready(void *p) {
        Exec *x = p;

        if (x->pump)
                stream_pump_ready(x->pump);
}

static void exec_resize(void *p, unsigned rows, unsigned columns) {
        Exec *x = p;

        (void) stream_exec_resize(x->exec, rows, columns);
}

static void exec_signal(void *p, int number) {
        Exec *x = p;

        (void) stream_exec_signal(x->exec, number);
}

const StreamProvider stream_provider_exec = {
        .kind = "exec",
        .open = exec_open,
        .write = exec_write,
        .end_input = exec_end_input,
        .ready = exec_ready,
        .resize = exec_resize,
        .signal = exec_signal,
        .free = exec_free,
};
