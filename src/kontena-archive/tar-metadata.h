/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <archive.h>
#include <archive_entry.h>
#include <sys/stat.h>

#include "macro.h"
#include "tar.h"

/* Owner, mode, times and attributes of files, as archives have them and as they are set. */
typedef struct TarAttribute {
        char *name;
        void *value;
        size_t size;
} TarAttribute;

typedef struct TarMetadata {
        mode_t mode;
        int64_t uid, gid;
        struct timespec mtime;
        TarAttribute *attributes;
        size_t n_attributes;
        size_t size; /* of all attributes */
} TarMetadata;

void tar_metadata_done(TarMetadata *m);

/* Of an entry of an archive, as far as the options want it. -E2BIG: too many attributes; -EDOM: no such owner is possible. */
int tar_metadata_read(struct archive_entry *entry, const TarOptions *o, TarMetadata *ret, uint64_t *skipped);

/* Owner before mode and attributes: chown() takes set-user-ID and capabilities away. fd may be an O_PATH one of anything; a link has neither
 * mode nor attributes. */
int tar_metadata_apply(const TarMetadata *m, int fd, const TarOptions *o, uint64_t *skipped);

/* Attributes of what an O_PATH descriptor means, put into the entry. */
int tar_metadata_pack(int fd, struct archive_entry *entry, const TarOptions *o, uint64_t *skipped);

/* Of a file, as the archive has it. */
uint32_t tar_user_of(uint32_t id, const TarOptions *o) _pure_;
