/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

/* Wherever "env" is, its entries lose their values, and what is no entry goes; wherever "secrets" or "sealed" is, it goes. In place,
 * however deep. */
int json_redact(json_object *o);
