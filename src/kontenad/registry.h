/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "kerror.h"
#include "macro.h"
#include "store.h"

struct Keyring;

/* Credentials of a grid for registries: the password is sealed with the master's key where it is stored, and to a node's key where it is
 * sent. Nothing here opens it to be shown. */
int registry_seal(struct Keyring *k, RegistryRow *row, const char *password);

/* NODE.registries, for the key in the node's report. "sealed" is null where the node has no key, or the master's own is another than
 * that the password was sealed with: the node then says so when it is asked to pull. */
int registry_add_to_node(Store *s, struct Keyring *k, const NodeRow *node, json_object *o);
