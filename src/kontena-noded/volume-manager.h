/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "kerror.h"
#include "macro.h"

/* The named volumes of this machine: follows DESIRED.volumes, tells what there is, deletes what is named "removed" and nothing else,
 * makes snapshots. Directories are made with the first container that uses them, since they begin with what its image has. */
typedef struct VolumeManager VolumeManager;

typedef struct VolumeUsers {
        char **units; /* whose containers have it mounted */
        bool wanted;  /* somebody is to run with it, or starts or stops with it */
} VolumeUsers;
void volume_users_done(VolumeUsers *u);

typedef struct VolumeManagerConfig {
        const char *directory;
        const char *run_directory; /* where it is written down whom we froze */
        int (*users)(const char *volume, VolumeUsers *ret, void *userdata);
        /* VOLUMES of "volumes.status"; consumed. Negative: it could not be sent, and is told again. */
        int (*tell)(json_object *volumes, void *userdata);
        /* Answer of a request; result is consumed, NULL on error. */
        void (*answer)(uint64_t request, json_object *result, const KError *error, void *userdata);
        void *userdata;
} VolumeManagerConfig;

/* Thaws whom a daemon before us has left frozen, empties .work. bus may be NULL in tests: nobody is frozen. */
int volume_manager_new(sd_event *event, sd_bus *bus, const VolumeManagerConfig *config, VolumeManager **ret);
VolumeManager *volume_manager_free(VolumeManager *m);
DEFINE_TRIVIAL_CLEANUP_FUNC(VolumeManager *, volume_manager_free);

/* {NAME: VOLUME}; NULL: nothing new. */
int volume_manager_set(VolumeManager *m, json_object *volumes);
/* Something has changed that volumes depend on: looks soon. */
void volume_manager_wake(VolumeManager *m);

/* All that can be said, for "node.hello". */
int volume_manager_status(VolumeManager *m, json_object **ret);
/* Everything is told anew. */
void volume_manager_connected(VolumeManager *m);
/* Requests have nobody any more who waits for the answer. */
void volume_manager_disconnected(VolumeManager *m);

/* Does it stand still for a snapshot? */
bool volume_manager_holds(const VolumeManager *m, const char *unit);

/* "volume.snapshot": answered by the callback, now or later. */
void volume_manager_snapshot(VolumeManager *m, uint64_t request, json_object *params);

/* Imports and exports (volume-import.h), which nothing that changes the volume or its snapshots disturbs. */
struct VolumeClaim;
struct VolumeClaim **volume_manager_claims(VolumeManager *m);
/* Nobody removes it, restores it or works on its snapshots, and with replace nobody uses it either. */
int volume_manager_check(VolumeManager *m, const char *volume, bool replace, KError *reterr);
uint64_t volume_manager_size_max(VolumeManager *m, const char *volume);
