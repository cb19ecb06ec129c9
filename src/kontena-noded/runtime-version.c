/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "file-util.h"
#include "log.h"
#include "runtime.h"
#include "string-util.h"

#define TEXT_MAX 4096U

/* The program's own word, asked for once, without waiting. */
struct VersionQuery {
        Runtime *runtime;
        sd_event_source *io, *child;
        pid_t pid;
        int fd;
        char text[TEXT_MAX];
        size_t length;
};

VersionQuery *runtime_version_free(VersionQuery *q) {
        if (!q)
                return NULL;

        sd_event_source_disable_unref(q->io);
        sd_event_source_disable_unref(q->child);
        if (q->pid > 0) {
                (void) kill(q->pid, SIGKILL);
                (void) waitpid(q->pid, NULL, 0);
        }
        safe_close(q->fd);
        free(q);
        return NULL;
}

/* "crun version 1.8.1\ncommit: ..." */
char *runtime_version_parse(const char *text) {
        const char *p = strstr(text, "version "), *nl = strchrnul(text, '\n');
        size_t n;

        if (!p || p > nl)
                return NULL;
        p += strlen("version ");
        n = strcspn(p, " \n");
        for (size_t i = 0; i < n; i++)
                if ((unsigned char) p[i] <= ' ' || (unsigned char) p[i] > '~')
                        return NULL;

        return n > 0 && n < 64 ? strndup(p, n) : NULL;
}

static int on_text(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        VersionQuery *q = userdata;
        ssize_t n;

        n = read(fd, q->text + q->length, sizeof(q->text) - 1 - q->length);
        if (n < 0 && ERRNO_IS_TRANSIENT(-errno))
                return 0;
        if (n > 0) {
                q->length += (size_t) n;
                if (q->length < sizeof(q->text) - 1)
                        return 0;
        }

        q->io = sd_event_source_disable_unref(q->io);
        q->text[q->length] = '\0';
        free(q->runtime->version);
        q->runtime->version = runtime_version_parse(q->text);
        return 0;
}

static int on_end(sd_event_source *s, const siginfo_t *si, void *userdata) {
        VersionQuery *q = userdata;

        q->child = sd_event_source_disable_unref(q->child);
        q->pid = 0;
        return 0;
}

static void child_main(const char *program, int fd, int null_fd) __attribute__((noreturn));
static void child_main(const char *program, int fd, int null_fd) {
        sigset_t none;

        (void) sigemptyset(&none);
        (void) sigprocmask(SIG_SETMASK, &none, NULL);
        if (dup2(null_fd, STDIN_FILENO) < 0 || dup2(fd, STDOUT_FILENO) < 0 ||
                        dup2(null_fd, STDERR_FILENO) < 0)
                _exit(127);
        (void) execve(program, (char *const[]){ (char *) program, (char *) "--version", NULL },
                        (char *const[]){ NULL });
        _exit(127);
}

int runtime_version_ask(Runtime *rt, sd_event *event, VersionQuery **ret) {
        _cleanup_(runtime_version_freep) VersionQuery *q = NULL;
        _cleanup_close_ int null_fd = -EBADF, write_fd = -EBADF;
        int fds[2], r;

        q = new0(VersionQuery, 1);
        if (!q)
                return -ENOMEM;
        q->fd = -EBADF;
        q->runtime = rt;

        null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (null_fd < 0 || pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
                return -errno;
        q->fd = fds[0];
        write_fd = fds[1];
        r = fd_set_nonblock(write_fd, false);
        if (r < 0)
                return r;

        q->pid = fork();
        if (q->pid < 0)
                return -errno;
        if (q->pid == 0)
                child_main(rt->program, write_fd, null_fd);

        r = sd_event_add_io(event, &q->io, q->fd, EPOLLIN, on_text, q);
        if (r >= 0)
                r = sd_event_add_child(event, &q->child, q->pid, WEXITED, on_end, q);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(q);
        return 0;
}
