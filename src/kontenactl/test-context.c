/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "context.h"
#include "file-util.h"
#include "login-callback.h"
#include "string-util.h"

#define ONE                                                                                                 \
        "{\"name\":\"prod\",\"url\":\"https://"                                                             \
        "master:9292\",\"ca\":\"-----BEGIN\\n\",\"ca_fingerprint\":\"ab\",\"token\":"                       \
        "\"t\",\"expires_at\":7}"

static char template[64], *file;

static int setup(void **state) {
        (void) snprintf(template, sizeof(template), "/var/tmp/kontena-context-XXXXXX");
        ASSERT_TRUE(mkdtemp(template) != NULL);
        ASSERT_OK(setenv("XDG_CONFIG_HOME", template, 1));
        file = strjoin(template, "/kontena/contexts.json");
        return 0;
}

static int teardown(void **state) {
        free(file);
        return rm_rf_at(AT_FDCWD, template);
}

static int parse(const char *text, Contexts *ret, KError *reterr) {
        return contexts_parse(text, strlen(text), ret, reterr);
}

static void test_what_was_written_is_read(void **state) {
        _cleanup_contexts_ Contexts l = {}, again = {};
        _cleanup_free_ char *text = NULL, *second = NULL;

        ASSERT_OK(parse("{\"current\":\"prod\",\"contexts\":[" ONE "]}", &l, NULL));
        ASSERT_EQ(l.n, 1);
        ASSERT_STREQ(l.current, "prod");
        ASSERT_STREQ(l.list[0].url, "https://master:9292");
        ASSERT_STREQ(l.list[0].token, "t");
        ASSERT_EQ(l.list[0].expires_at, 7);
        ASSERT_TRUE(!l.list[0].refresh_token);
        ASSERT_OK(contexts_format(&l, &text));
        ASSERT_OK(parse(text, &again, NULL));
        ASSERT_OK(contexts_format(&again, &second));
        ASSERT_STREQ(text, second);
}

static void test_malformed_files_are_refused(void **state) {
        static const char *const wrong[] = {
                "",
                "[]",
                "{",
                "{}",
                "{\"contexts\":{}}",
                "{\"contexts\":[1]}",
                "{\"contexts\":[{}]}",
                "{\"contexts\":[],\"current\":\"prod\"}",
                "{\"contexts\":[],\"current\":1}",
                "{\"contexts\":[" ONE "," ONE "]}",
                "{\"contexts\":[" ONE "]} x",
                "{\"contexts\":[{\"name\":\"a/b\",\"url\":\"https://"
                "m\",\"ca\":\"x\",\"ca_fingerprint\":\"x\"}]}",
                "{\"contexts\":[{\"name\":\"local\",\"url\":\"https://"
                "m\",\"ca\":\"x\",\"ca_fingerprint\":\"x\"}]}",
                "{\"contexts\":[{\"name\":\"-x\",\"url\":\"https://"
                "m\",\"ca\":\"x\",\"ca_fingerprint\":\"x\"}]}",
                "{\"contexts\":[{\"name\":\"a\",\"url\":\"http://"
                "m\",\"ca\":\"x\",\"ca_fingerprint\":\"x\"}]}",
                "{\"contexts\":[{\"name\":\"a\",\"url\":\"https://m\",\"ca_fingerprint\":\"x\"}]}",
                "{\"contexts\":[{\"name\":\"a\",\"url\":\"https://"
                "m\",\"ca\":\"\",\"ca_fingerprint\":\"x\"}]}",
                "{\"contexts\":[{\"name\":\"a\",\"url\":\"https://"
                "m\",\"ca\":\"x\",\"ca_fingerprint\":\"x\",\"token\":\"a\\nb\"}]}",
                "{\"contexts\":[{\"name\":\"a\",\"url\":\"https://"
                "m\",\"ca\":\"x\",\"ca_fingerprint\":\"x\",\"token\":7}]}",
                "{\"contexts\":[{\"name\":\"a\",\"url\":\"https://"
                "m\",\"ca\":\"x\",\"ca_fingerprint\":\"x\",\"expires_at\":-1}]}",
        };

        FOREACH_ARRAY(w, wrong, ELEMENTSOF(wrong)) {
                _cleanup_contexts_ Contexts l = {};
                _cleanup_kerror_ KError error = KERROR_NULL;

                if (parse(*w, &l, &error) >= 0)
                        fail_msg("taken: %s", *w);
                ASSERT_TRUE(kerror_is_set(&error));
                ASSERT_EQ(l.n, 0);
        }
}

static int add(Contexts *l, void *userdata, KError *reterr) {
        Context c = {
                .name = strdup(userdata),
                .url = strdup("https://master:9292"),
                .ca = strdup("pem"),
                .fingerprint = strdup("ab"),
                .token = strdup("secret"),
        };

        return contexts_put(l, &c);
}

static int fail_to_change(Contexts *l, void *userdata, KError *reterr) {
        while (l->n > 0)
                ASSERT_OK(contexts_remove(l, l->list[0].name));
        return kerror_set(reterr, K_CONFLICT, "No.");
}

