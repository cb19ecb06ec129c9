/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "json-util.h"
#include "network-internal.h"
#include "network-ping.h"

struct NetworkMeasure {
        Network *network;
        Ping *ping;
        network_measured_t done;
        void *userdata;
};

NetworkMeasure *network_measure_cancel(NetworkMeasure *m) {
        if (!m)
                return NULL;

        ping_cancel(m->ping);
        return mfree(m);
}
DEFINE_TRIVIAL_CLEANUP_FUNC(NetworkMeasure *, network_measure_cancel);

static const PingResult *find_result(const PingResult *results, size_t n, uint32_t address) {
        FOREACH_ARRAY(i, results, n)
                if (i->address == address)
                        return i;
        return NULL;
}

/* Peers may have come and gone since it was begun. */
static int add_results(Network *n, json_object *links, const PingResult *results, size_t n_results) {
        int r = 0;

        FOREACH_ARRAY(peer, n->peers, n->n_peers) {
                const PingResult *i = find_result(results, n_results, peer->address);
                json_object *o = json_object_object_get(links, peer->id);

                if (!i || !o)
                        continue;
                if (i->received > 0)
                        r = json_add_u64(o, "rtt_usec", i->rtt_usec);
                else
                        r = json_add_string(o, "rtt_usec", NULL);
                if (r >= 0)
                        r = json_add_u64(o, "loss", PING_COUNT - i->received);
                if (r < 0)
                        return r;
        }
        return 0;
}

static void on_pinged(const PingResult *results, size_t n, void *userdata) {
        _cleanup_(network_measure_cancelp) NetworkMeasure *m = userdata;
        _cleanup_json_ json_object *links = NULL;
        int r;

        m->ping = NULL;
        r = network_links(m->network, &links);
        if (r >= 0)
                r = add_results(m->network, links, results, n);
        m->done(r, r < 0 ? NULL : links, m->userdata);
}

int network_measure_start(
                Network *n, network_measured_t done, void *userdata, NetworkMeasure **ret, KError *reterr) {
        _cleanup_(network_measure_cancelp) NetworkMeasure *m = NULL;
        _cleanup_free_ uint32_t *addresses = NULL;
        int r;

        assert(n);
        assert(done);
        assert(ret);

        m = new0(NetworkMeasure, 1);
        addresses = new0(uint32_t, n->n_peers + 1);
        if (!m || !addresses)
                return -ENOMEM;
        *m = (NetworkMeasure){ .network = n, .done = done, .userdata = userdata };
        for (size_t i = 0; i < n->n_peers; i++)
                addresses[i] = n->peers[i].address;
        wireguard_poll(n->wireguard); /* seen by the time of the answer */
        r = ping_start(n->event, n->overlay ? n->overlay->address : 0, addresses, n->n_peers, on_pinged, m,
                        &m->ping, reterr);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(m);
        return 0;
}
