/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "kerror.h"
#include "macro.h"

/* Names of grids, nodes, stacks and services; what is made of them. Rules: reference/behaviour.md sections 1, 4, 6. */

/* Letters, digits, '_' and '-', not first '-', at most 63 bytes; a grid at least 3. kind is for the sentence. */
int name_validate(const char *kind, const char *name, KError *reterr);
int grid_name_validate(const char *name, KError *reterr);

/* The stack of services that belong to none. */
#define STACK_NULL "null"

/* "<service>-<count>.<stack>.<grid>.kontena.local" must fit in 64 bytes. */
int service_name_fits(
                const char *grid, const char *stack, const char *service, uint32_t count, KError *reterr);

/* "service", "stack/service" or "grid/stack/service". Missing parts come back as NULL. */
int service_reference_parse(
                const char *s, char **ret_grid, char **ret_stack, char **ret_service, KError *reterr);

/* "kontena-GRID-STACK.SERVICE-N.service", escaped as systemd-escape does where a part needs it. */
char *instance_unit_name(const char *grid, const char *stack, const char *service, uint32_t number);
/* "kontena-GRID-STACK.SERVICE-N.SLOT.service"; with an empty slot as above. */
char *instance_slot_unit_name(
                const char *grid, const char *stack, const char *service, uint32_t number, const char *slot);
char *grid_slice_name(const char *grid); /* "kontena-GRID.slice", '-' in the grid escaped */

/* "<stack>.<service>-<n>", in the null stack "<service>-<n>". */
char *instance_container_name(const char *stack, const char *service, uint32_t number);

/* "<stack>.<grid>.kontena.local", in the null stack "<grid>.kontena.local". */
char *stack_domain(const char *grid, const char *stack);
