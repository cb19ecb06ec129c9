/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "kerror.h"
#include "parse-util.h"

/* Forgets UDP flows to a port of this machine (ip 0: at any of its addresses), so that the next packet takes the way that
 * the firewall shows now; a flow that is never silent would keep the old one for ever. Flows that are only passing, masqueraded,
 * to the same port of other machines stay. */
int conntrack_forget_udp(uint32_t ip, uint16_t port, KError *reterr);
