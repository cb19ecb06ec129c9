/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "operation.h"

/* Who asked for what, and what came of it: a row of the store and an entry in the journal with KONTENA_AUDIT=1. Values that may be
 * secret (of environment variables, tokens) are left out. error NULL: it was done. */
json_object *audit_without_values(json_object *o); /* a copy in which of "env" only the names are left */
json_object *audit_record(const OperationCall *c, const KError *error);
/* A record as that of another thing that happened: how what was begun came to its end. */
int audit_set_end(json_object *record, const char *operation, int exit_status, const KError *error);
int audit_store(Store *s, json_object *record); /* inside of a transaction */
void audit_log(const OperationCall *c, const KError *error);
