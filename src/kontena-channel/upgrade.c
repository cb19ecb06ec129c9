/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "upgrade.h"

#include <gnutls/gnutls.h>
#include <strings.h>
#include <sys/random.h>

#include "parse-util.h"
#include "string-util.h"
#include "websocket-accept.h"

#define HEADERS_MAX 64U

int upgrade_key_new(char **ret) {
        gnutls_datum_t out = {};
        uint8_t random[16];
        char *s;

        if (getrandom(random, sizeof(random), 0) != (ssize_t) sizeof(random))
                return -errno;
        if (gnutls_base64_encode2(&(gnutls_datum_t){ random, sizeof(random) }, &out) < 0)
                return -ENOMEM;
        s = strndup((const char *) out.data, out.size);
        gnutls_free(out.data);
        if (!s)
                return -ENOMEM;

        *ret = s;
        return 0;
}

static bool is_header_name(const char *s) {
        size_t n = strlen(s);

        return n > 0 && strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") == n;
}

int upgrade_request(const char *authority, const char *path, const char *subprotocol, const char *key,
                json_object *headers, char **ret, KError *reterr) {
        _cleanup_erase_ char *text = NULL;

        assert(authority);
        assert(path);
        assert(subprotocol);
        assert(key);
        assert(ret);

        text = strjoin("GET ", path, " HTTP/1.1\r\nHost: ", authority,
                        "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: "
                        "13\r\nSec-WebSocket-Key: ",
                        key, "\r\nSec-WebSocket-Protocol: ", subprotocol, "\r\n");
        if (!text)
                return -ENOMEM;

        if (headers) {
                json_object_object_foreach(headers, name, value) {
                        _cleanup_erase_ char *old = TAKE_PTR(text);
                        const char *v;

                        if (!json_object_is_type(value, json_type_string))
                                return kerror_set(reterr, K_INVALID_ARGUMENT, "Header '%s' is not a string.",
                                                name);
                        v = json_object_get_string(value);
                        if (!is_header_name(name) || !string_is_printable(v) ||
                                        strlen(v) != (size_t) json_object_get_string_len(value))
                                return kerror_set(reterr, K_INVALID_ARGUMENT, "A header is malformed.");
                        text = strjoin(old, name, ": ", v, "\r\n");
                        if (!text)
                                return -ENOMEM;
                }
        }

        *ret = strjoin(text, "\r\n");
        return *ret ? 0 : -ENOMEM;
}

static bool has_token(const char *list, const char *token) {
        size_t n = strlen(token);

        for (const char *p = list; p && *p;) {
                size_t length;

                p += strspn(p, " \t,");
                length = strcspn(p, " \t,");
                if (length == n && strncasecmp(p, token, n) == 0)
                        return true;
                p += length;
        }
        return false;
}

static int check_status(char *line, KError *reterr) {
        unsigned status;
        char *p;

        p = (char *) startswith(line, "HTTP/1.1 ");
        if (!p || strlen(p) < 3 || (p[3] != ' ' && p[3] != '\0'))
                return kerror_set(reterr, K_NETWORK, "What answers is not a web server of HTTP/1.1.");
        p[3] = '\0';
        if (safe_atou(p, &status) < 0 || status < 100)
                return kerror_set(reterr, K_NETWORK, "What answers is not a web server of HTTP/1.1.");
        if (status == 101)
                return 0;

        return kerror_set(reterr, status == 401 || status == 403 ? K_ACCESS_DENIED : K_NETWORK,
                        "The master answered with HTTP status %u instead of opening the channel%s.", status,
                        status == 404   ? ": is this a master of another kind, or a proxy?"
                        : status == 401 ? ": this node's certificate did not reach it"
                                        : "");
}

int upgrade_check_response(
                const char *data, size_t size, const char *subprotocol, const char *key, KError *reterr) {
        _cleanup_free_ char *head = NULL, *accept = NULL;
        bool upgrade = false, connection = false, accepted = false, protocol = false;
        unsigned n_headers = 0;
        const char *end;
        char *next;
        int r;

        end = memmem(data, size, "\r\n\r\n", 4);
        if (!end) {
                if (size >= UPGRADE_HEAD_SIZE_MAX)
                        return kerror_set(reterr, K_NETWORK, "The answer's head is larger than %u bytes.",
                                        UPGRADE_HEAD_SIZE_MAX);
                return 0;
        }
        if ((size_t) (end - data) + 4 > UPGRADE_HEAD_SIZE_MAX)
                return kerror_set(reterr, K_NETWORK, "The answer's head is larger than %u bytes.",
                                UPGRADE_HEAD_SIZE_MAX);

        head = strndup(data, (size_t) (end - data) + 2);
        if (!head)
                return -ENOMEM;
        if (strlen(head) != (size_t) (end - data) + 2)
                return kerror_set(reterr, K_NETWORK, "The answer's head is malformed.");

        next = strstr(head, "\r\n");
        *next = '\0';
        r = check_status(head, reterr);
        if (r < 0)
                return r;
        r = websocket_accept(key, &accept);
        if (r < 0)
                return r;

        for (char *line = next + 2; *line; line = next + 2) {
                char *value;
                size_t n;

                next = strstr(line, "\r\n");
                *next = '\0';
                value = strchr(line, ':');
                if (!value || value == line || !string_is_printable(line) || ++n_headers > HEADERS_MAX)
                        return kerror_set(reterr, K_NETWORK, "The answer's head is malformed.");
                *value++ = '\0';
                value += strspn(value, " ");
                n = strlen(value);
                while (n > 0 && value[n - 1] == ' ')
                        value[--n] = '\0';

                if (strcasecmp(line, "Upgrade") == 0)
                        upgrade = strcasecmp(value, "websocket") == 0;
                else if (strcasecmp(line, "Connection") == 0)
                        connection = has_token(value, "upgrade");
                else if (strcasecmp(line, "Sec-WebSocket-Accept") == 0)
                        accepted = streq(value, accept);
                else if (strcasecmp(line, "Sec-WebSocket-Protocol") == 0)
                        protocol = streq(value, subprotocol);
                else if (strcasecmp(line, "Sec-WebSocket-Extensions") == 0)
                        return kerror_set(reterr, K_NETWORK,
                                        "The master uses an extension that was not asked for.");
        }

        if (!upgrade || !connection || !accepted)
                return kerror_set(reterr, K_NETWORK, "The answer is not that of a WebSocket server.");
        if (!protocol)
                return kerror_set(reterr, K_NETWORK, "The master does not speak '%s'.", subprotocol);
        return (int) (end - data) + 4;
}
