/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"

/* Names below the image store, which kontena-pull writes and kontena-noded reads. image-store.h has the whole picture. */
#define IMAGE_LAYERS_DIR        "layers"
#define IMAGE_RECORDS_DIR       "images"
#define IMAGE_REFS_DIR          "refs"
#define IMAGE_STAGING_DIR       "staging"
#define IMAGE_LOCK_FILE         "lock"

/* In staging/. */
#define IMAGE_BLOB_PREFIX       "blob-" /* partly fetched, worth keeping for a while */
#define IMAGE_TREE_PREFIX       "tree-"
#define IMAGE_TRASH_PREFIX      "trash-"
#define IMAGE_LAYER_LOCK_PREFIX "lock-"

#define IMAGE_RECORD_VERSION    1U

/* What hides names of the layers below. */
#define OVERLAY_OPAQUE_XATTR    "user.overlay.opaque"

/* "<64 hex>.json", the SHA-256 of the normalized reference: it may be longer than a file name. NULL: no memory. */
char *image_ref_file_name(const char *normalized);
