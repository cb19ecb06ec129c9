/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test.h"

#include "json-path.h"
#include "json-util.h"
#include "string-util.h"

static const char user[] =
                "{\"data\": {\"id\": 77, \"profile\": {\"login\": \"anna\", \"id\": 5, \"empty\": \"\"}}, "
                "\"emails\": [\"a@example.org\", \"b@example.org\"], \"list\": [{\"n\": 1}, {\"n\": 2}], "
                "\"email_verified\": false, \"nothing\": null, \"id-2\": \"x\"}";

static void test_paths(void **state) {
        static const struct {
                const char *paths, *found;
        } table[] = {
                { "$..id", "77" },
                { "$.data.id", "77" },
                { "$.data.profile.id", "5" },
                { "$.id", NULL },
                { "$..username;$..login", "anna" },
                { "$..email;$..emails;$..primary_email", "a@example.org" },
                { "$..uid,$..id", "77" },
                { "$..uid ; $..login", "anna" },
                { "$.emails[1]", "b@example.org" },
                { "$.emails[2]", NULL },
                { "$.list[1].n", "2" },
                { "$..n", "1" },
                { "$.list", NULL },
                { "$.data", NULL },
                { "$..profile.login", "anna" },
                { "$..profile..id", "5" },
                { "$..empty", NULL },
                { "$..nothing", NULL },
                { "$..email_verified", "false" },
                { "$.id-2", "x" },
                { "", NULL },
                { ";", NULL },
        };
        _cleanup_json_ json_object *o = NULL;

        ASSERT_OK(json_parse(user, strlen(user), sizeof(user), &o, NULL));
        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_free_ char *s = NULL;
                int r = json_path_find(o, t->paths, &s, NULL);

                if (r != (t->found ? 1 : 0) || !streq_ptr(s, t->found))
                        fail_msg("%s: %i %s", t->paths, r, strnull(s));
        }
}

static void test_what_is_no_path_is_refused(void **state) {
        static const char *const bad[] = { "id", "$", "$.", "$..", "$...id", "$.a.", "$[", "$[]", "$[x]",
                "$[-1]", "$.a[0", "$.a b", "$.*", "$..id;x", "$.a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q", NULL };
        _cleanup_json_ json_object *o = json_object_new_object();

        for (const char *const *s = bad; *s; s++) {
                _cleanup_free_ char *found = NULL;
                _cleanup_kerror_ KError e = KERROR_NULL;

                if (streq(*s, "$.a b")) { /* what is behind a space is left out */
                        ASSERT_EQ(json_path_find(o, *s, &found, &e), 0);
                        continue;
                }
                if (json_path_find(o, *s, &found, &e) != -EINVAL)
                        fail_msg("%s is a path", *s);
        }
}

/* Each further step at any depth multiplies the work: it ends all the same. */
static void test_search_is_bounded(void **state) {
        _cleanup_json_ json_object *o = NULL;
        _cleanup_free_ char *found = NULL, *text = strdup("1");

        for (unsigned i = 0; i < 28; i++) {
                char *more = strprintf("{\"a\":%s,\"c\":{\"a\":1}}", text);

                free(text);
                text = more;
        }
        ASSERT_OK(json_parse(text, strlen(text), strlen(text), &o, NULL));
        ASSERT_EQ(json_path_find(o, "$..a..a..a..a..a..a..a..a..a..a..a..a..x", &found, NULL), 0);
}

KONTENA_TESTS(cmocka_unit_test(test_paths), cmocka_unit_test(test_what_is_no_path_is_refused),
                cmocka_unit_test(test_search_is_bounded))
