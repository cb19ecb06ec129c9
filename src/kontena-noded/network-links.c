/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <arpa/inet.h>

#include "file-util.h"
#include "json-util.h"
#include "log.h"
#include "network-internal.h"
#include "string-util.h"

/* Which link leads to which peer, and what becomes of it: devices are looked at often while something is under way, seldom otherwise. */

#define LOOK_FAST_USEC (250 * USEC_PER_MSEC)
#define LOOK_USEC      (1 * USEC_PER_SEC) /* still under way after a while */
#define LOOK_IDLE_USEC (10 * USEC_PER_SEC)
#define LOOK_FAST_FOR  (20 * USEC_PER_SEC)
#define DEVICE_LINGER  (30 * USEC_PER_SEC) /* so long a device stays that nothing is sent by */

static void on_seen(void *userdata);

static void on_wireguard_failed(const char *message, void *userdata) {
        network_event(userdata, NULL, "error", "%s", message);
}

int network_links_new(Network *n, const NetworkConfig *config) {
        _cleanup_kerror_ KError e = KERROR_NULL;
        int r;

        r = wireguard_new(n->event, n->bus, &config->wireguard, on_seen, on_wireguard_failed, n,
                        &n->wireguard);
        if (r < 0)
                return log_error_errno(r, "Cannot prepare WireGuard: %m");
        r = wireguard_keys_new(config->state_directory, &n->keys, &e);
        if (r == -ENOMEM)
                return log_oom();
        if (kerror_is_set(&e))
                log_warning("%s", kerror_message(&e));
        n->keys_usec = now_monotonic();
        return 0;
}

static void path_free(NetworkPath *p) {
        free(p->id);
        free(p);
}

void network_links_free(Network *n) {
        NetworkPath *p, *next;

        HASH_ITER(hh, n->paths, p, next) {
                HASH_DEL(n->paths, p);
                path_free(p);
        }
        sd_event_source_disable_unref(n->links_timer);
        wireguard_free(n->wireguard);
        wireguard_keys_free(n->keys);
}

void network_links_retain(Network *n) {
        NetworkPath *p, *next;

        HASH_ITER(hh, n->paths, p, next)
                if (!peers_find(n->peers, n->n_peers, p->id)) {
                        HASH_DEL(n->paths, p);
                        path_free(p);
                }
        n->links_fast_until = now_monotonic() + LOOK_FAST_FOR;
}

const NetworkPath *network_find_path(const Network *n, const Peer *peer) {
        NetworkPath *p;

        HASH_FIND_STR(n->paths, peer->id, p);
        return p;
}

static NetworkPath *get_path(Network *n, const Peer *peer) {
        NetworkPath *p;

        HASH_FIND_STR(n->paths, peer->id, p);
        if (p)
                return p;
        p = new0(NetworkPath, 1);
        if (!p)
                return NULL;
        p->id = strdup(peer->id);
        if (!p->id)
                return mfree(p);
        HASH_ADD_KEYPTR(hh, n->paths, p->id, strlen(p->id), p);
        if (!p->hh.tbl) {
                path_free(p);
                return NULL;
        }
        return p;
}

/* Keys */

static unsigned slot_of(uint32_t generation) {
        return generation % 2 == 1 ? 0 : 1;
}

uint16_t network_wireguard_port(const Network *n, unsigned slot) {
        return (uint16_t) (n->wireguard_port + slot);
}

bool network_device_is_wireguard(const char *name) {
        static const char *const prefixes[] = { WIREGUARD_PREFIXES };

        return startswith(name, prefixes[0]) || startswith(name, prefixes[1]);
}

static void tell(Network *n, NetworkChange change) {
        if (n->changed)
                n->changed(n, change, n->userdata);
}

