/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>

#include "archive-stream.h"
#include "file-util.h"
#include "import-stream.h"
#include "json-util.h"
#include "log.h"
#include "stream-provider.h"
#include "string-util.h"
#include "volume-directory.h"
#include "volume-import.h"
#include "volume-manager.h"

/* All of a named volume: kinds "volume-get" and "volume-put". */

typedef struct VolumeStream {
        VolumeClaim *claim;
        ArchiveStream *archive;
} VolumeStream;

static void volume_stream_free(void *p) {
        VolumeStream *v = p;

        archive_stream_free(v->archive);
        volume_claim_free(v->claim);
        free(v);
}

static void volume_stream_freep(VolumeStream **v) {
        if (*v)
                volume_stream_free(*v);
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

static int volume_get_open(Stream *s, json_object *params, void *userdata, void **ret, KError *reterr) {
        _cleanup_(volume_stream_freep) VolumeStream *v = NULL;
        const char *volume, *snapshot = NULL;
        _cleanup_close_ int fd = -EBADF;
        Manager *m = userdata;
        int r;

        r = json_get_string(params, "volume", &volume, reterr);
        if (r >= 0)
                r = json_find_string(params, "snapshot", &snapshot, reterr);
        if (r >= 0)
                r = volume_manager_check(m->volumes, volume, /* replace= */ false, reterr);
        if (r >= 0)
                r = fd = open_content(m, volume, empty_to_null(snapshot), reterr);
        if (r < 0)
                return r;

        v = new0(VolumeStream, 1);
        if (!v)
                return -ENOMEM;
        r = volume_claim_new(volume_manager_claims(m->volumes), volume, /* exclusive= */ false, &v->claim,
                        reterr);
        if (r >= 0)
                r = archive_stream_start(s,
                                &(ArchiveRunOptions){ .bus = m->bus,
                                                .event = m->event,
                                                .fds = &fd,
                                                .n_fds = 1,
                                                .volume = true },
                                NULL, NULL, &v->archive, reterr);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(v);
        return 0;
}

static int check_unused(const char *volume, void *userdata, KError *reterr) {
        Manager *m = userdata;

        return volume_manager_check(m->volumes, volume, /* replace= */ true, reterr);
}

static void imported(const char *volume, void *userdata) {
        Manager *m = userdata;

        log_info("Volume '%s' was imported.", volume);
        volume_manager_wake(m->volumes);
}

static int volume_put_open(Stream *s, json_object *params, void *userdata, void **ret, KError *reterr) {
        Manager *m = userdata;
        const char *volume;
        int r;

        r = json_get_string(params, "volume", &volume, reterr);
        if (r < 0)
                return r;
        return import_stream_open(&(ImportStreamOptions){ .stream = s,
                                                  .bus = m->bus,
                                                  .event = m->event,
                                                  .claims = volume_manager_claims(m->volumes),
                                                  .owner = volume,
                                                  .directory = m->config->volumes_directory,
                                                  .name = volume,
                                                  .size_max = volume_manager_size_max(m->volumes, volume),
                                                  .check = check_unused,
                                                  .imported = imported,
                                                  .userdata = m },
                        ret, reterr);
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
        .write = import_stream_write,
        .end_input = import_stream_end_input,
        .ready = import_stream_ready,
        .free = import_stream_free,
};
