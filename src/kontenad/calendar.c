/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "calendar.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <time.h>

#include "file-util.h"
#include "kontena-limits.h"
#include "log.h"
#include "string-util.h"

#define PROGRAM  "systemd-analyze"
#define TEXT_MAX 4096U

struct CalendarQuery {
        sd_event *event;
        sd_event_source *io, *end, *timeout;
        pid_t pid;
        int fd, pidfd;
        char text[TEXT_MAX]; /* both of its outputs */
        size_t length;
        char *expression;
        calendar_done_t done;
        void *userdata;
};

static int on_killed(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        siginfo_t si = {};

        if (waitid(P_PIDFD, (id_t) fd, &si, WEXITED | WNOHANG) == 0 && si.si_pid == 0)
                return 0;
        (void) sd_event_source_set_enabled(s, SD_EVENT_OFF);
        return sd_event_source_set_floating(s, false); /* which was the last that held it */
}

/* It may take as long as the disk that it reads from: nobody waits for its end but the event loop. */
static int reap_later(sd_event *event, int consume_pidfd) {
        _cleanup_(sd_event_source_unrefp) sd_event_source *s = NULL;
        _cleanup_close_ int fd = consume_pidfd;
        int r;

        if (fd < 0)
                return -EBADF;
        r = sd_event_add_io(event, &s, fd, EPOLLIN, on_killed, NULL);
        if (r >= 0)
                r = sd_event_source_set_io_fd_own(s, true);
        if (r < 0)
                return r;
        TAKE_FD(fd);
        return sd_event_source_set_floating(s, true);
}

CalendarQuery *calendar_query_free(CalendarQuery *q) {
        if (!q)
                return NULL;

        sd_event_source_disable_unref(q->io);
        sd_event_source_disable_unref(q->end);
        sd_event_source_disable_unref(q->timeout);
        if (q->pid > 0) {
                (void) kill(q->pid, SIGKILL);
                if (reap_later(q->event, TAKE_FD(q->pidfd)) < 0)
                        (void) waitpid(q->pid, NULL, 0); /* there is no memory for anything better */
        }
        safe_close(q->fd);
        safe_close(q->pidfd);
        sd_event_unref(q->event);
        free(q->expression);
        return mfree(q);
}

/* "Tue 2023-11-14 22:13:25 UTC" */
static int parse_time(const char *s, uint64_t *ret) {
        struct tm tm = {};
        const char *end;
        time_t t;

        end = strptime(s, "%a %Y-%m-%d %H:%M:%S", &tm);
        if (!end || !startswith(end, " UTC"))
                return -EBADMSG;
        t = timegm(&tm);
        if (t < 0)
                return -EBADMSG;

        *ret = (uint64_t) t * USEC_PER_SEC;
        return 0;
}

/*     Next elapse: Wed 2023-11-15 02:30:00 CET
 *        (in UTC): Wed 2023-11-15 01:30:00 UTC     left out where the first is in UTC */
int calendar_parse_answer(const char *text, uint64_t *ret) {
        static const char next[] = "Next elapse: ", utc[] = "(in UTC): ";
        const char *line, *second;

        assert(text);
        assert(ret);

        line = strstr(text, next);
        if (!line)
                return -EBADMSG;
        line += strlen(next);
        if (startswith(line, "never")) {
                *ret = USEC_INFINITY;
                return 0;
        }
        second = strchr(line, '\n');
        if (second) {
                second += 1 + strspn(second + 1, " ");
                if (startswith(second, utc))
                        line = second + strlen(utc);
        }
        return parse_time(line, ret);
}

static void finish(CalendarQuery *q, uint64_t next, const KError *error) {
        calendar_done_t done = q->done;
        void *userdata = q->userdata;

        calendar_query_free(q);
        done(next, error, userdata);
}

/* The last line of what it said, without control characters. */
static const char *last_words(CalendarQuery *q) {
        char *nl;

        while (q->length > 0 && strchr("\n ", q->text[q->length - 1]))
                q->text[--q->length] = '\0';
        nl = strrchr(q->text, '\n');
        for (char *p = q->text; *p; p++)
                if ((unsigned char) *p < ' ' || *p == '\x7f')
                        *p = '?';
        return nl ? nl + 1 : q->text;
}

static void judge(CalendarQuery *q, const siginfo_t *si) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        uint64_t next = USEC_INFINITY;

        q->text[q->length] = '\0';
        if (si->si_code == CLD_EXITED && si->si_status == 0) {
                if (calendar_parse_answer(q->text, &next) < 0)
                        (void) kerror_set(&error, K_INTERNAL,
                                        "What " PROGRAM " says of '%s' is not understood: %s", q->expression,
                                        last_words(q));
        } else if (si->si_code == CLD_EXITED && si->si_status == 1 && q->length > 0)
                (void) kerror_set(&error, K_INVALID_ARGUMENT, "%s", last_words(q));
        else
                (void) kerror_set(&error, K_UNAVAILABLE, PROGRAM " cannot be asked about '%s': %s",
                                q->expression, q->length > 0 ? last_words(q) : "it has failed.");

        finish(q, next, kerror_is_set(&error) ? &error : NULL);
}

