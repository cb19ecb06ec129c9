/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "instance-root.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "file-util.h"
#include "instance-internal.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "rootfs.h"

#define CONFIG_SIZE_MAX (8U * SPEC_SIZE_MAX)
#define CGROUP_SIZE_MAX (64U * 1024U)

void instance_root_done(InstanceRoot *r) {
        FOREACH_ARRAY(fd, r->fds, r->n_fds)
                safe_close(*fd);
        r->fds = mfree(r->fds);
        r->n_fds = 0;
}

static int add(InstanceRoot *r, int fd) {
        int *larger;

        larger = reallocarray(r->fds, r->n_fds + 1, sizeof(int));
        if (!larger) {
                safe_close(fd);
                return -ENOMEM;
        }
        r->fds = larger;
        r->fds[r->n_fds++] = fd;
        return 0;
}

static bool is_in_unit(int process_fd, const char *unit) {
        _cleanup_free_ char *text = NULL, *name = strjoin("/", unit);
        _cleanup_strv_free_ char **lines = NULL;

        if (!name || read_file_at(process_fd, "cgroup", CGROUP_SIZE_MAX, &text, NULL) < 0 ||
                        strv_split(text, "\n", &lines) < 0)
                return false;
        STRV_FOREACH(l, lines) { /* older hierarchies may be beside the one that counts */
                const char *at = startswith(*l, "0::") ? strstr(*l, name) : NULL;

                if (at && (at[strlen(name)] == '/' || at[strlen(name)] == '\0'))
                        return true;
        }
        return false;
}

static int same_directory(int a, int b) {
        struct stat x, y;

        if (fstat(a, &x) < 0 || fstat(b, &y) < 0)
                return -errno;
        return x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* By way of a directory of /proc that stays this process' one: a number that is used again leads nowhere. And what it takes for its
 * root is the one that we have mounted, not this machine's. */
static int open_running(const Instance *i, int root, KError *reterr) {
        _cleanup_close_ int process = -EBADF, fd = -EBADF;
        _cleanup_free_ char *path = NULL;
        int r;

        path = strprintf("/proc/%u", instance_main_pid(i));
        if (!path)
                return -ENOMEM;
        process = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (process < 0)
                return -errno;
        fd = openat(process, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        r = same_directory(fd, root);
        if (r < 0)
                return r;
        if (r == 0 || !is_in_unit(process, unit_name(i->unit)))
                return kerror_set(reterr, K_CONFLICT,
                                "The files of instance %s-%u cannot be found just now.", instance_service(i),
                                instance_number(i));
        return TAKE_FD(fd);
}

/* Where something is mounted when it runs. */
static int add_hidden(InstanceRoot *r, const char *directory) {
        _cleanup_free_ char *path = strjoin(directory, "/config.json"), *text = NULL;
        _cleanup_json_ json_object *config = NULL;
        json_object *mounts = NULL;
        size_t size;
        int k;

        if (!path)
                return -ENOMEM;
        k = read_file(path, CONFIG_SIZE_MAX, &text, &size);
        if (k >= 0)
                k = json_parse(text, size, CONFIG_SIZE_MAX, &config, NULL);
        if (k >= 0)
                k = json_find_array(config, "mounts", &mounts, NULL);
        if (k < 0)
                return k;
        FOREACH_JSON_ARRAY(m, mounts) {
                struct open_how how = {
                        .flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
                        .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
                };
                const char *destination;
                int fd;

                if (json_get_string(m, "destination", &destination, NULL) < 0)
                        continue;
                fd = (int) syscall(SYS_openat2, r->fds[0], destination, &how, sizeof(how));
                if (fd < 0)
                        continue; /* a file, or nothing yet */
                if (r->n_fds >= ARCHIVE_DESCRIPTORS_MAX) {
                        safe_close(fd);
                        return -E2BIG;
                }
                k = add(r, fd);
                if (k < 0)
                        return k;
        }
        return 0;
}

int instance_root_open(const Instance *i, InstanceRoot *ret, KError *reterr) {
        _cleanup_(instance_root_done) InstanceRoot root = {};
        _cleanup_free_ char *directory = NULL, *path = NULL;
        _cleanup_close_ int fd = -EBADF;
        bool running;
        int r;

        if (i->want && i->want->spec->runtime == RUNTIME_NSPAWN)
                return kerror_set(reterr, K_NOT_SUPPORTED,
                                "Files are copied to and from containers only; with a machine as %s-%u run "
                                "tar in "
                                "it, by 'kontenactl exec -i'.",
                                instance_service(i), instance_number(i));
        running = i->unit && unit_state_is_running(unit_state(i->unit)) && instance_main_pid(i) > 0;
        directory = instance_generation_run_directory(i, i->record.generation);
        path = directory ? strjoin(directory, "/rootfs") : NULL;
        if (!path)
                return -ENOMEM;

        r = i->record.generation > 0 ? path_is_mount_point(path) : 0;
        if (r > 0)
                r = fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (r <= 0)
                return kerror_set(reterr, K_CONFLICT, "Instance %s-%u does not run (it is %s).",
                                instance_service(i), instance_number(i),
                                instance_state_to_string(instance_state_of(i)));
        if (running) {
                r = open_running(i, fd, reterr);
                if (r >= 0)
                        r = add(&root, r);
        } else {
                r = add(&root, TAKE_FD(fd));
                if (r >= 0)
                        r = add_hidden(&root, directory);
        }
        if (r < 0)
                return kerror_is_set(reterr) ? r
                                             : kerror_set_errno(reterr, r,
                                                               "The files of instance %s-%u cannot be "
                                                               "opened: %m.",
                                                               instance_service(i), instance_number(i));

        *ret = TAKE_GENERIC(root, (InstanceRoot){});
        return 0;
}
