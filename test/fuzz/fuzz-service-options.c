/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "json-util.h"
#include "kontena-limits.h"
#include "port-option.h"
#include "service-options.h"
#include "string-util.h"
#include "when.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Values of options, and environment files that came from elsewhere. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_free_ char *text = strndup((const char *) data, size);
        _cleanup_strv_free_ char **words = NULL, **env = NULL;
        _cleanup_json_ json_object *ports = json_object_new_array(), *secret = NULL, *hook = NULL;
        HookStage stage;
        uint64_t usec;

        if (!text || !ports)
                return 0;

        if (command_line_split(text, &words, NULL) >= 0)
                STRV_FOREACH(w, words)
                        assert(strlen(*w) <= strlen(text));
        if (env_file_parse(text, &env, NULL) >= 0)
                STRV_FOREACH(e, env)
                        assert(strchr(*e, '=') > *e && !strchr(*e, '\n'));
        if (port_option_parse(text, ports, NULL) >= 0)
                assert(json_object_array_length(ports) > 0 && json_object_array_length(ports) <= PORTS_MAX);
        else
                assert(json_object_array_length(ports) == 0);
        if (secret_option_parse(text, &secret, NULL) >= 0)
                assert(json_object_object_length(secret) == 3);
        if (hook_option_parse(text, &stage, &hook, NULL) >= 0)
                assert(stage >= 0 && stage < _HOOK_STAGE_MAX && json_object_is_type(hook, json_type_object));
        (void) when_parse(text, UINT64_C(1764063000) * 1000000, &usec, NULL);
        return 0;
}
