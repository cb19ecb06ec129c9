/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus.h"

#include <utlist.h>

#include "json-util.h"
#include "leave.h"
#include "log.h"
#include "polkit.h"
#include "string-util.h"

#define BUS_NAME           "io.kontena.Node1"
#define NODE_PATH          "/io/kontena/Node1"
#define NODE_INTERFACE     "io.kontena.Node1"
#define INSTANCE_PREFIX    "/io/kontena/Node1/instance"
#define INSTANCE_INTERFACE "io.kontena.Node1.Instance"
#define ACTION_MANAGE      "io.kontena.node1.manage"
#define QUERIES_MAX        64U

typedef struct Query Query;

/* A method call that waits for polkit's word, then perhaps for its end. */
struct Query {
        BusFace *face;
        PolkitQuery *polkit;
        sd_bus_message *call;
        int (*act)(Query *q, KError *reterr); /* 1: answered later, by answer() */
        LeaveFlags flags;
        Query *next;
};

struct BusFace {
        Manager *manager;
        sd_bus_slot *node, *instances, *enumerator, *object_manager, *name;
        Query *queries;
        unsigned n_queries;
};

static void query_free(Query *q) {
        LL_DELETE(q->face->queries, q);
        q->face->n_queries--;
        polkit_query_free(q->polkit);
        sd_bus_message_unref(q->call);
        free(q);
}

static int reply_error(sd_bus_message *call, const KError *error) {
        return sd_bus_reply_method_errorf(call, kerror_bus_name(error->code), "%s", kerror_message(error));
}

/* error NULL: success. The query is gone afterwards. */
static void answer(const KError *error, void *userdata) {
        Query *q = userdata;
        int r;

        r = error ? reply_error(q->call, error) : sd_bus_reply_method_return(q->call, NULL);
        if (r < 0)
                log_warning_errno(r, "Cannot answer a call on the bus: %m");

        query_free(q);
}

static void on_polkit_done(const PolkitPeer *peer, const KError *denied, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        Query *q = userdata;
        int r;

        q->polkit = polkit_query_free(q->polkit);
        if (denied) {
                answer(denied, q);
                return;
        }
        r = q->act(q, &error);
        if (r > 0)
                return;
        if (r < 0 && !kerror_is_set(&error))
                (void) kerror_set(&error, K_INTERNAL, "It failed for lack of memory.");
        answer(r < 0 ? &error : NULL, q);
}

static int ask_and_act(sd_bus_message *m, BusFace *f, int (*act)(Query *q, KError *reterr), LeaveFlags flags,
                sd_bus_error *error) {
        Query *q;
        int r;

        if (f->n_queries >= QUERIES_MAX)
                return sd_bus_error_set(error, SD_BUS_ERROR_LIMITS_EXCEEDED,
                                "Too many calls wait for an answer of polkit.");
        q = new0(Query, 1);
        if (!q)
                return -ENOMEM;
        q->face = f;
        q->call = sd_bus_message_ref(m);
        q->act = act;
        q->flags = flags;
        LL_PREPEND(f->queries, q);
        f->n_queries++;

        r = polkit_check(m, ACTION_MANAGE, NULL, on_polkit_done, q, &q->polkit);
        if (r < 0) {
                query_free(q);
                return r;
        }

        return 1;
}

static int act_reload(Query *q, KError *reterr) {
        return manager_reload(q->face->manager, reterr);
}

static int method_reload(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        return ask_and_act(m, userdata, act_reload, 0, error);
}

static int act_leave(Query *q, KError *reterr) {
        int r;

        r = manager_leave(q->face->manager, q->flags, answer, q, reterr);
        return r < 0 ? r : 1;
}

static int method_leave(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        int force, volumes, r;

        r = sd_bus_message_read(m, "bb", &force, &volumes);
        if (r < 0)
                return r;

        return ask_and_act(m, userdata, act_leave, (force ? LEAVE_FORCE : 0) | (volumes ? LEAVE_VOLUMES : 0),
                        error);
}

