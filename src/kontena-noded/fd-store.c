/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fd-store.h"

#include <systemd/sd-daemon.h>

#include "file-util.h"
#include "log.h"
#include "string-util.h"

struct FdStore {
        char **names;
        size_t n;
        int *fds;
};

FdStore *fd_store_free(FdStore *s) {
        if (!s)
                return NULL;

        for (size_t i = 0; i < s->n; i++)
                safe_close(s->fds[i]);
        free(s->fds);
        strv_free(s->names);
        free(s);
        return NULL;
}

int fd_store_new(FdStore **ret) {
        _cleanup_(fd_store_freep) FdStore *s = NULL;
        int n;

        assert(ret);

        s = new0(FdStore, 1);
        if (!s)
                return -ENOMEM;
        n = sd_listen_fds_with_names(/* unset_environment= */ true, &s->names);
        if (n < 0)
                return n;
        s->fds = new0(int, (size_t) n + 1);
        if (!s->fds)
                return -ENOMEM;
        for (; s->n < (size_t) n; s->n++)
                s->fds[s->n] = SD_LISTEN_FDS_START + (int) s->n;

        *ret = TAKE_PTR(s);
        return 0;
}

int fd_store_take(FdStore *s, const char *name) {
        for (size_t i = 0; s && i < s->n; i++)
                if (s->fds[i] >= 0 && streq(s->names[i], name))
                        return TAKE_FD(s->fds[i]);
        return -ENOENT;
}

void fd_store_keep(FdStore *s, const char *name, int fd) {
        _cleanup_free_ char *text = NULL;
        int r;

        if (!s)
                return;
        /* Not watched: it is ours to say when it is of no use any more. */
        text = strjoin("FDSTORE=1\nFDPOLL=0\nFDNAME=", name);
        r = text ? sd_pid_notify_with_fds(0, /* unset_environment= */ false, text, &fd, 1) : -ENOMEM;
        if (r < 0)
                log_warning_errno(r, "systemd does not hold '%s' for us, ignoring it: %m", name);
}

static void drop(const char *name) {
        int r;

        r = sd_notifyf(/* unset_environment= */ false, "FDSTOREREMOVE=1\nFDNAME=%s", name);
        if (r < 0)
                log_warning_errno(r, "systemd goes on to hold '%s', ignoring it: %m", name);
}

void fd_store_drop(FdStore *s, const char *name) {
        if (s)
                drop(name);
}

void fd_store_drop_rest(FdStore *s) {
        for (size_t i = 0; s && i < s->n; i++)
                if (s->fds[i] >= 0) {
                        drop(s->names[i]);
                        s->fds[i] = safe_close(s->fds[i]);
                }
}
