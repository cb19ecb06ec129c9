/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "blob.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "digest.h"
#include "file-util.h"
#include "string-util.h"

#define READ_SIZE (256U * 1024U)

typedef struct Blob {
        const Descriptor *descriptor;
        int fd;
        Digest digest; /* of the first offset bytes of fd */
        uint64_t offset;
        bool resumed; /* some of it is from an earlier run */
        Report *report;
        KError *reterr;
} Blob;

static void blob_done(Blob *b) {
        safe_close(b->fd);
        digest_done(&b->digest);
}

static int blob_restart(Blob *b) {
        b->report->bytes -= MIN(b->offset, b->report->bytes);
        b->offset = 0;
        b->resumed = false;
        if (ftruncate(b->fd, 0) < 0)
                return -errno;

        return digest_init(&b->digest);
}

static int on_begin(uint64_t offset, void *userdata) {
        Blob *b = userdata;

        if (offset == b->offset)
                return 0;
        if (offset != 0)
                return kerror_set(b->reterr, K_IMAGE, "the registry went on at the wrong place");

        return blob_restart(b);
}

static uint64_t on_offset(void *userdata) {
        Blob *b = userdata;

        return b->offset;
}

static int on_data(const void *data, size_t n, void *userdata) {
        Blob *b = userdata;
        int r;

        if (n > b->descriptor->size - b->offset)
                return kerror_set(b->reterr, K_IMAGE,
                                "layer %s is corrupt: there is more of it than its %llu bytes",
                                b->descriptor->digest, (unsigned long long) b->descriptor->size);
        r = loop_write(b->fd, data, n);
        if (r < 0)
                return kerror_set_errno(
                                b->reterr, r, "layer %s cannot be stored: %m", b->descriptor->digest);
        r = digest_add(&b->digest, data, n);
        if (r < 0)
                return r;

        b->offset += n;
        b->report->bytes += n;
        return 0;
}

/* What is there already is hashed anew: nothing says who wrote it last, or that all of it reached the disk. */
static int blob_take_up(Blob *b) {
        _cleanup_free_ char *buffer = NULL;
        struct stat st;
        int r;

        if (fstat(b->fd, &st) < 0)
                return -errno;
        if ((uint64_t) st.st_size > b->descriptor->size)
                return ftruncate(b->fd, 0) < 0 ? -errno : 0;
        buffer = malloc(READ_SIZE);
        if (!buffer)
                return -ENOMEM;

        for (;;) {
                ssize_t n = loop_read(b->fd, buffer, READ_SIZE);

                if (n < 0)
                        return (int) n;
                if (n == 0)
                        break;
                r = digest_add(&b->digest, buffer, (size_t) n);
                if (r >= 0)
                        r = report_progress(b->report);
                if (r < 0)
                        return r;
                b->offset += (uint64_t) n;
                b->report->bytes += (uint64_t) n;
        }

        b->resumed = b->offset > 0;
        return 0;
}

/* Better said before than after the disk has been filled for everybody. */
static int check_space(Blob *b, KError *reterr) {
        uint64_t needed = b->descriptor->size - b->offset, available;
        struct statvfs st;

        if (fstatvfs(b->fd, &st) < 0)
                return 0;
        available = (uint64_t) st.f_bavail * st.f_frsize;
        if (needed <= available)
                return 0;

        return kerror_set_errno(reterr, -ENOSPC,
                        "layer %s needs %llu bytes more, and the disk of the image store has %llu left",
                        b->descriptor->digest, (unsigned long long) needed, (unsigned long long) available);
}

static int source_get(
                Source *s, const char *path, const RegistrySink *sink, KError *sink_error, KError *reterr) {
        int r = -ENOENT;

        for (size_t i = 0; i < s->n_registries; i++) {
                Registry *g = s->registries[(s->first + i) % s->n_registries];
                _cleanup_registry_answer_ RegistryAnswer answer = {};
                _cleanup_kerror_ KError e = KERROR_NULL;

                r = registry_get(g, s->repository, path, "*/*", sink, &answer, &e);
                if (r >= 0 || r == -ECANCELED)
                        return r;
                if (kerror_is_set(sink_error)) {
                        kerror_move(reterr, sink_error);
                        return r;
                }
                if (i + 1 == s->n_registries)
                        kerror_move(reterr, &e);
        }

        return r;
}