int network_ensure_keys(Network *n, KError *reterr) {
        _cleanup_kerror_ KError e = KERROR_NULL;
        int r;

        if (n->overlay->key_generation == 0 || !n->keys)
                return 0;
        if (wireguard_mode(n->wireguard) == WIREGUARD_AUTO) {
                WireguardMode mode = wireguard_find_mode(n->wireguard, &e);

                if (mode == WIREGUARD_NO)
                        log_notice("This node has no WireGuard, only nodes in trusted subnets reach it: %s",
                                        kerror_message(&e));
                else
                        log_info("WireGuard is that of %s.",
                                        mode == WIREGUARD_KERNEL ? "the kernel" : "a program, wireguard-go");
        }
        if (wireguard_mode(n->wireguard) == WIREGUARD_NO)
                return 0;

        r = wireguard_keys_ensure(n->keys, n->overlay->grid_id, n->overlay->key_generation, reterr);
        if (r <= 0)
                return r;
        n->settled = false;
        n->keys_usec = now_monotonic();
        n->links_fast_until = n->keys_usec + LOOK_FAST_FOR;
        tell(n, NETWORK_CHANGED_KEYS);
        return 1;
}

static const WireguardKey *key_of_slot(const Network *n, unsigned slot) {
        const WireguardKey *keys;
        size_t k;

        if (!n->keys || !n->overlay || n->overlay->key_generation == 0 ||
                        wireguard_mode(n->wireguard) == WIREGUARD_NO)
                return NULL;
        k = wireguard_keys_list(n->keys, &keys);
        FOREACH_ARRAY(i, keys, k)
                if (slot_of(i->generation) == slot)
                        return i;
        return NULL;
}

/* Paths */

static const PeerKey *peer_key(const Peer *p, uint32_t generation) {
        FOREACH_ARRAY(k, p->keys, p->n_keys)
                if (k->generation == generation)
                        return k;
        return NULL;
}

static PathInput path_input(const Network *n, const Peer *p) {
        PathInput in = {
                .now = now_monotonic(),
                .realtime = now_realtime(),
                .vxlan = streq(p->link, "vxlan"),
                .vxlan_possible = p->underlay != 0 &&
                                  !ipv4_prefix_contains(&n->overlay->subnet, p->underlay),
                .relayed = p->relay,
        };

        FOREACH_ARRAY(k, p->keys, p->n_keys) {
                const WireguardKey *own = key_of_slot(n, slot_of(k->generation));
                const WgPeer *seen;

                if (!own || own->generation != k->generation)
                        continue;
                seen = wireguard_find_peer(n->wireguard, slot_of(k->generation), k->key);
                in.sessions[in.n_sessions++] = (PathSession){
                        .generation = k->generation,
                        .ready = seen && n->links[1 + slot_of(k->generation)].index > 0,
                        .handshake = seen ? seen->handshake : 0,
                };
        }
        return in;
}

static void set_work(NetworkPath *p, const PathInput *in) {
        p->takes_vxlan = path_takes_vxlan(&p->path, in->now);
        memset(p->keepalive, 0, sizeof(p->keepalive));
        FOREACH_ARRAY(s, in->sessions, in->n_sessions)
                p->keepalive[slot_of(s->generation)] = path_keepalive(&p->path, in, s->generation);
}

static bool same_work(const NetworkPath *a, const NetworkPath *b) {
        return a->path.kind == b->path.kind && a->path.generation == b->path.generation &&
               a->path.attempt == b->path.attempt &&
               memcmp(a->keepalive, b->keepalive, sizeof(a->keepalive)) == 0 &&
               a->takes_vxlan == b->takes_vxlan;
}

static void note_needed(Network *n, const NetworkPath *p, const PathInput *in) {
        for (unsigned i = 0; i < WIREGUARD_SLOTS; i++) {
                const WireguardKey *k = key_of_slot(n, i);

                if (k && path_needs(&p->path, in, k->generation, n->overlay->key_generation))
                        n->needed_usec[i] = in->now;
        }
}

