/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "kerror.h"
#include "macro.h"

/* "a=1&b=two%20words" into an object of strings, of a repeated name the first. What is no UTF-8 or has a NUL is an error. */
int rest_form_parse(const char *text, size_t size, json_object **ret, KError *reterr);
