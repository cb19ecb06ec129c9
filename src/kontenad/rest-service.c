/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "json-util.h"
#include "kontena-limits.h"
#include "names.h"
#include "rest-render.h"
#include "rest-rows.h"
#include "rest-service-body.h"
#include "rest.h"
#include "string-util.h"

/* Services: what is asked in the reference's words is done by operations. */

static const char *const strategies[] = { "ha", "daemon", "random", NULL };
static const char *const protocols[] = { "http", "tcp", NULL };
static const char *const port_protocols[] = { "tcp", "udp", "sctp", NULL };

static const RestField port_fields[] = {
        { "ip", REST_STRING, .summary = "Address of the node; 0.0.0.0: any" },
        { "protocol", REST_STRING, .options = port_protocols },
        { "node_port", REST_INTEGER, REST_REQUIRED, .min = 1, .max = 65535 },
        { "container_port", REST_INTEGER, REST_REQUIRED, .min = 1, .max = 65535 },
        {},
};
static const RestField link_fields[] = {
        { "name", REST_STRING, REST_REQUIRED, .summary = "\"service\" or \"stack/service\"" },
        { "alias", REST_STRING, REST_REQUIRED, .summary = "The service's own name" },
        {},
};
static const RestField secret_fields[] = {
        { "secret", REST_STRING, REST_REQUIRED },
        { "name", REST_STRING, REST_REQUIRED, .summary = "Of the variable" },
        { "type", REST_STRING, .summary = "\"env\", or \"file\" below /run/secrets" },
        {},
};
static const RestField certificate_fields[] = {
        { "subject", REST_STRING, REST_REQUIRED },
        { "name", REST_STRING, REST_REQUIRED },
        {},
};
static const RestField deploy_fields[] = {
        { "wait_for_port", REST_INTEGER, REST_NULLABLE, .max = 65535 },
        { "min_health", REST_NUMBER, REST_NULLABLE, .max = 1 },
        { "interval", REST_INTEGER, REST_NULLABLE, .max = UINT32_MAX, .summary = "Seconds" },
        {},
};
static const RestField hook_fields[] = {
        { "name", REST_STRING, REST_REQUIRED },
        { "cmd", REST_STRING, REST_REQUIRED | REST_VERBATIM },
        { "instances", REST_STRING, REST_REQUIRED, .summary = "\"*\", or numbers with commas" },
        { "oneshot", REST_BOOLEAN },
        {},
};
static const RestField hooks_fields[] = {
        { "pre_start", REST_ARRAY, .element = REST_OBJECT, .fields = hook_fields },
        { "post_start", REST_ARRAY, .element = REST_OBJECT, .fields = hook_fields },
        { "pre_stop", REST_ARRAY, .element = REST_OBJECT, .fields = hook_fields },
        {},
};
static const RestField health_fields[] = {
        { "port", REST_INTEGER, REST_REQUIRED | REST_NULLABLE, .min = 1, .max = 65535 },
        { "protocol", REST_STRING, REST_REQUIRED | REST_NULLABLE, .options = protocols },
        { "uri", REST_STRING },
        { "timeout", REST_INTEGER, .min = 1, .max = UINT32_MAX },
        { "interval", REST_INTEGER, .min = 1, .max = UINT32_MAX },
        { "initial_delay", REST_INTEGER, .max = UINT32_MAX },
        {},
};

#define NAME_PATTERN "^[A-Za-z0-9_][A-Za-z0-9_-]*$"

