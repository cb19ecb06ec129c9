/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>
#include <sys/types.h>

#include "context.h"
#include "ctl.h"
#include "kerror.h"

/* kontena-bridge, which speaks with the network for us. */

/* A connected D-Bus client socket. out: where the bridge says, at the end, why there is one. K_ACCESS_DENIED: the token is not taken. */
int remote_open(const Context *c, pid_t *ret_pid, int *ret_fd, int *ret_out, KError *reterr);
/* What it has said since, if anything. */
int remote_reason(int out, KError *reterr);

/* One request; status and JSON (NULL: none) of the answer. token NULL: without. */
int remote_request(const Context *c, const char *method, const char *path, const char *token,
                json_object *body, int *ret_status, json_object **ret, KError *reterr);
/* Which authority the master shows. */
int remote_show_ca(const char *url, char **ret_pem, char **ret_fingerprint, KError *reterr);

/* The answer of /oauth2/token into the context's token. */
int remote_take_token(json_object *answer, Context *c, KError *reterr);
/* A new token for one that has expired: in the file, unless it is from the environment, and in c. */
int remote_refresh(Context *c, KError *reterr);
