/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>

#include "archive-stream.h"
#include "file-util.h"
#include "import-stream.h"
#include "json-util.h"
#include "stream-provider.h"
#include "string-util.h"
#include "volume-directory.h"
#include "volume-import.h"

/* The volumes without a name of a stateful instance that is stopped: kinds "instance-get" and "instance-put", for its move to another
 * node. They are in <instance>/volumes (volumes.h); what is put becomes that when it is whole, and the instance is stopped still. */
#define VOLUMES "volumes"

typedef struct InstanceStream {
        VolumeClaim *claim;
        ArchiveStream *archive;
} InstanceStream;

static void instance_stream_free(void *p) {
        InstanceStream *s = p;

        archive_stream_free(s->archive);
        volume_claim_free(s->claim);
        free(s);
}

static void instance_stream_freep(InstanceStream **s) {
        if (*s)
                instance_stream_free(*s);
}

static int check_stopped(const char *id, void *userdata, KError *reterr) {
        Manager *m = userdata;
        const Instance *i = manager_find_instance(m, id);

        if (!i)
                return kerror_set(reterr, K_NO_SUCH_INSTANCE, "There is no instance '%.64s' here.", id);
        if (instance_state_of(i) != INSTANCE_STOPPED)
                return kerror_set(reterr, K_CONFLICT, "Instance '%s' is not stopped.", id);
        return 0;
}

static int open_volumes(const Manager *m, const char *id, KError *reterr) {
        _cleanup_free_ char *directory = strjoin(m->host.state_directory, "/", id);
        _cleanup_close_ int parent = -EBADF;
        int r;

        if (!directory)
                return -ENOMEM;
        parent = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        r = parent < 0 ? -errno : volume_directory_open(parent, VOLUMES);
        if (r == -ENOENT && parent >= 0)
                return kerror_set(reterr, K_NO_SUCH_VOLUME, "The instance has no volumes of its own.");
        return r < 0 ? kerror_set_errno(reterr, r, "The volumes of the instance cannot be opened: %m.") : r;
}

static int instance_get_open(
                Stream *stream, json_object *params, void *userdata, void **ret, KError *reterr) {
        _cleanup_(instance_stream_freep) InstanceStream *s = NULL;
        _cleanup_close_ int fd = -EBADF;
        Manager *m = userdata;
        const char *id;
        int r;

        r = json_get_string(params, "id", &id, reterr);
        if (r >= 0)
                r = check_stopped(id, m, reterr);
        if (r >= 0)
                r = fd = open_volumes(m, id, reterr);
        if (r < 0)
                return r;

        s = new0(InstanceStream, 1);
        if (!s)
                return -ENOMEM;
        r = volume_claim_new(&m->instance_claims, id, /* exclusive= */ false, &s->claim, reterr);
        if (r >= 0)
                r = archive_stream_start(stream,
                                &(ArchiveRunOptions){ .bus = m->bus,
                                                .event = m->event,
                                                .fds = &fd,
                                                .n_fds = 1,
                                                .volume = true },
                                NULL, NULL, &s->archive, reterr);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(s);
        return 0;
}

static int instance_put_open(Stream *s, json_object *params, void *userdata, void **ret, KError *reterr) {
        _cleanup_free_ char *directory = NULL;
        Manager *m = userdata;
        const char *id;
        int r;

        r = json_get_string(params, "id", &id, reterr);
        if (r >= 0)
                r = check_stopped(id, m, reterr);
        if (r < 0)
                return r;
        directory = strjoin(m->host.state_directory, "/", id);
        if (!directory)
                return -ENOMEM;
        r = mkdir_p(directory, 0700);
        if (r < 0)
                return kerror_set_errno(reterr, r, "There is no place for the data: %m.");
        return import_stream_open(&(ImportStreamOptions){ .stream = s,
                                                  .bus = m->bus,
                                                  .event = m->event,
                                                  .claims = &m->instance_claims,
                                                  .owner = id,
                                                  .directory = directory,
                                                  .name = VOLUMES,
                                                  .check = check_stopped,
                                                  .userdata = m },
                        ret, reterr);
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
        .write = import_stream_write,
        .end_input = import_stream_end_input,
        .ready = import_stream_ready,
        .free = import_stream_free,
};
