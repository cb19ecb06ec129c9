/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jsonrpc.h"

#include <uthash.h>

#include "file-util.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "log.h"
#include "string-util.h"

#define METHOD_LENGTH_MAX  128U
#define MESSAGE_LENGTH_MAX 8192U
#define ERROR_CODE         -32000 /* ours; which one it is stands in data.code */
#define TIMER_ACCURACY     (10U * USEC_PER_MSEC)

typedef struct Call {
        uint64_t id, deadline;
        char *method;
        jsonrpc_callback_t done;
        void *userdata;
        struct Call *next; /* while it is taken out of the table */
        UT_hash_handle hh;
} Call;

typedef struct Request { /* of the peer, not yet answered */
        uint64_t id;
        UT_hash_handle hh;
} Request;

struct JsonRpc {
        sd_event *event;
        sd_event_source *timer;
        uint64_t timer_at; /* USEC_INFINITY: off */

        const JsonRpcHandler *handler;
        void *userdata;

        Call *calls;
        Request *requests;
        uint64_t last_id;
        bool freeing;
};

static Call *call_free(Call *c) {
        if (!c)
                return NULL;

        free(c->method);
        free(c);
        return NULL;
}
DEFINE_TRIVIAL_CLEANUP_FUNC(Call *, call_free);

static void call_finish(JsonRpc *j, Call *c, json_object *result, const KError *error) {
        _cleanup_(call_freep) Call *owned = c;

        j->handler->result(owned->done, owned->userdata, result, error, j->userdata);
}

static void timer_set(JsonRpc *j, uint64_t at) {
        if (at == j->timer_at)
                return;

        j->timer_at = at;
        if (at == USEC_INFINITY) {
                (void) sd_event_source_set_enabled(j->timer, SD_EVENT_OFF);
                return;
        }
        (void) sd_event_source_set_time(j->timer, at);
        (void) sd_event_source_set_enabled(j->timer, SD_EVENT_ONESHOT);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        JsonRpc *j = userdata;
        uint64_t now = now_monotonic(), next = USEC_INFINITY;
        Call *c, *tmp, *due = NULL;

        HASH_ITER(hh, j->calls, c, tmp) {
                if (c->deadline > now) {
                        next = MIN(next, c->deadline);
                        continue;
                }
                HASH_DEL(j->calls, c);
                c->next = due;
                due = c;
        }
        j->timer_at = USEC_INFINITY;
        timer_set(j, next);

        while (due) {
                _cleanup_kerror_ KError error = KERROR_NULL;

                c = due;
                due = c->next;
                (void) kerror_set(
                                &error, K_TIMEOUT, "The other side did not answer '%s' in time.", c->method);
                call_finish(j, c, NULL, &error);
        }

        return 0;
}

int jsonrpc_new(sd_event *event, const JsonRpcHandler *handler, void *userdata, JsonRpc **ret) {
        _cleanup_(jsonrpc_freep) JsonRpc *j = NULL;
        int r;

        assert(event);
        assert(handler);
        assert(ret);

        j = new0(JsonRpc, 1);
        if (!j)
                return -ENOMEM;
        j->event = sd_event_ref(event);
        j->handler = handler;
        j->userdata = userdata;
        j->timer_at = USEC_INFINITY;

        r = sd_event_add_time(event, &j->timer, CLOCK_MONOTONIC, 0, TIMER_ACCURACY, on_timer, j);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(j->timer, SD_EVENT_OFF);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(j->timer, "jsonrpc-deadline");

        *ret = TAKE_PTR(j);
        return 0;
}

static void requests_clear(JsonRpc *j) {
        Request *q, *tmp;

        HASH_ITER(hh, j->requests, q, tmp) {
                HASH_DEL(j->requests, q);
                free(q);
        }
}

void jsonrpc_reset(JsonRpc *j, KErrorCode code, const char *message) {
        Call *c, *tmp, *list = NULL;

        HASH_ITER(hh, j->calls, c, tmp) {
                HASH_DEL(j->calls, c);
                c->next = list;
                list = c;
        }
        requests_clear(j);
        timer_set(j, USEC_INFINITY);

        while (list) {
                _cleanup_kerror_ KError error = KERROR_NULL;

                c = list;
                list = c->next;
                (void) kerror_set(&error, code, "%s", message);
                call_finish(j, c, NULL, &error);
        }
}

JsonRpc *jsonrpc_free(JsonRpc *j) {
        if (!j)
                return NULL;

        j->freeing = true; /* callbacks cannot start new ones */
        if (j->timer)
                jsonrpc_reset(j, K_NODE_OFFLINE, "The connection has ended.");
        sd_event_source_disable_unref(j->timer);
        sd_event_unref(j->event);
        free(j);
        return NULL;
}

size_t jsonrpc_calls(const JsonRpc *j) {
        return HASH_COUNT(j->calls);
}

