/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "data-copy.h"

#include <utlist.h>

#include "deployer.h"
#include "file-util.h"
#include "json-util.h"
#include "log.h"
#include "node-session.h"
#include "stream-bridge.h"
#include "string-util.h"
#include "table.h"

#define TICK_USEC    (1 * USEC_PER_SEC)
/* Without a byte. */
#define STALL_USEC   (120 * USEC_PER_SEC)
/* All was sent: the other side brings it to the disk. */
#define FLUSH_USEC   (1800 * USEC_PER_SEC)
#define ATTEMPTS_MAX 5U
#define ANSWER_USEC  (30 * USEC_PER_SEC)

typedef enum CopyState {
        COPY_WAITING, /* to be begun, or begun anew */
        COPY_RUNNING,
        COPY_DONE,
        COPY_FAILED,
} CopyState;

/* One tar stream: a volume, or the volumes without a name of an instance. */
typedef struct Part {
        const char *get, *put; /* kinds of the streams */
        const char *key;       /* of their parameter */
        char *from, *to;       /* its values */
} Part;

typedef struct Copy Copy;
struct Copy {
        DataCopies *owner;
        char *deploy_id, *service_id, *from_node, *to_node;
        Part *parts;
        size_t n_parts, current;

        CopyState state;
        KError error;
        unsigned attempts;
        uint64_t not_before; /* CLOCK_MONOTONIC: of the next attempt */

        StreamBridge *bridge;
        uint64_t bytes; /* of this attempt, in parts that are done */
        uint64_t moved; /* as of the last look, */
        uint64_t last;  /* CLOCK_MONOTONIC: which was news then */
        Copy *prev, *next;
};

struct DataCopies {
        Master *master;
        sd_event_source *timer;
        Copy *copies;
};

static void copy_free(Copy *c) {
        stream_bridge_free(c->bridge);
        DL_DELETE(c->owner->copies, c);
        FOREACH_ARRAY(p, c->parts, c->n_parts) {
                free(p->from);
                free(p->to);
        }
        free(c->parts);
        free(c->deploy_id);
        free(c->service_id);
        free(c->from_node);
        free(c->to_node);
        kerror_done(&c->error);
        free(c);
}

static void wake(Copy *c) {
        if (c->owner->master->deployer)
                deployer_wake(c->owner->master->deployer, c->service_id);
}

/* A connection was lost, or a daemon was started anew and does not have all its instances yet, or has no stream to spare: what
 * may be otherwise in a moment. */
static bool is_passing(KErrorCode code) {
        return code == K_NODE_OFFLINE || code == K_CONFLICT || code == K_NO_SUCH_INSTANCE ||
               code == K_LIMIT_EXCEEDED || code == K_TIMEOUT;
}

static void fail(Copy *c, KErrorCode code, const char *why) {
        const Part *p = c->parts + c->current;

        c->bridge = stream_bridge_free(c->bridge);
        if (is_passing(code) && c->attempts < ATTEMPTS_MAX) {
                log_notice("Copying '%s' to another node was interrupted, beginning anew: %s", p->from, why);
                c->state = COPY_WAITING;
                c->not_before = now_monotonic() + c->attempts * TICK_USEC;
        } else {
                c->state = COPY_FAILED;
                (void) kerror_set(&c->error, code, "Copying the data failed: %s", why);
        }
        wake(c);
}

static int begin_part(Copy *c, KError *reterr);

/* A volume that its node never had: nothing was written, and the other node makes a new one, too. That a node does not find what it had
 * before is something else: perhaps a disk is not mounted. */
static bool is_new(const Copy *c) {
        _cleanup_(volume_instance_row_freep) VolumeInstanceRow *row = NULL;
        const Part *p = c->parts + c->current;
        int r;

        if (!streq(p->key, "volume"))
                return true; /* the node itself tells the one from the other */
        r = store_find_volume_instance(c->owner->master->store, c->from_node, p->from, &row);
        return r == -ENOENT || (r >= 0 && !streq_ptr(row->state, "present") && row->used == 0);
}

static void on_part_done(uint64_t bytes, bool by_source, const KError *error, void *userdata) {
        _cleanup_kerror_ KError next = KERROR_NULL;
        Copy *c = userdata;
        int r;

        c->bridge = NULL;
        if (error && !(by_source && error->code == K_NO_SUCH_VOLUME && is_new(c))) {
                fail(c, error->code, kerror_message(error));
                return;
        }

        c->bytes += bytes;
        if (++c->current >= c->n_parts) {
                c->state = COPY_DONE;
                wake(c);
                return;
        }
        r = begin_part(c, &next);
        if (r < 0)
                fail(c, kerror_is_set(&next) ? next.code : K_INTERNAL, kerror_message(&next));
}

static int fill_end(Copy *c, StreamBridgeEnd *end, const char *node_id, const char *value, KError *reterr) {
        end->session = node_sessions_find(c->owner->master->sessions, node_id);
        if (!end->session)
                return kerror_set(reterr, K_NODE_OFFLINE, "A node is offline.");
        end->params = json_object_new_object();
        if (!end->params)
                return -ENOMEM;
        return json_add_string(end->params, c->parts[c->current].key, value);
}

