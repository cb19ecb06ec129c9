/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fd-store.h"

#include <systemd/sd-daemon.h>

#include "file-util.h"
#include "log.h"
#include "string-util.h"

struct FdStore {
        int *fds;
        char **names;
        size_t n;
};

int fd_store_new(FdStore **ret) {
        _cleanup_(fd_store_freep) FdStore *s = NULL;
        int n;

        s = new0(FdStore, 1);
        if (!s)
                return -ENOMEM;

        n = sd_listen_fds_with_names(/* unset_environment= */ true, &s->names);
        if (n < 0)
                return n;
        s->fds = new0(int, (size_t) n + 1);
        if (!s->fds)
                return -ENOMEM;
        s->n = (size_t) n;
        for (size_t i = 0; i < s->n; i++)
                s->fds[i] = SD_LISTEN_FDS_START + (int) i;

        *ret = TAKE_PTR(s);
        return 0;
}

FdStore *fd_store_free(FdStore *s) {
        if (!s)
                return NULL;

        for (size_t i = 0; i < s->n && s->fds; i++)
                safe_close(s->fds[i]);
        strv_free(s->names);
        free(s->fds);
        free(s);
        return NULL;
}

int fd_store_take(FdStore *s, const char *name) {
        for (size_t i = 0; i < s->n; i++)
                if (s->fds[i] >= 0 && streq(s->names[i], name))
                        return TAKE_FD(s->fds[i]);

        return -ENOENT;
}

int fd_store_put(const char *name, int fd) {
        _cleanup_free_ char *text = NULL;
        int r;

        /* No FDPOLL: that a pipe has no writer now is no reason to forget it. */
        text = strjoin("FDSTORE=1\nFDPOLL=0\nFDNAME=", name);
        if (!text)
                return -ENOMEM;
        r = sd_pid_notify_with_fds(0, /* unset_environment= */ false, text, &fd, 1);
        return MIN(r, 0);
}

void fd_store_remove(const char *name) {
        int r;

        r = sd_notifyf(0, "FDSTOREREMOVE=1\nFDNAME=%s", name);
        if (r < 0)
                log_debug_errno(r, "Cannot take '%s' out of the descriptor store: %m", name);
}

void fd_store_drop_rest(FdStore *s) {
        for (size_t i = 0; i < s->n; i++)
                if (s->fds[i] >= 0) {
                        fd_store_remove(s->names[i]);
                        s->fds[i] = safe_close(s->fds[i]);
                }
}
