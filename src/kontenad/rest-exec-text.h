/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "macro.h"

/* Bytes of a stream as strings of JSON: a character that is cut in two waits for its rest, and what is none becomes U+FFFD. */
typedef struct ExecText {
        char tail[4];
        size_t n_tail;
} ExecText;

/* end: nothing more comes. *ret is NULL when there is nothing to tell yet. */
int exec_text_take(ExecText *t, const void *data, size_t size, bool end, json_object **ret);
