/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "in-child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "file-util.h"
#include "string-util.h"

#define MESSAGE_MAX 2048U

typedef struct Result {
        int r;
        KErrorCode code;
        char message[MESSAGE_MAX]; /* as much of it as there is */
} Result;

static void child_main(const char *name, in_child_t function, void *userdata, pid_t parent, int fd) {
        _cleanup_kerror_ KError e = KERROR_NULL;
        Result result = {};
        size_t n = 0;

        (void) prctl(PR_SET_NAME, name);
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
                _exit(EXIT_FAILURE);

        result.r = function(userdata, &e);
        result.code = e.code;
        if (kerror_is_set(&e)) {
                n = MIN(strlen(kerror_message(&e)), sizeof(result.message) - 1);
                memcpy(result.message, kerror_message(&e), n);
        }
        _exit(loop_write(fd, &result, offsetof(Result, message) + n + 1) < 0);
}

static int wait_readable(int fd, uint64_t timeout_usec) {
        uint64_t end = now_monotonic() + timeout_usec;

        for (;;) {
                uint64_t now = now_monotonic();
                struct pollfd p = { .fd = fd, .events = POLLIN };
                int r;

                if (now >= end)
                        return -ETIMEDOUT;
                r = poll(&p, 1, (int) ((end - now) / USEC_PER_MSEC) + 1);
                if (r > 0)
                        return 0;
                if (r < 0 && errno != EINTR)
                        return -errno;
        }
}

static int start_child(const char *name, in_child_t function, void *userdata, pid_t *ret_pid, int *ret_fd,
                KError *reterr) {
        _cleanup_close_ int in = -EBADF, out = -EBADF;
        pid_t parent = getpid(), pid;
        int fds[2];

        if (pipe2(fds, O_CLOEXEC) < 0)
                return kerror_set_errno(reterr, -errno, "Cannot make a pipe: %m.");
        in = fds[0];
        out = fds[1];

        pid = fork();
        if (pid < 0)
                return kerror_set_errno(reterr, -errno, "Cannot start a process '%s': %m.", name);
        if (pid == 0)
                child_main(name, function, userdata, parent, out);

        *ret_pid = pid;
        *ret_fd = TAKE_FD(in);
        return 0;
}

static void reap(pid_t pid) {
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                ;
}

/* The result is smaller than the pipe, so it arrives as one piece. */
static int take_result(const char *name, int fd, KError *reterr) {
        Result result = {};
        ssize_t n;

        n = loop_read(fd, &result, sizeof(result) - 1);
        if (n < (ssize_t) offsetof(Result, message) + 1)
                return kerror_set(reterr, K_INTERNAL, "The process '%s' ended without a result.", name);
        if (result.r < 0 && result.code > K_OK && result.code < _K_ERROR_CODE_MAX)
                (void) kerror_set(reterr, result.code, "%s", result.message);
        return result.r;
}

static int say_no_result(const char *name, int r, KError *reterr) {
        return kerror_set_errno(reterr, r, "The process '%s' gave no result: %m.", name);
}

int run_in_child(const char *name, in_child_t function, void *userdata, uint64_t timeout_usec,
                KError *reterr) {
        _cleanup_close_ int fd = -EBADF;
        pid_t pid;
        int r;

        r = start_child(name, function, userdata, &pid, &fd, reterr);
        if (r < 0)
                return r;

        r = wait_readable(fd, timeout_usec);
        if (r < 0) {
                (void) kill(pid, SIGKILL);
                r = say_no_result(name, r, reterr);
        } else
                r = take_result(name, fd, reterr);
        reap(pid);
        return r;
}

struct ChildCall {
        const char *name;
        sd_event_source *child, *timer;
        pid_t pid;
        int fd;
        child_done_t done;
        void *userdata;
};

static ChildCall *child_call_free(ChildCall *c) {
        sd_event_source_disable_unref(c->child);
        sd_event_source_disable_unref(c->timer);
        safe_close(c->fd);
        if (c->pid > 0)
                reap(c->pid); /* killed */
        return mfree(c);
}

ChildCall *child_call_cancel(ChildCall *c) {
        if (!c)
                return NULL;

        if (c->pid > 0)
                (void) kill(c->pid, SIGKILL);
        return child_call_free(c);
}
DEFINE_TRIVIAL_CLEANUP_FUNC(ChildCall *, child_call_cancel);

static void child_call_end(ChildCall *c, int r, const KError *error) {
        child_done_t done = c->done;
        void *userdata = c->userdata;

        child_call_free(c);
        done(r, error, userdata);
}

static int on_exit_of_child(sd_event_source *s, const siginfo_t *si, void *userdata) {
        _cleanup_kerror_ KError e = KERROR_NULL;
        ChildCall *c = userdata;
        int r;

        c->pid = 0; /* the loop reaps it */
        r = take_result(c->name, c->fd, &e);
        child_call_end(c, r, &e);
        return 0;
}

static int on_late(sd_event_source *s, uint64_t usec, void *userdata) {
        _cleanup_kerror_ KError e = KERROR_NULL;
        ChildCall *c = userdata;
        int r;

        (void) kill(c->pid, SIGKILL);
        r = say_no_result(c->name, -ETIMEDOUT, &e);
        child_call_end(c, r, &e);
        return 0;
}

int child_call_start(sd_event *event, const char *name, in_child_t function, void *arg,
                uint64_t timeout_usec, child_done_t done, void *userdata, ChildCall **ret, KError *reterr) {
        _cleanup_(child_call_cancelp) ChildCall *c = NULL;
        int r;

        assert(done);
        assert(ret);

        c = new0(ChildCall, 1);
        if (!c)
                return -ENOMEM;
        c->name = name;
        c->fd = -EBADF;
        c->done = done;
        c->userdata = userdata;

        r = start_child(name, function, arg, &c->pid, &c->fd, reterr);
        if (r < 0)
                return r;
        r = sd_event_add_child(event, &c->child, c->pid, WEXITED, on_exit_of_child, c);
        if (r >= 0)
                r = sd_event_add_time_relative(
                                event, &c->timer, CLOCK_MONOTONIC, timeout_usec, 0, on_late, c);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot wait for the process '%s': %m.", name);

        *ret = TAKE_PTR(c);
        return 0;
}
