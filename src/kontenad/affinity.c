/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "affinity.h"

#include <ctype.h>
#include <stdio.h>

#include "kontena-limits.h"
#include "string-util.h"

static const char *const affinity_key_table[_AFFINITY_KEY_MAX] = {
        [AFFINITY_NODE] = "node",
        [AFFINITY_SERVICE] = "service",
        [AFFINITY_CONTAINER] = "container",
        [AFFINITY_LABEL] = "label",
};

void affinity_done(Affinity *a) {
        if (!a)
                return;

        if (a->regex) {
                regfree(a->regex);
                free(a->regex);
        }
        free(a->value);
        *a = (Affinity){};
}

/* The first of "==" and "!=". */
static const char *find_operator(const char *s) {
        for (const char *p = s; *p; p++)
                if ((p[0] == '=' || p[0] == '!') && p[1] == '=')
                        return p;
        return NULL;
}

static char *expand_number(const char *s, uint32_t number) {
        _cleanup_free_ char *buffer = NULL;
        size_t size = 1;
        char *o;

        for (const char *p = s; *p; p++)
                size += p[0] == '%' ? 11 : 1;
        buffer = malloc(size);
        if (!buffer)
                return NULL;

        o = buffer;
        for (const char *p = s; *p; p++)
                if (p[0] == '%' && p[1] == '%') {
                        *o++ = '%';
                        p++;
                } else if (p[0] == '%' && p[1] == 's' && number > 0) {
                        o += snprintf(o, size - (size_t) (o - buffer), "%u", number);
                        p++;
                } else
                        *o++ = *p;
        *o = '\0';

        return TAKE_PTR(buffer);
}

/* Turns \d into [0-9] (a class inside brackets) and \/ into /. Refuses what makes matching expensive: references
 * to groups, and repetitions that multiply. */
static int translate_regex(const char *s, char **ret, KError *reterr) {
        _cleanup_free_ char *buffer = NULL;
        uint64_t product = 1;
        bool in_brackets = false;
        char *o;

        buffer = malloc(strlen(s) * 5 + 1);
        if (!buffer)
                return -ENOMEM;

        o = buffer;
        for (const char *p = s; *p; p++)
                if (in_brackets) {
                        if (p[0] == '\\' && p[1] == 'd') {
                                o = stpcpy(o, "0-9");
                                p++;
                                continue;
                        }
                        if (p[0] == '\\' && p[1] == '/')
                                continue;
                        if (p[0] == '[' && (p[1] == ':' || p[1] == '.' || p[1] == '=')) {
                                const char *end = strstr(p + 2, (const char[]){ p[1], ']', '\0' });

                                if (end) {
                                        o = mempcpy(o, p, (size_t) (end + 2 - p));
                                        p = end + 1;
                                        continue;
                                }
                        }
                        if (p[0] == ']')
                                in_brackets = false;
                        *o++ = *p;
                } else if (p[0] == '\\' && p[1] != '\0') {
                        p++;
                        if (p[0] >= '1' && p[0] <= '9')
                                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                                "references to groups are not supported");
                        if (p[0] == 'd')
                                o = stpcpy(o, "[0-9]");
                        else {
                                if (p[0] != '/')
                                        *o++ = '\\';
                                *o++ = *p;
                        }
                } else if (p[0] == '[') {
                        in_brackets = true;
                        *o++ = *p;
                        /* A ']' that comes first stands for itself. */
                        if (p[1] == '^')
                                *o++ = *++p;
                        if (p[1] == ']')
                                *o++ = *++p;
                } else {
                        unsigned long times = 1;

                        /* The library copies what is repeated, also once for '+', and copies of copies multiply. */
                        if (p[0] == '+')
                                times = 2;
                        for (const char *q = p + 1; p[0] == '{' && *q && *q != '}'; q++)
                                if (isdigit((unsigned char) *q)) {
                                        char *end;
                                        unsigned long n = strtoul(q, &end, 10);

                                        times = MAX(times, n);
                                        q = end - 1;
                                }
                        product *= MIN(times, 100000UL);
                        if (product > REGEX_REPETITIONS_MAX)
                                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                                "its repetitions multiply to more than %u",
                                                REGEX_REPETITIONS_MAX);
                        *o++ = *p;
                }
        *o = '\0';

        *ret = TAKE_PTR(buffer);
        return 0;
}

