/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "runtime-files.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "file-util.h"
#include "json-util.h"
#include "stream-exec.h"
#include "string-util.h"

#define FILE_SIZE_MAX   (256U * 1024U)
#define CONFIG_SIZE_MAX (16U * 1024U * 1024U)

int runtime_write_text(const char *directory, const char *name, const char *text, mode_t mode) {
        _cleanup_free_ char *path = NULL;
        _cleanup_close_ int fd = -EBADF;

        if (!text)
                return -ENOMEM;
        path = strjoin(directory, "/", name);
        if (!path)
                return -ENOMEM;

        /* Made anew when it is lost, so without fsync. Written in place: /etc/hosts of a running container is this file. */
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
        if (fd < 0)
                return -errno;

        return loop_write(fd, text, strlen(text));
}

/* A container can write to it, so it is not in /run, which a large one would fill. What it is already is not written again: then
 * a full disk keeps nobody from starting. */
static int write_kept(const char *directory, const char *name, const char *text) {
        _cleanup_free_ char *path = NULL, *old = NULL;

        path = strjoin(directory, "/", name);
        if (!path)
                return -ENOMEM;
        if (text && read_file(path, FILE_SIZE_MAX, &old, NULL) >= 0 && streq(old, text))
                return 0;

        return runtime_write_text(directory, name, text, 0644);
}

int runtime_write_files(const RuntimeContainer *c) {
        _cleanup_free_ char *hosts = NULL, *resolv = NULL, *hostname = NULL;
        int r;

        if (!c->netns_path) {
                _cleanup_free_ char *host_hosts = NULL, *host_resolv = NULL, *host_name = NULL;

                (void) read_file("/etc/hosts", FILE_SIZE_MAX, &host_hosts, NULL);
                (void) read_file("/etc/resolv.conf", FILE_SIZE_MAX, &host_resolv, NULL);
                (void) read_file("/etc/hostname", 4096, &host_name, NULL);
                r = write_kept(c->files_directory, "hosts", strempty(host_hosts));
                if (r >= 0)
                        r = write_kept(c->files_directory, "resolv.conf", strempty(host_resolv));
                if (r >= 0)
                        r = write_kept(c->files_directory, "hostname", strempty(host_name));
                return r;
        }

        hosts = oci_hosts_file(c->want);
        resolv = oci_resolv_file(c->want, c->resolver);
        hostname = strjoin(strempty(oci_hostname(c->want)), "\n");
        r = write_kept(c->files_directory, "hosts", hosts);
        if (r >= 0)
                r = write_kept(c->files_directory, "resolv.conf", resolv);
        if (r >= 0)
                r = write_kept(c->files_directory, "hostname", hostname);
        return r;
}

/* The configuration's process with another command. It holds the environment, and so may hold secrets. */
int runtime_write_process(const RuntimeCommand *c, KError *reterr) {
        _cleanup_free_ char *path = NULL;
        _cleanup_erase_ char *text = NULL;
        _cleanup_json_ json_object *config = NULL, *process = NULL;
        size_t size;
        int r;

        path = strjoin(c->bundle, "/config.json");
        if (!path)
                return -ENOMEM;
        r = read_file(path, CONFIG_SIZE_MAX, &text, &size);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot read the container's configuration: %m");
        r = json_parse(text, size, CONFIG_SIZE_MAX, &config, reterr);
        if (r >= 0)
                r = stream_exec_process(
                                config, &(StreamExecOptions){ .argv = c->argv }, NULL, &process, reterr);
        if (r < 0)
                return r;
        return runtime_write_text(c->directory, "process.json", json_text(process), 0600);
}

char *runtime_read_log(Runtime *rt, const char *directory) {
        _cleanup_free_ char *path = NULL, *text = NULL;
        size_t size;

        path = strjoin(directory, "/runtime.log");
        if (!path || read_file(path, FILE_SIZE_MAX, &text, &size) < 0)
                return NULL;

        return runtime_log_message(text, size);
}
