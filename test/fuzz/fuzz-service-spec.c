/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "json-util.h"
#include "service-spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* One text is the settings; two, parted by a NUL byte, are settings and changes to them. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_json_ json_object *base = NULL, *changes = NULL, *after = NULL;
        _cleanup_(service_spec_freep) ServiceSpec *s = NULL, *again = NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;
        const char *text = (const char *) data;
        const uint8_t *nul;
        size_t n;

        nul = memchr(data, 0, size);
        n = nul ? (size_t) (nul - data) : size;
        if (json_parse(text, n, 65536, &base, NULL) < 0)
                return 0;
        if (service_spec_parse(base, &s, &error) < 0) {
                assert(kerror_is_set(&error));
                return 0;
        }

        if (!nul || json_parse(text + n + 1, size - n - 1, 65536, &changes, NULL) < 0)
                return 0;
        if (service_spec_update(base, changes, &after, NULL) < 0)
                return 0;
        /* What an update accepts, everybody accepts. */
        assert(service_spec_parse(after, &again, NULL) >= 0);
        assert(again->stateful == s->stateful);

        return 0;
}
