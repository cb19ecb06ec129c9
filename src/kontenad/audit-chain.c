/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "audit-chain.h"

#include <endian.h>
#include <inttypes.h>
#include <sodium.h>

#include "file-util.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "log.h"
#include "message-id.h"
#include "parse-util.h"
#include "string-util.h"

#define PURPOSE_ROW   "audit"
#define PURPOSE_CHAIN "audit-name"
#define KEY_BASE      "audit-base"
#define KEY_HEAD      "audit-head"
#define MARK_SIZE     (8U + 2U * CHAIN_HASH_SIZE) /* id, hash, and the keyed hash of both */
#define CHAIN_BYTES   8U
#define PRUNE_EVERY   256U

#define PART(p, size) ((struct iovec){ (void *) (uintptr_t) (p), (size) })
#define PART_TEXT(s)  PART(strempty(s), strlen(strempty(s)) + 1)

static const uint8_t nothing[CHAIN_HASH_SIZE];

void audit_chain_hash(Keyring *k, const uint8_t before[static CHAIN_HASH_SIZE], const AuditRow *row,
                uint8_t ret[static CHAIN_HASH_SIZE]) {
        uint64_t numbers[] = { htole64(row->id), htole64(row->time), htole64((uint64_t) row->uid) };

        /* Rows of before there was a user have the hash that they always had. */
        keyring_hash_parts(k, PURPOSE_ROW,
                        (struct iovec[]){ PART(before, CHAIN_HASH_SIZE), PART(numbers, sizeof(numbers)),
                                        PART_TEXT(row->grid), PART_TEXT(row->operation),
                                        PART_TEXT(row->status), PART_TEXT(row->record),
                                        PART_TEXT(row->user) },
                        isempty(row->user) ? 6 : 7, ret);
}

static void mark_hash(
                Keyring *k, const char *key, const uint8_t *mark, uint8_t ret[static CHAIN_HASH_SIZE]) {
        keyring_hash_parts(k, key, &PART(mark, 8 + CHAIN_HASH_SIZE), 1, ret);
}

static int get_mark(Store *s, Keyring *k, const char *key, AuditMark *ret) {
        _cleanup_free_ uint8_t *value = NULL;
        uint8_t hash[CHAIN_HASH_SIZE];
        uint64_t id;
        size_t size;
        int r;

        r = store_get_value(s, key, (void **) &value, &size);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return r;
        if (size != MARK_SIZE)
                return -EBADMSG;
        mark_hash(k, key, value, hash);
        if (!keyring_hash_equal(hash, value + 8 + CHAIN_HASH_SIZE))
                return -EBADMSG;

        memcpy(&id, value, sizeof(id));
        ret->id = le64toh(id);
        memcpy(ret->hash, value + 8, CHAIN_HASH_SIZE);
        return 1;
}

static int put_mark(Store *s, Keyring *k, const char *key, const AuditMark *m) {
        uint64_t id = htole64(m->id);
        uint8_t value[MARK_SIZE];

        memcpy(value, &id, sizeof(id));
        memcpy(value + 8, m->hash, CHAIN_HASH_SIZE);
        mark_hash(k, key, value, value + 8 + CHAIN_HASH_SIZE);
        return store_put_value(s, key, value, sizeof(value));
}

int audit_chain_get_base(Store *s, Keyring *k, AuditMark *ret) {
        return get_mark(s, k, KEY_BASE, ret);
}

int audit_chain_get_head(Store *s, Keyring *k, AuditMark *ret) {
        return get_mark(s, k, KEY_HEAD, ret);
}

/* What the next row goes behind. Not behind the last row there is: were the end cut off, that would hide it. */
static int find_end(Store *s, Keyring *k, AuditMark *ret) {
        _cleanup_(audit_row_freep) AuditRow *last = NULL;
        AuditMark head = {}, base;
        int r, q;

        r = audit_chain_get_head(s, k, &head);
        if (r < 0 && r != -EBADMSG)
                return r;
        q = store_last_audit(s, &last);
        if (q < 0 && q != -ENOENT)
                return q;
        if (r > 0 && last && last->id > head.id)
                head.id = last->id; /* rows that are not ours: theirs may keep the number, not the place */
        if (r > 0) {
                *ret = head;
                return 0;
        }

        q = audit_chain_get_base(s, k, &base);
        if (q < 0 && q != -EBADMSG)
                return q;
        head = (AuditMark){ .id = last ? last->id : 0 };
        if (r == 0 && q == 0 && (!last || !last->hash)) /* the first row of all, or of this version */
                r = put_mark(s, k, KEY_BASE, &head);
        else {
                log_struct(LOG_ERR, 0, FIELDS(MESSAGE_AUDIT_BROKEN),
                                "The mark at the end of the audit was removed or changed by somebody; the "
                                "audit goes "
                                "on with a new chain.");
                r = 0;
        }
        if (r < 0)
                return r;

        *ret = head;
        return 0;
}

