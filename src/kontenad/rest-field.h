/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "rest.h"

/* Checks a body by its fields. *ret has only what is known, converted. Positive: it does not fit, and *ret is the map of what is wrong,
 * as the reference words it. */
int rest_fields_check(const RestField *fields, json_object *body, json_object **ret);

/* "initial_size" → "Initial Size" */
char *rest_field_title(const char *name);
