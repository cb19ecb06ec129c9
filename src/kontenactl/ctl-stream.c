/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl-stream.h"

#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/stat.h>

#include "file-util.h"
#include "kontena-limits.h"
#include "stream-frame.h"
#include "string-util.h"
#include "terminal.h"
#include "watch.h"

#define WRITES_MAX   3U            /* calls without answer: enough that the way is never empty */
#define CREDIT_BYTES (32U * 1024U) /* given back at once when so much was written, or all */
#define WRITE_CHUNK  4096U         /* PIPE_BUF: what a pipe with room takes without waiting */
#define STATUS_PIPE  (128 + SIGPIPE)

typedef struct Output {
        struct CtlStream *stream;
        int fd;
        bool regular, is_text;
        uint8_t *data;
        size_t start, size, allocated;
        size_t owed; /* of what came, not yet taken: as many as size, but for text */
        TextEscaper escaper;
        sd_event_source *source;
} Output;

typedef struct CtlStream {
        Ctl *c;
        const CtlStreamOptions *o;
        MasterWatch watch;
        char *id;

        int input;
        bool input_over, input_said; /* it was said to the master */
        unsigned writes;
        sd_event_source *readable;
        uint8_t buffer[STREAM_DATA_MAX];

        Output outputs[STREAM_CHANNELS]; /* 0 is not used */
        size_t taken;                    /* not yet given back */

        bool ended;
        int status;
        KError error;
} CtlStream;

static int stop(CtlStream *s, int r) {
        return sd_event_exit(s->c->event, r);
}

static int fail(CtlStream *s, int error, const char *what) {
        return stop(s, kerror_set_errno(&s->error, error, "%s: %m", what));
}

/* A call whose answer tells nothing. */
static int tell(CtlStream *s, const char *method, const char *types, ...) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        va_list ap;
        int r;

        r = ctl_message(s->c, method, &m, NULL);
        if (r >= 0)
                r = sd_bus_message_append(m, "s", s->id);
        if (r >= 0 && types) {
                va_start(ap, types);
                r = sd_bus_message_appendv(m, types, ap);
                va_end(ap);
        }
        if (r >= 0)
                r = sd_bus_message_set_expect_reply(m, false);
        return r < 0 ? r : sd_bus_send(s->c->bus, m, NULL);
}

/* Output */

static bool all_written(const CtlStream *s) {
        return s->outputs[1].size == 0 && s->outputs[2].size == 0;
}

static void give_credit(CtlStream *s) {
        if (s->taken == 0 || s->ended || (s->taken < CREDIT_BYTES && !all_written(s)))
                return;

        (void) tell(s, "CreditStream", "u", (uint32_t) s->taken);
        s->taken = 0;
}

static void take(Output *o, size_t size) {
        o->owed -= size;
        o->stream->taken += size;
}

/* What it takes now. A negative errno: nobody reads it any more. */
static int write_output(Output *o) {
        while (o->size > 0) {
                size_t chunk = o->regular ? o->size : MIN(o->size, (size_t) WRITE_CHUNK);
                struct pollfd p = { .fd = o->fd, .events = POLLOUT };
                ssize_t n;

                if (!o->regular && poll(&p, 1, 0) <= 0)
                        return 0;
                n = write(o->fd, o->data + o->start, chunk);
                if (n < 0 && ERRNO_IS_TRANSIENT(-errno))
                        return 0;
                if (n < 0)
                        return -errno;
                o->start += (size_t) n;
                o->size -= (size_t) n;
                if (!o->is_text)
                        take(o, (size_t) n);
        }

        o->start = 0;
        take(o, o->owed);
        return 0;
}

static int flush(Output *o) {
        CtlStream *s = o->stream;
        int r;

        r = write_output(o);
        if (r == -EPIPE) { /* as a program of this machine that SIGPIPE ends */
                (void) tell(s, "CloseStream", NULL);
                s->ended = true;
                s->status = STATUS_PIPE;
                return stop(s, 0);
        }
        if (r < 0)
                return fail(s, r, "Cannot write");

        if (o->source)
                (void) sd_event_source_set_enabled(o->source, o->size > 0 ? SD_EVENT_ON : SD_EVENT_OFF);
        give_credit(s);
        return s->ended && all_written(s) ? stop(s, 0) : 0;
}

static int on_writable(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        return flush(userdata);
}

/* Of text more may come out than came. */
static void make_room(Output *o, size_t size) {
        size_t n = o->is_text ? TEXT_ESCAPED_SIZE(size) : size;

        assert(n <= o->allocated - o->size);

        if (o->start + o->size + n > o->allocated) {
                memmove(o->data, o->data + o->start, o->size);
                o->start = 0;
        }
}

