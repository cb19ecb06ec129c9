/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test-session.h"

#include <stdio.h>

#include "string-util.h"

struct NodeSession {
        char id[64];
};

static struct {
        session_result_t done;
        void *userdata;
        NodeSession *session;
} open_calls[64];
static unsigned n_open;
static bool is_online = true;
static const char *offline_id;
static NodeSession sessions[16];
static unsigned n_sessions;
static char last_method[64];
static json_object *last_params;
static size_t bytes;

void test_session_set_online(bool online) {
        is_online = online;
}

void test_session_set_offline(const char *node_id) {
        offline_id = node_id;
}

NodeSession *test_session(const char *node_id) {
        for (unsigned i = 0; i < n_sessions; i++)
                if (streq(sessions[i].id, node_id))
                        return sessions + i;

        assert(n_sessions < ELEMENTSOF(sessions));
        snprintf(sessions[n_sessions].id, sizeof(sessions[0].id), "%s", node_id);
        return sessions + n_sessions++;
}

const char *test_session_last_method(void) {
        return last_method;
}

json_object *test_session_last_params(void) {
        return last_params;
}

unsigned test_session_n_open(void) {
        return n_open;
}

static void answer(json_object *result, const KError *error) {
        session_result_t done = open_calls[0].done;
        void *userdata = open_calls[0].userdata;
        NodeSession *s = open_calls[0].session;

        assert(n_open > 0);
        memmove(open_calls, open_calls + 1, --n_open * sizeof(open_calls[0]));
        done(s, result, error, userdata);
}

void test_session_answer(const char *error) {
        _cleanup_kerror_ KError e = KERROR_NULL;

        if (error)
                (void) kerror_set(&e, K_CONFLICT, "%s", error);
        answer(NULL, error ? &e : NULL);
}

void test_session_answer_with(json_object *result) {
        answer(result, NULL);
        json_object_put(result);
}

NodeSession *node_sessions_find(NodeSessions *l, const char *node_id) {
        return is_online && !streq_ptr(node_id, offline_id) ? test_session(node_id) : NULL;
}

const char *session_node_id(NodeSession *s) {
        return s->id;
}

int session_call(NodeSession *s, const char *method, json_object *params, uint64_t timeout_usec,
                session_result_t done, void *userdata) {
        assert(n_open < ELEMENTSOF(open_calls));

        snprintf(last_method, sizeof(last_method), "%s", method);
        json_object_put(last_params);
        last_params = params;
        open_calls[n_open].done = done;
        open_calls[n_open].userdata = userdata;
        open_calls[n_open].session = s;
        n_open++;
        return 0;
}

int session_notify(NodeSession *s, const char *method, json_object *params) {
        snprintf(last_method, sizeof(last_method), "%s", method);
        json_object_put(last_params);
        last_params = params;
        return 0;
}

/* The rest of the header, for what the tracker would say to a node: no test here speaks to one. */
uint64_t session_id(NodeSession *s) {
        return 1;
}

const char *session_address(NodeSession *s) {
        return "192.0.2.1";
}

size_t test_session_bytes(void) {
        return bytes;
}

int session_send_binary(NodeSession *s, const void *head, size_t head_size, const void *data, size_t size) {
        bytes += size;
        return 0;
}

int session_reply(NodeSession *s, uint64_t id, json_object *result) {
        json_object_put(result);
        return 0;
}

int session_reply_error(NodeSession *s, uint64_t id, const KError *error) {
        return 0;
}

void session_close(NodeSession *s, int code, const char *reason) {
}
