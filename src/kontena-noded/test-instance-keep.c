/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "file-util.h"
#include "json-util.h"
#include "kept-data.h"
#include "test-instance-machine.h"

/* What becomes of the data of an instance that nobody names any more. */

static char *path_of(const Fixture *f, const char *path) {
        char *s = strjoin(f->state, "/", path);

        ASSERT_TRUE(s);
        return s;
}

static void write_text(const Fixture *f, const char *path, const char *text) {
        _cleanup_free_ char *p = path_of(f, path), *directory = strdup(p);

        *strrchr(directory, '/') = '\0';
        ASSERT_OK(mkdir_p(directory, 0700));
        ASSERT_OK(write_file_atomic(p, text, strlen(text), 0600));
}

static bool has_text(const Fixture *f, const char *path, const char *text) {
        _cleanup_free_ char *p = path_of(f, path), *found = NULL;

        return read_file(p, 64, &found, NULL) >= 0 && streq(found, text);
}

static bool exists(const Fixture *f, const char *path) {
        _cleanup_free_ char *p = path_of(f, path);

        return access(p, F_OK) >= 0;
}

static void run_with_data(Fixture *f) {
        open_fixture(f);
        run_first(f);
        write_text(f, "abc/volumes/data/file", "precious");
}

static void wait_for_removal(Fixture *f) {
        settle(f, 0);
        if (the_unit && unit_is_busy(the_unit))
                unit_finishes("inactive", NULL);
        for (int i = 0; i < 100 && !removed_instance; i++)
                (void) sd_event_run(f->host.event, 100000);
        ASSERT_TRUE(removed_instance == f->i);
        ASSERT_TRUE(!exists(f, "abc"));
}

static void begin_anew(Fixture *f) {
        instance_free(f->i);
        removed_instance = NULL;
        ASSERT_OK(instance_new(&f->host, "abc", &f->i));
}

static void run_again(Fixture *f) {
        want(f, 2, 2, "");
        settle(f, 500000);
        if (pull_is_pending())
                pull_finishes(NULL);
        settle(f, 500000);
        unit_finishes("active", NULL);
        ASSERT_EQ(instance_state_of(f->i), INSTANCE_RUNNING);
}

static void test_data_of_one_that_nobody_names_are_kept(void **state) {
        _cleanup_json_ json_object *l = NULL;
        const char *text;
        Fixture f;

        run_with_data(&f);
        ASSERT_TRUE(kept_is_empty(f.state));
        instance_disown(f.i);
        wait_for_removal(&f);
        ASSERT_TRUE(has_text(&f, ".kept/abc/volumes/data/file", "precious"));
        ASSERT_TRUE(strstr(events, "warning service:keep_data") && strstr(events, "/.kept/abc."));
        ASSERT_TRUE(!kept_is_empty(f.state));
        ASSERT_OK(kept_list(f.state, 10, &l));
        ASSERT_EQ(json_object_array_length(l), 1);
        ASSERT_OK(json_get_string(json_object_array_get_idx(l, 0), "service", &text, NULL));
        ASSERT_STREQ(text, "web");

        /* Named again, by a newer copy of the store: it is there again, and used. */
        begin_anew(&f);
        events[0] = '\0';
        run_again(&f);
        ASSERT_TRUE(has_text(&f, "abc/volumes/data/file", "precious"));
        ASSERT_TRUE(strstr(events, "named again"));
        ASSERT_TRUE(kept_is_empty(f.state) && !exists(&f, ".kept/abc"));
        close_fixture(&f);
}

static void test_what_is_said_to_go_goes(void **state) {
        for (int way = 0; way < 3; way++) {
                Fixture f;

                run_with_data(&f);
                if (way == 0)
                        want(&f, 1, 1, ",\"desired\":\"terminated\"");
                else if (way == 1)
                        instance_terminate(f.i);
                else { /* and not named any more before it is gone */
                        want(&f, 1, 1, ",\"desired\":\"terminated\",\"drain\":600");
                        instance_disown(f.i);
                }
                wait_for_removal(&f);
                ASSERT_TRUE(!exists(&f, ".kept"));
                ASSERT_TRUE(!strstr(events, "keep_data"));
                close_fixture(&f);
        }
}

static void test_without_data_there_is_nothing_to_keep(void **state) {
        for (int way = 0; way < 2; way++) {
                Fixture f;

                open_fixture(&f);
                run_first(&f);
                if (way == 1) /* of a stateless one: its container's own */
                        write_text(&f, "abc/gen-1/volumes/data/file", "fleeting");
                instance_disown(f.i);
                wait_for_removal(&f);
                ASSERT_TRUE(!exists(&f, ".kept"));
                ASSERT_TRUE(!strstr(events, "keep_data"));
                close_fixture(&f);
        }
}

