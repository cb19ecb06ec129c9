/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "file-util.h"
#include "json-util.h"
#include "stream-exec.h"
#include "string-util.h"

/* Runs one command in a container of a host, between our standard streams; the exit status is its own.
 * Usage: CONTAINER DIRECTORY tty|pipe ARGV... */

static StreamExec *exec_now;
static bool input_over;

static int on_output(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        char buffer[65536];
        ssize_t n = read(fd, buffer, sizeof(buffer));

        if (n > 0)
                return loop_write(fd == stream_exec_fd(exec_now, 2) ? STDERR_FILENO : STDOUT_FILENO, buffer,
                                (size_t) n);
        if (n == 0 || errno != EAGAIN)
                return sd_event_source_set_enabled(s, SD_EVENT_OFF);
        return 0;
}

static int on_input(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        char buffer[4096];
        ssize_t n = read(STDIN_FILENO, buffer, sizeof(buffer));

        if (n > 0)
                return loop_write(stream_exec_fd(exec_now, 0), buffer, (size_t) n);
        input_over = true;
        (void) stream_exec_end_input(exec_now);
        return sd_event_source_set_enabled(s, SD_EVENT_OFF);
}

static void started(StreamExec *e, void *userdata) {
        sd_event *event = userdata;

        fprintf(stderr, "<started>\n");
        for (unsigned i = 1; i <= 2; i++)
                if (stream_exec_fd(e, i) >= 0)
                        (void) sd_event_add_io(event, NULL, stream_exec_fd(e, i), EPOLLIN, on_output, NULL);
        (void) fd_set_nonblock(stream_exec_fd(e, 0), false);
        (void) sd_event_add_io(event, NULL, STDIN_FILENO, EPOLLIN, on_input, NULL);
}

static void ended(StreamExec *e, int status, const KError *error, void *userdata) {
        char buffer[65536];

        for (unsigned i = 1; i <= 2; i++)
                for (ssize_t n = 1; n > 0 && stream_exec_fd(e, i) >= 0;) {
                        n = read(stream_exec_fd(e, i), buffer, sizeof(buffer));
                        if (n > 0)
                                (void) loop_write((int) i, buffer, (size_t) n);
                }
        fprintf(stderr, "<ended %i%s%s>\n", status, error ? ": " : "", error ? kerror_message(error) : "");
        (void) sd_event_exit(userdata, status < 0 ? 250 : status);
}

int main(int argc, char *argv[]) {
        static ServiceSpec spec;
        InstanceWant want = { .grid = (char *) "g",
                .stack = (char *) "null",
                .service = (char *) "web",
                .number = 1,
                .slice = (char *) "kontena-g.slice",
                .spec = &spec };
        static char env[] = "SECRET=hidden", *envs[] = { env, NULL };
        UnitManager *units = NULL;
        KError error = KERROR_NULL;
        sd_event *event = NULL;
        sd_bus *bus = NULL;
        int r;

        if (argc < 5)
                return 2;
        (void) signal(SIGPIPE, SIG_IGN);
        if (sd_event_default(&event) < 0 || sd_bus_open_system(&bus) < 0 ||
                        sd_bus_attach_event(bus, event, 0) < 0 || unit_manager_new(event, bus, &units) < 0)
                return 1;
        r = stream_exec_start(&(StreamExecOptions){ .event = event,
                                              .bus = bus,
                                              .units = units,
                                              .want = &want,
                                              .runtime = "/usr/bin/crun",
                                              .container_id = argv[1],
                                              .directory = argv[2],
                                              .root_path = "/run/b/rootfs",
                                              .argv = argv + 4,
                                              .env = envs,
                                              .tty = streq(argv[3], "tty"),
                                              .rows = 33,
                                              .columns = 99 },
                        started, ended, event, &exec_now, &error);
        if (r < 0) {
                fprintf(stderr, "%s\n", kerror_message(&error));
                return 1;
        }
        r = sd_event_loop(event);
        stream_exec_free(exec_now);
        unit_manager_free(units);
        sd_bus_flush_close_unref(bus);
        sd_event_unref(event);
        return r;
}
