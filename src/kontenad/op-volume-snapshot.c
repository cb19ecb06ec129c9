/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "events.h"
#include "json-util.h"
#include "node-session.h"
#include "op-internal.h"
#include "render.h"
#include "string-util.h"
#include "volume-move.h"

#define LIST_TIMEOUT_USEC (10ULL * 1000000ULL)
#define WORK_TIMEOUT_USEC (600ULL * 1000000ULL)

/* One action on all places of a volume that were meant, at the same time. */
typedef struct Fan {
        OperationCall *call;
        const char *action;
        bool list;
        unsigned open, done, failed;
        bool starting;         /* answers are counted only when all were asked */
        KError error;          /* the first */
        json_object *rows;     /* of all answers */
        json_object *warnings; /* of a list, which is partial then */
} Fan;

typedef struct Ask {
        Fan *fan;
        char *node, *name;
        uint32_t number;
} Ask;

static Ask *ask_free(Ask *a) {
        if (!a)
                return NULL;
        free(a->node);
        free(a->name);
        return mfree(a);
}
DEFINE_TRIVIAL_CLEANUP_FUNC(Ask *, ask_free);

static Fan *fan_free(Fan *f) {
        if (!f)
                return NULL;
        kerror_done(&f->error);
        json_object_put(f->rows);
        json_object_put(f->warnings);
        return mfree(f);
}
DEFINE_TRIVIAL_CLEANUP_FUNC(Fan *, fan_free);

static void finish(Fan *f) {
        _cleanup_json_ json_object *o = json_object_new_object();

        if (!o || json_add(o, "snapshots", json_object_get(f->rows)) < 0 ||
                        (f->list && json_add(o, "warnings", json_object_get(f->warnings)) < 0))
                (void) kerror_set_errno(&f->error, -ENOMEM, "The answer cannot be made: %m.");
        if (f->failed > 0 && f->done > 0 && !f->list)
                kerror_prefix(&f->error, "On %u of %u places this was not done", f->failed,
                                f->failed + f->done);
        operation_call_finish(f->call, o, kerror_is_set(&f->error) ? &f->error : NULL);
        fan_free(f);
}

/* Of a list a node that does not answer is a warning. */
static void fail_one(Fan *f, const char *node, const char *name, const KError *error) {
        f->failed++;
        if (f->list) {
                _cleanup_free_ char *s = strprintf("%s: %s", node, kerror_message(error));

                if (!s || json_append_string(f->warnings, s) < 0)
                        (void) kerror_set_errno(&f->error, -ENOMEM, "The answer cannot be made: %m.");
                return;
        }
        if (!kerror_is_set(&f->error)) {
                (void) kerror_set(&f->error, error->code, "%s", kerror_message(error));
                kerror_prefix(&f->error, "%s on node '%s'", name, node);
        }
}

static int add_rows(const Ask *a, json_object *result) {
        json_object *snapshots = NULL;

        if (json_find_array(result, "snapshots", &snapshots, NULL) <= 0)
                return 0;
        FOREACH_JSON_ARRAY(s, snapshots) {
                _cleanup_json_ json_object *o = json_object_new_object();
                uint64_t created_at = 0, size = 0;
                const char *name;
                int r;

                if (!o)
                        return -ENOMEM;
                if (json_get_string(s, "name", &name, NULL) < 0 ||
                                json_find_u64(s, "created_at", &created_at, NULL) < 0 ||
                                json_find_u64(s, "size", &size, NULL) < 0)
                        continue;
                if ((r = json_add_string(o, "snapshot", name)) < 0 ||
                                (r = json_add_string(o, "node", a->node)) < 0 ||
                                (r = json_add_string(o, "volume", a->name)) < 0 ||
                                (r = json_add_u64(o, "number", a->number)) < 0 ||
                                (r = json_add_u64(o, "size", size)) < 0 ||
                                (r = json_add_u64(o, "created_at", created_at)) < 0 ||
                                (r = json_append(a->fan->rows, TAKE_PTR(o))) < 0)
                        return r;
        }
        return 0;
}

static void on_answer(NodeSession *s, json_object *result, const KError *error, void *userdata) {
        _cleanup_(ask_freep) Ask *a = userdata;
        Fan *f = a->fan;

        f->open--;
        if (kerror_is_set(error))
                fail_one(f, a->node, a->name, error);
        else if (add_rows(a, result) < 0)
                (void) kerror_set_errno(&f->error, -ENOMEM, "The answer cannot be made: %m.");
        else
                f->done++;
        if (f->open == 0 && !f->starting)
                finish(f);
}

static int ask(Fan *f, const VolumeInstanceRow *i, const char *snapshot) {
        _cleanup_json_ json_object *params = json_object_new_object();
        _cleanup_(ask_freep) Ask *a = new0(Ask, 1);
        _cleanup_kerror_ KError error = KERROR_NULL;
        NodeSession *session;
        int r;

        if (!params || !a)
                return -ENOMEM;
        *a = (Ask){
                .fan = f,
                .node = node_name(f->call->master, i->node_id),
                .name = strdup(i->name),
                .number = i->number,
        };
        if (!a->node || !a->name)
                return -ENOMEM;
        session = node_sessions_find(f->call->master->sessions, i->node_id);
        if (!session) {
                (void) kerror_set(&error, K_NODE_OFFLINE, "Node '%s' is offline.", a->node);
                fail_one(f, a->node, a->name, &error);
                return 0;
        }

        r = json_add_string(params, "volume", i->name);
        if (r >= 0)
                r = json_add_string(params, "action", f->action);
        if (r >= 0 && snapshot)
                r = json_add_string(params, "snapshot", snapshot);
        if (r < 0)
                return r;
        f->open++;
        r = session_call(session, "volume.snapshot", TAKE_PTR(params),
                        f->list ? LIST_TIMEOUT_USEC : WORK_TIMEOUT_USEC, on_answer, a);
        if (r < 0) {
                f->open--;
                (void) kerror_set_errno(&error, r, "Node '%s' cannot be asked: %m.", a->node);
                fail_one(f, a->node, a->name, &error);
                return 0;
        }
        a = NULL;
        return 0;
}

