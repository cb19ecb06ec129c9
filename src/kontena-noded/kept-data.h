/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "macro.h"

/* Data of stateful instances that nobody names any more: below the directory of instances,
 *
 *   .kept/ID/volumes      what it had, as it was
 *   .kept/ID/about.json   whose it was
 *
 * An instance that is named again has its data back; otherwise they are there until an operator removes them. */
#define KEPT_DIRECTORY ".kept"

/* Has it data of its own? directory: of the instance. */
int kept_has_data(const char *directory);
/* Puts it aside. For a job: syncs. Repeatable: it is either in the one place or in the other. about: JSON. */
int kept_put(const char *instances, const char *id, const char *about);
/* Is there some of it? */
int kept_find(const char *instances, const char *id);
/* Puts it back: 1; 0: there is nothing, or the instance has data already. */
int kept_take_back(const char *instances, const char *id);

/* [{"id", "grid", "stack", "service", "number", "kept_at"}] of what there is, at most max of them; what cannot be read has an id only. */
int kept_list(const char *instances, size_t max, json_object **ret);
bool kept_is_empty(const char *instances);
