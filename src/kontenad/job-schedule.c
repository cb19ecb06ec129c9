/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "job-schedule.h"

#include <inttypes.h>
#include <uthash.h>

#include "calendar.h"
#include "events.h"
#include "file-util.h"
#include "job-run.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "log.h"
#include "string-util.h"

#define QUERIES_MAX    4U
/* After systemd could not be asked, and after it did not know what to make of the schedule. */
#define ASK_AGAIN_USEC (10 * USEC_PER_SEC)
#define INVALID_USEC   (600 * USEC_PER_SEC)
/* Services that are read in one turn of the loop. */
#define READ_MAX       20U

/* What the answer is for. */
typedef enum Purpose {
        PURPOSE_FIND,     /* when it runs next */
        PURPOSE_DECIDE,   /* what comes after the point that is due now */
        PURPOSE_CATCH_UP, /* which of those that were missed is not too old */
} Purpose;

/* One service with a schedule. Nothing here is missed after a restart. */
typedef struct Entry Entry;
struct Entry {
        JobSchedule *owner;
        char *service_id;
        char *schedule; /* as the store has them */
        uint64_t next_run_at;
        bool stale;   /* it was changed since */
        bool checked; /* systemd was asked since the start, and since the clock was set */
        CalendarQuery *query;
        Purpose purpose;
        char *expression; /* that was asked about */
        uint64_t point;   /* next_run_at then */
        uint64_t asked_at;
        uint64_t following; /* with PURPOSE_CATCH_UP: known already */
        uint64_t not_before;
        bool complained;
        UT_hash_handle hh;
};

struct JobSchedule {
        Master *master;
        Entry *entries;
        bool listed;
        unsigned n_queries;
        job_schedule_answer_t answer;
        void *userdata;
};

static Entry *entry_free(Entry *e) {
        if (!e)
                return NULL;

        if (e->query)
                e->owner->n_queries--;
        calendar_query_free(e->query);
        HASH_DEL(e->owner->entries, e);
        free(e->service_id);
        free(e->schedule);
        free(e->expression);
        return mfree(e);
}

int job_schedule_new(Master *m, job_schedule_answer_t answer, void *userdata, JobSchedule **ret) {
        JobSchedule *s = new0(JobSchedule, 1);

        if (!s)
                return -ENOMEM;
        s->master = m;
        s->answer = answer;
        s->userdata = userdata;
        *ret = s;
        return 0;
}

JobSchedule *job_schedule_free(JobSchedule *s) {
        if (!s)
                return NULL;

        while (s->entries)
                entry_free(s->entries);
        return mfree(s);
}

static Entry *get(JobSchedule *s, const char *service_id) {
        Entry *e = NULL;

        HASH_FIND_STR(s->entries, service_id, e);
        if (e)
                return e;
        e = new0(Entry, 1);
        if (!e)
                return NULL;
        e->service_id = strdup(service_id);
        if (!e->service_id)
                return mfree(e);
        HASH_ADD_KEYPTR(hh, s->entries, e->service_id, strlen(e->service_id), e);
        if (!e->hh.tbl) {
                free(e->service_id);
                return mfree(e);
        }
        e->owner = s;
        return e;
}

void job_schedule_service_changed(JobSchedule *s, const char *service_id) {
        Entry *e = s->listed ? get(s, service_id) : NULL;

        if (e)
                e->stale = true;
        else
                s->listed = false; /* all are read again */
}

void job_schedule_ask_again(JobSchedule *s) {
        Entry *e, *next;

        HASH_ITER(hh, s->entries, e, next) {
                e->checked = false;
                e->not_before = 0;
        }
}

static const char *expression_of(const ServiceRow *service) {
        const char *schedule = NULL;

        (void) json_find_string(service->spec, "schedule", &schedule, NULL);
        return schedule;
}

static void tell(JobSchedule *s, const ServiceRow *service, const char *severity, const char *text) {
        (void) events_add(s->master,
                        &(EventInfo){ .severity = severity,
                                        .type = "service:job",
                                        .grid_id = service->grid_id,
                                        .service_id = service->id },
                        "Job %s/%s: %s", service->stack, service->name, text);
}

