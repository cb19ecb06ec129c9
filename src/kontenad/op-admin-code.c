/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "file-util.h"
#include "identity.h"
#include "json-util.h"
#include "operation.h"

static int master_admin_code(OperationCall *c, json_object **ret, KError *reterr) {
        _cleanup_json_ json_object *o = json_object_new_object();
        _cleanup_(issued_token_done) IssuedToken t = {};
        int r;

        if (!o)
                return -ENOMEM;
        r = identity_admin_code(c->master, NULL, &t, reterr);
        if (r >= 0)
                r = json_add_string(o, "code", t.token);
        if (r >= 0)
                r = json_add_u64(o, "expires_at", t.row->ends_at);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

const Operation admin_code_operations[] = {
        {
                        .name = "master.admin-code",
                        .method = "CreateAdminCode",
                        .action = "io.kontena.master1.admin-code",
                        .role = "master_admin",
                        .flags = OPERATION_CHANGES | OPERATION_AUDITED | OPERATION_SECRET,
                        .results = { "code", "expires_at" },
                        .perform = master_admin_code,
        },
};
const size_t n_admin_code_operations = ELEMENTSOF(admin_code_operations);
