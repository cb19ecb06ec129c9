/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "kerror.h"
#include "macro.h"
#include "master.h"

/* Sees to it that nodes trust the authority of what the master shows, before it is shown: it tells them, looks at what they report that
 * they trust, and replaces the master's own authority when none is left that would be cut off. */
typedef struct Authorities Authorities;

int authorities_new(Master *m, Authorities **ret);
Authorities *authorities_free(Authorities *a);
DEFINE_TRIVIAL_CLEANUP_FUNC(Authorities *, authorities_free);

/* The configuration was read again: other certificates may be shown. */
void authorities_changed(Authorities *a);

/* Begins, or goes on. force: nodes that do not follow are cut off until they are joined again. Nothing is written in a transaction of
 * the store. */
int authorities_rotate(Authorities *a, bool force, KError *reterr);
int authorities_abort(Authorities *a, KError *reterr);

/* {"fingerprint", "certificate": PEM, "expires_at": usec, of the server's certificate, "own": bool, "next_fingerprint": TEXT|null, "nodes":
 * [{"grid", "node", "connected": bool}]}: nodes that do not trust yet what they should. */
int authorities_describe(Authorities *a, json_object **ret);
