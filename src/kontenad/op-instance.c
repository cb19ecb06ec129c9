/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>

#include "json-util.h"
#include "kontena-limits.h"
#include "node-session.h"
#include "op-internal.h"
#include "render.h"
#include "string-util.h"

/* What the node of one instance knows of it. Command lines and configurations may show what somebody has put into them, so this is for
 * those who may change services. */

#define TELL_TIMEOUT_USEC (30ULL * 1000000ULL)
#define MANAGE            "io.kontena.master1.manage-services"

/* A node may say anything: only what is of the right type goes on. */
static int copy_process(json_object *from, json_object *rows) {
        static const char *const numbers[] = { "pid", "ppid", "cpu_usec", "memory", "started_at" };
        static const char *const strings[] = { "user", "state", "command" };
        _cleanup_json_ json_object *o = json_object_new_object();
        int r;

        if (!o)
                return -ENOMEM;
        if (!json_object_is_type(from, json_type_object))
                return 0;
        FOREACH_ARRAY(key, numbers, ELEMENTSOF(numbers)) {
                uint64_t n = 0;

                if (json_find_u64(from, *key, &n, NULL) <= 0)
                        continue;
                r = json_add_u64(o, *key, n);
                if (r < 0)
                        return r;
        }
        FOREACH_ARRAY(key, strings, ELEMENTSOF(strings)) {
                const char *s = NULL;

                if (json_find_string(from, *key, &s, NULL) <= 0)
                        continue;
                r = json_add_string(o, *key, strempty(s));
                if (r < 0)
                        return r;
        }
        return json_append(rows, TAKE_PTR(o));
}

static int add_processes(json_object *result, json_object *answer) {
        _cleanup_json_ json_object *rows = json_object_new_array();
        json_object *processes = NULL;
        size_t n = 0;
        int r;

        if (!rows)
                return -ENOMEM;
        if (json_find_array(result, "processes", &processes, NULL) < 0)
                processes = NULL;
        FOREACH_JSON_ARRAY(p, processes) {
                if (n++ >= PROCESSES_SHOWN_MAX)
                        break;
                r = copy_process(p, rows);
                if (r < 0)
                        return r;
        }
        return json_add(answer, "processes", TAKE_PTR(rows));
}

static void on_answer(NodeSession *s, json_object *result, const KError *error, void *userdata) {
        _cleanup_json_ json_object *answer = json_object_new_object();
        _cleanup_kerror_ KError e = KERROR_NULL;
        OperationCall *c = userdata;
        int r;

        if (kerror_is_set(error)) {
                operation_call_finish(c, NULL, error);
                return;
        }
        if (!answer)
                r = -ENOMEM;
        else if (streq(c->operation->name, "instance.top"))
                r = add_processes(result, answer);
        else
                r = json_add_string(answer, "description", json_text(result));
        if (r < 0)
                (void) kerror_set_errno(&e, r, "The node's answer cannot be handed on: %m.");
        operation_call_finish(c, r < 0 ? NULL : answer, r < 0 ? &e : NULL);
}

int call_instance(OperationCall *c, InstanceRow **ret, NodeSession **ret_session, KError *reterr) {
        _cleanup_(instance_row_list_done) InstanceRowList l = {};
        _cleanup_free_ char *node = NULL;
        uint64_t number = 0;
        int r;

        r = json_get_u64(c->parameters, "instance", &number, reterr);
        if (r >= 0)
                r = store_list_instances_of_service(c->master->store, c->service->id, &l);
        if (r < 0)
                return r;
        FOREACH_ARRAY(i, l.rows, l.n) {
                NodeSession *session;

                if ((*i)->role != INSTANCE_CURRENT || (*i)->desired == INSTANCE_TERMINATED ||
                                (*i)->number != number)
                        continue;
                if (!(*i)->node_id)
                        return kerror_set(reterr, K_CONFLICT,
                                        "Instance %" PRIu64 " of service '%s' is on no node yet.", number,
                                        c->service->name);
                session = node_sessions_find(c->master->sessions, (*i)->node_id);
                if (!session) {
                        node = node_name(c->master, (*i)->node_id);
                        return kerror_set(reterr, K_NODE_OFFLINE, "Node '%s' with instance %u is offline.",
                                        strempty(node), (*i)->number);
                }
                *ret = TAKE_PTR(*i);
                *ret_session = session;
                return 0;
        }

        return kerror_set(reterr, K_NO_SUCH_INSTANCE, "Service '%s' has no instance %" PRIu64 ".",
                        c->service->name, number);
}

static int instance_ask(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_json_ json_object *params = json_object_new_object();
        _cleanup_(instance_row_freep) InstanceRow *instance = NULL;
        NodeSession *session;
        int r;

        if (!params)
                return -ENOMEM;
        r = call_instance(c, &instance, &session, reterr);
        if (r >= 0)
                r = json_add_string(params, "id", instance->id);
        if (r < 0)
                return r;
        r = session_call(session, c->operation->name, TAKE_PTR(params), TELL_TIMEOUT_USEC, on_answer, c);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Instance %u cannot be asked for: %m.", instance->number);
        return 1;
}

#define INSTANCE_PARAMETERS                                                                                 \
        { "grid", PARAMETER_STRING, true }, { "stack", PARAMETER_STRING, true },                            \
                        { "service", PARAMETER_STRING, true }, {                                            \
                "instance", PARAMETER_U32, true                                                             \
        }

const Operation instance_operations[] = {
        {
                        .name = "instance.inspect",
                        .method = "InspectInstance",
                        .action = MANAGE,
                        .role = "member",
                        .flags = OPERATION_AUDITED | OPERATION_GRID | OPERATION_SERVICE,
                        .parameters = { INSTANCE_PARAMETERS },
                        .results = { "description" },
                        .perform = instance_ask,
        },
        {
                        .name = "instance.top",
                        .method = "ListProcesses",
                        .action = MANAGE,
                        .role = "member",
                        .flags = OPERATION_AUDITED | OPERATION_GRID | OPERATION_SERVICE,
                        .parameters = { INSTANCE_PARAMETERS },
                        .results = { "processes" },
                        .perform = instance_ask,
        },
};
const size_t n_instance_operations = ELEMENTSOF(instance_operations);
