/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-bus.h>

#include "instance-want.h"
#include "macro.h"

/* What the transient unit of an instance looks like. Every limit and every device is a property of the unit, so that a
 * daemon-reload of systemd puts back what it took away (trap 9). */
typedef struct UnitSetup {
        char *description, *slice, *pid_file, *identifier;
        char **create, **start, **delete; /* argv of the runtime */
        bool once;                        /* never started again; how it ended stays to be read */
        bool notify; /* create runs as long as the container, and says when that is up; then neither of the others */
        char *network_namespace; /* of create; NULL: the host's */
        char **environment;      /* of create */
        uint64_t start_timeout_usec;
        char **log_fields;          /* "KONTENA_GRID=..." */
        char *output, *output_path; /* see output.h; NULL: none */
        int stop_signal;
        uint64_t stop_grace_usec;
        uint64_t memory_max, memory_swap_max, tasks_max; /* UINT64_MAX: unset */
        uint64_t cpu_quota_per_sec_usec, cpu_weight;     /* UINT64_MAX: unset */
        bool all_devices;
        char **devices;  /* "/dev/fuse rwm" */
        char **settings; /* "CPUWeight=200", of the service: these win over ours */
} UnitSetup;

/* How long the runtime may take to set up a container. */
#define UNIT_START_TIMEOUT_USEC (60ULL * 1000000ULL)

#define UNIT_SETUP_NULL                                                                                     \
        ((UnitSetup){ .memory_max = UINT64_MAX,                                                             \
                        .memory_swap_max = UINT64_MAX,                                                      \
                        .tasks_max = UINT64_MAX,                                                            \
                        .cpu_quota_per_sec_usec = UINT64_MAX,                                               \
                        .cpu_weight = UINT64_MAX,                                                           \
                        .start_timeout_usec = UNIT_START_TIMEOUT_USEC })

void unit_setup_done(UnitSetup *s);

/* Everything that the settings decide; commands, files and devices are the runtime's. image_stop_signal may be NULL. */
int unit_setup_from_want(
                const InstanceWant *want, const char *image, const char *image_stop_signal, UnitSetup *ret);

/* The a(sv) of StartTransientUnit(). */
int unit_setup_append(const UnitSetup *s, sd_bus_message *m);

/* Of it: slice, limits, the service's own properties and devices. For the units of commands in the container, too. */
int unit_setup_append_resources(const UnitSetup *s, sd_bus_message *m);

/* cpu.shares of old (2..262144, 1024 the default) as cpu.weight (1..10000, 100 the default), so that both ends and both defaults
 * meet. */
uint64_t cpu_shares_to_weight(uint64_t shares) _const_;
