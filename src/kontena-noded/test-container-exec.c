/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "container-exec.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file-util.h"
#include "string-util.h"
#include "test.h"

static void test_last_line(void **state) {
        static const struct {
                const char *text, *line;
        } cases[] = {
                { "", NULL },
                { "\n \n\t\n", NULL },
                { "one", "one" },
                { "one\ntwo\n", "two" },
                { "one\ntwo\n\n  \r\n", "two" },
                { "\none\x1b[31m red", "one?[31m red" },
                { "a\tb\n", "a b" },
                { "\xff\n", "\xef\xbf\xbd" },
        };

        FOREACH_ARRAY(c, cases, ELEMENTSOF(cases)) {
                _cleanup_free_ char *line = container_command_last_line(c->text, strlen(c->text));

                if (c->line)
                        ASSERT_STREQ(line, c->line);
                else
                        ASSERT_TRUE(!line);
        }
}

static void test_long_last_line_is_cut(void **state) {
        char text[4096];
        _cleanup_free_ char *line = NULL;

        memset(text, 'x', sizeof(text));
        text[0] = '\n';
        line = container_command_last_line(text, sizeof(text));
        ASSERT_EQ(strlen(line), 512);
}

static void remove_directory(char **path) {
        (void) rm_rf_at(AT_FDCWD, *path);
}

static void test_command_lines_of_the_runtime(void **state) {
        static const char config[] = "{\"process\":{\"args\":[\"nginx\"],\"env\":[\"SECRET=x\"]}}";
        char bundle_template[] = "/tmp/test-container-exec.XXXXXX";
        _cleanup_(remove_directory) char *bundle = mkdtemp(bundle_template);
        _cleanup_strv_free_ char **exec = NULL, **run = NULL, **clean = NULL;
        _cleanup_free_ char *exec_text = NULL, *run_text = NULL, *clean_text = NULL, *config_path = NULL,
                            *process_path = NULL, *process = NULL, *expected = NULL;
        char *const argv[] = { (char *) "/bin/sh", (char *) "-c", (char *) "a b", NULL };
        _cleanup_(runtime_freep) Runtime *runtime = NULL;
        RuntimeCommand c = { .container_id = "id-1", .argv = argv };
        struct stat st;

        ASSERT_TRUE(bundle);
        c.bundle = c.directory = bundle;
        config_path = strjoin(bundle, "/config.json");
        process_path = strjoin(bundle, "/process.json");
        ASSERT_OK(runtime_oci_new("/bin/sh", &runtime, NULL)); /* any program: it is not run */

        ASSERT_ERROR(runtime->ops->exec(runtime, &c, &exec, NULL), ENOENT);
        ASSERT_OK(write_file_atomic(config_path, config, strlen(config), 0600));
        ASSERT_OK(runtime->ops->exec(runtime, &c, &exec, NULL));
        exec_text = strv_join(exec, " ");
        expected = strprintf("/bin/sh --log %s/runtime.log --log-format json exec --pid-file %s/pid "
                             "--process %s/process.json id-1",
                        bundle, bundle, bundle);
        ASSERT_STREQ(exec_text, expected);
        ASSERT_OK(read_file(process_path, 4096, &process, NULL));
        ASSERT_TRUE(strstr(process, "\"args\":[\"/bin/sh\",\"-c\",\"a b\"]"));
        ASSERT_TRUE(strstr(process, "SECRET=x") && !strstr(exec_text, "SECRET"));
        ASSERT_OK(stat(process_path, &st));
        ASSERT_EQ(st.st_mode & 0777, 0600);

        ASSERT_OK(runtime->ops->run(runtime, &c, &run, &clean));
        run_text = strv_join(run, " ");
        clean_text = strv_join(clean, " ");
        ASSERT_TRUE(strstr(run_text, " run --pid-file ") && strstr(run_text, " --bundle "));
        ASSERT_STREQ(clean_text, "/bin/sh delete --force id-1");
}

KONTENA_TESTS(cmocka_unit_test(test_last_line), cmocka_unit_test(test_long_last_line_is_cut),
                cmocka_unit_test(test_command_lines_of_the_runtime))
