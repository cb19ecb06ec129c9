/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "node-status.h"

#include <inttypes.h>
#include <uthash.h>

#include "events.h"
#include "file-util.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "log.h"
#include "names.h"
#include "node-message.h"
#include "string-util.h"

/* Returns 1 when it was different. */
static int set_text(char **field, const char *value) {
        _cleanup_free_ char *cut = NULL;

        if (value && strlen(value) > STATUS_TEXT_MAX) {
                size_t n = STATUS_TEXT_MAX;

                while (n > 0 && ((unsigned char) value[n] & 0xc0) == 0x80) /* not inside of a character */
                        n--;
                cut = strndup(value, n);
                if (!cut)
                        return -ENOMEM;
                value = cut;
        }
        return free_and_strdup(field, empty_to_null(value));
}

#define SET_NUMBER(changed, field, value)                                                                   \
        do {                                                                                                \
                if ((field) != (value)) {                                                                   \
                        (field) = (value);                                                                  \
                        (changed) = true;                                                                   \
                }                                                                                           \
        } while (false)

/* Returns 1 when something is new. */
static int apply(InstanceRow *row, const NodeStatus *s) {
        bool changed = false;
        int r = 0;
        const struct {
                char **field;
                const char *value;
        } texts[] = {
                { &row->state, s->state },
                { &row->progress, s->progress },
                { &row->error_code, s->error_code },
                { &row->error, s->error },
                { &row->unit, s->unit },
                { &row->image_digest, s->image_digest },
                { &row->health, s->health },
                { &row->log_tail, s->log_tail },
        };

        FOREACH_ARRAY(t, texts, ELEMENTSOF(texts)) {
                r = set_text(t->field, t->value);
                if (r < 0)
                        return r;
                changed = changed || r > 0;
        }
        SET_NUMBER(changed, row->observed_deploy_rev, s->deploy_rev);
        SET_NUMBER(changed, row->observed_service_rev, s->service_rev);
        SET_NUMBER(changed, row->epoch, s->epoch);
        SET_NUMBER(changed, row->started_at, s->started_at);
        SET_NUMBER(changed, row->pid, s->pid);
        SET_NUMBER(changed, row->restarts, s->restarts);
        SET_NUMBER(changed, row->exit_status, s->exit_status);
        SET_NUMBER(changed, row->oom_kills, s->oom_kills);
        return changed;
}

/* Trap 4: a node comes back with a copy of what was moved while it was away. */
static void tell_of_loser(Master *m, const InstanceRow *row, const NodeStatus *s) {
        _cleanup_(instance_row_list_done) InstanceRowList rows = {};
        _cleanup_(service_row_freep) ServiceRow *service = NULL;
        _cleanup_(node_row_freep) NodeRow *node = NULL, *winner_node = NULL;
        const InstanceRow *winner = NULL;

        if (store_get_service(m->store, row->service_id, &service) < 0 ||
                        store_get_node(m->store, row->node_id, &node) < 0 ||
                        store_list_instances_of_service(m->store, row->service_id, &rows) < 0)
                return;
        FOREACH_ARRAY(i, rows.rows, rows.n)
                if ((*i)->number == row->number && (*i)->desired != INSTANCE_TERMINATED &&
                                (*i)->role == INSTANCE_CURRENT)
                        winner = *i;
        if (!winner || !winner->node_id || store_get_node(m->store, winner->node_id, &winner_node) < 0)
                return;

        (void) events_add(m,
                        &(EventInfo){ .severity = "warning",
                                        .type = "scheduler",
                                        .grid_id = row->grid_id,
                                        .node_id = row->node_id,
                                        .service_id = row->service_id,
                                        .instance = row->number },
                        "Node '%s' came back with %s/%s-%u of deploy %" PRIu64
                        "; '%s' has it since deploy %" PRIu64 ", the older copy is removed.",
                        node->name, service->stack, service->name, row->number, s->deploy_rev,
                        winner_node->name, winner->deploy_rev);
}

/* Is it a oneshot hook of what the instance was told to be? */
static bool has_hook(json_object *spec, const char *id) {
        const char *slash = strchr(id, '/');
        json_object *hooks = NULL, *stage = NULL;
        _cleanup_free_ char *key = NULL;

        key = slash ? strndup(id, (size_t) (slash - id)) : NULL;
        if (!key || !json_object_object_get_ex(spec, "hooks", &hooks) ||
                        json_find_array(hooks, key, &stage, NULL) <= 0)
                return false;
        FOREACH_JSON_ARRAY(h, stage) {
                const char *name = NULL;
                bool oneshot = false;

                if (json_find_string(h, "name", &name, NULL) > 0 && streq(name, slash + 1))
                        return json_find_bool(h, "oneshot", &oneshot, NULL) > 0 && oneshot;
        }
        return false;
}

