/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "standing.h"

#include <utlist.h>

#include "caller-token.h"
#include "file-util.h"
#include "store.h"
#include "string-util.h"

#define CHECK_USEC (10U * USEC_PER_SEC) /* nobody tells that a token expires */

struct Standing {
        Standings *owner; /* NULL: it has gone, or this one was told */
        Caller *caller;
        char *role, *grid;
        standing_lost_t lost;
        void *userdata;
        KError error; /* set: is to be told */
        struct Standing *prev, *next;
};

struct Standings {
        Master *master;
        Standing *all;
        sd_event_source *check, *timer;
};

static void leave(Standing *s) {
        if (s->owner)
                DL_DELETE(s->owner->all, s);
        s->owner = NULL;
}

Standing *standing_free(Standing *s) {
        if (!s)
                return NULL;

        leave(s);
        caller_unref(s->caller);
        kerror_done(&s->error);
        free(s->role);
        free(s->grid);
        free(s);
        return NULL;
}

static Standing *find_lost(Standings *l) {
        Standing *s;

        DL_FOREACH(l->all, s)
                if (kerror_is_set(&s->error))
                        return s;
        return NULL;
}

/* All are looked at first: whoever is told may take others along. */
void standings_check(Standings *l) {
        Standing *s;

        DL_FOREACH(l->all, s)
                (void) caller_may_still(s->caller, s->role, s->grid, &s->error);
        while ((s = find_lost(l))) {
                _cleanup_kerror_ KError error = KERROR_NULL;

                kerror_move(&error, &s->error);
                leave(s);
                s->lost(&error, s->userdata);
        }
}

static int on_check(sd_event_source *source, void *userdata) {
        standings_check(userdata);
        return 0;
}

static int arm(Standings *l) {
        int r;

        r = sd_event_source_set_time_relative(l->timer, CHECK_USEC);
        return r < 0 ? r : sd_event_source_set_enabled(l->timer, SD_EVENT_ONESHOT);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        Standings *l = userdata;

        standings_check(l);
        return l->all ? arm(l) : 0;
}

/* The store keeps its watches to its end, which is after ours. */
static void on_change(Store *store, StoreKind kind, StoreChange change, const char *id, const char *grid_id,
                void *userdata) {
        Master *m = userdata;

        if (m->standings && m->standings->all && change != STORE_ADDED &&
                        (kind == STORE_TOKEN || kind == STORE_USER || kind == STORE_GRID))
                (void) sd_event_source_set_enabled(m->standings->check, SD_EVENT_ONESHOT);
}

int standings_new(Master *m, Standings **ret) {
        _cleanup_(standings_freep) Standings *l = NULL;
        int r;

        assert(m);
        assert(ret);

        l = new0(Standings, 1);
        if (!l)
                return -ENOMEM;
        l->master = m;
        r = sd_event_add_defer(m->event, &l->check, on_check, l);
        if (r >= 0)
                r = sd_event_source_set_enabled(l->check, SD_EVENT_OFF);
        if (r >= 0)
                r = sd_event_add_time_relative(m->event, &l->timer, CLOCK_MONOTONIC, 0, 0, on_timer, l);
        if (r >= 0)
                r = sd_event_source_set_enabled(l->timer, SD_EVENT_OFF);
        if (r >= 0)
                r = store_watch(m->store, on_change, m);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(l);
        return 0;
}

Standings *standings_free(Standings *l) {
        if (!l)
                return NULL;

        while (l->all)
                leave(l->all);
        sd_event_source_disable_unref(l->check);
        sd_event_source_disable_unref(l->timer);
        free(l);
        return NULL;
}

int standing_new(Master *m, Caller *c, const char *role, const char *grid, standing_lost_t lost,
                void *userdata, Standing **ret) {
        _cleanup_(standing_freep) Standing *s = NULL;
        int r;

        assert(c);
        assert(role);
        assert(lost);
        assert(ret);

        if (!m->standings || !caller_token_id(c)) {
                *ret = NULL;
                return 0;
        }
        s = new0(Standing, 1);
        if (!s)
                return -ENOMEM;
        s->caller = caller_ref(c);
        s->role = strdup(role);
        s->grid = strdup(strempty(grid));
        if (!s->role || !s->grid)
                return -ENOMEM;
        s->lost = lost;
        s->userdata = userdata;
        if (!m->standings->all) {
                r = arm(m->standings);
                if (r < 0)
                        return r;
        }
        s->owner = m->standings;
        DL_APPEND(m->standings->all, s);

        *ret = TAKE_PTR(s);
        return 0;
}
