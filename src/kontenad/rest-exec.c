/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "caller-stream.h"
#include "file-util.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "names.h"
#include "rest-exec-text.h"
#include "rest-internal.h"
#include "rest-render.h"
#include "rest-rows.h"
#include "string-util.h"

/* Commands in containers: to their end by POST, or as it goes over a WebSocket. Both are streams that this request's caller holds. */

#define CLOSE_OK         1000
#define CLOSE_ERROR      4000
#define OUTPUT_BYTES_MAX (4U * 1024U * 1024U) /* by POST: it is kept until the end */
#define INPUT_BYTES_MAX  (1024U * 1024U)      /* that the command has not read */
#define QUEUE_BYTES_HIGH (256U * 1024U)       /* above this the node waits for the client */
#define LOOK_USEC        (50U * USEC_PER_MSEC)
#define LINGER_USEC      (30U * USEC_PER_SEC) /* without anything read, when all was said */
#define POST_LOOK_USEC   (2U * USEC_PER_SEC)
#define POST_USEC        (300ULL * USEC_PER_SEC)

static const RestField exec_fields[] = {
        { "cmd", REST_ARRAY, REST_REQUIRED | REST_VERBATIM | REST_EMPTY, .element = REST_STRING },
        {},
};

typedef struct Exec {
        unsigned n_ref; /* the request has one, and the stream */
        RestCall *call; /* NULL: over */
        Master *master;
        json_object *target; /* grid, stack, service, instance */
        bool socket, interactive, shell, tty;
        bool started, running, input_ended, writing;
        int close_code; /* when all was sent; 0: not yet */
        size_t close_queued;
        uint64_t close_at;
        char *stream; /* NULL: none yet, or no more */
        uint64_t rows, columns;
        bool has_size;
        json_object *input; /* strings that wait to be written */
        size_t next_input, input_bytes, uncredited;
        ExecText text[2];
        json_object *output[2]; /* of a POST */
        size_t output_bytes;
        uint64_t started_at;
        sd_event_source *timer;
} Exec;

static Exec *exec_unref(Exec *e) {
        if (!e || --e->n_ref > 0)
                return NULL;

        sd_event_source_disable_unref(e->timer);
        json_object_put(e->target);
        json_object_put(e->input);
        json_object_put(e->output[0]);
        json_object_put(e->output[1]);
        free(e->stream);
        free(e);
        return NULL;
}

/* Ends the command too. */
static void abandon(Exec *e) {
        _cleanup_free_ char *stream = TAKE_PTR(e->stream);

        if (stream)
                (void) caller_stream_abandon(e->master, stream);
}

static void exec_leave(void *userdata) {
        Exec *e = userdata;

        e->call = NULL;
        e->timer = sd_event_source_disable_unref(e->timer);
        abandon(e);
        exec_unref(e);
}

/* The client is told what is wrong, and the command ends. */
static void break_off(Exec *e, const char *kind, const char *sentence) {
        _cleanup_free_ char *reason = strjoin(kind, ": ", sentence);

        rest_websocket_close(e->call, CLOSE_ERROR, strempty(reason));
        abandon(e);
}

static int send_text(Exec *e, const char *key, const char *value) {
        _cleanup_json_ json_object *o = json_object_new_object();

        if (!o || json_add_string(o, key, value) < 0)
                return -ENOMEM;
        return rest_websocket_send(e->call, TAKE_PTR(o));
}

static int stream_params(Exec *e, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();

        if (!o || json_add_string(o, "stream", strempty(e->stream)) < 0)
                return -ENOMEM;
        *ret = TAKE_PTR(o);
        return 0;
}

/* That the stream has ended meanwhile is told elsewhere. */
static void on_nothing(RestCall *c, json_object *result, const KError *error) {
}

static void credit(Exec *e) {
        json_object *params;
        size_t n = e->uncredited;

        if (!e->stream || n == 0 || stream_params(e, &params) < 0)
                return;
        e->uncredited = 0;
        if (json_add_u64(params, "bytes", n) < 0)
                json_object_put(params);
        else
                (void) rest_call(e->call, "stream.credit", params, on_nothing);
}

