/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wireguard-mode.h"

static const char *const wireguard_mode_table[_WIREGUARD_MODE_MAX] = {
        [WIREGUARD_AUTO] = "auto",
        [WIREGUARD_KERNEL] = "kernel",
        [WIREGUARD_USERSPACE] = "userspace",
        [WIREGUARD_NO] = "no",
};
DEFINE_STRING_TABLE_LOOKUP(wireguard_mode, WireguardMode);
