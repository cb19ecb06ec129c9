/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "kerror.h"
#include "macro.h"
#include "service-spec.h"
#include "store.h"

struct Keyring;

/* The vault of a grid: secrets by name, sealed with the master's key where they are stored. */
int vault_seal(struct Keyring *k, SecretRow *row, const char *value);
/* *ret has a NUL behind it; _cleanup_erase_. */
int vault_open(struct Keyring *k, const SecretRow *row, char **ret);

/* That all secrets a spec uses are there. */
int vault_check_spec(Store *s, const char *grid_id, const ServiceSpec *spec, KError *reterr);
bool vault_is_used_by(json_object *spec, const char *secret);

/* INSTANCE.secrets, sealed to the key in the node's report. Those of one name are joined by newlines, a missing one is empty. "sealed" is
 * null where the node has no key. */
int vault_add_to_instance(Store *s, struct Keyring *k, const char *grid_id, json_object *report,
                const InstanceRow *row, json_object *instance);