int volume_select(OperationCall *c, const char *const *settings, VolumeRow **ret,
                VolumeInstanceRowList *ret_places, KError *reterr) {
        static const char *const places_only[] = { "node", "instance", NULL };
        _cleanup_(volume_instance_row_list_done) VolumeInstanceRowList rows = {};
        _cleanup_(volume_row_freep) VolumeRow *v = NULL;
        const char *name, *node = NULL;
        uint64_t instance = 0;
        json_object *options;
        size_t n = 0;
        int r;

        r = call_string(c, "volume", &name, reterr);
        if (r >= 0)
                r = call_settings(c, "options", settings ?: places_only, &options, reterr);
        if (r >= 0)
                r = json_find_string(options, "node", &node, reterr);
        if (r >= 0)
                r = json_find_u64(options, "instance", &instance, reterr);
        if (r < 0)
                return r;
        r = store_find_volume(c->master->store, c->grid->id, name, &v);
        if (r == -ENOENT)
                return kerror_set(reterr, K_NO_SUCH_VOLUME, "No volume '%s' in grid '%s'.", name,
                                c->grid->name);
        if (r < 0)
                return r;
        if (instance > 0 && v->scope != VOLUME_SCOPE_INSTANCE)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "Volume '%s' has the scope '%s': instances have none of their own.", name,
                                volume_scope_to_string(v->scope));

        r = store_list_volume_instances_of_volume(c->master->store, v->id, &rows);
        if (r < 0)
                return r;
        FOREACH_ARRAY(i, rows.rows, rows.n) {
                _cleanup_free_ char *on = node_name(c->master, (*i)->node_id);

                if (!on)
                        return -ENOMEM;
                if ((*i)->removing || (node && !streq(on, node)) ||
                                (instance > 0 && (*i)->number != instance)) {
                        *i = volume_instance_row_free(*i);
                        continue;
                }
        }
        for (size_t i = 0; i < rows.n; i++)
                if (rows.rows[i])
                        rows.rows[n++] = rows.rows[i];
        rows.n = n;
        if (n == 0)
                return kerror_set(reterr, K_NO_SUCH_VOLUME, "Volume '%s' is nowhere%s.", name,
                                node || instance > 0 ? " where it was looked for"
                                                     : " yet: no instance has used it");

        *ret = TAKE_PTR(v);
        *ret_places = TAKE_GENERIC(rows, (VolumeInstanceRowList){});
        return 0;
}

int volume_snapshot(OperationCall *c, json_object **ret, KError *reterr) {
        static const struct {
                const char *operation, *action, *what;
        } actions[] = {
                { "volume.snapshot-list", "list", NULL },
                { "volume.snapshot-create", "create", "made of" },
                { "volume.snapshot-restore", "restore", "restored into" },
                { "volume.snapshot-remove", "remove", "removed from" },
        };
        _cleanup_(volume_instance_row_list_done) VolumeInstanceRowList places = {};
        _cleanup_(volume_row_freep) VolumeRow *v = NULL;
        const char *snapshot = NULL, *what = NULL;
        _cleanup_(fan_freep) Fan *f = NULL;
        Fan *fan;
        int r;

        r = json_find_string(c->parameters, "snapshot", &snapshot, reterr);
        if (r >= 0)
                r = volume_select(c, NULL, &v, &places, reterr);
        if (r < 0)
                return r;

        if (STR_IN_SET(c->operation->name, "volume.snapshot-create", "volume.snapshot-restore"))
                FOREACH_ARRAY(i, places.rows, places.n) {
                        r = volume_move_check_idle(c->master->store, v, *i, reterr);
                        if (r < 0)
                                return r;
                }

        f = new0(Fan, 1);
        if (!f)
                return -ENOMEM;
        f->call = c;
        f->starting = true;
        f->rows = json_object_new_array();
        f->warnings = json_object_new_array();
        if (!f->rows || !f->warnings)
                return -ENOMEM;
        FOREACH_ARRAY(a, actions, ELEMENTSOF(actions))
                if (streq(a->operation, c->operation->name)) {
                        f->action = a->action;
                        what = a->what;
                }
        f->list = !what;

        fan = TAKE_PTR(f); /* freed with its last answer from here on */
        FOREACH_ARRAY(i, places.rows, places.n) {
                r = ask(fan, *i, snapshot);
                if (r < 0) {
                        fan->failed++;
                        (void) kerror_set_errno(&fan->error, r, "Volume '%s' cannot be looked after: %m.",
                                        (*i)->name);
                }
        }
        fan->starting = false;
        if (what)
                (void) events_add(c->master,
                                &(EventInfo){ .severity = "info",
                                                .type = "volume:snapshot",
                                                .grid_id = c->grid->id },
                                "Snapshot '%s' is being %s volume '%s'.", strna(snapshot), what, v->name);
        if (fan->open == 0)
                finish(fan);
        return 1;
}
