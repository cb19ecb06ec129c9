/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "archive-serve.h"

#include <endian.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/fsuid.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "file-util.h"
#include "frame.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "log.h"
#include "string-util.h"
#include "tar-path.h"
#include "tar.h"

typedef struct Serve {
        int fd;
        int fds[ARCHIVE_DESCRIPTORS_MAX];
        size_t n_fds;
        TarPlace hidden[ARCHIVE_DESCRIPTORS_MAX]; /* what the descriptors but the first are */
        size_t n_hidden;
        uint8_t *buffer; /* one frame */
        size_t allocated;
        bool input_over;

        const char *mode, *owner, *path, *name;
        bool volume, follow;
        uint64_t uid_base;
        TarStats stats;
} Serve;

static void serve_done(Serve *s) {
        FOREACH_ARRAY(fd, s->fds, s->n_fds)
                safe_close(*fd);
        free(s->buffer);
}

static int take_descriptors(Serve *s) {
        union {
                struct cmsghdr header;
                uint8_t space[CMSG_SPACE(sizeof(int) * ARCHIVE_DESCRIPTORS_MAX)];
        } control;
        uint8_t byte;
        struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
        struct msghdr m = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
        };
        struct cmsghdr *c;
        ssize_t n;

        do
                n = recvmsg(s->fd, &m, MSG_CMSG_CLOEXEC);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return -errno;
        c = CMSG_FIRSTHDR(&m);
        if (n == 0 || !c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS ||
                        (m.msg_flags & MSG_CTRUNC))
                return -EBADMSG;
        s->n_fds = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(s->fds, CMSG_DATA(c), s->n_fds * sizeof(int));
        for (size_t i = 1; i < s->n_fds; i++) {
                int r = tar_place(s->fds[i], s->hidden + s->n_hidden);

                if (r < 0)
                        return r;
                s->n_hidden++;
        }
        return s->n_fds > 0 ? 0 : -EBADMSG;
}

/* -ECONNRESET: the other side is gone. */
static int read_frame(Serve *s, FrameType *ret_type, size_t *ret_size) {
        uint8_t head[FRAME_HEAD_SIZE];
        uint32_t size;
        ssize_t n;

        n = loop_read(s->fd, head, sizeof(head));
        if (n < 0)
                return (int) n;
        if (n < (ssize_t) sizeof(head))
                return -ECONNRESET;
        memcpy(&size, head + 1, sizeof(size));
        size = le32toh(size);
        if (size > ARCHIVE_FRAME_MAX)
                return -EBADMSG;
        if (size > s->allocated || !s->buffer) {
                uint8_t *larger = realloc(s->buffer, MAX(size, UINT32_C(4096)));

                if (!larger)
                        return -ENOMEM;
                s->buffer = larger;
                s->allocated = MAX(size, UINT32_C(4096));
        }
        n = loop_read(s->fd, s->buffer, size);
        if (n < 0)
                return (int) n;
        if ((size_t) n < size)
                return -ECONNRESET;

        *ret_type = (FrameType) head[0];
        *ret_size = size;
        return 0;
}

static int write_frame(Serve *s, FrameType type, const void *data, size_t size) {
        uint32_t le = htole32((uint32_t) size);
        uint8_t head[FRAME_HEAD_SIZE] = { (uint8_t) type };
        struct iovec iov[2] = { { head, sizeof(head) }, { (void *) (uintptr_t) data, size } };
        struct msghdr m = { .msg_iov = iov, .msg_iovlen = 2 };

        memcpy(head + 1, &le, sizeof(le));
        while (iov[0].iov_len + iov[1].iov_len > 0) {
                ssize_t n = sendmsg(s->fd, &m, MSG_NOSIGNAL);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                FOREACH_ARRAY(v, iov, 2) {
                        size_t k = MIN((size_t) n, v->iov_len);

                        v->iov_base = (uint8_t *) v->iov_base + k;
                        v->iov_len -= k;
                        n -= (ssize_t) k;
                }
        }
        return 0;
}

static int on_read(const void **ret, size_t *ret_size, void *userdata) {
        Serve *s = userdata;
        FrameType type;
        int r;

        *ret_size = 0;
        while (!s->input_over) {
                r = read_frame(s, &type, ret_size);
                if (r < 0)
                        return r;
                if (type == FRAME_CLOSE)
                        s->input_over = true;
                else if (type != FRAME_BINARY)
                        return -EBADMSG;
                else if (*ret_size > 0) {
                        *ret = s->buffer;
                        return 0;
                }
        }
        *ret_size = 0;
        return 0;
}

static int on_write(const void *data, size_t size, void *userdata) {
        return write_frame(userdata, FRAME_BINARY, data, size);
}

/* A file system of a user namespace takes new files only from users that it has. */
static int become_user(uint32_t id) {
        (void) setfsgid(id);
        (void) setfsuid(id);
        return (uint32_t) setfsuid((uid_t) -1) == id && (uint32_t) setfsgid((gid_t) -1) == id ? 0 : -EPERM;
}

static int say_ready(Serve *s) {
        return write_frame(s, FRAME_STATUS, "{}", 2);
}

/* What has nothing to write does not see that nobody reads any more. */
static int on_progress(uint64_t bytes, void *userdata) {
        struct pollfd p = { .fd = ((Serve *) userdata)->fd };

        return poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR)) ? -EPIPE : 0;
}