/* In a transaction: the point has come. */
static int run_or_pass_over(JobSchedule *s, const ServiceRow *service, uint64_t point) {
        _cleanup_(run_row_freep) RunRow *same = NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;
        Store *store = s->master->store;
        int r;

        r = store_find_run_at(store, service->id, point, &same);
        if (r != -ENOENT) /* has had its turn: the clock was set back */
                return MIN(r, 0);
        r = run_request(store, service, point, NULL, &error);
        if (r < 0 && error.code == K_CONFLICT) {
                _cleanup_free_ char *text = strprintf(
                                "a scheduled run is left out: %s", kerror_message(&error));

                tell(s, service, "warning", strempty(text));
                return 0;
        }
        return r;
}

/* One transaction: the point (0: none) is decided, the following one written. */
static int put_next(JobSchedule *s, ServiceRow *service, uint64_t point, uint64_t following) {
        _cleanup_(store_rollbackp) Store *t = NULL;
        Store *store = s->master->store;
        int r;

        r = store_begin(store, NULL);
        if (r < 0)
                return r;
        t = store;
        if (point > 0) {
                r = run_or_pass_over(s, service, point);
                if (r < 0)
                        return r;
        }
        service->next_run_at = following;
        r = store_put_service(store, service);
        if (r >= 0)
                r = store_commit(store, NULL);
        if (r < 0)
                return r;
        t = NULL;
        return 0;
}

static int ask(Entry *e, const char *expression, uint64_t point, Purpose purpose, uint64_t after,
                uint64_t now);

/* Returns 1 when there is one more question. */
static int take_answer(Entry *e, ServiceRow *service, uint64_t answer) {
        _cleanup_(run_row_freep) RunRow *done = NULL;
        JobSchedule *s = e->owner;
        int r;

        if (answer == USEC_INFINITY)
                answer = NEXT_RUN_NEVER;
        switch (e->purpose) {
        case PURPOSE_FIND:
                e->checked = true;
                /* The clock was set back: what has had its turn has it no second time. */
                if (answer < e->point &&
                                store_find_run_at(s->master->store, service->id, answer, &done) >= 0)
                        return 0;
                return answer == e->point ? 0 : put_next(s, service, 0, answer);
        case PURPOSE_DECIDE:
                if (e->asked_at - e->point < RUN_CATCH_UP_USEC)
                        return put_next(s, service, e->point, answer);
                e->following = answer;
                r = ask(e, expression_of(service), e->point, PURPOSE_CATCH_UP,
                                e->asked_at - RUN_CATCH_UP_USEC, e->asked_at);
                return r < 0 ? r : 1;
        case PURPOSE_CATCH_UP:
                return put_next(s, service, answer <= e->asked_at ? answer : 0, e->following);
        default:
                assert(false);
                return -EINVAL;
        }
}

static void complain(Entry *e, const ServiceRow *service, const KError *error) {
        _cleanup_free_ char *text = NULL;

        e->not_before = now_realtime() + (error->code == K_INVALID_ARGUMENT ? INVALID_USEC : ASK_AGAIN_USEC);
        if (e->complained)
                return;
        e->complained = true;
        text = strprintf("when it runs next is not known: %s", kerror_message(error));
        tell(e->owner, service, "error", strempty(text));
}

static void on_answer(uint64_t next, const KError *error, void *userdata) {
        _cleanup_(service_row_freep) ServiceRow *service = NULL;
        Entry *e = userdata;
        JobSchedule *s = e->owner;
        int r;

        e->query = NULL;
        s->n_queries--;

        r = store_get_service(s->master->store, e->service_id, &service);
        if (r >= 0 && service->next_run_at == e->point && streq_ptr(expression_of(service), e->expression)) {
                if (error)
                        complain(e, service, error);
                else {
                        e->complained = false;
                        r = take_answer(e, service, next);
                }
        } /* else it was changed meanwhile, and is looked at anew */
        if (r < 0 && r != -ENOENT) {
                log_warning_errno(r, "The schedule of '%s' cannot be followed now, trying again: %m",
                                e->service_id);
                e->not_before = now_realtime() + ASK_AGAIN_USEC / 5;
        }
        if (!e->query)
                s->answer(s->userdata);
}

