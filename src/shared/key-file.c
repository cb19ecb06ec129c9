/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "key-file.h"

#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <sys/random.h>

#include "file-util.h"
#include "string-util.h"

static void sodium_freep(uint8_t **p) {
        sodium_free(*p);
}

/* -ENOENT, without a word: there is none. */
static int load(const char *whose, const char *path, uint8_t *key, KError *reterr) {
        _cleanup_close_ int fd = -EBADF;
        uint8_t surplus;
        ssize_t n;

        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        if (fd < 0)
                return errno == ENOENT ? -ENOENT
                                       : kerror_set_errno(reterr, -errno,
                                                         "The %s's key '%s' cannot be opened: %m.", whose,
                                                         path);

        n = loop_read(fd, key, KEY_FILE_SIZE);
        if (n < 0)
                return kerror_set_errno(
                                reterr, (int) n, "The %s's key '%s' cannot be read: %m.", whose, path);
        if (n != KEY_FILE_SIZE || loop_read(fd, &surplus, 1) != 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "The %s's key '%s' has not exactly %u bytes.",
                                whose, path, KEY_FILE_SIZE);

        return 0;
}

static int make(const char *whose, const char *path, uint8_t *key, KError *reterr) {
        int r;

        if (getrandom(key, KEY_FILE_SIZE, 0) != (ssize_t) KEY_FILE_SIZE)
                return kerror_set_errno(reterr, -errno, "No random bytes for the %s's key: %m.", whose);

        r = write_file_atomic(path, key, KEY_FILE_SIZE, 0600);
        if (r < 0)
                return kerror_set_errno(reterr, r, "The %s's key '%s' cannot be written: %m.", whose, path);
        return 0;
}

int key_file_get(
                const char *whose, const char *credential, const char *path, uint8_t **ret, KError *reterr) {
        const char *credentials = getenv("CREDENTIALS_DIRECTORY");
        _cleanup_(sodium_freep) uint8_t *key = NULL;
        int r = -ENOENT;

        assert(whose);
        assert(credential);
        assert(path);
        assert(ret);

        if (sodium_init() < 0)
                return kerror_set(reterr, K_INTERNAL, "libsodium cannot be initialised.");
        key = sodium_malloc(KEY_FILE_SIZE);
        if (!key)
                return -ENOMEM;

        if (credentials) {
                _cleanup_free_ char *given = strjoin(credentials, "/", credential);

                if (!given)
                        return -ENOMEM;
                r = load(whose, given, key, reterr);
        }
        if (r == -ENOENT)
                r = load(whose, path, key, reterr);
        if (r == -ENOENT)
                r = make(whose, path, key, reterr);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(key);
        return 0;
}