static int arm(Exec *e, uint64_t usec) {
        int r;

        r = sd_event_source_set_time_relative(e->timer, usec);
        return r < 0 ? r : sd_event_source_set_enabled(e->timer, SD_EVENT_ONESHOT);
}

/* What the client has not read yet holds up the node, not the master's memory. */
static void credit_if_read(Exec *e) {
        if (e->call->socket && websocket_queued(e->call->socket) > QUEUE_BYTES_HIGH)
                (void) arm(e, LOOK_USEC);
        else
                credit(e);
}

/* Output */

static int give_socket(Exec *e, unsigned channel, json_object *chunk) {
        _cleanup_json_ json_object *o = json_object_new_object(), *owned = chunk;
        int r = o ? json_add_string(o, "stream", channel == 1 ? "stdout" : "stderr") : -ENOMEM;

        REST_ADD(r, json_add(o, "chunk", TAKE_PTR(owned)));
        return r < 0 ? r : rest_websocket_send(e->call, TAKE_PTR(o));
}

static int give(Exec *e, unsigned channel, const void *data, size_t size) {
        json_object *chunk;
        int r;

        if (channel != 1 && channel != 2)
                return 0;
        r = exec_text_take(&e->text[channel - 1], data, size, size == 0, &chunk);
        if (r < 0 || !chunk)
                return r;
        return e->socket ? give_socket(e, channel, chunk) : json_append(e->output[channel - 1], chunk);
}

static int sink_data(const char *stream, unsigned channel, const void *data, size_t size, void *userdata) {
        Exec *e = userdata;
        int r;

        if (!e->call)
                return -EPIPE;
        r = give(e, channel, data, size);
        if (r < 0) {
                rest_websocket_close(e->call, CLOSE_ERROR, "Error: the output is not read");
                return r;
        }
        e->uncredited += size;
        e->output_bytes += size;
        if (!e->socket && e->output_bytes > OUTPUT_BYTES_MAX)
                return -E2BIG; /* the stream goes, and sink_free() answers */
        credit_if_read(e);
        return 0;
}

static void sink_opened(const char *stream, void *userdata) {
        Exec *e = userdata;

        (void) free_and_strdup(&e->stream, stream);
}

static int reply_output(Exec *e, int status) {
        _cleanup_json_ json_object *l = json_object_new_array();
        int r = l ? 0 : -ENOMEM;

        REST_ADD(r, json_append(l, TAKE_PTR(e->output[0])));
        REST_ADD(r, json_append(l, TAKE_PTR(e->output[1])));
        REST_ADD(r, json_append(l, json_object_new_int(status)));
        return r < 0 ? r : rest_reply(e->call, 200, TAKE_PTR(l));
}

/* A close frame overtakes what waits to be sent, so it waits too, as long as the client reads. */
static void close_when_sent(Exec *e, int code) {
        size_t queued = e->call->socket ? websocket_queued(e->call->socket) : 0;

        if (code != e->close_code || queued < e->close_queued)
                e->close_at = now_monotonic() + LINGER_USEC;
        e->close_code = code;
        e->close_queued = queued;
        if (queued == 0 || now_monotonic() > e->close_at || arm(e, LOOK_USEC) < 0)
                rest_websocket_close(
                                e->call, code, code == CLOSE_OK ? "" : "Error: the command was cut off");
}

static void end_socket(Exec *e, int status, const KError *error) {
        _cleanup_json_ json_object *o = json_object_new_object();

        if (error) {
                (void) send_text(e, "error", kerror_message(error));
                close_when_sent(e, CLOSE_ERROR);
        } else {
                if (o && json_add_i64(o, "exit", status) >= 0)
                        (void) rest_websocket_send(e->call, TAKE_PTR(o));
                close_when_sent(e, CLOSE_OK);
        }
}

