/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "archive-run.h"

#include <linux/capability.h>
#include <sys/socket.h>

#include "file-util.h"
#include "frame.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "string-util.h"
#include "worker.h"

#define MEMORY_MAX (UINT64_C(512) * 1024 * 1024) /* names of files with several names, of directories */

struct ArchiveRun {
        const ArchiveRunHandler *handler;
        void *userdata;
        Worker *worker;
        FrameStream *frames;
        sd_event_source *credit;
        size_t waiting; /* written, and still in our queue */
        bool ended, frames_over;
        KError exit; /* how the unit ended */
        bool exited;
};

ArchiveRun *archive_run_free(ArchiveRun *r) {
        if (!r)
                return NULL;

        frame_stream_detach(r->frames);
        frame_stream_unref(r->frames);
        worker_free(r->worker);
        sd_event_source_disable_unref(r->credit);
        kerror_done(&r->exit);
        return mfree(r);
}

static void end(ArchiveRun *r, const ArchiveOutcome *outcome, const KError *error) {
        if (r->ended)
                return;
        r->ended = true;
        r->handler->ended(r, outcome, kerror_is_set(error) ? error : NULL,
                        r->userdata); /* may have freed it */
}

/* It had no last word. Its unit says why, which may come later. */
static void end_without_outcome(ArchiveRun *r) {
        static const ArchiveOutcome none = {};

        if (!r->frames_over || !r->exited)
                return;
        if (!kerror_is_set(&r->exit))
                (void) kerror_set(&r->exit, K_RUNTIME, "The archiver ended without a result.");
        end(r, &none, &r->exit);
}

static void read_outcome(ArchiveRun *r, const char *data, size_t size) {
        _cleanup_json_ json_object *o = NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;
        const char *code = NULL, *message = NULL;
        ArchiveOutcome outcome = {};
        json_object *e = NULL;

        if (json_parse(data, size, ARCHIVE_FRAME_MAX, &o, &error) >= 0 &&
                        json_find_object(o, "error", &e, &error) >= 0 &&
                        json_find_u64(o, "entries", &outcome.entries, &error) >= 0 &&
                        json_find_u64(o, "bytes", &outcome.bytes, &error) >= 0 &&
                        json_find_u64(o, "skipped", &outcome.skipped, &error) >= 0 &&
                        json_find_u64(o, "changed", &outcome.changed, &error) >= 0 && e &&
                        json_get_string(e, "code", &code, &error) >= 0 &&
                        json_get_string(e, "message", &message, &error) >= 0) {
                KErrorCode k = kerror_code_from_bus_name(code);

                (void) kerror_set(&error, k > K_OK ? k : K_INTERNAL, "%s", message);
        }
        end(r, &outcome, &error);
}

static void on_frame(FrameStream *s, FrameType type, const char *data, size_t size, void *userdata) {
        ArchiveRun *r = userdata;

        if (r->ended)
                return;
        if (type == FRAME_STATUS)
                r->handler->ready(r, r->userdata);
        else if (type == FRAME_BINARY)
                r->handler->data(r, data, size, r->userdata);
        else if (type == FRAME_CLOSED)
                read_outcome(r, data, size);
}

static void on_end(FrameStream *s, int k, void *userdata) {
        ArchiveRun *r = userdata;

        r->frames_over = true;
        end_without_outcome(r);
}

static int on_credit(sd_event_source *s, void *userdata) {
        ArchiveRun *r = userdata;
        size_t size = r->waiting - MIN(r->waiting, frame_stream_queued(r->frames));

        r->waiting -= size;
        if (size > 0 && !r->ended)
                r->handler->taken(r, size, r->userdata);
        return 0;
}

static void on_drained(FrameStream *s, void *userdata) {
        ArchiveRun *r = userdata;

        (void) sd_event_source_set_enabled(r->credit, SD_EVENT_ONESHOT);
}

static void on_exit_of_unit(Worker *w, const KError *error, void *userdata) {
        ArchiveRun *r = userdata;

        r->exited = true;
        if (error)
                (void) kerror_set(&r->exit, error->code, "%s", kerror_message(error));
        end_without_outcome(r);
}

