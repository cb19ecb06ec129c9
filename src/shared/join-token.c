/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "join-token.h"

#include <ctype.h>
#include <sys/random.h>

#include "file-util.h"
#include "parse-util.h"
#include "string-util.h"

#define PREFIX          "kt1-"
#define BASE32_DIGITS   "abcdefghijklmnopqrstuvwxyz234567"
#define CONFIG_SIZE_MAX 4096U
#define URL_LENGTH_MAX  1024U
#define HOST_MAX        253U /* RFC 1035, section 2.3.4, without the last dot */

void join_token_erase(JoinToken *t) {
        erase_memory(t, sizeof(*t));
}

bool join_secret_is_valid(const char *s) {
        return s && strlen(s) == JOIN_SECRET_LENGTH && strspn(s, BASE32_DIGITS) == JOIN_SECRET_LENGTH;
}

int join_token_parse(const char *s, JoinToken *ret, KError *reterr) {
        char text[JOIN_TOKEN_LENGTH + 1];
        _cleanup_join_token_ JoinToken t = {};
        const char *p;
        size_t n;
        int r = 0;

        assert(s);
        assert(ret);

        while (isspace((unsigned char) *s))
                s++;
        for (n = strlen(s); n > 0 && isspace((unsigned char) s[n - 1]); n--)
                ;
        if (n != JOIN_TOKEN_LENGTH)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "A join token has %u characters and begins with 'KT1-'; this one has %zu.",
                                JOIN_TOKEN_LENGTH, n);

        for (size_t i = 0; i < n; i++)
                text[i] = (char) (s[i] >= 'A' && s[i] <= 'Z' ? s[i] - 'A' + 'a' : s[i]);
        text[n] = '\0';

        p = startswith(text, PREFIX);
        if (!p)
                r = kerror_set(reterr, K_INVALID_ARGUMENT, "The join token does not begin with 'KT1-'.");
        else if (strspn(p, "0123456789abcdef") != JOIN_FINGERPRINT_LENGTH ||
                        p[JOIN_FINGERPRINT_LENGTH] != '-')
                r = kerror_set(reterr, K_INVALID_ARGUMENT,
                                "The fingerprint in the join token is malformed.");
        else if (!join_secret_is_valid(p + JOIN_FINGERPRINT_LENGTH + 1))
                r = kerror_set(reterr, K_INVALID_ARGUMENT, "The secret in the join token is malformed.");
        else {
                memcpy(t.fingerprint, p, JOIN_FINGERPRINT_LENGTH);
                p += JOIN_FINGERPRINT_LENGTH + 1;
                memcpy(t.token_id, p, JOIN_TOKEN_ID_LENGTH);
                memcpy(t.secret, p, JOIN_SECRET_LENGTH);
                *ret = t;
        }

        erase_memory(text, sizeof(text));
        return r;
}

int join_secret_new(const char *token_id, char **ret) {
        uint8_t random[25]; /* 200 bits are 40 digits */
        char *s;

        assert(ret);

        if (getrandom(random, sizeof(random), 0) != (ssize_t) sizeof(random))
                return -errno;
        s = base32mem(random, sizeof(random));
        erase_memory(random, sizeof(random));
        if (!s)
                return -ENOMEM;
        if (token_id) {
                assert(strlen(token_id) == JOIN_TOKEN_ID_LENGTH);
                memcpy(s, token_id, JOIN_TOKEN_ID_LENGTH);
        }

        *ret = s;
        return 0;
}

char *join_token_format(const char *fingerprint, const char *secret) {
        return strjoin("KT1-", fingerprint, "-", secret);
}

void join_config_done(JoinConfig *c) {
        erase_and_freep(&c->secret);
        c->secret = NULL;
        c->url = mfree(c->url);
}

static int config_line(JoinConfig *c, char *line) {
        const char *v;

        v = startswith(line, "URL=");
        if (v) {
                free(c->url);
                c->url = strdup(v);
                return c->url ? 0 : -ENOMEM;
        }
        v = startswith(line, "Secret=");
        if (v && *v) {
                erase_and_freep(&c->secret);
                c->secret = strdup(v);
                return c->secret ? 0 : -ENOMEM;
        }

        return 0; /* a section, a comment, a key of a later version */
}

