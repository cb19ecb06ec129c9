/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <strings.h>

#include "names.h"
#include "rest-exec-text.h"
#include "rest-render.h"
#include "rest-service-body.h"
#include "string-util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Names and ids in paths, durations, and the bytes of a stream that become strings of JSON. */

static void parse_names(const char *text) {
        _cleanup_free_ char *grid = NULL, *stack = NULL, *service = NULL, *of = NULL, *name = NULL,
                            *container = NULL;
        uint32_t number;

        if (service_reference_parse(text, &grid, &stack, &service, NULL) >= 0) {
                assert(service && (!grid || stack));
                assert(name_validate("service", service, NULL) >= 0);
        }
        if (rest_parse_container_name(text, &of, &name, &number) >= 0) {
                assert(number > 0 && name[0] && of[0]);
                container = instance_container_name(of, name, number);
                assert(container);
                /* "null.web-1" is another way to say "web-1". */
                assert(streq(container, text) || streq(of, STACK_NULL));
        }
}

static void parse_numbers(const char *text) {
        _cleanup_free_ char *id = NULL;
        uint64_t time, seconds;
        uint32_t order;

        if (rest_parse_log_id(text, &time, &order) >= 0) {
                id = rest_log_id(time, order);
                assert(id && strcasecmp(id, text) == 0);
        }
        if (rest_parse_grace_period(text, &seconds) >= 0)
                assert(seconds < UINT32_MAX);
}

static void take(json_object *o, char *buffer, size_t *n) {
        if (!o)
                return;
        memcpy(buffer + *n, json_object_get_string(o), (size_t) json_object_get_string_len(o));
        *n += (size_t) json_object_get_string_len(o);
        json_object_put(o);
}

/* However it is cut, the text is one. */
static void convert(const uint8_t *data, size_t size) {
        _cleanup_free_ char *whole = malloc(size * 3 + 1), *parts = malloc(size * 3 + 1);
        ExecText a = {}, b = {};
        size_t n = 0, m = 0;
        json_object *o = NULL;

        if (!whole || !parts)
                return;
        assert(exec_text_take(&a, data, size, true, &o) == 0);
        take(o, whole, &n);
        for (size_t i = 0; i < size; i++) {
                assert(exec_text_take(&b, data + i, 1, false, &o) == 0);
                take(o, parts, &m);
                assert(b.n_tail < sizeof(b.tail));
        }
        assert(exec_text_take(&b, NULL, 0, true, &o) == 0);
        take(o, parts, &m);
        whole[n] = '\0';
        assert(n == m && memcmp(whole, parts, n) == 0 && utf8_is_valid(whole, n));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_free_ char *text = strndup((const char *) data, size);

        if (!text)
                return 0;
        parse_names(text);
        parse_numbers(text);
        convert(data, size);
        return 0;
}
