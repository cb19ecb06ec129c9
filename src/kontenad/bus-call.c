/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <limits.h>
#include <utlist.h>

#include "bus-identity.h"
#include "bus-internal.h"
#include "bus-json.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "log.h"
#include "polkit.h"
#include "string-util.h"

/* From a method call to an operation and back. Nothing here knows what any of them does. */

typedef struct BusCaller {
        Caller base;
        BusLink *link;
        sd_bus_message *call;
        PolkitQuery *query;
        BusIdentity *identity;
        KError refusal; /* polkit's answer, while the peer's unit is asked for */
        bool reads;     /* nothing that is audited but for refusals */
        authorize_done_t done;
        void *userdata;
} BusCaller;

struct BusCall {
        BusFace *face;
        BusLink *link;
        sd_bus_message *message;
        const Operation *operation;
        const char *result_types;
        BusCall *prev, *next;
};

static void on_identity(const char *unit, const char *session, void *userdata) {
        BusCaller *c = userdata;
        _cleanup_kerror_ KError refusal = KERROR_NULL;

        c->identity = bus_identity_free(c->identity);
        if (unit)
                c->base.unit = strdup(unit);
        if (session)
                c->base.session = strdup(session);
        kerror_move(&refusal, &c->refusal);
        c->done(kerror_is_set(&refusal) ? &refusal : NULL, c->userdata);
}

static void on_polkit(const PolkitPeer *peer, const KError *error, void *userdata) {
        BusCaller *c = userdata;
        _cleanup_(polkit_query_freep) _unused_ PolkitQuery *answered = TAKE_PTR(c->query);

        c->base.uid = peer->uid;
        c->base.pid = peer->pid;
        if (peer->uid != (uid_t) -1) {
                char *name = strprintf("uid %u", peer->uid);

                if (name) {
                        free(c->base.name);
                        c->base.name = name;
                }
        }
        if ((!c->reads || kerror_is_set(error)) && !c->base.unit && peer->pid > 0 &&
                        bus_identity_ask(sd_bus_message_get_bus(c->call), peer->pid, on_identity, c,
                                        &c->identity) >= 0) {
                kerror_done(&c->refusal);
                if (kerror_is_set(error))
                        (void) kerror_set(&c->refusal, error->code, "%s", kerror_message(error));
                return;
        }
        c->done(error, c->userdata);
}

/* A uid may be a user's: rules of polkit can go by that user and the roles, and the audit names them. */
static void on_peer(PolkitQuery *q, const PolkitPeer *peer, void *userdata) {
        BusCaller *c = userdata;
        _cleanup_free_ char *roles = NULL;
        UserRow *user = NULL;
        int r;

        r = store_find_user_by_uid(c->link->face->master->store, peer->uid, &user);
        if (r < 0 && r != -ENOENT)
                log_warning_errno(r, "Whose the uid %u is cannot be found out: %m", peer->uid);
        if (caller_set_user(&c->base, user) < 0 || !user)
                return;

        roles = strv_join(user->roles, ",");
        if (polkit_query_add_detail(q, "user", user->email) < 0 ||
                        polkit_query_add_detail(q, "roles", strempty(roles)) < 0)
                log_warning("polkit is not told which user the uid %u is: out of memory.", peer->uid);
}

static int caller_authorize(
                Caller *caller, const AuthorizationRequest *request, authorize_done_t done, void *userdata) {
        BusCaller *c = (BusCaller *) caller;
        const char *details[] = { "grid", request->grid, "node", request->node, "stack", request->stack,
                "service", request->service, NULL };
        int r;

        c->done = done;
        c->userdata = userdata;
        c->query = polkit_query_free(c->query);
        c->identity = bus_identity_free(c->identity);
        c->reads = streq(request->action, "io.kontena.master1.read");
        r = (request->interactive ? polkit_check : polkit_check_silently)(
                        c->call, request->action, details, on_polkit, c, &c->query);
        if (r >= 0)
                polkit_query_on_peer(c->query, on_peer);
        return r;
}

static void caller_done(Caller *caller) {
        BusCaller *c = (BusCaller *) caller;

        polkit_query_free(c->query);
        bus_identity_free(c->identity);
        kerror_done(&c->refusal);
        sd_bus_message_unref(c->call);
        bus_link_unref(c->link);
}

static int log_sink(Caller *caller, const struct LogSink **ret, void **ret_userdata) {
        BusCaller *c = (BusCaller *) caller;

        return bus_log_sink(c->link, c->call, ret, ret_userdata);
}

static int stream_sink(Caller *caller, const struct StreamSink **ret, void **ret_userdata) {
        BusCaller *c = (BusCaller *) caller;

        return bus_stream_sink(c->link, c->call, ret, ret_userdata);
}

static const CallerVTable vtable = {
        .kind = "dbus",
        .authorize = caller_authorize,
        .log_sink = log_sink,
        .stream_sink = stream_sink,
        .free = caller_done,
};

