/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "kerror.h"
#include "macro.h"
#include "master.h"

/* What the master is set to at run time: a flat map in the store. Keys that end in "_secret" are sealed there. */

/* Erase it when it may be secret. -ENOENT; -EBADMSG: sealed with another key. */
int master_config_get(Master *m, const char *key, char **ret);
int master_config_get_boolean(Master *m, const char *key, bool fallback); /* 1, 0, or negative */
bool master_config_is_secret(const char *key);
int master_config_key_validate(const char *key, KError *reterr);

/* In a transaction. */
int master_config_set(Master *m, const char *key, const char *value, KError *reterr);
