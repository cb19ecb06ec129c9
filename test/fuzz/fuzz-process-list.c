/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "process-list.h"

#include "kontena-limits.h"
#include "runtime.h"
#include "string-util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What processes of a container call themselves, the names that its passwd gives, and what a runtime says of itself. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static const uid_t uids[] = { 0, 1000, 65534, 12345678 };
        _cleanup_free_ char *text = strndup((const char *) data, size), *command = NULL, *version = NULL;
        ProcessStat s = {};

        if (!text)
                return 0;
        if (process_stat_parse(text, &s) >= 0)
                assert(s.state != '\0' && strnlen(s.name, sizeof(s.name)) < sizeof(s.name));

        command = process_command_text((const char *) data, size);
        if (command) {
                assert(strlen(command) <= PROCESS_COMMAND_MAX && utf8_is_valid(command, strlen(command)));
                for (const char *p = command; *p; p++)
                        assert((unsigned char) *p >= ' ' && *p != '\x7f');
        }
        for (size_t i = 0; i < ELEMENTSOF(uids); i++) {
                _cleanup_free_ char *name = process_user_name(text, uids[i]);

                assert(!name || (name[0] && string_is_printable(name) && strlen(name) <= NAME_LENGTH_MAX));
        }
        version = runtime_version_parse(text);
        assert(!version || utf8_is_valid(version, strlen(version)));
        return 0;
}