static int caller_new(BusLink *l, sd_bus_message *m, Caller **ret) {
        BusCaller *c;

        c = new0(BusCaller, 1);
        if (!c)
                return -ENOMEM;
        *c = (BusCaller){
                .base = { .n_ref = 1, .vtable = &vtable, .uid = (uid_t) -1 },
                .link = bus_link_ref(l),
                .call = sd_bus_message_ref(m),
        };
        c->base.address = strdup(strempty(sd_bus_message_get_sender(m)));
        c->base.name = strdup(strempty(sd_bus_message_get_sender(m)));
        if (!c->base.address || !c->base.name) {
                caller_unref(&c->base);
                return -ENOMEM;
        }

        *ret = &c->base;
        return 0;
}

/* Of a guest's caller, which is made elsewhere. */
typedef struct GuestCall {
        BusLink *link;
        sd_bus_message *call;
} GuestCall;

static int guest_log_sink(void *userdata, const struct LogSink **ret, void **ret_userdata) {
        GuestCall *g = userdata;

        return bus_log_sink(g->link, g->call, ret, ret_userdata);
}

static int guest_stream_sink(void *userdata, const struct StreamSink **ret, void **ret_userdata) {
        GuestCall *g = userdata;

        return bus_stream_sink(g->link, g->call, ret, ret_userdata);
}

static void guest_done(void *userdata) {
        GuestCall *g = userdata;

        sd_bus_message_unref(g->call);
        bus_link_unref(g->link);
        free(g);
}

static const CallerSinks guest_sinks = {
        .log = guest_log_sink,
        .stream = guest_stream_sink,
        .free = guest_done,
};

static int guest_new(BusLink *l, sd_bus_message *m, Caller **ret, KError *reterr) {
        _cleanup_(caller_unrefp) Caller *c = NULL;
        GuestCall *g;
        int r;

        r = l->guest->new_caller(l->guest_userdata, &c, reterr);
        if (r < 0)
                return r;
        g = new0(GuestCall, 1);
        if (!g)
                return -ENOMEM;
        *g = (GuestCall){ bus_link_ref(l), sd_bus_message_ref(m) };
        c->sinks = &guest_sinks;
        c->sinks_userdata = g;

        *ret = TAKE_PTR(c);
        return 0;
}

static BusCall *bus_call_free(BusCall *c) {
        if (!c)
                return NULL;

        DL_DELETE(c->face->calls, c);
        c->face->n_calls--;
        sd_bus_message_unref(c->message);
        bus_link_unref(c->link);
        free(c);
        return NULL;
}

void bus_calls_abort(BusFace *f) {
        while (f->calls)
                bus_call_free(f->calls);
}

static int result_path(json_object *result, const char *key, char **ret) {
        const char *grid = NULL, *node = NULL, *stack = NULL, *service = NULL, *deploy = NULL, *name = NULL;

        (void) json_find_string(result, "grid", &grid, NULL);
        (void) json_find_string(result, "node", &node, NULL);
        (void) json_find_string(result, "stack", &stack, NULL);
        (void) json_find_string(result, "service", &service, NULL);
        (void) json_find_string(result, "deploy", &deploy, NULL);
        (void) json_find_string(result, "name", &name, NULL);

        if (streq(key, "name") && name)
                return bus_path_grid(name, ret);
        if (streq(key, "node") && grid && node)
                return bus_path_node(grid, node, ret);
        if (streq(key, "service") && grid && stack && service)
                return bus_path_service(grid, stack, service, ret);
        if (streq(key, "deploy") && deploy)
                return bus_path_id("deploy", deploy, ret);

        return -ENODATA;
}

static int append_result(sd_bus_message *reply, const BusCall *c, json_object *result, KError *reterr) {
        const char *types = c->result_types;

        for (size_t i = 0; types && *types; i++) {
                _cleanup_free_ char *type = NULL, *path = NULL;
                const char *key = c->operation->results[i];
                int n, r;

                n = bus_signature_element(types);
                if (n < 0 || !key)
                        return -EINVAL;
                type = strndup(types, (size_t) n);
                if (!type)
                        return -ENOMEM;
                types += n;

                if (streq(type, "o")) {
                        r = result_path(result, key, &path);
                        if (r >= 0)
                                r = sd_bus_message_append(reply, "o", path);
                } else
                        r = bus_json_append(reply, type, *key ? json_object_object_get(result, key) : result,
                                        reterr);
                if (r < 0)
                        return r;
        }

        return 0;
}

static int send_answer(const BusCall *c, json_object *result, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        int r;

        r = sd_bus_message_new_method_return(c->message, &reply);
        if (r >= 0 && (c->operation->flags & OPERATION_SECRET))
                r = sd_bus_message_sensitive(reply);
        if (r < 0)
                return r;
        r = append_result(reply, c, result, reterr);
        if (r < 0)
                return r;
        return bus_link_send(c->link, reply);
}

