/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "operation.h"

#include "audit-chain.h"

/* Who asked for what, and what came of it: a row of the store and an entry in the journal with KONTENA_AUDIT=1. Values that may be
 * secret (of environment variables, tokens) are left out. error NULL: it was done. */
json_object *audit_without_values(json_object *o); /* a copy in which of "env" only the names are left */
json_object *audit_record(const OperationCall *c, const KError *error);
bool audit_is_refusal(const KError *error);
/* A record as that of another thing that happened: how what was begun came to its end. */
int audit_set_end(json_object *record, const char *operation, int exit_status, uint64_t duration,
                const KError *error);
/* In a transaction. After it was committed the row is told to the journal. */
int audit_store(Master *m, json_object *record, AuditMark *ret);
/* row NULL: it could not be stored. sentence NULL: the usual one. */
void audit_log(Master *m, json_object *record, const AuditMark *row, const char *sentence);
