/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "transport-protocol.h"

static const char *const transport_protocol_table[_TRANSPORT_PROTOCOL_MAX] = {
        [TRANSPORT_TCP] = "tcp",
        [TRANSPORT_UDP] = "udp",
        [TRANSPORT_SCTP] = "sctp",
};
DEFINE_STRING_TABLE_LOOKUP(transport_protocol, TransportProtocol);