/* What create and update have in common. */
#define SERVICE_FIELDS                                                                                      \
        { "strategy", REST_STRING, .options = strategies },                                                 \
                        { "instances", REST_INTEGER, .min = 1, .max = INSTANCES_PER_SERVICE_MAX },          \
                        { "container_count", REST_INTEGER, .min = 1, .max = INSTANCES_PER_SERVICE_MAX },    \
                        { "user", REST_STRING }, { "log_driver", REST_STRING },                             \
                        { "cmd", REST_ARRAY, REST_VERBATIM | REST_EMPTY, .element = REST_STRING },          \
                        { "affinity", REST_ARRAY, .element = REST_STRING },                                 \
                        { "volumes", REST_ARRAY, .element = REST_STRING },                                  \
                        { "volumes_from", REST_ARRAY, .element = REST_STRING },                             \
                        { "cap_add", REST_ARRAY, .element = REST_STRING },                                  \
                        { "cap_drop", REST_ARRAY, .element = REST_STRING },                                 \
                        { "devices", REST_ARRAY, .element = REST_STRING },                                  \
                        { "env", REST_ARRAY, REST_VERBATIM, .element = REST_STRING },                       \
                        { "secrets", REST_ARRAY, .element = REST_OBJECT, .fields = secret_fields },         \
                        { "certificates", REST_ARRAY, .element = REST_OBJECT,                               \
                                .fields = certificate_fields },                                             \
                        { "ports", REST_ARRAY, .element = REST_OBJECT, .fields = port_fields },             \
                        { "links", REST_ARRAY, .element = REST_OBJECT, .fields = link_fields },             \
                        { "deploy_opts", REST_OBJECT, .fields = deploy_fields }, { "cpus", REST_NUMBER },   \
                        { "cpu_shares", REST_INTEGER, .max = 1024 },                                        \
                        { "memory", REST_INTEGER, .max = INT64_MAX },                                       \
                        { "memory_swap", REST_INTEGER, .max = INT64_MAX },                                  \
                        { "shm_size", REST_INTEGER, .max = INT64_MAX }, { "privileged", REST_BOOLEAN },     \
                        { "read_only", REST_BOOLEAN }, { "net", REST_STRING }, { "log_opts", REST_OBJECT }, \
                        { "pid", REST_STRING }, { "hooks", REST_OBJECT, .fields = hooks_fields },           \
                        { "health_check", REST_OBJECT, .fields = health_fields },                           \
                        { "stop_signal", REST_STRING }, {                                                   \
                "stop_grace_period", REST_STRING, .summary = "\"1m30s\""                                    \
        }

static const RestField create_fields[] = {
        { "name", REST_STRING, REST_REQUIRED, .pattern = NAME_PATTERN },
        { "image", REST_STRING, REST_REQUIRED },
        { "stateful", REST_BOOLEAN, REST_REQUIRED },
        { "entrypoint", REST_STRING },
        SERVICE_FIELDS,
        {},
};
static const RestField update_fields[] = {
        { "image", REST_STRING },
        SERVICE_FIELDS,
        { "force", REST_BOOLEAN, .summary = "Has no effect: a deploy can be forced" },
        {},
};
static const RestField force_fields[] = {
        { "force", REST_BOOLEAN, .summary = "Replace instances that are as they should be" },
        {},
};
static const RestField scale_fields[] = {
        { "instances", REST_INTEGER, REST_REQUIRED, .min = 1, .max = INSTANCES_PER_SERVICE_MAX },
        {},
};

static int render(RestCall *c, const GridRow *g, const ServiceRow *s, json_object **ret) {
        _cleanup_(instance_row_list_done) InstanceRowList l = {};
        int r;

        r = store_list_instances_of_service(rest_master(c)->store, s->id, &l);
        return r < 0 ? r : rest_render_service(g, s, &l, ret);
}

/* List */

static int reply_services(RestCall *c) {
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        int r;

        r = rest_find_grid(c, &g);
        return r < 0 ? r : rest_reply_services(c, g, rest_query(c, "stack"));
}

static int list_services(RestCall *c, KError *reterr) {
        json_object *params;
        int r;

        r = rest_grid_params(c, &params);
        return r < 0 ? r : rest_call_then(c, "service.list", params, reply_services);
}

/* Show, create, update */

static int reply_service(RestCall *c, int status, const char *stack, const char *name) {
        _cleanup_(service_row_freep) ServiceRow *s = NULL;
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        json_object *o;
        int r;

        r = rest_find_grid(c, &g);
        if (r >= 0)
                r = store_find_service(rest_master(c)->store, g->id, stack, name, &s);
        if (r >= 0)
                r = render(c, g, s, &o);
        return r < 0 ? r : rest_reply(c, status, o);
}

static void on_shown(RestCall *c, json_object *result, const KError *error) {
        if (error)
                (void) rest_reply_kerror(c, error);
        else
                rest_finish(c, reply_service(c, 200, rest_segment(c, "stack"), rest_segment(c, "service")));
}

static int show_service(RestCall *c, KError *reterr) {
        json_object *params;
        int r;

        r = rest_service_params(c, &params);
        return r < 0 ? r : rest_call(c, "service.get", params, on_shown);
}

/* "Secret X does not exist" for each that does not; the operation has told of the first, to who may know. */
static int reply_missing_secrets(RestCall *c) {
        _cleanup_json_ json_object *l = json_object_new_array(), *map = json_object_new_object();
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        json_object *secrets = NULL;
        int r;

        if (!l || !map)
                return -ENOMEM;
        (void) json_find_array(rest_body(c), "secrets", &secrets, NULL);
        r = rest_find_grid(c, &g);
        if (r < 0)
                return r;
        FOREACH_JSON_ARRAY(s, secrets) {
                _cleanup_(secret_row_freep) SecretRow *row = NULL;
                _cleanup_free_ char *text = NULL;
                const char *name = "";

                (void) json_find_string(s, "secret", &name, NULL);
                if (store_find_secret(rest_master(c)->store, g->id, name, &row) != -ENOENT)
                        continue;
                text = strjoin("Secret ", name, " does not exist");
                if (!text || json_append_string(l, text) < 0)
                        return -ENOMEM;
        }
        if (json_add(map, "secrets", TAKE_PTR(l)) < 0)
                return -ENOMEM;
        return rest_reply_map(c, TAKE_PTR(map));
}

