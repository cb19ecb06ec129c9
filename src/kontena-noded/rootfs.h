/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "image-store.h"
#include "kerror.h"
#include "macro.h"

/* The root of a container: the image's layers with a directory of its own on top, mounted by overlayfs. Mounts are made in the
 * host's mount namespace, where PID 1 starts the runtime; the daemon therefore has none of its own (see its unit). */

/* Makes upper and work below data where they are missing and mounts at target. Mounted already: nothing to do. */
int rootfs_mount(const Image *image, const char *data, const char *target, KError *reterr);

/* Likewise; upper and work are there, and nothing is mounted at target. */
int rootfs_mount_layers(
                const Image *image, const char *upper, const char *work, const char *target, KError *reterr);

/* Also when it is in use (lazily) and when nothing is mounted. */
int rootfs_unmount(const char *target);

/* 1, 0 or negative. */
int path_is_mount_point(const char *path);