static int prune(Store *s, Keyring *k, uint64_t newest) {
        _cleanup_(audit_row_freep) AuditRow *row = NULL;
        AuditMark base = {};
        int r;

        if (newest % PRUNE_EVERY != 0 || newest <= AUDIT_KEPT)
                return 0;
        r = store_find_audit(s, newest - AUDIT_KEPT, &row);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        if (row->hash && row->hash_size == CHAIN_HASH_SIZE) {
                base.id = row->id;
                memcpy(base.hash, row->hash, CHAIN_HASH_SIZE);
                r = put_mark(s, k, KEY_BASE, &base);
                if (r < 0)
                        return r;
        }

        return store_prune_audit(s, row->id);
}

int audit_chain_append(Store *s, Keyring *k, json_object *record, AuditMark *ret) {
        const char *grid = NULL, *user = NULL, *operation = NULL, *status = NULL, *text = json_text(record);
        AuditMark end;
        uint64_t uid = UINT64_MAX;
        AuditRow row;
        int r;

        assert(store_in_transaction(s));

        if (!text)
                return -ENOMEM;
        (void) json_find_string(record, "grid", &grid, NULL);
        (void) json_find_string(record, "operation", &operation, NULL);
        (void) json_find_string(record, "status", &status, NULL);
        (void) json_find_u64(record, "uid", &uid, NULL);
        (void) json_find_string(record, "user", &user, NULL);
        r = find_end(s, k, &end);
        if (r < 0)
                return r;

        row = (AuditRow){
                .id = end.id + 1,
                .time = now_realtime(),
                .grid = (char *) (uintptr_t) strempty(grid),
                .uid = uid == UINT64_MAX ? -1 : (int64_t) uid,
                .user = (char *) (uintptr_t) strempty(user),
                .operation = (char *) (uintptr_t) strempty(operation),
                .status = (char *) (uintptr_t) strempty(status),
                .record = (char *) (uintptr_t) text,
                .hash_size = CHAIN_HASH_SIZE,
        };
        ret->id = row.id;
        audit_chain_hash(k, end.hash, &row, ret->hash);
        row.hash = ret->hash;

        r = store_add_audit(s, &row);
        if (r >= 0)
                r = put_mark(s, k, KEY_HEAD, ret);
        if (r >= 0)
                r = prune(s, k, row.id);
        return r;
}

static void chain_name(Keyring *k, char ret[static 2 * CHAIN_BYTES + 1]) {
        uint8_t hash[CHAIN_HASH_SIZE];

        keyring_hash_parts(k, PURPOSE_CHAIN, &PART(nothing, sizeof(nothing)), 1, hash);
        (void) sodium_bin2hex(ret, 2 * CHAIN_BYTES + 1, hash, CHAIN_BYTES);
}

char *audit_anchor_to_string(Keyring *k, const AuditMark *m) {
        char chain[2 * CHAIN_BYTES + 1], hash[2 * CHAIN_HASH_SIZE + 1];

        chain_name(k, chain);
        (void) sodium_bin2hex(hash, sizeof(hash), m->hash, CHAIN_HASH_SIZE);
        return strprintf("%s:%" PRIu64 ":%s", chain, m->id, hash);
}

int audit_anchor_from_string(Keyring *k, const char *s, AuditMark *ret) {
        const char *colon = strchr(s, ':'), *second = colon ? strchr(colon + 1, ':') : NULL;
        char chain[2 * CHAIN_BYTES + 1];
        _cleanup_free_ char *number = NULL;
        AuditMark m = {};
        size_t n = 0;

        if (!second || colon - s != 2 * CHAIN_BYTES || strlen(second + 1) != 2 * CHAIN_HASH_SIZE)
                return -EINVAL;
        number = strndup(colon + 1, (size_t) (second - colon - 1));
        if (!number)
                return -ENOMEM;
        if (safe_atou64(number, &m.id) < 0 ||
                        sodium_hex2bin(m.hash, sizeof(m.hash), second + 1, 2 * CHAIN_HASH_SIZE, NULL, &n,
                                        NULL) < 0 ||
                        n != sizeof(m.hash))
                return -EINVAL;
        chain_name(k, chain);
        if (strncmp(s, chain, 2 * CHAIN_BYTES) != 0)
                return 0;

        *ret = m;
        return 1;
}
