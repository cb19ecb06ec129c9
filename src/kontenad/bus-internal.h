/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>
#include <systemd/sd-bus.h>

#include "bus-face.h"
#include "log-streams.h"
#include "operation.h"
#include "store.h"

#define BUS_NAME      "io.kontena.Master1"
#define MASTER_PATH   "/io/kontena/Master1"
#define MANAGER_IFACE "io.kontena.Master1.Manager"

/* The object that a property is just being read of. One for each kind; the next lookup replaces it. Rows that many objects
 * have in common are kept for one turn of the loop, in which the store is as it was. */
typedef struct Found {
        BusFace *face;
        uint64_t turn;
        json_object *row; /* as operations show it */
        GridRow *grid;
        ServiceRow *service;
        DeployRow *deploy;
} Found;

typedef struct Known Known;     /* an object that was announced */
typedef struct BusCall BusCall; /* a method call without answer */

struct BusFace {
        Master *master;
        sd_bus_slot *slots[16];
        size_t n_slots;
        Found found[_STORE_KIND_MAX];
        Known *known;
        Known *stale; /* services whose counts may have changed */
        sd_event_source *flush;
        BusCall *calls;
        unsigned n_calls;
};

/* bus-call.c */
int bus_method_operation(sd_bus_message *m, void *userdata, sd_bus_error *error);
/* For methods of other interfaces: params are consumed. */
int bus_call_operation(BusFace *f, sd_bus_message *m, const Operation *o, json_object *params,
                const char *result_types);
void bus_calls_abort(BusFace *f);

/* bus-log.c */
int bus_log_sink(BusFace *f, sd_bus_message *call, const LogSink **ret, void **ret_userdata);

/* bus-stream.c */
int bus_stream_sink(BusFace *f, sd_bus_message *call, const struct StreamSink **ret, void **ret_userdata);

/* bus-object.c */
int bus_objects_add(BusFace *f);
int bus_add_slot(BusFace *f, sd_bus_slot *slot);
void bus_found_done(Found *f);
const sd_bus_vtable *bus_manager_vtable(void);

/* bus-path.c; all malloc()ed. */
int bus_path_grid(const char *grid, char **ret);
int bus_path_node(const char *grid, const char *node, char **ret);
int bus_path_service(const char *grid, const char *stack, const char *service, char **ret);
int bus_path_id(const char *kind, const char *id, char **ret);

/* bus-notify.c */
int bus_notify_start(BusFace *f);
void bus_notify_done(BusFace *f);
