/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <limits.h>
#include <locale.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <uthash.h>

#include "file-util.h"
#include "kontena-limits.h"
#include "string-util.h"
#include "tar-internal.h"
#include "tar-metadata.h"
#include "tar-path.h"
#include "tar.h"

#define BLOCK_SIZE      (64U * 1024U)
#define LAST_BLOCK_SIZE 10240U /* what other archivers end with */
#define READ_SIZE       (256U * 1024U)
/* Zeros of which no page is ever there: nobody looks at those of a hole. A file may be of exabytes. */
#define ZEROS_SIZE      (UINT64_C(1) << 30)
#define ZEROS_PROGRESS  1024U

/* A file with several names that was packed under the first. */
typedef struct Linked {
        struct {
                dev_t device;
                ino_t inode;
        } key;
        char *path;
        UT_hash_handle hh;
} Linked;

typedef struct Pack {
        const TarOptions *options;
        struct archive *archive;
        tar_write_t write;
        void *userdata;
        int write_error;
        bool over;
        char path[IMAGE_PATH_MAX + NAME_MAX + 2]; /* in the archive, of what is being packed */
        size_t path_length;
        uint8_t *buffer;      /* READ_SIZE */
        const uint8_t *zeros; /* ZEROS_SIZE; NULL before */
        Linked *linked;
        TarStats stats;
        KError *reterr;
} Pack;

static void pack_done(Pack *p) {
        Linked *l, *next;

        p->over = true; /* it would write an end, and fill up what is half */
        if (p->archive)
                archive_write_free(p->archive);
        HASH_ITER(hh, p->linked, l, next) {
                HASH_DEL(p->linked, l);
                free(l->path);
                free(l);
        }
        free(p->buffer);
        if (p->zeros)
                (void) munmap((void *) (uintptr_t) p->zeros, ZEROS_SIZE);
}

static int fail_pack(Pack *p, int error) {
        if (error == -ENOMEM || kerror_is_set(p->reterr))
                return error;
        return kerror_set_errno(p->reterr, error, "'%s' cannot be read: %m", p->path);
}

static int fail_write(Pack *p) {
        if (p->write_error < 0)
                return kerror_set_errno(p->reterr, p->write_error, "the archive cannot be written: %m");
        return archive_errno(p->archive) == ENOMEM
                               ? -ENOMEM
                               : kerror_set(p->reterr, K_INTERNAL, "'%s' cannot be archived: %s", p->path,
                                                 strna(archive_error_string(p->archive)));
}

static la_ssize_t on_write(struct archive *a, void *userdata, const void *data, size_t size) {
        Pack *p = userdata;
        int r;

        if (p->over)
                return -1;
        r = p->write(data, size, p->userdata);
        if (r < 0) {
                p->write_error = r;
                archive_set_error(a, -r, "%s", "unwritable");
                return -1;
        }
        return (la_ssize_t) size;
}

/* 1: it was packed before, under another name that is now in the entry. */
static int look_up_link(Pack *p, const struct stat *st, struct archive_entry *entry) {
        Linked *l, key = {};
        int r = -ENOMEM;

        if (S_ISDIR(st->st_mode) || st->st_nlink < 2)
                return 0;
        key.key.device = st->st_dev;
        key.key.inode = st->st_ino;
        HASH_FIND(hh, p->linked, &key.key, sizeof(key.key), l);
        if (l) {
                archive_entry_copy_hardlink(entry, l->path);
                return 1;
        }

        l = new0(Linked, 1);
        if (!l)
                return -ENOMEM;
        l->key = key.key;
        l->path = strdup(p->path);
        if (l->path) {
                HASH_ADD(hh, p->linked, key, sizeof(l->key), l);
                if (l->hh.tbl)
                        return 0;
        }
        free(l->path);
        free(l);
        return r;
}

static int report_progress(Pack *p) {
        return p->options->progress ? p->options->progress(p->stats.size, p->options->userdata) : 0;
}

