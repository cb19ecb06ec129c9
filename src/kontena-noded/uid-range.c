/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "uid-range.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include "file-util.h"
#include "parse-util.h"
#include "string-util.h"

/* FNV-1a: two that start at once do not look at the same place first. */
static uint32_t hash(const char *s) {
        uint32_t h = 2166136261U;

        for (; *s; s++)
                h = (h ^ (uint8_t) *s) * 16777619U;
        return h;
}

static bool is_holder(int dir, const char *name, const char *id) {
        char target[256];
        ssize_t n;

        n = readlinkat(dir, name, target, sizeof(target));
        return n > 0 && (size_t) n == strlen(id) && memcmp(target, id, (size_t) n) == 0;
}

/* Calls found(dir, name) for each link of the id; 1 when there was one. */
static int find(DIR *d, const char *id, unsigned *ret_index, bool remove) {
        struct dirent *de;
        int found = 0;

        rewinddir(d);
        while ((de = readdir(d))) {
                unsigned index;

                if (safe_atou(de->d_name, &index) < 0 || index >= UID_RANGES ||
                                !is_holder(dirfd(d), de->d_name, id))
                        continue;
                if (remove && unlinkat(dirfd(d), de->d_name, 0) < 0 && errno != ENOENT)
                        return -errno;
                if (ret_index)
                        *ret_index = index;
                found = 1;
        }

        return found;
}

int uid_range_claim(const char *directory, const char *id, uint32_t *ret_base, KError *reterr) {
        _cleanup_(closedirp) DIR *d = NULL;
        unsigned index;
        int r;

        assert(id);
        assert(ret_base);

        r = mkdir_p(directory, 0755);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make '%s': %m", directory);
        d = opendir(directory);
        if (!d)
                return kerror_set_errno(reterr, -errno, "Cannot open '%s': %m", directory);

        r = find(d, id, &index, false);
        for (unsigned i = 0; r == 0 && i < UID_RANGES; i++) {
                char name[16];

                index = (hash(id) + i) % UID_RANGES;
                (void) snprintf(name, sizeof(name), "%u", index);
                if (symlinkat(id, dirfd(d), name) >= 0)
                        r = 1;
                else if (errno != EEXIST)
                        r = -errno;
        }
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot take a range of users for instance '%s': %m", id);
        if (r == 0)
                return kerror_set(reterr, K_LIMIT_EXCEEDED,
                                "All %u ranges of users for machines on this node are taken.", UID_RANGES);

        *ret_base = UID_RANGE_FIRST + index * UID_RANGE_SIZE;
        return 0;
}

int uid_range_release(const char *directory, const char *id) {
        _cleanup_(closedirp) DIR *d = NULL;

        d = opendir(directory);
        if (!d)
                return errno == ENOENT ? 0 : -errno;
        return MIN(find(d, id, NULL, true), 0);
}
