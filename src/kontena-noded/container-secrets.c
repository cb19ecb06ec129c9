/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "container-secrets.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file-util.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "log.h"
#include "nspawn-command.h"
#include "rootfs.h"
#include "secrets.h"
#include "string-util.h"

static void erase_strv(char **l) {
        STRV_FOREACH(s, l)
                erase_memory(*s, strlen(*s));
        strv_free(l);
}

void container_secrets_done(ContainerSecrets *s) {
        erase_strv(s->env);
        free(s->directory);
        *s = (ContainerSecrets){};
}

static int open_one(const Secrets *key, const SealedSecret *secret, char **ret, size_t *ret_size,
                KError *reterr) {
        int r;

        if (!key || !secret->sealed)
                return kerror_set(reterr, K_NOT_SUPPORTED,
                                "The service uses secrets, but this node has no key for them.");
        r = secrets_open(key, secret->sealed, ret, ret_size);
        if (r == -EBADMSG)
                return kerror_set(reterr, K_INTERNAL, "Secret '%s' is not sealed to this node's key.",
                                secret->name);
        return r;
}

static int make_variable(
                const SealedSecret *secret, const char *value, size_t size, char ***env, KError *reterr) {
        size_t n = strlen(secret->name) + 1 + size;
        char *entry;

        if (n >= ENV_ENTRY_SIZE_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED,
                                "Secret '%s' has %zu bytes in the environment, at most %u are possible; use "
                                "it "
                                "as a file.",
                                secret->name, n, ENV_ENTRY_SIZE_MAX - 1);
        entry = strjoin(secret->name, "=", value);
        return entry ? strv_consume(env, entry) : -ENOMEM;
}

static int make_directory(const char *path, const UserIdentity *identity) {
        int r;

        r = mkdir_p(path, 0700);
        if (r >= 0)
                r = rootfs_unmount(path);
        if (r < 0)
                return r;
        if (mount("kontena", path, "ramfs", MS_NODEV | MS_NOSUID | MS_NOEXEC, "mode=0500") < 0)
                return -errno;
        return chown(path, identity->uid, identity->gid) < 0 ? -errno : 0;
}

static int make_file(const char *directory, const SealedSecret *secret, const char *value, size_t size,
                const UserIdentity *identity) {
        _cleanup_close_ int dir = -EBADF, fd = -EBADF;
        int r;

        dir = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (dir < 0)
                return -errno;
        fd = openat(dir, secret->name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0400);
        if (fd < 0)
                return -errno;
        r = loop_write(fd, value, size);
        if (r < 0)
                return r;
        return fchown(fd, identity->uid, identity->gid) < 0 || fchmod(fd, 0400) < 0 ? -errno : 0;
}

int container_secrets_make(const Secrets *key, const InstanceWant *want, const char *run_directory,
                const UserIdentity *identity, ContainerSecrets *ret, KError *reterr) {
        _cleanup_(container_secrets_done) ContainerSecrets s = {};
        _cleanup_free_ char *directory = NULL;
        int r;

        directory = strjoin(run_directory, "/secrets");
        if (!directory)
                return -ENOMEM;

        FOREACH_ARRAY(secret, want->secrets, want->n_secrets) {
                _cleanup_erase_ char *value = NULL;
                size_t size;

                r = open_one(key, secret, &value, &size, reterr);
                if (r >= 0 && secret->type == SECRET_ENV)
                        r = make_variable(secret, value, size, &s.env, reterr);
                else if (r >= 0) {
                        if (!s.directory) {
                                r = make_directory(directory, identity);
                                if (r >= 0)
                                        s.directory = TAKE_PTR(directory);
                        }
                        if (r >= 0)
                                r = make_file(s.directory, secret, value, size, identity);
                }
                if (r < 0) {
                        if (s.directory)
                                (void) rootfs_unmount(s.directory);
                        return kerror_set_errno(reterr, r, "Cannot hand the service its secrets: %m");
                }
        }

        *ret = s;
        s = (ContainerSecrets){};
        return 0;
}

void container_secrets_erase(json_object *config, const ContainerSecrets *s) {
        json_object *process = NULL, *env = NULL;
        const char *text;

        if (!s->env)
                return;

        /* The text that was written stays with the object until it is freed. */
        text = json_text(config);
        if (text)
                erase_memory((char *) (uintptr_t) text, strlen(text));
        if (!json_object_object_get_ex(config, "process", &process) ||
                        !json_object_object_get_ex(process, "env", &env))
                return;
        FOREACH_JSON_ARRAY(e, env)
                erase_memory((char *) (uintptr_t) json_object_get_string(e),
                                (size_t) json_object_get_string_len(e));
}

/* Directories of commands that were interrupted: hooks, questions, what somebody ran. */
static bool is_of_command(const char *name) {
        return startswith(name, "hook") || startswith(name, "exec-") || streq(name, "health");
}

/* What else may hold values of the environment, whatever kind of runtime has written it. */
static int remove_files(int parent, const char *name, bool top) {
        _cleanup_(closedirp) DIR *d = NULL;
        struct dirent *de;
        int fd, r;

        fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | (top ? 0 : O_NOFOLLOW));
        if (fd < 0)
                return errno == ENOENT || (!top && errno == ENOTDIR) ? 0 : -errno;
        d = fdopendir(fd);
        if (!d) {
                r = -errno;
                safe_close(fd);
                return r;
        }
        while ((de = readdir(d))) {
                if (STR_IN_SET(de->d_name, "config.json", "process.json", NSPAWN_ENVIRONMENT) ||
                                endswith(de->d_name, NSPAWN_SETTINGS_SUFFIX)) {
                        if (unlinkat(dirfd(d), de->d_name, 0) < 0 && errno != ENOENT)
                                return -errno;
                } else if (top && is_of_command(de->d_name)) {
                        r = remove_files(dirfd(d), de->d_name, /* top= */ false);
                        if (r < 0)
                                return r;
                }
        }
        return 0;
}

int container_secrets_wipe(const char *run_directory) {
        _cleanup_free_ char *directory = NULL;
        int r;

        directory = strjoin(run_directory, "/secrets");
        if (!directory)
                return -ENOMEM;

        r = rootfs_unmount(directory);
        if (r < 0)
                log_warning_errno(r, "Secrets stay mounted at '%s': %m", directory);
        r = remove_files(AT_FDCWD, run_directory, /* top= */ true);
        if (r < 0)
                log_warning_errno(r, "Values of the environment stay in '%s': %m", run_directory);
        return 0;
}
