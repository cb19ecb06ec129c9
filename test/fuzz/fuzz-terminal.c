/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "string-util.h"
#include "terminal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* In two pieces, NUL bytes and all, it is the same as in one. */
static void escape_in_pieces(const uint8_t *data, size_t size, size_t cut) {
        _cleanup_free_ char *one = malloc(TEXT_ESCAPED_SIZE(size) * 2),
                            *two = malloc(TEXT_ESCAPED_SIZE(size) * 2);
        TextEscaper e = {};
        size_t n, k;

        if (!one || !two)
                return;
        cut = MIN(cut, size);
        n = text_escaper_feed(&e, data, size, one);
        assert(n <= TEXT_ESCAPED_SIZE(size));
        n += text_escaper_end(&e, one + n);
        k = text_escaper_feed(&e, data, cut, two);
        k += text_escaper_feed(&e, data + cut, size - cut, two + k);
        k += text_escaper_end(&e, two + k);
        assert(n == k && memcmp(one, two, n) == 0 && utf8_is_valid(one, n));
        for (size_t i = 0; i < n; i++)
                assert((one[i] & 0xe0) != 0 || one[i] == '\n');
}

/* What a container writes, on its way to somebody's terminal. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_free_ char *text = NULL, *line = NULL, *lines = NULL, *cut = NULL;
        size_t width;

        if (size == 0)
                return 0;
        terminal_set_utf8(data[0] & 1);
        width = data[0] >> 1;
        escape_in_pieces(data + 1, size - 1, width);
        text = strndup((const char *) data + 1, size - 1);
        line = text ? text_escape(text, /* keep_newlines= */ false) : NULL;
        lines = text ? text_escape(text, /* keep_newlines= */ true) : NULL;
        cut = line ? text_ellipsize(line, width) : NULL;
        if (!cut || !lines)
                return 0;

        assert(utf8_is_valid(line, strlen(line)));
        for (const char *p = line; *p; p++)
                assert((unsigned char) *p >= 0x20 && *p != 0x7f);
        for (const char *p = lines; *p; p++)
                assert(((unsigned char) *p >= 0x20 && *p != 0x7f) || *p == '\n');
        assert(!strstr(line, "\xc2\x9b")); /* CSI in one character */
        assert(text_width(cut) <= width);
        return 0;
}
