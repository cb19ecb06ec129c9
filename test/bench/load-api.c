/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <systemd/sd-bus.h>
#include <time.h>
#include <unistd.h>

#include "file-util.h"
#include "macro.h"
#include "parse-util.h"

/* How long the master takes to answer, for ./lab bench --load: load-api GRID SERVICE MILLISECONDS. Calls ListServices and GetService in
 * turn, 10 ms apart, for so long, or with 0 until the standard input ends, and prints microseconds as JSON. Where the master is away,
 * calls that fail are counted. */

#define CALLS_MAX  100000U
#define PAUSE_USEC 10000

typedef struct Times {
        uint64_t usec[CALLS_MAX];
        size_t n, failed;
} Times;

static int compare(const void *a, const void *b) {
        uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

        return x < y ? -1 : x > y;
}

static void print(const char *name, Times *t, const char *behind) {
        qsort(t->usec, t->n, sizeof(t->usec[0]), compare);
        (void) printf("\"%s\": {\"calls\": %zu, \"failed\": %zu, \"median\": %" PRIu64 ", \"p99\": %" PRIu64
                      ", \"max\": %" PRIu64 "}%s",
                        name, t->n, t->failed, t->n > 0 ? t->usec[t->n / 2] : 0,
                        t->n > 0 ? t->usec[t->n * 99 / 100] : 0, t->n > 0 ? t->usec[t->n - 1] : 0, behind);
}

static void call(sd_bus *bus, Times *t, const char *method, const char *grid, const char *service) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        uint64_t begin;
        int r;

        r = sd_bus_message_new_method_call(bus, &m, "io.kontena.Master1", "/io/kontena/Master1",
                        "io.kontena.Master1.Manager", method);
        if (r >= 0)
                r = service ? sd_bus_message_append(m, "sss", grid, "null", service)
                            : sd_bus_message_append(m, "s", grid);
        if (r >= 0)
                r = sd_bus_message_set_auto_start(m, false);
        begin = now_monotonic();
        if (r >= 0)
                r = sd_bus_call(bus, m, 30 * USEC_PER_SEC, NULL, &reply);
        if (r < 0)
                t->failed++;
        else if (t->n < CALLS_MAX)
                t->usec[t->n++] = now_monotonic() - begin;
}

static bool goes_on(uint64_t end) {
        struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };

        return end > 0 ? now_monotonic() < end : poll(&p, 1, 0) == 0;
}

int main(int argc, char *argv[]) {
        static Times list, get;
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
        uint64_t msec, end;
        int r;

        if (argc != 4 || safe_atou64(argv[3], &msec) < 0)
                return 2;
        r = sd_bus_open_system(&bus);
        if (r < 0) {
                (void) fprintf(stderr, "load-api: %s\n", strerror(-r));
                return EXIT_FAILURE;
        }

        end = msec > 0 ? now_monotonic() + msec * USEC_PER_MSEC : 0;
        while (goes_on(end)) {
                call(bus, &list, "ListServices", argv[1], NULL);
                call(bus, &get, "GetService", argv[1], argv[2]);
                (void) nanosleep(&(struct timespec){ .tv_nsec = PAUSE_USEC * 1000 }, NULL);
        }
        (void) putchar('{');
        print("ListServices", &list, ", ");
        print("GetService", &get, "}\n");
        return EXIT_SUCCESS;
}