static int count_size(Pack *p, uint64_t size) {
        const TarOptions *o = p->options;

        p->stats.size += size;
        if (o->size_max > 0 && p->stats.size > o->size_max)
                return kerror_set(p->reterr, K_LIMIT_EXCEEDED, "there are more than %llu bytes in it",
                                (unsigned long long) o->size_max);
        return report_progress(p);
}

/* Where data is, if there are holes. The list is as it was when the entry began, whatever is written meanwhile. */
static int add_holes(int fd, const struct stat *st, struct archive_entry *entry) {
        off_t at = 0;
        bool any = false;

        if ((uint64_t) st->st_blocks * 512 >= (uint64_t) st->st_size)
                return 0;
        while (at < st->st_size) {
                off_t data = lseek(fd, at, SEEK_DATA), hole;

                if (data < 0 && errno == ENXIO)
                        break;
                if (data < 0)
                        return errno == EINVAL ? 0 : -errno; /* a file system without holes */
                hole = lseek(fd, data, SEEK_HOLE);
                if (hole < 0)
                        return -errno;
                data = MIN(data, st->st_size);
                hole = MIN(hole, st->st_size);
                if (hole > data) {
                        archive_entry_sparse_add_entry(entry, data, hole - data);
                        any = true;
                }
                if (hole <= at)
                        break;
                at = hole;
        }
        if (!any)
                archive_entry_sparse_add_entry(entry, 0, 0);
        return 0;
}

static int write_data(Pack *p, const void *data, size_t size) {
        const uint8_t *at = data;

        while (size > 0) {
                la_ssize_t n = archive_write_data(p->archive, at, size);

                if (n <= 0)
                        return fail_write(p);
                at += n;
                size -= (size_t) n;
        }
        return 0;
}

/* Zeros of holes are not in the archive, but its writer counts them. */
static int write_hole(Pack *p, int64_t size) {
        for (unsigned n = 0; size > 0; n++) {
                size_t part = (size_t) MIN(size, (int64_t) ZEROS_SIZE);
                int r;

                r = write_data(p, p->zeros, part);
                if (r >= 0 && n % ZEROS_PROGRESS == 0)
                        r = report_progress(p);
                if (r < 0)
                        return r;
                size -= (int64_t) part;
        }
        return 0;
}

/* From offset on. */
static int write_part(Pack *p, int fd, int64_t offset, int64_t size) {
        bool shorter = false;

        while (size > 0) {
                size_t want = (size_t) MIN(size, (int64_t) READ_SIZE);
                ssize_t n = 0;
                int r;

                if (!shorter) {
                        n = pread(fd, p->buffer, want, offset);
                        if (n < 0 && errno == EINTR)
                                continue;
                        if (n < 0)
                                return fail_pack(p, -errno);
                        if (n == 0) { /* filled up */
                                p->stats.n_changed++;
                                shorter = true;
                                memset(p->buffer, 0, READ_SIZE);
                        }
                }
                r = shorter ? report_progress(p) : count_size(p, (uint64_t) n);
                n = shorter ? (ssize_t) want : n;
                if (r >= 0)
                        r = write_data(p, p->buffer, (size_t) n);
                if (r < 0)
                        return r;
                offset += n;
                size -= n;
        }
        return 0;
}

static int write_content(Pack *p, int fd, const struct stat *st, struct archive_entry *entry) {
        int64_t offset, length, at = 0;
        int r;

        if (archive_entry_sparse_reset(entry) == 0)
                return write_part(p, fd, 0, st->st_size);
        while (archive_entry_sparse_next(entry, &offset, &length) == ARCHIVE_OK) {
                r = write_hole(p, offset - at);
                if (r >= 0)
                        r = write_part(p, fd, offset, length);
                if (r < 0)
                        return r;
                at = offset + length;
        }
        return write_hole(p, st->st_size - at);
}

static int read_link(int fd, struct archive_entry *entry) {
        char target[PATH_MAX + 1];
        ssize_t n;

        n = readlinkat(fd, "", target, sizeof(target) - 1);
        if (n < 0)
                return -errno;
        target[n] = '\0';
        archive_entry_copy_symlink(entry, target);
        return 0;
}

