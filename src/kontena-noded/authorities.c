/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "authorities.h"

#include "authorities-digest.h"
#include "file-util.h"
#include "kontena-limits.h"
#include "string-util.h"

#define BEGIN_LINE "-----BEGIN CERTIFICATE-----\n"
#define END_LINE   "-----END CERTIFICATE-----\n"

static char *path_of_file(const char *state_directory) {
        return strjoin(state_directory, "/ca.pem");
}

int authorities_read_digest(const char *state_directory, char **ret) {
        _cleanup_free_ char *path = path_of_file(state_directory), *pem = NULL;
        char digest[AUTHORITIES_DIGEST_SIZE];
        size_t size;
        int r;

        if (!path)
                return -ENOMEM;
        r = read_file(path, AUTHORITIES_SIZE_MAX, &pem, &size);
        if (r < 0)
                return r;

        authorities_digest(pem, size, digest);
        *ret = strdup(digest);
        return *ret ? 0 : -ENOMEM;
}

/* A DER SEQUENCE that fills the data; what is in it GnuTLS will see. */
static bool is_sequence(const unsigned char *data, size_t size) {
        size_t length = 0, n;

        if (size < 2 || data[0] != 0x30)
                return false;
        if (data[1] < 0x80)
                return data[1] == size - 2;
        n = data[1] & 0x7fU;
        if (n < 1 || n > 3 || size < 2 + n)
                return false;
        for (size_t i = 0; i < n; i++)
                length = length << 8 | data[2 + i];
        return length == size - 2 - n;
}

int authorities_check(const char *pem, size_t size, KError *reterr) {
        _cleanup_free_ unsigned char *der = NULL;
        const char *p = pem, *end;
        unsigned count = 0;

        if (size > AUTHORITIES_SIZE_MAX || strnlen(pem, size) != size)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "The certificates of the master's authorities are too long, or no text.");
        der = malloc(size + 1);
        if (!der)
                return -ENOMEM;

        while (*p != '\0') {
                const char *body = startswith(p, BEGIN_LINE), *stop;
                size_t n;

                end = body ? strstr(body, END_LINE) : NULL;
                if (!end ||
                                sodium_base642bin(der, size, body, (size_t) (end - body), "\r\n", &n, &stop,
                                                sodium_base64_VARIANT_ORIGINAL) < 0 ||
                                stop != end || !is_sequence(der, n))
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "What the master sent as certificate %u of its authorities is none.",
                                        count + 1);
                p = end + strlen(END_LINE);
                count++;
        }
        if (count == 0)
                return kerror_set(
                                reterr, K_INVALID_ARGUMENT, "The master names no authority to be trusted.");
        return 0;
}

int authorities_replace(const char *state_directory, const char *pem, KError *reterr) {
        _cleanup_free_ char *path = path_of_file(state_directory);
        int r;

        if (!path)
                return -ENOMEM;
        r = authorities_check(pem, strlen(pem), reterr);
        if (r < 0)
                return r;
        r = write_file_atomic(path, pem, strlen(pem), 0644);
        if (r < 0)
                return kerror_set_errno(reterr, r, "'%s' cannot be written: %m.", path);
        return 0;
}
