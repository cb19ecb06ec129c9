/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "manifest.h"

#include "string-util.h"
#include "test.h"

#define HEX(c)                  "sha256:" c c c c c c c c
#define A                       HEX("aaaaaaaa")
#define B                       HEX("bbbbbbbb")
#define C                       HEX("cccccccc")

#define ENTRY(digest, platform) "{\"digest\":\"" digest "\",\"size\":5,\"platform\":{" platform "}}"
#define INDEX(entries)          "{\"schemaVersion\":2,\"manifests\":[" entries "]}"

static const Platform amd64 = { "amd64", NULL }, arm64 = { "arm64", "v8" }, arm7 = { "arm", "v7" },
                      arm6 = { "arm", "v6" };

static void test_manifest_chooses_the_best_variant(void **state) {
        static const char arms[] = INDEX(ENTRY(
                        A, "\"os\":\"linux\",\"architecture\":\"arm\",\"variant\":\"v6\"") "," ENTRY(B,
                        "\"os\":\"linux\",\"architecture\":\"arm\",\"variant\":\"v7\"") "," ENTRY(C,
                        "\"os\":\"linux\",\"architecture\":\"arm64\""));
        static const char levels[] = INDEX(
                        ENTRY(A, "\"os\":\"linux\",\"architecture\":\"amd64\",\"variant\":\"v3\"") "," ENTRY(
                                        B, "\"os\":\"windows\",\"architecture\":\"amd64\"") "," ENTRY(C,
                                        "\"os\":\"linux\",\"architecture\":\"amd64\""));
        const struct {
                const char *text;
                const Platform *platform;
                const char *digest;
        } table[] = { { arms, &arm7, B }, { arms, &arm6, A }, { arms, &arm64, C }, { levels, &amd64, C } };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_descriptor_ Descriptor d = {};
                _cleanup_manifest_ Manifest m = {};

                ASSERT_EQ(manifest_parse(t->text, strlen(t->text), NULL, t->platform, &m, &d, NULL), 1);
                ASSERT_STREQ(d.digest, t->digest);
        }
}

static void test_manifest_lists_what_there_is(void **state) {
        static const char text[] = INDEX(
                        ENTRY(A, "\"os\":\"linux\",\"architecture\":\"arm\",\"variant\":\"v7\"") "," ENTRY(
                                        B, "\"os\":\"windows\",\"architecture\":\"amd64\"") "," ENTRY(C,
                                        "\"os\":\"unknown\",\"architecture\":\"unknown\""));
        _cleanup_kerror_ KError e = KERROR_NULL;
        Descriptor d;
        Manifest m;

        ASSERT_ERROR(manifest_parse(text, strlen(text), NULL, &amd64, &m, &d, &e), EBADMSG);
        ASSERT_STREQ(kerror_message(&e),
                        "it has no manifest for linux/amd64, only for linux/arm/v7, windows/amd64.");
}

static void test_manifest_refuses(void **state) {
        static const struct {
                const char *text, *content_type, *part;
        } table[] = {
                { "", NULL, "malformed" },
                { "<html>", "text/html", "malformed" },
                { "[]", NULL, "malformed" },
                { "{}", NULL, "unknown schema 0" },
                { "{\"schemaVersion\":1}", NULL, "schema 1" },
                { "{\"schemaVersion\":\"2\"}", NULL, "malformed" },
                { "{\"schemaVersion\":2}", "text/plain", "'text/plain' where a manifest" },
                { "{\"schemaVersion\":2,\"layers\":[]}", NULL, "'config' is missing" },
                { "{\"schemaVersion\":2,\"layers\":[],\"manifests\":[]}", NULL, "index at the same time" },
                { "{\"schemaVersion\":2,\"manifests\":{}}", NULL, "must be a list" },
                { "{\"schemaVersion\":2,\"manifests\":[1]}", NULL, "index is malformed" },
                { "{\"schemaVersion\":2,\"manifests\":[]}", NULL, "only for nothing" },
                { "{\"schemaVersion\":2,\"config\":{\"digest\":\"x\",\"size\":1},\"layers\":[]}", NULL,
                                "not a digest" },
                { "{\"schemaVersion\":2,\"config\":{\"digest\":\"" A "\",\"size\":-1},\"layers\":[]}", NULL,
                                "negative" },
                { "{\"schemaVersion\":2,\"config\":{\"digest\":\"" A "\",\"size\":5000000},\"layers\":[]}",
                                NULL, "larger" },
                { "{\"schemaVersion\":2,\"config\":{\"digest\":\"" A
                  "\",\"size\":1},\"layers\":[{\"digest\":\"" B "\",\"size\":200000000000},{\"digest\":\"" B
                  "\",\"size\":200000000000}]}",
                                NULL, "larger" },
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_kerror_ KError e = KERROR_NULL;
                _cleanup_descriptor_ Descriptor d = {};
                _cleanup_manifest_ Manifest m = {};

                if (manifest_parse(t->text, strlen(t->text), t->content_type, &amd64, &m, &d, &e) >= 0)
                        fail_msg("%s was accepted", t->text);
                if (!strstr(kerror_message(&e), t->part))
                        fail_msg("%s: '%s' does not speak of '%s'", t->text, kerror_message(&e), t->part);
        }
}

