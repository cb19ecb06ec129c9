/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "image-store.h"
#include "kerror.h"
#include "macro.h"

/* The root of a machine whose users are not this machine's: user 0 of image and upper directory appears as user BASE, and so on for
 * UID_RANGE_SIZE of them. Nothing on the disk is changed for it: each layer is mounted with the users mapped, and the overlay stands on
 * these mounts. */
typedef struct MappedRoot {
        const Image *image;
        const char *data, *target; /* as of rootfs_mount() */
        uint32_t base;
} MappedRoot;

/* This process makes files as the root user of such a machine from now on: user 0 of this machine is nobody there. */
int become_mapped_root(uint32_t base);

/* The layers as they are on the disk, read only. Several are mounted at place in a mount namespace that this process is in from then on,
 * so it is for a child. */
int rootfs_open_layers(char *const *layers, const char *place);

/* Of a MappedRoot, for child_call_start(): it leaves the mount namespace of the process, and comes back to mount the whole. */
int rootfs_mount_mapped(void *mapped_root, KError *reterr);
