/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "file-util.h"
#include "image-layout.h"
#include "image-reference.h"
#include "layer.h"
#include "string-util.h"

#define LOCK_POLL_USEC (200U * USEC_PER_MSEC)

void store_done(Store *s) {
        s->layers_fd = safe_close(s->layers_fd);
        s->staging_fd = safe_close(s->staging_fd);
        s->lock_fd = safe_close(s->lock_fd);
        s->fd = safe_close(s->fd);
}

static int open_all(Store *s, const char *path) {
        s->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (s->fd < 0)
                return -errno;
        s->layers_fd = openat(s->fd, IMAGE_LAYERS_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        s->staging_fd = s->layers_fd < 0 ? -EBADF
                                         : openat(s->fd, IMAGE_STAGING_DIR,
                                                           O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        s->lock_fd = s->staging_fd < 0 ? -EBADF
                                       : openat(s->fd, IMAGE_LOCK_FILE,
                                                         O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (s->lock_fd < 0)
                return -errno;

        /* noded has it for moments only. */
        return flock(s->lock_fd, LOCK_SH) < 0 ? -errno : 0;
}

int store_open(const char *path, Store *ret, KError *reterr) {
        Store s = { .fd = -EBADF, .layers_fd = -EBADF, .staging_fd = -EBADF, .lock_fd = -EBADF };
        int r;

        r = open_all(&s, path);
        if (r < 0) {
                store_done(&s);
                return kerror_set_errno(reterr, r, "the image store '%s' cannot be used: %m", path);
        }

        *ret = s;
        return 0;
}

static int has_layer(Store *s, const char *hex) {
        struct stat st;

        if (fstatat(s->layers_fd, hex, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? 0 : -errno;
        return S_ISDIR(st.st_mode) ? 1 : -ENOTDIR;
}

/* By either of its names. */
static int find_layer(Store *s, const char *diff_hex, const char *chain_hex, char **ret) {
        const char *name = diff_hex;
        int r;

        r = has_layer(s, diff_hex);
        if (r == 0) {
                r = has_layer(s, chain_hex);
                name = chain_hex;
        }
        if (r <= 0)
                return r;

        *ret = strdup(name);
        return *ret ? 1 : -ENOMEM;
}

/* One process works on a layer at a time. The holder removes the file when done, so that what one gets may be a file
 * which is gone: then again. */
static int lock_layer(Store *s, Report *report, const char *name, int *ret) {
        for (;;) {
                _cleanup_close_ int fd = -EBADF;
                struct stat a, b;
                int r;

                fd = openat(s->staging_fd, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
                if (fd < 0)
                        return -errno;
                while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
                        if (errno != EWOULDBLOCK && errno != EINTR)
                                return -errno;
                        report->phase = REPORT_WAITING;
                        r = report_progress(report);
                        if (r >= 0)
                                r = report_sleep(report, LOCK_POLL_USEC);
                        if (r < 0)
                                return r;
                }
                if (fstat(fd, &a) < 0)
                        return -errno;
                if (fstatat(s->staging_fd, name, &b, AT_SYMLINK_NOFOLLOW) >= 0 && a.st_ino == b.st_ino &&
                                a.st_dev == b.st_dev) {
                        *ret = TAKE_FD(fd);
                        return 0;
                }
        }
}

static int on_progress(uint64_t bytes, void *userdata) {
        return report_progress(userdata);
}

typedef struct Lowers {
        int *fds;
        size_t n;
} Lowers;

static void lowers_done(Lowers *l) {
        FOREACH_ARRAY(fd, l->fds, l->n)
                safe_close(*fd);
        free(l->fds);
}

/* Top first. */
static int open_lowers(Store *s, char *const *below, Lowers *l) {
        size_t n = strv_length(below);

        l->fds = new0(int, n + 1);
        if (!l->fds)
                return -ENOMEM;
        while (n-- > 0) {
                int fd = openat(s->layers_fd, below[n], O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

                if (fd < 0)
                        return -errno;
                l->fds[l->n++] = fd;
        }

        return 0;
}

/* Into staging/tree. Returns 1 if the content is good on these layers only. */
static int unpack(Store *s, Report *report, int blob_fd, const char *tree, const char *diff_id,
                char *const *below, KError *reterr) {
        _cleanup_(lowers_done) Lowers lowers = {};
        LayerOptions o = { .size_max = s->size_left,
                .entries_max = s->entries_left,
                .progress = on_progress,
                .userdata = report };
        _cleanup_close_ int root_fd = -EBADF;
        char found[DIGEST_STRING_SIZE];
        LayerStats stats;
        int depends, r;

        r = open_lowers(s, below, &lowers);
        if (r >= 0)
                r = rm_rf_at(s->staging_fd, tree); /* of an attempt that was killed */
        if (r < 0)
                return kerror_set_errno(reterr, r, "the image store is damaged: %m");
        if (mkdirat(s->staging_fd, tree, 0755) < 0)
                return kerror_set_errno(reterr, -errno, "no directory can be made for it: %m");
        root_fd = openat(s->staging_fd, tree, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (root_fd < 0 || fchmod(root_fd, 0755) < 0 || fchown(root_fd, 0, 0) < 0)
                return kerror_set_errno(reterr, -errno, "no directory can be made for it: %m");

        o.lower_fds = lowers.fds;
        o.n_lower_fds = lowers.n;
        depends = layer_unpack(blob_fd, root_fd, &o, found, &stats, reterr);
        if (depends < 0)
                return depends;
        if (!streq(found, diff_id))
                return kerror_set(reterr, K_IMAGE, "it is corrupt: unpacked it has the digest %s, not %s",
                                found, diff_id);

        s->size_left -= MIN(s->size_left, stats.size);
        s->entries_left -= MIN(s->entries_left, stats.n_entries);
        s->n_devices += stats.n_devices;
        s->n_xattrs += stats.n_xattrs;
        return depends;
}

/* A name in layers/ stands for a whole layer, also after the power failed: first everything to the disk. */
static int commit(Store *s, const char *tree, const char *name) {
        if (syncfs(s->staging_fd) < 0 || renameat(s->staging_fd, tree, s->layers_fd, name) < 0 ||
                        fsync(s->layers_fd) < 0)
                return -errno;

        return 0;
}

static int make_layer(Store *s, Source *source, const Descriptor *d, const char *diff_id,
                const char *chain_hex, char *const *below, char **ret_name, KError *reterr) {
        _cleanup_free_ char *blob = NULL, *tree = NULL, *name = NULL;
        Report *report = source->report;
        _cleanup_close_ int fd = -EBADF;
        int r;

        tree = strjoin(IMAGE_TREE_PREFIX, digest_hex(diff_id));
        /* Both numbers: one blob may be claimed by two layers, and one of them rightly. */
        blob = strjoin(IMAGE_BLOB_PREFIX, digest_hex(diff_id), "-", digest_hex(d->digest));
        if (!tree || !blob)
                return -ENOMEM;

        report->phase = REPORT_FETCHING;
        r = blob_fetch(source, d, s->staging_fd, blob, &fd, reterr);
        if (r < 0)
                return r;

        report->phase = REPORT_UNPACKING;
        (void) report_progress(report);
        r = unpack(s, report, fd, tree, diff_id, below, reterr);
        if (r >= 0) {
                name = strdup(r > 0 ? chain_hex : digest_hex(diff_id));
                r = name ? commit(s, tree, name) : -ENOMEM;
                if (r < 0)
                        (void) kerror_set_errno(reterr, r, "it cannot be put in place: %m");
        }
        if (r < 0)
                (void) rm_rf_at(s->staging_fd, tree);
        /* What does not unpack will not next time; what was cancelled may. */
        if (r != -ECANCELED)
                (void) unlinkat(s->staging_fd, blob, 0);
        if (r < 0) {
                kerror_prefix(reterr, "layer %s", d->digest);
                return r;
        }

        *ret_name = TAKE_PTR(name);
        return 0;
}

int store_layer(Store *s, Source *source, const Descriptor *d, const char *diff_id, const char *chain_id,
                char *const *below, char **ret_name, KError *reterr) {
        const char *diff_hex = digest_hex(diff_id), *chain_hex = digest_hex(chain_id);
        _cleanup_free_ char *lock = NULL;
        _cleanup_close_ int fd = -EBADF;
        uint64_t before = source->report->bytes;
        int r;

        r = find_layer(s, diff_hex, chain_hex, ret_name);
        if (r == 0) {
                lock = strjoin(IMAGE_LAYER_LOCK_PREFIX, diff_hex);
                if (!lock)
                        return -ENOMEM;
                r = lock_layer(s, source->report, lock, &fd);
                if (r < 0)
                        return r == -ECANCELED ? r
                                               : kerror_set_errno(reterr, r, "layer %s cannot be locked: %m",
                                                                 d->digest);
                r = find_layer(s, diff_hex, chain_hex, ret_name);
                if (r == 0)
                        r = make_layer(s, source, d, diff_id, chain_hex, below, ret_name, reterr);
                (void) unlinkat(s->staging_fd, lock, 0);
        }
        if (r < 0)
                return r;

        source->report->bytes = before + d->size;
        return 0;
}
