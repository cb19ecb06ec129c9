/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <arpa/inet.h>
#include <stdio.h>
#include <sys/socket.h>

#include "conntrack.h"
#include "file-util.h"
#include "kontena-limits.h"
#include "log.h"
#include "network-internal.h"
#include "string-util.h"

#define PORTS_FILE_MAX (8U * 1024U * 1024U)

static void publication_done(Publication *p) {
        free(p->id);
}

static void publications_free(Publication *l, size_t n) {
        FOREACH_ARRAY(p, l, n)
                publication_done(p);
        free(l);
}

void network_ports_free(Network *n) {
        publications_free(n->publications, n->n_publications);
        n->publications = NULL;
        n->n_publications = 0;
}

static bool port_equal(const NetworkPort *a, const NetworkPort *b) {
        return a->ip == b->ip && a->node_port == b->node_port && a->container_port == b->container_port &&
               a->protocol == b->protocol;
}

static int save(Network *n, KError *reterr) {
        _cleanup_free_ char *text = NULL, *directory = NULL;
        size_t size;
        FILE *f;
        int r;

        f = open_memstream(&text, &size);
        if (!f)
                return -ENOMEM;
        FOREACH_ARRAY(p, n->publications, n->n_publications)
                (void) fprintf(f, "%s %s %s %u %u %s\n", p->id, IPV4_TO_STRING(p->address),
                                IPV4_TO_STRING(p->port.ip), p->port.node_port, p->port.container_port,
                                transport_protocol_to_string(p->port.protocol));
        if (fclose(f) != 0)
                return -ENOMEM;

        directory = strjoin(n->runtime_directory, "/network");
        if (!directory)
                return -ENOMEM;
        r = mkdir_p(directory, 0755);
        if (r >= 0)
                r = write_file_atomic(n->ports_path, text, size, 0644);
        return r < 0 ? kerror_set_errno(reterr, r, "Cannot write '%s': %m.", n->ports_path) : 0;
}

static int parse_line(const char *line, Publication *ret) {
        _cleanup_strv_free_ char **w = NULL;
        Publication p = {};
        int r;

        r = strv_split(line, " ", &w);
        if (r < 0)
                return r;
        if (strv_length(w) != 6 || !instance_id_is_valid(w[0]) || parse_ipv4(w[1], &p.address) < 0 ||
                        parse_ipv4(w[2], &p.port.ip) < 0 || parse_port(w[3], &p.port.node_port) < 0 ||
                        parse_port(w[4], &p.port.container_port) < 0 ||
                        (p.port.protocol = transport_protocol_from_string(w[5])) < 0)
                return -EBADMSG;

        p.id = TAKE_PTR(w[0]);
        w[0] = strdup(""); /* the vector stays whole */
        if (!w[0]) {
                publication_done(&p);
                return -ENOMEM;
        }
        *ret = p;
        return 0;
}

int network_ports_load(Network *n) {
        _cleanup_strv_free_ char **lines = NULL;
        _cleanup_free_ char *text = NULL;
        int r;

        r = read_file(n->ports_path, PORTS_FILE_MAX, &text, NULL);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return r;
        r = strv_split(text, "\n", &lines);
        if (r < 0)
                return r;

        n->publications = new0(Publication, strv_length(lines) + 1);
        if (!n->publications)
                return -ENOMEM;
        STRV_FOREACH(l, lines) {
                r = parse_line(*l, &n->publications[n->n_publications]);
                if (r < 0) {
                        network_ports_free(n);
                        return r;
                }
                n->n_publications++;
        }
        return 0;
}

