/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>
#include <systemd/sd-event.h>

#include "audit-chain.h"
#include "kerror.h"
#include "macro.h"

/* Goes along the chain of the audit, in steps of a few milliseconds of the loop. */
typedef struct AuditVerify AuditVerify;

/* result is borrowed: ok, rows, first, last, older (rows of before there was a chain), head (an anchor), anchors (how many were looked at),
 * foreign (anchors of another chain), broken (how many breaks), breaks: id, kind, message. Called once, not from inside _start(), unless
 * it is freed before; may free it. */
typedef void (*audit_verify_done_t)(json_object *result, const KError *error, void *userdata);

int audit_verify_start(sd_event *event, Store *s, Keyring *k, json_object *anchors, audit_verify_done_t done,
                void *userdata, AuditVerify **ret, KError *reterr);
AuditVerify *audit_verify_free(AuditVerify *v);
DEFINE_TRIVIAL_CLEANUP_FUNC(AuditVerify *, audit_verify_free);