static int property_get_node(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        Manager *m = ((BusFace *) userdata)->manager;
        const char *value = NULL;

        if (streq(property, "MasterURL"))
                value = channel_master_url(m->channel);
        else if (streq(property, "ChannelState"))
                value = channel_state_to_string(channel_state(m->channel));
        else if (streq(property, "ChannelStatus"))
                value = channel_status_text(m->channel);
        else if (streq(property, "NodeID"))
                value = channel_node_id(m->channel);
        else if (streq(property, "NodeName"))
                value = m->host.node_name;
        else if (streq(property, "Version"))
                value = KONTENA_VERSION;
        else if (streq(property, "NetworkError"))
                value = m->network_error;
        else if (streq(property, "Grid"))
                (void) json_find_string(desired_section(m->desired, "grid"), "name", &value, NULL);

        return sd_bus_message_append(reply, "s", strempty(value));
}

static int property_get_instance_string(sd_bus *bus, const char *path, const char *interface,
                const char *property, sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        static const struct {
                const char *name;
                const char *(*get)(const Instance *i);
        } table[] = {
                { "Id", instance_id },
                { "Unit", instance_unit },
                { "Grid", instance_grid },
                { "Stack", instance_stack },
                { "Service", instance_service },
                { "Image", instance_image },
                { "ImageDigest", instance_image_digest },
                { "Address", instance_address },
                { "Error", instance_error },
                { "Progress", instance_progress },
                { "Health", instance_health },
        };
        Instance *i = userdata;

        for (size_t k = 0; k < ELEMENTSOF(table); k++)
                if (streq(table[k].name, property))
                        return sd_bus_message_append(reply, "s", table[k].get(i));

        return sd_bus_message_append(reply, "s", instance_state_to_string(instance_state_of(i)));
}

static int property_get_instance_number(sd_bus *bus, const char *path, const char *interface,
                const char *property, sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        Instance *i = userdata;

        return sd_bus_message_append(reply, "u",
                        streq(property, "MainPID") ? instance_main_pid(i) : (uint32_t) instance_number(i));
}

static int property_get_instance_count(sd_bus *bus, const char *path, const char *interface,
                const char *property, sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        Instance *i = userdata;

        return sd_bus_message_append(reply, "t",
                        streq(property, "Restarts") ? instance_restarts(i) : instance_deploy_rev(i));
}

#define NODE_PROPERTY(name, flags)   SD_BUS_PROPERTY(name, "s", property_get_node, 0, flags)
#define INSTANCE_STRING(name, flags) SD_BUS_PROPERTY(name, "s", property_get_instance_string, 0, flags)

