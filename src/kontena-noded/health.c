/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "health.h"

#include <sys/random.h>

#include "file-util.h"
#include "health-http.h"
#include "kerror.h"

/* Most are up some milliseconds after their start. */
#define FIRST_PAUSE_USEC    (50 * USEC_PER_MSEC)
#define STARTING_PAUSE_USEC USEC_PER_SEC

/* After a restart of the daemon not all are asked in one moment. */
#define SPREAD_USEC         (2 * USEC_PER_SEC)

#define COMMAND_SHOWN_MAX   100

static const char *const health_state_table[_HEALTH_STATE_MAX] = {
        [HEALTH_UNKNOWN] = "unknown",
        [HEALTH_HEALTHY] = "healthy",
        [HEALTH_UNHEALTHY] = "unhealthy",
};
DEFINE_STRING_TABLE_LOOKUP(health_state, HealthState);

void health_judge_init(HealthJudge *j, const HealthCheck *c, uint64_t started_usec, bool up) {
        *j = (HealthJudge){
                .patient_until = started_usec + c->initial_delay_sec * USEC_PER_SEC,
                .interval = c->interval_sec * USEC_PER_SEC,
                .pause = FIRST_PAUSE_USEC,
                .retries = MAX(c->retries, 1U),
                .up = up,
        };
}

static HealthState judge(HealthJudge *j, bool well, uint64_t now) {
        if (well) {
                j->failures = 0;
                j->up = true;
                return HEALTH_HEALTHY;
        }
        if (!j->up && (now < j->patient_until || (j->failures > 0 && now - j->counted_at < j->interval)))
                return j->state;

        j->counted_at = now;
        j->failures = MIN(j->failures + 1, j->retries);
        return j->failures >= j->retries ? HEALTH_UNHEALTHY : j->state;
}

bool health_judge_take(HealthJudge *j, bool well, uint64_t now) {
        HealthState before = j->state;

        j->state = judge(j, well, now);
        return j->state != before;
}

uint64_t health_judge_pause(HealthJudge *j) {
        uint64_t pause = j->pause;

        /* One that is unhealthy may come back before its restart. */
        if (j->up && j->state != HEALTH_UNHEALTHY)
                return j->interval;
        j->pause = MIN(pause * 2, STARTING_PAUSE_USEC);
        return pause;
}

struct Health {
        sd_event *event;
        HealthCheck check;
        char *address;
        HealthJudge judge;
        sd_event_source *timer;
        NetCheck *asking;
        ContainerCommand *command;
        char *seen;
        health_trouble_t trouble;
        char *troubled; /* what was said last */
        health_news_t news;
        health_inside_t inside;
        bool (*excused)(void *userdata);
        void *userdata;
};

static void health_check_done(HealthCheck *c) {
        free(c->uri);
        strv_free(c->command);
        *c = (HealthCheck){};
}

static int health_check_copy(const HealthCheck *from, HealthCheck *to) {
        *to = *from;
        to->uri = from->uri ? strdup(from->uri) : NULL;
        to->command = from->command ? strv_copy(from->command) : NULL;
        return (from->uri && !to->uri) || (from->command && !to->command) ? -ENOMEM : 0;
}

static bool strv_equal(char *const *a, char *const *b) {
        size_t n = strv_length(a);

        if (n != strv_length(b))
                return false;
        for (size_t i = 0; i < n; i++)
                if (!streq(a[i], b[i]))
                        return false;
        return true;
}

Health *health_stop(Health *h) {
        if (!h)
                return NULL;

        net_check_cancel(h->asking);
        container_command_cancel(h->command);
        sd_event_source_disable_unref(h->timer);
        health_check_done(&h->check);
        free(h->address);
        free(h->seen);
        free(h->troubled);
        free(h);
        return NULL;
}

static void ask_again(Health *h) {
        (void) sd_event_source_set_time_relative(h->timer, health_judge_pause(&h->judge));
        (void) sd_event_source_set_enabled(h->timer, SD_EVENT_ONESHOT);
}

static bool is_excused(const Health *h) {
        return h->excused && h->excused(h->userdata);
}

/* We could not ask, which says nothing of the container; NULL: we could. */
static void tell_trouble(Health *h, const char *text) {
        if (free_and_strdup(&h->troubled, text) != 0 && h->trouble)
                h->trouble(h, text, h->userdata);
}

