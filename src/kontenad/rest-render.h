/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "json-util.h"
#include "log-streams.h"
#include "macro.h"
#include "store.h"

/* What runs, as the reference's API shows it: functions of rows, or of what operations answer with, that look nothing up. Times are
 * rendered by rest_add_time(). Ids are paths: "GRID/STACK/SERVICE". */

/* A chain of json_add_*() that stops at the first failure. */
#define REST_ADD(r, call)                                                                                   \
        do {                                                                                                \
                if ((r) >= 0)                                                                               \
                        (r) = (call);                                                                       \
        } while (false)

/* A field of a row; "" and 0 when it has none. */
static inline const char *rest_text(json_object *row, const char *key) {
        return json_string_or(row, key, "");
}

static inline uint64_t rest_number(json_object *row, const char *key) {
        return json_u64_or(row, key, 0);
}

int rest_add_id(json_object *o, const char *key, const char *grid, const char *a, const char *b);
/* "" is null */
int rest_add_text(json_object *o, const char *key, const char *value);
int rest_add_joined(json_object *o, json_object *from, const char *key,
                const char *separator); /* a list as one text */

/* instances: all rows of the service. */
int rest_render_service(
                const GridRow *g, const ServiceRow *s, const InstanceRowList *instances, json_object **ret);
/* deploy: as deploy.get answers. */
int rest_render_deploy(json_object *deploy, json_object **ret);
/* n NULL: it is not placed. */
int rest_render_instance(const GridRow *g, const InstanceRow *i, const NodeRow *n, json_object **ret);
int rest_render_container(const GridRow *g, const ServiceRow *s, const InstanceRow *i, const NodeRow *n,
                json_object **ret);
/* Is there something that could be called a container? Only the current one of each number has that name. */
bool rest_instance_is_container(const InstanceRow *i) _pure_;
/* "stack.service-2", "service-2" taken apart; -EINVAL. */
int rest_parse_container_name(const char *name, char **ret_stack, char **ret_service, uint32_t *ret_number);

/* The first 240 bits of the hash of its key in base32, twelve groups of four with colons between them: an id as Docker's engines have
 * one. NULL: it has not joined yet, or memory is short. */
char *rest_engine_id(const NodeRow *n);
/* all: nodes of the grid. token: the grid's; NULL: the caller may not see it. */
int rest_render_node(const GridRow *g, const NodeRow *n, const NodeRowList *all, const char *token,
                json_object **ret);

/* volume: as volume.get answers; secret: as vault.list or vault.read does, with the value in it or not. */
int rest_render_volume(const GridRow *g, json_object *volume, json_object **ret);
int rest_render_secret(const GridRow *g, json_object *secret, json_object **ret);
int rest_render_registry(const GridRow *g, const RegistryRow *row, json_object **ret);

/* 24 hexadecimal digits that sort by time; what comes later at the same microsecond has a higher order. */
char *rest_log_id(uint64_t time, uint32_t order);
int rest_parse_log_id(const char *s, uint64_t *ret_time, uint32_t *ret_order);
/* e: of an instance, with its service. */
int rest_render_log(const GridRow *g, const LogEntry *e, const char *id, json_object **ret);
/* "stack.service-1", as instance_container_name() makes it. NULL: lack of memory. */
char *rest_log_container(const LogEntry *e);
