/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "desired.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file-util.h"
#include "json-util.h"
#include "string-util.h"
#include "test.h"

static const char empty_text[] = "{\"node\":{},\"grid\":{},\"peers\":{},\"names\":{},\"instances\":{}}";

typedef struct Fixture {
        char directory[32];
        char *path;
        Desired *d;
} Fixture;

static void setup(Fixture *f) {
        strncpy(f->directory, "/tmp/test-desired.XXXXXX", sizeof(f->directory));
        ASSERT_TRUE(mkdtemp(f->directory));
        f->path = strjoin(f->directory, "/desired.json");
        ASSERT_OK(desired_new(f->path, &f->d));
}

static void teardown(Fixture *f) {
        desired_free(f->d);
        free(f->path);
        ASSERT_OK(rm_rf_at(AT_FDCWD, f->directory));
}

static json_object *object(const char *text) {
        json_object *o = NULL;

        ASSERT_OK(json_parse(text, strlen(text), 1024 * 1024, &o, NULL));
        return o;
}

static void replace(Desired *d, uint64_t epoch, const char *text) {
        _cleanup_json_ json_object *o = object(text);

        ASSERT_OK(desired_replace(d, epoch, o, NULL));
}

static int update(Desired *d, const char *text) {
        _cleanup_json_ json_object *o = object(text);

        return desired_update(d, o, NULL);
}

static void test_missing_file_is_no_state(void **state) {
        Fixture f;

        setup(&f);
        ASSERT_EQ(desired_load(f.d, NULL), 0);
        ASSERT_FALSE(desired_is_complete(f.d));
        ASSERT_TRUE(!desired_section(f.d, "instances"));
        teardown(&f);
}

static void test_saved_state_comes_back(void **state) {
        Desired *again;
        Fixture f;

        setup(&f);
        replace(f.d, 77,
                        "{\"node\":{},\"grid\":{\"name\":\"g\"},\"peers\":{},\"names\":{},\"instances\":{"
                        "\"a\":{\"number\":1}}}");
        ASSERT_FALSE(desired_is_saved(f.d));
        ASSERT_OK(desired_save(f.d, NULL));
        ASSERT_TRUE(desired_is_saved(f.d));

        ASSERT_OK(desired_new(f.path, &again));
        ASSERT_EQ(desired_load(again, NULL), 1);
        ASSERT_EQ(desired_epoch(again), 77);
        ASSERT_TRUE(json_object_object_get_ex(desired_section(again, "instances"), "a", NULL));
        desired_free(again);
        teardown(&f);
}

static void test_corrupt_file_is_put_aside(void **state) {
        static const char *const texts[] = {
                "{\"version\":1,\"desired\":{\"node\":{},",
                "",
                "[]",
                "{\"version\":2,\"desired\":{\"node\":{},\"grid\":{},\"peers\":{},\"names\":{},"
                "\"instances\":{}}}",
                "{\"version\":1,\"desired\":{\"node\":{},\"grid\":{},\"peers\":{},\"names\":{}}}",
                "{\"version\":1,\"desired\":{\"node\":{},\"grid\":{},\"peers\":{},\"names\":{},"
                "\"instances\":{\"../x\":{}}}}",
        };

        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                _cleanup_kerror_ KError e = KERROR_NULL;
                _cleanup_free_ char *aside = NULL;
                Fixture f;

                setup(&f);
                aside = strjoin(f.path, ".corrupt");
                ASSERT_OK(write_file_atomic(f.path, texts[i], strlen(texts[i]), 0600));
                ASSERT_ERROR(desired_load(f.d, &e), EBADMSG);
                ASSERT_TRUE(strstr(kerror_message(&e), "corrupt"));
                ASSERT_FALSE(desired_is_complete(f.d));
                ASSERT_TRUE(access(aside, F_OK) >= 0);
                ASSERT_TRUE(access(f.path, F_OK) < 0);
                teardown(&f);
        }
}

static void test_incomplete_state_is_refused(void **state) {
        Fixture f;

        setup(&f);
        replace(f.d, 1, "{\"node\":{},\"grid\":{},\"peers\":{},\"names\":{},\"instances\":{\"a\":{}}}");
        {
                _cleanup_json_ json_object *o = object(
                                "{\"node\":{},\"grid\":{},\"peers\":{},\"names\":{}}");

                ASSERT_ERROR(desired_replace(f.d, 2, o, NULL), EINVAL);
        }
        /* What was known is still known. */
        ASSERT_EQ(desired_epoch(f.d), 1);
        ASSERT_TRUE(json_object_object_get_ex(desired_section(f.d, "instances"), "a", NULL));
        teardown(&f);
}

