/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "json-util.h"
#include "kontena-limits.h"
#include "request.h"
#include "string-util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        _cleanup_json_ json_object *o = NULL;
        _cleanup_request_ Request q = {};

        if (json_parse((const char *) data, size, 1024 * 1024, &o, NULL) < 0 ||
                        !json_object_is_type(o, json_type_object))
                return 0;
        if (request_parse(o, &q, &error) < 0) {
                assert(kerror_is_set(&error) && !q.store && !q.endpoints);
                return 0;
        }
        assert(q.store[0] == '/' && q.normalized && q.architecture);
        assert(q.n_endpoints >= 1 && q.n_endpoints <= REGISTRIES_MAX + 1);
        FOREACH_ARRAY(e, q.endpoints, q.n_endpoints)
                assert(e->host);
        assert(q.size_max <= IMAGE_SIZE_MAX && q.entries_max <= IMAGE_ENTRIES_MAX);
        assert(q.attempts >= 1 && q.attempts <= PULL_ATTEMPTS_MAX);
        return 0;
}
