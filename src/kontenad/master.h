/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "macro.h"

/* The parts of the running master, so that each finds the others. Owned by master.c; parts never free each other. */
typedef struct Master {
        sd_event *event;
        sd_bus *bus;
        struct Config *config;
        struct Store *store;
        struct Keyring *keyring;                         /* seals secrets, hashes tokens */
        struct Ca *ca;
        struct Listener *listener;
        struct NodeSessions *sessions;
        struct NodeTracker *tracker;                     /* admits nodes, keeps their state, sends desired state */
        struct Deployer *deployer;
        struct Rescheduler *rescheduler;                 /* starts deploys by itself */
        struct BusFace *bus_face;
        struct LogStreams *log_streams;
} Master;
