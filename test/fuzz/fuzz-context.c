/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "context.h"
#include "login-callback.h"
#include "string-util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_contexts_ Contexts l = {}, again = {};
        _cleanup_free_ char *text = NULL, *code = NULL;
        bool other;

        if (login_callback_parse("/cb", (const char *) data, size, &code, &other, NULL) > 0)
                assert(code && code[0] && string_is_printable(code));

        if (contexts_parse((const char *) data, size, &l, NULL) < 0)
                return 0;
        /* What was read can be written and read again. */
        if (contexts_format(&l, &text) < 0 || contexts_parse(text, strlen(text), &again, NULL) < 0)
                abort();
        assert(l.n == again.n);
        return 0;
}
