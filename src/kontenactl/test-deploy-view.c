/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdlib.h>

#include "deploy-view.h"
#include "json-util.h"
#include "string-util.h"
#include "terminal.h"
#include "test.h"

static json_object *instances(const char *text) {
        json_object *o;

        ASSERT_OK(json_parse(text, strlen(text), 65536, &o, NULL));
        return o;
}

static void test_lines_say_what_an_instance_does(void **state) {
        static const struct {
                const char *json, *line;
        } table[] = {
                { "[1,\"\",\"waiting\",\"\",\"\"]", "web-1: waiting for its turn" },
                { "[1,\"n1\",\"starting\",\"pulling 43 %\",\"\"]", "web-1 on n1: pulling 43 %" },
                { "[2,\"n1\",\"starting\",\"\",\"\"]", "web-2 on n1: starting" },
                { "[3,\"n2\",\"running\",\"starting\",\"\"]", "web-3 on n2: running" },
                { "[4,\"n2\",\"error\",\"pulling\",\"no such image\"]",
                                "web-4 on n2: failed: no such image" },
                { "[5,\"\",\"error\",\"\",\"\"]", "web-5: failed: no reason was given" },
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_json_ json_object *o = instances(t->json);
                _cleanup_free_ char *line = deploy_view_line("web", o);

                ASSERT_STREQ(line, t->line);
        }
}

static void test_plain_output_says_each_change_once(void **state) {
        static const char *const steps[] = {
                "[[1,\"\",\"waiting\",\"\",\"\"],[2,\"\",\"waiting\",\"\",\"\"]]",
                "[[1,\"n1\",\"starting\",\"pulling 3 %\",\"\"],[2,\"\",\"waiting\",\"\",\"\"]]",
                "[[1,\"n1\",\"starting\",\"pulling 43 %\",\"\"],[2,\"\",\"waiting\",\"\",\"\"]]",
                "[[1,\"n1\",\"running\",\"\",\"\"],[2,\"n2\",\"starting\",\"waiting for port 80\",\"\"]]",
                "[[1,\"n1\",\"running\",\"\",\"\"],[2,\"n2\",\"error\",\"\",\"bad \\u001b[31m thing\"]]",
        };
        _cleanup_(deploy_view_done) DeployView v = { .columns = 80, .rows = 24, .service = strdup("web") };
        char *text = NULL, *failures = NULL;
        size_t size, failures_size;

        v.out = open_memstream(&text, &size);
        v.err = open_memstream(&failures, &failures_size);
        ASSERT_TRUE(v.out && v.err && v.service);
        FOREACH_ARRAY(s, steps, ELEMENTSOF(steps)) {
                _cleanup_json_ json_object *o = instances(*s);

                ASSERT_OK(deploy_view_update(&v, "title", o, NULL));
        }
        (void) fclose(v.out);
        (void) fclose(v.err);

        ASSERT_STREQ(failures, "web-2 on n2: failed: bad \\x1b[31m thing\n");
        free(failures);
        ASSERT_STREQ(text, "web-1 on n1: pulling 3 %\n"
                           "web-1 on n1: running\n"
                           "web-2 on n2: waiting for port 80\n");
        free(text);
}

static void test_terminal_output_is_drawn_over(void **state) {
        _cleanup_(deploy_view_done) DeployView v = {
                .redraw = true, .columns = 20, .rows = 24, .service = strdup("web")
        };
        _cleanup_json_ json_object *o = instances(
                        "[[1,\"n1\",\"starting\",\"a very long progress text\",\"\"]]");
        char *text = NULL;
        size_t size;

        v.out = open_memstream(&text, &size);
        ASSERT_OK(deploy_view_update(&v, "title", o, NULL));
        ASSERT_OK(deploy_view_update(&v, "title", o, "note"));
        deploy_view_erase(&v);
        (void) fclose(v.out);

        ASSERT_STREQ(text, "title\n  web-1 on n1: a...\n"
                           "\r\033[2A\033[J"
                           "title\n  web-1 on n1: a...\nnote\n"
                           "\r\033[3A\033[J");
        free(text);
}

/* Fifty instances on a terminal of ten lines: what is on its way is shown, the rest counted, and never more than fits. */
static void test_many_instances_fit_the_terminal(void **state) {
        _cleanup_(deploy_view_done) DeployView v = {
                .redraw = true, .columns = 80, .rows = 10, .service = strdup("web")
        };
        _cleanup_json_ json_object *o = json_object_new_array();
        char *text = NULL;
        size_t size;

        for (unsigned i = 1; i <= 50; i++) {
                _cleanup_free_ char *s = strprintf(
                                "[%u,\"n1\",\"%s\",\"\",\"\"]", i, i <= 40 ? "running" : "starting");

                ASSERT_OK(json_append(o, instances(s)));
        }
        v.out = open_memstream(&text, &size);
        ASSERT_OK(deploy_view_update(&v, "title", o, "note"));
        (void) fclose(v.out);

        ASSERT_TRUE(v.drawn < 10);
        ASSERT_TRUE(strstr(text, "web-41 on n1: starting\n"));
        ASSERT_TRUE(!strstr(text, "web-1 on"));
        ASSERT_TRUE(strstr(text, "40 of 50 running, 0 failed\n"));
        free(text);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_lines_say_what_an_instance_does),
                cmocka_unit_test(test_plain_output_says_each_change_once),
                cmocka_unit_test(test_terminal_output_is_drawn_over),
                cmocka_unit_test(test_many_instances_fit_the_terminal),
        };

        terminal_set_colors(false);
        terminal_set_utf8(false);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
