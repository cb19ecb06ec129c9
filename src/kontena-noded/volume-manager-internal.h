/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <uthash.h>

#include "job.h"
#include "volume-freeze.h"
#include "volume-import.h"
#include "volume-manager.h"

/* Shared by volume-manager.c (what there is, and what is to go) and volume-snapshot-request.c ("volume.snapshot"). */

#define VOLUME_IN_USE "Volume '%s' is in use; stop the service first ('kontenactl service stop')."

typedef struct VolumeEntry {
        char *name;
        uint64_t size_max;
        bool named, remove; /* by the desired state */
        bool removed;

        bool present;
        KError error;
        bool counted; /* by a quota */
        uint64_t used, measured_at, measure_took;

        /* told */
        const char *told_state;
        char *told_error;
        uint64_t told_used;
        UT_hash_handle hh;
} VolumeEntry;

typedef struct SnapshotRequest SnapshotRequest;

struct VolumeManager {
        sd_event *event;
        VolumeManagerConfig config;
        char *directory;
        Freezer *freezer; /* NULL: without a bus */
        VolumeEntry *entries;
        SnapshotRequest *snapshots;
        VolumeClaim *claims;

        sd_event_source *look;
        Job *cleaning, *removal, *measure;
        char *removing, *measuring; /* names */
        uint64_t measure_started, removal_not_before;
        uint64_t *shared_size;
};

/* volume-manager.c */
VolumeEntry *volume_manager_find_entry(VolumeManager *m, const char *name);
/* To be asked in the turn of the loop in which something takes the volume's place. */
int volume_manager_check_unused(VolumeManager *m, const char *volume, KError *reterr);

/* volume-snapshot-request.c */
SnapshotRequest *snapshot_request_find(VolumeManager *m, const char *volume);
SnapshotRequest *snapshot_request_free(SnapshotRequest *s);
