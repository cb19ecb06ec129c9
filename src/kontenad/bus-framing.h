/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "kerror.h"
#include "macro.h"

/* Where the messages of a D-Bus client begin and end, and how large they are: sd-bus would take 128 MiB of one. What is in them is for
 * sd-bus to judge. */
typedef struct BusFraming {
        bool begun; /* the client has said BEGIN */
        uint8_t head[16];
        size_t head_size; /* of a line or of a message's head, so far */
        size_t said;      /* bytes before BEGIN */
        uint64_t left;    /* of a message's body */
} BusFraming;

/* Bytes as they come, in any portions. -EBADMSG: it is no D-Bus, or a message is larger than BUS_GUEST_MESSAGE_SIZE_MAX. */
int bus_framing_feed(BusFraming *f, const void *data, size_t size, KError *reterr);
