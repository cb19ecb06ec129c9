/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "affinity.h"
#include "string-util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A rule, and behind a NUL byte a text to compare with. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_free_ char *rule = NULL, *text = NULL;
        _cleanup_affinity_ Affinity a = {};
        _cleanup_kerror_ KError error = KERROR_NULL;
        size_t n;

        if (size > 4096)
                return 0;
        n = strnlen((const char *) data, size);
        rule = strndup((const char *) data, n);
        text = n < size ? strndup((const char *) data + n + 1, size - n - 1) : strdup("");
        if (!rule || !text)
                return 0;

        if (affinity_parse(rule, 7, &a, &error) < 0) {
                assert(kerror_is_set(&error));
                return 0;
        }
        /* The same text means the same whenever it is compared. */
        assert(affinity_matches(&a, text) == affinity_matches(&a, text));
        (void) affinity_matches_service(&a, "shop", "shop", text);
        return 0;
}
