/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "json-util.h"
#include "jsonrpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Messages, one a line, to a peer that has calls under way and answers half of what it is asked. */

typedef struct Peer {
        JsonRpc *rpc;
        unsigned results;
} Peer;

static int on_send(const char *text, size_t size, void *userdata) {
        _cleanup_json_ json_object *o = NULL;

        assert(json_parse(text, size, 64U * 1024U * 1024U, &o, NULL) >= 0);
        return 0;
}

static int on_method(uint64_t id, const char *method, json_object *params, void *userdata) {
        Peer *p = userdata;

        assert(strlen(method) > 0);
        assert(!params || json_object_is_type(params, json_type_object));
        if (id % 2 == 1)
                assert(jsonrpc_reply(p->rpc, id, json_object_get(params)) == 0);
        return method[0] == 'x' ? -EPROTO : 0;
}

static void on_result(jsonrpc_callback_t done, void *done_userdata, json_object *result, const KError *error,
                void *userdata) {
        Peer *p = userdata;

        assert(!result || !error);
        p->results++;
}

static void nothing(void) {
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static const JsonRpcHandler handler = { .send = on_send, .method = on_method, .result = on_result };
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        const char *text = (const char *) data, *end = text + size;
        Peer p = {};

        if (sd_event_new(&event) < 0 || jsonrpc_new(event, &handler, &p, &p.rpc) < 0)
                return 0;
        for (unsigned i = 0; i < 4; i++)
                assert(jsonrpc_call(p.rpc, "m", NULL, 0, nothing, NULL) == 0);

        while (text < end) {
                const char *newline = memchr(text, '\n', (size_t) (end - text)) ?: end;
                _cleanup_kerror_ KError error = KERROR_NULL;

                if (jsonrpc_receive(p.rpc, text, (size_t) (newline - text), &error) < 0)
                        assert(kerror_is_set(&error));
                text = newline + 1;
        }

        p.rpc = jsonrpc_free(p.rpc);
        assert(p.results == 4); /* each call ended, once */
        return 0;
}
