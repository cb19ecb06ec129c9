/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wireguard-sync.h"

#include <dirent.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <unistd.h>

#include "file-util.h"
#include "log.h"
#include "network-paths.h"
#include "string-util.h"
#include "wireguard-exchange.h"
#include "wireguard-kernel.h"
#include "wireguard-uapi.h"

#define PROGRAM          "/usr/bin/wireguard-go"
#define SOCKET_DIRECTORY "/run/wireguard"
#define UNIT_PREFIX      "kontena-wireguard@"
#define START_AGAIN_USEC (5 * USEC_PER_SEC)

typedef struct Slot {
        Wireguard *wireguard;
        char *device;       /* NULL: there is none, as far as we are concerned */
        WgDevice want;      /* not yet written */
        WgDevice applying;  /* being written */
        WgDevice told;      /* written last */
        WgDevice seen;      /* as last read */
        bool wanted, known; /* want is set; told is */
        bool read;          /* seen is */

        WireguardExchange *exchange;
        sd_bus_slot *call;
        uint64_t start_usec;
        char *failure; /* said already */
} Slot;

struct Wireguard {
        sd_event *event;
        sd_bus *bus;
        sd_event_source *defer;
        Netlink *generic;
        uint16_t family;
        WireguardMode configured, mode;
        char *socket_directory;
        wireguard_seen_t seen;
        wireguard_failed_t failed;
        void *userdata;
        Slot slots[WIREGUARD_SLOTS];
};

static void kick(Slot *s);

static void tell_failure(Slot *s, const char *message) {
        if (free_and_strdup(&s->failure, message) > 0)
                s->wireguard->failed(message, s->wireguard->userdata);
}

static int on_defer(sd_event_source *source, void *userdata) {
        Wireguard *w = userdata;

        w->seen(w->userdata);
        return 0;
}

static void tell_seen(Wireguard *w) {
        (void) sd_event_source_set_enabled(w->defer, SD_EVENT_ONESHOT);
}

int wireguard_new(sd_event *event, sd_bus *bus, const WireguardConfig *config, wireguard_seen_t seen,
                wireguard_failed_t failed, void *userdata, Wireguard **ret) {
        _cleanup_(wireguard_freep) Wireguard *w = NULL;
        int r;

        w = new0(Wireguard, 1);
        if (!w)
                return -ENOMEM;
        w->event = sd_event_ref(event);
        w->bus = sd_bus_ref(bus);
        w->configured = config->mode;
        w->mode = config->mode == WIREGUARD_NO ? WIREGUARD_NO : WIREGUARD_AUTO;
        w->seen = seen;
        w->failed = failed;
        w->userdata = userdata;
        FOREACH_ARRAY(s, w->slots, WIREGUARD_SLOTS)
                s->wireguard = w;
        w->socket_directory = strdup(config->socket_directory ?: SOCKET_DIRECTORY);
        if (!w->socket_directory)
                return -ENOMEM;
        r = sd_event_add_defer(event, &w->defer, on_defer, w);
        if (r >= 0)
                r = sd_event_source_set_enabled(w->defer, SD_EVENT_OFF);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(w);
        return 0;
}

static void slot_forget(Slot *s) {
        s->exchange = wireguard_exchange_cancel(s->exchange);
        wg_device_done(&s->want);
        wg_device_done(&s->applying);
        wg_device_done(&s->told);
        wg_device_done(&s->seen);
        s->wanted = s->known = s->read = false;
        s->device = mfree(s->device);
        s->failure = mfree(s->failure);
        s->start_usec = 0;
}

Wireguard *wireguard_free(Wireguard *w) {
        if (!w)
                return NULL;

        FOREACH_ARRAY(s, w->slots, WIREGUARD_SLOTS) {
                slot_forget(s);
                sd_bus_slot_unref(s->call);
        }
        sd_event_source_disable_unref(w->defer);
        netlink_free(w->generic);
        free(w->socket_directory);
        sd_bus_unref(w->bus);
        sd_event_unref(w->event);
        return mfree(w);
}

/* Which implementation */

