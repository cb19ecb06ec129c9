/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <netinet/in.h>
#include <systemd/sd-event.h>

#include "macro.h"

/* One attempt to connect, bounded in time. */
typedef struct TcpConnect TcpConnect;

/* Called once from the event loop, never from inside tcp_connect_start(); freed after. error: 0 or a positive errno, ETIMEDOUT when
 * the time is over. fd: the connection, the callee's from now on; -EBADF after an error. */
typedef void (*tcp_connect_done_t)(TcpConnect *c, int error, int fd, void *userdata);

/* What is known at once (no route, say) is the returned error. */
int tcp_connect_start(sd_event *event, const struct sockaddr_in *address, uint64_t timeout_usec,
                tcp_connect_done_t done, void *userdata, TcpConnect **ret);
TcpConnect *tcp_connect_cancel(TcpConnect *c);
DEFINE_TRIVIAL_CLEANUP_FUNC(TcpConnect *, tcp_connect_cancel);