int network_apply_firewall(Network *n, KError *reterr) {
        const char *devices[LINK_TYPES_MAX + 1] = {};
        uint16_t ports[LINK_TYPES_MAX + 1] = {}, open[LINK_TYPES_MAX + 1] = {};
        _cleanup_free_ uint32_t *peers = NULL;
        FirewallRules rules = {
                .overlay = n->overlay,
                .devices = devices,
                .link_ports = ports,
                .open_ports = open,
                .publications = n->publications,
                .n_publications = n->n_publications,
        };
        size_t n_devices = 0, n_ports = 0, n_open = 0;

        if (!n->overlay)
                return 0;

        peers = new0(uint32_t, n->n_peers + 1);
        if (!peers)
                return -ENOMEM;
        FOREACH_ARRAY(p, n->peers, n->n_peers) {
                const NetworkPath *path = network_find_path(n, p);

                if (p->underlay != 0 && path && path->takes_vxlan)
                        peers[rules.n_peers++] = p->underlay;
        }
        rules.peers = peers;

        for (size_t i = 0; network_link_types[i]; i++) {
                const LinkType *type = network_link_types[i];

                if (n->links[i].index == 0)
                        continue;
                devices[n_devices++] = n->links[i].name;
                if (type->port != 0)
                        ports[n_ports++] = type->port;
                if (type->wireguard_slot >= 0)
                        open[n_open++] = network_wireguard_port(n, (unsigned) type->wireguard_slot);
        }
        return firewall_apply(n->firewall, &rules, reterr);
}

/* As a daemon that wants the port would find out. What holds it now would go deaf, silently. */
static int check_free(const NetworkPort *p, KError *reterr) {
        static const struct {
                int type, number;
        } types[_TRANSPORT_PROTOCOL_MAX] = {
                [TRANSPORT_TCP] = { SOCK_STREAM, IPPROTO_TCP },
                [TRANSPORT_UDP] = { SOCK_DGRAM, IPPROTO_UDP },
                [TRANSPORT_SCTP] = { SOCK_STREAM, IPPROTO_SCTP },
        };
        struct sockaddr_in sa = {
                .sin_family = AF_INET, .sin_port = htons(p->node_port), .sin_addr.s_addr = htonl(p->ip)
        };
        _cleanup_close_ int fd = -EBADF;
        int one = 1;

        fd = socket(AF_INET, types[p->protocol].type | SOCK_CLOEXEC, types[p->protocol].number);
        /* A kernel that cannot speak it has nobody who listens. */
        if (fd < 0 && errno == EPROTONOSUPPORT)
                return 0;
        if (fd < 0)
                return kerror_set_errno(reterr, -errno, "Cannot make a socket: %m.");
        if (p->protocol != TRANSPORT_UDP && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0)
                return kerror_set_errno(reterr, -errno, "Cannot prepare a socket: %m.");
        if (bind(fd, (struct sockaddr *) &sa, sizeof(sa)) >= 0)
                return 0;

        switch (errno) {
        case EADDRINUSE:
                return kerror_set(reterr, K_IN_USE, "Port %u/%s is in use on this machine.", p->node_port,
                                transport_protocol_to_string(p->protocol));
        case EADDRNOTAVAIL:
                return kerror_set(reterr, K_NETWORK,
                                "Port %u cannot be published on %s, which is no address of this machine.",
                                p->node_port, IPV4_TO_STRING(p->ip));
        default:
                return 0; /* not allowed to find out */
        }
}

static bool is_published(
                const Publication *l, size_t n, const char *id, uint32_t address, const NetworkPort *port) {
        FOREACH_ARRAY(p, l, n)
                if (streq(p->id, id) && p->address == address && port_equal(&p->port, port))
                        return true;
        return false;
}

static bool anybody_publishes(const Network *n, const NetworkPort *port) {
        FOREACH_ARRAY(p, n->publications, n->n_publications)
                if (p->port.node_port == port->node_port && p->port.protocol == port->protocol &&
                                p->port.ip == port->ip)
                        return true;
        return false;
}

typedef bool (*keep_t)(const Publication *p, const void *userdata);

/* Those that are kept, and those that are added. Old ones stay as they are on failure. */
static int rebuild(const Network *n, keep_t keep, const void *userdata, const char *id, uint32_t address,
                const NetworkPort *ports, size_t n_ports, Publication **ret, size_t *ret_n) {
        Publication *l = new0(Publication, n->n_publications + n_ports + 1);
        size_t k = 0;

        if (!l)
                return -ENOMEM;
        FOREACH_ARRAY(p, n->publications, n->n_publications)
                if (keep(p, userdata)) {
                        l[k] = *p;
                        l[k++].id = strdup(p->id);
                }
        for (size_t i = 0; i < n_ports; i++)
                l[k++] = (Publication){ .id = strdup(id), .address = address, .port = ports[i] };

        for (size_t i = 0; i < k; i++)
                if (!l[i].id) {
                        publications_free(l, k);
                        return -ENOMEM;
                }
        *ret = l;
        *ret_n = k;
        return 0;
}