static void sink_ended(const char *stream, int status, const KError *error, void *userdata) {
        Exec *e = userdata;
        RestCall *c = e->call;

        e->stream = mfree(e->stream);
        if (!c)
                return;
        rest_enter(c);
        for (unsigned channel = 1; channel <= 2; channel++)
                (void) give(e, channel, NULL, 0);
        if (e->socket)
                end_socket(e, status, kerror_is_set(error) ? error : NULL);
        else if (kerror_is_set(error))
                (void) rest_reply_kerror(c, error);
        else
                rest_finish(c, reply_output(e, status));
        rest_leave(c);
}

static void sink_free(void *userdata) {
        Exec *e = userdata;
        RestCall *c = e->call;

        e->stream = mfree(e->stream);
        if (c && !e->socket && e->running && !rest_is_answered(c)) {
                rest_enter(c);
                (void) rest_reply_error(c, 500,
                                e->output_bytes > OUTPUT_BYTES_MAX
                                                ? "The command wrote too much for one answer."
                                                : "The command was cut off.");
                rest_leave(c);
        }
        exec_unref(e);
}

static int stream_sink(void *userdata, const StreamSink **ret, void **ret_userdata) {
        static const StreamSink sink = {
                .opened = sink_opened,
                .data = sink_data,
                .ended = sink_ended,
                .free = sink_free,
        };
        Exec *e = userdata;

        e->n_ref++;
        *ret = &sink;
        *ret_userdata = e;
        return 0;
}

/* Input, in the order in which it came; one write at a time */

static void pump(Exec *e);

static void on_written(RestCall *c, json_object *result, const KError *error) {
        Exec *e = rest_userdata(c);

        e->writing = false;
        pump(e);
}

static void pump(Exec *e) {
        json_object *params, *text;

        if (!e->running || !e->stream || e->writing)
                return;
        if (e->next_input >= json_object_array_length(e->input)) {
                (void) json_object_array_del_idx(e->input, 0, json_object_array_length(e->input));
                e->next_input = 0;
                if (e->input_ended && stream_params(e, &params) >= 0)
                        (void) rest_call(e->call, "stream.end-input", params, on_nothing);
                return;
        }
        text = json_object_get(json_object_array_get_idx(e->input, e->next_input++));
        e->input_bytes -= (size_t) json_object_get_string_len(text);
        if (stream_params(e, &params) < 0) {
                json_object_put(text);
                return;
        }
        e->writing = true;
        if (json_add(params, "data", text) < 0) {
                json_object_put(params);
                e->writing = false;
        } else if (rest_call(e->call, "stream.write", params, on_written) < 0)
                e->writing = false;
}

static void resize(Exec *e) {
        json_object *params;

        if (!e->has_size || !e->running || !e->stream || stream_params(e, &params) < 0)
                return;
        e->has_size = false;
        if (json_add_u64(params, "rows", e->rows) < 0 || json_add_u64(params, "columns", e->columns) < 0)
                json_object_put(params);
        else
                (void) rest_call(e->call, "stream.resize", params, on_nothing);
}

/* Beginning */

static void on_open(RestCall *c, json_object *result, const KError *error) {
        Exec *e = rest_userdata(c);

        if (error && e->socket) {
                (void) send_text(e, "error", kerror_message(error));
                rest_websocket_close(c, CLOSE_ERROR, "Error: the command could not be started");
                return;
        }
        if (error) {
                rest_fail(c, error, "cmd");
                return;
        }
        e->running = true;
        if (!e->interactive)
                e->input_ended = true;
        resize(e);
        pump(e);
}

/* With shell the words are one line for it. */
static int build_argv(Exec *e, json_object *cmd, json_object **ret) {
        _cleanup_json_ json_object *l = NULL;
        _cleanup_free_ char *line = NULL;

        if (!e->shell) {
                *ret = json_object_get(cmd);
                return 0;
        }
        line = strdup("");
        FOREACH_JSON_ARRAY(word, cmd) {
                char *longer = line ? strjoin(line, *line ? " " : "", json_object_get_string(word)) : NULL;

                free(line);
                line = longer;
        }
        l = json_object_new_array();
        if (!l || !line || json_append_string(l, "/bin/sh") < 0 || json_append_string(l, "-c") < 0 ||
                        json_append_string(l, line) < 0)
                return -ENOMEM;
        *ret = TAKE_PTR(l);
        return 0;
}

