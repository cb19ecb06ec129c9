/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "secret-input.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include "file-util.h"
#include "string-util.h"

int secret_read_all(int fd, size_t max, char **ret, size_t *ret_size, KError *reterr) {
        _cleanup_free_ char *text = malloc(max + 2);
        ssize_t n;

        if (!text)
                return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
        n = loop_read(fd, text, max + 1);
        if (n < 0)
                return kerror_set_errno(reterr, (int) n, "Standard input cannot be read: %m");
        if ((size_t) n > max) {
                erase_memory(text, (size_t) n);
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "There are more than %zu bytes.", max);
        }
        text[n] = '\0';

        *ret = TAKE_PTR(text);
        *ret_size = (size_t) n;
        return 0;
}

/* What would end us waits until the terminal is as it was. Returns a descriptor that is readable once something waits; it is never
 * read, so that it is done when it is let go. */
static int hold_signals(sigset_t *ret_before) {
        static const int ending[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM };
        _cleanup_close_ int fd = -EBADF;
        sigset_t held;

        (void) sigemptyset(&held);
        FOREACH_ARRAY(s, ending, ELEMENTSOF(ending)) {
                struct sigaction a;

                if (sigaction(*s, NULL, &a) >= 0 && a.sa_handler != SIG_IGN) /* not of nohup's */
                        (void) sigaddset(&held, *s);
        }
        fd = signalfd(-1, &held, SFD_CLOEXEC | SFD_NONBLOCK);
        if (fd < 0 || sigprocmask(SIG_BLOCK, &held, ret_before) < 0)
                return -errno;
        return TAKE_FD(fd);
}

/* -EINTR: a signal waits. */
static int wait_for_input(int signal_fd) {
        struct pollfd fds[] = {
                { .fd = signal_fd, .events = POLLIN },
                { .fd = STDIN_FILENO, .events = POLLIN },
        };

        while (poll(fds, ELEMENTSOF(fds), -1) < 0)
                if (errno != EINTR)
                        return -errno;
        return fds[0].revents != 0 ? -EINTR : 0;
}

/* Up to the end of a line. A ^C ends it too, as a character: as a signal it would leave the terminal silent. */
static ssize_t read_line(int signal_fd, char *buffer, size_t size, cc_t interrupt) {
        size_t n = 0;

        while (n < size) {
                ssize_t k;
                int r;

                r = wait_for_input(signal_fd);
                if (r < 0)
                        return r;
                k = read(STDIN_FILENO, buffer + n, size - n);
                if (k < 0 && errno == EINTR)
                        continue;
                if (k < 0)
                        return -errno;
                if (k == 0)
                        return n > 0 ? (ssize_t) n : -ENODATA;
                n += (size_t) k;
                if (interrupt != _POSIX_VDISABLE && memchr(buffer, interrupt, n))
                        return -ECANCELED;
                if (buffer[n - 1] == '\n')
                        return (ssize_t) n - 1;
        }

        return -EFBIG;
}

static int ask(const char *prompt, const char *what, size_t max, char **ret, KError *reterr) {
        cc_t interrupt = _POSIX_VDISABLE;
        struct termios before, silent;
        _cleanup_erase_ char *line = NULL;
        _cleanup_close_ int signal_fd = -EBADF;
        sigset_t before_signals;
        bool changed = false;
        ssize_t n;

        line = malloc(max + 2);
        if (!line)
                return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
        line[0] = '\0';
        signal_fd = hold_signals(&before_signals);
        if (signal_fd < 0)
                return kerror_set_errno(reterr, signal_fd, "Signals cannot be held: %m");
        /* Silent before it is asked: what is typed until then would be shown, and thrown away. */
        if (tcgetattr(STDIN_FILENO, &before) >= 0) {
                silent = before;
                interrupt = before.c_cc[VINTR];
                silent.c_lflag &= ~(tcflag_t) (ECHO | ISIG);
                silent.c_cc[VEOL] = interrupt;
                changed = tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent) >= 0;
        }
        fputs(prompt, stderr);
        n = read_line(signal_fd, line, max + 1, changed ? interrupt : _POSIX_VDISABLE);
        if (changed)
                (void) tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
        fputc('\n', stderr);
        if (n < 0) /* before a core is written */
                erase_memory(line, max + 2);
        (void) sigprocmask(SIG_SETMASK, &before_signals, NULL); /* a signal that came ends us here */
        line[n >= 0 ? n : 0] = '\0';
        if (n == -EFBIG)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "There are more than %zu bytes.", max);
        if (n <= 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "There is no %s.", what);

        *ret = TAKE_PTR(line);
        return 0;
}

int secret_input(const char *prompt, const char *what, size_t max, char **ret, KError *reterr) {
        _cleanup_erase_ char *text = NULL;
        size_t n = 0;
        int r;

        if (isatty(STDIN_FILENO) > 0)
                return ask(prompt, what, max, ret, reterr);

        r = secret_read_all(STDIN_FILENO, max + 1, &text, &n, reterr);
        if (r < 0)
                return r;
        if (n == 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "There is no %s on standard input.", what);
        if (strlen(text) != n)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "The %s has a NUL byte in it.", what);
        if (text[n - 1] == '\n')
                text[n - 1] = '\0';

        *ret = TAKE_PTR(text);
        return 0;
}