static int message_new(json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();
        int r;

        if (!o)
                return -ENOMEM;
        r = json_add_string(o, "jsonrpc", "2.0");
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

static int message_send(JsonRpc *j, json_object *o) {
        const char *text = json_text(o);
        size_t size;

        if (!text)
                return -ENOMEM;
        size = strlen(text);
        if (size > FRAME_SIZE_MAX)
                return -EMSGSIZE;

        return j->handler->send(text, size, j->userdata);
}

static int method_send(JsonRpc *j, uint64_t id, const char *method, json_object *params) {
        _cleanup_json_ json_object *o = NULL, *owned = params;
        int r;

        r = message_new(&o);
        if (r < 0)
                return r;
        if (id > 0) {
                r = json_add_u64(o, "id", id);
                if (r < 0)
                        return r;
        }
        r = json_add_string(o, "method", method);
        if (r < 0)
                return r;
        if (owned) {
                r = json_add(o, "params", TAKE_PTR(owned));
                if (r < 0)
                        return r;
        }

        return message_send(j, o);
}

int jsonrpc_call(JsonRpc *j, const char *method, json_object *params, uint64_t timeout_usec,
                jsonrpc_callback_t done, void *done_userdata) {
        _cleanup_(call_freep) Call *c = NULL;
        _cleanup_json_ json_object *owned = params;
        int r;

        assert(j);
        assert(method);
        assert(done);

        if (j->freeing)
                return -ENOTCONN;
        if (HASH_COUNT(j->calls) >= CHANNEL_CALLS_MAX)
                return -ENOBUFS;

        c = new0(Call, 1);
        if (!c)
                return -ENOMEM;
        c->method = strdup(method);
        if (!c->method)
                return -ENOMEM;
        c->id = ++j->last_id;
        c->deadline = now_monotonic() + (timeout_usec > 0 ? timeout_usec : CHANNEL_CALL_TIMEOUT_USEC);
        c->done = done;
        c->userdata = done_userdata;

        /* Not in the table before it is sent: a transport that fails may reset us from inside send(). */
        r = method_send(j, c->id, method, TAKE_PTR(owned));
        if (r < 0)
                return r;

        HASH_ADD(hh, j->calls, id, sizeof(c->id), c);
        if (!c->hh.tbl)
                return -ENOMEM;
        if (c->deadline < j->timer_at)
                timer_set(j, c->deadline);

        (void) TAKE_PTR(c);
        return 0;
}

int jsonrpc_notify(JsonRpc *j, const char *method, json_object *params) {
        assert(j);
        assert(method);

        return method_send(j, 0, method, params);
}

static int request_take(JsonRpc *j, uint64_t id) {
        Request *q;

        HASH_FIND(hh, j->requests, &id, sizeof(id), q);
        if (!q)
                return -ENOENT;

        HASH_DEL(j->requests, q);
        free(q);
        return 0;
}

int jsonrpc_reply(JsonRpc *j, uint64_t id, json_object *result) {
        _cleanup_json_ json_object *o = NULL, *owned = result;
        int r;

        assert(j);

        r = request_take(j, id);
        if (r < 0)
                return r;
        r = message_new(&o);
        if (r < 0)
                return r;
        r = json_add_u64(o, "id", id);
        if (r < 0)
                return r;
        if (!owned) {
                if (json_object_object_add(o, "result", NULL) < 0)
                        return -ENOMEM;
        } else {
                r = json_add(o, "result", TAKE_PTR(owned));
                if (r < 0)
                        return r;
        }

        return message_send(j, o);
}

static int error_send(JsonRpc *j, uint64_t id, const KError *error) {
        _cleanup_json_ json_object *o = NULL, *e = NULL, *data = NULL;
        int r;

        r = message_new(&o);
        if (r < 0)
                return r;
        r = json_add_u64(o, "id", id);
        if (r < 0)
                return r;

        e = json_object_new_object();
        data = json_object_new_object();
        if (!e || !data)
                return -ENOMEM;
        r = json_add_i64(e, "code", ERROR_CODE);
        if (r < 0)
                return r;
        r = json_add_string(e, "message", kerror_message(error));
        if (r < 0)
                return r;
        r = json_add_string(data, "code", kerror_bus_name(kerror_is_set(error) ? error->code : K_INTERNAL));
        if (r < 0)
                return r;
        r = json_add(e, "data", TAKE_PTR(data));
        if (r < 0)
                return r;
        r = json_add(o, "error", TAKE_PTR(e));
        if (r < 0)
                return r;

        return message_send(j, o);
}

int jsonrpc_reply_error(JsonRpc *j, uint64_t id, const KError *error) {
        int r;

        assert(j);

        r = request_take(j, id);
        if (r < 0)
                return r;

        return error_send(j, id, error);
}

static int receive_request(JsonRpc *j, json_object *o, uint64_t id, KError *reterr) {
        const char *method;
        json_object *params = NULL;
        int r;

        r = json_get_string(o, "method", &method, reterr);
        if (r < 0)
                return r;
        if (isempty(method) || strlen(method) > METHOD_LENGTH_MAX || !string_is_printable(method))
                return kerror_set(
                                reterr, K_INVALID_ARGUMENT, "The name of the method is empty or malformed.");
        if (json_object_object_get_ex(o, "params", &params) && params &&
                        !json_object_is_type(params, json_type_object))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "The parameters of '%s' are not an object.",
                                method);

        if (id > 0) {
                _cleanup_free_ Request *q = NULL;
                Request *other;

                HASH_FIND(hh, j->requests, &id, sizeof(id), other);
                if (other)
                        return kerror_set(reterr, K_INVALID_ARGUMENT, "Request %llu came twice.",
                                        (unsigned long long) id);
                if (HASH_COUNT(j->requests) >= CHANNEL_CALLS_MAX) {
                        _cleanup_kerror_ KError error = KERROR_NULL;

                        (void) kerror_set(&error, K_LIMIT_EXCEEDED,
                                        "More than %u requests wait for an answer.", CHANNEL_CALLS_MAX);
                        return error_send(j, id, &error);
                }
                q = new0(Request, 1);
                if (!q)
                        return -ENOMEM;
                q->id = id;
                HASH_ADD(hh, j->requests, id, sizeof(q->id), q);
                if (!q->hh.tbl)
                        return -ENOMEM;
                (void) TAKE_PTR(q);
        }

        r = j->handler->method(id, method, params, j->userdata);
        if (r < 0)
                return kerror_set_errno(reterr, r, "'%s' could not be handled: %m.", method);
        return 0;
}

