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
        BusLink *link;
        uint64_t turn;
        json_object *row; /* as operations show it */
        GridRow *grid;
        ServiceRow *service;
        DeployRow *deploy;
} Found;

typedef struct Known Known;     /* an object that was announced */
typedef struct BusCall BusCall; /* a method call without answer */

/* Who gets what comes of a stream or a log, while it does. */
typedef struct BusReader {
        BusLink *link;     /* a reference */
        char *destination; /* NULL: whoever is at the other end */
        char *stream;
        sd_bus_slot *watch, *look;
        bool lost;
        void (*gone)(struct BusReader *r); /* ends it, which frees the reader */
        struct BusReader *prev, *next;
} BusReader;

/* One connection that the objects are on: the system bus, where polkit decides, or one with a guest, who is a user with a token. */
struct BusLink {
        unsigned n_ref;
        BusFace *face; /* NULL: the connection has ended */
        sd_bus *bus;
        const BusGuest *guest;
        void *guest_userdata;
        sd_bus_slot *slots[16];
        size_t n_slots;
        Found found[_STORE_KIND_MAX];
        BusReader *readers;
        BusLink *prev, *next;
};

struct BusFace {
        Master *master;
        BusLink *links;
        Known *known;
        Known *stale; /* services whose counts may have changed */
        sd_event_source *flush;
        BusCall *calls;
        unsigned n_calls;
};

/* bus-face.c */
BusLink *bus_link_ref(BusLink *l);
BusLink *bus_link_unref(BusLink *l);
/* grid_id NULL: what belongs to none. */
bool bus_link_sees(BusLink *l, const char *grid_id);
/* The link's peer is told something: a guest who does not read is found out. */
int bus_link_send(BusLink *l, sd_bus_message *m);

/* bus-reader.c. gone() is called when the peer leaves the bus, perhaps before the stream has a name. */
int bus_reader_new(BusLink *l, sd_bus_message *call, void (*gone)(BusReader *r), BusReader **ret);
void bus_reader_free(void *userdata);                       /* a BusReader */
void bus_reader_opened(const char *stream, void *userdata); /* that is its name */
/* -ENOTCONN: the peer has gone, or would go without our knowing. */
int bus_reader_signal(BusReader *r, const char *member, const char *stream, sd_bus_message **ret);

/* bus-call.c */
int bus_method_operation(sd_bus_message *m, void *userdata, sd_bus_error *error);
/* For methods of other interfaces: params are consumed. */
int bus_call_operation(BusLink *l, sd_bus_message *m, const Operation *o, json_object *params,
                const char *result_types);
void bus_calls_abort(BusFace *f);

/* bus-log.c */
int bus_log_sink(BusLink *l, sd_bus_message *call, const LogSink **ret, void **ret_userdata);

/* bus-stream.c */
int bus_stream_sink(BusLink *l, sd_bus_message *call, const struct StreamSink **ret, void **ret_userdata);

/* bus-object.c */
int bus_objects_add(BusLink *l);
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
