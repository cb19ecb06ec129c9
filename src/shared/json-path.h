/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "kerror.h"
#include "macro.h"

/* What a provider's answer is searched with: paths with ';' or ',' between them, of which the first that leads to something counts.
 *
 *   $.a.b     member b of member a         $.a[0]   first element
 *   $..name   the first member of that name, at any depth: those further up, and those before others, first
 *
 * Something is a string or number that is not empty, or true or false; of a list its first element. */

/* *ret as text. 1: found, 0: there is none. K_INVALID_ARGUMENT: that is no path. */
int json_path_find(json_object *o, const char *paths, char **ret, KError *reterr);
