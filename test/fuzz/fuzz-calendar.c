/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "calendar.h"

#include "file-util.h"
#include "string-util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What systemd-analyze answers about a schedule, which it repeats in its answer. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_free_ char *text = strndup((const char *) data, size);
        uint64_t next = 1;
        int r;

        if (!text)
                return 0;
        r = calendar_parse_answer(text, &next);
        assert(r == 0 || (r == -EBADMSG && next == 1));
        assert(r < 0 || next == USEC_INFINITY || next % USEC_PER_SEC == 0);
        return 0;
}
