/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "netlink.h"
#include "wireguard.h"

/* WireGuard devices of the kernel, by generic netlink (NETLINK_GENERIC, family "wireguard"). */

/* -EOPNOTSUPP, without an error set: this kernel has no WireGuard, and no module of it. */
int wg_kernel_family(Netlink *generic, uint16_t *ret, KError *reterr);
/* -ENODEV, without an error set, when there is no such device. ret is sorted. */
int wg_kernel_read(Netlink *generic, uint16_t family, const char *name, WgDevice *ret, KError *reterr);
int wg_kernel_change(Netlink *generic, uint16_t family, const char *name, const WgDevice *want,
                const WgChange *change, KError *reterr);

/* One message of the answer to WG_CMD_GET_DEVICE, added to d; a peer that does not fit goes on in the next one. -EBADMSG. */
int wg_kernel_parse(const struct nlmsghdr *h, WgDevice *d);