static int reply_missing_links(RestCall *c, const char *own_stack) {
        _cleanup_json_ json_object *l = json_object_new_array(), *map = json_object_new_object();
        _cleanup_(grid_row_freep) GridRow *g = NULL;
        json_object *links = NULL;
        int r;

        if (!l || !map)
                return -ENOMEM;
        (void) json_find_array(rest_body(c), "links", &links, NULL);
        r = rest_find_grid(c, &g);
        if (r < 0)
                return r;
        FOREACH_JSON_ARRAY(link, links) {
                _cleanup_(service_row_freep) ServiceRow *row = NULL;
                _cleanup_free_ char *text = NULL, *stack = NULL;
                const char *name = "", *slash;

                (void) json_find_string(link, "name", &name, NULL);
                slash = strchr(name, '/');
                stack = slash ? strndup(name, (size_t) (slash - name)) : strdup(own_stack);
                if (!stack)
                        return -ENOMEM;
                if (store_find_service(rest_master(c)->store, g->id, stack, slash ? slash + 1 : name,
                                    &row) != -ENOENT)
                        continue;
                text = strjoin("Service ", name, " does not exist");
                if (!text || json_append_string(l, text) < 0)
                        return -ENOMEM;
        }
        if (json_add(map, "links", TAKE_PTR(l)) < 0)
                return -ENOMEM;
        return rest_reply_map(c, TAKE_PTR(map));
}

static void fail_body(RestCall *c, const KError *error, const char *stack) {
        int status = kerror_http_status(error->code);

        if (error->code == K_ALREADY_EXISTS)
                (void) rest_reply_field_error(c, "name", "is already taken");
        else if (error->code == K_NO_SUCH_SECRET)
                rest_finish(c, reply_missing_secrets(c));
        else if (error->code == K_NO_SUCH_SERVICE && strstr(kerror_message(error), "link"))
                rest_finish(c, reply_missing_links(c, stack));
        else if (error->code == K_NO_SUCH_VOLUME || status == 409 || status == 422)
                rest_fail(c, &(KError){ .code = K_INVALID_ARGUMENT, .message = error->message },
                                rest_service_error_field(error));
        else
                (void) rest_reply_kerror(c, error);
}

static void on_created(RestCall *c, json_object *result, const KError *error) {
        if (error)
                fail_body(c, error, STACK_NULL);
        else
                rest_finish(c, reply_service(c, 201, STACK_NULL, rest_body_string(c, "name")));
}

static int create_service(RestCall *c, KError *reterr) {
        _cleanup_json_ json_object *params = NULL, *refused = NULL;
        json_object *spec;
        int r;

        r = rest_service_body_translate(rest_body(c), /* create= */ true, &spec, &refused);
        if (r > 0)
                return rest_reply_map(c, TAKE_PTR(refused));
        if (r < 0)
                return r;
        r = rest_grid_params(c, &params);
        if (r < 0) {
                json_object_put(spec);
                return r;
        }
        r = json_add(params, "spec", spec);
        REST_ADD(r, json_add_string(params, "stack", STACK_NULL));
        REST_ADD(r, json_add_string(params, "name", rest_body_string(c, "name")));
        return r < 0 ? r : rest_call(c, "service.create", TAKE_PTR(params), on_created);
}

static void on_updated(RestCall *c, json_object *result, const KError *error) {
        if (error)
                fail_body(c, error, rest_segment(c, "stack"));
        else
                rest_finish(c, reply_service(c, 200, rest_segment(c, "stack"), rest_segment(c, "service")));
}

static int update_service(RestCall *c, KError *reterr) {
        _cleanup_json_ json_object *params = NULL, *refused = NULL;
        json_object *changes;
        int r;

        r = rest_service_body_translate(rest_body(c), /* create= */ false, &changes, &refused);
        if (r > 0)
                return rest_reply_map(c, TAKE_PTR(refused));
        if (r < 0)
                return r;
        r = rest_service_params(c, &params);
        if (r < 0) {
                json_object_put(changes);
                return r;
        }
        r = json_add(params, "changes", changes);
        return r < 0 ? r : rest_call(c, "service.update", TAKE_PTR(params), on_updated);
}

/* Actions without an answer of their own; their name is the field of an error. */

