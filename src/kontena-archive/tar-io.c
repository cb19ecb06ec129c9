/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "file-util.h"
#include "tar-internal.h"
#include "tar.h"

locale_t tar_locale_begin(void) {
        locale_t l = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t) 0);

        if (l)
                (void) uselocale(l);
        return l;
}

void tar_locale_donep(locale_t *l) {
        if (!*l)
                return;
        (void) uselocale(LC_GLOBAL_LOCALE);
        freelocale(*l);
}

int tar_write_fd(const void *data, size_t size, void *userdata) {
        int *fd = userdata;

        return loop_write(*fd, data, size);
}

int tar_read_fd(const void **ret, size_t *ret_size, void *userdata) {
        TarInput *in = userdata;
        ssize_t n;

        do
                n = read(in->fd, in->buffer, sizeof(in->buffer));
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return -errno;

        *ret = in->buffer;
        *ret_size = (size_t) n;
        return 0;
}