/* At each moment of its removal: how many there are depends on how many of its steps are done in one turn of the loop. */
static void test_named_again_meanwhile(void **state) {
        for (int moment = 0; moment < 40; moment++) {
                Fixture f;

                run_with_data(&f);
                instance_disown(f.i);
                settle(&f, 0);
                unit_finishes("inactive", NULL);
                for (int k = 0; k < moment && !removed_instance; k++)
                        (void) sd_event_run(f.host.event, 1000);
                if (removed_instance) {
                        close_fixture(&f);
                        return;
                }
                run_again(&f);
                ASSERT_TRUE(has_text(&f, "abc/volumes/data/file", "precious"));
                ASSERT_TRUE(kept_is_empty(f.state));
                close_fixture(&f);
        }
}

/* The daemon was killed between putting aside and saying so: the next one says it, and puts nothing aside again. */
static void test_a_daemon_that_died_is_made_up_for(void **state) {
        Fixture f;

        run_with_data(&f);
        ASSERT_OK(kept_put(f.state, "abc", "{}"));
        begin_anew(&f);
        unit_becomes("inactive", 0);
        instance_disown(f.i);
        wait_for_removal(&f);
        ASSERT_TRUE(strstr(events, "keep_data"));
        ASSERT_TRUE(has_text(&f, ".kept/abc/volumes/data/file", "precious"));
        ASSERT_TRUE(!exists(&f, ".kept/abc.2"));
        close_fixture(&f);
}

static void test_what_cannot_be_kept_is_not_removed(void **state) {
        Fixture f;

        run_with_data(&f);
        write_text(&f, ".kept", "in the way");
        instance_disown(f.i);
        settle(&f, 0);
        unit_finishes("inactive", NULL);
        settle(&f, 300000);
        ASSERT_EQ(instance_state_of(f.i), INSTANCE_FAILED);
        ASSERT_TRUE(!removed_instance && strstr(instance_error(f.i), "aside"));
        ASSERT_TRUE(has_text(&f, "abc/volumes/data/file", "precious"));
        close_fixture(&f);
}

/* Each state that a process may leave that was killed while it put data aside. */
static void test_putting_aside_is_repeatable(void **state) {
        for (int killed = 0; killed < 4; killed++) {
                Fixture f;

                open_fixture(&f);
                write_text(&f, "abc/volumes/data/file", "precious");
                if (killed >= 1)
                        write_text(&f, ".kept/abc/about.json", "{}");
                if (killed >= 2)
                        ASSERT_OK(kept_put(f.state, "abc", "{}"));
                if (killed == 3) /* nor is what was kept before written over */
                        write_text(&f, "abc/volumes/data/file", "second");
                ASSERT_OK(kept_put(f.state, "abc", "{}"));
                ASSERT_TRUE(has_text(&f, ".kept/abc/volumes/data/file", "precious"));
                ASSERT_EQ(exists(&f, ".kept/abc.2/volumes"), killed == 3);
                if (killed == 3)
                        ASSERT_TRUE(has_text(&f, ".kept/abc.2/volumes/data/file", "second"));

                /* Somebody's data are in its place: they stay, and so do these. */
                write_text(&f, "abc/volumes/data/file", "third");
                ASSERT_EQ(kept_take_back(f.state, "abc"), 0);
                ASSERT_TRUE(has_text(&f, "abc/volumes/data/file", "third"));
                ASSERT_TRUE(has_text(&f, ".kept/abc/volumes/data/file", "precious"));
                close_fixture(&f);
        }
}

static int block_children(void **state) {
        sigset_t mask;

        (void) sigemptyset(&mask);
        (void) sigaddset(&mask, SIGCHLD);
        return sigprocmask(SIG_BLOCK, &mask, NULL);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_data_of_one_that_nobody_names_are_kept),
                cmocka_unit_test(test_what_is_said_to_go_goes),
                cmocka_unit_test(test_without_data_there_is_nothing_to_keep),
                cmocka_unit_test(test_named_again_meanwhile),
                cmocka_unit_test(test_a_daemon_that_died_is_made_up_for),
                cmocka_unit_test(test_what_cannot_be_kept_is_not_removed),
                cmocka_unit_test(test_putting_aside_is_repeatable),
        };

        return cmocka_run_group_tests(tests, block_children, NULL);
}
