/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "digest.h"
#include "kerror.h"
#include "macro.h"

/* Unpacks one layer: a tar stream, gzip or zstd around it or nothing, into an empty directory, in the form that
 * overlayfs wants (see noded's image-store.h).
 *
 * What a layer may contain and what becomes of it:
 *   files, directories, symbolic links, FIFOs   made with owner, mode (setuid as well) and time
 *   hard links        to what is in this layer, or to a file of a layer below, which is copied
 *   .wh.NAME          character device 0:0 called NAME, unless the layer has a NAME of its own
 *   .wh..wh..opq      user.overlay.opaque="y" on its directory; other .wh..wh. names are left out
 *   devices, sockets  left out and counted
 *   xattrs            security.capability and user.* but user.overlay.*; others left out and counted
 *   parents that the layer does not name        made, with owner, mode and time from the layers below, or 0755 root
 *
 * No symbolic link is ever followed. A path with "..", or through something that is not a directory, is refused; a
 * leading "/" is as if it were not there. */
typedef struct LayerOptions {
        const int *lower_fds; /* roots of the layers below, TOP first */
        size_t n_lower_fds;
        uint64_t size_max; /* unpacked bytes */
        uint64_t entries_max;
        int (*progress)(uint64_t bytes_read, void *userdata); /* negative errno ends it; may be NULL */
        void *userdata;
} LayerOptions;

typedef struct LayerStats {
        uint64_t n_entries;
        uint64_t size;
        uint64_t n_devices; /* left out */
        uint64_t n_xattrs;  /* left out */
} LayerStats;

/* ret_diff_id is the digest of the uncompressed stream; the caller compares it before anything is used. Returns 1 if
 * something was taken from the layers below (or looked for there): the result then is good on these layers only. Errors
 * are K_IMAGE (what is in the layer), K_LIMIT_EXCEEDED or K_UNAVAILABLE (the disk), sentences about "it". */
int layer_unpack(int blob_fd, int root_fd, const LayerOptions *o,
                char ret_diff_id[static DIGEST_STRING_SIZE], LayerStats *ret_stats, KError *reterr);
