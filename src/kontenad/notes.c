/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "notes.h"

#include <uthash.h>

#include "file-util.h"
#include "string-util.h"

struct Note {
        char *id;
        uint64_t hash;
        UT_hash_handle hh;
};

static Note *note_free(Note *n) {
        free(n->id);
        return mfree(n);
}

char *notes_take(Note **table) {
        Note *n = *table;
        char *id;

        if (!n)
                return NULL;
        HASH_DEL(*table, n);
        id = TAKE_PTR(n->id);
        note_free(n);
        return id;
}

void notes_clear(Note **table) {
        while (*table)
                free(notes_take(table));
}

void note_forget(Note **table, const char *id) {
        Note *n = NULL;

        HASH_FIND_STR(*table, id, n);
        if (!n)
                return;
        HASH_DEL(*table, n);
        note_free(n);
}

bool note_is_news(Note **table, const char *id, uint64_t hash) {
        Note *n = NULL;

        HASH_FIND_STR(*table, id, n);
        if (n && n->hash == hash)
                return false;
        if (!n) {
                n = new0(Note, 1);
                if (!n)
                        return true;
                n->id = strdup(id);
                if (n->id)
                        HASH_ADD_KEYPTR(hh, *table, n->id, strlen(n->id), n);
                if (!n->hh.tbl) {
                        note_free(n);
                        return true;
                }
        }
        n->hash = hash;
        return true;
}
