/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "redact.h"

#include "json-util.h"
#include "string-util.h"
#include "test.h"

#define NEEDLE "hunter2"

/* What is left of a text, and that the needle is not in it. */
static void redacted(const char *text, const char *expected) {
        _cleanup_json_ json_object *o = json_tokener_parse(text);

        ASSERT_TRUE(o);
        ASSERT_OK(json_redact(o));
        ASSERT_STREQ(json_text(o), expected);
        ASSERT_FALSE(strstr(json_text(o), NEEDLE));
}

static void test_names_of_an_environment_stay(void **state) {
        redacted("{\"env\":[\"A=" NEEDLE "\",\"B=\",\"C=x=" NEEDLE "\",\"D\"]}",
                        "{\"env\":[\"A\",\"B\",\"C\",\"D\"]}");
        redacted("{\"env\":[]}", "{\"env\":[]}");
}

static void test_however_deep(void **state) {
        redacted("{\"process\":{\"env\":[\"A=" NEEDLE "\"],\"args\":[\"sh\"]}}",
                        "{\"process\":{\"env\":[\"A\"],\"args\":[\"sh\"]}}");
        redacted("{\"hooks\":{\"poststop\":[{\"path\":\"/x\",\"env\":[\"A=" NEEDLE
                 "\"]},{\"path\":\"/y\"}]}}",
                        "{\"hooks\":{\"poststop\":[{\"path\":\"/x\",\"env\":[\"A\"]},{\"path\":\"/"
                        "y\"}]}}");
        redacted("[[{\"env\":[\"A=" NEEDLE "\"]}]]", "[[{\"env\":[\"A\"]}]]");
}

static void test_secrets_go(void **state) {
        redacted("{\"id\":\"i\",\"secrets\":[{\"name\":\"P\",\"sealed\":\"" NEEDLE
                 "\"}],\"spec\":{\"secrets\":[{\"secret\":"
                 "\"" NEEDLE "\"}],\"count\":1}}",
                        "{\"id\":\"i\",\"spec\":{\"count\":1}}");
        redacted("{\"registries\":[{\"name\":\"r\",\"sealed\":\"" NEEDLE "\"}]}",
                        "{\"registries\":[{\"name\":\"r\"}]}");
}

static void test_an_environment_of_another_form_shows_nothing(void **state) {
        redacted("{\"env\":{\"A\":\"" NEEDLE "\"}}", "{\"env\":[\"A\"]}");
        redacted("{\"env\":\"A=" NEEDLE "\"}", "{\"env\":[]}");
        redacted("{\"env\":[{\"A\":\"" NEEDLE "\"},[\"" NEEDLE "\"],7]}", "{\"env\":[null,null,null]}");
        redacted("{\"env\":null}", "{\"env\":[]}");
}

static void test_no_object_is_left_alone(void **state) {
        redacted("7", "7");
        redacted("{}", "{}");
        ASSERT_OK(json_redact(NULL));
}

KONTENA_TESTS(cmocka_unit_test(test_names_of_an_environment_stay), cmocka_unit_test(test_however_deep),
                cmocka_unit_test(test_secrets_go),
                cmocka_unit_test(test_an_environment_of_another_form_shows_nothing),
                cmocka_unit_test(test_no_object_is_left_alone))
