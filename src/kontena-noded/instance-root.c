/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "instance-root.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "file-util.h"
#include "instance-internal.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "parse-util.h"
#include "process-list.h"
#include "rootfs.h"
#include "uid-range.h"

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

/* The unit's control group, if the process is in it or below. */
static int find_group(int process_fd, const char *unit, char **ret) {
        _cleanup_free_ char *text = NULL, *name = strjoin("/", unit);
        _cleanup_strv_free_ char **lines = NULL;
        int r;

        if (!name)
                return -ENOMEM;
        r = read_file_at(process_fd, "cgroup", CGROUP_SIZE_MAX, &text, NULL);
        if (r >= 0)
                r = strv_split(text, "\n", &lines);
        if (r < 0)
                return r;
        STRV_FOREACH(l, lines) { /* older hierarchies may be beside the one that counts */
                const char *group = startswith(*l, "0::"), *end = group ? strstr(group, name) : NULL;

                if (!end || !strchr("/", end[strlen(name)]))
                        continue;
                *ret = strndup(group, (size_t) (end - group) + strlen(name));
                return *ret ? 0 : -ENOMEM;
        }
        return -ESRCH;
}

static int same_directory(int a, int b) {
        struct stat x, y;

        if (fstat(a, &x) < 0 || fstat(b, &y) < 0)
                return -errno;
        return x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* The first of a machine's users; 0 in the first of all user namespaces. One that somebody has made in the machine is not it. */
static int read_uid_base(int process_fd, uint32_t *ret) {
        _cleanup_strv_free_ char **words = NULL;
        _cleanup_free_ char *text = NULL;
        uint64_t base, size;
        int r;

        r = read_file_at(process_fd, "uid_map", CGROUP_SIZE_MAX, &text, NULL);
        if (r >= 0)
                r = strv_split(text, " \n", &words);
        if (r < 0)
                return r;
        if (strv_length(words) < 3 || !streq(words[0], "0") || safe_atou64(words[1], &base) < 0 ||
                        safe_atou64(words[2], &size) < 0 || base >= UINT32_MAX ||
                        (base > 0 && size != UID_RANGE_SIZE))
                return -ESRCH;

        *ret = (uint32_t) base;
        return 0;
}

/* By way of a directory of /proc that stays this process' one: a number that is used again leads nowhere. And what it takes for its
 * root is the one that we have mounted, not this machine's: -ESRCH. */
static int open_process(
                const Instance *i, uint64_t pid, int root, char **ret_group, uint32_t *ret_uid_base) {
        _cleanup_close_ int process = -EBADF, fd = -EBADF;
        _cleanup_free_ char *path = NULL;
        int r;

        path = strprintf("/proc/%" PRIu64, pid);
        if (!path)
                return -ENOMEM;
        process = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (process < 0)
                return -errno;
        *ret_group = mfree(*ret_group);
        r = find_group(process, unit_name(i->unit), ret_group);
        if (r < 0)
                return r;
        fd = openat(process, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        r = same_directory(fd, root);
        if (r == 0)
                r = -ESRCH;
        else if (r > 0 && i->host->machines && instance_present_runtime(i) == i->host->machines)
                r = read_uid_base(process, ret_uid_base);
        return r < 0 ? r : TAKE_FD(fd);
}

/* The first process of a container is the unit's main one; a machine's has systemd-nspawn, which sees all of the host, before it. */
static int open_running(const Instance *i, int root, uint32_t *ret_uid_base) {
        _cleanup_free_ char *group = NULL, *path = NULL, *other = NULL;
        _cleanup_json_ json_object *o = NULL;
        json_object *processes = NULL;
        int r;

        r = open_process(i, instance_main_pid(i), root, &group, ret_uid_base);
        if (r != -ESRCH || !group)
                return r;
        path = strjoin("/sys/fs/cgroup", group);
        if (!path)
                return -ENOMEM;
        r = process_list("/proc", path, NULL, &o, NULL);
        if (r >= 0)
                r = json_find_array(o, "processes", &processes, NULL);
        if (r < 0)
                return r;
        FOREACH_JSON_ARRAY(p, processes) {
                uint64_t pid;

                if (json_get_u64(p, "pid", &pid, NULL) < 0)
                        continue;
                r = open_process(i, pid, root, &other, ret_uid_base);
                if (r >= 0)
                        return r;
        }
        return -ESRCH;
}

/* Where something is mounted when it runs. */
static int add_hidden(InstanceRoot *r, const char *directory) {
        _cleanup_free_ char *path = strjoin(directory, "/config.json");
        _cleanup_json_ json_object *config = NULL;
        _cleanup_erase_ char *text = NULL; /* secrets may be in its environment */
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

        running = i->unit && unit_state_is_running(unit_state(i->unit)) && instance_main_pid(i) > 0;
        directory = instance_generation_run_directory(i, i->record.generation);
        path = directory ? strjoin(directory, "/rootfs") : NULL;
        if (!path)
                return -ENOMEM;

        /* Of a machine that does not run it is not known whose users its users are. */
        r = i->record.generation > 0 && (running || (i->want && i->want->spec->runtime != RUNTIME_NSPAWN))
                            ? path_is_mount_point(path)
                            : 0;
        if (r > 0)
                r = fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (r <= 0)
                return kerror_set(reterr, K_CONFLICT, "Instance %s-%u does not run (it is %s).",
                                instance_service(i), instance_number(i),
                                instance_state_to_string(instance_state_of(i)));
        if (running) {
                r = open_running(i, fd, &root.uid_base);
                if (r >= 0)
                        r = add(&root, r);
        } else {
                r = add(&root, TAKE_FD(fd));
                if (r >= 0)
                        r = add_hidden(&root, directory);
        }
        if (r == -ESRCH || r == -ENOENT)
                return kerror_set(reterr, K_CONFLICT,
                                "The files of instance %s-%u cannot be found just now.", instance_service(i),
                                instance_number(i));
        if (r < 0)
                return kerror_is_set(reterr) ? r
                                             : kerror_set_errno(reterr, r,
                                                               "The files of instance %s-%u cannot be "
                                                               "opened: %m.",
                                                               instance_service(i), instance_number(i));

        *ret = TAKE_GENERIC(root, (InstanceRoot){});
        return 0;
}
