/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "file-util.h"
#include "json-util.h"
#include "rest.h"
#include "string-util.h"

#define YEAR_MIN 1970
#define YEAR_MAX 9999

static int take_number(const char **s, size_t digits, int min, int max, int *ret) {
        int n = 0;

        for (size_t i = 0; i < digits; i++) {
                if ((*s)[i] < '0' || (*s)[i] > '9')
                        return -EINVAL;
                n = n * 10 + ((*s)[i] - '0');
        }
        if (n < min || n > max)
                return -EINVAL;
        *s += digits;
        *ret = n;
        return 0;
}

static bool take_char(const char **s, const char *set) {
        if (**s == '\0' || !strchr(set, **s))
                return false;
        (*s)++;
        return true;
}

static int take_fraction(const char **s, uint64_t *ret_usec) {
        uint64_t usec = 0, unit = USEC_PER_SEC / 10;
        const char *start = *s;

        for (; **s >= '0' && **s <= '9'; (*s)++) {
                usec += (uint64_t) (**s - '0') * unit;
                unit /= 10;
        }
        *ret_usec = usec;
        return *s == start ? -EINVAL : 0;
}

/* Minutes east of UTC */
static int take_zone(const char **s, int *ret) {
        int hours, minutes = 0, sign;

        *ret = 0;
        if (**s == '\0' || take_char(s, "Zz"))
                return 0;
        sign = **s == '-' ? -1 : 1;
        if (!take_char(s, "+-") || take_number(s, 2, 0, 23, &hours) < 0)
                return -EINVAL;
        (void) take_char(s, ":");
        if (**s != '\0' && take_number(s, 2, 0, 59, &minutes) < 0)
                return -EINVAL;
        *ret = sign * (hours * 60 + minutes);
        return 0;
}

int rest_parse_time(const char *s, uint64_t *ret) {
        uint64_t usec = 0;
        struct tm tm = {};
        int zone = 0, year, month;
        int64_t seconds;

        assert(s);
        assert(ret);

        if (take_number(&s, 4, YEAR_MIN, YEAR_MAX, &year) < 0 || !take_char(&s, "-") ||
                        take_number(&s, 2, 1, 12, &month) < 0 || !take_char(&s, "-") ||
                        take_number(&s, 2, 1, 31, &tm.tm_mday) < 0)
                return -EINVAL;
        tm.tm_year = year - 1900;
        tm.tm_mon = month - 1;
        if (*s != '\0') {
                if (!take_char(&s, "Tt ") || take_number(&s, 2, 0, 23, &tm.tm_hour) < 0 ||
                                !take_char(&s, ":") || take_number(&s, 2, 0, 59, &tm.tm_min) < 0)
                        return -EINVAL;
                if (take_char(&s, ":")) {
                        if (take_number(&s, 2, 0, 60, &tm.tm_sec) < 0)
                                return -EINVAL;
                        if (take_char(&s, ".,") && take_fraction(&s, &usec) < 0)
                                return -EINVAL;
                }
                (void) take_char(&s, " ");
                if (take_zone(&s, &zone) < 0 || *s != '\0')
                        return -EINVAL;
        }

        seconds = (int64_t) timegm(&tm) - (int64_t) zone * 60;
        if (seconds < 0)
                return -ERANGE;
        *ret = (uint64_t) seconds * USEC_PER_SEC + usec;
        return 0;
}

char *rest_format_time(uint64_t usec) {
        time_t seconds = (time_t) (usec / USEC_PER_SEC);
        char text[64];
        struct tm tm;

        if (!gmtime_r(&seconds, &tm) || strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm) == 0)
                return NULL;
        return strprintf("%s.%03uZ", text, (unsigned) (usec / 1000 % 1000));
}

int rest_add_time(json_object *o, const char *key, uint64_t usec) {
        _cleanup_free_ char *text = NULL;

        if (usec > 0) {
                text = rest_format_time(usec);
                if (!text)
                        return -ENOMEM;
        }
        return json_add_string(o, key, text);
}

json_object *rest_params(const char *key, ...) {
        _cleanup_json_ json_object *o = json_object_new_object();
        va_list ap;
        int r = o ? 0 : -ENOMEM;

        va_start(ap, key);
        for (const char *k = key; k && r >= 0; k = va_arg(ap, const char *)) {
                const char *value = va_arg(ap, const char *);

                if (value)
                        r = json_add_string(o, k, value);
        }
        va_end(ap);
        return r < 0 ? NULL : TAKE_PTR(o);
}

int rest_copy_fields(json_object *to, json_object *from, const char *const *names) {
        for (const char *const *name = names; *name; name++) {
                json_object *value = NULL;

                if (!json_object_object_get_ex(from, *name, &value) || !value)
                        continue;
                if (json_add(to, *name, json_object_get(value)) < 0)
                        return -ENOMEM;
        }
        return 0;
}