int join_config_load(const char *path, JoinConfig *ret, KError *reterr) {
        _cleanup_join_config_ JoinConfig c = {};
        _cleanup_erase_ char *text = NULL;
        char *next = NULL;
        int r;

        assert(path);
        assert(ret);

        r = read_file(path, CONFIG_SIZE_MAX, &text, NULL);
        if (r == -ENOENT)
                return r;
        if (r < 0)
                return kerror_set_errno(reterr, r, "'%s' cannot be read: %m.", path);

        for (char *line = text; line; line = next) {
                char *end = line + strcspn(line, "\n");

                next = *end ? end + 1 : NULL;
                *end = '\0';
                for (; end > line && isspace((unsigned char) end[-1]); end--)
                        end[-1] = '\0';
                r = config_line(&c, line);
                if (r < 0)
                        return r;
                erase_memory(line, strlen(line));
        }

        if (!c.url)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "'%s' names no URL= of the master; join again.", path);
        if (!string_is_printable(c.url) || strlen(c.url) > URL_LENGTH_MAX || !startswith(c.url, "wss://"))
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "URL= in '%s' is not one of a master (wss://…).", path);
        if (c.secret && !join_secret_is_valid(c.secret))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "Secret= in '%s' is malformed; join again.",
                                path);

        *ret = c;
        c = (JoinConfig){};
        return 0;
}

int join_config_save(const char *path, const JoinConfig *c, KError *reterr) {
        _cleanup_erase_ char *text = NULL;
        int r;

        assert(path);
        assert(c);
        assert(c->url);

        text = strjoin("# Written by 'kontenactl node join'.\n[Join]\nURL=", c->url, "\n",
                        c->secret ? "Secret=" : "", strempty(c->secret), c->secret ? "\n" : "");
        if (!text)
                return -ENOMEM;
        r = write_file_atomic(path, text, strlen(text), 0600);
        if (r < 0)
                return kerror_set_errno(reterr, r, "'%s' cannot be written: %m.", path);
        return 0;
}

int join_url_normalize(const char *s, char **ret, KError *reterr) {
        _cleanup_free_ char *authority = NULL;
        const char *p, *path, *colon;
        uint16_t port;
        char *url;

        assert(s);
        assert(ret);

        if (isempty(s) || strlen(s) > URL_LENGTH_MAX || !string_is_printable(s) || strpbrk(s, " \"'\\?#@<>"))
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "'%s' is not the address of a master (HOST, HOST:PORT or wss://HOST:PORT).",
                                s);

        p = startswith(s, "wss://") ?: startswith(s, "https://");
        if (!p) {
                if (strstr(s, "://"))
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "A master is reached by 'wss://' or 'https://', not '%s'.", s);
                p = s;
        }

        path = p + strcspn(p, "/");
        if (!STR_IN_SET(path, "", "/", JOIN_CHANNEL_PATH))
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "The address of a master has no path such as '%s'.", path);
        authority = strndup(p, (size_t) (path - p));
        if (!authority)
                return -ENOMEM;

        if (authority[0] == '[') {
                char *end = strchr(authority, ']');

                if (!end || (end[1] != '\0' && end[1] != ':'))
                        return kerror_set(
                                        reterr, K_INVALID_ARGUMENT, "'%s' has a malformed IPv6 address.", s);
                colon = end[1] == ':' ? end + 1 : NULL;
        } else {
                colon = strchr(authority, ':');
                if (colon && strchr(colon + 1, ':'))
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "An IPv6 address is written in brackets: 'wss://[%s]'.", authority);
        }
        if (authority[0] == '\0' || colon == authority)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' names no host.", s);
        if ((colon ? (size_t) (colon - authority) : strlen(authority)) > HOST_MAX)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "A host's name has at most %u characters.",
                                HOST_MAX);
        if (colon && parse_port(colon + 1, &port) < 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' has a malformed port.", s);

        url = strjoin("wss://", authority, colon ? "" : ":" STRINGIFY(JOIN_PORT_DEFAULT), JOIN_CHANNEL_PATH);
        if (!url)
                return -ENOMEM;

        *ret = url;
        return 0;
}

char *master_address(const char *url) {
        const char *authority = startswith(url, "wss://");

        if (!authority)
                return strdup(url);
        return strprintf("https://%.*s", (int) strcspn(authority, "/"), authority);
}
