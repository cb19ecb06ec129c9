/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "audit-verify.h"

#include <inttypes.h>
#include <stdlib.h>

#include "file-util.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "string-util.h"

#define STEP_USEC (5U * USEC_PER_MSEC)
#define STEP_ROWS 64U

struct AuditVerify {
        Store *store;
        Keyring *keyring;
        sd_event_source *source;
        audit_verify_done_t done;
        void *userdata;

        AuditMark at; /* the row that was looked at last */
        bool begun;
        bool before_known; /* at.hash is what the next row must be behind */
        uint64_t first, rows, older;
        json_object *breaks;
        uint64_t n_breaks;
        AuditMark *anchors;       /* by id */
        size_t n_anchors, anchor; /* the next to look at */
        uint64_t foreign;
};

AuditVerify *audit_verify_free(AuditVerify *v) {
        if (!v)
                return NULL;

        sd_event_source_disable_unref(v->source);
        json_object_put(v->breaks);
        free(v->anchors);
        free(v);
        return NULL;
}

_printf_(4, 5) static int add_break(AuditVerify *v, uint64_t id, const char *kind, const char *format, ...) {
        _cleanup_json_ json_object *o = NULL;
        _cleanup_free_ char *message = NULL;
        va_list ap;
        int r;

        if (v->n_breaks++ >= AUDIT_BREAKS_MAX)
                return 0;
        va_start(ap, format);
        if (vasprintf(&message, format, ap) < 0)
                message = NULL;
        va_end(ap);
        o = json_object_new_object();
        if (!message || !o)
                return -ENOMEM;
        r = json_add_u64(o, "id", id);
        if (r >= 0)
                r = json_add_string(o, "kind", kind);
        if (r >= 0)
                r = json_add_string(o, "message", message);
        return r < 0 ? r : json_append(v->breaks, TAKE_PTR(o));
}

/* Where the chain begins may move while we go along it. */
static int find_base(AuditVerify *v) {
        static const uint8_t none[CHAIN_HASH_SIZE];
        AuditMark base = {};
        bool first = !v->begun;
        int r;

        v->begun = true;
        r = audit_chain_get_base(v->store, v->keyring, &base);
        if (r > 0 && (first || base.id > v->at.id)) {
                v->at = base;
                v->before_known = true;
        }
        if (!first || (r < 0 && r != -EBADMSG))
                return MIN(r, 0);
        if (r > 0) {
                r = store_count_audit(v->store, base.id, &v->older);
                if (r >= 0 && v->older > 0 && !keyring_hash_equal(base.hash, none)) {
                        r = add_break(v, base.id, "added",
                                        "%" PRIu64 " rows stand before the beginning of the chain.",
                                        v->older);
                        v->older = 0;
                }
                return r;
        }

        return r < 0 ? add_break(v, 0, "beginning", "The mark at the beginning of the chain was changed.")
                     : 0;
}

static int check_anchors(AuditVerify *v, const AuditRow *row) {
        int r = 0;

        for (; r >= 0 && v->anchor < v->n_anchors && v->anchors[v->anchor].id <= row->id; v->anchor++) {
                const AuditMark *a = v->anchors + v->anchor;

                if (a->id < row->id) {
                        if (a->id >= v->first)
                                r = add_break(v, a->id, "removed",
                                                "Row %" PRIu64 ", which an anchor names, is missing.",
                                                a->id);
                } else if (row->hash_size != CHAIN_HASH_SIZE || !keyring_hash_equal(a->hash, row->hash))
                        r = add_break(v, a->id, "anchor",
                                        "Row %" PRIu64
                                        " is not the one that an anchor names: it or one before it is "
                                        "another now.",
                                        a->id);
        }

        return r;
}

