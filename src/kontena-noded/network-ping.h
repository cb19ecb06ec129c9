/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-event.h>

#include "kerror.h"
#include "macro.h"

/* ICMP echo requests to many addresses at once, without blocking: PING_COUNT to each, 200 ms apart, and a second for the last ones. */

#define PING_COUNT       5U
#define PING_TARGETS_MAX 1024U

typedef struct PingResult {
        uint32_t address;  /* host byte order */
        unsigned received; /* of PING_COUNT */
        uint64_t rtt_usec; /* of those, on average */
} PingResult;

typedef struct Ping Ping;
/* From the loop, once; the run is over then. results are in the order of addresses. */
typedef void (*ping_done_t)(const PingResult *results, size_t n, void *userdata);

/* source: 0 for any. */
int ping_start(sd_event *event, uint32_t source, const uint32_t *addresses, size_t n, ping_done_t done,
                void *userdata, Ping **ret, KError *reterr);
Ping *ping_cancel(Ping *p);
DEFINE_TRIVIAL_CLEANUP_FUNC(Ping *, ping_cancel);

/* An answer as a raw socket gets it, IPv4 header and all. False: none of ours, or malformed. */
bool ping_parse(const uint8_t *packet, size_t size, uint16_t id, uint32_t *ret_source,
                uint16_t *ret_sequence);
