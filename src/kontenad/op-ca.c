/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "authorities.h"
#include "json-util.h"
#include "operation.h"

static int ca_status(OperationCall *c, json_object **ret, KError *reterr) {
        return authorities_describe(c->master->authorities, ret);
}

static int ca_rotate_now(OperationCall *c, json_object **ret, KError *reterr) {
        bool force = false;
        int r;

        r = json_find_bool(c->parameters, "force", &force, reterr);
        if (r >= 0)
                r = authorities_rotate(c->master->authorities, force, reterr);
        return r < 0 ? r : ca_status(c, ret, reterr);
}

static int ca_abort(OperationCall *c, json_object **ret, KError *reterr) {
        int r;

        r = authorities_abort(c->master->authorities, reterr);
        return r < 0 ? r : ca_status(c, ret, reterr);
}

/* What they change is in files, not in the store: no transaction. */
const Operation ca_operations[] = {
        {
                        .name = "master.ca-status",
                        .method = "GetAuthority",
                        .action = "io.kontena.master1.manage-ca",
                        .role = "master_admin",
                        .results = { "" },
                        .perform = ca_status,
        },
        {
                        .name = "master.ca-rotate",
                        .method = "RotateAuthority",
                        .action = "io.kontena.master1.manage-ca",
                        .role = "master_admin",
                        .flags = OPERATION_AUDITED,
                        .parameters = { { "force", PARAMETER_BOOL, true } },
                        .results = { "" },
                        .perform = ca_rotate_now,
        },
        {
                        .name = "master.ca-abort",
                        .method = "AbortAuthorityRotation",
                        .action = "io.kontena.master1.manage-ca",
                        .role = "master_admin",
                        .flags = OPERATION_AUDITED,
                        .results = { "" },
                        .perform = ca_abort,
        },
};
const size_t n_ca_operations = ELEMENTSOF(ca_operations);