static WireguardMode find_program(Wireguard *w, const char *why, KError *reterr) {
        if (access(PROGRAM, X_OK) >= 0) {
                w->mode = WIREGUARD_USERSPACE;
                return w->mode;
        }
        (void) kerror_set(reterr, K_NOT_SUPPORTED, "%s'" PROGRAM "' is not installed.", why);
        w->mode = WIREGUARD_NO;
        return w->mode;
}

WireguardMode wireguard_find_mode(Wireguard *w, KError *reterr) {
        int r;

        if (w->mode != WIREGUARD_AUTO)
                return w->mode;
        if (w->configured == WIREGUARD_USERSPACE)
                return find_program(w, "", reterr);

        r = w->generic ? 0 : netlink_open(NETLINK_GENERIC, &w->generic);
        if (r >= 0)
                r = wg_kernel_family(w->generic, &w->family, NULL);
        if (r >= 0) {
                w->mode = WIREGUARD_KERNEL;
                return w->mode;
        }
        return wireguard_kernel_refused(w, reterr);
}

WireguardMode wireguard_kernel_refused(Wireguard *w, KError *reterr) {
        if (w->configured == WIREGUARD_KERNEL) {
                (void) kerror_set(reterr, K_NOT_SUPPORTED, "This kernel has no WireGuard.");
                w->mode = WIREGUARD_NO;
                return w->mode;
        }
        return find_program(w, "This kernel has no WireGuard, and ", reterr);
}

WireguardMode wireguard_mode(const Wireguard *w) {
        return w->mode;
}

/* Units */

static int on_started(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const sd_bus_error *e = sd_bus_message_get_error(m);
        _cleanup_free_ char *text = NULL;
        Slot *s = userdata;

        s->call = sd_bus_slot_unref(s->call);
        if (!e)
                return 0;
        text = strprintf("Cannot start " UNIT_PREFIX "%s.service: %s", strna(s->device),
                        e->message ?: e->name);
        tell_failure(s, text ?: "Cannot start WireGuard.");
        return 0;
}

int wireguard_start_unit(Wireguard *w, unsigned slot, const char *device, KError *reterr) {
        _cleanup_free_ char *unit = strjoin(UNIT_PREFIX, device, ".service");
        Slot *s = &w->slots[slot];
        int r;

        if (!unit)
                return -ENOMEM;
        if (!streq_ptr(s->device, device))
                slot_forget(s);
        r = free_and_strdup(&s->device, device);
        if (r < 0)
                return r;
        /* Of the device that is gone. */
        wg_device_done(&s->seen);
        s->read = false;
        if (!w->bus || s->call || (s->start_usec > 0 && now_monotonic() - s->start_usec < START_AGAIN_USEC))
                return 0;

        r = sd_bus_call_method_async(w->bus, &s->call, "org.freedesktop.systemd1",
                        "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "StartUnit",
                        on_started, s, "ss", unit, "replace");
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot start %s: %m.", unit);
        s->start_usec = now_monotonic();
        return 0;
}

static void stop_unit(Wireguard *w, const char *device) {
        _cleanup_free_ char *unit = strjoin(UNIT_PREFIX, device, ".service");
        int r = -ENOMEM;

        if (!w->bus)
                return;
        if (unit)
                r = sd_bus_call_method_async(w->bus, NULL, "org.freedesktop.systemd1",
                                "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "StopUnit",
                                NULL, NULL, "ss", unit, "replace");
        if (r < 0)
                log_warning_errno(r, "Cannot stop WireGuard for '%s', ignoring it: %m", device);
}

void wireguard_stop(Wireguard *w, const char *device) {
        FOREACH_ARRAY(s, w->slots, WIREGUARD_SLOTS)
                if (streq_ptr(s->device, device)) {
                        s->call = sd_bus_slot_unref(s->call);
                        slot_forget(s);
                }
        stop_unit(w, device);
}