static int on_data(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        CtlStream *s = userdata;
        const void *data;
        uint32_t channel;
        const char *id;
        size_t size;
        Output *o;

        if (sd_bus_message_read(m, "su", &id, &channel) < 0 || !s->id || !streq(id, s->id) || s->ended)
                return 0;
        if (sd_bus_message_read_array(m, 'y', &data, &size) < 0 || channel == 0 ||
                        channel >= STREAM_CHANNELS)
                return 0;
        o = s->outputs + channel;
        if (size == 0)
                return 0;
        if (o->fd < 0) { /* nobody wants it */
                s->taken += size;
                give_credit(s);
                return 0;
        }

        if (size > STREAM_WINDOW - o->owed)
                return stop(s, kerror_set(&s->error, K_INTERNAL, "The master sends more than it may."));
        make_room(o, size);
        o->owed += size;
        if (o->is_text)
                o->size += text_escaper_feed(&o->escaper, data, size, (char *) o->data + o->start + o->size);
        else {
                memcpy(o->data + o->start + o->size, data, size);
                o->size += size;
        }
        return flush(o);
}

static int on_ended(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        const char *id, *name, *message;
        CtlStream *s = userdata;
        KErrorCode code;
        int32_t status;
        Output *o;

        if (sd_bus_message_read(m, "siss", &id, &status, &name, &message) < 0 || !s->id ||
                        !streq(id, s->id) || s->ended)
                return 0;

        s->ended = true;
        s->status = status;
        if (!isempty(name)) {
                code = kerror_code_from_bus_name(name);
                (void) kerror_set(&s->error, code > K_OK ? code : K_INTERNAL, "%s", message);
        }
        s->readable = sd_event_source_disable_unref(s->readable);
        o = s->outputs + 2;
        if (o->is_text) {
                make_room(o, 0);
                o->size += text_escaper_end(&o->escaper, (char *) o->data + o->start + o->size);
                return flush(o);
        }
        return all_written(s) ? stop(s, 0) : 0;
}

/* Input */

static void update_input(CtlStream *s) {
        if (s->readable)
                (void) sd_event_source_set_enabled(
                                s->readable, s->writes < WRITES_MAX ? SD_EVENT_ON : SD_EVENT_OFF);
        if (s->input_over && !s->input_said && !s->ended) {
                s->input_said = true;
                (void) tell(s, "EndStreamInput", NULL);
        }
}

static void end_input(CtlStream *s) {
        s->readable = sd_event_source_disable_unref(s->readable);
        s->input_over = true;
        update_input(s);
}

static int on_write_answered(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        CtlStream *s = userdata;

        s->writes--;
        if (sd_bus_message_is_method_error(m, NULL)) { /* it ends, as StreamEnded will say */
                s->input_said = true;
                end_input(s);
        } else
                update_input(s);
        return 0;
}

static int read_input(CtlStream *s) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        ssize_t n;
        int r;

        n = read(s->input, s->buffer, sizeof(s->buffer));
        if (n < 0 && ERRNO_IS_TRANSIENT(-errno))
                return 0;
        if (n <= 0) { /* a terminal that has hung up says EIO */
                end_input(s);
                return 0;
        }

        r = ctl_message(s->c, "WriteStream", &m, NULL);
        if (r >= 0)
                r = sd_bus_message_append(m, "s", s->id);
        if (r >= 0)
                r = sd_bus_message_append_array(m, 'y', s->buffer, (size_t) n);
        /* The answer takes as long as the other side takes to read. */
        if (r >= 0)
                r = sd_bus_call_async(s->c->bus, NULL, m, on_write_answered, s, UINT64_MAX);
        if (r < 0)
                return fail(s, r, "Cannot send input");
        s->writes++;
        update_input(s);
        return 0;
}

static int on_readable(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        return read_input(userdata);
}

/* A file is always readable, and no event tells so. */
static int on_file_readable(sd_event_source *source, void *userdata) {
        return read_input(userdata);
}

/* Signals and the terminal */

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *si, void *userdata) {
        CtlStream *s = userdata;
        const char *name = stream_signal_to_name((int) si->ssi_signo);

        if (s->o->terminal ||
                        s->o->close_on_signal) { /* keys do not come this way: somebody wants us to end */
                (void) tell(s, "CloseStream", NULL);
                s->ended = true;
                s->status = 128 + (int) si->ssi_signo;
                return stop(s, 0);
        }
        (void) tell(s, "SignalStream", "s", name);
        return 0;
}

static int on_resize(sd_event_source *source, const struct signalfd_siginfo *si, void *userdata) {
        unsigned rows, columns;
        CtlStream *s = userdata;

        if (terminal_size(s->input, &rows, &columns) >= 0)
                (void) tell(s, "ResizeStream", "uu", rows, columns);
        return 0;
}

static int on_continued(sd_event_source *source, const struct signalfd_siginfo *si, void *userdata) {
        CtlStream *s = userdata;

        (void) terminal_raw(s->input);
        return on_resize(source, si, userdata);
}

