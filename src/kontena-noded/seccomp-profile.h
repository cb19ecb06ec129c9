/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "macro.h"

/* The "seccomp" object of an OCI configuration: what ordinary programs need is allowed, everything else fails with EPERM. Names
 * that this machine's architecture does not have are left out, so the runtime has nothing to complain about. Some calls come with
 * a capability: whoever has the right by it may use the call. */
int seccomp_profile_build(uint64_t capabilities, json_object **ret);
