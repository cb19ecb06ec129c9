/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "auth-challenge.h"

#include <ctype.h>
#include <strings.h>

#include "string-util.h"

#define PARAMETERS_MAX 32U

void auth_challenge_done(AuthChallenge *c) {
        free(c->realm);
        free(c->service);
        free(c->scope);
        free(c->error);
        *c = (AuthChallenge){};
}

static bool is_token(char c) {
        return c > ' ' && c < 0x7f && !strchr("()<>@,;:\\\"/[]?={}", c);
}

static const char *skip_blanks(const char *p) {
        return p + strspn(p, " \t");
}

static int read_token(const char **p, char **ret) {
        const char *start = *p;

        while (is_token(**p))
                (*p)++;
        if (*p == start)
                return -EINVAL;

        *ret = strndup(start, (size_t) (*p - start));
        return *ret ? 0 : -ENOMEM;
}

static int read_quoted(const char **p, char **ret) {
        _cleanup_free_ char *s = NULL;
        size_t n = 0;

        s = malloc(strlen(*p) + 1);
        if (!s)
                return -ENOMEM;
        for ((*p)++; **p != '"'; (*p)++) {
                if (**p == '\\')
                        (*p)++;
                if ((unsigned char) **p < ' ' || **p == 0x7f)
                        return -EINVAL; /* also the end of the text */
                s[n++] = **p;
        }
        (*p)++;
        s[n] = '\0';

        *ret = TAKE_PTR(s);
        return 0;
}

/* One "name=value". 0: there was none, and *p is where it was. */
static int read_parameter(const char **p, char **ret_name, char **ret_value) {
        _cleanup_free_ char *name = NULL, *value = NULL;
        const char *q = *p;
        int r;

        if (!is_token(*q))
                return 0;
        r = read_token(&q, &name);
        if (r < 0)
                return r;
        q = skip_blanks(q);
        if (*q != '=')
                return 0;
        q = skip_blanks(q + 1);
        r = *q == '"' ? read_quoted(&q, &value) : read_token(&q, &value);
        if (r < 0)
                return r;

        *p = q;
        *ret_name = TAKE_PTR(name);
        *ret_value = TAKE_PTR(value);
        return 1;
}

static AuthScheme scheme_from_name(const char *s) {
        if (strcasecmp(s, "Bearer") == 0)
                return AUTH_BEARER;
        if (strcasecmp(s, "Basic") == 0)
                return AUTH_BASIC;
        return AUTH_NONE;
}

static void take_parameter(AuthChallenge *c, const char *name, char **value) {
        char **field = strcasecmp(name, "realm") == 0     ? &c->realm
                       : strcasecmp(name, "service") == 0 ? &c->service
                       : strcasecmp(name, "scope") == 0   ? &c->scope
                       : strcasecmp(name, "error") == 0   ? &c->error
                                                          : NULL;

        if (field && !*field)
                *field = TAKE_PTR(*value);
}

/* The end of base64 text that stands alone up to a comma or the end; p where it does not. */
static const char *skip_base64(const char *p) {
        const char *q = p;

        while (isalnum((unsigned char) *q) || (*q != '\0' && strchr("-._~+/", *q)))
                q++;
        if (q == p)
                return p;
        q = skip_blanks(q + strspn(q, "="));

        return *q == ',' || *q == '\0' ? q : p;
}

/* What follows the name of the scheme: parameters, or base64 text of a scheme that is not ours. */
static int read_parameters(const char **p, AuthChallenge *c) {
        int r;

        for (size_t n = 0;; n++) {
                _cleanup_free_ char *name = NULL, *value = NULL;
                const char *q = skip_blanks(*p);

                if (n > 0) {
                        if (*q != ',')
                                return 0;
                        while (*q == ',')
                                q = skip_blanks(q + 1);
                }
                if (n >= PARAMETERS_MAX)
                        return -EINVAL;
                if (n == 0 && skip_base64(q) > q) {
                        *p = skip_base64(q);
                        return 0;
                }
                r = read_parameter(&q, &name, &value);
                if (r <= 0)
                        return r;
                take_parameter(c, name, &value);
                *p = q;
        }
}

int auth_challenge_parse(const char *value, AuthChallenge *c) {
        const char *p = value;
        int r;

        assert(value && c);

        for (;;) {
                _cleanup_auth_challenge_ AuthChallenge one = {};
                _cleanup_free_ char *scheme = NULL;

                while (*p == ',' || *p == ' ' || *p == '\t')
                        p++;
                if (*p == '\0')
                        return 0;
                r = read_token(&p, &scheme);
                if (r < 0)
                        return r;
                if (!strchr(" \t,", *p)) /* also the end */
                        return -EINVAL;
                one.scheme = scheme_from_name(scheme);
                r = read_parameters(&p, &one);
                if (r < 0)
                        return r;
                p = skip_blanks(p);
                if (*p != ',' && *p != '\0')
                        return -EINVAL;

                if (one.scheme > c->scheme && (one.scheme != AUTH_BEARER || one.realm)) {
                        auth_challenge_done(c);
                        *c = TAKE_GENERIC(one, (AuthChallenge){});
                }
        }
}
