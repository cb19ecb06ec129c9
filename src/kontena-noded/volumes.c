/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volumes.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "file-util.h"
#include "rootfs-mapped.h"
#include "string-util.h"
#include "volume-directory.h"
#include "volume-quota.h"

VolumePlan *volume_plan_free(VolumePlan *p) {
        if (!p)
                return NULL;

        FOREACH_ARRAY(v, p->volumes, p->n_volumes) {
                free(v->mount.source);
                free(v->mount.path);
                free(v->name);
        }
        free(p->volumes);
        free(p->root_path);
        strv_free(p->layers);
        free(p->volumes_directory);
        free(p->instance_id);
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

/* What is there by that name must be a directory: a link would hand the container whatever it leads to. */
static int add_named(VolumePlan *p, const InstanceWant *want, const VolumeMount *m, KError *reterr) {
        const VolumeUse *use = instance_want_volume(want, m->source);
        const char *name = use ? use->name : m->source;
        _cleanup_close_ int fd = -EBADF;
        Volume *v;
        int r;

        r = volume_name_validate(name, reterr);
        if (r < 0)
                return r;
        fd = volume_open(p->volumes_directory, name, NULL);
        if (fd < 0 && fd != -ENOENT)
                return volume_open(p->volumes_directory, name, reterr);

        r = plan_add(p, strjoin(p->volumes_directory, "/", name), m->path, m->read_only, !m->no_copy, NULL);
        if (r < 0)
                return r;
        v = p->volumes + p->n_volumes - 1;
        v->size_max = use ? use->size_max : 0;
        v->name = strdup(name);
        return v->name ? 0 : -ENOMEM;
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
        p->stateful = want->stateful;
        p->root_path = strdup(root_path);
        p->volumes_directory = strdup(volumes_directory);
        p->instance_id = strdup(want->id);
        if (!p->root_path || !p->volumes_directory || !p->instance_id)
                return -ENOMEM;

        STRV_FOREACH(s, want->spec->volumes) {
                _cleanup_(volume_mount_done) VolumeMount m = {};

                r = volume_mount_parse(*s, &m, reterr);
                if (r < 0)
                        return r;
                if (m.type == VOLUME_ANONYMOUS)
                        r = add_anonymous(p, anonymous, m.path, m.no_copy, reterr);
                else if (m.type == VOLUME_NAMED)
                        r = add_named(p, want, &m, reterr);
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

int volume_plan_copy_from_layers(VolumePlan *p, char *const *layers) {
        p->layers = strv_copy(layers);
        return p->layers ? 0 : -ENOMEM;
}

bool volume_plan_is_needed(const VolumePlan *p) {
        FOREACH_ARRAY(v, p->volumes, p->n_volumes)
                if (access(v->mount.source, F_OK) < 0)
                        return true;
        return false;
}

/* The directory of the image at path, whatever links it has on the way: they end at its root. -ENOENT: it has none. */
static int open_image_directory(const VolumePlan *p, const char *path) {
        struct open_how how = {
                .flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC,
                .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
        };
        _cleanup_close_ int root = -EBADF;
        int fd;

        root = p->layers ? rootfs_open_layers(p->layers, p->root_path)
                         : open(p->root_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (root < 0)
                return p->layers ? root : -errno;
        fd = (int) syscall(SYS_openat2, root, path, &how, sizeof(how));
        if (fd < 0)
                return errno == ENOTDIR ? -ENOENT : -errno;

        return fd;
}

/* Fills a fresh directory. */
static int copy_from_image(const VolumePlan *p, const Volume *v, int to) {
        _cleanup_close_ int from = -EBADF;
        struct stat st;
        int r;

        from = v->copy ? open_image_directory(p, v->mount.path) : -ENOENT;
        if (from == -ENOENT)
                return 0;
        if (from < 0)
                return from;
        if (fstat(from, &st) < 0 || fchown(to, st.st_uid, st.st_gid) < 0 ||
                        fchmod(to, st.st_mode & 07777) < 0)
                return -errno;
        r = volume_copy_tree(from, to);
        if (r < 0)
                return r;
        /* Half of it after a power failure would look like data. */
        return (p->stateful || v->name) && syncfs(to) < 0 ? -errno : 0;
}

/* A name that no path has, see path_to_name(): what another volume has must not be taken for what an earlier attempt has left. */
static char *path_beside(const char *source) {
        const char *name = strrchr(source, '/') + 1;
        _cleanup_free_ char *directory = strndup(source, (size_t) (name - source));

        return directory ? strjoin(directory, "%new-", name) : NULL;
}

static int make_anonymous(const VolumePlan *p, const Volume *v) {
        _cleanup_free_ char *temporary = NULL;
        _cleanup_close_ int to = -EBADF;
        int r;

        temporary = path_beside(v->mount.source);
        if (!temporary)
                return -ENOMEM;
        r = rm_rf_at(AT_FDCWD, temporary);
        if (r >= 0)
                r = mkdir_p(temporary, 0755);
        if (r < 0)
                return r;
        to = open(temporary, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (to < 0)
                return -errno;
        r = copy_from_image(p, v, to);
        if (r < 0)
                return r;

        if (rename(temporary, v->mount.source) < 0)
                return errno == EEXIST || errno == ENOTEMPTY ? 0 : -errno;
        return 0;
}

/* Several containers may make it at the same time; the first one's is it. */
static int make_named(const VolumePlan *p, const Volume *v) {
        _cleanup_close_ int parent = -EBADF, work = -EBADF, to = -EBADF, there = -EBADF;
        _cleanup_free_ char *temporary = NULL;
        int r;

        r = mkdir_p(p->volumes_directory, 0700);
        if (r < 0)
                return r;
        parent = open(p->volumes_directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (parent < 0)
                return -errno;
        there = volume_directory_open(parent, v->name);
        if (there >= 0 || there != -ENOENT)
                return MIN(there, 0);

        temporary = strjoin("new-", p->instance_id, "-", v->name);
        if (!temporary)
                return -ENOMEM;
        if (mkdirat(parent, VOLUME_WORK, 0700) < 0 && errno != EEXIST)
                return -errno;
        work = volume_directory_open(parent, VOLUME_WORK);
        if (work < 0)
                return work;
        r = rm_rf_at(work, temporary);
        if (r < 0)
                return r;
        if (mkdirat(work, temporary, 0755) < 0)
                return -errno;
        to = volume_directory_open(work, temporary);
        if (to < 0)
                return to;

        r = v->size_max > 0 ? volume_quota_set(parent, to, v->size_max) : 0;
        if (r >= 0)
                r = copy_from_image(p, v, to);
        if (r >= 0 && renameat2(work, temporary, parent, v->name, RENAME_NOREPLACE) < 0)
                r = -errno;
        if (r < 0)
                (void) rm_rf_at(work, temporary);
        return r == -EEXIST ? 0 : r;
}

int volume_plan_carry_out(void *plan) {
        const VolumePlan *p = plan;

        FOREACH_ARRAY(v, p->volumes, p->n_volumes) {
                int r;

                if (v->name)
                        r = make_named(p, v);
                else if (access(v->mount.source, F_OK) >= 0)
                        continue;
                else /* A missing directory of the host is made, as Docker does. */
                        r = v->copy ? make_anonymous(p, v) : mkdir_p(v->mount.source, 0755);
                if (r < 0)
                        return r;
        }

        return 0;
}

int volume_plan_explain(const VolumePlan *p, int r, KError *reterr) {
        if (r == -EOPNOTSUPP)
                FOREACH_ARRAY(v, p->volumes, p->n_volumes)
                        if (v->name && v->size_max > 0)
                                return volume_quota_explain(
                                                p->volumes_directory, v->name, v->size_max, reterr);
        if (r == -EDQUOT)
                return kerror_set_errno(
                                reterr, r, "A volume is smaller than what the image has for it: %m.");
        return kerror_set_errno(reterr, r, "Cannot make the volumes: %m");
}