static int compile(const char *pattern, regex_t **ret, KError *reterr) {
        _cleanup_free_ char *translated = NULL;
        _cleanup_free_ regex_t *regex = NULL;
        int r;

        r = translate_regex(pattern, &translated, reterr);
        if (r < 0)
                return r;

        regex = new0(regex_t, 1);
        if (!regex)
                return -ENOMEM;

        r = regcomp(regex, translated, REG_EXTENDED | REG_NOSUB);
        if (r == REG_ESPACE)
                return -ENOMEM;
        if (r != 0) {
                char sentence[128];

                (void) regerror(r, regex, sentence, sizeof(sentence));
                return kerror_set(reterr, K_INVALID_ARGUMENT, "%s", sentence);
        }

        *ret = TAKE_PTR(regex);
        return 0;
}

static int parse_value(Affinity *a, const char *text, uint32_t number, KError *reterr) {
        _cleanup_free_ char *expanded = NULL;
        size_t n;

        expanded = expand_number(text, number);
        if (!expanded)
                return -ENOMEM;

        n = strlen(expanded);
        if (n < 2 || expanded[0] != '/' || expanded[n - 1] != '/') {
                a->qualified = strchr(expanded, '/');
                a->value = TAKE_PTR(expanded);
                return 0;
        }

        a->is_regex = true;
        a->value = strndup(expanded + 1, n - 2);
        if (!a->value)
                return -ENOMEM;
        a->qualified = strstr(a->value, "\\/");

        return compile(a->value, &a->regex, reterr);
}

int affinity_parse(const char *text, uint32_t number, Affinity *ret, KError *reterr) {
        _cleanup_affinity_ Affinity a = {};
        _cleanup_free_ char *key = NULL;
        const char *op, *value;
        int r;

        assert(text);
        assert(ret);

        if (strlen(text) > AFFINITY_LENGTH_MAX)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "An affinity has at most %u characters, this one %zu.", AFFINITY_LENGTH_MAX,
                                strlen(text));

        op = find_operator(text);
        if (!op)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "Affinity '%s' has neither '==' nor '!='.",
                                text);

        key = strndup(text, (size_t) (op - text));
        if (!key)
                return -ENOMEM;
        for (a.key = 0; a.key < _AFFINITY_KEY_MAX; a.key++)
                if (streq(affinity_key_table[a.key], key))
                        break;
        if (a.key == _AFFINITY_KEY_MAX)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "Affinity '%s': the key '%s' is not one of node, service, container, label.",
                                text, key);

        a.negate = op[0] == '!';
        value = op + 2;
        if (value[0] == '~') {
                a.soft = true;
                value++;
        }
        if (value[0] == '\0')
                return kerror_set(reterr, K_INVALID_ARGUMENT, "Affinity '%s' has no value.", text);

        r = parse_value(&a, value, number, reterr);
        if (r < 0) {
                kerror_prefix(reterr, "Affinity '%s'", text);
                return r;
        }

        *ret = TAKE_GENERIC(a, (Affinity){});
        return 0;
}

int affinity_validate(char *const *texts, KError *reterr) {
        int r;

        STRV_FOREACH(t, texts) {
                _cleanup_affinity_ Affinity a = {};

                r = affinity_parse(*t, /* number= */ 0, &a, reterr);
                if (r < 0)
                        return r;
        }

        return 0;
}

bool affinity_matches(const Affinity *a, const char *text) {
        assert(a);
        assert(text);

        if (a->is_regex)
                return regexec(a->regex, text, 0, NULL, 0) == 0;
        return streq(a->value, text);
}

bool affinity_matches_service(
                const Affinity *a, const char *own_stack, const char *stack, const char *service) {
        _cleanup_free_ char *qualified = NULL;

        assert(a);

        if (!a->qualified)
                return streq(own_stack, stack) && affinity_matches(a, service);

        /* Without memory it does not match: a hard rule then keeps the instance away, which is the safe side. */
        qualified = strjoin(stack, "/", service);
        return qualified && affinity_matches(a, qualified);
}
