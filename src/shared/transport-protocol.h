/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <netinet/in.h>

#include "string-util.h"

/* What a published port speaks. "tcp", "udp", "sctp", as in stack files and nftables. */
typedef enum TransportProtocol {
        TRANSPORT_TCP,
        TRANSPORT_UDP,
        TRANSPORT_SCTP,
        _TRANSPORT_PROTOCOL_MAX,
        _TRANSPORT_PROTOCOL_INVALID = -EINVAL,
} TransportProtocol;
DECLARE_STRING_TABLE_LOOKUP(transport_protocol, TransportProtocol);
