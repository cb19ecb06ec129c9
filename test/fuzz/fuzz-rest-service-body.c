/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "json-util.h"
#include "rest-service-body.h"
#include "service-spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first byte says whether the service is new. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_json_ json_object *body = NULL, *spec = NULL, *refused = NULL;
        _cleanup_(service_spec_freep) ServiceSpec *parsed = NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;
        int r;

        if (size < 1 || size > 64 * 1024 ||
                        json_parse((const char *) data + 1, size - 1, 64 * 1024, &body, NULL) < 0)
                return 0;
        r = rest_service_body_translate(body, data[0] & 1, &spec, &refused);
        assert(r == 0 || r == 1 || r == -ENOMEM);
        if (r != 0)
                return 0;
        assert(json_object_is_type(spec, json_type_object));
        if (service_spec_parse(spec, &parsed, &error) < 0)
                assert(rest_service_error_field(&error));
        return 0;
}