static void forget_flows(const NetworkPort *p) {
        _cleanup_kerror_ KError e = KERROR_NULL;

        if (p->protocol == TRANSPORT_UDP && conntrack_forget_udp(p->ip, p->node_port, &e) < 0)
                log_warning("Old flows to UDP port %u may go on to where they went: %s", p->node_port,
                                kerror_message(&e));
}

/* Puts the list into effect and forgets UDP flows to ports that only one of the lists has. */
static int replace(Network *n, Publication *l, size_t k, KError *reterr) {
        Publication *before = n->publications;
        size_t n_before = n->n_publications;
        int r, result;

        n->publications = l;
        n->n_publications = k;
        result = save(n, reterr);
        r = n->ready ? network_apply_firewall(n, reterr) : 0;
        if (r < 0) {
                result = r;
                network_schedule(n);
        }

        FOREACH_ARRAY(p, l, k)
                if (!is_published(before, n_before, p->id, p->address, &p->port))
                        forget_flows(&p->port);
        FOREACH_ARRAY(p, before, n_before)
                if (!is_published(l, k, p->id, p->address, &p->port))
                        forget_flows(&p->port);
        publications_free(before, n_before);
        return MIN(result, 0);
}

static bool keep_others(const Publication *p, const void *userdata) {
        return !streq(p->id, userdata);
}

static bool keep_listed(const Publication *p, const void *userdata) {
        return strv_contains((char *const *) userdata, p->id);
}

int network_ports_check(Network *n, const NetworkPort *ports, size_t n_ports, KError *reterr) {
        FOREACH_ARRAY(p, ports, n_ports) {
                int r;

                if (p->node_port == 0 || p->container_port == 0)
                        return kerror_set(reterr, K_INVALID_ARGUMENT, "Ports are 1 to 65535.");
                if (anybody_publishes(n, p))
                        continue; /* the later one gets it */
                r = check_free(p, reterr);
                if (r < 0)
                        return r;
        }
        return 0;
}

int network_ports_set(Network *n, const char *id, const char *address, const NetworkPort *ports,
                size_t n_ports, KError *reterr) {
        size_t k, same = 0, old = 0;
        uint32_t a = 0;
        Publication *l;
        int r;

        assert(n);
        assert(ports || n_ports == 0);

        if (!instance_id_is_valid(id))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "An instance's id is not valid.");
        if (n_ports > PORTS_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "An instance publishes at most %u ports.",
                                PORTS_MAX);
        if (n_ports > 0 && parse_ipv4(address, &a) < 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' is not an IPv4 address.", address);

        FOREACH_ARRAY(p, n->publications, n->n_publications)
                old += streq(p->id, id);
        FOREACH_ARRAY(p, ports, n_ports)
                same += is_published(n->publications, n->n_publications, id, a, p);
        r = network_ports_check(n, ports, n_ports, reterr);
        if (r < 0)
                return r;
        if (same == n_ports && old == n_ports)
                return 0;
        if (n->n_publications - old + n_ports > NETWORK_PORTS_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "A node publishes at most %u ports.",
                                NETWORK_PORTS_MAX);

        r = rebuild(n, keep_others, id, id, a, ports, n_ports, &l, &k);
        if (r < 0)
                return r;
        return replace(n, l, k, reterr);
}

int network_ports_retain(Network *n, char *const *ids, KError *reterr) {
        Publication *l;
        size_t k;
        int r;

        r = rebuild(n, keep_listed, ids, NULL, 0, NULL, 0, &l, &k);
        if (r < 0)
                return r;
        if (k != n->n_publications)
                return replace(n, l, k, reterr);

        publications_free(l, k);
        return 0;
}
