/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "layer.h"

#include <fcntl.h>
#include <locale.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "file-util.h"
#include "string-util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* outer/root is where the layer goes, outer/lower is below it, and nothing else may be in outer afterwards. */
static void assert_only_ours(int fd) {
        _cleanup_(closedirp) DIR *d = NULL;
        struct dirent *de;
        size_t n = 0;

        d = fdopendir(openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        assert(d);
        while ((de = readdir(d)))
                n++;
        assert(n == 4); /* with . and .. */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        char path[] = "/dev/shm/fuzz-layer-XXXXXX", diff_id[DIGEST_STRING_SIZE];
        _cleanup_close_ int outer = -EBADF, root = -EBADF, lower = -EBADF, blob = -EBADF, file = -EBADF;
        LayerOptions o = {
                .lower_fds = &lower, .n_lower_fds = 1, .size_max = 1024 * 1024, .entries_max = 64
        };
        _cleanup_kerror_ KError e = KERROR_NULL;
        LayerStats stats;
        int r;

        (void) setlocale(LC_CTYPE, "C.UTF-8");
        if (!mkdtemp(path))
                return 0;
        outer = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert(outer >= 0 && mkdirat(outer, "root", 0755) >= 0 && mkdirat(outer, "lower", 0755) >= 0);
        root = openat(outer, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        lower = openat(outer, "lower", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        file = openat(lower, "f", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        blob = memfd_create("layer", MFD_CLOEXEC);
        assert(root >= 0 && lower >= 0 && file >= 0 && blob >= 0);
        assert(loop_write(blob, data, size) >= 0 && lseek(blob, 0, SEEK_SET) == 0);

        r = layer_unpack(blob, root, &o, diff_id, &stats, &e);
        assert(r >= 0 || r == -ENOMEM || kerror_is_set(&e));
        if (r >= 0)
                assert(stats.n_entries <= o.entries_max && stats.size <= o.size_max);
        assert_only_ours(outer);

        assert(rm_rf_at(AT_FDCWD, path) >= 0);
        return 0;
}
