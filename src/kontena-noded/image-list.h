/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "image-store.h"
#include "macro.h"

/* What images there are, and sets of names that they may go by. */

typedef struct ImageInfo {
        char *digest;       /* of the manifest */
        char *index_digest; /* NULL: it was not chosen from one */
        char **references;  /* normalized, sorted */
        uint64_t size;      /* as it was fetched */
        uint64_t used_at; /* CLOCK_REALTIME: by an instance, to a minute; or when it was pulled, if that was later */
} ImageInfo;

typedef struct ImageInfoList {
        ImageInfo *infos;
        size_t n;
} ImageInfoList;
void image_info_list_done(ImageInfoList *l);
#define _cleanup_image_info_list_ _cleanup_(image_info_list_done)

/* Records that cannot be read are left out. At most IMAGES_LISTED_MAX. Small reads, two for each image. */
int image_store_list(ImageStore *s, ImageInfoList *ret);

/* The same in portions, for the event loop. What comes or goes meanwhile may be in it or not. */
typedef struct ImageLister ImageLister;
int image_lister_new(ImageStore *s, ImageLister **ret);
ImageLister *image_lister_free(ImageLister *l);
DEFINE_TRIVIAL_CLEANUP_FUNC(ImageLister *, image_lister_free);
/* Reads until deadline (CLOCK_MONOTONIC), at least one. Returns 1 while there is more; 0: *ret is all of it. */
int image_lister_step(ImageLister *l, uint64_t deadline, ImageInfoList *ret);

/* Digests of either kind, and references as a person writes them; NULL is the empty set. */
typedef struct ImageNames ImageNames;
int image_names_add(ImageNames **names, const char *name); /* what is no name is none of any image's */
unsigned image_names_count(ImageNames *names, const char *digest); /* how often it was added */
bool image_names_match(ImageNames *names, const ImageInfo *i);
ImageNames *image_names_free(ImageNames *names);
DEFINE_TRIVIAL_CLEANUP_FUNC(ImageNames *, image_names_free);
