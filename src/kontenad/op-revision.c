/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>

#include "audit.h"
#include "deployer.h"
#include "events.h"
#include "json-util.h"
#include "operation.h"
#include "render.h"
#include "string-util.h"

static int render_revision(const OperationCall *c, const RevisionRow *row, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object(), *spec = NULL;
        int r;

        /* Passwords stand in the environment of many services. */
        spec = c->sees_values ? json_object_get(row->spec) : audit_without_values(row->spec);
        if (!o || !spec)
                return -ENOMEM;

        r = json_add_u64(o, "revision", row->revision);
        if (r >= 0)
                r = json_add_bool(o, "current", row->revision == c->service->revision);
        if (r >= 0)
                r = json_add_bool(o, "good", row->good);
        if (r >= 0)
                r = json_add_string(o, "image", json_string_or(row->spec, "image", ""));
        if (r >= 0)
                r = json_add_string(o, "image_digest", strempty(row->image_digest));
        if (r >= 0)
                r = json_add_string(o, "author", strempty(row->author));
        if (r >= 0)
                r = json_add_u64(o, "created_at", row->created_at);
        if (r >= 0)
                r = json_add_u64(o, "deployed_at", row->deployed_at);
        if (r >= 0)
                r = json_add(o, "spec", TAKE_PTR(spec));
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

static int revision_list(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_json_ json_object *array = json_object_new_array();
        _cleanup_(revision_row_list_done) RevisionRowList l = {};
        int r;

        if (!array)
                return -ENOMEM;
        r = store_list_revisions(c->master->store, c->service->id, &l);
        if (r < 0)
                return r;
        FOREACH_ARRAY(row, l.rows, l.n) {
                json_object *one;

                r = render_revision(c, *row, &one);
                if (r >= 0)
                        r = json_append(array, one);
                if (r < 0)
                        return r;
        }
        return json_wrap("revisions", TAKE_PTR(array), ret);
}

static int find_target(OperationCall *c, uint64_t revision, RevisionRow **ret, KError *reterr) {
        const ServiceRow *s = c->service;
        int r;

        if (revision == s->revision)
                return kerror_set(reterr, K_CONFLICT, "Revision %" PRIu64 " is what '%s' has now.", revision,
                                s->name);
        r = revision > 0 ? store_find_revision(c->master->store, s->id, revision, ret)
                         : store_find_good_revision(c->master->store, s->id, s->revision, ret);
        if (r == -ENOENT && revision == 0)
                return kerror_set(reterr, K_CONFLICT,
                                "No other revision of '%s' was ever deployed well; name one to go back to.",
                                s->name);
        if (r == -ENOENT)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "There is no revision %" PRIu64 " of '%s' (any more).", revision, s->name);
        return r;
}

static int service_rollback(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_json_ json_object *o = json_object_new_object();
        _cleanup_(revision_row_freep) RevisionRow *to = NULL;
        _cleanup_free_ char *id = NULL;
        uint64_t revision = 0;
        int r;

        if (!o)
                return -ENOMEM;
        r = json_find_u64(c->parameters, "revision", &revision, reterr);
        if (r >= 0)
                r = find_target(c, revision, &to, reterr);
        if (r >= 0)
                r = deploy_rollback(c->master->store, c->service, to, /* cause= */ NULL, &id, reterr);
        if (r >= 0)
                r = json_add_string(o, "deploy", id);
        if (r < 0)
                return r;
        (void) events_add(c->master,
                        &(EventInfo){ .severity = "info",
                                        .type = "service:rollback",
                                        .grid_id = c->grid->id,
                                        .service_id = c->service->id },
                        "Service '%s' goes back to revision %" PRIu64 ".", c->service->name, to->revision);

        *ret = TAKE_PTR(o);
        return 0;
}

const Operation revision_operations[] = {
        {
                        .name = "service.history",
                        .method = "ListRevisions",
                        .action = "io.kontena.master1.read",
                        .role = "member",
                        .flags = OPERATION_GRID | OPERATION_SERVICE | OPERATION_VALUES,
                        .parameters = { { "grid", PARAMETER_STRING, true },
                                        { "stack", PARAMETER_STRING, true },
                                        { "service", PARAMETER_STRING, true } },
                        .results = { "revisions" },
                        .perform = revision_list,
        },
        {
                        .name = "service.rollback",
                        .method = "RollbackService",
                        .action = "io.kontena.master1.manage-services",
                        .role = "member",
                        .flags = OPERATION_CHANGES | OPERATION_AUDITED | OPERATION_GRID | OPERATION_SERVICE |
                                 OPERATION_LONG,
                        .parameters = { { "grid", PARAMETER_STRING, true },
                                        { "stack", PARAMETER_STRING, true },
                                        { "service", PARAMETER_STRING, true },
                                        { "revision", PARAMETER_U32, true } },
                        .results = { "deploy" },
                        .perform = service_rollback,
        },
};
const size_t n_revision_operations = ELEMENTSOF(revision_operations);
