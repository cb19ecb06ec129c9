/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>
#include <uthash.h>

#include "image-store.h"

/* Between image-store.c, which finds, and image-collect.c, which removes. */

/* When an image or layer was first seen unused. */
typedef struct Unused {
        char name[65];
        uint64_t since;
        bool seen; /* in the collection that runs */
        UT_hash_handle hh;
} Unused;

struct ImageStore {
        char *path;
        int fd;
        int lock_fd;
        int staging_fd;
        bool staging_stale; /* what an earlier run left is still to be renamed */
        uint64_t n_trash;   /* for names */
        Unused *unused;
};

/* Calls f for each name in a folder of the store that is 64 digits and suffix. */
typedef int (*image_store_name_t)(ImageStore *s, const char *hex, void *userdata);
int image_store_for_each(ImageStore *s, const char *directory, const char *suffix, image_store_name_t f,
                void *userdata);

/* 1: *ret is what the file says; 0: there is none; -EBADMSG: it is damaged or of another version. */
int image_store_read_record(ImageStore *s, const char *directory, const char *file, json_object **ret);

/* 1: ours until image_store_unlock(). 0: a pull runs. */
int image_store_lock(ImageStore *s);
void image_store_unlock(ImageStore *s);

/* Only with the lock: no kontena-pull works in staging/ now. */
int image_store_clean_staging(ImageStore *s);
/* Renamed, to be removed by image_store_step(). */
int image_store_discard(ImageStore *s, int dir_fd, const char *name);
void image_store_forget_unused(ImageStore *s);