static void test_config_refuses(void **state) {
        static const struct {
                const char *text, *part;
        } table[] = {
                { "{}", "'rootfs' is missing" },
                { "{\"rootfs\":{}}", "it names 0 layers" },
                { "{\"rootfs\":{\"diff_ids\":[\"" A "\"]},\"architecture\":\"arm\"}", "only for linux/arm" },
                { "{\"rootfs\":{\"diff_ids\":[\"md5:1\"]}}", "not a digest" },
                { "{\"rootfs\":{\"diff_ids\":[\"" A "\"]},\"config\":{\"Env\":\"A=b\"}}", "'Env' must be" },
                { "{\"rootfs\":{\"diff_ids\":[\"" A "\"]},\"config\":{\"Env\":[1]}}", "'Env' must be" },
                { "{\"rootfs\":{\"diff_ids\":[\"" A "\"]},\"config\":{\"WorkingDir\":\"w\"}}",
                                "not absolute" },
                { "{\"rootfs\":{\"diff_ids\":[\"" A "\"]},\"config\":{\"Volumes\":{\"v\":{}}}}",
                                "not absolute" },
                { "{\"rootfs\":{\"diff_ids\":[\"" A "\"]},\"config\":{\"User\":\"a\\nb\"}}", "control" },
                { "{\"rootfs\":{\"diff_ids\":[\"" A "\"]},\"config\":{\"Labels\":{\"a\":1}}}", "strings" },
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_kerror_ KError e = KERROR_NULL;
                _cleanup_image_config_ ImageConfig c = {};

                if (image_config_parse(t->text, strlen(t->text), 1, &amd64, &c, &e) >= 0)
                        fail_msg("%s was accepted", t->text);
                if (!strstr(kerror_message(&e), t->part))
                        fail_msg("%s: '%s' does not speak of '%s'", t->text, kerror_message(&e), t->part);
        }
}

static void test_config_takes_null_for_nothing(void **state) {
        static const char text
                        [] = "{\"architecture\":\"amd64\",\"rootfs\":{\"diff_ids\":[]},\"config\":{\"Env\":"
                             "null,\"Cmd\":null,"
                             "\"Volumes\":null,\"Labels\":{\"a\":null},\"User\":\"\",\"WorkingDir\":\"\"}}";
        _cleanup_image_config_ ImageConfig c = {};

        ASSERT_OK(image_config_parse(text, strlen(text), 0, &amd64, &c, NULL));
        ASSERT_TRUE(!c.env && !c.cmd && !c.volumes && !c.user && !c.working_directory);
        ASSERT_STREQ(c.labels[0], "a=");
}

KONTENA_TESTS(cmocka_unit_test(test_manifest_chooses_the_best_variant),
                cmocka_unit_test(test_manifest_lists_what_there_is), cmocka_unit_test(test_manifest_refuses),
                cmocka_unit_test(test_config_refuses), cmocka_unit_test(test_config_takes_null_for_nothing))
