/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "data-copy.h"

#include <utlist.h>

#include "deployer.h"
#include "file-util.h"
#include "json-util.h"
#include "log.h"
#include "node-session.h"
#include "streams.h"
#include "string-util.h"
#include "table.h"

#define TICK_USEC    (1 * USEC_PER_SEC)
/* Without a byte. */
#define STALL_USEC   (120 * USEC_PER_SEC)
/* All was sent: the other side brings it to the disk. */
#define FLUSH_USEC   (1800 * USEC_PER_SEC)
#define ATTEMPTS_MAX 5U

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

        Stream *from, *to;
        bool from_ended, input_ended, data_ended;
        uint8_t *pending; /* came and is not written yet: less than a window, as it was not given back */
        size_t n_pending;
        uint64_t bytes; /* of this attempt */
        uint64_t last;  /* CLOCK_MONOTONIC: when something moved */
        Copy *prev, *next;
};

struct DataCopies {
        Master *master;
        sd_event_source *timer;
        Copy *copies;
};

static void close_streams(Copy *c) {
        c->from = stream_close(c->from);
        c->to = stream_close(c->to);
        c->pending = mfree(c->pending);
        c->n_pending = 0;
        c->from_ended = c->input_ended = c->data_ended = false;
}

static void copy_free(Copy *c) {
        close_streams(c);
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

static void fail(Copy *c, KErrorCode code, const char *why) {
        const Part *p = c->parts + c->current;

        close_streams(c);
        /* A connection was lost, or a daemon is started anew: from the beginning, when both are there again. */
        if (code == K_NODE_OFFLINE && c->attempts < ATTEMPTS_MAX) {
                log_notice("Copying '%s' to another node was interrupted, beginning anew: %s", p->from, why);
                c->state = COPY_WAITING;
        } else {
                c->state = COPY_FAILED;
                (void) kerror_set(&c->error, code, "Copying the data failed: %s", why);
        }
        wake(c);
}

static void fail_errno(Copy *c, int error) {
        _cleanup_kerror_ KError e = KERROR_NULL;

        (void) kerror_set_errno(&e, error, "%m.");
        fail(c, e.code, kerror_message(&e));
}

static int begin_part(Copy *c, KError *reterr);

static void next_part(Copy *c) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        int r;

        close_streams(c);
        if (++c->current < c->n_parts) {
                r = begin_part(c, &error);
                if (r < 0)
                        fail(c, kerror_is_set(&error) ? error.code : K_INTERNAL, kerror_message(&error));
                return;
        }
        c->state = COPY_DONE;
        wake(c);
}

/* Writes what waits, gives it back to where it came from. */
static int pump(Copy *c) {
        size_t n = MIN(c->n_pending, stream_room(c->to));
        int r;

        if (n > 0) {
                r = stream_write(c->to, c->pending, n);
                if (r < 0)
                        return r;
                memmove(c->pending, c->pending + n, c->n_pending - n);
                c->n_pending -= n;
                c->bytes += n;
                c->last = now_monotonic();
                if (c->from) {
                        r = stream_credit(c->from, n);
                        if (r < 0)
                                return r;
                }
        }
        /* Only the end of a stream that came to a good end is told: another one is thrown away by the receiver. */
        if (c->n_pending > 0 || !c->data_ended || !c->from_ended || c->input_ended ||
                        stream_room(c->to) == 0)
                return 0;
        c->input_ended = true;
        return stream_end_input(c->to);
}

static void pump_or_fail(Copy *c) {
        int r;

        r = pump(c);
        if (r < 0)
                fail_errno(c, r);
}

static void on_from_opened(Stream *s, void *userdata) {
}

static void on_from_data(Stream *s, unsigned channel, const void *data, size_t size, void *userdata) {
        Copy *c = userdata;

        if (channel != 1) {
                if (size > 0 && stream_credit(s, size) < 0)
                        fail_errno(c, -EPROTO);
                return;
        }
        if (size == 0)
                c->data_ended = true;
        else if (size > STREAM_WINDOW - c->n_pending)
                return fail_errno(c, -EPROTO);
        else {
                memcpy(c->pending + c->n_pending, data, size);
                c->n_pending += size;
        }
        pump_or_fail(c);
}

static void on_from_ended(Stream *s, int status, const KError *error, void *userdata) {
        Copy *c = userdata;

        c->from = NULL;
        /* Nothing was ever written there: the other node makes a new one, too. */
        if (error && error->code == K_NO_SUCH_VOLUME)
                return next_part(c);
        if (error)
                return fail(c, error->code, kerror_message(error));
        if (status != 0)
                return fail(c, K_INTERNAL, "the node that has them could not read all of them.");
        c->from_ended = c->data_ended = true;
        pump_or_fail(c);
}

static void on_to_opened(Stream *s, void *userdata) {
        pump_or_fail(userdata);
}

static void on_to_data(Stream *s, unsigned channel, const void *data, size_t size, void *userdata) {
        if (size > 0 && stream_credit(s, size) < 0)
                fail_errno(userdata, -EPROTO);
}

static void on_to_writable(Stream *s, void *userdata) {
        pump_or_fail(userdata);
}

static void on_to_ended(Stream *s, int status, const KError *error, void *userdata) {
        Copy *c = userdata;

        c->to = NULL;
        if (error)
                return fail(c, error->code, kerror_message(error));
        if (status != 0 || !c->input_ended)
                return fail(c, K_INTERNAL, "the node that was to have them did not take all of them.");
        next_part(c);
}

static int open_one(Copy *c, const char *node_id, const char *kind, const char *key, const char *value,
                const StreamHandler *handler, Stream **ret, KError *reterr) {
        Master *m = c->owner->master;
        NodeSession *session = node_sessions_find(m->sessions, node_id);
        _cleanup_json_ json_object *params = json_object_new_object();
        int r;

        if (!session)
                return kerror_set(reterr, K_NODE_OFFLINE, "a node is offline.");
        if (!params)
                return -ENOMEM;
        r = json_add_string(params, key, value);
        if (r < 0)
                return r;
        return stream_open(m->streams, session, kind, TAKE_PTR(params), /* owner= */ NULL, handler, c, ret,
                        reterr);
}

static int begin_part(Copy *c, KError *reterr) {
        static const StreamHandler from = {
                .opened = on_from_opened, .data = on_from_data, .ended = on_from_ended
        };
        static const StreamHandler to = {
                .opened = on_to_opened, .data = on_to_data, .writable = on_to_writable, .ended = on_to_ended
        };
        const Part *p = c->parts + c->current;
        int r;

        c->pending = malloc(STREAM_WINDOW);
        if (!c->pending)
                return -ENOMEM;
        c->last = now_monotonic();
        r = open_one(c, c->to_node, p->put, p->key, p->to, &to, &c->to, reterr);
        if (r >= 0)
                r = open_one(c, c->from_node, p->get, p->key, p->from, &from, &c->from, reterr);
        return r;
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
                if (c->state == COPY_RUNNING &&
                                now_monotonic() > c->last + (c->input_ended ? FLUSH_USEC : STALL_USEC))
                        fail(c, K_TIMEOUT, "nothing has moved for two minutes.");
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
        r = begin_part(c, reterr);
        if (r < 0) {
                close_streams(c);
                return r;
        }
        c->attempts++;
        c->state = COPY_RUNNING;
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
                *ret_progress = strprintf("%s copied", bytes_to_text(c->bytes, text));
                return *ret_progress ? 0 : -ENOMEM;
        }

        r = c->state == COPY_DONE ? 1 : kerror_errno(c->error.code);
        if (r < 0)
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
