/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "kerror.h"
#include "macro.h"
#include "manifest.h"
#include "registry.h"
#include "report.h"

/* Where to ask, in this order. */
typedef struct Source {
        Registry **registries;
        size_t n_registries;
        size_t first; /* had the manifest, so it is asked first for blobs */
        const char *repository;
        Report *report;
} Source;

/* Fetches a blob into a file of this name and returns it open when its digest is right. A file that an earlier run left
 * there is gone on with. After a failure of the network the part that we have stays; what is wrong is removed. */
int blob_fetch(Source *s, const Descriptor *d, int dir_fd, const char *name, int *ret_fd, KError *reterr);

/* A small one into memory. */
int blob_fetch_text(
                Source *s, const Descriptor *d, size_t max, char **ret, size_t *ret_size, KError *reterr);
