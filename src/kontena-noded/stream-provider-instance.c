/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "archive-stream.h"
#include "file-util.h"
#include "job.h"
#include "json-util.h"
#include "stream-provider.h"
#include "string-util.h"
#include "volume-directory.h"

/* The volumes without a name of a stateful instance that is stopped: kinds "instance-get" and "instance-put", for its move to another
 * node. They are in <instance>/volumes (volumes.h); what is put becomes that when it is whole. */
#define VOLUMES     "volumes"
#define VOLUMES_NEW "volumes.new"

typedef struct InstanceStream {
        Stream *stream;
        Manager *manager;
        char *directory; /* of the instance */
        Job *job;
        ArchiveStream *archive; /* NULL until the directory is there */
} InstanceStream;

static void instance_stream_free(void *p) {
        InstanceStream *s = p;

        archive_stream_free(s->archive);
        job_cancel(s->job);
        free(s->directory);
        free(s);
}

static void instance_stream_freep(InstanceStream **s) {
        if (*s)
                instance_stream_free(*s);
}

static int start(InstanceStream *s, int fd, bool put, archive_stream_commit_t commit, KError *reterr) {
        return archive_stream_start(s->stream,
                        &(ArchiveRunOptions){ .bus = s->manager->bus,
                                        .event = s->manager->event,
                                        .fds = &fd,
                                        .n_fds = 1,
                                        .unpack = put,
                                        .volume = true },
                        commit, s, &s->archive, reterr);
}

/* In a child. What an earlier attempt has left goes first. */
static int make_place(void *arg) {
        const char *directory = arg;
        _cleanup_close_ int fd = -EBADF;
        int r;

        r = mkdir_p(directory, 0700);
        if (r < 0)
                return r;
        fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        r = rm_rf_at(fd, VOLUMES_NEW);
        if (r < 0)
                return r;
        return mkdirat(fd, VOLUMES_NEW, 0755) < 0 ? -errno : 0;
}

/* In a child: on disk first, then in place. */
static int put_in_place(void *arg) {
        const char *directory = arg;
        _cleanup_close_ int fd = -EBADF;

        fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || syncfs(fd) < 0)
                return -errno;
        if (renameat2(fd, VOLUMES_NEW, fd, VOLUMES, RENAME_NOREPLACE) >= 0)
                return fsync(fd) < 0 ? -errno : 0;
        if (errno != EEXIST || renameat2(fd, VOLUMES_NEW, fd, VOLUMES, RENAME_EXCHANGE) < 0 || fsync(fd) < 0)
                return -errno;
        return rm_rf_at(fd, VOLUMES_NEW);
}

static void on_in_place(Job *j, int r, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        InstanceStream *s = userdata;

        s->job = NULL;
        if (r < 0)
                (void) kerror_set_errno(&error, r, "The data cannot take their place: %m.");
        archive_stream_finish(s->archive, &error);
}

static int commit(ArchiveStream *a, void *userdata, KError *reterr) {
        InstanceStream *s = userdata;
        int r;

        r = job_start(s->manager->event, "kt-put", put_in_place, s->directory, on_in_place, s, &s->job);
        return r < 0 ? r : 1;
}

static void on_place(Job *j, int r, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        _cleanup_close_ int parent = -EBADF, fd = -EBADF;
        InstanceStream *s = userdata;

        s->job = NULL;
        if (r >= 0) {
                parent = open(s->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                r = fd = parent < 0 ? -errno : volume_directory_open(parent, VOLUMES_NEW);
        }
        if (r >= 0)
                r = start(s, fd, /* put= */ true, commit, &error);
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
        return start(s, fd, /* put= */ false, NULL, reterr);
}

static int open_stream(
                Stream *stream, json_object *params, Manager *m, bool put, void **ret, KError *reterr) {
        _cleanup_(instance_stream_freep) InstanceStream *s = NULL;
        Instance *i;
        const char *id;
        int r;

        r = json_get_string(params, "id", &id, reterr);
        if (r < 0)
                return r;
        i = manager_find_instance(m, id);
        if (!i)
                return kerror_set(reterr, K_NO_SUCH_INSTANCE, "There is no instance '%.64s' here.", id);
        if (instance_state_of(i) != INSTANCE_STOPPED)
                return kerror_set(reterr, K_CONFLICT, "Instance '%s' is not stopped.", id);

        s = new0(InstanceStream, 1);
        if (!s)
                return -ENOMEM;
        s->stream = stream;
        s->manager = m;
        s->directory = strjoin(m->host.state_directory, "/", id);
        if (!s->directory)
                return -ENOMEM;
        if (put)
                r = job_start(m->event, "kt-place", make_place, s->directory, on_place, s, &s->job);
        else
                r = begin_get(s, reterr);
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
