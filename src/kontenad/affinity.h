/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <regex.h>

#include "kerror.h"
#include "macro.h"

/* <key><op>[~]<value>: "node==n1" "label!=az=b" "service==~shop/db" "container==/^web-\d$/". Key is node, service, container or label;
 * '~' makes a rule a wish; %s in the value is the instance's number, %% a percent sign. A value between slashes is an unanchored
 * extended regular expression of POSIX, in which \d and \/ are understood as well. The text splits at its first operator;
 * since no key contains one, every text that the reference takes means the same here. */
typedef enum AffinityKey {
        AFFINITY_NODE,
        AFFINITY_SERVICE,
        AFFINITY_CONTAINER,
        AFFINITY_LABEL,
        _AFFINITY_KEY_MAX,
        _AFFINITY_KEY_INVALID = -EINVAL,
} AffinityKey;

typedef struct Affinity {
        AffinityKey key;
        bool negate, soft;
        bool is_regex, qualified; /* qualified: a service with its stack */
        char *value;              /* as written, %s replaced; a regular expression without its slashes */
        regex_t *regex;
} Affinity;

void affinity_done(Affinity *a);
#define _cleanup_affinity_ _cleanup_(affinity_done)

/* number 0: %s stays (to validate a text). Errors quote the text. */
int affinity_parse(const char *text, uint32_t number, Affinity *ret, KError *reterr);
int affinity_validate(char *const *texts, KError *reterr);

/* Does this one text (a node's name, a label, a container's name) meet the value? Negation is the caller's. */
bool affinity_matches(const Affinity *a, const char *text);
/* own_stack is put in front of a value without a stack. An unqualified expression is matched with the service's name, within
 * the own stack only. */
bool affinity_matches_service(
                const Affinity *a, const char *own_stack, const char *stack, const char *service);
