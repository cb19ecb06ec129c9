/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "audit-verify.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "operation.h"
#include "string-util.h"

#define LIST_DEFAULT 100U

static int render(const AuditRow *row, json_object **ret) {
        _cleanup_json_ json_object *o = NULL;
        int r;

        /* What was changed in the database by others need not be JSON. */
        if (json_parse(row->record, strlen(row->record), AUDIT_RECORD_SIZE_MAX, &o, NULL) < 0 ||
                        !json_object_is_type(o, json_type_object)) {
                json_object_put(o);
                o = json_object_new_object();
        }
        if (!o)
                return -ENOMEM;
        r = json_add_u64(o, "id", row->id);
        if (r >= 0)
                r = json_add_u64(o, "time", row->time);
        if (r >= 0)
                r = json_add_string(o, "grid", row->grid);
        if (r >= 0)
                r = json_add_string(o, "operation", row->operation);
        if (r >= 0)
                r = json_add_string(o, "status", row->status);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

static int audit_list(OperationCall *c, json_object **ret, KError *reterr) {
        static const char *const settings[] = { "uid", "user", "operation", "refused", "since", "until",
                "after", "before", "limit", NULL };
        _cleanup_json_ json_object *array = json_object_new_array();
        _cleanup_(audit_row_list_done) AuditRowList l = {};
        AuditFilter f = { .uid = -1 };
        uint64_t limit = LIST_DEFAULT, uid = UINT64_MAX;
        const char *grid;
        json_object *filter;
        int r;

        if (!array)
                return -ENOMEM;
        r = call_string(c, "grid", &grid, reterr);
        if (r >= 0)
                r = call_settings(c, "filter", settings, &filter, reterr);
        if (r >= 0)
                r = json_find_u64(filter, "uid", &uid, reterr);
        if (r >= 0)
                r = json_find_string(filter, "user", &f.user, reterr);
        if (r >= 0)
                r = json_find_string(filter, "operation", &f.operation, reterr);
        if (r >= 0)
                r = json_find_bool(filter, "refused", &f.refused, reterr);
        if (r >= 0)
                r = json_find_u64(filter, "since", &f.since, reterr);
        if (r >= 0)
                r = json_find_u64(filter, "until", &f.until, reterr);
        if (r >= 0)
                r = json_find_u64(filter, "after", &f.after_id, reterr);
        if (r >= 0)
                r = json_find_u64(filter, "before", &f.before_id, reterr);
        if (r >= 0)
                r = json_find_u64(filter, "limit", &limit, reterr);
        if (r < 0)
                return r;
        if (limit < 1 || limit > AUDIT_LIST_MAX)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'limit' must be between 1 and %u.",
                                AUDIT_LIST_MAX);
        if (uid != UINT64_MAX && uid >= UINT32_MAX)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'uid' is no user's number.");
        if (f.since > INT64_MAX || f.until > INT64_MAX || f.after_id > INT64_MAX || f.before_id > INT64_MAX)
                return kerror_set(
                                reterr, K_INVALID_ARGUMENT, "A time or a number of a row is out of range.");
        f.grid = isempty(grid) ? NULL : grid;
        f.operation = isempty(f.operation) ? NULL : f.operation;
        f.user = isempty(f.user) ? NULL : f.user;
        f.uid = uid == UINT64_MAX ? -1 : (int64_t) uid;
        f.limit = (uint32_t) limit;

        r = store_list_audit(c->master->store, &f, &l);
        if (r < 0)
                return r;
        FOREACH_ARRAY(row, l.rows, l.n) {
                json_object *e;

                r = render(*row, &e);
                if (r >= 0)
                        r = json_append(array, e);
                if (r < 0)
                        return r;
        }
        return json_wrap("rows", TAKE_PTR(array), ret);
}

static void on_verified(json_object *result, const KError *error, void *userdata) {
        OperationCall *c = userdata;
        Master *m = c->master;

        operation_call_finish(c, result, error);
        m->audit_verify = audit_verify_free(m->audit_verify);
}

static int audit_verify(OperationCall *c, json_object **ret, KError *reterr) {
        static const char *const settings[] = { "anchors", NULL };
        json_object *options, *anchors = NULL;
        int r;

        r = call_settings(c, "options", settings, &options, reterr);
        if (r >= 0)
                r = json_find_array(options, "anchors", &anchors, reterr);
        if (r < 0)
                return r;
        if (c->master->audit_verify)
                return kerror_set(reterr, K_UNAVAILABLE,
                                "The audit is just being verified for somebody else.");
        r = audit_verify_start(c->master->event, c->master->store, c->master->keyring, anchors, on_verified,
                        c, &c->master->audit_verify, reterr);
        return r < 0 ? r : 1;
}

const Operation audit_operations[] = {
        /* Not audited itself but for refusals: who follows it would see his own looking for ever. */
        {
                        .name = "audit.list",
                        .method = "ListAudit",
                        .action = "io.kontena.master1.read-audit",
                        .role = "member",
                        .parameters = { { "grid", PARAMETER_STRING, false },
                                        { "filter", PARAMETER_OBJECT, false } },
                        .results = { "rows" },
                        .perform = audit_list,
        },
        {
                        .name = "audit.verify",
                        .method = "VerifyAudit",
                        .action = "io.kontena.master1.read-audit",
                        .role = "master_admin",
                        .flags = OPERATION_AUDITED,
                        .parameters = { { "options", PARAMETER_OBJECT, false } },
                        .results = { "" },
                        .perform = audit_verify,
        },
};
const size_t n_audit_operations = ELEMENTSOF(audit_operations);
