/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "kerror.h"
#include "macro.h"

/* One request to the master, of which the answer is JSON or nothing. Waits for it. */
typedef struct HttpsRequest {
        const char *url; /* https:// whole */
        const char *method;
        const char *ca_file;
        const char *token; /* NULL: none */
        const char *body;  /* JSON; NULL: none */
        const char *user_agent;
} HttpsRequest;

/* {"status": N, "body": JSON or null} */
int https_request(const HttpsRequest *q, json_object **ret, KError *reterr);
