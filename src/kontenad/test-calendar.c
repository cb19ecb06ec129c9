/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "calendar.h"
#include "file-util.h"
#include "string-util.h"
#include "test.h"

typedef struct Answer {
        bool told;
        uint64_t next;
        KError error;
} Answer;

static void on_answer(uint64_t next, const KError *error, void *userdata) {
        Answer *a = userdata;

        ASSERT_FALSE(a->told);
        a->told = true;
        a->next = next;
        if (error)
                (void) kerror_set(&a->error, error->code, "%s", kerror_message(error));
}

static Answer ask(const char *expression, uint64_t after) {
        sd_event *event = NULL;
        CalendarQuery *q = NULL;
        Answer a = {};

        ASSERT_OK(sd_event_new(&event));
        ASSERT_OK(calendar_ask(event, expression, after, on_answer, &a, &q));
        ASSERT_FALSE(a.told); /* never from inside */
        while (!a.told)
                ASSERT_OK(sd_event_run(event, 20 * USEC_PER_SEC));
        sd_event_unref(event);
        return a;
}

static void test_answer_is_read(void **state) {
        static const struct {
                const char *text;
                uint64_t next; /* 0: not understood */
        } table[] = {
                { "  Original form: *:0/5\nNormalized form: *-*-* *:00/5:00\n"
                  "    Next elapse: Tue 2023-11-14 22:13:25 UTC\n       From now: 3 years ago\n",
                                1700000005 },
                { "    Next elapse: Wed 2023-11-15 02:30:00 CET\n       (in UTC): Wed 2023-11-15 01:30:00 "
                  "UTC\n"
                  "       From now: 3 years ago\n",
                                1700011800 },
                { "    Next elapse: Thu 2025-10-30 00:00:00 UTC\n", 1761782400 },
                { "    Next elapse: never\n", USEC_INFINITY / USEC_PER_SEC },
                { "    Next elapse: Wed 2023-11-15 02:30:00 CET\n", 0 },
                { "    Next elapse: soon\n", 0 },
                { "    Next elapse: ", 0 },
                { "    Next elapse: Tue 1969-11-14 22:13:25 UTC\n", 0 },
                { "", 0 },
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                uint64_t next = 7;

                if (t->next == 0) {
                        ASSERT_ERROR(calendar_parse_answer(t->text, &next), EBADMSG);
                        ASSERT_EQ(next, 7);
                        continue;
                }
                ASSERT_OK(calendar_parse_answer(t->text, &next));
                ASSERT_EQ(next / USEC_PER_SEC, t->next);
        }
}

/* What this machine's systemd says: the time zone that is named, daylight saving, the end of a month. */
static void test_systemd_is_asked(void **state) {
        static const struct {
                const char *expression;
                uint64_t after, next;
        } table[] = {
                { "*:0/5 UTC", 1700000000, 1700000100 },
                { "*:*:0/7 UTC", 1699999980, 1699999987 },
                { "minutely", 1700000040, 1700000100 }, /* never the same point */
                { "2024-03-31 03:30 Europe/Helsinki", 1700000000,
                                0 }, /* a time that does not exist that day */
                { "*-02-29 UTC", 1700000000, 1709164800 },
                { "Mon..Fri 09:00 America/New_York", 1699999999, 1700056800 },
                { "2001-01-01 UTC", 1700000000, USEC_INFINITY / USEC_PER_SEC },
        };

        if (access("/usr/bin/systemd-analyze", X_OK) < 0) {
                print_message("skipped: systemd-analyze is not installed\n");
                skip();
        }
        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                Answer a = ask(t->expression, t->after * USEC_PER_SEC);

                if (kerror_is_set(&a.error))
                        fail_msg("%s: %s", t->expression, kerror_message(&a.error));
                if (t->next > 0 && a.next / USEC_PER_SEC != t->next)
                        fail_msg("%s: %llu", t->expression, (unsigned long long) (a.next / USEC_PER_SEC));
        }
}

static void test_systemd_says_what_is_wrong(void **state) {
        static const char *const table[] = { "whenever", "25:00", "Mon..Blah", "--help", "-",
                "*:0/5 Mars/Olympus", "$(reboot)" };

        if (access("/usr/bin/systemd-analyze", X_OK) < 0) {
                print_message("skipped: systemd-analyze is not installed\n");
                skip();
        }
        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                Answer a = ask(*t, 1700000000 * USEC_PER_SEC);

                ASSERT_EQ(a.error.code, K_INVALID_ARGUMENT);
                ASSERT_TRUE(strstr(kerror_message(&a.error), "Failed to parse calendar specification"));
                ASSERT_TRUE(string_is_printable(kerror_message(&a.error)));
                kerror_done(&a.error);
        }
}

