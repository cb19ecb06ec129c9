/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "macro.h"

/* The names of one grid and their addresses. Each change of a name raises the version of the table and marks the name with it, so a
 * reader needs to remember one number to learn what is new. */
typedef struct DnsNames DnsNames;

int dns_names_new(DnsNames **ret);
DnsNames *dns_names_free(DnsNames *t);
DEFINE_TRIVIAL_CLEANUP_FUNC(DnsNames *, dns_names_free);

/* The names of an instance, as the reference has them:
 *   SERVICE.STACK.GRID.kontena.local, SERVICE-N.STACK.GRID.kontena.local; in the null stack SERVICE and SERVICE-N under
 *   GRID.kontena.local and kontena.local. */
int dns_names_of_instance(
                const char *grid, const char *stack, const char *service, uint32_t number, char ***ret);

/* The instance is to be found under these names at this address. An instance has at most one address; address 0 takes it
 * from all its names. Returns 1 when that changed something, -E2BIG when the table is full. */
int dns_names_set(DnsNames *t, const char *instance_id, char *const *names, uint32_t address);

uint64_t dns_names_version(const DnsNames *t) _pure_;
/* What became different after version "since" (0: everything): {NAME: [ADDRESS...]}, [NAME...]. NULL where there is nothing. */
int dns_names_differences(
                const DnsNames *t, uint64_t since, json_object **ret_set, json_object **ret_removed);
/* Forgets removed names that every reader knows of. */
void dns_names_prune(DnsNames *t, uint64_t version);
