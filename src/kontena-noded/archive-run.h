/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "kerror.h"
#include "macro.h"

/* kontena-archive as a unit with a sandbox (archive-serve.h): it gets descriptors and sees nothing else of this machine's files. Packs or
 * unpacks one archive, for streams and wherever else data goes from one node to another. */
typedef struct ArchiveRun ArchiveRun;

typedef struct ArchiveRunOptions {
        sd_bus *bus;
        sd_event *event;
        const int *fds; /* the root, and what is hidden in it; stay the caller's */
        size_t n_fds;
        bool unpack;
        bool volume; /* all that is in the root, with devices; unpacking: it is empty, and nobody sees it yet */
        /* Without volume, as tar-path.h takes them */
        const char *path, *name;
        bool follow, keep_owner;
        uint32_t uid_base; /* whose users its users are */
} ArchiveRunOptions;

typedef struct ArchiveOutcome {
        uint64_t entries, bytes;
        uint64_t skipped; /* sockets, devices, attributes */
        uint64_t changed; /* files that became shorter while they were read */
} ArchiveOutcome;

typedef struct ArchiveRunHandler {
        void (*ready)(ArchiveRun *r, void *userdata);                               /* the path was found */
        void (*data)(ArchiveRun *r, const void *data, size_t size, void *userdata); /* of the archive */
        void (*taken)(ArchiveRun *r, size_t size,
                        void *userdata); /* of what was written, so much is gone from here */
        /* Once, last. error NULL: it was packed or unpacked to its end. */
        void (*ended)(ArchiveRun *r, const ArchiveOutcome *outcome, const KError *error, void *userdata);
} ArchiveRunHandler;

/* The handlers are called from the loop only, and any of them may free it. */
int archive_run_start(const ArchiveRunOptions *o, const ArchiveRunHandler *handler, void *userdata,
                ArchiveRun **ret, KError *reterr);
void archive_run_write(ArchiveRun *r, const void *data, size_t size);
void archive_run_end_input(ArchiveRun *r); /* that was the whole archive */
void archive_run_pause(ArchiveRun *r, bool pause);
/* Ends it when it is not over. */
ArchiveRun *archive_run_free(ArchiveRun *r);
DEFINE_TRIVIAL_CLEANUP_FUNC(ArchiveRun *, archive_run_free);