void wireguard_stop_all(Wireguard *w) {
        static const char *const prefixes[] = { WIREGUARD_PREFIXES };
        _cleanup_(closedirp) DIR *d = NULL;
        struct dirent *de;

        FOREACH_ARRAY(s, w->slots, WIREGUARD_SLOTS) {
                s->call = sd_bus_slot_unref(s->call);
                if (s->device)
                        stop_unit(w, s->device);
                slot_forget(s);
        }
        d = opendir(w->socket_directory);
        while (d && (de = readdir(d))) {
                const char *end = endswith(de->d_name, ".sock");
                _cleanup_free_ char *device = NULL;

                if (!end || (!startswith(de->d_name, prefixes[0]) && !startswith(de->d_name, prefixes[1])))
                        continue;
                device = strndup(de->d_name, (size_t) (end - de->d_name));
                if (device)
                        stop_unit(w, device);
        }
}

/* What is wanted, and what is there */

/* Where a session lives, the peer is where it is: after a restart of ours nobody knows what was told. */
static void keep_living_endpoints(WgDevice *want, const WgDevice *is) {
        uint64_t now = now_realtime();

        FOREACH_ARRAY(p, want->peers, want->n_peers) {
                const WgPeer *peer = is->n_peers > 0 ? bsearch(p, is->peers, is->n_peers, sizeof(*p),
                                                                       wg_peer_compare)
                                                     : NULL;
                PathSession s = { .handshake = peer ? peer->handshake : 0 };

                if (peer && peer->endpoint.sa.sa_family != AF_UNSPEC && path_session_is_fresh(&s, now))
                        p->endpoint = peer->endpoint;
        }
}

static void set_seen(Slot *s, WgDevice *d) {
        wg_device_done(&s->seen);
        s->seen = *d;
        *d = (WgDevice){};
        s->read = true;
        tell_seen(s->wireguard);
}

static void set_told(Slot *s) {
        wg_device_done(&s->told);
        s->told = s->applying;
        s->applying = (WgDevice){};
        s->known = true;
        s->failure = mfree(s->failure);
}

static int compare(Slot *s, const WgDevice *is, WgChange *ret) {
        if (!s->known)
                keep_living_endpoints(&s->applying, is);
        return wg_change_make(is, &s->applying, s->known ? &s->told : NULL, ret);
}

static void take_want(Slot *s) {
        wg_device_done(&s->applying);
        s->applying = s->want;
        s->want = (WgDevice){};
        s->wanted = false;
}

/* It failed: wanted still, unless something else is by now. */
static void give_back(Slot *s) {
        if (s->wanted) {
                wg_device_done(&s->applying);
                return;
        }
        s->want = s->applying;
        s->applying = (WgDevice){};
        s->wanted = true;
}

/* In the kernel */

static int kernel_sync(Slot *s, KError *reterr) {
        Wireguard *w = s->wireguard;
        _cleanup_(wg_device_done) WgDevice is = {};
        _cleanup_(wg_change_done) WgChange c = {};
        int r;

        r = wg_kernel_read(w->generic, w->family, s->device, &is, reterr);
        if (r < 0)
                return r;
        if (s->wanted) {
                take_want(s);
                r = compare(s, &is, &c);
                if (r >= 0 && !wg_change_is_empty(&c))
                        r = wg_kernel_change(w->generic, w->family, s->device, &s->applying, &c, reterr);
                if (r < 0) {
                        give_back(s);
                        return r;
                }
                set_told(s);
                if (!wg_change_is_empty(&c)) {
                        wg_change_done(&c); /* points into is */
                        wg_device_done(&is);
                        r = wg_kernel_read(w->generic, w->family, s->device, &is, reterr);
                        if (r < 0)
                                return r;
                }
        }
        set_seen(s, &is);
        return 0;
}

/* In user space */

static char *socket_path(const Slot *s) {
        return strjoin(s->wireguard->socket_directory, "/", s->device, ".sock");
}

static void on_written(int r, const char *answer, size_t size, void *userdata) {
        _cleanup_free_ char *text = NULL;
        Slot *s = userdata;

        s->exchange = NULL;
        if (r >= 0)
                r = wg_uapi_parse_result(answer, size);
        if (r < 0) {
                give_back(s);
                text = strprintf("WireGuard device '%s' does not take its settings%s: %s", s->device,
                                r == -EADDRINUSE ? " (another WireGuardPort= is needed)" : "", strerror(-r));
                tell_failure(s, text ?: "A WireGuard device does not take its settings.");
                return; /* the next poll tries again */
        }
        set_told(s);
        kick(s);
}

