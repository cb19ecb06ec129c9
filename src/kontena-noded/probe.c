/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "probe.h"

#include "file-util.h"
#include "parse-util.h"
#include "string-util.h"
#include "tcp-connect.h"

/* Most programs listen some milliseconds after their start; those that do not are asked once a second. */
#define PROBE_FIRST_USEC    (20 * USEC_PER_MSEC)
#define PROBE_INTERVAL_USEC USEC_PER_SEC

struct Probe {
        sd_event *event;
        struct sockaddr_in address;
        char *text; /* for the sentence */
        uint64_t deadline, interval;
        TcpConnect *attempt;
        int last_error;
        sd_event_source *timer;
        probe_done_t done;
        void *userdata;
};

Probe *probe_cancel(Probe *p) {
        if (!p)
                return NULL;

        p->attempt = tcp_connect_cancel(p->attempt);
        p->timer = sd_event_source_disable_unref(p->timer);
        free(p->text);
        free(p);
        return NULL;
}

static void finish(Probe *p, const KError *error) {
        p->done(p, error, p->userdata);
        probe_cancel(p);
}

static void attempt_failed(Probe *p, int error) {
        p->last_error = error;
        (void) sd_event_source_set_time_relative(p->timer, p->interval);
        (void) sd_event_source_set_enabled(p->timer, SD_EVENT_ONESHOT);
        p->interval = MIN(p->interval * 2, PROBE_INTERVAL_USEC);
}

static void on_attempted(TcpConnect *c, int error, int fd, void *userdata) {
        _cleanup_close_ int connection = fd;
        Probe *p = userdata;

        p->attempt = NULL;
        if (connection >= 0)
                finish(p, NULL);
        else
                attempt_failed(p, error);
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        Probe *p = userdata;
        int r;

        if (usec >= p->deadline) {
                errno = p->last_error;
                (void) kerror_set(&error, K_TIMEOUT, "Nothing listens on %s: %m", p->text);
                finish(p, &error);
                return 0;
        }

        r = tcp_connect_start(p->event, &p->address, MIN(PROBE_INTERVAL_USEC, p->deadline - usec),
                        on_attempted, p, &p->attempt);
        if (r < 0)
                attempt_failed(p, -r);
        return 0;
}

int probe_start(sd_event *event, const char *address, uint16_t port, uint64_t timeout_usec,
                probe_done_t done, void *userdata, Probe **ret) {
        _cleanup_(probe_cancelp) Probe *p = NULL;
        uint32_t ip;
        uint64_t now;
        int r;

        r = parse_ipv4(address, &ip);
        if (r < 0)
                return r;

        p = new0(Probe, 1);
        if (!p)
                return -ENOMEM;
        p->event = event;
        p->done = done;
        p->userdata = userdata;
        p->address = (struct sockaddr_in){
                .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(ip)
        };
        p->text = strprintf("%s:%u", address, port);
        if (!p->text)
                return -ENOMEM;

        r = sd_event_now(event, CLOCK_MONOTONIC, &now);
        if (r < 0)
                return r;
        p->deadline = now + timeout_usec;
        p->interval = PROBE_FIRST_USEC;
        r = sd_event_add_time(event, &p->timer, CLOCK_MONOTONIC, now, 10 * USEC_PER_MSEC, on_timer, p);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(p);
        return 0;
}