static int pack(Serve *s, KError *reterr) {
        TarRoot root = { .fd = s->fds[0], .hidden = s->hidden, .n_hidden = s->n_hidden };
        TarOptions o = { .owner = TAR_OWNER_KEEP,
                .devices = s->volume,
                .one_device = s->volume,
                .uid_base = (uint32_t) s->uid_base,
                .hidden = s->hidden,
                .n_hidden = s->n_hidden,
                .progress = on_progress,
                .userdata = s };
        _cleanup_free_ char *name = NULL, *as = NULL;
        _cleanup_close_ int fd = -EBADF;
        int r;

        if (s->volume)
                r = say_ready(s);
        else {
                r = tar_source_open(&root, strempty(s->path), s->follow, &fd, &name, &as, reterr);
                if (r >= 0)
                        r = say_ready(s);
        }
        if (r < 0)
                return r;
        return tar_pack(s->volume ? s->fds[0] : fd, name ?: ".", as ?: ".", &o, on_write, s, &s->stats,
                        reterr);
}

static int unpack(Serve *s, KError *reterr) {
        TarRoot root = { .fd = s->fds[0], .hidden = s->hidden, .n_hidden = s->n_hidden };
        TarOptions o = {
                .owner = streq(s->owner, "keep") ? TAR_OWNER_KEEP : TAR_OWNER_ROOT,
                .devices = s->volume,
                .one_device = s->volume,
                .private = s->volume,
                .root_too = s->volume,
                .uid_base = (uint32_t) s->uid_base,
                .hidden = s->hidden,
                .n_hidden = s->n_hidden,
        };
        _cleanup_close_ int fd = -EBADF;
        _cleanup_free_ char *rename = NULL;
        int r = 1;

        if (!s->volume) {
                r = tar_target_open(&root, strempty(s->path), s->name, &fd, &rename, reterr);
                o.rename = rename;
                o.directory_only = r == 0 && tar_path_wants_directory(s->path);
        }
        if (r >= 0)
                r = say_ready(s);
        if (r < 0)
                return r;
        return tar_unpack(s->volume ? s->fds[0] : fd, &o, on_read, s, &s->stats, reterr);
}

static int read_config(Serve *s, json_object **ret, KError *reterr) {
        _cleanup_json_ json_object *o = NULL;
        FrameType type;
        size_t size;
        int r;

        r = read_frame(s, &type, &size);
        if (r < 0)
                return r;
        if (type != FRAME_CONFIG)
                return -EBADMSG;
        s->owner = "root";
        if ((r = json_parse((const char *) s->buffer, size, ARCHIVE_FRAME_MAX, &o, reterr)) < 0 ||
                        (r = json_get_string(o, "mode", &s->mode, reterr)) < 0 ||
                        (r = json_find_string(o, "owner", &s->owner, reterr)) < 0 ||
                        (r = json_find_string(o, "path", &s->path, reterr)) < 0 ||
                        (r = json_find_string(o, "name", &s->name, reterr)) < 0 ||
                        (r = json_find_bool(o, "volume", &s->volume, reterr)) < 0 ||
                        (r = json_find_u64(o, "uid_base", &s->uid_base, reterr)) < 0 ||
                        (r = json_find_bool(o, "follow", &s->follow, reterr)) < 0)
                return r;
        if (s->uid_base > UINT32_MAX - TAR_USERS)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "There are no such users.");
        r = s->uid_base > 0 ? become_user((uint32_t) s->uid_base) : 0;
        if (r < 0)
                return r;
        if (!STR_IN_SET(s->mode, "pack", "unpack") || !STR_IN_SET(s->owner, "root", "keep"))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "There is no mode '%.64s' or owner '%.64s'.",
                                s->mode, s->owner);

        *ret = TAKE_PTR(o);
        return 0;
}

static int say_closed(Serve *s, const KError *error) {
        _cleanup_json_ json_object *o = json_object_new_object(), *e = NULL;
        const char *text;
        int r;

        if (!o)
                return -ENOMEM;
        if (kerror_is_set(error)) {
                e = json_object_new_object();
                if (!e)
                        return -ENOMEM;
                if ((r = json_add_string(e, "code", kerror_bus_name(error->code))) < 0 ||
                                (r = json_add_string(e, "message", kerror_message(error))) < 0)
                        return r;
        }
        if ((r = e ? json_add(o, "error", TAKE_PTR(e)) : json_add_string(o, "error", NULL)) < 0 ||
                        (r = json_add_u64(o, "entries", s->stats.n_entries)) < 0 ||
                        (r = json_add_u64(o, "bytes", s->stats.size)) < 0 ||
                        (r = json_add_u64(o, "skipped", s->stats.n_skipped)) < 0 ||
                        (r = json_add_u64(o, "changed", s->stats.n_changed)) < 0)
                return r;
        text = json_text(o);
        return text ? write_frame(s, FRAME_CLOSED, text, strlen(text)) : -ENOMEM;
}

int archive_serve(int fd) {
        _cleanup_(serve_done) Serve s = { .fd = fd };
        _cleanup_json_ json_object *config = NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;
        int r, k;

        r = take_descriptors(&s);
        if (r >= 0)
                r = read_config(&s, &config, &error);
        if (r >= 0)
                r = streq(s.mode, "pack") ? pack(&s, &error) : unpack(&s, &error);
        if (r < 0 && !kerror_is_set(&error))
                (void) kerror_set_errno(&error, r, "The archive cannot be made or unpacked: %m");

        k = say_closed(&s, &error);
        if (k < 0 && k != -EPIPE)
                log_error_errno(k, "The outcome cannot be told: %m");
        return r < 0 || k < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
