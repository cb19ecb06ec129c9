/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-event.h>

#include "kerror.h"
#include "macro.h"

/* One question to a container, over TCP or HTTP. */
typedef struct NetCheck NetCheck;

/* Called once from the event loop; freed after. error NULL: well. Else "GET http://10.81.128.5:80/up answered 503." */
typedef void (*net_check_done_t)(NetCheck *c, const KError *error, void *userdata);

/* uri NULL: it is enough that something accepts the connection. The time-out bounds all of it, whatever the other side does. */
int net_check_start(sd_event *event, const char *address, uint16_t port, const char *uri,
                uint64_t timeout_usec, net_check_done_t done, void *userdata, NetCheck **ret);
NetCheck *net_check_cancel(NetCheck *c);
DEFINE_TRIVIAL_CLEANUP_FUNC(NetCheck *, net_check_cancel);

/* Reads the beginning of an answer as far as it has come: 1 and the status when there is one, 0 when more is needed, -EBADMSG when
 * that is not HTTP. Interim answers (1xx, but 101) are skipped. */
int http_status_parse(const char *text, size_t size, unsigned *ret);