/* The sentence is shown to people and logged, so control characters go. */
static char *message_clean(const char *s) {
        char *copy = strndup(s, MESSAGE_LENGTH_MAX);

        for (char *p = copy; p && *p; p++)
                if (((unsigned char) *p < 0x20 && *p != '\n' && *p != '\t') || *p == 0x7f)
                        *p = '?';
        return copy;
}

static int receive_error(json_object *e, KError *ret, KError *reterr) {
        _cleanup_free_ char *clean = NULL;
        const char *message, *name = NULL;
        json_object *data = NULL;
        KErrorCode code = K_INTERNAL;
        int64_t number = 0;
        int r;

        r = json_find_i64(e, "code", &number, reterr);
        if (r < 0)
                return r;
        r = json_get_string(e, "message", &message, reterr);
        if (r < 0)
                return r;
        if (json_object_object_get_ex(e, "data", &data) && json_object_is_type(data, json_type_object) &&
                        json_find_string(data, "code", &name, NULL) > 0) {
                code = kerror_code_from_bus_name(name);
                if (code <= K_OK)
                        code = K_INTERNAL; /* of a newer version */
        }

        clean = message_clean(message);
        if (!clean)
                return -ENOMEM;
        (void) kerror_set(ret, code, "%s", clean);
        return 0;
}

static int receive_response(JsonRpc *j, json_object *o, uint64_t id, KError *reterr) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        json_object *result = NULL, *e = NULL;
        bool has_result, has_error;
        Call *c;
        int r;

        has_result = json_object_object_get_ex(o, "result", &result);
        has_error = json_object_object_get_ex(o, "error", &e);
        if (has_result == has_error)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "A message has no method and not exactly one of result and error.");

        if (has_error) {
                r = receive_error(e, &error, reterr);
                if (r < 0)
                        return r;
        }

        HASH_FIND(hh, j->calls, &id, sizeof(id), c);
        if (!c) {
                log_debug("Answer to request %llu, which nobody waits for (any more), ignored.",
                                (unsigned long long) id);
                return 0;
        }

        HASH_DEL(j->calls, c);
        if (HASH_COUNT(j->calls) == 0)
                timer_set(j, USEC_INFINITY);
        call_finish(j, c, result, has_error ? &error : NULL);
        return 0;
}

int jsonrpc_receive(JsonRpc *j, const char *text, size_t size, KError *reterr) {
        _cleanup_json_ json_object *o = NULL;
        json_object *v = NULL;
        const char *version;
        bool has_id;
        uint64_t id = 0;
        int r;

        assert(j);

        r = json_parse(text, size, FRAME_SIZE_MAX, &o, reterr);
        if (r < 0)
                return r;
        if (!json_object_is_type(o, json_type_object))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "A message is not a JSON object.");
        r = json_get_string(o, "jsonrpc", &version, reterr);
        if (r < 0)
                return r;
        if (!streq(version, "2.0"))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'jsonrpc' is not 2.0.");

        has_id = json_object_object_get_ex(o, "id", &v);
        if (has_id && !v && !json_object_object_get_ex(o, "method", NULL)) {
                log_debug("The other side could not read a message of ours.");
                return 0;
        }
        if (has_id) {
                r = json_get_u64(o, "id", &id, reterr);
                if (r < 0)
                        return r;
                if (id == 0 || id > INT64_MAX)
                        return kerror_set(reterr, K_INVALID_ARGUMENT, "'id' is out of range.");
        }

        if (json_object_object_get_ex(o, "method", NULL))
                return receive_request(j, o, id, reterr);
        if (!has_id)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "A message has neither method nor id.");
        return receive_response(j, o, id, reterr);
}