static int ask(Entry *e, const char *expression, uint64_t point, Purpose purpose, uint64_t after,
                uint64_t now) {
        int r;

        assert(!e->query);

        r = free_and_strdup(&e->expression, expression);
        if (r < 0)
                return r;
        e->purpose = purpose;
        e->point = point;
        e->asked_at = now;
        r = calendar_ask(e->owner->master->event, expression, after, on_answer, e, &e->query);
        if (r < 0)
                return r;
        e->owner->n_queries++;
        return 0;
}

/* The program cannot be started. */
static void complain_of(Entry *e, int error, uint64_t *next) {
        _cleanup_(service_row_freep) ServiceRow *service = NULL;
        _cleanup_kerror_ KError reason = KERROR_NULL;

        if (store_get_service(e->owner->master->store, e->service_id, &service) >= 0) {
                (void) kerror_set_errno(&reason, error, "systemd-analyze cannot be started: %m");
                complain(e, service, &reason);
        } else
                e->not_before = now_realtime() + ASK_AGAIN_USEC;
        *next = MIN(*next, e->not_before);
}

static void look_at(Entry *e, uint64_t now, uint64_t *next) {
        bool unknown = e->next_run_at == NEXT_RUN_UNKNOWN, due = !unknown && e->next_run_at <= now;
        int r;

        if (e->query || e->stale)
                return;
        if (e->not_before > now) {
                *next = MIN(*next, e->not_before);
                return;
        }
        if (!due && !unknown && e->next_run_at != NEXT_RUN_NEVER)
                *next = MIN(*next, e->next_run_at);
        if (!due && !unknown && e->checked)
                return;
        if (e->owner->n_queries >= QUERIES_MAX) /* the next answer brings us back */
                return;

        r = ask(e, e->schedule, e->next_run_at, due ? PURPOSE_DECIDE : PURPOSE_FIND, now, now);
        if (r < 0)
                complain_of(e, r, next);
}

/* Returns 1 when it has no schedule (any more). */
static int take(Entry *e, const ServiceRow *service) {
        const char *schedule = service->next_run_at > 0 ? expression_of(service) : NULL;
        int r;

        if (!schedule)
                return 1;
        r = free_and_strdup(&e->schedule, schedule);
        if (r < 0)
                return r;
        e->next_run_at = service->next_run_at;
        e->stale = false;
        return 0;
}

/* The first time; later only what was changed is read. */
static int list(JobSchedule *s) {
        _cleanup_(service_row_list_done) ServiceRowList services = {};
        Entry *e, *next;
        int r;

        HASH_ITER(hh, s->entries, e, next)
                e->stale = true;
        r = store_list_scheduled_services(s->master->store, &services);
        if (r < 0)
                return r;
        FOREACH_ARRAY(i, services.rows, services.n) {
                if (!expression_of(*i))
                        continue;
                e = get(s, (*i)->id);
                r = e ? take(e, *i) : -ENOMEM;
                if (r < 0)
                        return r;
        }
        HASH_ITER(hh, s->entries, e, next)
                if (e->stale)
                        entry_free(e);
        s->listed = true;
        return 0;
}

static int read_again(Entry *e) {
        _cleanup_(service_row_freep) ServiceRow *service = NULL;
        int r;

        r = store_get_service(e->owner->master->store, e->service_id, &service);
        if (r >= 0)
                r = take(e, service);
        if (r < 0 && r != -ENOENT)
                return r;
        if (r != 0)
                entry_free(e);
        return 0;
}

int job_schedule_step(JobSchedule *s, uint64_t now, uint64_t *next) {
        Entry *e, *following;
        unsigned n_read = 0;
        bool more = false;
        int r;

        assert(s);

        if (!s->listed) {
                r = list(s);
                if (r < 0)
                        return r;
        }
        HASH_ITER(hh, s->entries, e, following) {
                if (!e->stale)
                        continue;
                if (n_read++ >= READ_MAX) {
                        more = true;
                        break;
                }
                r = read_again(e);
                if (r < 0)
                        return r;
        }
        HASH_ITER(hh, s->entries, e, following)
                look_at(e, now, next);
        return more;
}
