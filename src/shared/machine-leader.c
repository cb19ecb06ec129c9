/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "machine-leader.h"

#include <stdlib.h>

#include "file-util.h"
#include "parse-util.h"
#include "string-util.h"

#define CGROUP_ROOT     "/sys/fs/cgroup"
#define STATUS_SIZE_MAX (64U * 1024U)
#define PIDS_SIZE_MAX   (1024U * 1024U)

bool machine_status_is_leader(const char *status) {
        const char *line = strstr(status, "\nNSpid:");
        _cleanup_strv_free_ char **fields = NULL;
        _cleanup_free_ char *text = NULL;
        size_t n;

        if (!line)
                return false;
        line += strlen("\nNSpid:");
        text = strndup(line, strcspn(line, "\n"));
        if (!text || strv_split(text, " \t", &fields) < 0)
                return false;
        /* Ours is numbered as well when this machine is a container itself: what is behind our own number counts. */
        n = strv_length(fields);
        return n >= 2 && streq(fields[n - 1], "1");
}

static bool is_leader(pid_t pid) {
        _cleanup_free_ char *path = strprintf("/proc/%i/status", (int) pid), *text = NULL;

        return path && read_file(path, STATUS_SIZE_MAX, &text, NULL) >= 0 && machine_status_is_leader(text);
}

static int read_pids(const char *path, char ***ret) {
        _cleanup_free_ char *text = NULL;
        int r;

        r = read_file(path, PIDS_SIZE_MAX, &text, NULL);
        return r < 0 ? r : strv_split(text, " \n", ret);
}

/* nspawn stands in a group beside that of the machine, which may move its processes as it likes: its child is who we look for. */
int machine_leader_find(const char *cgroup, pid_t *ret) {
        _cleanup_free_ char *path = strjoin(CGROUP_ROOT, cgroup, "/supervisor/cgroup.procs");
        _cleanup_strv_free_ char **watchers = NULL;
        int r;

        if (!path)
                return -ENOMEM;
        r = read_pids(path, &watchers);
        if (r == -ENOENT)
                return -ESRCH;
        if (r < 0)
                return r;

        STRV_FOREACH(w, watchers) {
                _cleanup_free_ char *list = strjoin("/proc/", *w, "/task/", *w, "/children");
                _cleanup_strv_free_ char **children = NULL;

                if (!list)
                        return -ENOMEM;
                if (read_pids(list, &children) < 0)
                        continue; /* gone meanwhile */
                STRV_FOREACH(c, children) {
                        unsigned pid;

                        if (safe_atou(*c, &pid) >= 0 && pid > 0 && is_leader((pid_t) pid)) {
                                *ret = (pid_t) pid;
                                return 0;
                        }
                }
        }
        return -ESRCH;
}
