/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"

/* What this machine may be called by: its host name with and without domain, what /etc/hosts says about it, its addresses, and
 * the configured names. Sorted, without duplicates. Asks no name server: that could block. */
int host_names(char *const *configured, char ***ret);