static int start(Exec *e, json_object *cmd) {
        _cleanup_json_ json_object *params = NULL, *options = json_object_new_object(), *argv = NULL;
        int r;

        if (!options || json_copy(e->target, &params) < 0)
                return -ENOMEM;
        r = build_argv(e, cmd, &argv);
        REST_ADD(r, json_add(params, "argv", TAKE_PTR(argv)));
        if (e->tty)
                REST_ADD(r, json_add_bool(options, "tty", true));
        REST_ADD(r, json_add(params, "options", TAKE_PTR(options)));
        if (r < 0)
                return r;
        e->started = true;
        e->started_at = now_monotonic();
        return rest_call(e->call, "exec.open", TAKE_PTR(params), on_open);
}

/* Messages of the client */

static void take_cmd(Exec *e, json_object *cmd) {
        bool good = json_object_is_type(cmd, json_type_array) && json_object_array_length(cmd) > 0;

        FOREACH_JSON_ARRAY(word, good ? cmd : NULL)
                if (!json_object_is_type(word, json_type_string) ||
                                strlen(json_object_get_string(word)) !=
                                                (size_t) json_object_get_string_len(word))
                        good = false;
        if (e->started)
                break_off(e, "RuntimeError", "unexpected cmd: already started");
        else if (!good)
                break_off(e, "ArgumentError", "cmd is no list of strings");
        else if (start(e, cmd) < 0)
                break_off(e, "Error", "the command could not be started");
}

static void take_input(Exec *e, json_object *input) {
        if (!e->started)
                break_off(e, "RuntimeError", "unexpected stdin: not started");
        else if (!e->interactive)
                break_off(e, "RuntimeError", "unexpected stdin: not interactive");
        else if (e->input_ended)
                break_off(e, "RuntimeError", "unexpected stdin: it was ended");
        else if (!input) {
                e->input_ended = true;
                pump(e);
        } else if (!json_object_is_type(input, json_type_string))
                break_off(e, "ArgumentError", "stdin is no string");
        else if (json_object_get_string_len(input) == 0)
                return;
        else {
                e->input_bytes += (size_t) json_object_get_string_len(input);
                if (e->input_bytes > INPUT_BYTES_MAX || json_append(e->input, json_object_get(input)) < 0) {
                        break_off(e, "Error", "the command does not read what it is sent");
                        return;
                }
                pump(e);
        }
}

static void take_size(Exec *e, json_object *size) {
        json_object *width = NULL, *height = NULL;

        if (!e->started || !e->tty) {
                break_off(e, "RuntimeError",
                                e->started ? "unexpected tty_size: not a tty"
                                           : "unexpected tty_size: not started");
                return;
        }
        if (json_object_is_type(size, json_type_object)) {
                (void) json_object_object_get_ex(size, "width", &width);
                (void) json_object_object_get_ex(size, "height", &height);
        }
        if (!json_object_is_type(width, json_type_int) || !json_object_is_type(height, json_type_int) ||
                        json_object_get_int64(width) < 0 || json_object_get_int64(height) < 0 ||
                        json_object_get_int64(width) > UINT16_MAX ||
                        json_object_get_int64(height) > UINT16_MAX) {
                break_off(e, "ArgumentError", "tty_size is no size");
                return;
        }
        e->columns = (uint64_t) json_object_get_int64(width);
        e->rows = (uint64_t) json_object_get_int64(height);
        e->has_size = true;
        resize(e);
}

static void on_message(RestCall *c, json_object *o) {
        Exec *e = rest_userdata(c);
        json_object *v;

        if (!o)
                break_off(e, "JSON::ParserError", "a message is no object");
        else if (json_object_object_get_ex(o, "cmd", &v))
                take_cmd(e, v);
        else if (json_object_object_get_ex(o, "stdin", &v))
                take_input(e, v);
        else if (json_object_object_get_ex(o, "tty_size", &v))
                take_size(e, v);
        else
                break_off(e, "ArgumentError", "a message says nothing that is known");
}