static int start_exchange(Slot *s, char *request, size_t size, wireguard_exchange_done_t done) {
        _cleanup_free_ char *path = socket_path(s);

        if (!path) {
                erase_memory(request, size);
                free(request);
                return -ENOMEM;
        }
        return wireguard_exchange_start(s->wireguard->event, path, request, size, done, s, &s->exchange);
}

/* 1 when it is being written. */
static int userspace_write(Slot *s, const WgDevice *is) {
        _cleanup_(wg_change_done) WgChange c = {};
        char *request;
        size_t size;
        int r;

        take_want(s);
        r = compare(s, is, &c);
        if (r >= 0 && wg_change_is_empty(&c)) {
                set_told(s);
                return 0;
        }
        if (r >= 0)
                r = wg_uapi_request(&s->applying, &c, &request, &size);
        if (r >= 0)
                r = start_exchange(s, request, size, on_written);
        if (r < 0) {
                give_back(s);
                return r;
        }
        return 1;
}

static void on_read(int r, const char *answer, size_t size, void *userdata) {
        _cleanup_(wg_device_done) WgDevice is = {};
        Slot *s = userdata;

        s->exchange = NULL;
        if (r >= 0)
                r = wg_uapi_parse_device(answer, size, &is);
        if (r >= 0 && s->wanted)
                r = userspace_write(s, &is);
        if (r < 0) {
                log_debug_errno(r, "Cannot speak with WireGuard device '%s' yet: %m", s->device);
                return;
        }
        set_seen(s, &is);
}

static void kick(Slot *s) {
        char *request;
        int r;

        if (s->exchange || !s->device)
                return;
        request = strdup(WG_UAPI_READ);
        r = request ? start_exchange(s, request, strlen(WG_UAPI_READ), on_read) : -ENOMEM;
        if (r < 0) /* it has just been started: the next poll finds it */
                log_debug_errno(r, "Cannot reach WireGuard device '%s' yet: %m", s->device);
}

int wireguard_apply(Wireguard *w, unsigned slot, const char *device, WgDevice *want, KError *reterr) {
        Slot *s = &w->slots[slot];
        int r;

        r = wg_device_sort(want);
        if (r < 0)
                return r == -EINVAL ? kerror_set(reterr, K_NETWORK,
                                                      "Two nodes have the same WireGuard key or the same "
                                                      "addresses.")
                                    : r;
        if (!streq_ptr(s->device, device)) {
                slot_forget(s);
                s->device = strdup(device);
                if (!s->device)
                        return -ENOMEM;
        }
        wg_device_done(&s->want);
        s->want = *want;
        *want = (WgDevice){};
        s->wanted = true;
        s->start_usec = 0;

        if (w->mode == WIREGUARD_KERNEL)
                return kernel_sync(s, reterr);
        kick(s);
        return 0;
}

void wireguard_poll(Wireguard *w) {
        FOREACH_ARRAY(s, w->slots, WIREGUARD_SLOTS) {
                _cleanup_kerror_ KError e = KERROR_NULL;

                if (!s->device)
                        continue;
                if (w->mode != WIREGUARD_KERNEL)
                        kick(s);
                else if (kernel_sync(s, &e) < 0 && kerror_is_set(&e))
                        tell_failure(s, kerror_message(&e));
        }
}

const WgDevice *wireguard_device(const Wireguard *w, unsigned slot) {
        return w->slots[slot].read ? &w->slots[slot].seen : NULL;
}

const WgPeer *wireguard_find_peer(const Wireguard *w, unsigned slot, const uint8_t key[static WG_KEY_SIZE]) {
        const WgDevice *d = wireguard_device(w, slot);
        WgPeer like = {};

        memcpy(like.key, key, WG_KEY_SIZE);
        return d && d->n_peers > 0 ? bsearch(&like, d->peers, d->n_peers, sizeof(like), wg_peer_compare)
                                   : NULL;
}
