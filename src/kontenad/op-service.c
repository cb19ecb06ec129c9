/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "affinity.h"
#include "audit.h"
#include "deployer.h"
#include "events.h"
#include "file-util.h"
#include "job-run.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "names.h"
#include "op-internal.h"
#include "operation.h"
#include "render.h"
#include "revision.h"
#include "service-spec.h"
#include "string-util.h"
#include "vault.h"
#include "volume.h"

/* What only the master can know about a spec: names, links, affinity. */
static int check_spec(
                OperationCall *c, const char *stack, const char *name, json_object *spec, KError *reterr) {
        _cleanup_(service_spec_freep) ServiceSpec *parsed = NULL;
        int r;

        r = service_spec_parse(spec, &parsed, reterr);
        if (r < 0)
                return r;
        r = service_name_fits(c->grid->name, stack, name, parsed->count, reterr);
        if (r < 0)
                return r;
        r = affinity_validate(parsed->affinity, reterr);
        if (r >= 0)
                r = volume_check_spec(c->master->store, c->grid->id, parsed->volumes, reterr);
        if (r < 0)
                return r;

        r = vault_check_spec(c->master->store, c->grid->id, parsed, reterr);
        if (r < 0)
                return r;

        STRV_FOREACH(l, parsed->links) {
                _cleanup_free_ char *grid = NULL, *link_stack = NULL, *link_name = NULL;
                _cleanup_(service_row_freep) ServiceRow *target = NULL;

                r = service_reference_parse(*l, &grid, &link_stack, &link_name, reterr);
                if (r < 0)
                        return r;
                if (grid)
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "The link '%s' must stay within the grid.", *l);
                if (streq(link_stack ?: stack, stack) && streq(link_name, name))
                        return kerror_set(reterr, K_INVALID_ARGUMENT, "A service cannot link to itself.");
                r = store_find_service(
                                c->master->store, c->grid->id, link_stack ?: stack, link_name, &target);
                if (r == -ENOENT)
                        return kerror_set(
                                        reterr, K_NO_SUCH_SERVICE, "The link '%s' leads to no service.", *l);
                if (r < 0)
                        return r;
        }

        return 0;
}

/* null and missing mean the same; only one is stored. */
static int without_nulls(json_object *spec, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();

        if (!o)
                return -ENOMEM;
        json_object_object_foreach(spec, key, value)
                if (value && json_add(o, key, json_object_get(value)) < 0)
                        return -ENOMEM;

        *ret = TAKE_PTR(o);
        return 0;
}

