/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "instance-want.h"

#include "instance-record.h"

#include <fcntl.h>
#include <unistd.h>

#include "file-util.h"
#include "json-util.h"
#include "test.h"

#define GOOD                                                                                                \
        "\"number\":1,\"grid\":\"g01\",\"stack\":\"null\",\"service\":\"web\",\"service_id\":\"i\","        \
        "\"desired\":\"running\","                                                                          \
        "\"deploy_rev\":7,\"service_rev\":3,\"address\":\"10.81.128.5\",\"hostname\":\"web-1\",\"spec\":{"  \
        "\"image\":\"a\"}"

static int parse(const char *text, InstanceWant **ret, KError *reterr) {
        /* json-c's own parser, to which the last of two fields of one name counts: what follows GOOD may replace it. */
        _cleanup_json_ json_object *o = json_tokener_parse(text);

        ASSERT_TRUE(o);
        return instance_want_parse("abc", o, ret, reterr);
}

static void test_what_is_made_of_it(void **state) {
        _cleanup_(instance_want_freep) InstanceWant *w = NULL;

        ASSERT_OK(parse("{" GOOD "}", &w, NULL));
        ASSERT_STREQ(w->unit, "kontena-g01-null.web-1.service");
        ASSERT_STREQ(w->slice, "kontena-g01.slice");
        ASSERT_STREQ(w->name, "web-1");
        ASSERT_EQ(w->goal, GOAL_RUNNING);
}

static void test_second_slot_and_what_goes_with_it(void **state) {
        _cleanup_(instance_want_freep) InstanceWant *w = NULL;

        ASSERT_OK(parse("{" GOOD ",\"slot\":\"b\",\"incoming\":true,\"drain\":99999,\"digest\":null}", &w,
                        NULL));
        ASSERT_STREQ(w->unit, "kontena-g01-null.web-1.b.service");
        ASSERT_TRUE(w->incoming && !w->digest);
        ASSERT_EQ(w->drain_usec, UINT64_C(3600000000)); /* no more than an hour */
}

static void test_refusals_name_the_field(void **state) {
        static const struct {
                const char *more, *why;
        } table[] = {
                { "\"number\":0", "number" },
                { "\"slot\":\"../b\"", "slot" },
                { "\"digest\":\"sha256:12\"", "digest" },
                { "\"rollback_digest\":\"web:1\"", "rollback_digest" },
                { "\"drain\":-1", "drain" },
                { "\"desired\":\"paused\"", "desired" },
                { "\"grid\":\"../x\"", "grid" },
                { "\"service\":\"a b\"", "service" },
                { "\"stack\":\"a/b\"", "stack" },
                { "\"address\":\"10.81.128\"", "address" },
                { "\"address\":null", "address" },
                { "\"hostname\":\"a\\nb\"", "hostname" },
                { "\"domain\":\"a b\"", "domain" },
                { "\"search\":[\"a\\nnameserver 6.6.6.6\"]", "search" },
                { "\"search\":[\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\"]", "search" },
                { "\"deploy_rev\":-1", "deploy_rev" },
                { "\"spec\":{}", "image" },
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_free_ char *text = strjoin("{" GOOD ",", table[i].more, "}");
                _cleanup_kerror_ KError e = KERROR_NULL;
                InstanceWant *w;

                ASSERT_TRUE(parse(text, &w, &e) < 0);
                if (!strstr(kerror_message(&e), table[i].why))
                        fail_msg("%s: '%s'", table[i].more, kerror_message(&e));
        }
}

static void test_host_network_needs_no_address(void **state) {
        _cleanup_(instance_want_freep) InstanceWant *w = NULL;

        ASSERT_OK(parse("{" GOOD ",\"address\":null,\"spec\":{\"image\":\"a\",\"net\":\"host\"}}", &w,
                        NULL));
        ASSERT_TRUE(!w->address);
}

static void test_ids_that_would_lead_astray(void **state) {
        static const char *const ids[] = { "", ".", "..", "a/b", "-a", "a b", "\xc3\xa4",
                "0123456789012345678901234567890123456789012345678901234567890123" };

        for (size_t i = 0; i < ELEMENTSOF(ids); i++)
                ASSERT_ERROR(instance_id_validate(ids[i], NULL), EINVAL);
        ASSERT_OK(instance_id_validate("abcdefghijklmnopqrstuvwxyz", NULL));
}

static void test_record_comes_back_whole(void **state) {
        char path[] = "/tmp/test-record.XXXXXX";
        _cleanup_(instance_record_done) InstanceRecord a = {}, b = {};
        int fd = mkstemp(path);

        ASSERT_TRUE(fd >= 0);
        close(fd);
        a = (InstanceRecord){ .generation = 4,
                .deploy_rev = 7,
                .service_rev = 3,
                .epoch = 9,
                .restarts = 2,
                .oom_kills = 1,
                .started_at = 123456,
                .main_pid = 42,
                .number = 5,
                .host_network = true,
                .ready = true };
        a.image_digest = strdup("sha256:x");
        a.unit = strdup("u.service");
        a.grid = strdup("g01");
        a.service = strdup("web");

        ASSERT_OK(instance_record_save(path, &a));
        ASSERT_EQ(instance_record_load(path, &b), 1);
        ASSERT_EQ(b.generation, 4);
        ASSERT_EQ(b.deploy_rev, 7);
        ASSERT_EQ(b.epoch, 9);
        ASSERT_EQ(b.main_pid, 42);
        ASSERT_EQ(b.number, 5);
        ASSERT_TRUE(b.host_network && b.ready && !b.stopped);
        ASSERT_STREQ(b.image_digest, "sha256:x");
        ASSERT_STREQ(b.unit, "u.service");
        ASSERT_TRUE(!b.address);
        ASSERT_TRUE(unlink(path) >= 0);
}

static void test_record_that_is_none(void **state) {
        static const char *const texts[] = { "", "{", "[]", "{\"generation\":\"1\"}", "{\"generation\":1}",
                "{\"number\":-1}" };
        char path[] = "/tmp/test-record.XXXXXX";
        InstanceRecord r;
        int fd = mkstemp(path);

        ASSERT_TRUE(fd >= 0);
        close(fd);
        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                ASSERT_OK(write_file_atomic(path, texts[i], strlen(texts[i]), 0600));
                ASSERT_ERROR(instance_record_load(path, &r), EBADMSG);
        }
        ASSERT_TRUE(unlink(path) >= 0);
        ASSERT_EQ(instance_record_load(path, &r), 0);
}

KONTENA_TESTS(cmocka_unit_test(test_what_is_made_of_it),
                cmocka_unit_test(test_second_slot_and_what_goes_with_it),
                cmocka_unit_test(test_refusals_name_the_field),
                cmocka_unit_test(test_host_network_needs_no_address),
                cmocka_unit_test(test_ids_that_would_lead_astray),
                cmocka_unit_test(test_record_comes_back_whole), cmocka_unit_test(test_record_that_is_none))
