/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "channel-internal.h"
#include "file-util.h"
#include "string-util.h"
#include "worker.h"

#define MEMORY_MAX (256ULL * 1024ULL * 1024ULL) /* a few of the largest messages, each way */

/* kontena-channel in its sandbox: a user of its own, no files but the three credentials. */
typedef struct Handle {
        Worker *worker;
        void (*ended)(const KError *error, void *userdata);
        void *userdata;
} Handle;

typedef struct Context {
        sd_bus *bus;
        sd_event *event;
} Context;

static void on_exit_of_worker(Worker *w, const KError *error, void *userdata) {
        Handle *h = userdata;

        h->ended(error, h->userdata);
}

static char *credential(const char *name, const char *directory, const char *file) {
        return strjoin(name, ":", directory, "/", file);
}

static int start(const char *state_directory, void (*ended)(const KError *error, void *userdata),
                void *userdata, void *link_userdata, void **ret_handle, int *ret_fd) {
        _cleanup_free_ char *ca = NULL, *key = NULL, *certificate = NULL;
        _cleanup_free_ Handle *h = NULL;
        Context *context = link_userdata;
        int r;

        ca = credential("ca", state_directory, "ca.pem");
        key = credential("key", state_directory, "key.pem");
        certificate = credential("certificate", state_directory, "certificate.pem");
        h = new0(Handle, 1);
        if (!ca || !key || !certificate || !h)
                return -ENOMEM;

        h->ended = ended;
        h->userdata = userdata;
        r = worker_start(context->bus, context->event,
                        &(WorkerOptions){
                                        .name = "kontena-channel",
                                        .description = "Kontena connection to the master",
                                        .argv = (char *[]){ (char *) LIBEXECDIR "/kontena-channel", NULL },
                                        .credentials = (char *[]){ ca, key, certificate, NULL },
                                        .network = true,
                                        /* Names are resolved once, right after the start. */
                                        .private_root = true,
                                        .readable_paths = (char *[]){ (char *) "/run/systemd/resolve",
                                                        NULL },
                                        .memory_max = MEMORY_MAX,
                        },
                        on_exit_of_worker, h, &h->worker, ret_fd);
        if (r < 0)
                return r;

        *ret_handle = TAKE_PTR(h);
        return 0;
}

static void stop(void *handle, void *link_userdata) {
        Handle *h = handle;

        worker_free(h->worker);
        free(h);
}

static void context_free(void *p) {
        Context *context = p;

        sd_bus_unref(context->bus);
        sd_event_unref(context->event);
        free(context);
}

int channel_new(sd_event *event, sd_bus *bus, const ChannelConfig *config, channel_method_t on_method,
                channel_state_changed_t on_state, void *userdata, Channel **ret) {
        Context *context;
        int r;

        context = new0(Context, 1);
        if (!context)
                return -ENOMEM;
        context->bus = sd_bus_ref(bus);
        context->event = sd_event_ref(event);

        r = channel_new_full(event,
                        &(ChannelLink){ .start = start,
                                        .stop = stop,
                                        .free = context_free,
                                        .userdata = context },
                        config, on_method, on_state, userdata, ret);
        if (r < 0)
                context_free(context);
        return r;
}