static const sd_bus_vtable node_vtable[] = {
        SD_BUS_VTABLE_START(0),
        NODE_PROPERTY("Version", SD_BUS_VTABLE_PROPERTY_CONST),
        NODE_PROPERTY("MasterURL", SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        NODE_PROPERTY("ChannelState", SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        NODE_PROPERTY("ChannelStatus", SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        NODE_PROPERTY("NodeID", SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        NODE_PROPERTY("NodeName", SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        NODE_PROPERTY("Grid", SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        NODE_PROPERTY("NetworkError", SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_METHOD("Reload", NULL, NULL, method_reload, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Leave", SD_BUS_ARGS("b", force, "b", volumes), SD_BUS_NO_RESULT,
                        method_leave, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

static const sd_bus_vtable instance_vtable[] = {
        SD_BUS_VTABLE_START(0),
        INSTANCE_STRING("Id", SD_BUS_VTABLE_PROPERTY_CONST),
        INSTANCE_STRING("Unit", SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        INSTANCE_STRING("State", SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        INSTANCE_STRING("Grid", SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        INSTANCE_STRING("Stack", SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        INSTANCE_STRING("Service", SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Number", "u", property_get_instance_number, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        INSTANCE_STRING("Image", SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        INSTANCE_STRING("ImageDigest", SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        INSTANCE_STRING("Address", SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("MainPID", "u", property_get_instance_number, 0,
                        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Restarts", "t", property_get_instance_count, 0,
                        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("DeployRevision", "t", property_get_instance_count, 0,
                        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        INSTANCE_STRING("Error", SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        INSTANCE_STRING("Progress", SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        INSTANCE_STRING("Health", SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_VTABLE_END,
};

static int find_instance(sd_bus *bus, const char *path, const char *interface, void *userdata, void **ret,
                sd_bus_error *error) {
        BusFace *f = userdata;
        _cleanup_free_ char *id = NULL;
        Instance *i;
        int r;

        r = sd_bus_path_decode(path, INSTANCE_PREFIX, &id);
        if (r <= 0)
                return r;
        i = manager_find_instance(f->manager, id);
        if (!i)
                return 0;

        *ret = i;
        return 1;
}

static int enumerate_instances(
                sd_bus *bus, const char *prefix, void *userdata, char ***ret, sd_bus_error *error) {
        _cleanup_strv_free_ char **paths = NULL;
        BusFace *f = userdata;
        InstanceEntry *e, *next;

        HASH_ITER(hh, f->manager->instances, e, next) {
                char *path;
                int r;

                r = sd_bus_path_encode(INSTANCE_PREFIX, e->id, &path);
                if (r >= 0)
                        r = strv_consume(&paths, path);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(paths);
        return 0;
}

static int on_name(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const sd_bus_error *e = sd_bus_message_get_error(m);

        if (e)
                log_error("Cannot take the name " BUS_NAME " on the bus: %s", strna(e->message));
        return 0;
}

int bus_face_new(Manager *m, BusFace **ret) {
        _cleanup_(bus_face_freep) BusFace *f = NULL;
        int r;

        f = new0(BusFace, 1);
        if (!f)
                return -ENOMEM;
        f->manager = m;

        r = sd_bus_add_object_vtable(m->bus, &f->node, NODE_PATH, NODE_INTERFACE, node_vtable, f);
        if (r >= 0)
                r = sd_bus_add_fallback_vtable(m->bus, &f->instances, INSTANCE_PREFIX, INSTANCE_INTERFACE,
                                instance_vtable, find_instance, f);
        if (r >= 0)
                r = sd_bus_add_node_enumerator(
                                m->bus, &f->enumerator, INSTANCE_PREFIX, enumerate_instances, f);
        if (r >= 0)
                r = sd_bus_add_object_manager(m->bus, &f->object_manager, NODE_PATH);
        if (r >= 0)
                r = sd_bus_request_name_async(m->bus, &f->name, BUS_NAME, 0, on_name, f);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(f);
        return 0;
}

BusFace *bus_face_free(BusFace *f) {
        if (!f)
                return NULL;

        while (f->queries)
                query_free(f->queries);
        sd_bus_slot_unref(f->node);
        sd_bus_slot_unref(f->instances);
        sd_bus_slot_unref(f->enumerator);
        sd_bus_slot_unref(f->object_manager);
        sd_bus_slot_unref(f->name);
        free(f);
        return NULL;
}

static void with_path(BusFace *f, Instance *i, int (*emit)(sd_bus *bus, const char *path)) {
        _cleanup_free_ char *path = NULL;
        int r;

        if (!f)
                return;
        r = sd_bus_path_encode(INSTANCE_PREFIX, instance_id(i), &path);
        if (r >= 0)
                r = emit(f->manager->bus, path);
        if (r < 0)
                log_debug_errno(r, "Cannot tell the bus about instance '%s': %m", instance_id(i));
}

static int emit_added(sd_bus *bus, const char *path) {
        return sd_bus_emit_object_added(bus, path);
}

static int emit_removed(sd_bus *bus, const char *path) {
        return sd_bus_emit_object_removed(bus, path);
}

static int emit_changed(sd_bus *bus, const char *path) {
        return sd_bus_emit_properties_changed(bus, path, INSTANCE_INTERFACE, "State", "Unit", "MainPID",
                        "Restarts", "Error", "Progress", "Health", "DeployRevision", "Image", "ImageDigest",
                        "Address", NULL);
}

void bus_face_instance_added(BusFace *f, Instance *i) {
        with_path(f, i, emit_added);
}

void bus_face_instance_removed(BusFace *f, Instance *i) {
        with_path(f, i, emit_removed);
}

void bus_face_instance_changed(BusFace *f, Instance *i) {
        with_path(f, i, emit_changed);
}

void bus_face_node_changed(BusFace *f) {
        int r;

        if (!f)
                return;
        r = sd_bus_emit_properties_changed(f->manager->bus, NODE_PATH, NODE_INTERFACE, "MasterURL",
                        "ChannelState", "ChannelStatus", "NodeID", "NodeName", "Grid", "NetworkError", NULL);
        if (r < 0)
                log_debug_errno(r, "Cannot tell the bus about the node: %m");
}