static void on_closed(RestCall *c, int code, const char *reason) {
        abandon(rest_userdata(c));
}

static const RestSocketHandler socket_handler = {
        .message = on_message,
        .closed = on_closed,
};

/* A client that waits for a POST may leave, and a command may never end. */
static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        Exec *e = userdata;

        if (!e->call)
                return 0;
        if (e->socket) {
                if (e->close_code != 0)
                        close_when_sent(e, e->close_code);
                else
                        credit_if_read(e);
                return 0;
        }
        if (e->running && (!e->call->http || http_request_ended(e->call->http) ||
                                          now_monotonic() > e->started_at + POST_USEC)) {
                abandon(e);
                return 0;
        }
        (void) arm(e, POST_LOOK_USEC);
        return 0;
}

static bool flag(RestCall *c, const char *key) {
        return streq_ptr(rest_query(c, key), "true");
}

static int exec_new(RestCall *c, const RestContainer *where, bool socket, Exec **ret) {
        static const CallerSinks sinks = { .stream = stream_sink };
        Exec *e = new0(Exec, 1);
        int r;

        if (!e)
                return -ENOMEM;
        e->n_ref = 1;
        e->call = c;
        e->master = rest_master(c);
        rest_set_userdata(c, e, exec_leave);
        e->socket = socket;
        e->interactive = socket && flag(c, "interactive");
        e->shell = socket && flag(c, "shell");
        e->tty = socket && flag(c, "tty");
        e->input = json_object_new_array();
        e->output[0] = json_object_new_array();
        e->output[1] = json_object_new_array();
        e->target = json_object_new_object();
        r = e->input && e->output[0] && e->output[1] && e->target ? 0 : -ENOMEM;
        REST_ADD(r, json_add_string(e->target, "grid", where->grid->name));
        REST_ADD(r, json_add_string(e->target, "stack", where->service->stack));
        REST_ADD(r, json_add_string(e->target, "service", where->service->name));
        REST_ADD(r, json_add_u64(e->target, "instance", where->instance->number));
        REST_ADD(r, sd_event_add_time_relative(e->master->event, &e->timer, CLOCK_MONOTONIC, POST_LOOK_USEC,
                                    0, on_timer, e));
        if (r < 0)
                return r;
        if (socket)
                (void) sd_event_source_set_enabled(e->timer, SD_EVENT_OFF);

        rest_caller(c)->sinks = &sinks;
        rest_caller(c)->sinks_userdata = e;
        *ret = e;
        return 0;
}

static int begin(RestCall *c) {
        _cleanup_(rest_container_done) RestContainer where = {};
        bool socket = streq(rest_route(c)->method, "GET");
        json_object *cmd = NULL;
        Exec *e;
        int r;

        r = rest_find_container(c, &where);
        if (r == -ENOENT)
                return rest_reply_empty(c, 404);
        if (r < 0)
                return r;
        if (!where.node->connected)
                return rest_reply_error(c, 503, "The node of this container is offline.");
        r = exec_new(c, &where, socket, &e);
        if (r < 0)
                return r;
        if (socket)
                return rest_websocket_accept(c, &socket_handler);
        (void) json_find_array(rest_body(c), "cmd", &cmd, NULL);
        return start(e, cmd);
}

/* Who may not run anything there learns nothing of what is there; that exec.open is allowed too is asked when it is called. */
static int exec_command(RestCall *c, KError *reterr) {
        json_object *params;
        int r;

        r = rest_grid_params(c, &params);
        return r < 0 ? r : rest_call_then(c, "service.list", params, begin);
}

#define C "/v1/containers/:grid/:node/:container"

const RestRoute exec_routes[] = {
        { "POST", C "/exec", .operation = "exec.open", .summary = "Run a command to its end",
                        .body = exec_fields, .handler = exec_command },
        { "GET", C "/exec", .flags = REST_WEBSOCKET, .operation = "exec.open",
                        .summary = "Run a command over a WebSocket", .handler = exec_command },
};
const size_t n_exec_routes = ELEMENTSOF(exec_routes);
