/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "json-path.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "login.h"
#include "string-util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What a provider answers, and the paths it is searched with: first line the paths, the rest the answer; also taken for an address that
 * somebody wants to be sent to. */

static void search(char *paths, const char *body, size_t n) {
        LoginConfig c = {
                .id_path = paths, .email_path = paths, .name_path = paths, .verified_path = paths
        };
        _cleanup_(login_identity_done) LoginIdentity i = {};
        _cleanup_kerror_ KError error = KERROR_NULL;

        if (login_identity_parse(&c, body, n, &i, &error) < 0)
                assert(kerror_is_set(&error));
        assert(!i.id || (string_is_printable(i.id) && strlen(i.id) <= LABEL_LENGTH_MAX));
        assert(!i.email || strlen(i.email) <= EMAIL_LENGTH_MAX);
}

static void read_token(const char *type, const char *body, size_t n) {
        _cleanup_erase_ char *token = NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;

        if (login_token_parse(type, body, n, &token, &error) >= 0)
                assert(token && token[0] && !strpbrk(token, " \r\n"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_free_ char *text = strndup((const char *) data, size), *location = NULL;
        const uint8_t *newline = memchr(data, '\n', size);
        _cleanup_free_ char *paths = NULL, *body = NULL;
        size_t n;

        if (!text || !newline)
                return 0;
        paths = strndup((const char *) data, (size_t) (newline - data));
        n = size - (size_t) (newline - data) - 1;
        body = malloc(n + 1);
        if (!paths || !body)
                return 0;
        memcpy(body, newline + 1, n);
        body[n] = '\0';

        search(paths, body, n);
        read_token("application/json", body, n);
        read_token("application/x-www-form-urlencoded", body, n);
        if (login_redirect_validate(paths, NULL) >= 0) {
                assert(streq(paths, "/code") || startswith(paths, "http://localhost"));
                assert(!strchr(paths, '@') && !strchr(paths, '#'));
                assert(login_redirect_location(paths, "0123456789ab", "m", &location) == 0);
                assert(strstr(location, "code=0123456789ab"));
        }
        return 0;
}