static int open_part(Copy *c, KError *reterr) {
        const Part *p = c->parts + c->current;
        StreamBridgeEnd from = { .kind = p->get }, to = { .kind = p->put };
        int r;

        r = fill_end(c, &from, c->from_node, p->from, reterr);
        if (r >= 0)
                r = fill_end(c, &to, c->to_node, p->to, reterr);
        if (r < 0) {
                json_object_put(from.params);
                json_object_put(to.params);
                return r;
        }
        return stream_bridge_new(c->owner->master, &from, &to, on_part_done, c, &c->bridge, reterr);
}

/* Who has asked a node for the snapshots of a volume; the copy may be gone when the answer comes. */
typedef struct Question {
        Master *master;
        char *deploy_id;
        unsigned attempt;
        size_t part;
} Question;

static Copy *find(DataCopies *l, const char *deploy_id);

static void on_snapshots(NodeSession *session, json_object *result, const KError *error, void *userdata) {
        _cleanup_kerror_ KError e = KERROR_NULL;
        json_object *snapshots = NULL;
        Question *q = userdata;
        Copy *c = q->master->data_copies ? find(q->master->data_copies, q->deploy_id) : NULL;
        bool is_ours = c && c->state == COPY_RUNNING && c->attempts == q->attempt && c->current == q->part;
        int r = 0;

        free(q->deploy_id);
        free(q);
        if (!is_ours)
                return;
        if (error && error->code != K_NO_SUCH_VOLUME) {
                fail(c, error->code, kerror_message(error));
                return;
        }
        if (result)
                r = json_find_array(result, "snapshots", &snapshots, &e);
        if (r > 0 && json_object_array_length(snapshots) > 0)
                r = kerror_set(&e, K_IN_USE,
                                "Volume '%s' has %zu snapshots, which would not go with it; remove them "
                                "first: "
                                "kontenactl volume remove-snapshot.",
                                c->parts[c->current].from, (size_t) json_object_array_length(snapshots));
        if (r >= 0)
                r = open_part(c, &e);
        if (r < 0)
                fail(c, kerror_is_set(&e) ? e.code : K_INTERNAL, kerror_message(&e));
}

static int ask_for_snapshots(Copy *c, KError *reterr) {
        NodeSession *session = node_sessions_find(c->owner->master->sessions, c->from_node);
        _cleanup_json_ json_object *params = json_object_new_object();
        Question *q;
        int r;

        if (!session)
                return kerror_set(reterr, K_NODE_OFFLINE, "A node is offline.");
        if (!params)
                return -ENOMEM;
        r = json_add_string(params, "volume", c->parts[c->current].from);
        if (r >= 0)
                r = json_add_string(params, "action", "list");
        if (r < 0)
                return r;
        q = new0(Question, 1);
        if (!q)
                return -ENOMEM;
        *q = (Question){ .master = c->owner->master, .attempt = c->attempts, .part = c->current };
        q->deploy_id = strdup(c->deploy_id);
        r = q->deploy_id ? session_call(session, "volume.snapshot", TAKE_PTR(params), ANSWER_USEC,
                                           on_snapshots, q)
                         : -ENOMEM;
        if (r < 0) {
                free(q->deploy_id);
                free(q);
        }
        return r;
}

/* A snapshot is part of what would be removed with the volume when all is well. */
static int begin_part(Copy *c, KError *reterr) {
        c->moved = 0;
        c->last = now_monotonic();
        return streq(c->parts[c->current].key, "volume") ? ask_for_snapshots(c, reterr)
                                                         : open_part(c, reterr);
}

static int add_part(Copy *c, const char *get, const char *put, const char *key, const char *from,
                const char *to) {
        Part *p = c->parts + c->n_parts++;

        *p = (Part){ .get = get, .put = put, .key = key, .from = strdup(from), .to = strdup(to) };
        return p->from && p->to ? 0 : -ENOMEM;
}

static int copy_new(DataCopies *l, const DataCopyRequest *q, Copy **ret) {
        Copy *c;
        int r = 0;

        c = new0(Copy, 1);
        if (!c)
                return -ENOMEM;
        c->owner = l;
        DL_APPEND(l->copies, c);
        c->deploy_id = strdup(q->deploy_id);
        c->service_id = strdup(q->service_id);
        c->from_node = strdup(q->from_node);
        c->to_node = strdup(q->to_node);
        c->parts = new0(Part, strv_length(q->volumes) + 1);
        if (!c->deploy_id || !c->service_id || !c->from_node || !c->to_node || !c->parts)
                r = -ENOMEM;
        if (r >= 0 && q->from_instance)
                r = add_part(c, "instance-get", "instance-put", "id", q->from_instance, q->to_instance);
        STRV_FOREACH(v, q->volumes)
                if (r >= 0)
                        r = add_part(c, "volume-get", "volume-put", "volume", *v, *v);
        if (r < 0) {
                copy_free(c);
                return r;
        }
        *ret = c;
        return 0;
}