/* Nobody needs the keys of before any more: all have later ones. */
static int drop_old_keys(Network *n) {
        _cleanup_kerror_ KError e = KERROR_NULL;
        const WireguardKey *keys;
        int r;

        if (!n->keys || wireguard_keys_list(n->keys, &keys) < 2 ||
                        now_monotonic() - n->keys_usec < DEVICE_LINGER ||
                        network_needed_key(n, slot_of(keys[1].generation)))
                return 0;
        FOREACH_ARRAY(p, n->peers, n->n_peers)
                if (p->n_keys > 0 && p->keys[0].generation < n->overlay->key_generation)
                        return 0;
        r = wireguard_keys_drop_before(n->keys, n->overlay->key_generation, &e);
        if (r > 0) {
                log_info("The keys of before are no longer needed, and gone.");
                tell(n, NETWORK_CHANGED_KEYS);
        } else if (r < 0)
                network_warn_once(n, "%s", kerror_message(&e));
        return r == -ENOMEM ? r : 0;
}

static void arm(Network *n, bool under_way) {
        uint64_t usec = !under_way                              ? LOOK_IDLE_USEC
                        : now_monotonic() < n->links_fast_until ? LOOK_FAST_USEC
                                                                : LOOK_USEC;
        bool any = false;

        for (unsigned i = 0; i < WIREGUARD_SLOTS; i++)
                any = any || key_of_slot(n, i);
        if (!n->links_timer)
                return;
        if (!any && !under_way) {
                (void) sd_event_source_set_enabled(n->links_timer, SD_EVENT_OFF);
                return;
        }
        if (sd_event_source_set_time_relative(n->links_timer, usec) < 0 ||
                        sd_event_source_set_enabled(n->links_timer, SD_EVENT_ONESHOT) < 0)
                log_warning("Cannot set a timer, paths to other nodes are not looked at.");
}

static int on_look(sd_event_source *s, uint64_t usec, void *userdata) {
        Network *n = userdata;

        if (!n->overlay)
                return 0;
        arm(n, true); /* should nothing be seen */
        wireguard_poll(n->wireguard);
        on_seen(n);
        return 0;
}

int network_decide_paths(Network *n) {
        bool under_way = false, news = false, changed = false;
        int r;

        if (!n->links_timer) {
                r = sd_event_add_time_relative(
                                n->event, &n->links_timer, CLOCK_MONOTONIC, LOOK_IDLE_USEC, 0, on_look, n);
                if (r >= 0)
                        r = sd_event_source_set_enabled(n->links_timer, SD_EVENT_OFF);
                if (r < 0)
                        return r;
        }

        FOREACH_ARRAY(peer, n->peers, n->n_peers) {
                NetworkPath *p = get_path(n, peer), before;
                PathInput in;

                if (!p)
                        return -ENOMEM;
                /* Of another kind, which we do not know. */
                if (!STR_IN_SET(peer->link, "vxlan", "wireguard"))
                        continue;
                before = *p;
                in = path_input(n, peer);
                if (path_decide(&p->path, &in))
                        under_way = true;
                set_work(p, &in);
                note_needed(n, p, &in);
                if (!same_work(&before, p))
                        changed = true;
                if (before.path.kind != p->path.kind || before.path.health != p->path.health)
                        news = true;
        }

        r = drop_old_keys(n);
        if (r < 0)
                return r;
        if (changed)
                n->links_fast_until = now_monotonic() + LOOK_FAST_FOR;
        arm(n, under_way);
        if (news)
                tell(n, NETWORK_CHANGED_LINKS);
        return changed;
}

/* A device in use that is needed no longer, or the other way round. */
static bool devices_differ(Network *n) {
        for (size_t i = 0; network_link_types[i]; i++) {
                int slot = network_link_types[i]->wireguard_slot;

                if (slot >= 0 && (n->links[i].index > 0) != (network_needed_key(n, (unsigned) slot) != NULL))
                        return true;
        }
        return false;
}

