/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "json-util.h"
#include "node-message.h"
#include "string-util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What nodes say: as a status and as a report. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        GridRow grid = { .name = (char *) "g", .subnet = (char *) "10.81.0.0/16" };
        _cleanup_kerror_ KError error = KERROR_NULL, refusal = KERROR_NULL;
        _cleanup_json_ json_object *o = NULL;
        NodeStatus s;

        if (json_parse((const char *) data, size, 65536, &o, NULL) < 0)
                return 0;

        if (node_status_parse(o, &s, &error) >= 0)
                assert(s.id && s.state);
        else
                assert(kerror_is_set(&error));

        if (node_report_validate(o, NULL) >= 0 && node_report_check_routes(&grid, o, &refusal) < 0)
                assert(refusal.code == K_NETWORK);
        return 0;
}
