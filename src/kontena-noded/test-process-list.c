/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "process-list.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "file-util.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "string-util.h"
#include "test.h"

static void test_stat_with_a_hostile_name(void **state) {
        ProcessStat s;

        ASSERT_OK(process_stat_parse(
                        "42 (a) R 1) (x) S 7 42 42 0 -1 4194560 1 2 3 4 10 5 6 7 20 0 1 0 12345 4096 99 0\n",
                        &s));
        ASSERT_STREQ(s.name, "a) R 1) (x");
        ASSERT_EQ(s.ppid, 7);
        ASSERT_EQ(s.state, 'S');
        ASSERT_EQ(s.cpu_ticks, 15);
        ASSERT_EQ(s.start_ticks, 12345);
        ASSERT_EQ(s.rss_pages, 99);
}

static void test_stat_that_is_none(void **state) {
        const char *const bad[] = { "", "1", "1 (a", "1 )a( S 1", "1 (a)", "1 (a) ", "1 (a) S",
                "1 (a) S 1 2 3",
                "1 (a) S 99999999999999999999999 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0" };
        ProcessStat s;

        FOREACH_ARRAY(b, bad, ELEMENTSOF(bad))
                ASSERT_ERROR(process_stat_parse(*b, &s), EBADMSG);
}

static void test_command_is_printable_and_bounded(void **state) {
        _cleanup_free_ char *a = process_command_text("sh\0-c\0a\033[2J\nb\0", 15), *b = NULL, *c = NULL,
                            *d = NULL, *large = NULL;

        ASSERT_STREQ(a, "sh -c a?[2J?b");
        b = process_command_text("\xc3\xa4\0", 3);
        ASSERT_STREQ(b, "\xc3\xa4");
        c = process_command_text("\xff-\0", 3);
        ASSERT_STREQ(c, "?-");
        d = process_command_text("\0\0", 2);
        ASSERT_STREQ(d, "");

        large = malloc(1000000);
        ASSERT_TRUE(large);
        memset(large, 'x', 1000000);
        free(d);
        d = process_command_text(large, 1000000);
        ASSERT_EQ(strlen(d), PROCESS_COMMAND_MAX);
}

static void test_user_names(void **state) {
        static const char passwd[] = "root:x:0:0:root:/root:/bin/"
                                     "sh\nbroken\n:x:5:\nbad\033:x:6:6\nwww:x:33:33::/:\nlast:x:9:";
        _cleanup_free_ char *root = process_user_name(passwd, 0), *www = process_user_name(passwd, 33),
                            *last = process_user_name(passwd, 9);

        ASSERT_STREQ(root, "root");
        ASSERT_STREQ(www, "www");
        ASSERT_STREQ(last, "last");
        ASSERT_TRUE(!process_user_name(passwd, 5) && !process_user_name(passwd, 6));
        ASSERT_TRUE(!process_user_name(passwd, 77) && !process_user_name(NULL, 0) &&
                        !process_user_name("", 0));
}

static void write_group(const char *directory, const char *name, const char *text) {
        _cleanup_free_ char *path = name ? strjoin(directory, "/", name) : strdup(directory),
                            *procs = strjoin(path, "/cgroup.procs");

        ASSERT_OK(mkdir_p(path, 0755));
        ASSERT_OK(write_file_atomic(procs, text, strlen(text), 0644));
}

static void test_lists_what_lives_in_all_groups(void **state) {
        char directory[] = "/tmp/test-process.XXXXXX";
        _cleanup_json_ json_object *o = NULL;
        _cleanup_free_ char *text = NULL, *own = NULL;
        json_object *list;
        uint64_t pid = 0, memory = 0;
        const char *s;
        pid_t gone;

        gone = fork();
        ASSERT_TRUE(gone >= 0);
        if (gone == 0)
                _exit(0);
        ASSERT_EQ(waitpid(gone, NULL, 0), gone);

        ASSERT_TRUE(mkdtemp(directory));
        text = strprintf("%d\nrubbish\n0\n", (int) gone);
        own = strprintf("%d\n", (int) getpid());
        write_group(directory, NULL, text);
        write_group(directory, "a/b", own);
        write_group(directory, "a", "");
        ASSERT_OK(process_list("/proc", directory, NULL, &o, NULL));
        ASSERT_OK(json_get_array(o, "processes", &list, NULL));
        ASSERT_EQ(json_object_array_length(list), 1); /* the other vanished */
        ASSERT_OK(json_get_u64(json_object_array_get_idx(list, 0), "pid", &pid, NULL));
        ASSERT_EQ(pid, getpid());
        ASSERT_OK(json_get_u64(json_object_array_get_idx(list, 0), "memory", &memory, NULL));
        ASSERT_TRUE(memory > 0);
        ASSERT_OK(json_get_string(json_object_array_get_idx(list, 0), "command", &s, NULL));
        ASSERT_TRUE(strstr(s, "test-process-list"));
        ASSERT_OK(rm_rf_at(AT_FDCWD, directory));
}

static void test_a_group_that_is_gone_has_none(void **state) {
        _cleanup_json_ json_object *o = NULL;
        json_object *list;

        ASSERT_OK(process_list("/proc", "/tmp/test-process.missing/x", NULL, &o, NULL));
        ASSERT_OK(json_get_array(o, "processes", &list, NULL));
        ASSERT_EQ(json_object_array_length(list), 0);
}

KONTENA_TESTS(cmocka_unit_test(test_stat_with_a_hostile_name), cmocka_unit_test(test_stat_that_is_none),
                cmocka_unit_test(test_command_is_printable_and_bounded), cmocka_unit_test(test_user_names),
                cmocka_unit_test(test_lists_what_lives_in_all_groups),
                cmocka_unit_test(test_a_group_that_is_gone_has_none))
