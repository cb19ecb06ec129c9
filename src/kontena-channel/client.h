/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-event.h>

#include "macro.h"

/* One connection to the master, driven by frames (shared/frame.h) on fd, which is consumed. It takes one FRAME_CONFIG:
 *   {"url": "wss://…", "headers": {NAME: VALUE}, "secret": TEXT|null, "proxy": URL|null, "no_proxy": LIST|null,
 *    "credentials": DIRECTORY with ca, key and certificate}
 * or, of somebody with a token and no key: {"url", "headers", "secret", "proxy", "no_proxy", "subprotocol", "ca": PATH}
 * and says FRAME_STATUS {"phase": "resolving"|"connecting"|"tls"|"upgrade"|"open"|"alive"}, the last at each ping of the master's, then
 * messages, and at the end FRAME_CLOSED {"code": N, "phase": …, "reason": SENTENCE, "error": NAME of a KErrorCode}; code 0: there was no WebSocket yet. After that, or
 * when fd ends, the event loop is told to exit. */
typedef struct Client Client;

int client_new_consume(sd_event *event, int fd, Client **ret);
/* For whom has more in the loop: it is not told to exit. */
void client_keep_loop(Client *c);
Client *client_free(Client *c);
DEFINE_TRIVIAL_CLEANUP_FUNC(Client *, client_free);