/* Last: h may be gone after. */
static void take_answer(Health *h, const KError *error) {
        bool news;
        int r;

        tell_trouble(h, NULL);
        if (error && is_excused(h)) {
                ask_again(h);
                return;
        }

        news = health_judge_take(&h->judge, !error, now_monotonic());
        r = free_and_strdup(&h->seen, error ? kerror_message(error) : NULL);
        news = news || (r > 0 && !h->judge.up);
        ask_again(h);
        if (news)
                h->news(h, h->userdata);
}

static void on_answer(NetCheck *c, const KError *error, void *userdata) {
        Health *h = userdata;

        h->asking = NULL;
        take_answer(h, error);
}

/* end: of a sentence, "exited with status 1: the server is down" */
static void on_command_done(ContainerCommand *c, int status, const KError *end, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        _cleanup_free_ char *words = NULL;
        Health *h = userdata;

        h->command = NULL;
        if (end && end->code == K_UNAVAILABLE) {
                ask_again(h);
                if (!is_excused(h))
                        tell_trouble(h, kerror_message(end));
                return;
        }
        if (end) {
                words = strv_join(h->check.command, " ");
                (void) kerror_set(&error, end->code, "'%.*s%s' %s.", COMMAND_SHOWN_MAX, strna(words),
                                words && strlen(words) > COMMAND_SHOWN_MAX ? "…" : "", kerror_message(end));
        }
        take_answer(h, end ? &error : NULL);
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        const char *uri;
        Health *h = userdata;
        uint64_t timeout = h->check.timeout_sec * USEC_PER_SEC;
        int r;

        if (is_excused(h)) {
                ask_again(h);
                return 0;
        }

        uri = h->check.protocol == HEALTH_HTTP ? h->check.uri : NULL;
        if (h->check.protocol == HEALTH_EXEC)
                r = h->inside(h->check.command, timeout, on_command_done, h, &h->command, &error,
                                h->userdata);
        else
                r = net_check_start(
                                h->event, h->address, h->check.port, uri, timeout, on_answer, h, &h->asking);
        if (r == -EOPNOTSUPP)
                take_answer(h, &error);
        /* Not for lack of memory or descriptors here is the container restarted. */
        else if (r < 0) {
                (void) kerror_set_errno(&error, r, "%m");
                ask_again(h);
                tell_trouble(h, kerror_message(&error));
        }
        return 0;
}

int health_start(const HealthOptions *o, Health **ret) {
        _cleanup_(health_stopp) Health *h = NULL;
        uint64_t random = 0, first = 0;
        int r;

        assert(o);
        assert(o->event);
        assert(o->news);
        assert(o->inside || o->check->protocol != HEALTH_EXEC);
        assert(ret);

        h = new0(Health, 1);
        if (!h)
                return -ENOMEM;
        h->event = o->event;
        h->news = o->news;
        h->trouble = o->trouble;
        h->inside = o->inside;
        h->excused = o->excused;
        h->userdata = o->userdata;
        h->address = o->address ? strdup(o->address) : NULL;
        r = health_check_copy(o->check, &h->check);
        if (r < 0 || (o->address && !h->address))
                return -ENOMEM;
        health_judge_init(&h->judge, &h->check, o->started_usec, o->up);

        if (o->up && getrandom(&random, sizeof(random), 0) == (ssize_t) sizeof(random))
                first = random % MIN(SPREAD_USEC, h->judge.interval);
        r = sd_event_add_time_relative(
                        o->event, &h->timer, CLOCK_MONOTONIC, first, 50 * USEC_PER_MSEC, on_timer, h);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(h);
        return 0;
}

bool health_is_about(const Health *h, const HealthCheck *c, const char *address) {
        return streq_ptr(h->address, address) && h->check.protocol == c->protocol &&
               h->check.port == c->port && streq_ptr(h->check.uri, c->uri) &&
               strv_equal(h->check.command, c->command) && h->check.timeout_sec == c->timeout_sec &&
               h->check.interval_sec == c->interval_sec &&
               h->check.initial_delay_sec == c->initial_delay_sec && h->check.retries == c->retries;
}

HealthState health_state(const Health *h) {
        return h ? h->judge.state : HEALTH_UNKNOWN;
}

const char *health_seen(const Health *h) {
        return h ? h->seen : NULL;
}
