/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"

/* How often somebody asks: so many times in 60 s. Kept is a bounded number of names; when full of recent ones, new names share one
 * count, so that who fills it with addresses of his own slows down himself and strangers, never those who are known. */
typedef struct RestLimit RestLimit;

int rest_limit_new(unsigned per_minute_max, RestLimit **ret);
RestLimit *rest_limit_free(RestLimit *l);
DEFINE_TRIVIAL_CLEANUP_FUNC(RestLimit *, rest_limit_free);

/* Counts one; 0, or -EBUSY: too many. now in microseconds, of any clock that does not go backwards. */
int rest_limit_take(RestLimit *l, const char *name, uint64_t now);

/* Whose address it is: of IPv6 the /64, which one customer has all of. */
char *rest_limit_address(const char *address);

/* An address in its one form; of an IPv4 address in an IPv6 one, the former. -EINVAL: it is none. */
int rest_address_normalize(const char *s, size_t size, char **ret);