/* So that another node does not do them again. */
static int take_hooks_done(Master *m, const InstanceRow *row, const NodeStatus *s) {
        int r;

        FOREACH_JSON_ARRAY(e, s->hooks_done) {
                const char *id = json_object_get_string(e);

                if (!json_object_is_type(e, json_type_string) || !row->spec || !has_hook(row->spec, id))
                        continue;
                r = store_put_hook_done(m->store, row->service_id, row->number, id);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int take_one(Master *m, const char *node_id, const NodeStatus *s, bool complete, uint64_t now) {
        _cleanup_(instance_row_freep) InstanceRow *row = NULL;
        int r;

        r = store_get_instance(m->store, s->id, &row);
        if (r == -ENOENT)
                return 0; /* it is not in the desired state and goes */
        if (r < 0)
                return r;
        if (!streq_ptr(row->node_id, node_id))
                return 0;
        r = take_hooks_done(m, row, s);
        if (r < 0)
                return r;
        /* The last word about an instance, also from a node that knows nothing of it any more. */
        if (row->desired == INSTANCE_TERMINATED && streq(s->state, "removed"))
                return store_delete_instance(m->store, row->id);
        if (!complete && s->epoch < row->epoch)
                return 0;

        if (complete && row->desired == INSTANCE_TERMINATED && row->drain_sec == 0 &&
                        STR_IN_SET(s->state, "running", "starting", "restarting"))
                tell_of_loser(m, row, s);

        r = apply(row, s);
        if (r <= 0)
                return r;
        row->status_at = now;
        return store_put_instance(m->store, row);
}

typedef struct Told {
        const char *id;
        UT_hash_handle hh;
} Told;

static void told_done(Told **table) {
        Told *t, *next;

        HASH_ITER(hh, *table, t, next) {
                HASH_DEL(*table, t);
                free(t);
        }
}

/* A job's container was there and is not any more: never again, the job's next attempt is an instance of its own. */
static int lose_run(Master *m, InstanceRow *row, uint64_t now) {
        int r;

        if (STR_IN_SET(strempty(row->state), "exited", "failed"))
                return 0;
        r = apply(row, &(NodeStatus){ .state = "failed",
                                       .error = "lost: its node does not know of it any more",
                                       .deploy_rev = row->deploy_rev,
                                       .exit_status = -1 });
        if (r < 0)
                return r;
        row->desired = INSTANCE_STOPPED;
        row->status_at = now;
        return store_put_instance(m->store, row);
}

/* The node's list is complete: what it does not have is removed, or was lost with its disk and will be made again. */
static int take_absence(Master *m, const char *node_id, json_object *statuses, uint64_t now) {
        _cleanup_(instance_row_list_done) InstanceRowList rows = {};
        _cleanup_(told_done) Told *told = NULL;
        int r;

        FOREACH_JSON_ARRAY(e, statuses) {
                const char *id = NULL;
                Told *t = NULL;

                if (json_find_string(e, "id", &id, NULL) <= 0)
                        continue;
                HASH_FIND_STR(told, id, t);
                if (t)
                        continue;
                t = new0(Told, 1);
                if (!t)
                        return -ENOMEM;
                t->id = id;
                HASH_ADD_KEYPTR(hh, told, t->id, strlen(t->id), t);
                if (!t->hh.tbl) {
                        free(t);
                        return -ENOMEM;
                }
        }

        r = store_list_instances_of_node(m->store, node_id, &rows);
        if (r < 0)
                return r;
        FOREACH_ARRAY(i, rows.rows, rows.n) {
                InstanceRow *row = *i;
                Told *t = NULL;

                HASH_FIND_STR(told, row->id, t);
                if (t)
                        continue;
                if (row->desired == INSTANCE_TERMINATED)
                        r = store_delete_instance(m->store, row->id);
                else if (row->run_id && row->observed_deploy_rev > 0)
                        r = lose_run(m, row, now);
                else {
                        r = apply(row, &(NodeStatus){ .state = "pending", .exit_status = -1 });
                        if (r <= 0)
                                continue;
                        row->status_at = now;
                        r = store_put_instance(m->store, row);
                }
                if (r < 0)
                        return r;
        }
        return 0;
}

/* What was done once for all nodes is remembered for good; all else the node says again. */
static bool is_said_again(json_object *statuses) {
        FOREACH_JSON_ARRAY(e, statuses) {
                json_object *done = NULL;

                if (json_object_object_get_ex(e, "hooks_done", &done) &&
                                json_object_is_type(done, json_type_array) &&
                                json_object_array_length(done) > 0)
                        return false;
        }
        return true;
}

int node_status_take(Master *m, const char *node_id, json_object *statuses, bool complete, uint64_t now,
                KError *reterr) {
        _cleanup_(store_rollbackp) Store *t = NULL;
        bool complained = false;
        int r;

        assert(m);
        assert(node_id);

        if (!json_object_is_type(statuses, json_type_array))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "The list of instances is not an array.");
        if (json_object_array_length(statuses) > STATUSES_PER_MESSAGE_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED,
                                "%zu statuses in one message, at most %u are possible.",
                                json_object_array_length(statuses), STATUSES_PER_MESSAGE_MAX);

        r = (is_said_again(statuses) ? store_begin_retold : store_begin)(m->store, reterr);
        if (r < 0)
                return r;
        t = m->store;

        FOREACH_JSON_ARRAY(e, statuses) {
                _cleanup_kerror_ KError error = KERROR_NULL;
                NodeStatus s;

                r = node_status_parse(e, &s, &error);
                if (r == -ENOMEM)
                        return r;
                if (r < 0) {
                        if (!complained)
                                log_warning("A status of node '%s' is ignored: %s", node_id,
                                                kerror_message(&error));
                        complained = true;
                        continue;
                }
                r = take_one(m, node_id, &s, complete, now);
                if (r < 0)
                        return kerror_set_errno(reterr, r, "The status of an instance cannot be stored: %m");
        }
        if (complete) {
                r = take_absence(m, node_id, statuses, now);
                if (r < 0)
                        return kerror_set_errno(reterr, r, "The status of an instance cannot be stored: %m");
        }

        r = store_commit(m->store, reterr);
        if (r < 0)
                return r;
        t = NULL;
        return 0;
}

int node_event_take(Master *m, const char *grid_id, const char *node_id, json_object *event, uint64_t now,
                KError *reterr) {
        const char *severity = NULL, *type = NULL, *message = NULL, *reference = NULL;
        _cleanup_free_ char *grid = NULL, *stack = NULL, *name = NULL, *whose = NULL;
        _cleanup_(service_row_freep) ServiceRow *service = NULL;
        uint64_t time = 0;
        int64_t instance = 0;
        int r;

        if (!json_object_is_type(event, json_type_object))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "The event is not an object.");
        if ((r = json_get_string(event, "severity", &severity, reterr)) < 0 ||
                        (r = json_get_string(event, "type", &type, reterr)) < 0 ||
                        (r = json_get_string(event, "message", &message, reterr)) < 0 ||
                        (r = json_find_string(event, "service", &reference, reterr)) < 0 ||
                        (r = json_find_i64(event, "instance", &instance, reterr)) < 0 ||
                        (r = json_find_u64(event, "time", &time, reterr)) < 0)
                return r;
        if (!STR_IN_SET(severity, "debug", "info", "warning", "error"))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' is not a severity.", severity);
        if (strlen(type) > NAME_LENGTH_MAX || !string_is_printable(type) ||
                        strlen(message) > STATUS_TEXT_MAX)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "The event's type or message is too long.");

        if (reference && service_reference_parse(reference, &grid, &stack, &name, NULL) >= 0)
                (void) store_find_service(m->store, grid_id, stack ?: STACK_NULL, name, &service);
        /* Of one that was removed meanwhile the event alone can tell the name. */
        if (name && !service)
                whose = instance > 0 ? strprintf("%s-%" PRIi64 ": ", reference, instance)
                                     : strjoin(reference, ": ");

        /* The node's clock was compared at its admission; what is from the future all the same is from now. */
        (void) events_add(m,
                        &(EventInfo){ .severity = severity,
                                        .type = type,
                                        .grid_id = grid_id,
                                        .node_id = node_id,
                                        .service_id = service ? service->id : NULL,
                                        .instance = instance,
                                        .time = time > 0 && time < now ? time : now },
                        "%s%s", strempty(whose), message);
        return 0;
}
