/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <sys/stat.h>

#include "file-util.h"
#include "string-util.h"
#include "tar-path.h"
#include "tar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct Input {
        const uint8_t *data;
        size_t size;
} Input;

static int on_read(const void **ret, size_t *ret_size, void *userdata) {
        Input *in = userdata;

        *ret = in->data;
        *ret_size = MIN(in->size, (size_t) 700); /* not a multiple of a block */
        in->data += *ret_size;
        in->size -= *ret_size;
        return 0;
}

static size_t count(int fd) {
        _cleanup_(closedirp) DIR *d = NULL;
        struct dirent *de;
        size_t n = 0;

        d = fdopendir(openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        assert(d);
        while ((de = readdir(d)))
                n++;
        return n;
}

static void unpack(const uint8_t *data, size_t size, const TarOptions *o) {
        char path[] = "/dev/shm/fuzz-tar-XXXXXX";
        _cleanup_close_ int outer = -EBADF, root = -EBADF, file = -EBADF, volume = -EBADF;
        TarOptions options = *o;
        TarPlace hidden;
        Input in = { data, size };
        _cleanup_kerror_ KError e = KERROR_NULL;
        TarStats stats;
        int r;

        if (!mkdtemp(path))
                return;
        outer = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert(outer >= 0 && mkdirat(outer, "root", 0755) >= 0);
        root = openat(outer, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert(root >= 0 && symlinkat("..", root, "link") >= 0);
        file = openat(root, "file", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        assert(file >= 0);

        assert(mkdirat(root, "volume", 0755) >= 0);
        volume = openat(root, "volume", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert(volume >= 0 && tar_place(volume, &hidden) >= 0);
        options.hidden = &hidden;
        options.n_hidden = 1;

        r = tar_unpack(root, &options, on_read, &in, &stats, &e);
        assert(r >= 0 || r == -ENOMEM || kerror_is_set(&e));
        if (r >= 0)
                assert(stats.n_entries <= o->entries_max && stats.size <= o->size_max);
        /* outer/root is where the archive goes, and nothing else may be in outer afterwards; nothing at all in what is hidden. With . and .. */
        assert(count(outer) == 3 && count(volume) == 2);
        (void) fchmod(root, 0755);
        assert(rm_rf_at(AT_FDCWD, path) >= 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        unpack(data, size,
                        &(TarOptions){ .owner = TAR_OWNER_SELF,
                                        .rename = "here",
                                        .size_max = 1024 * 1024,
                                        .entries_max = 64 });
        unpack(data, size,
                        &(TarOptions){ .owner = TAR_OWNER_KEEP,
                                        .private = true,
                                        .one_device = true,
                                        .devices = true,
                                        .size_max = 1024 * 1024,
                                        .entries_max = 64 });
        return 0;
}
