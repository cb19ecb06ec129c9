/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>

#include "kerror.h"

/* Whether a text is JSON to the letter (RFC 8259), which json-c alone does not say: it also takes single quotes, NaN,
 * Infinity, bare control characters and numbers that it then bends into its range. Demands valid UTF-8 as well, names
 * of fields without NUL, whole surrogate pairs, whole numbers from INT64_MIN to UINT64_MAX, at most depth_max levels.
 * *ret_fields: how many fields all objects of the text name together. */
int json_check(const char *text, size_t size, unsigned depth_max, size_t *ret_fields, KError *reterr);
