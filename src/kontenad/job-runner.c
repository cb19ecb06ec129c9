/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "job-runner.h"

#include <sys/epoll.h>
#include <sys/timerfd.h>

#include "file-util.h"
#include "job-run.h"
#include "job-schedule.h"
#include "log.h"
#include "notes.h"
#include "placement.h"
#include "string-util.h"

/* When the store cannot be written. */
#define RETRY_USEC     (2 * USEC_PER_SEC)
/* A machine that slept has another idea of how long that was. */
#define SLEEP_MAX_USEC (600 * USEC_PER_SEC)

/* An unfinished run as of the last look; the store has all else. Many may begin at one point: one has its step in a turn of the loop. */
typedef struct Active {
        char *run_id, *service_id, *grid_id;
        uint64_t next; /* realtime */
        bool dirty;
        bool places; /* something of it waits for a node */
} Active;

struct JobRunner {
        Master *master;
        sd_event_source *work, *timer, *clock;
        int clock_fd;
        Active *active;
        size_t n_active, last; /* the one that had its step */
        bool listed;
        Note *nodes; /* as last seen */
        JobSchedule *schedule;
};

static void active_free(Active *l, size_t n) {
        FOREACH_ARRAY(a, l, n) {
                free(a->run_id);
                free(a->service_id);
                free(a->grid_id);
        }
        free(l);
}

static void look_now(JobRunner *j) {
        int r;

        r = sd_event_source_set_enabled(j->work, SD_EVENT_ONESHOT);
        if (r < 0)
                log_error_errno(r, "Jobs cannot be looked at: %m");
}

static void look_at(JobRunner *j, uint64_t when, uint64_t now) {
        int r;

        if (when <= now) {
                look_now(j);
                return;
        }
        r = sd_event_source_set_time_relative(j->timer, MIN(when - now, SLEEP_MAX_USEC));
        if (r >= 0)
                r = sd_event_source_set_enabled(j->timer, SD_EVENT_ONESHOT);
        if (r < 0)
                log_error_errno(r, "Jobs cannot be waited for: %m");
}

static Active *find_active(const JobRunner *j, const char *run_id) {
        FOREACH_ARRAY(a, j->active, j->n_active)
                if (streq(a->run_id, run_id))
                        return a;
        return NULL;
}

/* There are others than were known. */
static int list_runs(JobRunner *j) {
        _cleanup_(run_row_list_done) RunRowList runs = {};
        Active *active;
        int r;

        r = store_list_unfinished_runs(j->master->store, &runs);
        if (r < 0)
                return r;
        active = new0(Active, runs.n + 1);
        if (!active)
                return -ENOMEM;
        for (size_t i = 0; i < runs.n; i++) {
                const Active *before = find_active(j, runs.rows[i]->id);
                Active *a = &active[i];

                *a = (Active){ .run_id = TAKE_PTR(runs.rows[i]->id),
                        .service_id = TAKE_PTR(runs.rows[i]->service_id),
                        .grid_id = TAKE_PTR(runs.rows[i]->grid_id),
                        .next = before ? before->next : 0,
                        .dirty = !before || before->dirty,
                        .places = !before || before->places };
        }

        active_free(j->active, j->n_active);
        j->active = active;
        j->n_active = runs.n;
        j->listed = true;
        return 0;
}

static void drop(JobRunner *j, Active *a) {
        Active gone = *a;

        j->n_active--;
        memmove(a, a + 1, (size_t) (j->active + j->n_active - a) * sizeof(Active));
        free(gone.run_id);
        free(gone.service_id);
        free(gone.grid_id);
}

static int step(JobRunner *j, Active *a, uint64_t now) {
        _cleanup_(run_row_freep) RunRow *row = NULL;
        int r;

        r = store_get_run(j->master->store, a->run_id, &row);
        if (r < 0 && r != -ENOENT)
                return r;
        if (r < 0 || run_is_final(row)) {
                drop(j, a);
                return 0;
        }

        a->dirty = false;
        r = run_step(j->master, row, now, &a->next, &a->places);
        if (r < 0) {
                log_warning_errno(
                                r, "A run of job '%s' cannot go on now, trying again: %m", row->service_id);
                a->next = now + RETRY_USEC;
        } else if (run_is_final(row))
                drop(j, a);
        return 0;
}

/* One after the other: who has much to do does not keep the others from it. */
static int look_at_runs(JobRunner *j, uint64_t now, uint64_t *next) {
        int r;

        if (!j->listed) {
                r = list_runs(j);
                if (r < 0)
                        return r;
        }
        for (size_t i = 1; i <= j->n_active; i++) {
                size_t k = (j->last + i) % j->n_active;
                Active *a = &j->active[k];

                if (!a->dirty && a->next > now)
                        continue;
                j->last = k;
                r = step(j, a, now);
                if (r < 0)
                        return r;
                break;
        }

        FOREACH_ARRAY(a, j->active, j->n_active)
                *next = MIN(*next, a->dirty ? now : a->next);
        return 0;
}

static int on_work(sd_event_source *s, void *userdata) {
        JobRunner *j = userdata;
        uint64_t now = now_realtime(), next = USEC_INFINITY;
        int r;

        r = job_schedule_step(j->schedule, now, &next);
        if (r > 0)
                next = now;
        if (r >= 0)
                r = look_at_runs(j, now, &next);
        if (r < 0) {
                log_error_errno(r, "Jobs cannot be looked at, trying again: %m");
                next = now + RETRY_USEC;
        }
        if (next == USEC_INFINITY)
                (void) sd_event_source_set_enabled(j->timer, SD_EVENT_OFF);
        else
                look_at(j, next, now);
        return 0;
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata) {
        look_now(userdata);
        return 0;
}

