/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "json-util.h"
#include "kontena-limits.h"
#include "rest-field.h"
#include "rest-form.h"
#include "rest-limit.h"
#include "rest.h"
#include "string-util.h"
#include "uri.h"

/* What clients of the API send: forms and queries, bodies against fields, times, escaped paths. */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const RestField inner[] = {
        { .name = "server", .type = REST_STRING, .flags = REST_REQUIRED, .min = 2, .max = 20 },
        { .name = "port", .type = REST_INTEGER, .min = 1, .max = 65535 },
        {},
};
static const char *const options[] = { "a", "b", NULL };
static const RestField fields[] = {
        { .name = "s",
                        .type = REST_STRING,
                        .flags = REST_REQUIRED,
                        .pattern = "^[a-z0-9_-]+$",
                        .min = 1,
                        .max = 64 },
        { .name = "v", .type = REST_STRING, .flags = REST_VERBATIM | REST_EMPTY },
        { .name = "i", .type = REST_INTEGER, .min = -5, .max = 5 },
        { .name = "n", .type = REST_NUMBER, .max = 100 },
        { .name = "b", .type = REST_BOOLEAN },
        { .name = "l", .type = REST_ARRAY, .element = REST_STRING, .pattern = "^[^=]+=", .max = 16 },
        { .name = "k", .type = REST_ARRAY, .element = REST_OBJECT, .fields = inner },
        { .name = "o", .type = REST_OBJECT, .fields = inner, .flags = REST_NULLABLE },
        { .name = "x", .type = REST_STRING, .options = options },
        { .name = "y", .type = REST_ANY },
        {},
};

static void fuzz_body(const char *text, size_t size) {
        _cleanup_json_ json_object *o = NULL, *checked = NULL, *again = NULL;

        if (json_parse(text, size, LISTENER_BODY_SIZE_MAX, &o, NULL) < 0 ||
                        !json_object_is_type(o, json_type_object))
                return;
        if (rest_fields_check(fields, o, &checked) != 0)
                return;
        /* What fits fits again, and stays what it is. */
        assert(rest_fields_check(fields, checked, &again) == 0);
        assert(streq(json_text(checked), json_text(again)));
}

static void fuzz_form(const char *text, size_t size) {
        _cleanup_json_ json_object *o = NULL;

        if (rest_form_parse(text, size, &o, NULL) < 0)
                return;
        json_object_object_foreach(o, name, value) {
                _cleanup_free_ char *escaped = uri_escape(json_object_get_string(value)), *back = NULL;

                assert(escaped && uri_unescape(escaped, strlen(escaped), true, &back) >= 0);
                assert(streq(back, json_object_get_string(value)));
                assert(utf8_is_valid(name, strlen(name)));
        }
}

static void fuzz_words(const char *text) {
        _cleanup_free_ char *formatted = NULL, *address = rest_limit_address(text),
                            *title = rest_field_title(text);
        uint64_t usec, again;

        assert(address && title && strlen(title) == strlen(text));
        if (rest_parse_time(text, &usec) < 0)
                return;
        formatted = rest_format_time(usec);
        assert(formatted && rest_parse_time(formatted, &again) >= 0 && again == usec - usec % 1000);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_free_ char *text = strndup((const char *) data, size);

        if (!text)
                return 0;
        fuzz_body((const char *) data, size);
        fuzz_form((const char *) data, size);
        fuzz_words(text);
        return 0;
}
