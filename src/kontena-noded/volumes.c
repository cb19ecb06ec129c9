/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volumes.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "file-util.h"
#include "string-util.h"

#define CP_PROGRAM "/bin/cp"

VolumePlan *volume_plan_free(VolumePlan *p) {
        if (!p)
                return NULL;

        FOREACH_ARRAY(v, p->volumes, p->n_volumes) {
                free(v->mount.source);
                free(v->mount.path);
        }
        free(p->volumes);
        free(p->root_path);
        free(p);
        return NULL;
}

/* "/var/lib/a b" as a file name: '/' becomes '-', and '-' and '%' are escaped so that no two paths meet. */
static char *path_to_name(const char *path) {
        char *name, *p;

        name = p = malloc(strlen(path) * 3 + 1);
        if (!name)
                return NULL;

        path += strspn(path, "/");
        for (; *path; path++) {
                if (*path == '/') {
                        while (path[1] == '/')
                                path++;
                        if (path[1] != '\0')
                                *p++ = '-';
                } else if (*path == '-')
                        p = stpcpy(p, "%2d");
                else if (*path == '%')
                        p = stpcpy(p, "%25");
                else
                        *p++ = *path;
        }
        *p = '\0';

        return name;
}

static bool plan_has(const VolumePlan *p, const char *path) {
        FOREACH_ARRAY(v, p->volumes, p->n_volumes)
                if (streq(v->mount.path, path))
                        return true;
        return false;
}

static int plan_add(VolumePlan *p, char *source, const char *path, bool read_only, bool copy,
                const char *propagation) {
        Volume *larger, *v;

        if (!source)
                return -ENOMEM;
        larger = reallocarray(p->volumes, p->n_volumes + 1, sizeof(Volume));
        if (!larger) {
                free(source);
                return -ENOMEM;
        }
        p->volumes = larger;

        v = p->volumes + p->n_volumes;
        *v = (Volume){ .mount = { .source = source, .read_only = read_only, .propagation = propagation },
                .copy = copy };
        v->mount.path = strdup(path);
        p->n_volumes++;
        return v->mount.path ? 0 : -ENOMEM;
}

static const char *propagation_constant(const char *s) {
        static const char *const known[] = { "private", "rprivate", "slave", "rslave", "shared", "rshared" };

        for (size_t i = 0; s && i < ELEMENTSOF(known); i++)
                if (streq(known[i], s))
                        return known[i];
        return NULL;
}

static int add_anonymous(
                VolumePlan *p, const char *directory, const char *path, bool no_copy, KError *reterr) {
        _cleanup_free_ char *name = NULL;

        name = path_to_name(path);
        if (!name)
                return -ENOMEM;
        if (isempty(name))
                return kerror_set(reterr, K_IMAGE, "The image declares its root to be a volume.");
        if (strlen(name) > 200)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "The path of volume '%.64s...' is too long.",
                                path);

        return plan_add(p, strjoin(directory, "/volumes/", name), path, false, !no_copy, NULL);
}