static int blob_complete(Source *s, Blob *b, int dir_fd, const char *name, KError *reterr) {
        const RegistrySink sink = { .begin = on_begin, .data = on_data, .offset = on_offset, .userdata = b };
        char found[DIGEST_STRING_SIZE];
        int r;

        for (;;) {
                bool resumed = b->resumed;

                if (b->offset < b->descriptor->size) {
                        _cleanup_free_ char *path = strjoin("blobs/", b->descriptor->digest);
                        _cleanup_kerror_ KError e = KERROR_NULL;

                        if (!path)
                                return -ENOMEM;
                        r = check_space(b, reterr);
                        if (r < 0) {
                                (void) unlinkat(dir_fd, name, 0);
                                return r;
                        }
                        b->reterr = &e;
                        r = source_get(s, path, &sink, &e, reterr);
                        b->reterr = NULL;
                        if (r < 0 && (r == -EBADMSG || ERRNO_IS_DISK_SPACE(r) || b->offset == 0))
                                (void) unlinkat(dir_fd, name, 0);
                        if (r < 0) {
                                if (reterr && !startswith(kerror_message(reterr), "layer "))
                                        kerror_prefix(reterr, "layer %s", b->descriptor->digest);
                                return r;
                        }
                }

                if (b->offset < b->descriptor->size)
                        r = kerror_set(reterr, K_IMAGE,
                                        "layer %s is corrupt: the registry has only %llu of its %llu bytes",
                                        b->descriptor->digest, (unsigned long long) b->offset,
                                        (unsigned long long) b->descriptor->size);
                else {
                        r = digest_finish(&b->digest, found);
                        if (r < 0 || streq(found, b->descriptor->digest))
                                return r;
                        if (resumed) {
                                /* The old part may be what is wrong. */
                                r = blob_restart(b);
                                if (r < 0)
                                        return r;
                                if (lseek(b->fd, 0, SEEK_SET) < 0)
                                        return -errno;
                                continue;
                        }
                        r = kerror_set(reterr, K_IMAGE, "layer %s is corrupt: its content has the digest %s",
                                        b->descriptor->digest, found);
                }
                (void) unlinkat(dir_fd, name, 0);
                return r;
        }
}

int blob_fetch(Source *s, const Descriptor *d, int dir_fd, const char *name, int *ret_fd, KError *reterr) {
        _cleanup_(blob_done) Blob b = { .descriptor = d, .fd = -EBADF, .report = s->report };
        int r;

        /* Appending: a restart that truncates needs no seek. */
        b.fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (b.fd < 0)
                return kerror_set_errno(reterr, -errno, "layer %s cannot be stored: %m", d->digest);
        r = digest_init(&b.digest);
        if (r >= 0)
                r = blob_take_up(&b);
        if (r >= 0)
                r = blob_complete(s, &b, dir_fd, name, reterr);
        if (r < 0)
                return r;
        if (lseek(b.fd, 0, SEEK_SET) < 0)
                return -errno;

        *ret_fd = TAKE_FD(b.fd);
        return 0;
}

int blob_fetch_text(
                Source *s, const Descriptor *d, size_t max, char **ret, size_t *ret_size, KError *reterr) {
        _cleanup_free_ char *path = NULL;
        int r = -ENOENT;

        path = strjoin("blobs/", d->digest);
        if (!path)
                return -ENOMEM;

        for (size_t i = 0; i < s->n_registries; i++) {
                Registry *g = s->registries[(s->first + i) % s->n_registries];
                _cleanup_registry_answer_ RegistryAnswer answer = {};
                _cleanup_kerror_ KError e = KERROR_NULL;
                char found[DIGEST_STRING_SIZE];
                _cleanup_free_ char *text = NULL;
                size_t size;

                r = registry_get_text(g, s->repository, path, "*/*", max, &text, &size, &answer, &e);
                if (r >= 0) {
                        r = digest_of(text, size, found);
                        if (r < 0)
                                return r;
                        if (streq(found, d->digest)) {
                                *ret = TAKE_PTR(text);
                                *ret_size = size;
                                return 0;
                        }
                        r = kerror_set(&e, K_IMAGE,
                                        "its configuration %s is corrupt: its content has the digest %s",
                                        d->digest, found);
                }
                if (r == -ECANCELED || i + 1 == s->n_registries) {
                        kerror_move(reterr, &e);
                        return r;
                }
        }

        return r;
}
