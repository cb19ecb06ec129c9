/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "ctl.h"

/* Archives between a stream of the master and this machine's files. What reads or writes files is a process of its own with a pipe to us,
 * for it blocks; it ends by itself when the pipe does, and puts away what is half. */
typedef struct Transfer {
        Ctl *c;
        sd_bus_message *open; /* its answer is the stream's id */
        bool out;             /* from the stream to here */
        /* In the process: reads or writes all. transfer_write() and transfer_read() are tar_write_t and tar_read_t for it. */
        int (*run)(struct Transfer *t, KError *reterr);
        void *userdata;

        uint64_t size; /* bytes of files that run() has seen, set by it */
        uint64_t entries, skipped;

        /* In the process */
        int fd;
        bool cut; /* the other side is gone: that is no fault of ours */
        uint64_t started, shown;
} Transfer;

/* Negative: failed, on whichever side, and reterr says why. Positive: an exit status, after a signal. */
int transfer_run(Transfer *t, KError *reterr);

int transfer_write(const void *data, size_t size, void *transfer);
int transfer_read(const void **ret, size_t *ret_size, void *transfer);
/* For TarOptions: says on a terminal how far it is. */
int transfer_progress(uint64_t bytes, void *transfer);
