/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "macro.h"
#include "rest.h"

/* A list that may be long: its answer is put together over as many turns of the loop as it takes, some milliseconds in each, and sent when
 * it is whole. It ends when the client goes. */
typedef struct RestList RestList;

/* Of one row. ret stays as it is when the row is not shown, for example because it has gone meanwhile. */
typedef int (*rest_row_t)(RestCall *c, const char *id, json_object **ret);

/* {key: [..]} of at most limit rows, with status 200. consumed_ids: those that are there now, in the order of the answer; NULL: none. So each
 * row that is there all the while is shown once. */
int rest_reply_rows(RestCall *c, const char *key, char **consumed_ids, uint32_t limit, rest_row_t row);

RestList *rest_list_free(RestList *l); /* with its call */
DEFINE_TRIVIAL_CLEANUP_FUNC(RestList *, rest_list_free);
