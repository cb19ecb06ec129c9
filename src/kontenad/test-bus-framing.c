/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test.h"

#include "bus-framing.h"
#include "kontena-limits.h"

#define HELLO "\0AUTH ANONYMOUS\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n"

/* Little-endian, with so many bytes of fields and body. */
static size_t message(uint8_t *p, uint32_t fields, uint32_t body) {
        memcpy(p, "l\1\0\1", 4);
        memcpy(p + 4, &body, 4);
        memset(p + 8, 1, 4);
        memcpy(p + 12, &fields, 4);
        return 16 + (fields + 7) / 8 * 8 + body;
}

static void test_messages_are_found_in_any_portions(void **state) {
        static uint8_t data[4096];
        size_t n = sizeof(HELLO) - 1;

        memcpy(data, HELLO, n);
        n += message(data + n, 13, 5);
        n += message(data + n, 0, 0);
        n += message(data + n, 16, 300);
        for (size_t portion = 1; portion < n; portion++) {
                BusFraming f = {};

                for (size_t i = 0; i < n; i += portion)
                        ASSERT_OK(bus_framing_feed(&f, data + i, MIN(portion, n - i), NULL));
                ASSERT_TRUE(f.begun);
                ASSERT_EQ(f.left, 0);
                ASSERT_EQ(f.head_size, 0);
        }
}

static void test_big_endian_sizes_are_read_as_such(void **state) {
        BusFraming f = { .begun = true };

        ASSERT_OK(bus_framing_feed(&f, "B\1\0\1\0\0\1\2\0\0\0\1\0\0\0\11", 16, NULL));
        ASSERT_EQ(f.left, 0x102 + 16);
}

static void test_other_protocols_are_refused(void **state) {
        static const char *const wrong[] = { "GET / HTTP/1.1\r\n", "AUTH ANONYMOUS\r\n", "\x16\x03\x01" };

        FOREACH_ARRAY(w, wrong, ELEMENTSOF(wrong)) {
                _cleanup_kerror_ KError error = KERROR_NULL;
                BusFraming f = {};

                ASSERT_ERROR(bus_framing_feed(&f, *w, strlen(*w), &error), EBADMSG);
                ASSERT_TRUE(kerror_is_set(&error));
        }

        ASSERT_ERROR(bus_framing_feed(&(BusFraming){}, "\0AUTH\x80\r\n", 8, NULL), EBADMSG);
        ASSERT_ERROR(bus_framing_feed(&(BusFraming){ .begun = true }, "x\1\0\1\0\0\0\0\1\0\0\0\0\0\0\0", 16,
                                     NULL),
                        EBADMSG);
}

static void test_large_messages_are_refused_by_their_head(void **state) {
        static const struct {
                uint32_t fields, body;
                bool ok;
        } cases[] = {
                { 0, BUS_GUEST_MESSAGE_SIZE_MAX, true },
                { 0, BUS_GUEST_MESSAGE_SIZE_MAX + 1, false },
                { 65536, 0, true },
                { 65537, 0, false },
                { UINT32_MAX, UINT32_MAX, false },
        };

        FOREACH_ARRAY(c, cases, ELEMENTSOF(cases)) {
                BusFraming f = { .begun = true };
                uint8_t head[16];

                (void) message(head, c->fields, c->body);
                ASSERT_EQ(bus_framing_feed(&f, head, 16, NULL), c->ok ? 0 : -EBADMSG);
        }
}

static void test_endless_authentication_is_refused(void **state) {
        BusFraming f = {};
        int r = bus_framing_feed(&f, "", 1, NULL);

        for (unsigned i = 0; i < 100000 && r >= 0; i++)
                r = bus_framing_feed(&f, "AUTH\r\n", 6, NULL);
        ASSERT_ERROR(r, EBADMSG);
}

static void test_begin_is_a_line_of_its_own(void **state) {
        BusFraming f = {};

        ASSERT_OK(bus_framing_feed(&f, "\0XBEGIN\r\nBEGIN x\r\nBEGIN\n", 24, NULL));
        ASSERT_FALSE(f.begun);
        ASSERT_OK(bus_framing_feed(&f, "BEGIN\r\n", 7, NULL));
        ASSERT_TRUE(f.begun);
}

KONTENA_TESTS(cmocka_unit_test(test_messages_are_found_in_any_portions),
                cmocka_unit_test(test_big_endian_sizes_are_read_as_such),
                cmocka_unit_test(test_other_protocols_are_refused),
                cmocka_unit_test(test_large_messages_are_refused_by_their_head),
                cmocka_unit_test(test_endless_authentication_is_refused),
                cmocka_unit_test(test_begin_is_a_line_of_its_own))
