/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>
#include <systemd/sd-bus.h>

#include "kerror.h"
#include "macro.h"

/* Asks polkit, without blocking, whether the sender of a method call may do something. */
typedef struct PolkitQuery PolkitQuery;

typedef struct PolkitPeer {
        uid_t uid;
        pid_t pid; /* 0: unknown */
} PolkitPeer;

/* error is NULL when the peer may. Otherwise K_ACCESS_DENIED, K_INTERACTIVE_AUTHORIZATION_REQUIRED (the caller did not set the
 * flag and would have to authenticate), or -ECANCELED's K_NOT_AUTHENTICATED when the peer left the bus meanwhile. Called exactly
 * once unless the query is freed before; never from inside polkit_check(). The query may be freed inside. */
typedef void (*polkit_done_t)(const PolkitPeer *peer, const KError *error, void *userdata);

/* details: key, value, key, value, …, NULL; a NULL or empty value leaves the pair out. action NULL asks only who the peer is.
 * Root is not asked about. Without polkit only root may, and the error says so. A peer that leaves the bus ends the question. */
int polkit_check(sd_bus_message *call, const char *action, const char *const *details, polkit_done_t done,
                void *userdata, PolkitQuery **ret);

/* The same, but nobody is asked for a password whatever the caller has allowed. */
int polkit_check_silently(sd_bus_message *call, const char *action, const char *const *details,
                polkit_done_t done, void *userdata, PolkitQuery **ret);

/* Called when the peer is known, before polkit is asked, for details that depend on it. Set at once after a check. */
typedef void (*polkit_peer_t)(PolkitQuery *q, const PolkitPeer *peer, void *userdata);
void polkit_query_on_peer(PolkitQuery *q, polkit_peer_t peer);
int polkit_query_add_detail(PolkitQuery *q, const char *key, const char *value); /* "" leaves it out */

PolkitQuery *polkit_query_free(PolkitQuery *q); /* withdraws the question; done is not called */
DEFINE_TRIVIAL_CLEANUP_FUNC(PolkitQuery *, polkit_query_free);
