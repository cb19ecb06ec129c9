/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "kerror.h"
#include "macro.h"
#include "secrets.h"

/* Credentials for registries out of the desired state (NODE.registries of doc/node-channel.md), where passwords are sealed; registries may
 * be NULL. The registry is called as in an image's reference. */

/* 1: the password is opened; erase it. 0: there are none for this registry. */
int credentials_open(json_object *registries, const Secrets *key, const char *registry, char **ret_username,
                char **ret_password, KError *reterr);

/* Another text for other credentials; NULL: there are none. */
int credentials_mark(json_object *registries, const char *registry, char **ret);
