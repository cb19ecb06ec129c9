/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "macro.h"
#include "store.h"

/* The part "volumes" of what a node is told. NULL: it was told of none. */
typedef struct SentVolume SentVolume;
SentVolume *sent_volumes_free(SentVolume *sent);

/* Adds "volumes" to *set for what is new or different, to *removed for what is not to be spoken of any more; makes these objects where
 * they are NULL. */
int desired_volumes_compare(
                Store *s, const char *node_id, SentVolume **sent, json_object **set, json_object **removed);