static int send_descriptors(int fd, const int *fds, size_t n) {
        union {
                struct cmsghdr header;
                uint8_t space[CMSG_SPACE(sizeof(int) * ARCHIVE_DESCRIPTORS_MAX)];
        } control = {};
        uint8_t byte = 0;
        struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
        struct msghdr m = { .msg_iov = &iov,
                .msg_iovlen = 1,
                .msg_control = &control,
                .msg_controllen = CMSG_SPACE(sizeof(int) * n) };

        assert(n > 0 && n <= ARCHIVE_DESCRIPTORS_MAX);

        control.header = (struct cmsghdr){
                .cmsg_len = CMSG_LEN(sizeof(int) * n), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS
        };
        memcpy(CMSG_DATA(&control.header), fds, sizeof(int) * n);
        return sendmsg(fd, &m, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static int send_config(ArchiveRun *r, const ArchiveRunOptions *o) {
        _cleanup_json_ json_object *config = json_object_new_object();
        const char *text;
        int k;

        if (!config)
                return -ENOMEM;
        if ((k = json_add_string(config, "mode", o->unpack ? "unpack" : "pack")) < 0 ||
                        (k = json_add_bool(config, "volume", o->volume)) < 0 ||
                        (k = json_add_bool(config, "follow", o->follow)) < 0 ||
                        (k = json_add_u64(config, "uid_base", o->uid_base)) < 0 ||
                        (k = json_add_string(config, "owner",
                                         o->volume || o->keep_owner ? "keep" : "root")) < 0 ||
                        (k = json_add_string(config, "path", o->path)) < 0 ||
                        (k = json_add_string(config, "name", o->name)) < 0)
                return k;
        text = json_text(config);
        return text ? frame_stream_send(r->frames, FRAME_CONFIG, text, strlen(text)) : -ENOMEM;
}

static int start_worker(ArchiveRun *r, const ArchiveRunOptions *o, int *ret_fd) {
        const char *system_calls[] = { "@chown", NULL, NULL, NULL };
        WorkerOptions w = {
                .name = "kontena-archive",
                .description = o->volume   ? o->unpack ? "Kontena imports a volume"
                                                       : "Kontena exports a volume"
                               : o->unpack ? "Kontena copies into a container"
                                           : "Kontena copies out of a container",
                .argv = (char *[]){ (char *) LIBEXECDIR "/kontena-archive", NULL },
                .user = "kontena-archive",
                /* Files of any owner with any mode; devices in volumes only. Where it may make no setuid files systemd takes openat2(),
                 * whose flags its filter does not see. */
                .setuid_files = true,
                .capabilities = UINT64_C(1) << CAP_DAC_READ_SEARCH | UINT64_C(1) << CAP_DAC_OVERRIDE,
                .private_root = true,
                .system_calls = (char *const *) system_calls,
                .memory_max = MEMORY_MAX,
        };

        if (o->unpack)
                w.capabilities |= UINT64_C(1) << CAP_CHOWN | UINT64_C(1) << CAP_FOWNER |
                                  UINT64_C(1) << CAP_FSETID | UINT64_C(1) << CAP_SETFCAP;
        if (o->unpack && o->volume) {
                w.capabilities |= UINT64_C(1) << CAP_MKNOD;
                w.device_files = true;
        }
        if (o->uid_base > 0) { /* it is one of those users */
                w.capabilities |= UINT64_C(1) << CAP_SETUID | UINT64_C(1) << CAP_SETGID;
                system_calls[1] = "setfsuid";
                system_calls[2] = "setfsgid";
        }
        return worker_start(o->bus, o->event, &w, on_exit_of_unit, r, &r->worker, ret_fd);
}

int archive_run_start(const ArchiveRunOptions *o, const ArchiveRunHandler *handler, void *userdata,
                ArchiveRun **ret, KError *reterr) {
        static const FrameHandler frames = { .frame = on_frame, .end = on_end, .drained = on_drained };
        _cleanup_(archive_run_freep) ArchiveRun *r = NULL;
        _cleanup_close_ int fd = -EBADF;
        int k;

        r = new0(ArchiveRun, 1);
        if (!r)
                return -ENOMEM;
        r->handler = handler;
        r->userdata = userdata;

        k = sd_event_add_defer(o->event, &r->credit, on_credit, r);
        if (k >= 0)
                k = sd_event_source_set_enabled(r->credit, SD_EVENT_OFF);
        if (k >= 0)
                k = start_worker(r, o, &fd);
        if (k >= 0)
                k = send_descriptors(fd, o->fds, o->n_fds);
        if (k >= 0)
                k = frame_stream_new_consume(o->event, TAKE_FD(fd), &frames, r, &r->frames);
        if (k >= 0)
                k = send_config(r, o);
        if (k < 0)
                return kerror_set_errno(reterr, k, "Cannot start the archiver: %m.");

        *ret = TAKE_PTR(r);
        return 0;
}

void archive_run_write(ArchiveRun *r, const void *data, size_t size) {
        int k;

        k = frame_stream_send(r->frames, FRAME_BINARY, data, size);
        if (k < 0)
                return; /* its end, or its last word, is about to come */
        r->waiting += size;
        (void) sd_event_source_set_enabled(r->credit, SD_EVENT_ONESHOT);
}

void archive_run_end_input(ArchiveRun *r) {
        (void) frame_stream_send(r->frames, FRAME_CLOSE, NULL, 0);
}

void archive_run_pause(ArchiveRun *r, bool pause) {
        frame_stream_pause(r->frames, pause);
}