static int add_signals(CtlStream *s) {
        static const int forwarded[] = { SIGINT, SIGTERM, SIGQUIT, SIGHUP };
        sigset_t mask;
        int r;

        (void) signal(SIGPIPE, SIG_IGN);
        (void) sigemptyset(&mask);
        FOREACH_ARRAY(f, forwarded, ELEMENTSOF(forwarded))
                (void) sigaddset(&mask, *f);
        (void) sigaddset(&mask, SIGWINCH);
        (void) sigaddset(&mask, SIGCONT);
        if (sigprocmask(SIG_BLOCK, &mask, NULL) < 0)
                return -errno;

        FOREACH_ARRAY(f, forwarded, ELEMENTSOF(forwarded)) {
                r = sd_event_add_signal(s->c->event, NULL, *f, on_signal, s);
                if (r < 0)
                        return r;
        }
        if (!s->o->terminal || isatty(s->input) <= 0)
                return 0;
        r = sd_event_add_signal(s->c->event, NULL, SIGWINCH, on_resize, s);
        return r < 0 ? r : sd_event_add_signal(s->c->event, NULL, SIGCONT, on_continued, s);
}

static int add_descriptors(CtlStream *s) {
        int r;

        for (unsigned i = 1; i < STREAM_CHANNELS; i++) {
                Output *o = s->outputs + i;

                if (o->fd < 0)
                        continue;
                /* Of what is taken already, a part of a character may still be held. */
                o->allocated = o->is_text ? TEXT_ESCAPED_SIZE(STREAM_WINDOW + sizeof(o->escaper.held))
                                          : STREAM_WINDOW;
                o->data = malloc(o->allocated);
                if (!o->data)
                        return -ENOMEM;
                r = sd_event_add_io(s->c->event, &o->source, o->fd, EPOLLOUT, on_writable, o);
                if (r == -EPERM)
                        o->regular = true;
                else if (r < 0)
                        return r;
                if (o->source)
                        (void) sd_event_source_set_enabled(o->source, SD_EVENT_OFF);
        }

        if (s->input < 0) {
                end_input(s);
                return 0;
        }
        r = sd_event_add_io(s->c->event, &s->readable, s->input, EPOLLIN, on_readable, s);
        if (r == -EPERM)
                r = sd_event_add_defer(s->c->event, &s->readable, on_file_readable, s);
        update_input(s);
        return r;
}

static int open_it(CtlStream *s, sd_bus_message *m, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const char *id;
        sd_bus *bus;
        int r;

        s->watch = (MasterWatch){ .c = s->c };
        r = master_watch_start(&s->watch, reterr);
        if (r >= 0)
                r = ctl_bus(s->c, &bus, reterr);
        if (r < 0)
                return r;
        r = sd_bus_match_signal(
                        bus, NULL, MASTER_NAME, MASTER_PATH, MASTER_MANAGER, "StreamData", on_data, s);
        if (r >= 0)
                r = sd_bus_match_signal(bus, NULL, MASTER_NAME, MASTER_PATH, MASTER_MANAGER, "StreamEnded",
                                on_ended, s);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot subscribe to the stream: %m");
        r = ctl_send(s->c, m, &reply, reterr);
        if (r < 0)
                return r;
        r = sd_bus_message_read(reply, "s", &id);
        if (r < 0)
                return kerror_set_errno(reterr, r, "The master's answer cannot be read: %m");
        s->id = strdup(id);
        if (!s->id)
                return -ENOMEM;

        r = add_signals(s);
        if (r >= 0 && s->o->terminal && isatty(s->input) > 0)
                r = terminal_raw(s->input);
        if (r >= 0)
                r = add_descriptors(s);
        return r < 0 ? kerror_set_errno(reterr, r, "Cannot follow the stream: %m") : 0;
}

static CtlStream *ctl_stream_free(CtlStream *s) {
        if (!s)
                return NULL;

        master_watch_done(&s->watch);
        sd_event_source_disable_unref(s->readable);
        FOREACH_ARRAY(o, s->outputs, STREAM_CHANNELS) {
                sd_event_source_disable_unref(o->source);
                free(o->data);
        }
        kerror_done(&s->error);
        free(s->id);
        free(s);
        return NULL;
}
DEFINE_TRIVIAL_CLEANUP_FUNC(CtlStream *, ctl_stream_free);

int ctl_stream_run(Ctl *c, sd_bus_message *open, const CtlStreamOptions *o, KError *reterr) {
        _cleanup_(ctl_stream_freep) CtlStream *s = NULL;
        int r;

        s = new0(CtlStream, 1);
        if (!s)
                return -ENOMEM;
        s->c = c;
        s->o = o;
        s->input = o->input;
        s->outputs[1] = (Output){ .stream = s, .fd = o->output };
        s->outputs[2] = (Output){
                .stream = s, .fd = o->error, .is_text = o->error_is_text && o->error >= 0
        };

        r = open_it(s, open, reterr);
        if (r >= 0)
                r = master_watch_run(&s->watch, reterr);
        terminal_raw_end();
        if (kerror_is_set(&s->error)) {
                r = kerror_errno(s->error.code);
                if (!kerror_is_set(reterr))
                        kerror_move(reterr, &s->error);
        }
        return r < 0 ? r : s->status;
}
