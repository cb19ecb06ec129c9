/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "authorities.h"

#include <uthash.h>

#include "authorities-digest.h"
#include "bus-face.h"
#include "ca.h"
#include "file-util.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "log.h"
#include "node-session.h"
#include "node-tracker.h"
#include "store.h"
#include "string-util.h"

#define CHECK_SOON_USEC  (200ULL * USEC_PER_MSEC)
#define CHECK_AGAIN_USEC (5ULL * USEC_PER_SEC)

/* What a node was told last, so that one which cannot follow is not told for ever. */
typedef struct Told {
        char *node_id;
        uint64_t session_id;
        char digest[AUTHORITIES_DIGEST_SIZE];
        UT_hash_handle hh;
} Told;

struct Authorities {
        Master *master;
        sd_event_source *timer;
        Told *told;
};

static void digest_now(Authorities *a, char ret[static AUTHORITIES_DIGEST_SIZE]) {
        const char *pem = ca_authorities_pem(a->master->ca);

        authorities_digest(pem, strlen(pem), ret);
}

static bool is_rotating(Authorities *a) {
        return ca_next_fingerprint(a->master->ca);
}

static void check_within(Authorities *a, uint64_t usec) {
        uint64_t armed = 0, now = 0;
        int enabled = SD_EVENT_OFF;

        (void) sd_event_now(a->master->event, CLOCK_BOOTTIME, &now);
        (void) sd_event_source_get_enabled(a->timer, &enabled);
        (void) sd_event_source_get_time(a->timer, &armed);
        if (enabled != SD_EVENT_OFF && armed <= now + usec)
                return;
        (void) sd_event_source_set_time(a->timer, now + usec);
        (void) sd_event_source_set_enabled(a->timer, SD_EVENT_ONESHOT);
}

/* True: not told yet, on this connection. */
static bool note_told(Authorities *a, NodeSession *s, const char *digest) {
        Told *t;

        HASH_FIND_STR(a->told, session_node_id(s), t);
        if (t && t->session_id == session_id(s) && streq(t->digest, digest))
                return false;
        if (!t) {
                t = new0(Told, 1);
                if (!t)
                        return false;
                t->node_id = strdup(session_node_id(s));
                if (!t->node_id) {
                        free(t);
                        return false;
                }
                HASH_ADD_KEYPTR(hh, a->told, t->node_id, strlen(t->node_id), t);
        }
        t->session_id = session_id(s);
        memcpy(t->digest, digest, sizeof(t->digest));
        return true;
}

static void on_answer(NodeSession *s, json_object *result, const KError *error, void *userdata) {
        if (!result)
                log_warning("Node '%s' does not take the authorities that it should trust: %s",
                                session_node_id(s), kerror_message(error));
}

static void tell(Authorities *a, NodeSession *s, const char *digest) {
        json_object *params;
        int r;

        if (!note_told(a, s, digest))
                return;
        params = json_object_new_object();
        r = params ? json_add_string(params, "certificates", ca_authorities_pem(a->master->ca)) : -ENOMEM;
        if (r >= 0)
                r = session_call(s, "authorities.set", params, CHANNEL_CALL_TIMEOUT_USEC, on_answer, a);
        else
                json_object_put(params);
        if (r < 0)
                log_warning_errno(r, "Node '%s' cannot be told whom to trust: %m", session_node_id(s));
}

static void finish(Authorities *a) {
        _cleanup_kerror_ KError error = KERROR_NULL;

        if (ca_rotation_finish(a->master->ca, &error) < 0) {
                log_error("The certificate authority cannot be replaced, trying again: %s",
                                kerror_message(&error));
                check_within(a, CHECK_AGAIN_USEC);
                return;
        }
        log_notice("The certificate authority was replaced; join tokens carry the fingerprint %s from now "
                   "on.",
                        ca_fingerprint(a->master->ca));
        if (a->master->bus_face)
                bus_face_reloaded(a->master->bus_face);
        check_within(a, 0); /* nodes need not trust the old one any longer */
}

static int on_check(sd_event_source *source, uint64_t usec, void *userdata) {
        _cleanup_(node_row_list_done) NodeRowList l = {};
        char digest[AUTHORITIES_DIGEST_SIZE];
        Authorities *a = userdata;
        Told *t, *next;
        int r;

        digest_now(a, digest);
        /* Who was told something else need not have reported it yet. */
        HASH_ITER(hh, a->told, t, next) {
                NodeSession *s = node_sessions_find(a->master->sessions, t->node_id);

                if (s && session_id(s) == t->session_id)
                        tell(a, s, digest);
        }
        r = store_list_nodes_not_trusting(a->master->store, digest, &l);
        if (r < 0) {
                log_warning_errno(r, "Nodes cannot be listed: %m");
                check_within(a, CHECK_AGAIN_USEC);
                return 0;
        }
        FOREACH_ARRAY(n, l.rows, l.n) {
                NodeSession *s = node_sessions_find(a->master->sessions, (*n)->id);

                if (s)
                        tell(a, s, digest);
        }

        if (is_rotating(a)) {
                if (l.n == 0)
                        finish(a);
                else
                        check_within(a, CHECK_AGAIN_USEC);
        }
        return 0;
}

