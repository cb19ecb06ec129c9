/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus-json.h"
#include "ctl.h"
#include "file-util.h"
#include "join-token.h"
#include "json-util.h"
#include "node-join.h"
#include "node-local.h"
#include "parse-util.h"
#include "string-util.h"
#include "systemd.h"
#include "watch.h"

#define DEFAULT_GRID "default"

typedef struct NodeWait {
        const char *grid, *name;
} NodeWait;

static int node_is_online(Ctl *c, void *userdata, KError *reterr) {
        _cleanup_json_ json_object *nodes = NULL;
        NodeWait *w = userdata;
        int r;

        r = ctl_call_json(c, "ListNodes", &nodes, reterr, "s", w->grid);
        if (r < 0)
                return r;
        FOREACH_JSON_ARRAY(n, nodes) {
                /* A name that was taken got the node's number behind it. */
                const char *rest = startswith(row_string(n, "name"), w->name);

                if (rest && (rest[0] == '\0' || rest[0] == '-') &&
                                STR_IN_SET(row_string(n, "state"), "online", "drain"))
                        return 1;
        }
        return 0;
}

static int make_grid(Ctl *c, const Arguments *a, const char *grid, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_json_ json_object *settings = json_object_new_object();
        _cleanup_strv_free_ char **trusted = NULL;
        int r;

        r = arguments_get_all(a, "trusted-subnet", &trusted, reterr);
        if (r < 0)
                return r;
        if (!settings || (trusted && json_add_strv(settings, "trusted_subnets", trusted) < 0))
                return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");

        r = ctl_message(c, "CreateGrid", &m, reterr);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "s", grid);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make the call: %m");
        r = bus_json_append(m, "a{sv}", settings, reterr);
        if (r < 0)
                return r;
        return ctl_send(c, m, NULL, reterr);
}

/* The grid asked for, made if it is missing; without a name the only one, or "default". */
static int choose_grid(Ctl *c, const Arguments *a, const char **ret, KError *reterr) {
        _cleanup_json_ json_object *grids = NULL;
        size_t n;
        int r;

        r = ctl_call_json(c, "ListGrids", &grids, reterr, NULL);
        if (r < 0)
                return r;

        n = json_object_array_length(grids);
        if (!c->grid && n == 0)
                c->grid = DEFAULT_GRID;
        r = ctl_grid(c, ret, reterr);
        if (r < 0)
                return r;

        FOREACH_JSON_ARRAY(g, grids)
                if (streq(row_string(g, "name"), *ret)) {
                        ctl_say(c, "Grid '%s' exists.", *ret);
                        return 0;
                }

        ctl_say(c, "Making the grid '%s'.", *ret);
        return make_grid(c, a, *ret, reterr);
}

/* Returns 1 when this machine is a node of that grid already. */
static int is_node_of(Ctl *c, const char *grid, KError *reterr) {
        _cleanup_json_ json_object *node = NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;
        const char *of;

        if (node_local_properties(c, &node, &error) < 0)
                return 0;
        of = row_string(node, "Grid");
        if (!streq(row_string(node, "ChannelState"), "ready") || isempty(of))
                return 0;
        if (!streq(of, grid))
                return kerror_set(reterr, K_CONFLICT,
                                "This machine is a node of the grid '%s'; first: kontenactl node leave", of);
        return 1;
}

static int join_here(Ctl *c, const char *grid, const char *url, uint64_t timeout, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_erase_ char *token = NULL;
        const char *s;
        int r;

        r = ctl_call(c, "GetGridToken", &reply, reterr, "sb", grid, false);
        if (r < 0)
                return r;
        r = sd_bus_message_read(reply, "s", &s);
        if (r < 0)
                return kerror_set_errno(reterr, r, "The master's answer cannot be read: %m");
        token = strdup(s);
        if (!token)
                return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");

        return node_join(c, url, token, timeout, reterr);
}

static int wait_online(Ctl *c, const char *grid, uint64_t timeout, KError *reterr) {
        _cleanup_json_ json_object *node = NULL;
        NodeWait w = { .grid = grid };
        int r;

        r = node_local_properties(c, &node, reterr);
        if (r < 0)
                return r;
        w.name = row_string(node, "NodeName");
        r = ctl_wait(c,
                        "type='signal',sender='" MASTER_NAME "',path_namespace='" MASTER_PATH
                        "/node',interface='org.freedesktop.DBus.Properties',member='PropertiesChanged'",
                        node_is_online, &w, timeout, reterr);
        if (r == -ETIMEDOUT) {
                kerror_done(reterr);
                return kerror_set(reterr, K_TIMEOUT,
                                "The node is connected but not online yet; see: kontenactl status");
        }
        return r < 0 ? r : 0;
}

int command_bootstrap(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_json_ json_object *master = NULL;
        _cleanup_free_ char *address = NULL;
        const char *grid, *v = arguments_get(a, "timeout"), *url;
        uint64_t timeout = 60 * USEC_PER_SEC;
        int r;

        if (v && parse_sec(v, &timeout) < 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "--timeout=%s: a time is wanted, say 30s or 5min.", v);
        r = require_local_root(c, "Bootstrapping", reterr);
        if (r < 0)
                return r;

        ctl_say(c, "Starting %s.", MASTER_UNIT);
        r = unit_enable(c, MASTER_UNIT, reterr);
        if (r < 0)
                return r;
        r = unit_run(c, "StartUnit", MASTER_UNIT, reterr);
        if (r < 0)
                return r;
        r = ctl_wait_for_name(c, MASTER_NAME, timeout, reterr);
        if (r == -ETIMEDOUT) {
                kerror_done(reterr);
                return kerror_set(reterr, K_TIMEOUT,
                                "The master does not appear on the bus; see: systemctl status %s",
                                MASTER_UNIT);
        }
        if (r < 0)
                return r;

        r = ctl_get_properties(c, MASTER_NAME, MASTER_PATH, MASTER_MANAGER, &master, reterr);
        if (r < 0)
                return r;
        address = master_address(row_string(master, "ListenURL"));
        if (!address)
                return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
        url = arguments_get(a, "url") ?: address;
        ctl_say(c, "Master %s listens on %s.", row_string(master, "Version"), address);

        r = choose_grid(c, a, &grid, reterr);
        if (r < 0)
                return r;
        r = is_node_of(c, grid, reterr);
        if (r < 0)
                return r;
        if (r > 0)
                ctl_say(c, "This machine is a node of it.");
        else {
                r = join_here(c, grid, url, timeout, reterr);
                if (r < 0)
                        return r;
        }
        r = wait_online(c, grid, timeout, reterr);
        if (r < 0)
                return r;

        ctl_say(c,
                        "This machine is the master of the grid '%s' and a node of it. Try:\n"
                        "  kontenactl status\n"
                        "  kontenactl service create --ports=8080:80 --deploy web nginx\n"
                        "More nodes, on each machine:\n"
                        "  kontenactl node join %s TOKEN      (the token: kontenactl grid token %s)",
                        grid, address, grid);
        return 0;
}
