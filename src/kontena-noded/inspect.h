/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "noded.h"

/* What there is to know of one instance on this machine, for somebody who looks for a fault. */

/* "instance.inspect" and "instance.top": answered by the channel, now or later. */
void inspect_instance(Manager *m, uint64_t id, json_object *params);
void inspect_processes(Manager *m, uint64_t id, json_object *params);
