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

int run_in_child(const char *name, in_child_t function, void *userdata, uint64_t timeout_usec,
                KError *reterr) {
        _cleanup_close_ int in = -EBADF, out = -EBADF;
        pid_t parent = getpid(), pid;
        Result result = {};
        ssize_t n = 0;
        int fds[2], r;

        if (pipe2(fds, O_CLOEXEC) < 0)
                return kerror_set_errno(reterr, -errno, "Cannot make a pipe: %m.");
        in = fds[0];
        out = fds[1];

        pid = fork();
        if (pid < 0)
                return kerror_set_errno(reterr, -errno, "Cannot start a process '%s': %m.", name);
        if (pid == 0)
                child_main(name, function, userdata, parent, out);
        out = safe_close(out);

        /* The result is smaller than the pipe, so it arrives as one piece. */
        r = wait_readable(in, timeout_usec);
        if (r < 0)
                (void) kill(pid, SIGKILL);
        else
                n = loop_read(in, &result, sizeof(result) - 1);

        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                ;

        if (r < 0)
                return kerror_set_errno(reterr, r, "The process '%s' gave no result: %m.", name);
        if (n < (ssize_t) offsetof(Result, message) + 1)
                return kerror_set(reterr, K_INTERNAL, "The process '%s' ended without a result.", name);
        if (result.r < 0 && result.code > K_OK && result.code < _K_ERROR_CODE_MAX)
                (void) kerror_set(reterr, result.code, "%s", result.message);
        return result.r;
}
