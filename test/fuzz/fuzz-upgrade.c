/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "json-util.h"
#include "string-util.h"
#include "upgrade.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The head of the master's answer; and the same bytes as headers of our request. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_json_ json_object *headers = NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;
        _cleanup_free_ char *request = NULL;
        int r;

        r = upgrade_check_response(
                        (const char *) data, size, "kontena.node.1", "dGhlIHNhbXBsZSBub25jZQ==", &error);
        assert(r >= 0 || kerror_is_set(&error));
        assert(r <= 0 || (size_t) r <= size);
        if (r > 0)
                assert(memcmp(data + r - 4, "\r\n\r\n", 4) == 0);

        if (json_parse((const char *) data, size, 65536, &headers, NULL) >= 0 &&
                        json_object_is_type(headers, json_type_object) &&
                        upgrade_request("m", "/", "p", "k", headers, &request, NULL) >= 0) {
                unsigned lines = 0;

                for (const char *p = request; (p = strstr(p, "\n")); p++)
                        lines++;
                assert(lines == 8U + (unsigned) json_object_object_length(
                                                     headers)); /* none was smuggled in */
        }
        return 0;
}
