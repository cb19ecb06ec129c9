/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "image-reference.h"

#include <ctype.h>

#include "kontena-limits.h"
#include "parse-util.h"
#include "string-util.h"

#define DOCKER_REGISTRY   "docker.io"
#define DOCKER_HOST       "registry-1.docker.io"
#define TAG_LENGTH_MAX    128U
#define REGISTRY_NAME_MAX 260U /* a host and a port */

void image_reference_done(ImageReference *r) {
        if (!r)
                return;

        free(r->registry);
        free(r->repository);
        free(r->tag);
        free(r->digest);
        *r = (ImageReference){};
}

const char *digest_hex(const char *digest) {
        const char *hex;

        hex = digest ? startswith(digest, "sha256:") : NULL;
        if (!hex || strlen(hex) != 64 || strspn(hex, "0123456789abcdef") != 64)
                return NULL;

        return hex;
}

const char *registry_canonical(const char *s) {
        return STR_IN_SET(s, DOCKER_REGISTRY, "index.docker.io", DOCKER_HOST) ? DOCKER_REGISTRY : s;
}

static bool is_alnum(char c) {
        return isascii(c) && isalnum((unsigned char) c);
}

static bool is_lower_alnum(char c) {
        return is_alnum(c) && !isupper((unsigned char) c);
}

/* "[::1]:5000", "registry", "registry.example.org:5000". */
static bool registry_is_valid(const char *s) {
        const char *port;
        uint16_t number;

        if (s[0] == '[') {
                const char *end = strchr(s, ']');

                if (!end || end == s + 1 ||
                                strspn(s + 1, "0123456789abcdefABCDEF:.") != (size_t) (end - s - 1))
                        return false;
                port = end + 1;
        } else {
                port = s + strcspn(s, ":");
                if (port == s || !is_alnum(s[0]) || !is_alnum(port[-1]))
                        return false;
                for (const char *p = s; p < port; p++)
                        if (!is_alnum(*p) && (!strchr(".-", *p) || (*p == '.' && p[1] == '.')))
                                return false;
        }

        return *port == '\0' || (*port == ':' && parse_port(port + 1, &number) >= 0);
}

int registry_name_parse(const char *s, char **ret, KError *reterr) {
        static const char *const ends[] = { "/v2/", "/v2", "/v1/", "/v1", "/" };
        _cleanup_free_ char *name = NULL;
        const char *begin, *end = NULL;

        assert(ret);

        if (startswith(s, "http://"))
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "No password is sent to a registry without TLS: '%s' cannot be used.", s);
        begin = startswith(s, "https://") ?: s;
        for (size_t i = 0; i < ELEMENTSOF(ends) && !end; i++)
                end = endswith(begin, ends[i]);
        name = strndup(begin, end ? (size_t) (end - begin) : strlen(begin));
        if (!name)
                return -ENOMEM;
        for (char *p = name; *p; p++)
                *p = (char) tolower((unsigned char) *p);

        if (strlen(name) > REGISTRY_NAME_MAX || !registry_is_valid(name) ||
                        (!strpbrk(name, ".:") && !streq(name, "localhost")))
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "'%.300s' is not a registry's address, as 'docker.io', "
                                "'registry.example.org' or 'registry:5000'.",
                                s);

        *ret = strdup(registry_canonical(name));
        return *ret ? 0 : -ENOMEM;
}

/* Parts of lower-case letters and digits, held together by '.', '_', "__" or any number of '-'. */
static bool repository_is_valid(const char *s) {
        for (const char *p = s;;) {
                size_t n;

                if (!is_lower_alnum(*p))
                        return false;
                while (is_lower_alnum(*p))
                        p++;
                if (*p == '\0')
                        return true;
                if (*p == '/') {
                        p++;
                        continue;
                }
                n = strspn(p, ".") ?: strspn(p, "_") ?: strspn(p, "-");
                if (n == 0 || (*p == '.' && n > 1) || (*p == '_' && n > 2))
                        return false;
                p += n;
        }
}

static bool tag_is_valid(const char *s) {
        if (!is_alnum(s[0]) && s[0] != '_')
                return false;
        for (const char *p = s; *p; p++)
                if (!is_alnum(*p) && !strchr("_.-", *p))
                        return false;

        return strlen(s) <= TAG_LENGTH_MAX;
}

int image_reference_parse(const char *s, ImageReference *ret, KError *reterr) {
        _cleanup_image_reference_ ImageReference ref = {};
        _cleanup_free_ char *copy = NULL;
        char *name, *at, *slash, *colon;

        assert(ret);

        if (isempty(s))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "An image needs a name.");
        if (strlen(s) > IMAGE_REFERENCE_MAX)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "The name of an image has at most %u characters, this one %zu.",
                                IMAGE_REFERENCE_MAX, strlen(s));
        if (!string_is_printable(s))
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "The name of an image has no control characters.");

        name = copy = strdup(s);
        if (!copy)
                return -ENOMEM;

        at = strchr(name, '@');
        if (at) {
                *at++ = '\0';
                if (!digest_hex(at))
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "Image '%s': a digest is 'sha256:' and 64 hexadecimal digits in "
                                        "lower case.",
                                        s);
                ref.digest = strdup(at);
                if (!ref.digest)
                        return -ENOMEM;
        }

        slash = strchr(name, '/');
        if (slash) {
                *slash = '\0';
                if (name[strcspn(name, ".:")] != '\0' || streq(name, "localhost")) {
                        if (!registry_is_valid(name))
                                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                                "Image '%s': '%s' is not a registry's address.", s, name);
                        for (char *p = name; *p; p++)
                                *p = (char) tolower((unsigned char) *p);
                        ref.registry = strdup(registry_canonical(name));
                        name = slash + 1;
                } else
                        *slash = '/';
        }
        if (!ref.registry)
                ref.registry = strdup(DOCKER_REGISTRY);
        if (!ref.registry)
                return -ENOMEM;

        colon = strrchr(name, ':');
        if (colon) {
                *colon++ = '\0';
                if (!tag_is_valid(colon))
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "Image '%s': '%s' is not a tag: letters, digits, '_', '.' and '-', "
                                        "at most %u.",
                                        s, colon, TAG_LENGTH_MAX);
        }
        if (colon || !ref.digest) {
                ref.tag = strdup(colon ?: "latest");
                if (!ref.tag)
                        return -ENOMEM;
        }

        if (!repository_is_valid(name))
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "Image '%s': '%s' is not a repository: lower-case letters and digits, "
                                "parted by '.', '_', '-' or '/'.",
                                s, name);
        ref.repository = streq(ref.registry, DOCKER_REGISTRY) && !strchr(name, '/')
                                         ? strjoin("library/", name)
                                         : strdup(name);
        if (!ref.repository)
                return -ENOMEM;

        *ret = TAKE_GENERIC(ref, (ImageReference){});
        return 0;
}

char *image_reference_normalized(const ImageReference *r) {
        return r->digest ? strjoin(r->registry, "/", r->repository, "@", r->digest)
                         : strjoin(r->registry, "/", r->repository, ":", r->tag);
}

const char *image_reference_host(const ImageReference *r) {
        return streq(r->registry, DOCKER_REGISTRY) ? DOCKER_HOST : r->registry;
}