static void on_seen(void *userdata) {
        Network *n = userdata;

        if (!n->overlay || !n->ready)
                return;
        if (network_decide_paths(n) == 0 && !devices_differ(n))
                return;
        n->settled = false; /* what differs now, we ourselves want */
        network_schedule(n);
}

const WireguardKey *network_needed_key(Network *n, unsigned slot) {
        const WireguardKey *k = key_of_slot(n, slot);

        return k && n->needed_usec[slot] > 0 && now_monotonic() - n->needed_usec[slot] < DEVICE_LINGER
                               ? k
                               : NULL;
}

/* For the links */

static const WgEndpoint *address_of(const Peer *peer, const NetworkPath *p) {
        return peer->n_addresses > 0 ? &peer->addresses[p->path.attempt % peer->n_addresses] : NULL;
}

int network_link_peers(Network *n, const LinkType *type, LinkPeer **ret, size_t *ret_n) {
        const WireguardKey *key = type->wireguard_slot >= 0 ? key_of_slot(n, (unsigned) type->wireguard_slot)
                                                            : NULL;
        _cleanup_free_ LinkPeer *l = NULL;
        size_t k = 0;

        l = new0(LinkPeer, n->n_peers + 1);
        if (!l)
                return -ENOMEM;
        FOREACH_ARRAY(peer, n->peers, n->n_peers) {
                const NetworkPath *p = network_find_path(n, peer);

                if (!p || !p->path.known)
                        continue;
                if (type->wireguard_slot < 0) {
                        if (p->takes_vxlan && peer->underlay != 0 &&
                                        !ipv4_prefix_contains(&n->overlay->subnet, peer->underlay))
                                l[k++] = (LinkPeer){ .peer = peer };
                } else if (key && peer_key(peer, key->generation))
                        l[k++] = (LinkPeer){ .peer = peer,
                                .keepalive_sec = p->keepalive[type->wireguard_slot],
                                .address = address_of(peer, p) };
        }

        *ret = TAKE_PTR(l);
        *ret_n = k;
        return 0;
}

static size_t link_of(const NetworkPath *p) {
        return p->path.kind == PATH_VXLAN ? 0 : 1 + slot_of(p->path.generation);
}

const RtnlLink *network_route_link(
                const Network *n, const Peer *p, const LinkType **ret_type, const Peer **ret_via) {
        const Peer *via = p->relay ? peers_find(n->peers, n->n_peers, p->relay) : p;
        const NetworkPath *path = via ? network_find_path(n, via) : NULL;
        size_t i;

        if (!path || path->path.kind == PATH_NONE)
                return NULL;
        i = link_of(path);
        if (n->links[i].index == 0)
                return NULL;

        *ret_type = network_link_types[i];
        *ret_via = via;
        return &n->links[i];
}

bool network_path_is_open(const Network *n, const Peer *p) {
        const Peer *via = p->relay ? peers_find(n->peers, n->n_peers, p->relay) : p;
        const NetworkPath *path = via ? network_find_path(n, via) : NULL;

        return path && path->path.kind == PATH_NONE && via->n_keys > 0 &&
               wireguard_mode(n->wireguard) != WIREGUARD_NO;
}

/* What the master is told */

static int add_endpoint(json_object *o, const WgEndpoint *e) {
        char address[INET6_ADDRSTRLEN] = "";
        _cleanup_free_ char *text = NULL;

        if (e->sa.sa_family == AF_INET6) {
                (void) inet_ntop(AF_INET6, &e->in6.sin6_addr, address, sizeof(address));
                text = strprintf("[%s]:%u", address, ntohs(e->in6.sin6_port));
        } else {
                (void) inet_ntop(AF_INET, &e->in.sin_addr, address, sizeof(address));
                text = strprintf("%s:%u", address, ntohs(e->in.sin_port));
        }
        return text ? json_add_string(o, "endpoint", text) : -ENOMEM;
}