static int report_service(OperationCall *c, const char *stack, const char *name, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();
        int r;

        if (!o)
                return -ENOMEM;
        r = json_add_string(o, "grid", c->grid->name);
        if (r >= 0)
                r = json_add_string(o, "stack", stack);
        if (r >= 0)
                r = json_add_string(o, "service", name);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

static int service_event(OperationCall *c, const ServiceRow *s, const char *type, const char *what) {
        return events_add(c->master,
                        &(EventInfo){ .severity = "info",
                                        .type = type,
                                        .grid_id = s->grid_id,
                                        .service_id = s->id },
                        "Service '%s%s%s' %s.", streq(s->stack, STACK_NULL) ? "" : s->stack,
                        streq(s->stack, STACK_NULL) ? "" : "/", s->name, what);
}

static int add_revision(OperationCall *c, ServiceRow *row) {
        _cleanup_free_ char *author = NULL;

        author = c->caller->name ? strdup(c->caller->name) : strprintf("uid %u", (unsigned) c->caller->uid);
        return author ? revision_add(c->master->store, row, author) : -ENOMEM;
}

static int service_create(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_(service_row_freep) ServiceRow *row = NULL, *other = NULL;
        const char *stack, *name;
        json_object *spec;
        GridSummary summary;
        int r;

        r = call_string(c, "stack", &stack, reterr);
        if (r >= 0)
                r = call_string(c, "name", &name, reterr);
        if (r >= 0)
                r = json_get_object(c->parameters, "spec", &spec, reterr);
        if (r < 0)
                return r;
        r = name_validate("stack", stack, reterr);
        if (r >= 0)
                r = name_validate("service", name, reterr);
        if (r < 0)
                return r;

        r = store_find_service(c->master->store, c->grid->id, stack, name, &other);
        if (r >= 0)
                return kerror_set(reterr, K_ALREADY_EXISTS,
                                "There is a service '%s' in stack '%s' of grid '%s' already.", name, stack,
                                c->grid->name);
        if (r != -ENOENT)
                return r;
        r = store_summarize_grid(c->master->store, c->grid->id, &summary);
        if (r < 0)
                return r;
        if (summary.services >= SERVICES_PER_GRID_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED,
                                "Grid '%s' has %u services, more are not possible.", c->grid->name,
                                summary.services);

        r = check_spec(c, stack, name, spec, reterr);
        if (r < 0)
                return r;

        row = new0(ServiceRow, 1);
        if (!row)
                return -ENOMEM;
        row->id = store_new_id();
        row->grid_id = strdup(c->grid->id);
        row->stack = strdup(stack);
        row->name = strdup(name);
        if (!row->id || !row->grid_id || !row->stack || !row->name)
                return -ENOMEM;
        r = without_nulls(spec, &row->spec);
        if (r < 0)
                return r;
        /* There is nothing to deploy of a job: it is ready. */
        row->state = service_is_job(row) ? SERVICE_RUNNING : SERVICE_INITIALIZED;
        row->created_at = now_realtime();
        service_reset_schedule(row);

        r = add_revision(c, row);
        if (r < 0)
                return r;
        (void) service_event(c, row, "service:create", "was created");

        return report_service(c, stack, name, ret);
}

/* Scaling alone is no new revision: nothing would be made anew. */
static int differs_in_count_only(json_object *a, json_object *b, bool *ret) {
        _cleanup_json_ json_object *x = NULL, *y = NULL;

        if (json_copy(a, &x) < 0 || json_copy(b, &y) < 0)
                return -ENOMEM;
        json_object_object_del(x, "count");
        json_object_object_del(y, "count");

        *ret = json_object_equal(x, y);
        return 0;
}

static int change_spec(OperationCall *c, json_object *changes, KError *reterr) {
        _cleanup_json_ json_object *spec = NULL, *clean = NULL;
        bool count_only, rescheduled;
        int r;

        r = service_spec_update(c->service->spec, changes, &spec, reterr);
        if (r < 0)
                return r;
        r = without_nulls(spec, &clean);
        if (r < 0)
                return r;
        r = check_spec(c, c->service->stack, c->service->name, clean, reterr);
        if (r < 0)
                return r;
        if (json_object_equal(c->service->spec, clean))
                return 0;

        r = differs_in_count_only(c->service->spec, clean, &count_only);
        if (r < 0)
                return r;
        c->service->updated_at = now_realtime();
        rescheduled = !streq_ptr(json_string_or(c->service->spec, "schedule", NULL),
                        json_string_or(clean, "schedule", NULL));
        json_object_put(c->service->spec);
        c->service->spec = TAKE_PTR(clean);
        if (rescheduled)
                service_reset_schedule(c->service);

        return count_only ? store_put_service(c->master->store, c->service) : add_revision(c, c->service);
}

static int service_update(OperationCall *c, json_object **ret, KError *reterr) {
        json_object *changes;
        int r;

        r = json_get_object(c->parameters, "changes", &changes, reterr);
        if (r < 0)
                return r;
        return change_spec(c, changes, reterr);
}

static int check_unlinked(OperationCall *c, KError *reterr) {
        _cleanup_(service_row_list_done) ServiceRowList l = {};
        int r;

        r = store_list_services(c->master->store, c->grid->id, &l);
        if (r < 0)
                return r;

        FOREACH_ARRAY(s, l.rows, l.n) {
                _cleanup_strv_free_ char **links = NULL;

                r = json_find_strv((*s)->spec, "links", &links, reterr);
                if (r < 0)
                        return r;
                STRV_FOREACH(link, links) {
                        const char *slash = strchr(*link, '/');
                        _cleanup_free_ char *stack = slash ? strndup(*link, (size_t) (slash - *link))
                                                           : strdup((*s)->stack);

                        if (!stack)
                                return -ENOMEM;
                        if (streq(stack, c->service->stack) &&
                                        streq(slash ? slash + 1 : *link, c->service->name))
                                return kerror_set(reterr, K_IN_USE,
                                                "Service '%s/%s' is linked to by '%s/%s'.",
                                                c->service->stack, c->service->name, (*s)->stack,
                                                (*s)->name);
                }
        }

        return 0;
}

static int service_remove(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_(instance_row_list_done) InstanceRowList l = {};
        _cleanup_(deploy_row_list_done) DeployRowList deploys = {};
        Store *s = c->master->store;
        int r;

        r = check_unlinked(c, reterr);
        if (r < 0)
                return r;

        r = store_list_deploys(s, c->service->id, DEPLOYS_KEPT_PER_SERVICE, &deploys);
        if (r < 0)
                return r;
        FOREACH_ARRAY(d, deploys.rows, deploys.n) {
                if (DEPLOY_STATE_IS_FINAL((*d)->state))
                        continue;
                r = deploy_cancel(s, (*d)->id, "The service was removed.", reterr);
                if (r < 0)
                        return r;
        }

        r = store_list_instances_of_service(s, c->service->id, &l);
        if (r < 0)
                return r;
        FOREACH_ARRAY(i, l.rows, l.n) {
                r = store_terminate_instance(s, *i, (*i)->drain_sec); /* what drains goes on with it */
                if (r < 0)
                        return r;
        }

        (void) service_event(c, c->service, "service:remove", "was removed");
        return store_delete_service(s, c->service->id);
}

static int service_list(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_(service_row_list_done) ServiceRowList l = {};
        _cleanup_json_ json_object *array = json_object_new_array();
        int r;

        if (!array)
                return -ENOMEM;
        r = store_list_services(c->master->store, c->grid->id, &l);
        if (r < 0)
                return r;
        FOREACH_ARRAY(s, l.rows, l.n) {
                json_object *row;

                r = render_service(c->master, c->grid, *s, &row);
                if (r >= 0)
                        r = json_append(array, row);
                if (r < 0)
                        return r;
        }
        return json_wrap("services", TAKE_PTR(array), ret);
}

static int list_instances(OperationCall *c, json_object **ret) {
        _cleanup_(instance_row_list_done) InstanceRowList l = {};
        _cleanup_json_ json_object *array = json_object_new_array();
        int r;

        if (!array)
                return -ENOMEM;
        r = store_list_instances_of_service(c->master->store, c->service->id, &l);
        if (r < 0)
                return r;
        FOREACH_ARRAY(i, l.rows, l.n) {
                json_object *row;

                if ((*i)->desired == INSTANCE_TERMINATED && streq(strempty((*i)->state), "removed"))
                        continue;
                r = render_instance(c->master, c->grid, c->service, *i, &row);
                if (r >= 0)
                        r = json_append(array, row);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(array);
        return 0;
}

static int service_get(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_json_ json_object *o = NULL, *instances = NULL, *spec = NULL;
        int r;

        r = render_service(c->master, c->grid, c->service, &o);
        if (r < 0)
                return r;
        r = list_instances(c, &instances);
        if (r < 0)
                return r;
        /* Passwords stand in the environment of many services. */
        spec = c->sees_values ? json_object_get(c->service->spec) : audit_without_values(c->service->spec);
        if (!spec)
                return -ENOMEM;
        r = json_add(o, "spec", TAKE_PTR(spec));
        if (r >= 0)
                r = json_add(o, "instances", TAKE_PTR(instances));
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

static int instance_list(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_json_ json_object *o = json_object_new_object(), *instances = NULL;
        int r;

        if (!o)
                return -ENOMEM;
        r = list_instances(c, &instances);
        if (r < 0)
                return r;
        r = json_add(o, "instances", TAKE_PTR(instances));
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

static int request_deploy(OperationCall *c, unsigned flags, json_object **ret, KError *reterr) {
        _cleanup_json_ json_object *o = json_object_new_object();
        _cleanup_free_ char *id = NULL;
        int r;

        if (!o)
                return -ENOMEM;
        r = deploy_request(c->master->store, c->service, flags, &id, reterr);
        if (r < 0)
                return r;
        r = json_add_string(o, "deploy", id);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

static int service_deploy(OperationCall *c, json_object **ret, KError *reterr) {
        static const char *const options[] = { "force", "accept_loss", NULL };
        bool force = false, accept_loss = false;
        json_object *o;
        int r;

        r = call_settings(c, "options", options, &o, reterr);
        if (r >= 0)
                r = json_find_bool(o, "force", &force, reterr);
        if (r >= 0)
                r = json_find_bool(o, "accept_loss", &accept_loss, reterr);
        if (r < 0)
                return r;

        return request_deploy(
                        c, (force ? DEPLOY_FORCE : 0) | (accept_loss ? DEPLOY_ACCEPT_LOSS : 0), ret, reterr);
}

static int service_scale(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_json_ json_object *changes = json_object_new_object();
        uint64_t count;
        int r;

        if (!changes)
                return -ENOMEM;
        if (service_is_job(c->service))
                return kerror_set(reterr, K_CONFLICT,
                                "'%s' is a job: how many instances its next run has is a setting.",
                                c->service->name);
        r = json_get_u64(c->parameters, "count", &count, reterr);
        if (r >= 0)
                r = json_add_u64(changes, "count", count);
        if (r >= 0)
                r = change_spec(c, changes, reterr);
        if (r < 0)
                return r;

        return request_deploy(c, /* flags= */ 0, ret, reterr);
}

/* Sets the service's state and what is wanted of its instances; the nodes are told by the tracker. */
static int set_state(OperationCall *c, ServiceState state, KError *reterr) {
        _cleanup_(instance_row_list_done) InstanceRowList l = {};
        InstanceDesired desired = state == SERVICE_RUNNING ? INSTANCE_RUNNING : INSTANCE_STOPPED;
        bool stateful = spec_is_stateful(c->service->spec);
        Store *s = c->master->store;
        int r;

        if (service_is_job(c->service)) {
                if (state == SERVICE_STOPPED) {
                        r = run_cancel_unfinished(s, c->service->id, "the job was stopped");
                        if (r < 0)
                                return r;
                }
                c->service->state = state;
                service_reset_schedule(c->service);
                return store_put_service(s, c->service);
        }
        if (c->service->state == SERVICE_INITIALIZED)
                return kerror_set(reterr, K_CONFLICT, "Service '%s' was never deployed.", c->service->name);

        r = store_list_instances_of_service(s, c->service->id, &l);
        if (r < 0)
                return r;
        FOREACH_ARRAY(i, l.rows, l.n) {
                _cleanup_(node_row_freep) NodeRow *node = NULL;

                if ((*i)->desired == INSTANCE_TERMINATED || (*i)->desired == desired)
                        continue;
                if (desired == INSTANCE_RUNNING && (*i)->role != INSTANCE_CURRENT)
                        return kerror_set(reterr, K_CONFLICT,
                                        "Instance %u of service '%s' is being moved; it is started when its "
                                        "data are there.",
                                        (*i)->number, c->service->name);
                /* What a drained node has of a stateful service stays stopped until the node is active again. */
                if (desired == INSTANCE_RUNNING && stateful && (*i)->node_id &&
                                store_get_node(s, (*i)->node_id, &node) >= 0 &&
                                node->availability == NODE_DRAIN)
                        continue;
                (*i)->desired = desired;
                r = store_put_instance(s, *i);
                if (r < 0)
                        return r;
        }

        c->service->state = state;
        return store_put_service(s, c->service);
}

static int service_start(OperationCall *c, json_object **ret, KError *reterr) {
        int r;

        r = set_state(c, SERVICE_RUNNING, reterr);
        if (r < 0)
                return r;
        return service_event(c, c->service, "service:start", "was started");
}

static int service_stop(OperationCall *c, json_object **ret, KError *reterr) {
        int r;

        r = set_state(c, SERVICE_STOPPED, reterr);
        if (r < 0)
                return r;
        return service_event(c, c->service, "service:stop", "was stopped");
}

#define SERVICE_PARAMETERS                                                                                  \
        { "grid", PARAMETER_STRING, true }, { "stack", PARAMETER_STRING, true }, {                          \
                "service", PARAMETER_STRING, true                                                           \
        }
#define MANAGE          "io.kontena.master1.manage-services"
#define CHANGES_SERVICE (OPERATION_CHANGES | OPERATION_AUDITED | OPERATION_GRID | OPERATION_SERVICE)

const Operation service_operations[] = {
        {
                        .name = "service.create",
                        .method = "CreateService",
                        .action = MANAGE,
                        .role = "member",
                        .flags = OPERATION_CHANGES | OPERATION_AUDITED | OPERATION_GRID,
                        .parameters = { { "grid", PARAMETER_STRING, true },
                                        { "stack", PARAMETER_STRING, true },
                                        { "name", PARAMETER_STRING, true },
                                        { "spec", PARAMETER_OBJECT, true } },
                        .results = { "service" },
                        .prepare = service_check_schedule,
                        .perform = service_create,
        },
        {
                        .name = "service.update",
                        .method = "UpdateService",
                        .action = MANAGE,
                        .role = "member",
                        .flags = CHANGES_SERVICE,
                        .parameters = { SERVICE_PARAMETERS, { "changes", PARAMETER_OBJECT, true } },
                        .prepare = service_check_schedule,
                        .perform = service_update,
        },
        {
                        .name = "service.remove",
                        .method = "RemoveService",
                        .action = MANAGE,
                        .role = "member",
                        .flags = CHANGES_SERVICE,
                        .parameters = { SERVICE_PARAMETERS },
                        .perform = service_remove,
        },
        {
                        .name = "service.list",
                        .method = "ListServices",
                        .action = "io.kontena.master1.read",
                        .role = "member",
                        .flags = OPERATION_GRID,
                        .parameters = { { "grid", PARAMETER_STRING, true } },
                        .results = { "services" },
                        .perform = service_list,
        },
        {
                        .name = "service.get",
                        .method = "GetService",
                        .action = "io.kontena.master1.read",
                        .role = "member",
                        .flags = OPERATION_GRID | OPERATION_SERVICE | OPERATION_VALUES,
                        .parameters = { SERVICE_PARAMETERS },
                        .results = { "" },
                        .perform = service_get,
        },
        {
                        .name = "service.deploy",
                        .method = "DeployService",
                        .action = MANAGE,
                        .role = "member",
                        .flags = CHANGES_SERVICE | OPERATION_LONG,
                        .parameters = { SERVICE_PARAMETERS, { "options", PARAMETER_OBJECT, false } },
                        .results = { "deploy" },
                        .perform = service_deploy,
        },
        {
                        .name = "service.scale",
                        .method = "ScaleService",
                        .action = MANAGE,
                        .role = "member",
                        .flags = CHANGES_SERVICE | OPERATION_LONG,
                        .parameters = { SERVICE_PARAMETERS, { "count", PARAMETER_U32, true } },
                        .results = { "deploy" },
                        .perform = service_scale,
        },
        {
                        .name = "service.start",
                        .method = "StartService",
                        .action = MANAGE,
                        .role = "member",
                        .flags = CHANGES_SERVICE,
                        .parameters = { SERVICE_PARAMETERS },
                        .perform = service_start,
        },
        {
                        .name = "service.stop",
                        .method = "StopService",
                        .action = MANAGE,
                        .role = "member",
                        .flags = CHANGES_SERVICE,
                        .parameters = { SERVICE_PARAMETERS },
                        .perform = service_stop,
        },
        {
                        .name = "service.restart",
                        .method = "RestartService",
                        .action = MANAGE,
                        .role = "member",
                        .flags = OPERATION_AUDITED | OPERATION_GRID | OPERATION_SERVICE,
                        .parameters = { SERVICE_PARAMETERS },
                        .perform = service_restart,
        },
        {
                        .name = "instance.list",
                        .method = "ListInstances",
                        .action = "io.kontena.master1.read",
                        .role = "member",
                        .flags = OPERATION_GRID | OPERATION_SERVICE,
                        .parameters = { SERVICE_PARAMETERS },
                        .results = { "instances" },
                        .perform = instance_list,
        },
};
const size_t n_service_operations = ELEMENTSOF(service_operations);
