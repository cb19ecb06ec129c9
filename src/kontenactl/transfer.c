/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "transfer.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ctl-stream.h"
#include "file-util.h"
#include "string-util.h"
#include "terminal.h"

#define MESSAGE_MAX     2048U
#define PIPE_SIZE       (256 * 1024)
#define SHOW_AFTER_USEC USEC_PER_SEC
#define SHOW_EVERY_USEC (200 * USEC_PER_MSEC)

/* What the process says last, smaller than a pipe. */
typedef struct Result {
        int r;
        bool cut;
        KErrorCode code;
        uint64_t size, entries, skipped;
        char message[MESSAGE_MAX];
} Result;

static bool shows(const Transfer *t) {
        return !t->c->quiet && isatty(STDERR_FILENO) > 0;
}

int transfer_progress(uint64_t bytes, void *userdata) {
        uint64_t now = now_monotonic(), took;
        Transfer *t = userdata;
        struct pollfd p = { .fd = t->fd };

        /* Holes are long and nothing is written of them: is anybody there to read? */
        if (poll(&p, 1, 0) > 0 && (p.revents & POLLERR)) {
                t->cut = true;
                return -EPIPE;
        }
        if (!shows(t) || now < t->started + SHOW_AFTER_USEC || now < t->shown + SHOW_EVERY_USEC)
                return 0;
        took = now - t->started;
        t->shown = now;
        fprintf(stderr, "\r%.1f MiB, %.1f MiB/s\033[K", (double) bytes / 1048576,
                        (double) bytes / 1048576 / ((double) took / USEC_PER_SEC));
        (void) fflush(stderr);
        return 0;
}

int transfer_write(const void *data, size_t size, void *userdata) {
        Transfer *t = userdata;
        int r;

        r = loop_write(t->fd, data, size);
        t->cut = t->cut || r == -EPIPE;
        return r;
}

int transfer_read(const void **ret, size_t *ret_size, void *userdata) {
        static uint8_t buffer[64 * 1024];
        Transfer *t = userdata;
        ssize_t n;

        do
                n = read(t->fd, buffer, sizeof(buffer));
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return -errno;
        *ret = buffer;
        *ret_size = (size_t) n;
        return 0;
}

static void child_main(Transfer *t, int result_fd) __attribute__((noreturn));
static void child_main(Transfer *t, int result_fd) {
        static const int ignored[] = { SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGPIPE };
        _cleanup_kerror_ KError e = KERROR_NULL;
        Result result = {};
        size_t n = 0;

        /* They are for the one that holds the stream; the pipe's end then is ours. */
        FOREACH_ARRAY(s, ignored, ELEMENTSOF(ignored))
                (void) signal(*s, SIG_IGN);

        t->started = now_monotonic();
        result.r = t->run(t, &e);
        if (t->shown > 0)
                fputs("\r\033[K", stderr);
        if (result.r < 0 && !kerror_is_set(&e))
                (void) kerror_set_errno(&e, result.r, "%m");
        result.cut = t->cut;
        result.code = e.code;
        result.size = t->size;
        result.entries = t->entries;
        result.skipped = t->skipped;
        if (kerror_is_set(&e)) {
                n = MIN(strlen(kerror_message(&e)), sizeof(result.message) - 1);
                memcpy(result.message, kerror_message(&e), n);
        }
        _exit(loop_write(result_fd, &result, offsetof(Result, message) + n + 1) < 0);
}

static int make_pipe(int *ret_in, int *ret_out) {
        int fds[2];

        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        *ret_in = fds[0];
        *ret_out = fds[1];
        return 0;
}

/* Waits for the end of the process, whose pipe is closed. */
static int take_result(Transfer *t, pid_t pid, int fd, Result *ret) {
        Result result = {};
        ssize_t n;

        n = loop_read(fd, &result, sizeof(result) - 1);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                ;
        if (n < (ssize_t) offsetof(Result, message) + 1)
                return -ECHILD;
        t->size = result.size;
        t->entries = result.entries;
        t->skipped = result.skipped;
        *ret = result;
        return 0;
}

int transfer_run(Transfer *t, KError *reterr) {
        _cleanup_close_ int in = -EBADF, out = -EBADF, result_in = -EBADF, result_out = -EBADF;
        CtlStreamOptions o = { .input = -EBADF,
                .output = -EBADF,
                .error = STDERR_FILENO,
                .error_is_text = true,
                .close_on_signal = true };
        _cleanup_kerror_ KError error = KERROR_NULL;
        Result result = {};
        pid_t pid;
        int r, k;

        r = make_pipe(&in, &out);
        if (r >= 0)
                r = make_pipe(&result_in, &result_out);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make a pipe: %m");
        (void) fcntl(in, F_SETPIPE_SZ, PIPE_SIZE);
        (void) fflush(stdout);

        pid = fork();
        if (pid < 0)
                return kerror_set_errno(reterr, -errno, "Cannot start a process: %m");
        if (pid == 0) {
                t->fd = t->out ? in : out;
                safe_close(t->out ? out : in);
                safe_close(result_in);
                child_main(t, result_out);
        }
        result_out = safe_close(result_out);
        if (t->out) {
                in = safe_close(in);
                o.output = out;
        } else {
                out = safe_close(out);
                o.input = in;
        }

        r = ctl_stream_run(t->c, t->open, &o, &error);
        in = safe_close(in);
        out = safe_close(out);
        k = take_result(t, pid, result_in, &result);
        if (k < 0)
                return kerror_set_errno(reterr, k, "The process that reads or writes files was killed.");

        /* Of two faults the one that made the other: ours, unless the stream took away the pipe. */
        if (result.r < 0 && !result.cut && (r >= 0 || !t->out) && !(r > 128 && t->out && r != 128 + SIGPIPE))
                return kerror_set(reterr,
                                result.code > K_OK && result.code < _K_ERROR_CODE_MAX ? result.code
                                                                                      : K_INTERNAL,
                                "%s", result.message);
        if (r < 0)
                kerror_move(reterr, &error);
        return r;
}
