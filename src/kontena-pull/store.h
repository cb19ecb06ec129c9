/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "blob.h"
#include "kerror.h"
#include "macro.h"
#include "manifest.h"
#include "report.h"

/* The image store from the side of who fills it. The layout is in noded's image-store.h. */
typedef struct Store {
        int fd, layers_fd, staging_fd;
        int lock_fd;                      /* shared: nothing is collected while we work */
        uint64_t size_left, entries_left; /* of the image that is unpacked */
        uint64_t n_devices, n_xattrs;     /* left out, so far */
} Store;

int store_open(const char *path, Store *ret, KError *reterr);
void store_done(Store *s);

/* Has the layer in layers/ when it returns, and tells its name there. below are the names of the layers beneath it,
 * lowest first; chain_id is that of this layer. */
int store_layer(Store *s, Source *source, const Descriptor *d, const char *diff_id, const char *chain_id,
                char *const *below, char **ret_name, KError *reterr);
