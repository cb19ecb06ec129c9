/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Sec-WebSocket-Accept for a Sec-WebSocket-Key (RFC 6455). Part of libcertificate, which has GnuTLS for SHA-1. */
int websocket_accept(const char *key, char **ret);
