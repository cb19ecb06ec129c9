/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "kerror.h"
#include "macro.h"

/* One line that kontena-pull writes. It handles what strangers send, so nothing that it says is believed unread. */
#define PULL_ANSWER_SIZE_MAX (128U * 1024U)

typedef enum PullAnswerKind {
        PULL_ANSWER_PROGRESS,
        PULL_ANSWER_RESULT,
        PULL_ANSWER_ERROR,
        _PULL_ANSWER_KIND_MAX,
        _PULL_ANSWER_KIND_INVALID = -EINVAL,
} PullAnswerKind;

typedef struct PullAnswer {
        PullAnswerKind kind;
        uint64_t bytes, total;   /* progress */
        bool waiting, unpacking; /* progress */
        char *digest;            /* result */
        KError error;            /* error */
        bool unreachable;        /* error: not the registry's word */
} PullAnswer;

int pull_answer_parse(const char *line, size_t n, PullAnswer *ret);
void pull_answer_done(PullAnswer *a);
#define _cleanup_pull_answer_ _cleanup_(pull_answer_done)
