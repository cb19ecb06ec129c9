/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>

#include "file-util.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "store-internal.h"
#include "string-util.h"

#define PRUNE_EVERY 256U

static const Column columns[] = {
        COLUMN(EventRow, id, COLUMN_U64),
        COLUMN(EventRow, time, COLUMN_U64),
        COLUMN(EventRow, grid_id, COLUMN_TEXT),
        COLUMN(EventRow, severity, COLUMN_TEXT),
        COLUMN(EventRow, type, COLUMN_TEXT),
        COLUMN(EventRow, message, COLUMN_TEXT),
        COLUMN(EventRow, node_id, COLUMN_TEXT),
        COLUMN(EventRow, service_id, COLUMN_TEXT),
        COLUMN(EventRow, stack, COLUMN_TEXT),
        COLUMN(EventRow, service, COLUMN_TEXT),
        COLUMN(EventRow, instance, COLUMN_I64),
};

const Table event_table = {
        .kind = STORE_EVENT,
        .name = "events",
        .row_size = sizeof(EventRow),
        .columns = columns,
        .n_columns = ELEMENTSOF(columns),
};

EventRow *event_row_free(EventRow *row) {
        return row_free(&event_table, row);
}

void event_row_list_done(EventRowList *l) {
        row_list_done(&event_table, (void ***) &l->rows, &l->n);
}

int store_add_event(Store *s, const EventRow *e) {
        char id_text[24];
        uint64_t id;
        int r;

        r = store_run(s,
                        "INSERT INTO events (time, grid_id, severity, type, message, node_id, service_id, "
                        "stack, service, instance) "
                        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                        "ussssssssi", e->time, e->grid_id, e->severity, e->type, e->message, e->node_id,
                        e->service_id, e->stack, e->service, e->instance);
        if (r < 0)
                return r;
        r = store_number(s, &id, "SELECT last_insert_rowid()", "");
        if (r < 0)
                return r;

        if (id % PRUNE_EVERY == 0 && id > EVENTS_KEPT) {
                r = store_run(s, "DELETE FROM events WHERE id <= ?", "u", id - EVENTS_KEPT);
                if (r < 0)
                        return r;
        }

        (void) snprintf(id_text, sizeof(id_text), "%" PRIu64, id);
        return store_note(s, STORE_EVENT, STORE_ADDED, id_text, e->grid_id);
}

int store_get_event(Store *s, uint64_t id, EventRow **ret) {
        return store_select_one(s, &event_table, (void **) ret, "WHERE id = ?", "u", id);
}

/* Each begins with the narrowest of the conditions, for which there is an index that is also in the order of ids. */
#define EVENTS(condition, order)                                                                            \
        "WHERE id IN (SELECT id FROM events WHERE " condition " AND (?1 IS NULL OR grid_id = ?1) "          \
        "AND (?2 IS NULL OR node_id = ?2) AND (?3 IS NULL OR service_id = ?3) AND time >= ?4 AND id > ?5 "  \
        "ORDER BY id " order " LIMIT ?6) ORDER BY id"
#define EVENTS_BOTH(condition)                                                                              \
        { EVENTS(condition, "DESC"), EVENTS(condition, "ASC") }

int store_list_events(Store *s, const EventFilter *f, EventRowList *ret) {
        static const char *const by[][2] = {
                EVENTS_BOTH("service_id = ?3"),
                EVENTS_BOTH("node_id = ?2"),
                EVENTS_BOTH("grid_id = ?1"),
                EVENTS_BOTH("true"),
        };
        size_t which = f->service_id ? 0 : f->node_id ? 1 : f->grid_id ? 2 : 3;

        /* The newest that fit the limit, or the first ones behind after_id; either way the oldest first. */
        return STORE_LIST(s, &event_table, ret, by[which][f->after_id > 0], "sssuuu", f->grid_id, f->node_id,
                        f->service_id, f->since, f->after_id, (uint64_t) (f->limit > 0 ? f->limit : 100));
}
