/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kept-data.h"

#include <stdio.h>
#include <sys/stat.h>

#include "file-util.h"
#include "json-util.h"
#include "string-util.h"

#define VOLUMES        "/volumes"
#define ABOUT          "/about.json"
#define ABOUT_SIZE_MAX 4096U
#define PLACES_MAX     100U

/* 1 when there is something in the directory; a link to one is none. */
static int is_filled(const char *path) {
        _cleanup_(closedirp) DIR *d = NULL;
        _cleanup_close_ int fd = -EBADF;
        struct dirent *de;

        fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return errno == ENOENT || errno == ENOTDIR || errno == ELOOP ? 0 : -errno;
        d = fdopendir(fd);
        if (!d)
                return -errno;
        fd = -EBADF;
        for (errno = 0; (de = readdir(d));)
                if (!streq(de->d_name, ".") && !streq(de->d_name, ".."))
                        return 1;
        return -errno;
}

int kept_has_data(const char *directory) {
        _cleanup_free_ char *path = strjoin(directory, VOLUMES);

        return path ? is_filled(path) : -ENOMEM;
}

/* Where it goes: beside what is kept of it already, should it come a second time. */
static int choose_place(const char *instances, const char *id, char **ret) {
        for (unsigned n = 1; n <= PLACES_MAX; n++) {
                _cleanup_free_ char *place = NULL;
                int r;

                place = n == 1 ? strjoin(instances, "/" KEPT_DIRECTORY "/", id)
                               : strprintf("%s/" KEPT_DIRECTORY "/%s.%u", instances, id, n);
                if (!place)
                        return -ENOMEM;
                r = kept_has_data(place);
                if (r < 0)
                        return r;
                if (r > 0)
                        continue;
                *ret = TAKE_PTR(place);
                return 0;
        }
        return -EEXIST;
}

int kept_put(const char *instances, const char *id, const char *about) {
        _cleanup_free_ char *place = NULL, *from = NULL, *to = NULL, *file = NULL;
        int r;

        assert(instances);
        assert(id);
        assert(about);

        r = choose_place(instances, id, &place);
        if (r < 0)
                return r;
        from = strjoin(instances, "/", id, VOLUMES);
        to = strjoin(place, VOLUMES);
        file = strjoin(place, ABOUT);
        if (!from || !to || !file)
                return -ENOMEM;

        r = mkdir_p(place, 0700);
        if (r >= 0)
                r = write_file_atomic(file, about, strlen(about), 0600);
        if (ERRNO_IS_DISK_SPACE(r)) /* what it is about matters less than that a full disk is emptied */
                r = 0;
        if (r >= 0)
                r = fsync_directory_of(place);
        if (r < 0)
                return r;
        /* Over an empty directory at most. */
        if (rename(from, to) < 0)
                return errno == ENOENT ? 0 : -errno;
        r = fsync_directory_of(to);
        return r < 0 ? r : fsync_directory_of(from);
}

int kept_find(const char *instances, const char *id) {
        _cleanup_free_ char *place = strjoin(instances, "/" KEPT_DIRECTORY "/", id);

        return place ? kept_has_data(place) : -ENOMEM;
}

int kept_take_back(const char *instances, const char *id) {
        _cleanup_free_ char *place = NULL, *from = NULL, *to = NULL, *file = NULL, *directory = NULL;
        int r;

        r = kept_find(instances, id);
        if (r <= 0)
                return r;
        place = strjoin(instances, "/" KEPT_DIRECTORY "/", id);
        directory = strjoin(instances, "/", id);
        if (!place || !directory)
                return -ENOMEM;
        r = kept_has_data(directory);
        if (r != 0)
                return MIN(r, 0);
        from = strjoin(place, VOLUMES);
        file = strjoin(place, ABOUT);
        to = strjoin(directory, VOLUMES);
        if (!from || !file || !to)
                return -ENOMEM;

        r = mkdir_p(directory, 0700);
        if (r < 0)
                return r;
        if (rename(from, to) < 0)
                return -errno;
        /* What is left says nothing any more. */
        (void) unlink(file);
        (void) rmdir(place);
        return 1;
}

static int describe(const char *directory, const char *name, json_object **ret) {
        _cleanup_free_ char *path = strjoin(directory, "/", name, ABOUT), *text = NULL;
        _cleanup_json_ json_object *o = json_object_new_object(), *about = NULL;
        static const char *const keys[] = { "grid", "stack", "service", "number", "kept_at" };
        size_t size;
        int r;

        if (!path || !o)
                return -ENOMEM;
        r = json_add_string(o, "id", name);
        if (r < 0)
                return r;
        if (read_file(path, ABOUT_SIZE_MAX, &text, &size) >= 0 &&
                        json_parse(text, size, ABOUT_SIZE_MAX, &about, NULL) >= 0 &&
                        json_object_is_type(about, json_type_object))
                FOREACH_ARRAY(k, keys, ELEMENTSOF(keys)) {
                        json_object *value;

                        if (!json_object_object_get_ex(about, *k, &value))
                                continue;
                        r = json_add(o, *k, json_object_get(value));
                        if (r < 0)
                                return r;
                }

        *ret = TAKE_PTR(o);
        return 0;
}

int kept_list(const char *instances, size_t max, json_object **ret) {
        _cleanup_free_ char *directory = strjoin(instances, "/" KEPT_DIRECTORY);
        _cleanup_json_ json_object *l = json_object_new_array();
        _cleanup_(closedirp) DIR *d = NULL;
        struct dirent *de;
        int r;

        if (!directory || !l)
                return -ENOMEM;
        d = opendir(directory);
        if (!d && errno != ENOENT)
                return -errno;
        while (d && json_object_array_length(l) < max && (de = readdir(d))) {
                json_object *o;

                if (de->d_name[0] == '.')
                        continue;
                r = describe(directory, de->d_name, &o);
                if (r >= 0)
                        r = json_append(l, o);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(l);
        return 0;
}

bool kept_is_empty(const char *instances) {
        _cleanup_free_ char *directory = strjoin(instances, "/" KEPT_DIRECTORY);

        return directory && is_filled(directory) == 0;
}