static int check_row(AuditVerify *v, const AuditRow *row) {
        static const uint8_t none[CHAIN_HASH_SIZE];
        uint8_t hash[CHAIN_HASH_SIZE];
        uint64_t missing;
        int r = 0;

        if (v->rows++ == 0)
                v->first = row->id;
        missing = v->before_known ? row->id - v->at.id - 1 : 0;
        if (!row->hash || row->hash_size != CHAIN_HASH_SIZE) {
                r = add_break(v, row->id, "added",
                                "Row %" PRIu64 " has no hash; it was not written by this master.", row->id);
                v->at.id = row->id;
                v->before_known = false;
                return r < 0 ? r : check_anchors(v, row);
        }

        if (missing > 0)
                r = add_break(v, row->id, "removed", "%" PRIu64 " %s before row %" PRIu64 " missing.",
                                missing, missing == 1 ? "row is" : "rows are", row->id);
        else if (v->before_known) {
                audit_chain_hash(v->keyring, v->at.hash, row, hash);
                if (!keyring_hash_equal(hash, row->hash)) {
                        audit_chain_hash(v->keyring, none, row, hash);
                        r = keyring_hash_equal(hash, row->hash)
                                            ? add_break(v, row->id, "anew",
                                                              "A new chain begins with row %" PRIu64
                                                              ": the mark at the end had been removed or "
                                                              "changed.",
                                                              row->id)
                                            : add_break(v, row->id, "changed",
                                                              "Row %" PRIu64
                                                              " was changed, or does not follow the "
                                                              "row before.",
                                                              row->id);
                }
        }
        v->at.id = row->id;
        memcpy(v->at.hash, row->hash, CHAIN_HASH_SIZE);
        v->before_known = true;
        return r < 0 ? r : check_anchors(v, row);
}

static int check_end(AuditVerify *v, AuditMark *ret_head) {
        AuditMark base, head = {};
        int r, q;

        q = audit_chain_get_base(v->store, v->keyring, &base);
        r = audit_chain_get_head(v->store, v->keyring, &head);
        if (r > 0 && head.id > v->at.id)
                r = add_break(v, v->at.id, "cut",
                                "%" PRIu64 " %s at the end, behind row %" PRIu64 ", missing.",
                                head.id - v->at.id, head.id - v->at.id == 1 ? "row is" : "rows are",
                                v->at.id);
        else if (r > 0 && head.id < v->at.id)
                r = add_break(v, head.id + 1, "added",
                                "The chain ends with row %" PRIu64 "; what is behind was added.", head.id);
        else if (r > 0 && v->n_breaks == 0 && !keyring_hash_equal(head.hash, v->at.hash))
                r = add_break(v, head.id, "changed",
                                "Row %" PRIu64 " is not the one that the chain ended with.", head.id);
        else if (r == -EBADMSG || (r == 0 && (v->rows > 0 || q != 0)))
                r = add_break(v, v->at.id, "end",
                                "The mark at the end of the chain was removed or changed.");
        if (r >= 0 && q == 0 && (v->rows > 0 || head.id > 0))
                r = add_break(v, 0, "beginning", "The mark at the beginning of the chain was removed.");

        for (; r >= 0 && v->anchor < v->n_anchors; v->anchor++)
                r = add_break(v, v->anchors[v->anchor].id, "cut",
                                "Row %" PRIu64
                                ", which an anchor names, is missing; the last one is %" PRIu64 ".",
                                v->anchors[v->anchor].id, v->at.id);
        *ret_head = (AuditMark){ .id = v->at.id };
        memcpy(ret_head->hash, v->at.hash, CHAIN_HASH_SIZE);
        return MIN(r, 0);
}

