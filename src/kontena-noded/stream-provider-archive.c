/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "archive-stream.h"
#include "instance-root.h"
#include "json-util.h"
#include "stream-provider.h"
#include "string-util.h"

/* Files in a container as a tar stream: kinds "archive-get" and "archive-put". */

static int open_stream(Stream *s, json_object *params, Manager *m, bool put, void **ret, KError *reterr) {
        _cleanup_(instance_root_done) InstanceRoot root = {};
        ArchiveRunOptions o = { .bus = m->bus, .event = m->event, .unpack = put };
        ArchiveStream *archive;
        const char *id;
        Instance *i;
        int r;

        r = json_get_string(params, "id", &id, reterr);
        if (r >= 0)
                r = json_get_string(params, "path", &o.path, reterr);
        if (r >= 0)
                r = put ? json_find_string(params, "name", &o.name, reterr)
                        : json_find_bool(params, "follow", &o.follow, reterr);
        if (r >= 0 && put)
                r = json_find_bool(params, "keep_owner", &o.keep_owner, reterr);
        if (r < 0)
                return r;
        i = manager_find_instance(m, id);
        if (!i)
                return kerror_set(reterr, K_NO_SUCH_INSTANCE, "This node has no instance '%.64s'.", id);
        r = instance_root_open(i, &root, reterr);
        if (r < 0)
                return r;
        o.fds = root.fds;
        o.n_fds = root.n_fds;
        o.uid_base = root.uid_base;
        r = archive_stream_start(s, &o, NULL, NULL, &archive, reterr);
        if (r < 0)
                return r;

        *ret = archive;
        return 0;
}

static int archive_get_open(Stream *s, json_object *params, void *userdata, void **ret, KError *reterr) {
        return open_stream(s, params, userdata, /* put= */ false, ret, reterr);
}

static int archive_put_open(Stream *s, json_object *params, void *userdata, void **ret, KError *reterr) {
        return open_stream(s, params, userdata, /* put= */ true, ret, reterr);
}

static void archive_write(void *p, const void *data, size_t size) {
        archive_stream_write(p, data, size);
}

static void archive_end_input(void *p) {
        archive_stream_end_input(p);
}

static void archive_ready(void *p) {
        archive_stream_ready(p);
}

static void archive_free(void *p) {
        archive_stream_free(p);
}

const StreamProvider stream_provider_archive_get = {
        .kind = "archive-get",
        .open = archive_get_open,
        .ready = archive_ready,
        .free = archive_free,
};

const StreamProvider stream_provider_archive_put = {
        .kind = "archive-put",
        .open = archive_put_open,
        .write = archive_write,
        .end_input = archive_end_input,
        .ready = archive_ready,
        .free = archive_free,
};
