/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "stream-exec.h"

#include "json-util.h"
#include "string-util.h"
#include "test.h"

static const char config_text
                [] = "{\"process\": {\"args\": [\"nginx\"], \"terminal\": false, \"cwd\": \"/srv\", "
                     "\"env\": [\"PATH=/bin\", \"HOME=/root\", \"A=1\", "
                     "\"AB=2\"], \"user\": {\"uid\": 0, \"gid\": 0}, \"capabilities\": {\"bounding\": "
                     "[\"CAP_CHOWN\"], \"effective\": "
                     "[\"CAP_CHOWN\"], \"permitted\": [\"CAP_CHOWN\"]}, \"noNewPrivileges\": true}}";

static json_object *config_new(void) {
        json_object *o = NULL;

        ASSERT_OK(json_parse(config_text, strlen(config_text), sizeof(config_text), &o, NULL));
        return o;
}

static void test_takes_over_what_the_container_has(void **state) {
        char *argv[] = { (char *) "sh", (char *) "-c", (char *) "a b", NULL },
             *env[] = { (char *) "A=9", (char *) "X=", NULL };
        _cleanup_json_ json_object *config = config_new(), *p = NULL;
        StreamExecOptions o = { .argv = argv, .env = env, .tty = true };

        ASSERT_OK(stream_exec_process(config, &o, NULL, &p, NULL));
        ASSERT_STREQ(json_text(json_object_object_get(p, "args")), "[\"sh\",\"-c\",\"a b\"]");
        ASSERT_STREQ(json_text(json_object_object_get(p, "env")),
                        "[\"PATH=/bin\",\"HOME=/root\",\"AB=2\",\"A=9\",\"X=\"]");
        ASSERT_TRUE(json_object_get_boolean(json_object_object_get(p, "terminal")));
        ASSERT_TRUE(json_object_get_boolean(json_object_object_get(p, "noNewPrivileges")));
        ASSERT_STREQ(json_object_get_string(json_object_object_get(p, "cwd")), "/srv");
        ASSERT_TRUE(strstr(json_text(p), "\"effective\":[\"CAP_CHOWN\"]"));
        /* The configuration itself stays as it is. */
        ASSERT_TRUE(strstr(json_text(config), "\"nginx\""));
}

static void test_another_user_has_no_capabilities(void **state) {
        char *argv[] = { (char *) "id", NULL };
        gid_t groups[] = { 5 };
        UserIdentity identity = {
                .uid = 1000, .gid = 1001, .groups = groups, .n_groups = 1, .home = (char *) "/home/u"
        };
        _cleanup_json_ json_object *config = config_new(), *p = NULL, *root = NULL;
        StreamExecOptions o = { .argv = argv, .user = "u" };

        ASSERT_OK(stream_exec_process(config, &o, &identity, &p, NULL));
        ASSERT_STREQ(json_text(json_object_object_get(p, "user")),
                        "{\"uid\":1000,\"gid\":1001,\"additionalGids\":[5]}");
        ASSERT_TRUE(strstr(json_text(p), "\"bounding\":[\"CAP_CHOWN\"]"));
        ASSERT_TRUE(strstr(json_text(p), "\"effective\":[]") && strstr(json_text(p), "\"permitted\":[]"));
        ASSERT_TRUE(strstr(json_text(p), "HOME=/home/u") && !strstr(json_text(p), "HOME=/root"));

        identity.uid = 0;
        ASSERT_OK(stream_exec_process(p, &o, &identity, &root, NULL) == -EINVAL
                                        ? 0
                                        : -1); /* no "process" in it */
        ASSERT_OK(stream_exec_process(config, &o, &identity, &root, NULL));
        ASSERT_TRUE(strstr(json_text(root), "\"effective\":[\"CAP_CHOWN\"]") &&
                        strstr(json_text(root), "\"ambient\":[]"));
}

static void test_refuses_what_is_no_command(void **state) {
        char *none[] = { NULL }, *empty[] = { (char *) "", NULL }, *good[] = { (char *) "id", NULL },
             *bad_env[] = { (char *) "NAME", NULL }, *no_name[] = { (char *) "=x", NULL };
        _cleanup_json_ json_object *config = config_new(), *p = NULL;

        ASSERT_ERROR(stream_exec_process(config, &(StreamExecOptions){ .argv = none }, NULL, &p, NULL),
                        EINVAL);
        ASSERT_ERROR(stream_exec_process(config, &(StreamExecOptions){ .argv = empty }, NULL, &p, NULL),
                        EINVAL);
        ASSERT_ERROR(stream_exec_process(config, &(StreamExecOptions){ .argv = good, .env = bad_env }, NULL,
                                     &p, NULL),
                        EINVAL);
        ASSERT_ERROR(stream_exec_process(config, &(StreamExecOptions){ .argv = good, .env = no_name }, NULL,
                                     &p, NULL),
                        EINVAL);
}

KONTENA_TESTS(cmocka_unit_test(test_takes_over_what_the_container_has),
                cmocka_unit_test(test_another_user_has_no_capabilities),
                cmocka_unit_test(test_refuses_what_is_no_command))
