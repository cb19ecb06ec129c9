/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "event-util.h"
#include "kerror.h"
#include "macro.h"

/* The parts of the running master, so that each finds the others. Owned by master.c; parts never free each other. */
typedef struct Master {
        sd_event *event;
        EventTurns turns; /* of its loop */
        sd_bus *bus;
        sd_event_source *bus_turn;
        struct Config *config;
        struct Store *store;
        struct Keyring *keyring; /* seals secrets, hashes tokens */
        struct Ca *ca;
        struct Authorities *authorities; /* whom nodes trust */
        struct Listener *listener;
        struct NodeSessions *sessions;
        struct NodeTracker *tracker; /* admits nodes, keeps their state, sends desired state */
        struct Deployer *deployer;
        struct PlacementCache *placement;   /* how grids are, for who places; NULL: each reads the store */
        struct DeployImages *deploy_images; /* which bytes an image is; NULL: each node decides */
        struct DataCopies *data_copies;     /* of instances that are moved */
        struct Rescheduler *rescheduler;    /* starts deploys by itself */
        struct JobRunner *job_runner;       /* starts jobs by their schedule */
        struct BusFace *bus_face;
        struct Rest *rest;
        struct BusTunnels *bus_tunnels;
        struct LogStreams *log_streams;
        struct Streams *streams;
        struct CallerStream *caller_streams; /* of those, what callers hold */
        struct OperationCall *calls;         /* that wait for polkit or a node */
        struct AuditVerify *audit_verify;    /* that is under way */
        struct Identity *identity;           /* users, their tokens and codes */
        struct Standings *standings;         /* of callers of what goes on */
        unsigned n_logins;                   /* that wait for the provider */
} Master;

/* Reads the configuration, opens the store, makes all parts, listens and joins the bus, in that order. */
int master_new(sd_event *event, Master **ret, KError *reterr);
Master *master_free(Master *m);
DEFINE_TRIVIAL_CLEANUP_FUNC(Master *, master_free);

/* Reads the configuration again; on failure the old one stays. */
int master_reload(Master *m, KError *reterr);

/* Until sd_event_exit(); says at debug which turns of the loop took long. Returns the exit code or a negative errno. */
int master_loop(Master *m);