static bool is_wanted(const Pack *p, const struct stat *st) {
        if (S_ISREG(st->st_mode) || S_ISDIR(st->st_mode) || S_ISLNK(st->st_mode))
                return true;
        return p->options->devices &&
               (S_ISFIFO(st->st_mode) || S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode));
}

static bool is_hidden(const Pack *p, const struct stat *st) {
        FOREACH_ARRAY(h, p->options->hidden, p->options->n_hidden)
                if (h->device == st->st_dev && h->inode == st->st_ino)
                        return true;
        return false;
}

/* All but the content. fd is an O_PATH one, and file another for reading, for files. */
static int write_header(Pack *p, int fd, int file, const struct stat *st, struct archive_entry *entry) {
        bool linked;
        int r;

        archive_entry_copy_pathname(entry, p->path);
        archive_entry_set_mode(entry, st->st_mode);
        archive_entry_set_uid(entry, tar_user_of(st->st_uid, p->options));
        archive_entry_set_gid(entry, tar_user_of(st->st_gid, p->options));
        archive_entry_set_mtime(entry, st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
        if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode))
                archive_entry_set_rdev(entry, st->st_rdev);

        r = look_up_link(p, st, entry);
        linked = r > 0;
        archive_entry_set_size(entry, S_ISREG(st->st_mode) && !linked ? st->st_size : 0);
        if (r >= 0 && S_ISLNK(st->st_mode))
                r = read_link(fd, entry);
        if (r >= 0 && !linked && !S_ISLNK(st->st_mode))
                r = tar_metadata_pack(fd, entry, p->options, &p->stats.n_skipped);
        if (r >= 0 && !linked && S_ISREG(st->st_mode))
                r = add_holes(file, st, entry);
        if (r < 0)
                return fail_pack(p, r);

        if (archive_write_header(p->archive, entry) < ARCHIVE_WARN)
                return fail_write(p);
        return linked;
}

static int pack_one(Pack *p, int parent, const char *name, dev_t device, unsigned depth);

static int pack_children(Pack *p, int fd, dev_t device, unsigned depth) {
        _cleanup_(closedirp) DIR *d = NULL;
        size_t length = p->path_length;
        int copy, r;

        if (depth > IMAGE_DEPTH_MAX)
                return kerror_set(p->reterr, K_LIMIT_EXCEEDED, "'%s' is too deep", p->path);
        copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (copy < 0)
                return fail_pack(p, -errno);
        d = fdopendir(copy);
        if (!d) {
                r = -errno;
                safe_close(copy);
                return fail_pack(p, r);
        }

        for (;;) {
                struct dirent *de;
                size_t n;

                errno = 0;
                de = readdir(d);
                if (!de)
                        return errno > 0 ? fail_pack(p, -errno) : 0;
                if (STR_IN_SET(de->d_name, ".", ".."))
                        continue;
                n = strlen(de->d_name);
                if (length + 1 + n > IMAGE_PATH_MAX)
                        return kerror_set(p->reterr, K_LIMIT_EXCEEDED,
                                        "'%s' has a path of more than %u bytes in it", p->path,
                                        IMAGE_PATH_MAX);
                p->path[length] = '/';
                memcpy(p->path + length + 1, de->d_name, n + 1);
                p->path_length = length + 1 + n;

                r = pack_one(p, dirfd(d), de->d_name, device, depth + 1);
                p->path[length] = '\0';
                p->path_length = length;
                if (r < 0)
                        return r;
        }
}

static int open_again(int fd, int flags) {
        char path[sizeof("/proc/self/fd/-2147483648")];
        int r;

        (void) snprintf(path, sizeof(path), "/proc/self/fd/%i", fd);
        r = open(path, flags | O_CLOEXEC | O_NONBLOCK);
        return r < 0 ? -errno : r;
}

