/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "image-reference.h"
#include "pull-answer.h"
#include "string-util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What a kontena-pull that a registry has taken over may say. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_pull_answer_ PullAnswer a = {};

        if (pull_answer_parse((const char *) data, size, &a) < 0) {
                assert(!a.digest && !kerror_is_set(&a.error)); /* written only on success */
                return 0;
        }

        assert(a.kind >= 0 && a.kind < _PULL_ANSWER_KIND_MAX);
        assert((a.kind == PULL_ANSWER_RESULT) == (a.digest && digest_hex(a.digest)));
        assert((a.kind == PULL_ANSWER_ERROR) == kerror_is_set(&a.error));
        if (kerror_is_set(&a.error))
                assert(string_is_printable(kerror_message(&a.error)) &&
                                strlen(kerror_message(&a.error)) <= 1024);
        return 0;
}
