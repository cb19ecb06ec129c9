/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>
#include <uthash.h>

#include "channel.h"
#include "config.h"
#include "desired.h"
#include "image-store.h"
#include "instance.h"
#include "kerror.h"
#include "macro.h"
#include "network.h"
#include "pull.h"
#include "reporter.h"
#include "runtime.h"
#include "unit.h"

/* The node daemon: owns everything, and carries messages between its parts. */
typedef struct Manager Manager;
typedef struct InstanceEntry InstanceEntry;
typedef struct LogStreams LogStreams;
typedef struct BusFace BusFace;
typedef struct ImageListing ImageListing;
typedef struct ImageQuestion ImageQuestion;

struct Manager {
        sd_event *event;
        sd_bus *bus;
        NodeConfig *config;

        UnitManager *units;
        ImageStore *images;
        PullManager *pulls;
        Network *network;
        Runtime *runtime;
        VersionQuery *version_query;
        char *runtime_error;
        Runtime *machines; /* NULL: systemd-nspawn is not installed */
        char *machines_error;
        Channel *channel;
        Desired *desired;
        Reporter *reporter;
        LogStreams *logs;
        struct Streams *streams;
        struct VolumeManager *volumes;
        struct VolumeClaim
                        *instance_claims; /* whose volumes without a name are copied, by the instance's id */
        struct FdStore *fds;              /* what systemd holds for us */
        struct Secrets *secrets;          /* NULL: the key cannot be had */
        ImageListing *image_listings;     /* likewise */
        ImageQuestion *image_questions;   /* of the master, not yet answered */
        NetworkMeasure *measure;          /* under way for these */
        struct LinkQuestion *link_questions;

        InstanceHost host;
        InstanceEntry *instances; /* by id */
        char *node_name;          /* as the master calls it */
        char *network_error;      /* NULL: the network is as it should be */
        char *systemd_version;    /* NULL until systemd has told it */
        char *status;             /* what STATUS= said last */

        sd_event_source *reconcile, *report, *image_collect, *status_timer, *links_timer;
        bool full_state_asked; /* desired.get is under way */
        bool retained;         /* namespaces of former instances are gone */
        bool was_connected;    /* and said so */

        BusFace *face;
        struct Leave *leave; /* NULL: this machine stays */
};

struct InstanceEntry {
        char *id;
        Instance *instance;
        UT_hash_handle hh;
};

int manager_new(sd_event *event, Manager **ret);
Manager *manager_free(Manager *m);
DEFINE_TRIVIAL_CLEANUP_FUNC(Manager *, manager_free);

/* Starts what the disk says; the channel, if the node has joined. */
int manager_start(Manager *m);

/* Configuration again: registries, log level. SIGHUP and Reload(). */
int manager_reload(Manager *m, KError *reterr);

Instance *manager_find_instance(Manager *m, const char *id);
size_t manager_count_instances(Manager *m);