static int send_error(sd_bus_message *m, const KError *error) {
        /* The name that tools which can ask for a password wait for. */
        const char *name = error->code == K_INTERACTIVE_AUTHORIZATION_REQUIRED
                                           ? SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED
                                           : kerror_bus_name(error->code);

        return sd_bus_reply_method_errorf(m, name, "%s", kerror_message(error));
}

static void on_done(json_object *result, const KError *error, void *userdata) {
        BusCall *c = userdata;
        _cleanup_kerror_ KError e = KERROR_NULL;
        int r;

        if (kerror_is_set(error))
                r = send_error(c->message, error);
        else {
                r = send_answer(c, result, &e);
                if (r < 0 && r != -ENOTCONN) {
                        (void) kerror_set_errno(&e, r, "The answer cannot be put together: %m.");
                        r = send_error(c->message, &e);
                }
        }
        if (r < 0 && r != -ENOTCONN)
                log_warning_errno(r, "A call on the bus cannot be answered: %m");

        bus_call_free(c);
}

/* One peer must not take all the room there is. */
static int check_room(BusLink *l, sd_bus_message *m, sd_bus_error *error) {
        const char *sender = strempty(sd_bus_message_get_sender(m));
        BusFace *f = l->face;
        unsigned of_peer = 0;
        BusCall *c;

        DL_FOREACH(f->calls, c)
                if (c->link == l &&
                                (l->guest || streq(strempty(sd_bus_message_get_sender(c->message)), sender)))
                        of_peer++;
        if (f->n_calls >= BUS_CALLS_MAX || of_peer >= BUS_CALLS_PER_PEER_MAX)
                return sd_bus_error_set(error, kerror_bus_name(K_LIMIT_EXCEEDED),
                                "Too many calls wait for their answer.");

        return 0;
}

int bus_call_operation(BusLink *l, sd_bus_message *m, const Operation *o, json_object *params,
                const char *result_types) {
        _cleanup_(caller_unrefp) Caller *caller = NULL;
        _cleanup_kerror_ KError e = KERROR_NULL;
        BusFace *f = l->face;
        BusCall *c;
        int r, interactive;

        interactive = sd_bus_message_get_allow_interactive_authorization(m);
        r = interactive < 0 ? interactive
            : l->guest      ? guest_new(l, m, &caller, &e)
                            : caller_new(l, m, &caller);
        if (r < 0) {
                json_object_put(params);
                return kerror_is_set(&e) ? send_error(m, &e) : r;
        }

        c = new0(BusCall, 1);
        if (!c) {
                json_object_put(params);
                return -ENOMEM;
        }
        *c = (BusCall){
                .face = f,
                .link = bus_link_ref(l),
                .message = sd_bus_message_ref(m),
                .operation = o,
                .result_types = result_types,
        };
        DL_APPEND(f->calls, c);
        f->n_calls++;

        operation_call(f->master, caller, o, params, interactive > 0, on_done, c);
        return 1;
}

static const char *result_types(const char *method) {
        for (const sd_bus_vtable *v = bus_manager_vtable(); v->type != _SD_BUS_VTABLE_END; v++)
                if (v->type == _SD_BUS_VTABLE_METHOD && streq(v->x.method.member, method))
                        return v->x.method.result;
        return NULL;
}

static int read_bytes(sd_bus_message *m, json_object **ret) {
        const void *data = NULL;
        size_t size = 0;
        int r;

        r = sd_bus_message_read_array(m, 'y', &data, &size);
        if (r < 0)
                return r;
        if (size > INT_MAX)
                return -EMSGSIZE;
        *ret = json_object_new_string_len(data ?: "", (int) size);
        return *ret ? 0 : -ENOMEM;
}

int bus_method_operation(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        _cleanup_json_ json_object *params = json_object_new_object();
        _cleanup_kerror_ KError e = KERROR_NULL;
        const char *member = sd_bus_message_get_member(m);
        BusLink *l = userdata;
        const Operation *o;
        int r;

        if (!params)
                return -ENOMEM;

        o = operation_find_by_method(member);
        if (!o)
                return sd_bus_error_setf(
                                error, SD_BUS_ERROR_UNKNOWN_METHOD, "There is no method '%s'.", member);
        r = check_room(l, m, error);
        if (r < 0)
                return r;

        for (const OperationParameter *p = o->parameters; p->name; p++) {
                json_object *value = NULL;

                r = p->type == PARAMETER_BYTES ? read_bytes(m, &value) : bus_json_read(m, &value, &e);
                if (r >= 0 && json_object_object_add(params, p->name, value) < 0) {
                        json_object_put(value);
                        r = -ENOMEM;
                }
                if (r < 0) {
                        kerror_prefix(&e, "'%s'", p->name);
                        return kerror_is_set(&e) ? sd_bus_error_set(error, kerror_bus_name(e.code),
                                                                   kerror_message(&e))
                                                 : r;
                }
        }

        return bus_call_operation(l, m, o, TAKE_PTR(params), result_types(member));
}
