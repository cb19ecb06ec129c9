/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "deployer.h"
#include "events.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "operation.h"
#include "render.h"

static int deploy_list(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_(deploy_row_list_done) DeployRowList l = {};
        _cleanup_json_ json_object *array = json_object_new_array();
        int r;

        if (!array)
                return -ENOMEM;
        r = store_list_deploys(c->master->store, c->service->id, DEPLOYS_KEPT_PER_SERVICE, &l);
        if (r < 0)
                return r;
        FOREACH_ARRAY(d, l.rows, l.n) {
                _cleanup_(deploy_row_freep) DeployRow *whole = NULL;
                json_object *row;

                r = store_get_deploy(c->master->store, (*d)->id, &whole);
                if (r >= 0)
                        r = render_deploy(c->master, c->grid, c->service, whole, &row);
                if (r >= 0)
                        r = json_append(array, row);
                if (r < 0)
                        return r;
        }
        return json_wrap("deploys", TAKE_PTR(array), ret);
}

static int deploy_get(OperationCall *c, json_object **ret, KError *reterr) {
        return render_deploy(c->master, c->grid, c->service, c->deploy, ret);
}

static int cancel(OperationCall *c, json_object **ret, KError *reterr) {
        int r;

        r = deploy_cancel(c->master->store, c->deploy->id, "It was cancelled.", reterr);
        if (r < 0)
                return r;
        return events_add(c->master,
                        &(EventInfo){ .severity = "info",
                                        .type = "service:deploy",
                                        .grid_id = c->grid->id,
                                        .service_id = c->service ? c->service->id : NULL },
                        "Deploy of service '%s' was cancelled.", c->service ? c->service->name : "?");
}

const Operation deploy_operations[] = {
        {
                        .name = "deploy.list",
                        .method = "ListDeploys",
                        .action = "io.kontena.master1.read",
                        .role = "member",
                        .flags = OPERATION_GRID | OPERATION_SERVICE,
                        .parameters = { { "grid", PARAMETER_STRING, true },
                                        { "stack", PARAMETER_STRING, true },
                                        { "service", PARAMETER_STRING, true } },
                        .results = { "deploys" },
                        .perform = deploy_list,
        },
        {
                        .name = "deploy.get",
                        .action = "io.kontena.master1.read",
                        .role = "member",
                        .flags = OPERATION_DEPLOY,
                        .parameters = { { "deploy", PARAMETER_STRING, true } },
                        .results = { "" },
                        .perform = deploy_get,
        },
        {
                        .name = "deploy.cancel",
                        .action = "io.kontena.master1.manage-services",
                        .role = "member",
                        .flags = OPERATION_CHANGES | OPERATION_AUDITED | OPERATION_DEPLOY,
                        .parameters = { { "deploy", PARAMETER_STRING, true } },
                        .perform = cancel,
        },
};
const size_t n_deploy_operations = ELEMENTSOF(deploy_operations);
