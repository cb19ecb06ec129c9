/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "macro.h"

/* {"snapshots": […]}: the answer to "volume.snapshot". */
int volume_snapshots_describe(const char *directory, const char *volume, json_object **ret);