/* A program of that name that does not behave. */
static void test_other_programs(void **state) {
        static const struct {
                const char *script, *why;
                KErrorCode code;
        } table[] = {
                { "exit 0", "is not understood", K_INTERNAL },
                { "echo 'Next elapse: soon'", "is not understood: Next elapse: soon", K_INTERNAL },
                { "exit 1", "it has failed", K_UNAVAILABLE },
                { "printf 'No \\001\\033[31m.\\n' >&2; exit 1", "No ??[31m.", K_INVALID_ARGUMENT },
                { "kill -9 $$", "it has failed", K_UNAVAILABLE },
                { "i=0; while [ $i -lt 3000 ]; do echo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; i=$((i+1)); "
                  "done",
                                "is not understood", K_INTERNAL },
        };
        _cleanup_free_ char *path = NULL, *before = strdup(strempty(getenv("PATH"))), *with = NULL;
        char directory[] = "/tmp/test-calendar-XXXXXX";

        ASSERT_TRUE(mkdtemp(directory));
        path = strjoin(directory, "/systemd-analyze");
        with = strjoin(directory, ":", before);
        ASSERT_OK(setenv("PATH", with, 1));
        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_free_ char *text = strjoin("#!/bin/sh\n", t->script, "\n");
                Answer a;

                ASSERT_OK(write_file_atomic(path, text, strlen(text), 0700));
                a = ask("daily", 1);
                if (a.error.code != t->code || !strstr(kerror_message(&a.error), t->why))
                        fail_msg("%s: %i %s", t->script, (int) a.error.code, kerror_message(&a.error));
                kerror_done(&a.error);
        }
        ASSERT_OK(setenv("PATH", directory, 1));
        ASSERT_OK(rm_rf_at(AT_FDCWD, directory));
        {
                sd_event *event = NULL;
                CalendarQuery *q = NULL;
                Answer a = {};

                ASSERT_OK(sd_event_new(&event));
                ASSERT_ERROR(calendar_ask(event, "daily", 1, on_answer, &a, &q), ENOENT);
                sd_event_unref(event);
        }
        ASSERT_OK(setenv("PATH", before, 1));
}

static void test_question_is_withdrawn(void **state) {
        sd_event *event = NULL;
        CalendarQuery *q = NULL;
        Answer a = {};

        if (access("/usr/bin/systemd-analyze", X_OK) < 0)
                skip();
        ASSERT_OK(sd_event_new(&event));
        for (unsigned n = 0; n < 5; n++) {
                ASSERT_OK(calendar_ask(event, "daily", 1, on_answer, &a, &q));
                if (n > 0)
                        ASSERT_OK(sd_event_run(event, n * 2 * USEC_PER_MSEC));
                if (!a.told)
                        q = calendar_query_free(q);
                a.told = false;
        }
        ASSERT_OK(sd_event_run(event, 10 * USEC_PER_MSEC));
        ASSERT_FALSE(a.told);
        sd_event_unref(event);
}

/* The loop goes on meanwhile, and no dead process is left. */
static void test_who_is_asked_in_vain_is_reaped_by_the_loop(void **state) {
        static const char text[] = "#!/bin/sh\nexec sleep 1000\n";
        _cleanup_free_ char *path = NULL, *before = strdup(strempty(getenv("PATH"))), *with = NULL;
        char directory[] = "/tmp/test-calendar-XXXXXX";
        sd_event *event = NULL;
        CalendarQuery *q[8];
        siginfo_t si = {};
        Answer a = {};

        ASSERT_TRUE(mkdtemp(directory));
        path = strjoin(directory, "/systemd-analyze");
        with = strjoin(directory, ":", before);
        ASSERT_OK(setenv("PATH", with, 1));
        ASSERT_OK(write_file_atomic(path, text, strlen(text), 0700));
        ASSERT_OK(sd_event_new(&event));
        FOREACH_ARRAY(e, q, ELEMENTSOF(q))
                ASSERT_OK(calendar_ask(event, "daily", 1, on_answer, &a, e));
        FOREACH_ARRAY(e, q, ELEMENTSOF(q))
                ASSERT_TRUE(!calendar_query_free(*e));
        ASSERT_OK(waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT)); /* they were not waited for */
        for (uint64_t end = now_monotonic() + 120 * USEC_PER_SEC;
                        waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) == 0 && now_monotonic() < end;)
                ASSERT_OK(sd_event_run(event, 100 * USEC_PER_MSEC));
        ASSERT_EQ(waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT), -1);
        ASSERT_EQ(errno, ECHILD);
        ASSERT_FALSE(a.told);
        ASSERT_OK(sd_event_run(event, 0)); /* nothing of them is left in the loop either */
        sd_event_unref(event);
        ASSERT_OK(setenv("PATH", before, 1));
        ASSERT_OK(rm_rf_at(AT_FDCWD, directory));
}

KONTENA_TESTS(cmocka_unit_test(test_who_is_asked_in_vain_is_reaped_by_the_loop),
                cmocka_unit_test(test_answer_is_read), cmocka_unit_test(test_systemd_is_asked),
                cmocka_unit_test(test_systemd_says_what_is_wrong), cmocka_unit_test(test_other_programs),
                cmocka_unit_test(test_question_is_withdrawn))
