/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>
#include <seccomp.h>

#include "macro.h"

/* The "seccomp" object of an OCI configuration as seccomp-profile.c makes it: rules with at most one condition each. */
int enter_filter_new(json_object *seccomp, scmp_filter_ctx *ret);
