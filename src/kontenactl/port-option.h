/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "kerror.h"

/* --ports: "80" "8080:80" "8080:80/udp" "192.0.2.1:8080:80" "8000-8010:9000-9010/sctp". Each port of a range becomes one entry, appended
 * to a service's list "ports" (service-spec.h). */
int port_option_parse(const char *s, json_object *array, KError *reterr);
