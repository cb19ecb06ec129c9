/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "output.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

#include "file-util.h"
#include "log.h"
#include "string-util.h"

#define LINE_SIZE_MAX (48U * 1024U) /* as journald's LineMax= */
#define READ_SIZE     4096U
#define FIELDS_MAX    16U

typedef enum OutputStream {
        OUTPUT_STDOUT,
        OUTPUT_STDERR,
        _OUTPUT_STREAM_MAX,
} OutputStream;

static const char *const stream_names[_OUTPUT_STREAM_MAX] = { "stdout", "stderr" };

typedef struct Pipe {
        Output *output;
        OutputStream stream;
        int fd;
        char *store_name;
        sd_event_source *io;
        char *line; /* its beginning, until the newline comes */
        size_t length, room;
} Pipe;

struct Output {
        Pipe pipes[_OUTPUT_STREAM_MAX];
        char *identifier, *object_pid;
        char **fields;
};

int output_make(const char *directory) {
        for (size_t i = 0; i < _OUTPUT_STREAM_MAX; i++) {
                _cleanup_free_ char *path = strjoin(directory, "/", stream_names[i]);

                if (!path)
                        return -ENOMEM;
                /* Whatever user the container runs as may write, and nobody there may read. */
                if (mkfifo(path, 0622) < 0) {
                        if (errno != EEXIST)
                                return -errno;
                } else if (chmod(path, 0622) < 0)
                        return -errno;
        }

        return 0;
}

static void send_line(Pipe *p, const char *line, size_t length) {
        Output *o = p->output;
        struct iovec iov[FIELDS_MAX + 6];
        _cleanup_free_ char *message = NULL;
        int n = 0, r;

        if (length > 0 && line[length - 1] == '\r')
                length--;
        message = malloc(length + 8);
        if (!message)
                return;
        memcpy(message, "MESSAGE=", 8);
        memcpy(message + 8, line, length);

        iov[n++] = (struct iovec){ message, length + 8 };
        iov[n++] = (struct iovec){ (char *) "PRIORITY=6", 10 };
        iov[n++] = (struct iovec){ o->identifier, strlen(o->identifier) };
        iov[n++] = p->stream == OUTPUT_STDOUT ? (struct iovec){ (char *) "KONTENA_STREAM=stdout", 21 }
                                              : (struct iovec){ (char *) "KONTENA_STREAM=stderr", 21 };
        if (o->object_pid)
                iov[n++] = (struct iovec){ o->object_pid, strlen(o->object_pid) };
        for (size_t i = 0; o->fields && o->fields[i] && i < FIELDS_MAX; i++)
                iov[n++] = (struct iovec){ o->fields[i], strlen(o->fields[i]) };

        r = sd_journal_sendv(iov, n);
        if (r < 0)
                log_debug_errno(r, "Cannot pass on a line of a container: %m");
}

/* Keeps what is not yet a line. */
static int keep(Pipe *p, const char *data, size_t size) {
        if (p->length + size > p->room) {
                size_t room = MAX(p->length + size, (size_t) 256);
                char *larger = realloc(p->line, room);

                if (!larger)
                        return -ENOMEM;
                p->line = larger;
                p->room = room;
        }
        memcpy(p->line + p->length, data, size);
        p->length += size;
        return 0;
}

static void flush_line(Pipe *p) {
        if (p->length > 0)
                send_line(p, p->line, p->length);
        p->line = mfree(p->line);
        p->length = p->room = 0;
}

static void take(Pipe *p, const char *data, size_t size) {
        while (size > 0) {
                const char *nl = memchr(data, '\n', size);
                size_t n = nl ? (size_t) (nl - data) : size;

                if (nl && p->length == 0)
                        send_line(p, data, n);
                else if (keep(p, data, n) < 0 || nl || p->length >= LINE_SIZE_MAX)
                        flush_line(p);
                n += nl ? 1 : 0;
                data += n;
                size -= n;
        }
}

/* One read a turn: a container that writes without end does not keep us from the others. */
static int on_readable(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        char buffer[READ_SIZE];
        Pipe *p = userdata;
        ssize_t n;

        n = read(fd, buffer, sizeof(buffer));
        if (n < 0) {
                if (!ERRNO_IS_TRANSIENT(-errno)) {
                        log_warning_errno(-errno, "Cannot read the output of a container any more: %m");
                        p->io = sd_event_source_disable_unref(p->io);
                }
                return 0;
        }

        take(p, buffer, (size_t) n);
        return 0;
}

static int pipe_open(Pipe *p, sd_event *event, FdStore *store, const char *directory, const char *name) {
        _cleanup_free_ char *path = strjoin(directory, "/", stream_names[p->stream]);
        int r;

        p->store_name = strjoin(name, ".", stream_names[p->stream]);
        if (!path || !p->store_name)
                return -ENOMEM;

        p->fd = store ? fd_store_take(store, p->store_name) : -ENOENT;
        if (p->fd < 0) {
                p->fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
                if (p->fd < 0)
                        return -errno;
                r = fd_store_put(p->store_name, p->fd);
                if (r < 0)
                        log_debug_errno(r, "systemd does not keep '%s' for us: %m", path);
        }

        r = sd_event_add_io(event, &p->io, p->fd, EPOLLIN, on_readable, p);
        if (r < 0)
                return r;
        /* After what decides about containers. */
        return sd_event_source_set_priority(p->io, SD_EVENT_PRIORITY_NORMAL + 10);
}

int output_open(sd_event *event, FdStore *store, const char *directory, const char *name,
                const char *identifier, char *const *fields, Output **ret) {
        _cleanup_(output_leavep) Output *o = NULL;
        int r;

        o = new0(Output, 1);
        if (!o)
                return -ENOMEM;
        for (size_t i = 0; i < _OUTPUT_STREAM_MAX; i++)
                o->pipes[i] = (Pipe){ .output = o, .stream = (OutputStream) i, .fd = -EBADF };
        o->identifier = strjoin("SYSLOG_IDENTIFIER=", identifier);
        o->fields = strv_copy(fields);
        if (!o->identifier || !o->fields)
                return -ENOMEM;

        for (size_t i = 0; i < _OUTPUT_STREAM_MAX; i++) {
                r = pipe_open(o->pipes + i, event, store, directory, name);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(o);
        return 0;
}

void output_set_pid(Output *o, uint32_t main_pid) {
        if (!o)
                return;
        free(o->object_pid);
        o->object_pid = main_pid > 0 ? strprintf("OBJECT_PID=%u", main_pid) : NULL;
}

static Output *output_free(Output *o, bool for_good) {
        if (!o)
                return NULL;

        FOREACH_ARRAY(p, o->pipes, _OUTPUT_STREAM_MAX) {
                p->io = sd_event_source_disable_unref(p->io);
                if (p->fd >= 0) {
                        char buffer[READ_SIZE];
                        ssize_t n;

                        /* What was written last tells why it ended. */
                        while (for_good && (n = read(p->fd, buffer, sizeof(buffer))) > 0)
                                take(p, buffer, (size_t) n);
                        flush_line(p);
                        if (for_good)
                                fd_store_remove(p->store_name);
                }
                p->fd = safe_close(p->fd);
                free(p->line);
                free(p->store_name);
        }
        strv_free(o->fields);
        free(o->object_pid);
        free(o->identifier);
        free(o);
        return NULL;
}

Output *output_close(Output *o) {
        return output_free(o, true);
}

Output *output_leave(Output *o) {
        return output_free(o, false);
}
