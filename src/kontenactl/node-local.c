/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "node-local.h"

#include "bus-json.h"
#include "file-util.h"
#include "json-util.h"
#include "string-util.h"
#include "watch.h"

#define NODE_INTERFACE     "io.kontena.Node1"
#define INSTANCE_INTERFACE "io.kontena.Node1.Instance"

int node_local_properties(Ctl *c, json_object **ret, KError *reterr) {
        return ctl_get_properties(c, NODE_NAME, NODE_PATH, NODE_INTERFACE, ret, reterr);
}

/* The same keys as the master's instances have. */
static int convert_instance(json_object *properties, json_object **ret) {
        static const struct {
                const char *property, *key;
        } table[] = {
                { "Id", "id" },
                { "Unit", "unit" },
                { "State", "state" },
                { "Grid", "grid" },
                { "Stack", "stack" },
                { "Service", "service" },
                { "Number", "number" },
                { "Image", "image" },
                { "Address", "address" },
                { "MainPID", "main_pid" },
                { "Restarts", "restarts" },
                { "Error", "error" },
                { "Progress", "progress" },
                { "Health", "health" },
        };
        _cleanup_json_ json_object *o = json_object_new_object();

        if (!o)
                return -ENOMEM;
        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                json_object *v = json_object_object_get(properties, t->property);

                if (json_object_object_add(o, t->key, json_object_get(v)) < 0)
                        return -ENOMEM;
        }

        *ret = TAKE_PTR(o);
        return 0;
}

int node_local_instances(Ctl *c, json_object **ret, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_json_ json_object *l = json_object_new_array();
        sd_bus *bus;
        int r;

        r = ctl_bus(c, &bus, reterr);
        if (r < 0)
                return r;
        r = sd_bus_message_new_method_call(bus, &m, NODE_NAME, NODE_PATH,
                        "org.freedesktop.DBus.ObjectManager", "GetManagedObjects");
        if (r >= 0)
                r = sd_bus_message_set_auto_start(m, false);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make a message: %m");
        r = sd_bus_call(bus, m, 0, &error, &reply);
        if (r < 0)
                return ctl_bus_error(c, &error, r, reterr);

        r = sd_bus_message_enter_container(reply, 'a', "{oa{sa{sv}}}");
        while (r >= 0 && (r = sd_bus_message_enter_container(reply, 'e', "oa{sa{sv}}")) > 0) {
                _cleanup_json_ json_object *interfaces = NULL;
                json_object *instance = NULL, *properties;

                r = sd_bus_message_skip(reply, "o");
                if (r < 0)
                        break;
                r = bus_json_read(reply, &interfaces, reterr);
                if (r < 0)
                        return r;
                r = sd_bus_message_exit_container(reply);
                if (r < 0)
                        break;

                properties = json_object_object_get(interfaces, INSTANCE_INTERFACE);
                if (properties && (convert_instance(properties, &instance) < 0 ||
                                                  json_append(l, instance) < 0))
                        return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
        }
        if (r < 0)
                return kerror_set_errno(reterr, r, "The node daemon's answer cannot be read: %m");

        *ret = TAKE_PTR(l);
        return 0;
}

static int channel_is_ready(Ctl *c, void *userdata, KError *reterr) {
        _cleanup_json_ json_object *node = NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;
        const char *state, *text;
        int r;

        r = node_local_properties(c, &node, &error);
        if (r < 0) {
                /* It has not taken its name yet. */
                if (error.code == K_UNAVAILABLE)
                        return 0;
                kerror_move(reterr, &error);
                return r;
        }

        state = row_string(node, "ChannelState");
        text = row_string(node, "ChannelStatus");
        if (streq(state, "ready"))
                return 1;
        /* An attempt has failed, and the next one is waited for. */
        if (streq(state, "waiting") && !isempty(text))
                return kerror_set(reterr, K_CONFLICT, "%s", text);
        return 0;
}

int node_local_wait_ready(Ctl *c, uint64_t timeout_usec, KError *reterr) {
        int r;

        r = ctl_wait_for_name(c, NODE_NAME, timeout_usec, reterr);
        if (r >= 0)
                r = ctl_wait(c,
                                "type='signal',sender='" NODE_NAME "',path='" NODE_PATH
                                "',interface='org.freedesktop.DBus.Properties',member='PropertiesChanged'",
                                channel_is_ready, NULL, timeout_usec, reterr);
        return r < 0 ? r : 0;
}

/* Containers may take their grace period; what is stuck longer is told by the daemon's journal. */
#define LEAVE_TIMEOUT_USEC (15 * 60 * USEC_PER_SEC)
/* Whoever has just started it waits for its name, which comes a moment after the unit is there. */
#define NAME_TIMEOUT_USEC  (60 * USEC_PER_SEC)

int node_local_leave(Ctl *c, bool force, bool volumes, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        sd_bus *bus;
        int r;

        r = ctl_wait_for_name(c, NODE_NAME, NAME_TIMEOUT_USEC, reterr);
        if (r >= 0)
                r = ctl_bus(c, &bus, reterr);
        if (r < 0)
                return r;
        r = sd_bus_message_new_method_call(bus, &m, NODE_NAME, NODE_PATH, NODE_INTERFACE, "Leave");
        if (r >= 0)
                r = sd_bus_message_append(m, "bb", (int) force, (int) volumes);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make a message: %m");
        r = sd_bus_call(bus, m, LEAVE_TIMEOUT_USEC, &error, NULL);
        return r < 0 ? ctl_bus_error(c, &error, r, reterr) : 0;
}
