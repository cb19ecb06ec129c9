/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "kerror.h"
#include "macro.h"
#include "streams.h"
#include "volume-import.h"

/* New content for a directory comes through a stream: kinds "volume-put" and "instance-put". It is unpacked beside the old content, written to
 * disk, and takes its place when whoever owns it says once more that it may; then nobody can begin to use the old one. */
typedef struct ImportStreamOptions {
        Stream *stream;
        sd_bus *bus;
        sd_event *event;
        VolumeClaim **claims;
        const char *owner;            /* a volume or an instance; the claim is on it */
        const char *directory, *name; /* <directory>/<name> is what it becomes */
        uint64_t size_max;

        /* Negative, with a sentence: it may not take its place (any more). */
        int (*check)(const char *owner, void *userdata, KError *reterr);
        void (*imported)(const char *owner, void *userdata); /* may be NULL */
        void *userdata;
} ImportStreamOptions;

/* *ret is what the others take, which are functions of a StreamProvider. */
int import_stream_open(const ImportStreamOptions *o, void **ret, KError *reterr);
void import_stream_write(void *p, const void *data, size_t size);
void import_stream_end_input(void *p);
void import_stream_ready(void *p);
void import_stream_free(void *p);