static void on_acted(RestCall *c, json_object *result, const KError *error) {
        const char *operation = rest_route(c)->operation, *action = startswith(operation, "service.");

        if (!error)
                rest_finish(c, rest_reply_nothing(c, 200));
        else if (error->code == K_IN_USE)
                (void) rest_reply_field_error(c, "service", kerror_message(error));
        else
                rest_fail(c, error, streq_ptr(action, "remove") ? "service" : action ?: "service");
}

static int act(RestCall *c, KError *reterr) {
        json_object *params;
        int r;

        r = rest_service_params(c, &params);
        return r < 0 ? r : rest_call(c, rest_route(c)->operation, params, on_acted);
}

/* Deploys */

static void on_deploy_shown(RestCall *c, json_object *result, const KError *error) {
        static const char *const keys[] = { "grid", "stack", "service" };
        json_object *o;
        int r = 0;

        if (error) {
                (void) rest_reply_kerror(c, error);
                return;
        }
        FOREACH_ARRAY(key, keys, ELEMENTSOF(keys)) {
                const char *s = "";

                (void) json_find_string(result, *key, &s, NULL);
                if (!streq(s, strempty(rest_segment(c, *key))))
                        r = -ENOENT; /* another's */
        }
        if (r >= 0)
                r = rest_render_deploy(result, &o);
        rest_finish(c, r < 0 ? r : rest_reply(c, 200, o));
}

static int call_deploy(RestCall *c, const char *id) {
        _cleanup_json_ json_object *params = json_object_new_object();

        if (!params || json_add_string(params, "deploy", id) < 0)
                return -ENOMEM;
        return rest_call(c, "deploy.get", TAKE_PTR(params), on_deploy_shown);
}

static int show_deploy(RestCall *c, KError *reterr) {
        return call_deploy(c, strempty(rest_segment(c, "deploy")));
}

static void on_deploy_requested(RestCall *c, json_object *result, const KError *error) {
        const char *id = "";

        if (error) {
                rest_fail(c, error,
                                streq(rest_route(c)->operation, "service.scale") ? "instances" : "deploy");
                return;
        }
        (void) json_find_string(result, "deploy", &id, NULL);
        rest_finish(c, call_deploy(c, id));
}

static int deploy_service(RestCall *c, KError *reterr) {
        _cleanup_json_ json_object *params = NULL, *options = json_object_new_object();
        bool force = false;
        int r;

        (void) json_find_bool(rest_body(c), "force", &force, NULL);
        r = options ? rest_service_params(c, &params) : -ENOMEM;
        REST_ADD(r, json_add_bool(options, "force", force));
        REST_ADD(r, json_add(params, "options", TAKE_PTR(options)));
        return r < 0 ? r : rest_call(c, "service.deploy", TAKE_PTR(params), on_deploy_requested);
}

static int scale_service(RestCall *c, KError *reterr) {
        _cleanup_json_ json_object *params = NULL;
        uint64_t count = 0;
        int r;

        (void) json_find_u64(rest_body(c), "instances", &count, NULL);
        r = rest_service_params(c, &params);
        REST_ADD(r, json_add_u64(params, "count", count));
        return r < 0 ? r : rest_call(c, "service.scale", TAKE_PTR(params), on_deploy_requested);
}

#define S "/v1/services/:grid/:stack/:service"

const RestRoute service_routes[] = {
        { "GET", "/v1/grids/:grid/services", .operation = "service.list", .summary = "Services of a grid",
                        .handler = list_services },
        { "POST", "/v1/grids/:grid/services", .operation = "service.create",
                        .summary = "Make a service that belongs to no stack", .body = create_fields,
                        .handler = create_service, .status = 201 },
        { "GET", S, .operation = "service.get", .summary = "A service", .handler = show_service },
        { "PUT", S, .operation = "service.update", .summary = "Change a service's settings",
                        .body = update_fields, .handler = update_service },
        { "DELETE", S, .operation = "service.remove", .summary = "Remove a service", .handler = act },
        { "POST", S "/deploy", .operation = "service.deploy", .summary = "Deploy a service",
                        .body = force_fields, .handler = deploy_service },
        { "GET", S "/deploys/:deploy", .operation = "deploy.get", .summary = "A deploy of a service",
                        .handler = show_deploy },
        { "POST", S "/scale", .operation = "service.scale", .summary = "Change how many instances there are",
                        .body = scale_fields, .handler = scale_service },
        { "POST", S "/start", .operation = "service.start", .summary = "Start a stopped service",
                        .handler = act },
        { "POST", S "/stop", .operation = "service.stop", .summary = "Stop a service", .handler = act },
        { "POST", S "/restart", .operation = "service.restart", .summary = "Restart all instances",
                        .handler = act },
};
const size_t n_service_routes = ELEMENTSOF(service_routes);