static void test_updates_in_order(void **state) {
        Fixture f;

        setup(&f);
        replace(f.d, 5, empty_text);
        ASSERT_EQ(update(f.d, "{\"epoch\":5,\"seq\":1,\"set\":{\"instances\":{\"a\":{\"number\":1},\"b\":{"
                              "\"number\":2}}}}"),
                        DESIRED_APPLIED);
        ASSERT_EQ(update(f.d, "{\"epoch\":5,\"seq\":2,\"set\":{\"grid\":{\"name\":\"g\"},\"names\":{\"n\":["
                              "\"10.0.0.1\"]}},"
                              "\"remove\":{\"instances\":[\"a\",\"unknown\"]}}"),
                        DESIRED_APPLIED);
        ASSERT_FALSE(json_object_object_get_ex(desired_section(f.d, "instances"), "a", NULL));
        ASSERT_TRUE(json_object_object_get_ex(desired_section(f.d, "instances"), "b", NULL));
        ASSERT_TRUE(json_object_object_get_ex(desired_section(f.d, "names"), "n", NULL));
        ASSERT_STREQ(json_object_get_string(json_object_object_get(desired_section(f.d, "grid"), "name")),
                        "g");
        teardown(&f);
}

static void test_gap_is_noticed(void **state) {
        Fixture f;

        setup(&f);
        replace(f.d, 5, empty_text);
        ASSERT_EQ(update(f.d, "{\"epoch\":5,\"seq\":2,\"set\":{\"instances\":{\"a\":{}}}}"), DESIRED_GAP);
        ASSERT_FALSE(json_object_object_get_ex(desired_section(f.d, "instances"), "a", NULL));
        teardown(&f);
}

static void test_other_epoch_and_repetition_are_ignored(void **state) {
        Fixture f;

        setup(&f);
        ASSERT_EQ(update(f.d, "{\"epoch\":5,\"seq\":1}"), DESIRED_IGNORED); /* no state yet */
        replace(f.d, 5, empty_text);
        ASSERT_EQ(update(f.d, "{\"epoch\":4,\"seq\":1,\"set\":{\"instances\":{\"a\":{}}}}"),
                        DESIRED_IGNORED);
        ASSERT_EQ(update(f.d, "{\"epoch\":5,\"seq\":1,\"set\":{\"instances\":{\"a\":{}}}}"),
                        DESIRED_APPLIED);
        ASSERT_EQ(update(f.d, "{\"epoch\":5,\"seq\":1,\"remove\":{\"instances\":[\"a\"]}}"),
                        DESIRED_IGNORED);
        ASSERT_TRUE(json_object_object_get_ex(desired_section(f.d, "instances"), "a", NULL));
        teardown(&f);
}

static void test_malformed_update_changes_nothing(void **state) {
        static const char *const texts[] = {
                "{\"epoch\":5}",
                "{\"epoch\":5,\"seq\":1,\"set\":{\"instances\":{\"ok\":{}},\"passwords\":{}}}",
                "{\"epoch\":5,\"seq\":1,\"set\":{\"instances\":{\"../x\":{}}}}",
                "{\"epoch\":5,\"seq\":1,\"set\":{\"instances\":[]}}",
                "{\"epoch\":5,\"seq\":1,\"set\":{\"instances\":{\"ok\":{}}},\"remove\":{\"node\":[]}}",
                "{\"epoch\":5,\"seq\":1,\"set\":{\"instances\":{\"ok\":{}}},\"remove\":{\"names\":[1]}}",
        };
        Fixture f;

        setup(&f);
        replace(f.d, 5, empty_text);
        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                ASSERT_ERROR(update(f.d, texts[i]), EINVAL);
                ASSERT_FALSE(json_object_object_get_ex(desired_section(f.d, "instances"), "ok", NULL));
        }
        /* The number is still free. */
        ASSERT_EQ(update(f.d, "{\"epoch\":5,\"seq\":1}"), DESIRED_APPLIED);
        teardown(&f);
}

static void test_unwritable_directory_is_an_error(void **state) {
        _cleanup_kerror_ KError e = KERROR_NULL;
        Desired *d;

        ASSERT_OK(desired_new("/proc/nowhere/desired.json", &d));
        replace(d, 1, empty_text);
        ASSERT_TRUE(desired_save(d, &e) < 0);
        ASSERT_TRUE(kerror_is_set(&e));
        ASSERT_FALSE(desired_is_saved(d));
        desired_free(d);
}

static void test_cleared_state_is_gone_from_the_disk(void **state) {
        Fixture f;

        setup(&f);
        replace(f.d, 1, empty_text);
        ASSERT_OK(desired_save(f.d, NULL));
        ASSERT_OK(desired_clear(f.d));
        ASSERT_FALSE(desired_is_complete(f.d));
        ASSERT_TRUE(access(f.path, F_OK) < 0);
        ASSERT_OK(desired_save(f.d, NULL));
        ASSERT_EQ(desired_load(f.d, NULL), 0);
        ASSERT_OK(desired_clear(f.d));
        teardown(&f);
}

KONTENA_TESTS(cmocka_unit_test(test_missing_file_is_no_state), cmocka_unit_test(test_saved_state_comes_back),
                cmocka_unit_test(test_corrupt_file_is_put_aside),
                cmocka_unit_test(test_incomplete_state_is_refused), cmocka_unit_test(test_updates_in_order),
                cmocka_unit_test(test_gap_is_noticed),
                cmocka_unit_test(test_other_epoch_and_repetition_are_ignored),
                cmocka_unit_test(test_malformed_update_changes_nothing),
                cmocka_unit_test(test_unwritable_directory_is_an_error),
                cmocka_unit_test(test_cleared_state_is_gone_from_the_disk))
