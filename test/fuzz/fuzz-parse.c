/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "parse-util.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "string-util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Numbers, sizes, times, addresses: of settings, options, paths and bodies. What fails leaves the caller's variable as it was. */

static void parse_numbers(const char *text) {
        _cleanup_free_ char *formatted = NULL;
        uint64_t n = 4711;
        unsigned u = 4711;
        uint16_t port = 4711;
        int64_t i = 4711;
        double d = 0;
        int r;

        r = safe_atou64(text, &n);
        assert(r >= 0 || n == 4711);
        if (r >= 0) {
                uint64_t again;

                formatted = strprintf("%" PRIu64, n);
                assert(formatted && safe_atou64(formatted, &again) >= 0 && again == n);
        }
        if (safe_atou(text, &u) >= 0)
                assert(r >= 0 && u == n);
        if (parse_port(text, &port) >= 0)
                assert(r >= 0 && port == n && port > 0);
        if (safe_atoi64(text, &i) >= 0 && i >= 0 && text[0] != '-')
                assert(r >= 0 && (uint64_t) i == n);
        if (safe_atod(text, &d) >= 0)
                assert(isfinite(d));
        r = parse_boolean(text);
        assert(r == 0 || r == 1 || r == -EINVAL);
}

static void parse_units(const char *text) {
        uint64_t n = 4711, usec = 4711;

        if (parse_size(text, &n) < 0)
                assert(n == 4711);
        if (parse_sec(text, &usec) < 0)
                assert(usec == 4711);
        else if (safe_atou64(text, &n) >= 0)
                assert(usec == n * 1000000 && usec / 1000000 == n);
}

static void parse_addresses(const char *text) {
        char formatted[INET_ADDRSTRLEN + 4];
        Ipv4Prefix p, again;
        uint32_t a;

        if (parse_ipv4(text, &a) >= 0)
                assert(streq(IPV4_TO_STRING(a), text));
        if (parse_ipv4_prefix(text, &p) < 0)
                return;
        assert(p.length <= 32 && ipv4_prefix_contains(&p, p.address) && ipv4_prefix_overlaps(&p, &p));
        assert((p.address & ~ipv4_prefix_mask(p.length)) == 0);
        (void) snprintf(formatted, sizeof(formatted), "%s/%u", IPV4_TO_STRING(p.address), p.length);
        assert(parse_ipv4_prefix(formatted, &again) >= 0 && again.address == p.address &&
                        again.length == p.length);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_free_ char *text = strndup((const char *) data, size);

        if (!text)
                return 0;
        parse_numbers(text);
        parse_units(text);
        parse_addresses(text);
        return 0;
}