static int make_result(AuditVerify *v, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();
        _cleanup_free_ char *text = NULL;
        AuditMark head;
        int r;

        if (!o)
                return -ENOMEM;
        r = check_end(v, &head);
        if (r < 0)
                return r;
        text = audit_anchor_to_string(v->keyring, &head);
        if (!text)
                return -ENOMEM;

        r = json_add_bool(o, "ok", v->n_breaks == 0);
        if (r >= 0)
                r = json_add_u64(o, "rows", v->rows);
        if (r >= 0)
                r = json_add_u64(o, "first", v->first);
        if (r >= 0)
                r = json_add_u64(o, "last", v->rows > 0 ? v->at.id : 0);
        if (r >= 0)
                r = json_add_u64(o, "older", v->older);
        if (r >= 0)
                r = json_add_u64(o, "anchors", v->n_anchors);
        if (r >= 0)
                r = json_add_u64(o, "foreign", v->foreign);
        if (r >= 0)
                r = json_add_u64(o, "broken", v->n_breaks);
        if (r >= 0)
                r = json_add_string(o, "head", text);
        if (r >= 0)
                r = json_add(o, "breaks", json_object_get(v->breaks));
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

/* 1: go on, 0: that was the last row. */
static int step(AuditVerify *v) {
        uint64_t until = now_monotonic() + STEP_USEC;
        int r;

        r = find_base(v);
        while (r >= 0 && now_monotonic() < until) {
                _cleanup_(audit_row_list_done) AuditRowList l = {};

                r = store_next_audit(v->store, v->at.id, STEP_ROWS, &l);
                if (r < 0)
                        return r;
                if (l.n == 0)
                        return 0;
                for (size_t i = 0; r >= 0 && i < l.n && (i == 0 || now_monotonic() < until); i++)
                        r = check_row(v, l.rows[i]);
        }

        return r < 0 ? r : 1;
}

static int on_step(sd_event_source *source, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        _cleanup_json_ json_object *result = NULL;
        AuditVerify *v = userdata;
        int r;

        r = step(v);
        if (r > 0)
                return 0;
        if (r == 0)
                r = make_result(v, &result);
        (void) sd_event_source_set_enabled(v->source, SD_EVENT_OFF);
        if (r < 0)
                (void) kerror_set_errno(&error, r, "The audit cannot be read: %m.");
        v->done(result, r < 0 ? &error : NULL, v->userdata);
        return 0;
}

static int by_id(const void *a, const void *b) {
        const AuditMark *x = a, *y = b;

        return (x->id > y->id) - (x->id < y->id);
}

static int read_anchors(AuditVerify *v, json_object *anchors, KError *reterr) {
        size_t n = anchors ? json_object_array_length(anchors) : 0;

        if (n > AUDIT_ANCHORS_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "At most %u anchors are looked at.",
                                AUDIT_ANCHORS_MAX);
        v->anchors = new0(AuditMark, n + 1);
        if (!v->anchors)
                return -ENOMEM;
        FOREACH_JSON_ARRAY(e, anchors) {
                const char *text = json_object_get_string(e);
                int r = audit_anchor_from_string(v->keyring, strempty(text), v->anchors + v->n_anchors);

                if (r == -EINVAL)
                        return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' is no anchor: CHAIN:ID:HASH is.",
                                        strna(text));
                if (r < 0)
                        return r;
                v->n_anchors += r > 0;
                v->foreign += r == 0;
        }

        qsort(v->anchors, v->n_anchors, sizeof(AuditMark), by_id);
        return 0;
}

int audit_verify_start(sd_event *event, Store *s, Keyring *k, json_object *anchors, audit_verify_done_t done,
                void *userdata, AuditVerify **ret, KError *reterr) {
        _cleanup_(audit_verify_freep) AuditVerify *v = NULL;
        int r;

        v = new0(AuditVerify, 1);
        if (!v)
                return -ENOMEM;
        *v = (AuditVerify){
                .store = s,
                .keyring = k,
                .done = done,
                .userdata = userdata,
                .breaks = json_object_new_array(),
        };
        if (!v->breaks)
                return -ENOMEM;
        r = read_anchors(v, anchors, reterr);
        if (r >= 0)
                r = sd_event_add_defer(event, &v->source, on_step, v);
        if (r >= 0)
                r = sd_event_source_set_enabled(v->source, SD_EVENT_ON);
        if (r >= 0) /* others first */
                r = sd_event_source_set_priority(v->source, SD_EVENT_PRIORITY_IDLE);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(v);
        return 0;
}
