/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "notify-socket.h"
#include "string-util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What a container sends to its NOTIFY_SOCKET: whatever it is, only what can be shown is taken. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        NotifyMessage m = {};
        bool useful;

        useful = notify_message_parse((const char *) data, size, &m);
        assert(!useful || m.ready || m.status[0]);
        assert(strlen(m.status) <= NOTIFY_STATUS_MAX);
        assert(string_is_printable(m.status));
        return 0;
}