static void on_change(Store *s, StoreKind kind, StoreChange change, const char *id, const char *grid_id,
                void *userdata) {
        Authorities *a = userdata;
        Told *t;

        if (kind != STORE_NODE)
                return;
        if (change == STORE_REMOVED) {
                HASH_FIND_STR(a->told, id, t);
                if (t) {
                        HASH_DEL(a->told, t);
                        free(t->node_id);
                        free(t);
                }
        }
        if (a->master->ca && is_rotating(a))
                check_within(a, CHECK_SOON_USEC);
}

static void on_greeting(NodeSession *s, json_object *report, void *userdata) {
        char digest[AUTHORITIES_DIGEST_SIZE];
        const char *theirs = NULL;
        Authorities *a = userdata;

        /* Not there: a node of an earlier version, which cannot be told. */
        if (json_find_string(report, "authorities", &theirs, NULL) <= 0)
                return;
        digest_now(a, digest);
        if (!streq(theirs, digest))
                tell(a, s, digest);
}

void authorities_changed(Authorities *a) {
        check_within(a, 0);
}

int authorities_rotate(Authorities *a, bool force, KError *reterr) {
        bool begun = is_rotating(a);
        int r;

        r = ca_rotate(a->master->ca, reterr);
        if (r < 0)
                return r;
        if (!begun)
                log_notice("The certificate authority will be replaced as soon as all nodes trust the next "
                           "one, %s.",
                                ca_next_fingerprint(a->master->ca));
        if (force)
                finish(a);
        else
                check_within(a, 0);
        return 0;
}

int authorities_abort(Authorities *a, KError *reterr) {
        int r;

        r = ca_rotation_abort(a->master->ca, reterr);
        check_within(a, 0);
        if (r < 0) {
                if (!is_rotating(a) && a->master->bus_face) /* it was too late */
                        bus_face_reloaded(a->master->bus_face);
                return r;
        }
        log_notice("The certificate authority stays.");
        return 0;
}

static int add_nodes(Authorities *a, json_object *o) {
        _cleanup_(node_row_list_done) NodeRowList l = {};
        char digest[AUTHORITIES_DIGEST_SIZE];
        json_object *array;
        int r;

        digest_now(a, digest);
        r = store_list_nodes_not_trusting(a->master->store, digest, &l);
        if (r < 0)
                return r;
        array = json_object_new_array();
        r = json_add(o, "nodes", array);
        FOREACH_ARRAY(n, l.rows, l.n) {
                _cleanup_(grid_row_freep) GridRow *grid = NULL;
                json_object *e;

                if (r >= 0)
                        r = store_get_grid(a->master->store, (*n)->grid_id, &grid);
                if (r < 0)
                        return r;
                e = json_object_new_object();
                r = json_append(array, e);
                if (r >= 0)
                        r = json_add_string(e, "grid", grid->name);
                if (r >= 0)
                        r = json_add_string(e, "node", (*n)->name);
                if (r >= 0)
                        r = json_add_bool(e, "connected", (*n)->connected);
        }
        return r;
}

int authorities_describe(Authorities *a, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();
        Ca *ca = a->master->ca;
        int r;

        if (!o)
                return -ENOMEM;
        r = json_add_string(o, "fingerprint", ca_fingerprint(ca));
        if (r >= 0)
                r = json_add_string(o, "certificate", ca_certificate_pem(ca));
        if (r >= 0)
                r = json_add_u64(o, "expires_at", ca_expires_at(ca));
        if (r >= 0)
                r = json_add_bool(o, "own", ca_is_own(ca));
        if (r >= 0 && is_rotating(a))
                r = json_add_string(o, "next_fingerprint", ca_next_fingerprint(ca));
        if (r >= 0)
                r = add_nodes(a, o);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

int authorities_new(Master *m, Authorities **ret) {
        _cleanup_(authorities_freep) Authorities *a = NULL;
        int r;

        assert(m);
        assert(m->ca);

        a = new0(Authorities, 1);
        if (!a)
                return -ENOMEM;
        a->master = m;
        /* A rotation that the last master had begun goes on. */
        r = sd_event_add_time_relative(
                        m->event, &a->timer, CLOCK_BOOTTIME, CHECK_AGAIN_USEC, CHECK_SOON_USEC, on_check, a);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(a->timer, "authorities-check");
        r = store_watch(m->store, on_change, a);
        if (r < 0)
                return r;
        node_tracker_on_greeting(m->tracker, on_greeting, a);

        *ret = TAKE_PTR(a);
        return 0;
}

Authorities *authorities_free(Authorities *a) {
        Told *t, *next;

        if (!a)
                return NULL;

        sd_event_source_disable_unref(a->timer);
        HASH_ITER(hh, a->told, t, next) {
                HASH_DEL(a->told, t);
                free(t->node_id);
                free(t);
        }
        free(a);
        return NULL;
}
