/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "table.h"

#include <stdlib.h>

#include "file-util.h"
#include "json-util.h"
#include "string-util.h"
#include "test.h"

static const TableColumn columns[] = {
        { .title = "NAME", .key = "name", .shrink = 6 },
        { .title = "COUNT", .key = "count", .right = true },
        { .title = "MEMORY", .key = "memory", .format = format_bytes, .right = true },
        { .title = "LABELS", .key = "labels", .shrink = 4 },
        { .title = "EXTRA", .key = "extra", .extra = true },
        {},
};

static const char rows_text[] = "[{\"name\":\"a\",\"count\":1,\"memory\":1536,\"labels\":[\"x\",\"y=z\"]},"
                                "{\"name\":\"日本の長い名前\",\"count\":1000,\"labels\":[],\"extra\":true},"
                                "{\"name\":\"evil\\u001b[31m\\nname\",\"count\":null,\"memory\":0}]";

static char *print(const char *json, const TableStyle *style) {
        _cleanup_json_ json_object *rows = NULL;
        char *text = NULL;
        size_t size;
        FILE *f;

        ASSERT_OK(json_parse(json, strlen(json), 65536, &rows, NULL));
        f = open_memstream(&text, &size);
        ASSERT_TRUE(f);
        ASSERT_OK(table_print(f, columns, rows, style));
        (void) fclose(f);
        return text;
}

static void test_table_columns_line_up(void **state) {
        const TableStyle style = { .legend = true, .width = 200 };
        _cleanup_free_ char *text = print(rows_text, &style);

        ASSERT_STREQ(text, "NAME                 COUNT MEMORY LABELS\n"
                           "a                        1   1.5K x, y=z\n"
                           "日本の長い名前        1000      - -\n"
                           "evil\\x1b[31m\\x0aname     -      - -\n");
}

static void test_table_is_cut_to_the_line(void **state) {
        const TableStyle narrow = { .legend = true, .width = 30 }, tiny = { .legend = true, .width = 1 };
        _cleanup_free_ char *text = print(rows_text, &narrow), *smallest = print(rows_text, &tiny);

        for (const char *p = text; *p;) {
                _cleanup_free_ char *line = strndup(p, strcspn(p, "\n"));

                ASSERT_TRUE(text_width(line) <= 30);
                p += strcspn(p, "\n") + 1;
        }
        ASSERT_TRUE(strstr(text, "…"));

        /* Columns that must not be cut are not, whatever the width. */
        ASSERT_TRUE(strstr(smallest, "1000"));
        ASSERT_TRUE(strstr(smallest, "1.5K"));
}

static void test_table_full_and_quiet(void **state) {
        const TableStyle full = { .full = true, .width = 10 },
                         quiet = { .legend = true, .quiet = true, .width = 200 };
        _cleanup_free_ char *all = print(rows_text, &full), *names = print(rows_text, &quiet);

        ASSERT_TRUE(!strstr(all, "NAME"));
        ASSERT_TRUE(strstr(all, "日本の長い名前"));
        ASSERT_TRUE(strstr(all, "true\n"));
        ASSERT_STREQ(names, "a\n日本の長い名前\nevil\\x1b[31m\\x0aname\n");
}

static void test_record_leaves_out_what_is_empty(void **state) {
        _cleanup_json_ json_object *record = NULL;
        const char json[] = "{\"name\":\"a\",\"count\":3,\"labels\":[]}";
        char *text = NULL;
        size_t size;
        FILE *f;

        ASSERT_OK(json_parse(json, strlen(json), 65536, &record, NULL));
        f = open_memstream(&text, &size);
        ASSERT_OK(table_print_record(f, columns, record));
        (void) fclose(f);
        ASSERT_STREQ(text, "  NAME: a\n COUNT: 3\n");
        free(text);
}

static void test_relative_time(void **state) {
        static const struct {
                uint64_t ago_sec;
                const char *text;
        } table[] = {
                { 0, "now" },
                { 1, "1s ago" },
                { 59, "59s ago" },
                { 60, "1min ago" },
                { 3599, "59min ago" },
                { 3600, "1h ago" },
                { 86400, "1 day ago" },
                { 2 * 86400, "2 days ago" },
                { 7 * 86400, "1 week ago" },
                { 40 * 86400, "1 month ago" },
                { 800 * 86400, "2 years ago" },
        };
        uint64_t now = UINT64_C(1764063000) * USEC_PER_SEC;
        char buffer[TIME_TEXT_MAX];

        FOREACH_ARRAY(t, table, ELEMENTSOF(table))
                ASSERT_STREQ(relative_time_to_text(now - t->ago_sec * USEC_PER_SEC, now, buffer), t->text);
        ASSERT_STREQ(relative_time_to_text(now + 90 * USEC_PER_SEC, now, buffer), "1min left");
}

static void test_bytes(void **state) {
        static const struct {
                uint64_t bytes;
                const char *text;
        } table[] = {
                { 0, "0B" },
                { 1023, "1023B" },
                { 1024, "1K" },
                { 1536, "1.5K" },
                { 1024 * 1024 - 1, "1M" },
                { UINT64_C(4) << 30, "4G" },
                { UINT64_MAX, "16E" },
        };
        char buffer[TIME_TEXT_MAX];

        FOREACH_ARRAY(t, table, ELEMENTSOF(table))
                ASSERT_STREQ(bytes_to_text(t->bytes, buffer), t->text);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_table_columns_line_up),
                cmocka_unit_test(test_table_is_cut_to_the_line),
                cmocka_unit_test(test_table_full_and_quiet),
                cmocka_unit_test(test_record_leaves_out_what_is_empty),
                cmocka_unit_test(test_relative_time),
                cmocka_unit_test(test_bytes),
        };

        terminal_set_colors(false);
        terminal_set_utf8(true);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