static Copy *find(DataCopies *l, const char *deploy_id) {
        Copy *c;

        DL_FOREACH(l->copies, c)
                if (streq(c->deploy_id, deploy_id))
                        return c;
        return NULL;
}

static bool is_pointless(Copy *c) {
        _cleanup_(deploy_row_freep) DeployRow *row = NULL;
        int r;

        r = store_get_deploy(c->owner->master->store, c->deploy_id, &row);
        return r == -ENOENT || (r >= 0 && DEPLOY_STATE_IS_FINAL(row->state));
}

static void watch(Copy *c) {
        uint64_t moved = c->bridge ? stream_bridge_bytes(c->bridge) : 0, now = now_monotonic();

        if (moved != c->moved) {
                c->moved = moved;
                c->last = now;
        } else if (now > c->last + (c->bridge && stream_bridge_is_finishing(c->bridge) ? FLUSH_USEC
                                                                                       : STALL_USEC))
                fail(c, K_TIMEOUT, "Nothing has moved for a long time.");
}

static int arm(DataCopies *l) {
        int r;

        r = sd_event_source_set_time_relative(l->timer, TICK_USEC);
        return r < 0 ? r : sd_event_source_set_enabled(l->timer, SD_EVENT_ONESHOT);
}

static int on_tick(sd_event_source *s, uint64_t usec, void *userdata) {
        DataCopies *l = userdata;
        Copy *c, *next;
        int r;

        DL_FOREACH_SAFE(l->copies, c, next) {
                if (is_pointless(c)) {
                        copy_free(c);
                        continue;
                }
                if (c->state == COPY_RUNNING)
                        watch(c);
                wake(c);
        }
        r = l->copies ? arm(l) : sd_event_source_set_enabled(l->timer, SD_EVENT_OFF);
        if (r < 0)
                log_error_errno(r, "Copies of data are not watched any more: %m");
        return 0;
}

static int begin(Copy *c, KError *reterr) {
        int r;

        c->current = 0;
        c->bytes = 0;
        if (c->n_parts == 0) {
                c->state = COPY_DONE;
                return 0;
        }
        c->attempts++;
        c->state = COPY_RUNNING;
        r = begin_part(c, reterr);
        if (r < 0) {
                c->attempts--;
                c->state = COPY_WAITING;
                return r;
        }
        return arm(c->owner);
}

int data_copy_run(DataCopies *l, const DataCopyRequest *q, char **ret_progress, KError *reterr) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        char text[TIME_TEXT_MAX];
        Copy *c;
        int r;

        assert(l);
        assert(q);
        assert(ret_progress);

        c = find(l, q->deploy_id);
        if (!c) {
                r = copy_new(l, q, &c);
                if (r < 0)
                        return r;
        }
        if (c->state == COPY_WAITING && now_monotonic() < c->not_before)
                return arm(l);
        if (c->state == COPY_WAITING) {
                r = begin(c, &error);
                if (r < 0 && error.code == K_NODE_OFFLINE) /* its session has ended, the row does not say so yet */
                        return arm(l);
                if (r < 0) {
                        kerror_move(reterr, &error);
                        copy_free(c);
                        return r;
                }
        }
        if (c->state == COPY_RUNNING) {
                *ret_progress = strprintf("%s copied", bytes_to_text(c->bytes + c->moved, text));
                return *ret_progress ? 0 : -ENOMEM;
        }

        /* Kept until whoever asked has written that down. */
        if (c->state == COPY_DONE)
                return 1;
        r = kerror_errno(c->error.code);
        kerror_move(reterr, &c->error);
        copy_free(c);
        return r;
}

void data_copy_forget(DataCopies *l, const char *deploy_id) {
        Copy *c = find(l, deploy_id);

        if (c)
                copy_free(c);
}

/* One that is cancelled ends at once: what it brings is about to be removed. */
static void on_change(Store *store, StoreKind kind, StoreChange change, const char *id, const char *grid_id,
                void *userdata) {
        Copy *c = kind == STORE_DEPLOY ? find(userdata, id) : NULL;

        if (c && is_pointless(c))
                copy_free(c);
}

DataCopies *data_copies_free(DataCopies *l) {
        if (!l)
                return NULL;

        while (l->copies)
                copy_free(l->copies);
        sd_event_source_disable_unref(l->timer);
        return mfree(l);
}

int data_copies_new(Master *m, DataCopies **ret) {
        _cleanup_(data_copies_freep) DataCopies *l = NULL;
        int r;

        assert(m);
        assert(ret);

        l = new0(DataCopies, 1);
        if (!l)
                return -ENOMEM;
        l->master = m;
        r = sd_event_add_time_relative(m->event, &l->timer, CLOCK_MONOTONIC, 0, 0, on_tick, l);
        if (r >= 0)
                r = sd_event_source_set_enabled(l->timer, SD_EVENT_OFF);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(l->timer, "data-copies");
        r = store_watch(m->store, on_change, l);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(l);
        return 0;
}
