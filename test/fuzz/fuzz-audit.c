/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "audit-chain.h"
#include "file-util.h"
#include "string-util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Anchors that somebody kept, and rows that somebody may have written into the database: two that differ have different hashes. */

static Keyring *keyring(void) {
        static Keyring *k;
        char directory[] = "/tmp/fuzz-audit-XXXXXX";
        _cleanup_free_ char *file = NULL;

        if (k || !mkdtemp(directory))
                return k;
        (void) keyring_new(directory, &k, NULL);
        file = strjoin(directory, "/master.key");
        if (file)
                (void) unlink(file);
        (void) rmdir(directory);
        return k;
}

/* The next part of the input, up to a newline. */
static char *next(const char **p) {
        size_t n = strcspn(*p, "\n");
        char *s = strndup(*p, n);

        *p += n + ((*p)[n] == '\n');
        return s;
}

static void read_row(const char **p, AuditRow *ret) {
        *ret = (AuditRow){
                .id = 7,
                .grid = next(p),
                .operation = next(p),
                .status = next(p),
                .record = next(p),
        };
}

static void done(AuditRow *row) {
        free(row->grid);
        free(row->operation);
        free(row->status);
        free(row->record);
}

static bool same(const AuditRow *a, const AuditRow *b) {
        return streq(a->grid, b->grid) && streq(a->operation, b->operation) && streq(a->status, b->status) &&
               streq(a->record, b->record);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static const uint8_t before[CHAIN_HASH_SIZE];
        _cleanup_free_ char *text = strndup((const char *) data, size), *formatted = NULL;
        _cleanup_(done) AuditRow a = {}, b = {};
        uint8_t x[CHAIN_HASH_SIZE], y[CHAIN_HASH_SIZE];
        AuditMark mark = {}, again = {};
        Keyring *k = keyring();
        const char *p = text;
        int r;

        if (!text || !k)
                return 0;
        r = audit_anchor_from_string(k, text, &mark);
        assert(r <= 1 && (r >= 0 || r == -EINVAL || r == -ENOMEM));

        mark.id = size;
        memcpy(mark.hash, data, MIN(size, sizeof(mark.hash)));
        formatted = audit_anchor_to_string(k, &mark);
        assert(formatted && audit_anchor_from_string(k, formatted, &again) == 1);
        assert(again.id == mark.id && memcmp(again.hash, mark.hash, sizeof(mark.hash)) == 0);

        read_row(&p, &a);
        read_row(&p, &b);
        if (!a.record || !b.record || !a.grid || !b.grid)
                return 0;
        audit_chain_hash(k, before, &a, x);
        audit_chain_hash(k, before, &b, y);
        assert(keyring_hash_equal(x, y) == same(&a, &b));
        return 0;
}
