/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "deploy-move.h"
#include "deployer.h"
#include "events.h"
#include "file-util.h"
#include "json-util.h"
#include "operation.h"

static int instance_move(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_json_ json_object *o = json_object_new_object();
        Store *s = c->master->store;
        _cleanup_free_ char *id = NULL;
        uint64_t number = 0;
        int r;

        if (!o)
                return -ENOMEM;
        r = json_get_u64(c->parameters, "instance", &number, reterr);
        if (r < 0)
                return r;
        r = deploy_is_running(s, c->service->id);
        if (r < 0)
                return r;
        if (r > 0)
                return kerror_set(reterr, K_CONFLICT,
                                "Service '%s' is being deployed; wait until that is over, or cancel it.",
                                c->service->name);
        r = deploy_move_request(s, c->service, (uint32_t) number, c->node, now_realtime(), &id, reterr);
        if (r >= 0)
                r = json_add_string(o, "deploy", id);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

const Operation move_operations[] = {
        {
                        .name = "instance.move",
                        .method = "MoveInstance",
                        .action = "io.kontena.master1.manage-services",
                        .role = "member",
                        .flags = OPERATION_CHANGES | OPERATION_AUDITED | OPERATION_GRID | OPERATION_NODE |
                                 OPERATION_SERVICE | OPERATION_LONG,
                        .parameters = { { "grid", PARAMETER_STRING, true },
                                        { "stack", PARAMETER_STRING, true },
                                        { "service", PARAMETER_STRING, true },
                                        { "instance", PARAMETER_U32, true },
                                        { "node", PARAMETER_STRING, true } },
                        .results = { "deploy" },
                        .perform = instance_move,
        },
};
const size_t n_move_operations = ELEMENTSOF(move_operations);
