/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "enter.h"

#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "enter-filter.h"
#include "json-util.h"
#include "string-util.h"
#include "test.h"

#define WORDS(...) ((char *[]){ (char *) "kontena-enter", __VA_ARGS__, NULL })
#define PARSE(o, e, ...)                                                                                    \
        enter_options_parse((int) strv_length(WORDS(__VA_ARGS__)), WORDS(__VA_ARGS__), (o), (e))
#define W(s) ((char *) (s))

static void test_command_line_of_crun(void **state) {
        EnterOptions o;

        ASSERT_OK(PARSE(&o, NULL, W("--log"), W("/l"), W("--log-format"), W("json"),
                        W("--cgroup-manager=disabled"), W("exec"), W("--pid-file"), W("/p"), W("--process"),
                        W("/j"), W("--console-socket"), W("/c"), W("/run/kontena/instances/a/1")));
        ASSERT_STREQ(o.log, "/l");
        ASSERT_STREQ(o.pid_file, "/p");
        ASSERT_STREQ(o.process, "/j");
        ASSERT_STREQ(o.console_socket, "/c");
        ASSERT_STREQ(o.directory, "/run/kontena/instances/a/1");
}

static void test_wrong_command_lines(void **state) {
        _cleanup_kerror_ KError a = KERROR_NULL, b = KERROR_NULL, c = KERROR_NULL, d = KERROR_NULL;
        EnterOptions o;

        ASSERT_TRUE(PARSE(&o, &a, W("exec"), W("/d")) < 0); /* no process */
        ASSERT_TRUE(PARSE(&o, &b, W("exec"), W("--process")) < 0);
        ASSERT_TRUE(PARSE(&o, &c, W("--detach"), W("exec"), W("--process"), W("/j"), W("/d")) < 0);
        ASSERT_TRUE(PARSE(&o, &d, W("exec"), W("--process"), W("/j"), W("/d"), W("more")) < 0);
        ASSERT_TRUE(strstr(kerror_message(&b), "--process"));
        ASSERT_TRUE(strstr(kerror_message(&c), "--detach"));
        ASSERT_TRUE(strstr(kerror_message(&d), "more"));
}

static int process_of(const char *text, EnterProcess *ret, KError *reterr) {
        _cleanup_json_ json_object *o = NULL;

        ASSERT_OK(json_parse(text, strlen(text), 65536, &o, NULL));
        return enter_process_parse(o, ret, reterr);
}

static void test_process(void **state) {
        _cleanup_(enter_process_done) EnterProcess p = {}, least = {};

        ASSERT_OK(process_of(
                        "{\"args\":[\"ls\",\"-l\"],\"env\":[\"A=1\"],\"cwd\":\"/srv\",\"terminal\":true,"
                        "\"user\":{\"uid\":33,\"gid\":34,\"additionalGids\":[4,5]}}",
                        &p, NULL));
        ASSERT_STREQ(p.args[1], "-l");
        ASSERT_STREQ(p.env[0], "A=1");
        ASSERT_STREQ(p.cwd, "/srv");
        ASSERT_TRUE(p.terminal);
        ASSERT_EQ(p.uid, 33);
        ASSERT_EQ(p.gid, 34);
        ASSERT_EQ(p.n_groups, 2);
        ASSERT_EQ(p.groups[1], 5);

        ASSERT_OK(process_of("{\"args\":[\"ls\"]}", &least, NULL));
        ASSERT_STREQ(least.cwd, "/");
        ASSERT_EQ(least.uid, 0);
}

static void test_processes_that_are_refused(void **state) {
        static const char *const table[] = { "{}", "{\"args\":[]}", "{\"args\":[\"\"]}", "{\"args\":\"ls\"}",
                "{\"args\":[\"a\"],\"user\":{\"uid\":4294967295}}",
                "{\"args\":[\"a\"],\"user\":{\"gid\":-1}}",
                "{\"args\":[\"a\"],\"user\":{\"additionalGids\":[-1]}}",
                "{\"args\":[\"a\"],\"user\":{\"additionalGids\":[\"x\"]}}" };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                EnterProcess p = {};

                if (process_of(*t, &p, NULL) >= 0)
                        fail_msg("accepted: %s", *t);
        }
}

static const char profile[] = "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":1,"
                              "\"architectures\":[\"SCMP_ARCH_X86_64\"],"
                              "\"syscalls\":[{\"names\":[\"exit_group\",\"getpid\",\"no_such_call\"],"
                              "\"action\":\"SCMP_ACT_ALLOW\"},"
                              "{\"names\":[\"sethostname\"],\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":38},"
                              "{\"names\":[\"lseek\"],\"action\":\"SCMP_ACT_ALLOW\",\"args\":[{\"index\":0,"
                              "\"value\":77,\"op\":"
                              "\"SCMP_CMP_EQ\"}]}]}";

/* The filter as the kernel understands it: status says which call was as it should be. */
static void test_filter_is_what_the_profile_says(void **state) {
        _cleanup_json_ json_object *o = NULL;
        scmp_filter_ctx filter;
        int status;
        pid_t pid;

        ASSERT_OK(json_parse(profile, strlen(profile), 65536, &o, NULL));
        ASSERT_OK(enter_filter_new(o, &filter));
        pid = fork();
        if (pid == 0) {
                int result = 0;

                if (seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 1) < 0 || seccomp_load(filter) < 0)
                        _exit(100);
                result |= (getpid() > 0) << 0;
                result |= (sethostname("x", 1) < 0 && errno == ENOSYS) << 1;
                result |= (lseek(77, 0, SEEK_SET) < 0 && errno == EBADF) << 2;
                result |= (lseek(1, 0, SEEK_SET) < 0 && errno == EPERM) << 3;
                result |= (chdir("/") < 0 && errno == EPERM) << 4;
                (void) syscall(SYS_exit_group,
                                result); /* sanitizers do more in _exit() than the filter allows */
        }
        ASSERT_EQ(waitpid(pid, &status, 0), pid);
        seccomp_release(filter);
        ASSERT_TRUE(WIFEXITED(status));
        ASSERT_EQ(WEXITSTATUS(status), 31);
}

static void test_filters_that_are_not_understood(void **state) {
        static const char *const table[] = { "{}", "{\"syscalls\":[{\"names\":[\"lseek\"]}]}",
                "{\"syscalls\":[{\"names\":[\"lseek\"],\"action\":\"SCMP_ACT_TRACE\"}]}",
                "{\"syscalls\":[{\"names\":[\"lseek\"],\"action\":\"SCMP_ACT_ALLOW\",\"args\":[{\"index\":9,"
                "\"value\":1,"
                "\"op\":\"SCMP_CMP_EQ\"}]}]}",
                "{\"syscalls\":[{\"names\":[\"lseek\"],\"action\":\"SCMP_ACT_ALLOW\",\"args\":[{\"index\":0,"
                "\"value\":1,"
                "\"op\":\"SCMP_CMP_GT\"}]}]}" };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_json_ json_object *o = NULL;
                scmp_filter_ctx filter;

                ASSERT_OK(json_parse(*t, strlen(*t), 65536, &o, NULL));
                if (enter_filter_new(o, &filter) >= 0)
                        fail_msg("accepted: %s", *t);
        }
}

KONTENA_TESTS(cmocka_unit_test(test_command_line_of_crun), cmocka_unit_test(test_wrong_command_lines),
                cmocka_unit_test(test_process), cmocka_unit_test(test_processes_that_are_refused),
                cmocka_unit_test(test_filter_is_what_the_profile_says),
                cmocka_unit_test(test_filters_that_are_not_understood))
