/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "kerror.h"
#include "macro.h"

/* The head of the request that makes a WebSocket of a connection, and of its answer: what RFC 6455 section 4.1 demands of
 * a client and nothing more. */
#define UPGRADE_HEAD_SIZE_MAX 8192U

/* headers: an object of strings, put into the head as they are; refused with line breaks. */
int upgrade_request(const char *authority, const char *path, const char *subprotocol, const char *key,
                json_object *headers, char **ret, KError *reterr);
int upgrade_key_new(char **ret);

/* Looks at what has come so far. K_ACCESS_DENIED: who asks was refused (401, 403). 0: more is needed; otherwise the size of the head, which was found good. */
int upgrade_check_response(
                const char *data, size_t size, const char *subprotocol, const char *key, KError *reterr);
