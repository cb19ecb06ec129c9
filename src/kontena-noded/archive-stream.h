/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "archive-run.h"
#include "kerror.h"
#include "macro.h"
#include "streams.h"

/* An archive that goes through a stream: what the kinds archive-get, archive-put, volume-get and volume-put have in common. Its functions
 * are those of a StreamProvider; what was left out is told on channel 2. */
typedef struct ArchiveStream ArchiveStream;

/* All was packed or unpacked, and before anybody is told: negative with a sentence fails the stream, 1: archive_stream_finish() is
 * called later. NULL: nothing is to be done. */
typedef int (*archive_stream_commit_t)(ArchiveStream *s, void *userdata, KError *reterr);

int archive_stream_start(Stream *stream, const ArchiveRunOptions *o, archive_stream_commit_t commit,
                void *userdata, ArchiveStream **ret, KError *reterr);
void archive_stream_finish(ArchiveStream *s, const KError *error);
void archive_stream_write(ArchiveStream *s, const void *data, size_t size);
void archive_stream_end_input(ArchiveStream *s);
void archive_stream_ready(ArchiveStream *s);
ArchiveStream *archive_stream_free(ArchiveStream *s);
DEFINE_TRIVIAL_CLEANUP_FUNC(ArchiveStream *, archive_stream_free);
