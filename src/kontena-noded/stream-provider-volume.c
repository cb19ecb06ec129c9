/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>

#include "archive-stream.h"
#include "file-util.h"
#include "json-util.h"
#include "log.h"
#include "stream-provider.h"
#include "string-util.h"
#include "volume-directory.h"
#include "volume-import.h"
#include "volume-manager.h"
#include "volume-quota.h"

/* All of a named volume: kinds "volume-get" and "volume-put". What is put is unpacked beside the volume and takes its place when it is
 * whole and nobody has begun to use it. */

typedef struct VolumeStream {
        Stream *stream;
        Manager *manager;
        char *volume;
        VolumeClaim *claim;
        ArchiveStream *archive; /* NULL until the directory is there */
        bool put;
} VolumeStream;

static void volume_stream_free(void *p) {
        VolumeStream *v = p;

        archive_stream_free(v->archive);
        if (v->claim && v->put)
                volume_import_cancel(v->claim);
        else
                volume_claim_free(v->claim);
        free(v->volume);
        free(v);
}

static void volume_stream_freep(VolumeStream **v) {
        if (*v)
                volume_stream_free(*v);
}

static void on_committed(VolumeClaim *c, int r, void *userdata) {
        VolumeStream *v = userdata;

        v->claim = volume_claim_free(v->claim);
        log_info("Volume '%s' was imported.", v->volume);
        volume_manager_wake(v->manager->volumes);
        archive_stream_finish(v->archive, &KERROR_NULL);
}

/* Who has begun to use it meanwhile keeps what is there. */
static void on_synced(VolumeClaim *c, int r, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        VolumeStream *v = userdata;

        if (r >= 0)
                r = volume_manager_check(v->manager->volumes, v->volume, /* replace= */ true, &error);
        if (r >= 0)
                r = volume_import_commit(c, on_committed, v);
        if (r == 0)
                return;
        if (r > 0) {
                on_committed(c, 0, v);
                return;
        }
        if (!kerror_is_set(&error))
                (void) kerror_set_errno(&error, r,
                                "The new content of volume '%s' cannot take its place: %m.", v->volume);
        archive_stream_finish(v->archive, &error); /* frees v, which cancels */
}

static int commit(ArchiveStream *s, void *userdata, KError *reterr) {
        VolumeStream *v = userdata;
        int r;

        r = volume_manager_check(v->manager->volumes, v->volume, /* replace= */ true, reterr);
        if (r >= 0)
                r = volume_import_sync(v->claim, on_synced, v);
        return r < 0 ? r : 1;
}

static int start(VolumeStream *v, int fd, KError *reterr) {
        return archive_stream_start(v->stream,
                        &(ArchiveRunOptions){ .bus = v->manager->bus,
                                        .event = v->manager->event,
                                        .fds = &fd,
                                        .n_fds = 1,
                                        .unpack = v->put,
                                        .volume = true },
                        v->put ? commit : NULL, v, &v->archive, reterr);
}

static void on_begun(VolumeClaim *c, int r, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        _cleanup_close_ int fd = -EBADF;
        VolumeStream *v = userdata;
        VolumeManager *m = v->manager->volumes;

        if (r == -EOPNOTSUPP && volume_manager_size_max(m, v->volume) > 0)
                (void) volume_quota_explain(v->manager->config->volumes_directory, v->volume,
                                volume_manager_size_max(m, v->volume), &error);
        if (r >= 0)
                r = fd = volume_import_open(c);
        if (r >= 0)
                r = start(v, fd, &error);
        if (r >= 0)
                return;
        if (!kerror_is_set(&error))
                (void) kerror_set_errno(&error, r, "There is no place for new content of volume '%s': %m.",
                                v->volume);
        stream_end(v->stream, -1, &error); /* frees v */
}

/* Of the volume, or of a snapshot of it. */
static int open_content(Manager *m, const char *volume, const char *snapshot, KError *reterr) {
        _cleanup_close_ int parent = -EBADF;
        _cleanup_free_ char *path = NULL;
        int r;

        if (!snapshot)
                return volume_open(m->config->volumes_directory, volume, reterr);
        r = volume_name_validate(snapshot, reterr);
        if (r < 0)
                return r;
        path = strjoin(VOLUME_SNAPSHOTS "/", volume, "/", snapshot, "/data");
        if (!path)
                return -ENOMEM;
        parent = open(m->config->volumes_directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        r = parent < 0 ? -errno : volume_directory_open(parent, path);
        if (r == -ENOENT)
                return kerror_set(reterr, K_NO_SUCH_VOLUME, "Volume '%s' has no snapshot '%s' on this node.",
                                volume, snapshot);
        return r < 0 ? kerror_set_errno(reterr, r, "Cannot open snapshot '%s': %m.", snapshot) : r;
}

static int open_stream(Stream *s, json_object *params, Manager *m, bool put, void **ret, KError *reterr) {
        _cleanup_(volume_stream_freep) VolumeStream *v = NULL;
        const char *volume, *snapshot = NULL;
        _cleanup_close_ int fd = -EBADF;
        int r;

        r = json_get_string(params, "volume", &volume, reterr);
        if (r >= 0 && !put)
                r = json_find_string(params, "snapshot", &snapshot, reterr);
        if (r >= 0)
                r = volume_manager_check(m->volumes, volume, put, reterr);
        if (r >= 0 && !put)
                r = fd = open_content(m, volume, empty_to_null(snapshot), reterr);
        if (r < 0)
                return r;

        v = new0(VolumeStream, 1);
        if (!v)
                return -ENOMEM;
        v->stream = s;
        v->manager = m;
        v->put = put;
        v->volume = strdup(volume);
        if (!v->volume)
                return -ENOMEM;
        r = volume_claim_new(volume_manager_claims(m->volumes), volume, put, &v->claim, reterr);
        if (r < 0)
                return r;
        if (put)
                r = volume_import_begin(v->claim, m->event, m->config->volumes_directory, volume,
                                volume_manager_size_max(m->volumes, volume), on_begun, v);
        else
                r = start(v, fd, reterr);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(v);
        return 0;
}

static int volume_get_open(Stream *s, json_object *params, void *userdata, void **ret, KError *reterr) {
        return open_stream(s, params, userdata, /* put= */ false, ret, reterr);
}

static int volume_put_open(Stream *s, json_object *params, void *userdata, void **ret, KError *reterr) {
        return open_stream(s, params, userdata, /* put= */ true, ret, reterr);
}

static void volume_write(void *p, const void *data, size_t size) {
        VolumeStream *v = p;

        archive_stream_write(v->archive, data, size);
}

static void volume_end_input(void *p) {
        VolumeStream *v = p;

        archive_stream_end_input(v->archive);
}

static void volume_ready(void *p) {
        VolumeStream *v = p;

        archive_stream_ready(v->archive);
}

const StreamProvider stream_provider_volume_get = {
        .kind = "volume-get",
        .open = volume_get_open,
        .ready = volume_ready,
        .free = volume_stream_free,
};

const StreamProvider stream_provider_volume_put = {
        .kind = "volume-put",
        .open = volume_put_open,
        .write = volume_write,
        .end_input = volume_end_input,
        .ready = volume_ready,
        .free = volume_stream_free,
};
