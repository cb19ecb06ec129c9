/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "json-util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_json_ json_object *o = NULL, *again = NULL;
        _cleanup_kerror_ KError e = KERROR_NULL;
        const char *text;

        if (json_parse((const char *) data, size, 65536, &o, &e) < 0) {
                assert(kerror_is_set(&e));
                return 0;
        }

        /* What we write, we read. */
        text = json_text(o);
        if (text)
                assert(json_parse(text, strlen(text), 1024 * 1024, &again, NULL) >= 0);
        return 0;
}
