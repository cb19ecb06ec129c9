/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "kerror.h"
#include "wireguard-mode.h"
#include "wireguard.h"

/* The WireGuard devices of this node: two, for odd and for even generations of keys. Kernel devices are read and written at once, those
 * of the unit kontena-wireguard@DEVICE.service over its socket, by and by. What a device is to be is given as a whole; only
 * differences are written. */
typedef struct Wireguard Wireguard;

#define WIREGUARD_SLOTS    2U
#define WIREGUARD_PREFIXES "kt-wg-", "kt-wh-" /* of the devices' names: odd, even */

typedef struct WireguardConfig {
        WireguardMode mode;
        const char *socket_directory; /* NULL: /run/wireguard */
} WireguardConfig;

/* Devices were read, or changed: look at what they are like now. From the loop, never from inside of a call. */
typedef void (*wireguard_seen_t)(void *userdata);
/* A sentence for an operator. */
typedef void (*wireguard_failed_t)(const char *message, void *userdata);

/* bus NULL: no units. */
int wireguard_new(sd_event *event, sd_bus *bus, const WireguardConfig *config, wireguard_seen_t seen,
                wireguard_failed_t failed, void *userdata, Wireguard **ret);
Wireguard *wireguard_free(Wireguard *w); /* devices stay */
DEFINE_TRIVIAL_CLEANUP_FUNC(Wireguard *, wireguard_free);

/* Which implementation this machine has, found out by trying (may load a module of the kernel): KERNEL, USERSPACE or NO, and then why
 * in reterr. */
WireguardMode wireguard_find_mode(Wireguard *w, KError *reterr);
/* What was found, AUTO: not tried yet. */
WireguardMode wireguard_mode(const Wireguard *w) _pure_;
/* The kernel has the family but makes no device: user space from now on, if there is one. */
WireguardMode wireguard_kernel_refused(Wireguard *w, KError *reterr);

/* The device does not exist, and its unit is to make it. A second call while the first is under way does nothing. */
int wireguard_start_unit(Wireguard *w, unsigned slot, const char *device, KError *reterr);
/* Forgets the device and stops its unit, should there be one; nobody waits for that. */
void wireguard_stop(Wireguard *w, const char *device);
/* The units of all devices that have a socket and a name of ours. */
void wireguard_stop_all(Wireguard *w);

/* Takes what want has. Sorted, or -EINVAL: two peers have one key or one prefix. In user space it is done later, and tried again
 * when it fails. */
int wireguard_apply(Wireguard *w, unsigned slot, const char *device, WgDevice *want, KError *reterr);
/* Reads again; seen() follows. */
void wireguard_poll(Wireguard *w);
/* As last read; NULL: never, or there is no such device. Of a device that is being changed as it was before. */
const WgDevice *wireguard_device(const Wireguard *w, unsigned slot) _pure_;
const WgPeer *wireguard_find_peer(
                const Wireguard *w, unsigned slot, const uint8_t key[static WG_KEY_SIZE]) _pure_;
