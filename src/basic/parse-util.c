/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "parse-util.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <locale.h>
#include <math.h>
#include <strings.h>

#include "string-util.h"

int parse_boolean(const char *s) {
        static const char *const yes[] = { "1", "yes", "y", "true", "t", "on" };
        static const char *const no[] = { "0", "no", "n", "false", "f", "off" };

        if (!s)
                return -EINVAL;

        for (size_t i = 0; i < ELEMENTSOF(yes); i++)
                if (strcasecmp(s, yes[i]) == 0)
                        return 1;
        for (size_t i = 0; i < ELEMENTSOF(no); i++)
                if (strcasecmp(s, no[i]) == 0)
                        return 0;

        return -EINVAL;
}

int safe_atou64(const char *s, uint64_t *ret) {
        char *end = NULL;
        unsigned long long v;

        if (!s || !isdigit((unsigned char) s[0]))
                return -EINVAL;

        errno = 0;
        v = strtoull(s, &end, 10);
        if (errno > 0)
                return -errno;
        if (*end != '\0')
                return -EINVAL;

        *ret = v;
        return 0;
}

int safe_atou(const char *s, unsigned *ret) {
        uint64_t v;
        int r;

        r = safe_atou64(s, &v);
        if (r < 0)
                return r;
        if (v > UINT32_MAX)
                return -ERANGE;

        *ret = (unsigned) v;
        return 0;
}

int safe_atoi64(const char *s, int64_t *ret) {
        char *end = NULL;
        long long v;

        if (!s || !(isdigit((unsigned char) s[0]) || (s[0] == '-' && isdigit((unsigned char) s[1]))))
                return -EINVAL;

        errno = 0;
        v = strtoll(s, &end, 10);
        if (errno > 0)
                return -errno;
        if (*end != '\0')
                return -EINVAL;

        *ret = v;
        return 0;
}

int safe_atod(const char *s, double *ret) {
        char *end = NULL;
        double v;

        if (!s || !(isdigit((unsigned char) s[0]) || s[0] == '.' || s[0] == '-'))
                return -EINVAL;

        errno = 0;
        v = strtod(s, &end);
        if (errno > 0)
                return -errno;
        if (end == s || *end != '\0' || !isfinite(v))
                return -EINVAL;

        *ret = v;
        return 0;
}

int parse_port(const char *s, uint16_t *ret) {
        uint64_t v;
        int r;

        r = safe_atou64(s, &v);
        if (r < 0)
                return r;
        if (v == 0 || v > UINT16_MAX)
                return -ERANGE;

        *ret = (uint16_t) v;
        return 0;
}

int parse_size(const char *s, uint64_t *ret) {
        static const char suffixes[] = "bkmgt";
        char *end = NULL;
        unsigned long long v;
        unsigned shift = 0;

        if (!s || !isdigit((unsigned char) s[0]))
                return -EINVAL;

        errno = 0;
        v = strtoull(s, &end, 10);
        if (errno > 0)
                return -errno;

        if (*end != '\0') {
                const char *p = strchr(suffixes, tolower((unsigned char) *end));

                if (!p)
                        return -EINVAL;
                shift = (unsigned) (p - suffixes) * 10;
                end++;
                if (shift > 0 && tolower((unsigned char) *end) == 'b')
                        end++;
                if (*end != '\0')
                        return -EINVAL;
        }
        if (shift > 0 && v > UINT64_MAX >> shift)
                return -ERANGE;

        *ret = v << shift;
        return 0;
}

int parse_sec(const char *s, uint64_t *ret_usec) {
        static const struct {
                const char *suffix;
                uint64_t usec;
        } units[] = {
                { "us", 1 },
                { "ms", 1000 },
                { "seconds", 1000000 },
                { "second", 1000000 },
                { "sec", 1000000 },
                { "s", 1000000 },
                { "minutes", 60000000 },
                { "minute", 60000000 },
                { "min", 60000000 },
                { "m", 60000000 },
                { "hours", 3600000000 },
                { "hour", 3600000000 },
                { "h", 3600000000 },
                { "days", 86400000000 },
                { "day", 86400000000 },
                { "d", 86400000000 },
        };
        uint64_t total = 0;

        if (isempty(s))
                return -EINVAL;

        while (*s != '\0') {
                char *end = NULL;
                uint64_t unit = 1000000;
                unsigned long long v;
                size_t n;

                if (!isdigit((unsigned char) *s))
                        return -EINVAL;
                errno = 0;
                v = strtoull(s, &end, 10);
                if (errno > 0)
                        return -errno;

                s = end;
                n = strspn(s, "abcdefghijklmnopqrstuvwxyz");
                if (n > 0) {
                        unit = 0;
                        for (size_t i = 0; i < ELEMENTSOF(units); i++)
                                if (strlen(units[i].suffix) == n && strneq(units[i].suffix, s, n))
                                        unit = units[i].usec;
                        if (unit == 0)
                                return -EINVAL;
                }
                s += n;
                s += strspn(s, " ");

                if (__builtin_mul_overflow(v, unit, &v) || __builtin_add_overflow(total, v, &total))
                        return -ERANGE;
        }

        *ret_usec = total;
        return 0;
}

uint32_t ipv4_prefix_mask(uint8_t length) {
        return length == 0 ? 0 : UINT32_MAX << (32 - MIN(length, (uint8_t) 32));
}

int parse_ipv4(const char *s, uint32_t *ret) {
        struct in_addr a;

        if (!s || inet_pton(AF_INET, s, &a) != 1)
                return -EINVAL;

        *ret = ntohl(a.s_addr);
        return 0;
}

int parse_ipv4_prefix(const char *s, Ipv4Prefix *ret) {
        char address[INET_ADDRSTRLEN];
        const char *slash;
        Ipv4Prefix p;
        uint64_t length;
        int r;

        slash = s ? strchr(s, '/') : NULL;
        if (!slash || (size_t) (slash - s) >= sizeof(address))
                return -EINVAL;

        memcpy(address, s, (size_t) (slash - s));
        address[slash - s] = '\0';

        r = parse_ipv4(address, &p.address);
        if (r < 0)
                return r;
        r = safe_atou64(slash + 1, &length);
        if (r < 0)
                return r;
        if (length > 32)
                return -ERANGE;

        p.length = (uint8_t) length;
        if ((p.address & ~ipv4_prefix_mask(p.length)) != 0)
                return -EINVAL;

        *ret = p;
        return 0;
}

bool ipv4_prefix_contains(const Ipv4Prefix *p, uint32_t address) {
        return (address & ipv4_prefix_mask(p->length)) == p->address;
}

bool ipv4_prefix_overlaps(const Ipv4Prefix *a, const Ipv4Prefix *b) {
        return ipv4_prefix_contains(
                        a->length <= b->length ? a : b, a->length <= b->length ? b->address : a->address);
}

const char *ipv4_to_string(uint32_t address, char ret[static INET_ADDRSTRLEN]) {
        struct in_addr a = { .s_addr = htonl(address) };

        return inet_ntop(AF_INET, &a, ret, INET_ADDRSTRLEN);
}
