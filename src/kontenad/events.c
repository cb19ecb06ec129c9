/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "events.h"

#include <stdarg.h>

#include "file-util.h"
#include "log.h"
#include "message-id.h"
#include "store.h"
#include "string-util.h"

/* Events that an operator must act on have an entry in the journal's catalog. */
static const char *message_id(const char *type) {
        static const struct {
                const char *type, *id;
        } table[] = {
                { "node:offline", MESSAGE_NODE_OFFLINE },
                { "node:refused", MESSAGE_NODE_REFUSED },
                { "service:instance_crash", MESSAGE_INSTANCE_CRASHED },
                { "service:instance_oom", MESSAGE_INSTANCE_OOM },
                { "service:deploy_failed", MESSAGE_DEPLOY_FAILED },
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table))
                if (streq(t->type, type))
                        return t->id;
        return NULL;
}

static int severity_level(const char *severity) {
        if (streq(severity, "error"))
                return LOG_ERR;
        if (streq(severity, "warning"))
                return LOG_WARNING;
        return streq(severity, "debug") ? LOG_DEBUG : LOG_INFO;
}

static char *field(const char *key, const char *value) {
        return value ? strjoin(key, "=", value) : NULL;
}

static void write_journal(const EventRow *row, const GridRow *grid, const NodeRow *node) {
        _cleanup_free_ char *event = NULL, *g = NULL, *n = NULL, *stack = NULL, *service = NULL,
                            *instance = NULL;
        const char *fields[8];
        size_t count = 0;

        event = field("KONTENA_EVENT", row->type);
        g = field("KONTENA_GRID", grid ? grid->name : NULL);
        n = field("KONTENA_NODE", node ? node->name : NULL);
        stack = field("KONTENA_STACK", row->stack);
        service = field("KONTENA_SERVICE", row->service);
        if (row->instance > 0)
                instance = strprintf("KONTENA_INSTANCE=%lli", (long long) row->instance);

        for (size_t i = 0; i < 7; i++) {
                const char *f = ((const char *const[]){
                                message_id(row->type), event, g, n, stack, service, instance })[i];

                if (f)
                        fields[count++] = f;
        }
        fields[count] = NULL;

        log_struct(severity_level(row->severity), 0, fields, "%s", row->message);
}

int events_add(Master *m, const EventInfo *e, const char *format, ...) {
        _cleanup_(grid_row_freep) GridRow *grid = NULL;
        _cleanup_(node_row_freep) NodeRow *node = NULL;
        _cleanup_(service_row_freep) ServiceRow *service = NULL;
        _cleanup_free_ char *message = NULL;
        bool own;
        va_list ap;
        int r;

        assert(m);
        assert(e && e->severity && e->type);

        va_start(ap, format);
        message = strvprintf(format, ap);
        va_end(ap);
        if (!message)
                return -ENOMEM;

        if (e->grid_id)
                (void) store_get_grid(m->store, e->grid_id, &grid);
        if (e->node_id)
                (void) store_get_node(m->store, e->node_id, &node);
        if (e->service_id)
                (void) store_get_service(m->store, e->service_id, &service);

        EventRow row = {
                .time = e->time > 0 ? e->time : now_realtime(),
                .grid_id = (char *) e->grid_id,
                .severity = (char *) e->severity,
                .type = (char *) e->type,
                .message = message,
                .node_id = (char *) e->node_id,
                .service_id = (char *) e->service_id,
                .stack = service ? service->stack : NULL,
                .service = service ? service->name : NULL,
                .instance = e->instance > 0 ? e->instance : -1,
        };

        write_journal(&row, grid, node);

        own = !store_in_transaction(m->store);
        if (own) {
                r = store_begin(m->store, NULL);
                if (r < 0)
                        return r;
        }
        r = store_add_event(m->store, &row);
        if (own) {
                if (r >= 0)
                        r = store_commit(m->store, NULL);
                store_rollback(m->store);
        }

        return r;
}