static void test_the_file_is_private(void **state) {
        _cleanup_free_ char *directory = strjoin(template, "/kontena");
        _cleanup_contexts_ Contexts l = {};
        _cleanup_kerror_ KError error = KERROR_NULL;
        struct stat st;

        ASSERT_OK(contexts_load(&l, NULL));
        ASSERT_EQ(l.n, 0);
        ASSERT_TRUE(access(directory, F_OK) < 0); /* reading makes nothing */

        (void) umask(0);
        ASSERT_OK(contexts_change(add, (void *) "one", NULL));
        ASSERT_OK(stat(directory, &st));
        ASSERT_EQ(st.st_mode & 07777, 0700);
        ASSERT_OK(stat(file, &st));
        ASSERT_EQ(st.st_mode & 07777, 0600);

        ASSERT_OK(chmod(file, 0640));
        ASSERT_ERROR(contexts_load(&l, &error), EACCES);
        ASSERT_TRUE(strstr(kerror_message(&error), "chmod 600") != NULL);
        ASSERT_TRUE(contexts_change(add, (void *) "two", NULL) < 0);
        ASSERT_OK(chmod(file, 0600));
        ASSERT_OK(chmod(directory, 0770));
        kerror_done(&error);
        ASSERT_ERROR(contexts_change(add, (void *) "two", &error), EACCES);
        ASSERT_OK(chmod(directory, 0700));
        ASSERT_OK(contexts_load(&l, NULL));
        ASSERT_EQ(l.n, 1);
}

static void test_a_failed_change_changes_nothing(void **state) {
        _cleanup_contexts_ Contexts l = {};

        ASSERT_OK(contexts_change(add, (void *) "one", NULL));
        ASSERT_TRUE(contexts_change(fail_to_change, NULL, NULL) < 0);
        ASSERT_OK(contexts_load(&l, NULL));
        ASSERT_EQ(l.n, 1);
}

static void test_many_writers_lose_nothing(void **state) {
        _cleanup_contexts_ Contexts l = {};
        pid_t pids[8];
        int status;

        for (unsigned i = 0; i < ELEMENTSOF(pids); i++) {
                pids[i] = fork();
                if (pids[i] == 0) {
                        for (unsigned k = 0; k < 8; k++) {
                                char name[32];

                                (void) snprintf(name, sizeof(name), "w%u-%u", i, k);
                                if (contexts_change(add, name, NULL) < 0)
                                        _exit(1);
                        }
                        _exit(0);
                }
        }
        for (unsigned i = 0; i < ELEMENTSOF(pids); i++) {
                ASSERT_EQ(waitpid(pids[i], &status, 0), pids[i]);
                ASSERT_EQ(status, 0);
        }
        ASSERT_OK(contexts_load(&l, NULL));
        ASSERT_EQ(l.n, 64);
}

static void test_there_are_not_too_many(void **state) {
        Contexts l = {};

        for (unsigned i = 0; i < CONTEXTS_MAX; i++) {
                char name[32];

                (void) snprintf(name, sizeof(name), "c%u", i);
                ASSERT_OK(add(&l, name, NULL));
        }
        ASSERT_ERROR(add(&l, (void *) "more", NULL), E2BIG);
        ASSERT_OK(add(&l, (void *) "c7", NULL)); /* in its place */
        ASSERT_EQ(l.n, CONTEXTS_MAX);
        contexts_done(&l);
}

static void test_codes_come_from_browsers(void **state) {
        static const struct {
                const char *text, *code;
                bool other, refused;
        } cases[] = {
                { "GET /cb/word?code=abc123&server_name=x HTTP/1.1\r\nHost: localhost\r\n\r\n", "abc123",
                                false, false },
                { "GET /cb/word?server_name=x&code=a%20b HTTP/1.1\r\n\r\n", "a b", false, false },
                { "GET /cb/word?code=abc HTTP/1.1\r\nHost: l", NULL, false, false },
                { "GET /favicon.ico HTTP/1.1\r\n\r\n", NULL, true, false },
                { "POST /cb/word?code=abc HTTP/1.1\r\n\r\n", NULL, true, false },
                { "GET /cb?code=abc HTTP/1.1\r\n\r\n", NULL, true, false },
                { "GET /cb/wor?code=abc HTTP/1.1\r\n\r\n", NULL, true, false },
                { "GET /cb/words?code=abc HTTP/1.1\r\n\r\n", NULL, true, false },
                { "GET /cb/wo HTTP/1.1\r\n\r\nrd?code=abc", NULL, true, false },
                { "GET /cb/word HTTP/1.1\r\n\r\n", NULL, true, false },
                { "\r\n\r\nGET /cb/word?code=abc HTTP/1.1", NULL, true, false },
                { "GET /cb/word?code= HTTP/1.1\r\n\r\n", NULL, false, true },
                { "GET /cb/word?code=a%00b%0d HTTP/1.1\r\n\r\n", NULL, false, true },
                { "GET /cb/word?xcode=abc HTTP/1.1\r\n\r\n", NULL, false, true },
                { "GET /cb/word?error=access_denied HTTP/1.1\r\n\r\n", NULL, false, true },
        };

        FOREACH_ARRAY(c, cases, ELEMENTSOF(cases)) {
                _cleanup_free_ char *code = NULL;
                _cleanup_kerror_ KError error = KERROR_NULL;
                bool other;
                int r = login_callback_parse("/cb/word", c->text, strlen(c->text), &code, &other, &error);

                ASSERT_STREQ(strempty(code), strempty(c->code));
                if (other != c->other || (r < 0) != c->refused || (r > 0) != !!c->code)
                        fail_msg("%s: %i %i", c->text, r, other);
        }
}

#define FILE_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

KONTENA_TESTS(cmocka_unit_test(test_what_was_written_is_read),
                cmocka_unit_test(test_malformed_files_are_refused), FILE_TEST(test_the_file_is_private),
                FILE_TEST(test_a_failed_change_changes_nothing), FILE_TEST(test_many_writers_lose_nothing),
                cmocka_unit_test(test_there_are_not_too_many),
                cmocka_unit_test(test_codes_come_from_browsers))
