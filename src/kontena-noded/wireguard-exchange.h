/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-event.h>

#include "macro.h"

/* One request to a user-space WireGuard over its socket, and its answer, without blocking the loop. */
typedef struct WireguardExchange WireguardExchange;

/* From the loop, once; the exchange is over then. answer (not NUL-terminated) ends with an empty line and is valid during the call, NULL
 * when r is negative: -ETIMEDOUT, -ECONNRESET, -E2BIG, or what connect(2) and the like say. */
typedef void (*wireguard_exchange_done_t)(int r, const char *answer, size_t size, void *userdata);

/* Takes request (malloc()ed), also on failure; it is erased. */
int wireguard_exchange_start(sd_event *event, const char *socket_path, char *consume_request, size_t size,
                wireguard_exchange_done_t done, void *userdata, WireguardExchange **ret);
WireguardExchange *wireguard_exchange_cancel(WireguardExchange *x);
