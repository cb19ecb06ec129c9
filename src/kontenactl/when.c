/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "when.h"

#include <time.h>

#include "file-util.h"
#include "parse-util.h"
#include "string-util.h"

static int from_tm(struct tm *tm, bool utc, int64_t offset_sec, uint64_t *ret) {
        time_t t;

        tm->tm_isdst = -1;
        t = utc ? timegm(tm) : mktime(tm);
        if (t == (time_t) -1 || t < offset_sec)
                return -EINVAL;

        *ret = (uint64_t) (t - offset_sec) * USEC_PER_SEC;
        return 0;
}

/* "Z", "+02:00", "+0200" at the end: true, with the seconds east of Greenwich. */
static bool parse_zone(const char *s, int64_t *ret) {
        unsigned h, m;
        char sign, end;

        if (streq(s, "Z") || streq(s, " UTC")) {
                *ret = 0;
                return true;
        }
        if (sscanf(s, "%c%2u:%2u%c", &sign, &h, &m, &end) != 3 &&
                        sscanf(s, "%c%2u%2u%c", &sign, &h, &m, &end) != 3)
                return false;
        if ((sign != '+' && sign != '-') || h > 14 || m > 59)
                return false;

        *ret = (int64_t) (h * 3600 + m * 60) * (sign == '-' ? -1 : 1);
        return true;
}

static int parse_calendar(const char *s, uint64_t now, uint64_t *ret) {
        static const char *const formats[] = { "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M",
                "%Y-%m-%dT%H:%M", "%Y-%m-%d", "%H:%M:%S", "%H:%M" };
        time_t t = (time_t) (now / USEC_PER_SEC);
        struct tm today;

        if (!localtime_r(&t, &today))
                return -EINVAL;

        FOREACH_ARRAY(f, formats, ELEMENTSOF(formats)) {
                struct tm tm = {
                        .tm_year = today.tm_year, .tm_mon = today.tm_mon, .tm_mday = today.tm_mday
                };
                const char *end = strptime(s, *f, &tm);
                int64_t offset;

                if (!end)
                        continue;
                /* Journal and REST times may have a fraction. */
                if (*end == '.' && end[1 + strspn(end + 1, "0123456789")] != '\0')
                        end += 1 + strspn(end + 1, "0123456789");
                if (*end == '\0')
                        return from_tm(&tm, false, 0, ret);
                if (parse_zone(end, &offset))
                        return from_tm(&tm, true, offset, ret);
        }

        return -EINVAL;
}

static int parse_span_ago(const char *s, uint64_t now, uint64_t *ret) {
        _cleanup_free_ char *span = NULL;
        const char *ago = endswith(s, " ago");
        uint64_t usec;

        if (s[0] == '-')
                s++;
        span = ago ? strndup(s, (size_t) (ago - s)) : strdup(s);
        if (!span)
                return -ENOMEM;
        if (parse_sec(span, &usec) < 0)
                return -EINVAL;

        *ret = usec < now ? now - usec : 0;
        return 0;
}

int when_parse(const char *s, uint64_t now, uint64_t *ret, KError *reterr) {
        time_t t = (time_t) (now / USEC_PER_SEC);
        uint64_t sec;
        struct tm tm;
        int r;

        assert(s);
        assert(ret);

        if (streq(s, "now")) {
                *ret = now;
                return 0;
        }
        if (s[0] == '@' && safe_atou64(s + 1, &sec) >= 0 && sec < UINT64_MAX / USEC_PER_SEC) {
                *ret = sec * USEC_PER_SEC;
                return 0;
        }
        if (STR_IN_SET(s, "today", "yesterday") && localtime_r(&t, &tm)) {
                tm.tm_hour = tm.tm_min = tm.tm_sec = 0;
                tm.tm_mday -= streq(s, "yesterday");
                return from_tm(&tm, false, 0, ret);
        }

        r = parse_calendar(s, now, ret);
        if (r < 0)
                r = parse_span_ago(s, now, ret);
        if (r < 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "'%s' is no time; say \"10min ago\", \"today\" or \"2026-11-25 09:30\".", s);
        return 0;
}
