/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "pull-answer.h"

#include "image-reference.h"
#include "json-util.h"
#include "string-util.h"

void pull_answer_done(PullAnswer *a) {
        free(a->digest);
        kerror_done(&a->error);
        *a = (PullAnswer){};
}

static int parse_progress(json_object *o, PullAnswer *ret) {
        const char *phase = "";
        int r;

        r = json_get_u64(o, "bytes", &ret->bytes, NULL);
        if (r >= 0)
                r = json_get_u64(o, "total", &ret->total, NULL);
        if (r >= 0)
                r = json_find_string(o, "phase", &phase, NULL);
        if (r < 0)
                return r;

        ret->kind = PULL_ANSWER_PROGRESS;
        ret->waiting = streq(phase, "waiting");
        ret->unpacking = streq(phase, "unpacking");
        return 0;
}

static int parse_result(json_object *o, PullAnswer *ret) {
        const char *digest;
        int r;

        r = json_get_string(o, "digest", &digest, NULL);
        if (r < 0)
                return r;
        if (!digest_hex(digest))
                return -EBADMSG;

        ret->kind = PULL_ANSWER_RESULT;
        ret->digest = strdup(digest);
        return ret->digest ? 0 : -ENOMEM;
}

static int parse_error(json_object *o, PullAnswer *ret) {
        const char *code, *message;
        int r;

        r = json_get_string(o, "code", &code, NULL);
        if (r >= 0)
                r = json_get_string(o, "message", &message, NULL);
        if (r >= 0)
                r = json_find_bool(o, "unreachable", &ret->unreachable, NULL);
        if (r < 0)
                return r;

        ret->kind = PULL_ANSWER_ERROR;
        (void) kerror_set_said(&ret->error, code, K_IMAGE, message);
        return 0;
}

int pull_answer_parse(const char *line, size_t n, PullAnswer *ret) {
        static const struct {
                const char *key;
                int (*parse)(json_object *o, PullAnswer *ret);
        } kinds[] = {
                { "progress", parse_progress },
                { "result", parse_result },
                { "error", parse_error },
        };
        _cleanup_json_ json_object *o = NULL;
        _cleanup_pull_answer_ PullAnswer a = {};
        json_object *part;
        int r;

        r = json_parse(line, n, PULL_ANSWER_SIZE_MAX, &o, NULL);
        if (r < 0)
                return r;
        for (size_t i = 0; i < ELEMENTSOF(kinds); i++) {
                r = json_find_object(o, kinds[i].key, &part, NULL);
                if (r < 0)
                        return r;
                if (r == 0)
                        continue;
                r = kinds[i].parse(part, &a);
                if (r < 0)
                        return r;
                *ret = TAKE_GENERIC(a, (PullAnswer){});
                return 0;
        }

        return -EBADMSG;
}
