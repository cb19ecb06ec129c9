/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "events.h"
#include "job-run.h"
#include "json-util.h"
#include "node-session.h"
#include "op-internal.h"
#include "render.h"
#include "string-util.h"

#define RESTART_TIMEOUT_USEC (10U * 1000000U)

/* All instances of a service, on all its nodes, at the same time. */
typedef struct Restart {
        OperationCall *call;
        unsigned open, done, failed;
        bool starting; /* answers are counted only when all were asked */
        KError error;  /* the first */
} Restart;

static void finish(Restart *r) {
        _cleanup_kerror_ KError error = r->error;

        if (r->failed > 0 && r->done > 0)
                kerror_prefix(&error, "%u of %u instances were not restarted", r->failed,
                                r->failed + r->done);
        operation_call_finish(r->call, NULL, kerror_is_set(&error) ? &error : NULL);
        free(r);
}

static void on_restarted(NodeSession *s, json_object *result, const KError *error, void *userdata) {
        Restart *r = userdata;

        r->open--;
        if (kerror_is_set(error)) {
                r->failed++;
                (void) kerror_set(&r->error, error->code, "%s", kerror_message(error));
        } else
                r->done++;

        if (r->open == 0 && !r->starting)
                finish(r);
}

static int ask(Restart *r, const InstanceRow *i) {
        _cleanup_json_ json_object *params = json_object_new_object();
        NodeSession *session;
        int q;

        session = node_sessions_find(r->call->master->sessions, i->node_id);
        if (!session) {
                _cleanup_free_ char *node = node_name(r->call->master, i->node_id);

                r->failed++;
                (void) kerror_set(&r->error, K_NODE_OFFLINE, "Node '%s' with instance %u is offline.",
                                strempty(node), i->number);
                return 0;
        }

        if (!params)
                return -ENOMEM;
        q = json_add_string(params, "id", i->id);
        if (q < 0)
                return q;
        r->open++;
        q = session_call(session, "instance.restart", TAKE_PTR(params), RESTART_TIMEOUT_USEC, on_restarted,
                        r);
        if (q < 0) {
                r->open--;
                r->failed++;
                (void) kerror_set_errno(&r->error, q, "Instance %u cannot be restarted: %m.", i->number);
        }

        return 0;
}

int service_restart(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_(instance_row_list_done) InstanceRowList l = {};
        Restart *restart;
        unsigned asked = 0;
        int r;

        if (service_is_job(c->service))
                return kerror_set(reterr, K_CONFLICT, "'%s' is a job; each run of it begins anew.",
                                c->service->name);
        r = store_list_instances_of_service(c->master->store, c->service->id, &l);
        if (r < 0)
                return r;
        FOREACH_ARRAY(i, l.rows, l.n)
                if ((*i)->desired == INSTANCE_RUNNING && (*i)->node_id)
                        asked++;
        if (asked == 0)
                return kerror_set(reterr, K_CONFLICT,
                                "Service '%s' has no instance that could be restarted.", c->service->name);

        restart = new0(Restart, 1);
        if (!restart)
                return -ENOMEM;
        *restart = (Restart){ .call = c, .starting = true };
        FOREACH_ARRAY(i, l.rows, l.n)
                if ((*i)->desired == INSTANCE_RUNNING && (*i)->node_id) {
                        r = ask(restart, *i);
                        if (r < 0) {
                                restart->failed++;
                                (void) kerror_set_errno(&restart->error, r,
                                                "Instance %u cannot be restarted: %m.", (*i)->number);
                        }
                }
        restart->starting = false;

        (void) events_add(c->master,
                        &(EventInfo){ .severity = "info",
                                        .type = "service:restart",
                                        .grid_id = c->grid->id,
                                        .service_id = c->service->id },
                        "Service '%s' is being restarted.", c->service->name);
        if (restart->open == 0)
                finish(restart);
        return 1;
}
