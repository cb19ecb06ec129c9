/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "import-stream.h"

#include "archive-stream.h"
#include "file-util.h"
#include "string-util.h"
#include "volume-quota.h"

typedef struct ImportStream {
        ImportStreamOptions o; /* strings are ours */
        char *owner, *directory, *name;
        VolumeClaim *claim;
        ArchiveStream *archive; /* NULL until the directory is there */
} ImportStream;

void import_stream_free(void *p) {
        ImportStream *s = p;

        if (!s)
                return;
        archive_stream_free(s->archive);
        if (s->claim)
                volume_import_cancel(s->claim);
        free(s->owner);
        free(s->directory);
        free(s->name);
        free(s);
}

static void import_stream_freep(ImportStream **s) {
        import_stream_free(*s);
}

static void on_committed(VolumeClaim *c, int r, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        ImportStream *s = userdata;

        s->claim = NULL;
        if (r < 0)
                (void) kerror_set_errno(&error, r, "'%s' has the new content, but the disk may lose it: %m.",
                                s->owner);
        if (s->o.imported)
                s->o.imported(s->owner, s->o.userdata);
        archive_stream_finish(s->archive, &error);
}

/* Who has begun to use it meanwhile keeps what is there. */
static void on_synced(VolumeClaim *c, int r, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        ImportStream *s = userdata;

        if (r >= 0)
                r = s->o.check(s->owner, s->o.userdata, &error);
        if (r >= 0)
                r = volume_import_commit(c, on_committed, s);
        if (r >= 0)
                return;
        if (!kerror_is_set(&error))
                (void) kerror_set_errno(
                                &error, r, "The new content of '%s' cannot take its place: %m.", s->owner);
        archive_stream_finish(s->archive, &error); /* frees s, which cancels */
}

static int commit(ArchiveStream *a, void *userdata, KError *reterr) {
        ImportStream *s = userdata;
        int r;

        r = s->o.check(s->owner, s->o.userdata, reterr); /* before it waits for the disk */
        if (r >= 0)
                r = volume_import_sync(s->claim, on_synced, s);
        return r < 0 ? r : 1;
}

static void on_begun(VolumeClaim *c, int r, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        _cleanup_close_ int fd = -EBADF;
        ImportStream *s = userdata;

        if (r == -EOPNOTSUPP && s->o.size_max > 0)
                (void) volume_quota_explain(s->directory, s->name, s->o.size_max, &error);
        if (r >= 0)
                r = fd = volume_import_open(c);
        if (r >= 0)
                r = archive_stream_start(s->o.stream,
                                &(ArchiveRunOptions){ .bus = s->o.bus,
                                                .event = s->o.event,
                                                .fds = &fd,
                                                .n_fds = 1,
                                                .unpack = true,
                                                .volume = true },
                                commit, s, &s->archive, &error);
        if (r >= 0)
                return;
        if (!kerror_is_set(&error))
                (void) kerror_set_errno(
                                &error, r, "There is no place for new content of '%s': %m.", s->owner);
        stream_end(s->o.stream, -1, &error); /* frees s */
}

int import_stream_open(const ImportStreamOptions *o, void **ret, KError *reterr) {
        _cleanup_(import_stream_freep) ImportStream *s = NULL;
        int r;

        assert(o->check);

        r = o->check(o->owner, o->userdata, reterr);
        if (r < 0)
                return r;
        s = new0(ImportStream, 1);
        if (!s)
                return -ENOMEM;
        s->o = *o;
        s->owner = strdup(o->owner);
        s->directory = strdup(o->directory);
        s->name = strdup(o->name);
        if (!s->owner || !s->directory || !s->name)
                return -ENOMEM;
        r = volume_claim_new(o->claims, o->owner, /* exclusive= */ true, &s->claim, reterr);
        if (r >= 0)
                r = volume_import_begin(s->claim, o->event, s->directory, s->name, o->size_max, on_begun, s);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(s);
        return 0;
}

void import_stream_write(void *p, const void *data, size_t size) {
        ImportStream *s = p;

        archive_stream_write(s->archive, data, size);
}

void import_stream_end_input(void *p) {
        ImportStream *s = p;

        archive_stream_end_input(s->archive);
}

void import_stream_ready(void *p) {
        ImportStream *s = p;

        archive_stream_ready(s->archive);
}
