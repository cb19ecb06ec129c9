/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>
#include <systemd/sd-bus.h>

#include "kerror.h"
#include "macro.h"

/* D-Bus values as JSON and back; bounded by JSON_DEPTH_MAX levels and BUS_JSON_VALUES_MAX values.
 *
 *   b                          boolean
 *   y n q i u x t              integer
 *   d                          number, finite
 *   s o                        string
 *   a{sX}                      object
 *   other arrays, structs      array
 *   v                          what is inside
 *   v holding g ""             null: D-Bus has none of its own, and "back to the default" must be said somehow
 *
 * Other types (h, g with content, dictionaries by other keys) are K_INVALID_ARGUMENT. */

/* Reads the next complete value of the message, whatever its type. A dictionary with a key twice is refused.
 * Returns 0; -ENXIO with no error text behind the last one. */
int bus_json_read(sd_bus_message *m, json_object **ret, KError *reterr);

/* Appends value as the one complete type given. For "v" the type is chosen: b; x below zero, else t; d; s; as for an
 * empty array or one of strings, aa{sv} for one of objects, else av; a{sv}. Integers are checked for the width. */
int bus_json_append(sd_bus_message *m, const char *type, json_object *value, KError *reterr);

/* Length of the first complete type of a signature; -EINVAL. */
int bus_signature_element(const char *signature);