static void mark(JobRunner *j, const char *service_id, const char *grid_id, bool if_it_places) {
        FOREACH_ARRAY(a, j->active, j->n_active)
                if ((a->places || !if_it_places) &&
                                ((service_id && streq(a->service_id, service_id)) ||
                                                (grid_id && streq(a->grid_id, grid_id)))) {
                        a->dirty = true;
                        look_now(j);
                }
}

void job_runner_wake(JobRunner *j, const char *service_id) {
        mark(j, service_id, NULL, false);
}

/* Progress of a pull wakes nobody. */
static void on_instance(
                JobRunner *j, Store *store, StoreChange change, const char *id, const char *grid_id) {
        _cleanup_(instance_row_freep) InstanceRow *row = NULL;

        if (j->n_active == 0)
                return;
        if (change == STORE_REMOVED || store_get_instance(store, id, &row) < 0)
                mark(j, NULL, grid_id, true);
        else if (row->run_id && STR_IN_SET(strempty(row->state), "exited", "failed", "removed", ""))
                mark(j, row->service_id, NULL, false);
}

static void on_node(JobRunner *j, Store *store, StoreChange change, const char *id, const char *grid_id) {
        _cleanup_(node_row_freep) NodeRow *row = NULL;

        if (change == STORE_REMOVED || store_get_node(store, id, &row) < 0) {
                note_forget(&j->nodes, id);
                mark(j, NULL, grid_id, false);
        } else
                mark(j, NULL, grid_id, !note_is_news(&j->nodes, id, placement_node_hash(row)));
}

/* A new one, or one that is over; all else that changes in it is our own doing. */
static void on_run(JobRunner *j, Store *store, const char *id) {
        _cleanup_(run_row_freep) RunRow *row = NULL;
        Active *a = find_active(j, id);

        if (!a)
                j->listed = false;
        else if (store_get_run(store, id, &row) < 0 || run_is_final(row))
                a->dirty = true;
        else
                return;
        look_now(j);
}

static void on_change(Store *store, StoreKind kind, StoreChange change, const char *id, const char *grid_id,
                void *userdata) {
        JobRunner *j = userdata;

        switch (kind) {
        case STORE_RUN:
                on_run(j, store, id);
                break;
        case STORE_SERVICE:
                mark(j, id, NULL, false);
                job_schedule_service_changed(j->schedule, id);
                look_now(j);
                break;
        case STORE_NODE:
                on_node(j, store, change, id, grid_id);
                break;
        case STORE_INSTANCE:
                on_instance(j, store, change, id, grid_id);
                break;
        default:
                break;
        }
}

static int arm_clock(JobRunner *j) {
        const struct itimerspec far = { .it_value.tv_sec = INT32_MAX };

        if (timerfd_settime(j->clock_fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &far, NULL) < 0)
                return -errno;
        return 0;
}

void job_runner_clock_changed(JobRunner *j) {
        job_schedule_ask_again(j->schedule);
        FOREACH_ARRAY(a, j->active, j->n_active)
                a->dirty = true;
        look_now(j);
}

static int on_clock(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        JobRunner *j = userdata;
        uint64_t n;
        int r;

        if (read(fd, &n, sizeof(n)) < 0 && ERRNO_IS_TRANSIENT(-errno))
                return 0;
        r = arm_clock(j);
        if (r < 0) {
                j->clock = sd_event_source_disable_unref(j->clock);
                log_warning_errno(r, "Changes of the clock are not noticed at once: %m");
        }
        job_runner_clock_changed(j);
        return 0;
}

static int watch_clock(JobRunner *j) {
        int r;

        j->clock_fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
        if (j->clock_fd < 0)
                return -errno;
        r = arm_clock(j);
        if (r < 0)
                return r;
        return sd_event_add_io(j->master->event, &j->clock, j->clock_fd, EPOLLIN, on_clock, j);
}

static void on_answer(void *userdata) {
        look_now(userdata);
}

JobRunner *job_runner_free(JobRunner *j) {
        if (!j)
                return NULL;

        notes_clear(&j->nodes);
        j->schedule = job_schedule_free(j->schedule);
        sd_event_source_disable_unref(j->work);
        sd_event_source_disable_unref(j->timer);
        sd_event_source_disable_unref(j->clock);
        safe_close(j->clock_fd);
        active_free(j->active, j->n_active);
        return mfree(j);
}

int job_runner_new(Master *m, JobRunner **ret) {
        _cleanup_(job_runner_freep) JobRunner *j = NULL;
        int r;

        assert(m);
        assert(ret);

        j = new0(JobRunner, 1);
        if (!j)
                return -ENOMEM;
        j->master = m;
        j->clock_fd = -EBADF;

        r = job_schedule_new(m, on_answer, j, &j->schedule);
        if (r >= 0)
                r = sd_event_add_defer(m->event, &j->work, on_work, j);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(j->work, "job-runner-work");
        r = sd_event_add_time_relative(
                        m->event, &j->timer, CLOCK_MONOTONIC, 0, 10 * USEC_PER_MSEC, on_timer, j);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(j->timer, "job-runner-timer");
        r = sd_event_source_set_enabled(j->timer, SD_EVENT_OFF);
        if (r >= 0)
                r = watch_clock(j);
        if (r >= 0)
                r = store_watch(m->store, on_change, j);
        if (r < 0)
                return r;

        look_now(j); /* what an earlier master left unfinished */
        *ret = TAKE_PTR(j);
        return 0;
}