int volume_plan_new(const InstanceWant *want, const Image *image, const char *instance_directory,
                const char *generation_directory, const char *volumes_directory, const char *root_path,
                VolumePlan **ret, KError *reterr) {
        const char *anonymous = want->stateful ? instance_directory : generation_directory;
        _cleanup_(volume_plan_freep) VolumePlan *p = NULL;
        int r;

        p = new0(VolumePlan, 1);
        if (!p)
                return -ENOMEM;
        p->root_path = strdup(root_path);
        if (!p->root_path)
                return -ENOMEM;

        STRV_FOREACH(s, want->spec->volumes) {
                _cleanup_(volume_mount_done) VolumeMount m = {};

                r = volume_mount_parse(*s, &m, reterr);
                if (r < 0)
                        return r;
                if (m.type == VOLUME_ANONYMOUS)
                        r = add_anonymous(p, anonymous, m.path, m.no_copy, reterr);
                else if (m.type == VOLUME_NAMED)
                        r = plan_add(p, strjoin(volumes_directory, "/", m.source), m.path, m.read_only,
                                        !m.no_copy, NULL);
                else
                        r = plan_add(p, strdup(m.source), m.path, m.read_only, false,
                                        propagation_constant(m.propagation));
                if (r < 0)
                        return r;
        }
        STRV_FOREACH(path, image->volumes) {
                if (plan_has(p, *path))
                        continue;
                r = add_anonymous(p, anonymous, *path, false, reterr);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(p);
        return 0;
}

bool volume_plan_is_needed(const VolumePlan *p) {
        FOREACH_ARRAY(v, p->volumes, p->n_volumes)
                if (access(v->mount.source, F_OK) < 0)
                        return true;
        return false;
}

/* cp knows links, sparse files, attributes and reflinks; it gets descriptors' paths, so no link of the image leads it away. */
static int copy_tree(int from, int to) {
        _cleanup_free_ char *source = NULL, *target = NULL;
        siginfo_t si = {};
        pid_t pid;

        source = strprintf("/proc/self/fd/%i/.", from);
        target = strprintf("/proc/self/fd/%i/", to);
        if (!source || !target)
                return -ENOMEM;

        pid = fork();
        if (pid < 0)
                return -errno;
        if (pid == 0) {
                const char *const argv[] = { CP_PROGRAM, "-a", "--reflink=auto", "--", source, target,
                        NULL };

                (void) fcntl(from, F_SETFD, 0);
                (void) fcntl(to, F_SETFD, 0);
                (void) execve(CP_PROGRAM, (char *const *) argv, (char *const[]){ NULL });
                _exit(127);
        }
        if (waitid(P_PID, (id_t) pid, &si, WEXITED) < 0)
                return -errno;

        return si.si_code == CLD_EXITED && si.si_status == 0 ? 0 : -EIO;
}

/* The directory of the image at path, whatever links it has on the way: they end at its root. -ENOENT: it has none. */
static int open_image_directory(const char *root_path, const char *path) {
        struct open_how how = {
                .flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC,
                .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
        };
        _cleanup_close_ int root = -EBADF;
        int fd;

        root = open(root_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (root < 0)
                return -errno;
        fd = (int) syscall(SYS_openat2, root, path, &how, sizeof(how));
        if (fd < 0)
                return errno == ENOTDIR ? -ENOENT : -errno;

        return fd;
}

static int make_from_image(const VolumePlan *p, const Volume *v) {
        _cleanup_close_ int from = -EBADF, to = -EBADF;
        _cleanup_free_ char *temporary = NULL;
        struct stat st;
        int r;

        temporary = strjoin(v->mount.source, ".new");
        if (!temporary)
                return -ENOMEM;
        r = rm_rf_at(AT_FDCWD, temporary);
        if (r >= 0)
                r = mkdir_p(temporary, 0755);
        if (r < 0)
                return r;

        from = v->copy ? open_image_directory(p->root_path, v->mount.path) : -ENOENT;
        if (from < 0 && from != -ENOENT)
                return from;
        if (from >= 0) {
                to = open(temporary, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                if (to < 0)
                        return -errno;
                if (fstat(from, &st) < 0 || fchown(to, st.st_uid, st.st_gid) < 0 ||
                                fchmod(to, st.st_mode & 07777) < 0)
                        return -errno;
                r = copy_tree(from, to);
                if (r < 0)
                        return r;
        }

        if (rename(temporary, v->mount.source) < 0)
                return errno == EEXIST || errno == ENOTEMPTY ? 0 : -errno;
        return 0;
}

int volume_plan_carry_out(void *plan) {
        const VolumePlan *p = plan;

        FOREACH_ARRAY(v, p->volumes, p->n_volumes) {
                int r;

                if (access(v->mount.source, F_OK) >= 0)
                        continue;
                /* A missing directory of the host is made, as Docker does. */
                r = v->copy ? make_from_image(p, v) : mkdir_p(v->mount.source, 0755);
                if (r < 0)
                        return r;
        }

        return 0;
}