static int on_text(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        CalendarQuery *q = userdata;
        size_t room = sizeof(q->text) - 1 - q->length;
        char rest[512]; /* more than it ever says: dropped, so that it comes to its end */
        ssize_t n;

        n = room > 0 ? read(fd, q->text + q->length, room) : read(fd, rest, sizeof(rest));
        if (n > 0 && room > 0)
                q->length += (size_t) n;
        if (n == 0 || (n < 0 && !ERRNO_IS_TRANSIENT(-errno)))
                q->io = sd_event_source_disable_unref(q->io);
        return 0;
}

static int on_end(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        CalendarQuery *q = userdata;
        siginfo_t si = {};

        /* Whatever it wrote is in the pipe by now. */
        while (q->io && q->length < sizeof(q->text) - 1) {
                ssize_t n = read(q->fd, q->text + q->length, sizeof(q->text) - 1 - q->length);

                if (n <= 0)
                        break;
                q->length += (size_t) n;
        }
        if (waitid(P_PIDFD, (id_t) q->pidfd, &si, WEXITED | WNOHANG) < 0)
                si.si_code = 0;
        else if (si.si_pid == 0)
                return 0;
        q->pid = 0;

        judge(q, &si);
        return 0;
}

static int on_timeout(sd_event_source *s, uint64_t usec, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        CalendarQuery *q = userdata;

        (void) kerror_set(&error, K_TIMEOUT, PROGRAM " has not answered about '%s'.", q->expression);
        finish(q, USEC_INFINITY, &error);
        return 0;
}

/* Nothing of ours but the time zone: what it says is read by a program. */
static int spawn(CalendarQuery *q, int write_fd, char *base) {
        const char *tz = getenv("TZ");
        _cleanup_free_ char *zone = tz ? strjoin("TZ=", tz) : NULL;
        char *const environment[] = { (char *) "PATH=/usr/local/bin:/usr/bin:/bin", (char *) "LC_ALL=C",
                (char *) "SYSTEMD_COLORS=0", (char *) "SYSTEMD_LOG_TARGET=console", zone, NULL };
        char *const argv[] = { (char *) PROGRAM, (char *) "calendar", base, (char *) "--", q->expression,
                NULL };
        posix_spawn_file_actions_t actions;
        posix_spawnattr_t attributes;
        sigset_t none, all;
        int k;

        if (tz && !zone)
                return -ENOMEM;
        (void) sigemptyset(&none);
        (void) sigfillset(&all);
        k = posix_spawn_file_actions_init(&actions);
        if (k != 0)
                return -k;
        k = posix_spawnattr_init(&attributes);
        if (k != 0) {
                (void) posix_spawn_file_actions_destroy(&actions);
                return -k;
        }

        k = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
        if (k == 0)
                k = posix_spawn_file_actions_adddup2(&actions, write_fd, STDOUT_FILENO);
        if (k == 0)
                k = posix_spawn_file_actions_adddup2(&actions, write_fd, STDERR_FILENO);
        if (k == 0)
                k = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
        if (k == 0)
                k = posix_spawnattr_setsigmask(&attributes, &none);
        if (k == 0)
                k = posix_spawnattr_setsigdefault(&attributes, &all);
        if (k == 0)
                k = posix_spawnp(&q->pid, PROGRAM, &actions, &attributes, argv, environment);
        (void) posix_spawnattr_destroy(&attributes);
        (void) posix_spawn_file_actions_destroy(&actions);
        return -k;
}

int calendar_ask(sd_event *event, const char *expression, uint64_t after, calendar_done_t done,
                void *userdata, CalendarQuery **ret) {
        _cleanup_(calendar_query_freep) CalendarQuery *q = NULL;
        _cleanup_close_ int write_fd = -EBADF;
        _cleanup_free_ char *base = NULL;
        int fds[2], r;

        assert(event);
        assert(expression);
        assert(done);
        assert(ret);

        q = new0(CalendarQuery, 1);
        if (!q)
                return -ENOMEM;
        q->fd = q->pidfd = -EBADF;
        q->event = sd_event_ref(event);
        q->done = done;
        q->userdata = userdata;
        q->expression = strdup(expression);
        base = strprintf("--base-time=@%" PRIu64, after / USEC_PER_SEC);
        if (!q->expression || !base)
                return -ENOMEM;

        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        q->fd = fds[0];
        write_fd = fds[1];
        r = fd_set_nonblock(q->fd, true);
        if (r >= 0)
                r = spawn(q, write_fd, base);
        if (r < 0) {
                q->pid = 0;
                return r;
        }
        q->pidfd = pidfd_open(q->pid, 0);
        if (q->pidfd < 0)
                return -errno;

        r = sd_event_add_io(event, &q->io, q->fd, EPOLLIN, on_text, q);
        if (r >= 0)
                r = sd_event_add_io(event, &q->end, q->pidfd, EPOLLIN, on_end, q);
        if (r >= 0)
                r = sd_event_add_time_relative(event, &q->timeout, CLOCK_MONOTONIC, CALENDAR_TIMEOUT_USEC,
                                USEC_PER_SEC, on_timeout, q);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(q);
        return 0;
}
