/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "log.h"
#include "noded-internal.h"
#include "stream-exec.h"
#include "stream-provider.h"

/* Streams over the node channel. */

static const StreamProvider *const providers[] = {
        &stream_provider_exec,
        &stream_provider_archive_get,
        &stream_provider_archive_put,
        &stream_provider_volume_get,
        &stream_provider_volume_put,
        &stream_provider_instance_get,
        &stream_provider_instance_put,
        NULL,
};

/* A hole in a stream, or an end that the master never hears of, is worse than a lost connection, which ends all streams on both
 * sides. */
static int check_sent(Manager *m, int r) {
        if (r < 0 && r != -ENOTCONN)
                channel_break(m->channel, "What streams have to say could not be sent.");
        return r;
}

static int notify(const char *method, json_object *params, void *userdata) {
        Manager *m = userdata;

        return check_sent(m, channel_notify(m->channel, method, params));
}

static int channel_send(const void *head, size_t head_size, const void *data, size_t size, void *userdata) {
        Manager *m = userdata;

        return check_sent(m, channel_send_binary(m->channel, head, head_size, data, size));
}

static int reply(uint64_t id, json_object *result, void *userdata) {
        Manager *m = userdata;

        return check_sent(m, channel_reply(m->channel, id, result));
}

static int reply_error(uint64_t id, const KError *error, void *userdata) {
        Manager *m = userdata;

        return check_sent(m, channel_reply_error(m->channel, id, error));
}

void manager_channel_binary(Channel *c, const void *data, size_t size, void *userdata) {
        Manager *m = userdata;

        streams_binary(m->streams, data, size);
}

int manager_new_streams(Manager *m) {
        const StreamsHandler handler = {
                .notify = notify,
                .send = channel_send,
                .reply = reply,
                .reply_error = reply_error,
                .userdata = m,
        };
        int r;

        r = streams_new(&handler, providers, m, &m->streams);
        if (r < 0)
                return r;

        /* What a daemon before this one was asked to run has nobody any more who would read it. */
        r = stream_exec_sweep(m->bus, m->host.run_directory);
        if (r < 0)
                log_warning_errno(r, "Commands that were left over may still run: %m");
        return 0;
}
