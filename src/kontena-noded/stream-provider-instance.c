/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>

#include "archive-stream.h"
#include "file-util.h"
#include "json-util.h"
#include "stream-provider.h"
#include "string-util.h"
#include "volume-directory.h"
#include "volume-import.h"

/* The volumes without a name of a stateful instance that is stopped: kinds "instance-get" and "instance-put", for its move to another
 * node. They are in <instance>/volumes (volumes.h); what is put becomes that when it is whole, and the instance is stopped still. */
#define VOLUMES "volumes"

typedef struct InstanceStream {
        Stream *stream;
        Manager *manager;
        char *id, *directory; /* of the instance */
        VolumeClaim *claim;
        ArchiveStream *archive; /* NULL until the directory is there */
        bool put;
} InstanceStream;

static void instance_stream_free(void *p) {
        InstanceStream *s = p;

        archive_stream_free(s->archive);
        if (s->claim && s->put)
                volume_import_cancel(s->claim);
        else
                volume_claim_free(s->claim);
        free(s->id);
        free(s->directory);
        free(s);
}

static void instance_stream_freep(InstanceStream **s) {
        if (*s)
                instance_stream_free(*s);
}

static int check_stopped(Manager *m, const char *id, KError *reterr) {
        const Instance *i = manager_find_instance(m, id);

        if (!i)
                return kerror_set(reterr, K_NO_SUCH_INSTANCE, "There is no instance '%.64s' here.", id);
        if (instance_state_of(i) != INSTANCE_STOPPED)
                return kerror_set(reterr, K_CONFLICT, "Instance '%s' is not stopped.", id);
        return 0;
}

static void on_committed(VolumeClaim *c, int r, void *userdata) {
        InstanceStream *s = userdata;

        s->claim = volume_claim_free(s->claim);
        archive_stream_finish(s->archive, &KERROR_NULL);
}

static void on_synced(VolumeClaim *c, int r, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        InstanceStream *s = userdata;

        if (r >= 0)
                r = check_stopped(s->manager, s->id, &error);
        if (r >= 0)
                r = volume_import_commit(c, on_committed, s);
        if (r == 0)
                return;
        if (r > 0) {
                on_committed(c, 0, s);
                return;
        }
        if (!kerror_is_set(&error))
                (void) kerror_set_errno(&error, r, "The data cannot take their place: %m.");
        archive_stream_finish(s->archive, &error); /* frees s, which cancels */
}

static int commit(ArchiveStream *a, void *userdata, KError *reterr) {
        InstanceStream *s = userdata;
        int r;

        r = volume_import_sync(s->claim, on_synced, s);
        return r < 0 ? r : 1;
}

static int start(InstanceStream *s, int fd, KError *reterr) {
        return archive_stream_start(s->stream,
                        &(ArchiveRunOptions){ .bus = s->manager->bus,
                                        .event = s->manager->event,
                                        .fds = &fd,
                                        .n_fds = 1,
                                        .unpack = s->put,
                                        .volume = true },
                        s->put ? commit : NULL, s, &s->archive, reterr);
}

static void on_begun(VolumeClaim *c, int r, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        _cleanup_close_ int fd = -EBADF;
        InstanceStream *s = userdata;

        if (r >= 0)
                r = fd = volume_import_open(c);
        if (r >= 0)
                r = start(s, fd, &error);
        if (r >= 0)
                return;
        if (!kerror_is_set(&error))
                (void) kerror_set_errno(&error, r, "There is no place for the data: %m.");
        stream_end(s->stream, -1, &error); /* frees s */
}

static int begin_get(InstanceStream *s, KError *reterr) {
        _cleanup_close_ int parent = -EBADF, fd = -EBADF;
        int r;

        parent = open(s->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        r = fd = parent < 0 ? -errno : volume_directory_open(parent, VOLUMES);
        if (r == -ENOENT && parent >= 0)
                return kerror_set(reterr, K_NO_SUCH_VOLUME, "The instance has no volumes of its own.");
        if (r < 0)
                return kerror_set_errno(reterr, r, "The volumes of the instance cannot be opened: %m.");
        return start(s, fd, reterr);
}

static int open_stream(
                Stream *stream, json_object *params, Manager *m, bool put, void **ret, KError *reterr) {
        _cleanup_(instance_stream_freep) InstanceStream *s = NULL;
        const char *id;
        int r;

        r = json_get_string(params, "id", &id, reterr);
        if (r >= 0)
                r = check_stopped(m, id, reterr);
        if (r < 0)
                return r;

        s = new0(InstanceStream, 1);
        if (!s)
                return -ENOMEM;
        s->stream = stream;
        s->manager = m;
        s->put = put;
        s->id = strdup(id);
        s->directory = strjoin(m->host.state_directory, "/", id);
        if (!s->id || !s->directory)
                return -ENOMEM;
        r = put ? mkdir_p(s->directory, 0700) : 0;
        if (r < 0)
                return kerror_set_errno(reterr, r, "There is no place for the data: %m.");
        r = volume_claim_new(&m->instance_claims, id, /* exclusive= */ put, &s->claim, reterr);
        if (r >= 0)
                r = put ? volume_import_begin(s->claim, m->event, s->directory, VOLUMES, /* size_max= */ 0,
                                          on_begun, s)
                        : begin_get(s, reterr);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(s);
        return 0;
}

static int instance_get_open(Stream *s, json_object *params, void *userdata, void **ret, KError *reterr) {
        return open_stream(s, params, userdata, /* put= */ false, ret, reterr);
}

static int instance_put_open(Stream *s, json_object *params, void *userdata, void **ret, KError *reterr) {
        return open_stream(s, params, userdata, /* put= */ true, ret, reterr);
}

static void instance_write(void *p, const void *data, size_t size) {
        InstanceStream *s = p;

        archive_stream_write(s->archive, data, size);
}

static void instance_end_input(void *p) {
        InstanceStream *s = p;

        archive_stream_end_input(s->archive);
}

static void instance_ready(void *p) {
        InstanceStream *s = p;

        archive_stream_ready(s->archive);
}

const StreamProvider stream_provider_instance_get = {
        .kind = "instance-get",
        .open = instance_get_open,
        .ready = instance_ready,
        .free = instance_stream_free,
};

const StreamProvider stream_provider_instance_put = {
        .kind = "instance-put",
        .open = instance_put_open,
        .write = instance_write,
        .end_input = instance_end_input,
        .ready = instance_ready,
        .free = instance_stream_free,
};
