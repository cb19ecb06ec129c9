/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "log-stream.h"
#include "runtime.h"
#include "string-util.h"
#include "user-lookup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Texts that an image or a container brings: passwd and group, the runtime's log, lines of output. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static const char *const users[] = { "root", "app", "1000", "app:extra", "0:7", "" };
        _cleanup_free_ char *text = NULL, *line = NULL, *message = NULL;
        const char *group;

        text = malloc(size + 1);
        if (!text)
                return 0;
        memcpy(text, data, size);
        text[size] = '\0';
        group = text + strlen(text) < text + size ? text + strlen(text) + 1 : NULL;

        for (size_t i = 0; i < ELEMENTSOF(users); i++) {
                _cleanup_(user_identity_done) UserIdentity u = {};

                if (user_lookup_text(text, group, users[i], &u, NULL) >= 0)
                        assert(u.uid != (uid_t) -1 && u.gid != (gid_t) -1);
        }

        line = log_text_sanitize((const char *) data, size);
        assert(!line || utf8_is_valid(line, strlen(line)));
        message = runtime_log_message((const char *) data, size);
        assert(!message || !strchr(message, '\n'));

        return 0;
}