static WgEndpoint vxlan_endpoint(const Peer *peer) {
        return (WgEndpoint){ .in = {
                                             .sin_family = AF_INET,
                                             .sin_port = htons(OVERLAY_VXLAN_PORT),
                                             .sin_addr.s_addr = htonl(peer->underlay),
                             } };
}

/* The session by which is sent, or, of a relayed peer, by which it is tried. */
static const WgPeer *session_of(const Network *n, const Peer *peer, const NetworkPath *p) {
        const PeerKey *k = peer_key(peer, p->path.generation) ?: peer->n_keys > 0 ? &peer->keys[0] : NULL;

        return k ? wireguard_find_peer(n->wireguard, slot_of(k->generation), k->key) : NULL;
}

int network_link_describe(Network *n, const Peer *peer, json_object **ret) {
        const NetworkPath *p = network_find_path(n, peer);
        _cleanup_json_ json_object *o = json_object_new_object();
        const WgPeer *s;
        int r;

        if (!o)
                return -ENOMEM;
        s = p && p->path.kind != PATH_VXLAN ? session_of(n, peer, p) : NULL;
        r = json_add_string(o, "path",
                        peer->relay ? "relay"
                        : p         ? path_kind_to_string(p->path.kind)
                                    : "none");
        if (r >= 0)
                r = json_add_string(o, "via", peer->relay);
        if (r >= 0 && p && p->path.kind == PATH_VXLAN)
                r = add_endpoint(o, &(WgEndpoint[]){ vxlan_endpoint(peer) }[0]);
        else if (r >= 0 && s && s->endpoint.sa.sa_family != AF_UNSPEC)
                r = add_endpoint(o, &s->endpoint);
        else if (r >= 0)
                r = json_add_string(o, "endpoint", NULL);
        if (r >= 0)
                r = json_add_string(o, "state", path_health_to_string(p ? p->path.health : PATH_DOWN));
        if (r >= 0)
                r = json_add_u64(o, "handshake", s ? s->handshake : 0);
        if (r >= 0)
                r = json_add_u64(o, "rx", s ? s->rx : 0);
        if (r >= 0)
                r = json_add_u64(o, "tx", s ? s->tx : 0);
        if (r >= 0)
                r = json_add_u64(o, "mtu", n->mtu);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

int network_links(Network *n, json_object **ret) {
        _cleanup_json_ json_object *links = json_object_new_object();
        int r;

        assert(n);

        if (!links)
                return -ENOMEM;
        FOREACH_ARRAY(peer, n->peers, n->n_peers) {
                json_object *o;

                r = network_link_describe(n, peer, &o);
                if (r >= 0)
                        r = json_add(links, peer->id, o);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(links);
        return 0;
}

static int report_key(const Network *n, const WireguardKey *k, json_object *l) {
        json_object *o = json_object_new_object();
        char text[WG_KEY_STRING_SIZE];
        int r;

        r = json_append(l, o);
        if (r >= 0)
                r = json_add_u64(o, "generation", k->generation);
        if (r >= 0)
                r = json_add_string(o, "key", wg_key_to_string(k->public_key, text));
        if (r >= 0)
                r = json_add_u64(o, "port", network_wireguard_port(n, slot_of(k->generation)));
        return r;
}

int network_report_wireguard(Network *n, json_object *report) {
        WireguardMode mode = wireguard_mode(n->wireguard);
        const WireguardKey *keys;
        json_object *l;
        size_t k;
        int r;

        /* Not tried on a machine that has no grid. */
        if (mode == WIREGUARD_AUTO)
                return 0;
        r = json_add_string(
                        report, "wireguard", mode == WIREGUARD_NO ? "none" : wireguard_mode_to_string(mode));
        if (r < 0 || mode == WIREGUARD_NO || !n->keys)
                return r;
        l = json_object_new_array();
        r = json_add(report, "wireguard_keys", l);
        k = wireguard_keys_list(n->keys, &keys);
        for (size_t i = 0; i < k && r >= 0; i++)
                r = report_key(n, &keys[i], l);
        return r;
}