/* First a descriptor that does nothing, then a look at what it is: opening a FIFO would wait, opening a device might rewind it. */
static int pack_one(Pack *p, int parent, const char *name, dev_t device, unsigned depth) {
        _cleanup_(archive_entry_freep) struct archive_entry *entry = NULL;
        _cleanup_close_ int fd = -EBADF, file = -EBADF;
        struct stat st;
        int r;

        fd = openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 && errno == ENOENT && depth > 0)
                return 0; /* gone meanwhile */
        if (fd < 0 || fstat(fd, &st) < 0)
                return fail_pack(p, -errno);
        if (!is_wanted(p, &st)) {
                p->stats.n_skipped++;
                return 0;
        }
        if (st.st_dev != device) {
                r = p->options->one_device ? 1 : tar_is_kernel_file_system(fd);
                if (r < 0)
                        return fail_pack(p, r);
                if (r > 0) {
                        p->stats.n_skipped++;
                        return 0;
                }
        }
        if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)) {
                file = open_again(fd, O_RDONLY);
                if (file < 0)
                        return fail_pack(p, file);
        }

        if (p->stats.n_entries >= (p->options->entries_max ?: TAR_ENTRIES_MAX))
                return kerror_set(p->reterr, K_LIMIT_EXCEEDED, "there are more than %llu files in it",
                                (unsigned long long) p->stats.n_entries);
        p->stats.n_entries++;

        entry = archive_entry_new();
        if (!entry)
                return -ENOMEM;
        r = write_header(p, fd, file, &st, entry);
        if (r == 0 && S_ISREG(st.st_mode))
                r = write_content(p, file, &st, entry);
        if (r < 0)
                return r;
        if (archive_write_finish_entry(p->archive) < ARCHIVE_WARN)
                return fail_write(p);
        if (S_ISDIR(st.st_mode) && is_hidden(p, &st)) { /* only what it is to be mounted over */
                p->stats.n_skipped++;
                return 0;
        }
        return S_ISDIR(st.st_mode) ? pack_children(p, file, st.st_dev, depth) : 0;
}

static int open_archive(Pack *p) {
        void *zeros;

        p->archive = archive_write_new();
        p->buffer = malloc(READ_SIZE);
        if (!p->archive || !p->buffer)
                return -ENOMEM;
        zeros = mmap(NULL, ZEROS_SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (zeros == MAP_FAILED)
                return -errno;
        p->zeros = zeros;
        if (archive_write_set_format_pax(p->archive) != ARCHIVE_OK ||
                        archive_write_add_filter_none(p->archive) != ARCHIVE_OK ||
                        archive_write_set_options(p->archive, "xattrheader=SCHILY") != ARCHIVE_OK ||
                        archive_write_set_bytes_per_block(p->archive, (int) BLOCK_SIZE) != ARCHIVE_OK ||
                        archive_write_set_bytes_in_last_block(p->archive, (int) LAST_BLOCK_SIZE) !=
                                        ARCHIVE_OK)
                return -EOPNOTSUPP;
        if (archive_write_open(p->archive, p, NULL, on_write, NULL) != ARCHIVE_OK)
                return fail_write(p);
        return 0;
}

int tar_pack(int dir_fd, const char *name, const char *as, const TarOptions *o, tar_write_t write,
                void *userdata, TarStats *ret, KError *reterr) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        _cleanup_(pack_done) Pack p = {
                .options = o, .write = write, .userdata = userdata, .reterr = reterr ?: &error
        };
        _cleanup_(tar_locale_donep) _unused_ locale_t locale = tar_locale_begin();
        struct stat st;
        int r;

        assert(dir_fd >= 0);
        assert(strlen(as) <= NAME_MAX);

        p.path_length = strlen(as);
        memcpy(p.path, as, p.path_length + 1);
        r = open_archive(&p);
        if (r < 0)
                return r;
        if (fstat(dir_fd, &st) < 0)
                return fail_pack(&p, -errno);
        r = pack_one(&p, dir_fd, name, st.st_dev, 0);
        if (r < 0)
                return r;
        if (p.stats.n_entries == 0)
                return kerror_set(reterr, K_NOT_SUPPORTED, "'%s' is neither a file nor a directory", p.path);
        if (archive_write_close(p.archive) < ARCHIVE_WARN)
                return fail_write(&p);

        *ret = p.stats;
        return 0;
}
