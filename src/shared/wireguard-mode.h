/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"
#include "string-util.h"

/* Who runs a node's WireGuard devices. */
typedef enum WireguardMode {
        WIREGUARD_AUTO, /* the kernel where it can, else a program; found out by trying */
        WIREGUARD_KERNEL,
        WIREGUARD_USERSPACE,
        WIREGUARD_NO,
        _WIREGUARD_MODE_MAX,
        _WIREGUARD_MODE_INVALID = -EINVAL,
} WireguardMode;
DECLARE_STRING_TABLE_LOOKUP(wireguard_mode, WireguardMode);
