/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "noded.h"

/* REPORT of doc/node-channel.md. */
int node_report_build(Manager *m, json_object **ret);

/* Parts that read texts, for tests. */
int node_report_memory(const char *meminfo, json_object **ret);
char *node_report_os_name(const char *os_release);
