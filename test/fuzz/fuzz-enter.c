/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "enter.h"

#include "json-util.h"
#include "string-util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The process that is to run in a machine, as it comes with arguments and environment from whoever asked for it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(enter_process_done) EnterProcess p = {};
        _cleanup_kerror_ KError error = KERROR_NULL;
        _cleanup_json_ json_object *o = NULL;

        if (json_parse((const char *) data, size, 1024 * 1024, &o, NULL) < 0 ||
                        !json_object_is_type(o, json_type_object))
                return 0;
        if (enter_process_parse(o, &p, &error) < 0) {
                assert(kerror_is_set(&error) && !p.args);
                return 0;
        }
        assert(p.args && p.args[0][0] && p.cwd[0] == '/');
        assert(p.uid != (uid_t) -1 && p.gid != (gid_t) -1);
        FOREACH_ARRAY(g, p.groups, p.n_groups)
                assert(*g != (gid_t) -1);
        return 0;
}
