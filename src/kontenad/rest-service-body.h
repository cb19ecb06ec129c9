/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "kerror.h"
#include "macro.h"

/* The reference's body of a service as settings of ours. Nothing is looked up, and any JSON is taken: what has the wrong type is left to
 * who reads the settings. create: all of them; otherwise changes, where what is absent stays as it is. Returns 0 with *ret, or 1 with
 * *ret_refused, the map of fields that ask for what we do not have. */
int rest_service_body_translate(
                json_object *body, bool create, json_object **ret, json_object **ret_refused);

/* The field of the body that an error of the settings is about; "service" where none is named. */
const char *rest_service_error_field(const KError *error);

/* "1m30s", "1.5h": seconds, rounded up. -EINVAL, -ERANGE. */
int rest_parse_grace_period(const char *s, uint64_t *ret);
