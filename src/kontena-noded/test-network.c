/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "network.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "file-util.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "netns.h"
#include "network-internal.h"
#include "string-util.h"
#include "test.h"

/* The whole of the network part in a network and mount namespace of its own, with an underlay of one veth. The tests share
 * the process, each begins with a fresh namespace. */

#define DEADLINE_USEC (120 * USEC_PER_SEC)

#define NODE                                                                                                \
        "{\"name\":\"node1\",\"number\":1,\"overlay_address\":\"10.81.0.1\",\"blocks\":[\"10.81.128.0/"     \
        "25\"]}"
#define GRID "{\"id\":\"g1\",\"name\":\"demo\",\"subnet\":\"10.81.0.0/16\"}"
#define PEERS                                                                                               \
        "{\"n2\":{\"name\":\"node2\",\"number\":2,\"overlay_address\":\"10.81.0.2\",\"blocks\":[\"10.81."   \
        "128.128/25\"],"                                                                                    \
        "\"private_address\":\"172.30.0.12\",\"mtu\":1400}}"

typedef struct Fixture {
        sd_event *event;
        Network *network;
        Netlink *netlink; /* what somebody else would use */
        unsigned events;
        char *last;
} Fixture;

static void on_event(Network *n, const char *message_id, const char *severity, const char *message,
                void *userdata) {
        Fixture *f = userdata;

        f->events++;
        free(f->last);
        f->last = strdup(message);
}

static json_object *json(const char *text) {
        json_object *o = NULL;

        ASSERT_OK(json_parse(text, strlen(text), 1 << 20, &o, NULL));
        return o;
}

static void start(Fixture *f) {
        NetworkConfig config = { .state_directory = "/run/state", .runtime_directory = "/run/kontena" };

        ASSERT_OK(network_new(f->event, NULL, &config, on_event, f, &f->network));
}

static int set_grid(Fixture *f, const char *node, KError *e) {
        _cleanup_json_ json_object *n = json(node), *g = json(GRID);

        return network_set_grid(f->network, n, g, e);
}

static int set_peers(Fixture *f, const char *peers) {
        _cleanup_json_ json_object *o = json(peers);

        return network_set_peers(f->network, o, NULL);
}

static void reconcile(Fixture *f) {
        _cleanup_kerror_ KError e = KERROR_NULL;

        if (network_reconcile(f->network, &e) < 0)
                fail_msg("%s", kerror_message(&e));
}

static void set_all(Fixture *f) {
        ASSERT_OK(set_grid(f, NODE, NULL));
        ASSERT_OK(set_peers(f, PEERS));
        reconcile(f);
}

static void underlay_up(Netlink *nl) {
        static const uint8_t mac[MAC_SIZE] = { 2, 0, 0, 0, 0, 9 };
        _cleanup_close_ int self = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
        RtnlLink l;

        ASSERT_OK(rtnl_add_veth(nl, "up0", 1500, "up1", mac, self));
        ASSERT_OK(rtnl_set_up(nl, "lo"));
        ASSERT_OK(rtnl_set_up(nl, "up0"));
        ASSERT_OK(rtnl_set_up(nl, "up1"));
        ASSERT_OK(netlink_flush(nl, NULL));
        ASSERT_OK(rtnl_link_by_name(nl, "up0", &l, NULL));
        ASSERT_OK(rtnl_address(nl, true, "up0",
                        &(RtnlAddress){ .index = l.index, .address = 0xac1e000b, .length = 24 }));
        ASSERT_OK(rtnl_route(nl, true, "up0",
                        &(RtnlRoute){ .gateway = 0xac1e0001,
                                        .index = l.index,
                                        .protocol = RTPROT_BOOT,
                                        .type = RTN_UNICAST }));
        ASSERT_OK(netlink_flush(nl, NULL));
}

static int setup(void **state) {
        Fixture *f = new0(Fixture, 1);

        if (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0) {
                print_message("Skipped: cannot make namespaces: %s\n", strerror(errno));
                free(f);
                *state = NULL;
                return 0;
        }
        ASSERT_OK(mount("", "/", "none", MS_REC | MS_PRIVATE, NULL));
        ASSERT_OK(mount("tmpfs", "/run", "tmpfs", 0, "mode=0755"));
        ASSERT_OK(netlink_open(NETLINK_ROUTE, &f->netlink));
        underlay_up(f->netlink);
        ASSERT_OK(sd_event_new(&f->event));
        start(f);
        *state = f;
        return 0;
}

static int teardown(void **state) {
        Fixture *f = *state;

        if (!f)
                return 0;
        (void) network_instances_retain(f->network, NULL, NULL);
        network_free(f->network);
        netlink_free(f->netlink);
        sd_event_unref(f->event);
        free(f->last);
        free(f);
        (void) umount2("/run", MNT_DETACH);
        return 0;
}

static Fixture *fixture(void **state) {
        if (!*state)
                skip();
        return *state;
}

/* Runs the loop until an event says that something was repaired. */
static void wait_repair(Fixture *f, const char *text) {
        uint64_t begin = now_monotonic();
        unsigned before = f->events;

        while (f->events == before || !f->last || !strstr(f->last, text)) {
                if (now_monotonic() - begin > DEADLINE_USEC)
                        fail_msg("No event with '%s' in time; the last is '%s'", text, strna(f->last));
                ASSERT_OK(sd_event_run(f->event, 100 * USEC_PER_MSEC));
        }
        ASSERT_TRUE(now_monotonic() - begin < 30 * USEC_PER_SEC);
}

/* Runs the loop until it has been idle for a while. */
static void settle(Fixture *f) {
        while (sd_event_run(f->event, 200 * USEC_PER_MSEC) > 0)
                ;
}

static RtnlLink get_link(Fixture *f, const char *name) {
        RtnlLink l = {};

        if (rtnl_link_by_name(f->netlink, name, &l, NULL) < 0)
                l.index = 0;
        return l;
}

static const RtnlRoute *find_route(const RtnlRoute *l, size_t n, uint32_t destination, uint8_t length) {
        FOREACH_ARRAY(r, l, n)
                if (r->destination == destination && r->length == length)
                        return r;
        return NULL;
}

static bool has_route(Fixture *f, uint32_t destination, uint8_t length) {
        _cleanup_free_ RtnlRoute *l = NULL;
        size_t n;

        ASSERT_OK(rtnl_dump_routes(f->netlink, OVERLAY_ROUTE_PROTOCOL, &l, &n, NULL));
        return find_route(l, n, destination, length);
}

static void test_reconcile_makes_the_grid(void **state) {
        Fixture *f = fixture(state);
        _cleanup_free_ RtnlRoute *l = NULL;
        const RtnlRoute *to_peer;
        RtnlLink bridge, vxlan;
        uint8_t mac[MAC_SIZE];
        size_t n;

        ASSERT_FALSE(network_is_ready(f->network));
        set_all(f);
        ASSERT_TRUE(network_is_ready(f->network));
        ASSERT_EQ(network_mtu(f->network), 1420);
        ASSERT_STREQ(network_resolver_address(f->network), "10.81.0.1");

        bridge = get_link(f, "kt-demo");
        vxlan = get_link(f, "kt-vx-demo");
        ASSERT_TRUE(bridge.index > 0 && vxlan.index > 0);
        ASSERT_EQ(bridge.mtu, 1420);
        ASSERT_EQ(vxlan.port, OVERLAY_VXLAN_PORT);
        overlay_mac(MAC_VXLAN, "g1", 1, mac);
        ASSERT_EQ(memcmp(vxlan.mac, mac, MAC_SIZE), 0);

        ASSERT_OK(rtnl_dump_routes(f->netlink, OVERLAY_ROUTE_PROTOCOL, &l, &n, NULL));
        ASSERT_EQ(n, 4);
        ASSERT_EQ(find_route(l, n, 0x0a510000, 16)->type, RTN_UNREACHABLE);
        ASSERT_EQ(find_route(l, n, 0x0a518000, 25)->index, bridge.index);
        to_peer = find_route(l, n, 0x0a518080, 25);
        ASSERT_EQ(to_peer->index, vxlan.index);
        ASSERT_EQ(to_peer->gateway, 0x0a510002);
        ASSERT_EQ(to_peer->source, 0x0a510001);
        /* The peer's underlay is narrower than ours. */
        ASSERT_EQ(to_peer->mtu, 1320);
        ASSERT_EQ(f->events, 0);
}

static void test_second_reconcile_changes_nothing(void **state) {
        Fixture *f = fixture(state);

        set_all(f);
        ASSERT_TRUE(f->network->n_changes > 0);
        ASSERT_EQ(network_instance_add(f->network, "aaa", "10.81.128.5", NULL), 1);
        settle(f);
        reconcile(f);
        ASSERT_EQ(f->network->n_changes, 0);
        ASSERT_EQ(f->events, 0);
}

static void test_restart_keeps_what_runs(void **state) {
        NetworkPort port = { .node_port = 8080, .container_port = 80 };
        Fixture *f = fixture(state);
        RtnlLink bridge, veth;
        char name[IFNAMSIZ];

        overlay_veth_name("aaa", name);
        set_all(f);
        ASSERT_EQ(network_instance_add(f->network, "aaa", "10.81.128.5", NULL), 1);
        ASSERT_OK(network_ports_set(f->network, "aaa", "10.81.128.5", &port, 1, NULL));
        bridge = get_link(f, "kt-demo");
        veth = get_link(f, name);

        f->network = network_free(f->network);
        ASSERT_OK(firewall_run(
                        "get element inet kontena ports_any { tcp . 8080 : 10.81.128.5 . 80 }", NULL));
        start(f);
        set_all(f);
        /* Before anybody has told of the ports again. */
        ASSERT_OK(firewall_run(
                        "get element inet kontena ports_any { tcp . 8080 : 10.81.128.5 . 80 }", NULL));
        ASSERT_EQ(network_instance_add(f->network, "aaa", "10.81.128.5", NULL), 0);
        ASSERT_EQ(get_link(f, "kt-demo").index, bridge.index);
        ASSERT_EQ(get_link(f, name).index, veth.index);
        ASSERT_EQ(f->events, 0);
}

static void test_deleted_devices_come_back(void **state) {
        Fixture *f = fixture(state);
        char veth[IFNAMSIZ];

        overlay_veth_name("aaa", veth);
        set_all(f);
        ASSERT_EQ(network_instance_add(f->network, "aaa", "10.81.128.5", NULL), 1);
        settle(f);

        ASSERT_OK(rtnl_delete_link(f->netlink, "kt-vx-demo"));
        ASSERT_OK(netlink_flush(f->netlink, NULL));
        wait_repair(f, "create VXLAN device 'kt-vx-demo'");
        ASSERT_TRUE(has_route(f, 0x0a518080, 25));
        settle(f);

        ASSERT_OK(rtnl_delete_link(f->netlink, "kt-demo"));
        ASSERT_OK(netlink_flush(f->netlink, NULL));
        wait_repair(f, "create bridge 'kt-demo'");
        ASSERT_EQ(get_link(f, veth).master, get_link(f, "kt-demo").index);
        settle(f);

        ASSERT_OK(rtnl_delete_link(f->netlink, veth));
        ASSERT_OK(netlink_flush(f->netlink, NULL));
        wait_repair(f, "repair the network of instance 'aaa'");
        ASSERT_EQ(get_link(f, veth).master, get_link(f, "kt-demo").index);
}

/* Trap 13. */
static void test_mac_address_is_restored(void **state) {
        static const uint8_t other[MAC_SIZE] = { 2, 9, 9, 9, 9, 9 };
        Fixture *f = fixture(state);
        uint8_t mac[MAC_SIZE];

        set_all(f);
        settle(f);
        overlay_mac(MAC_VXLAN, "g1", 1, mac);
        ASSERT_OK(rtnl_set_mac(f->netlink, "kt-vx-demo", other));
        ASSERT_OK(netlink_flush(f->netlink, NULL));
        wait_repair(f, "set the MAC address of 'kt-vx-demo'");
        ASSERT_EQ(memcmp(get_link(f, "kt-vx-demo").mac, mac, MAC_SIZE), 0);
}

static void test_routes_and_entries_are_restored(void **state) {
        RtnlRoute route = { .destination = 0x0a518080, .length = 25, .type = RTN_UNICAST };
        Fixture *f = fixture(state);
        RtnlNeighbor entry = { .family = AF_BRIDGE, .state = NUD_PERMANENT, .address = 0xac1e000c };

        set_all(f);
        settle(f);
        ASSERT_OK(rtnl_route(f->netlink, false, "x", &route));
        ASSERT_OK(netlink_flush(f->netlink, NULL));
        wait_repair(f, "add route 10.81.128.128/25");
        ASSERT_TRUE(has_route(f, 0x0a518080, 25));
        settle(f);

        entry.index = get_link(f, "kt-vx-demo").index;
        overlay_mac(MAC_VXLAN, "g1", 2, entry.mac);
        ASSERT_OK(rtnl_neighbor(f->netlink, false, "x", &entry));
        ASSERT_OK(netlink_flush(f->netlink, NULL));
        wait_repair(f, "add forwarding entry");
}

/* firewall_run() changes rules under the name that marks them as ours, so "somebody" is another name. */
static int run_nft(const char *commands) {
        int status;
        pid_t pid = fork();

        if (pid == 0) {
                execl("/usr/sbin/nft", "nft", commands, NULL);
                _exit(127);
        }
        ASSERT_TRUE(waitpid(pid, &status, 0) == pid);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Trap 15. */
static void test_flushed_rules_are_restored(void **state) {
        NetworkPort port = { .node_port = 8080, .container_port = 80 };
        Fixture *f = fixture(state);

        set_all(f);
        ASSERT_EQ(network_instance_add(f->network, "aaa", "10.81.128.5", NULL), 1);
        ASSERT_OK(network_ports_set(f->network, "aaa", "10.81.128.5", &port, 1, NULL));
        settle(f);
        ASSERT_EQ(f->events, 0);

        ASSERT_EQ(run_nft("flush ruleset"), 0);
        wait_repair(f, "inet kontena");
        ASSERT_OK(firewall_run(
                        "get element inet kontena ports_any { tcp . 8080 : 10.81.128.5 . 80 }", NULL));
}

static void test_ports_of_instances(void **state) {
        NetworkPort ports[] = { { .node_port = 8080, .container_port = 80 },
                { .node_port = 5353, .container_port = 53, .protocol = TRANSPORT_UDP } };
        _cleanup_kerror_ KError e = KERROR_NULL;
        Fixture *f = fixture(state);

        set_all(f);
        ASSERT_OK(network_ports_set(f->network, "aaa", "10.81.128.5", ports, 2, &e));
        ASSERT_OK(firewall_run("get element inet kontena ports_any { udp . 5353 : 10.81.128.5 . 53 }", &e));
        ASSERT_OK(network_ports_set(f->network, "aaa", "10.81.128.5", ports, 1, &e));
        ASSERT_TRUE(firewall_run("get element inet kontena ports_any { udp . 5353 }", NULL) < 0);

        /* The successor takes the port over, and keeps it when its predecessor goes. */
        ASSERT_OK(network_ports_set(f->network, "bbb", "10.81.128.6", ports, 1, &e));
        ASSERT_OK(network_instance_remove(f->network, "aaa", &e));
        ASSERT_OK(firewall_run("get element inet kontena ports_any { tcp . 8080 : 10.81.128.6 . 80 }", &e));
        ASSERT_OK(network_instances_retain(f->network, NULL, &e));
        ASSERT_TRUE(firewall_run("get element inet kontena ports_any { tcp . 8080 }", NULL) < 0);

        ports[0].node_port = 0;
        ASSERT_ERROR(network_ports_set(f->network, "aaa", "10.81.128.5", ports, 1, NULL), EINVAL);
        ASSERT_TRUE(network_ports_set(f->network, "../aaa", "10.81.128.5", ports, 1, NULL) < 0);
        ASSERT_ERROR(network_ports_set(f->network, "aaa", "10.81.128.5", ports, PORTS_MAX + 1, NULL), E2BIG);
}

static void test_ports_of_a_node_are_bounded(void **state) {
        _cleanup_kerror_ KError e = KERROR_NULL;
        NetworkPort ports[PORTS_MAX];
        Fixture *f = fixture(state);
        size_t n = 0;
        int r = 0;

        /* Not yet reconciled: nothing but the list is changed. */
        for (; r >= 0 && n <= NETWORK_PORTS_MAX / PORTS_MAX; n++) {
                char id[16];

                for (size_t i = 0; i < PORTS_MAX; i++)
                        ports[i] = (NetworkPort){ .node_port = (uint16_t) (10000 + n * PORTS_MAX + i),
                                .container_port = 80 };
                (void) snprintf(id, sizeof(id), "i%zu", n);
                r = network_ports_set(f->network, id, "10.81.128.5", ports, PORTS_MAX, &e);
        }
        ASSERT_EQ(n, NETWORK_PORTS_MAX / PORTS_MAX + 1);
        ASSERT_ERROR(r, E2BIG);
        ASSERT_EQ(e.code, K_LIMIT_EXCEEDED);
}

static void test_port_in_use_is_refused(void **state) {
        struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        _cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        _cleanup_kerror_ KError e = KERROR_NULL;
        NetworkPort port = { .container_port = 80 };
        socklen_t size = sizeof(sa);
        Fixture *f = fixture(state);

        set_all(f);
        ASSERT_OK(bind(fd, (struct sockaddr *) &sa, sizeof(sa)));
        ASSERT_OK(listen(fd, 1));
        ASSERT_OK(getsockname(fd, (struct sockaddr *) &sa, &size));
        port.node_port = ntohs(sa.sin_port);
        ASSERT_TRUE(network_ports_set(f->network, "aaa", "10.81.128.5", &port, 1, &e) < 0);
        ASSERT_EQ(e.code, K_IN_USE);
        ASSERT_TRUE(strstr(kerror_message(&e), "is in use on this machine"));
}

/* Trap 18. */
static void test_collision_names_the_route(void **state) {
        _cleanup_kerror_ KError e = KERROR_NULL;
        RtnlRoute route = {
                .destination = 0x0a510400, .length = 24, .protocol = RTPROT_STATIC, .type = RTN_UNICAST
        };
        Fixture *f = fixture(state);

        route.index = get_link(f, "up0").index;
        ASSERT_OK(rtnl_route(f->netlink, true, "up0", &route));
        ASSERT_OK(netlink_flush(f->netlink, NULL));
        ASSERT_ERROR(set_grid(f, NODE, &e), EADDRINUSE);
        ASSERT_STREQ(kerror_message(&e),
                        "The grid's subnet 10.81.0.0/16 overlaps the route 10.81.4.0/24 on 'up0'.");
        ASSERT_EQ(get_link(f, "kt-demo").index, 0);

        ASSERT_OK(rtnl_route(f->netlink, false, "up0", &route));
        ASSERT_OK(netlink_flush(f->netlink, NULL));
        set_all(f);

        /* Where the grid lives already, a later route is a warning: instances must not go for it. */
        ASSERT_OK(rtnl_route(f->netlink, true, "up0", &route));
        ASSERT_OK(netlink_flush(f->netlink, NULL));
        f->network = network_free(f->network);
        start(f);
        ASSERT_OK(set_grid(f, NODE, NULL));
        ASSERT_EQ(f->events, 1);
        ASSERT_TRUE(strstr(f->last, "overlaps the route 10.81.4.0/24"));
}

static void test_instance_lifecycle(void **state) {
        _cleanup_kerror_ KError e = KERROR_NULL;
        Fixture *f = fixture(state);
        char veth[IFNAMSIZ];

        ASSERT_TRUE(network_instance_add(f->network, "aaa", "10.81.128.5", &e) < 0); /* no grid */
        kerror_done(&e);
        set_all(f);
        overlay_veth_name("aaa", veth);
        ASSERT_EQ(network_instance_add(f->network, "aaa", "10.81.128.5", &e), 1);
        ASSERT_EQ(network_instance_add(f->network, "aaa", "10.81.128.5", &e), 0);
        ASSERT_EQ(get_link(f, veth).master, get_link(f, "kt-demo").index);
        ASSERT_EQ(get_link(f, veth).mtu, 1420);
        ASSERT_EQ(get_link(f, veth).addr_gen_mode, IN6_ADDR_GEN_MODE_NONE);
        ASSERT_TRUE(netns_exists(NETNS_DIRECTORY, "aaa"));
        ASSERT_EQ(network_instance_add(f->network, "bbb", "10.81.128.6", &e), 1);

        ASSERT_OK(network_instance_remove(f->network, "aaa", &e));
        ASSERT_FALSE(netns_exists(NETNS_DIRECTORY, "aaa"));
        ASSERT_OK(network_instance_remove(f->network, "aaa", &e));
        ASSERT_OK(network_instances_retain(f->network, (char *[]){ veth, NULL }, &e));
        ASSERT_FALSE(netns_exists(NETNS_DIRECTORY, "bbb"));

        ASSERT_TRUE(network_instance_add(f->network, "../x", "10.81.128.5", NULL) < 0);
        ASSERT_TRUE(network_instance_add(f->network, "x", "192.0.2.1", NULL) < 0);
        ASSERT_TRUE(network_instance_add(f->network, "x", "10.81.0.1", NULL) < 0);
        ASSERT_TRUE(network_instance_add(f->network, "x", "", NULL) < 0);
}

/* A pin that was never mounted and a veth whose other end nobody knows: what a kill in the middle may leave. */
static void test_half_made_instance_is_repaired(void **state) {
        static const uint8_t mac[MAC_SIZE] = { 2, 0, 0, 0, 0, 7 };
        _cleanup_close_ int self = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), pin = -EBADF;
        Fixture *f = fixture(state);
        char veth[IFNAMSIZ];

        set_all(f);
        overlay_veth_name("aaa", veth);
        ASSERT_OK(rtnl_add_veth(f->netlink, veth, 1420, "orphan", mac, self));
        ASSERT_OK(netlink_flush(f->netlink, NULL));
        ASSERT_OK(mkdir_p(NETNS_DIRECTORY, 0755));
        pin = open(NETNS_DIRECTORY "/kt-aaa", O_RDONLY | O_CREAT | O_CLOEXEC, 0444);
        ASSERT_OK(pin);
        ASSERT_FALSE(netns_exists(NETNS_DIRECTORY, "aaa"));

        ASSERT_EQ(network_instance_add(f->network, "aaa", "10.81.128.5", NULL), 1);
        ASSERT_TRUE(netns_exists(NETNS_DIRECTORY, "aaa"));
        ASSERT_EQ(get_link(f, veth).master, get_link(f, "kt-demo").index);
        ASSERT_EQ(get_link(f, "orphan").index, 0);
}

/* Never leave the machine's namespace. */
static void test_this_process_stays_where_it_is(void **state) {
        Fixture *f = fixture(state);
        struct stat before, after;

        ASSERT_OK(stat("/proc/self/ns/net", &before));
        set_all(f);
        ASSERT_EQ(network_instance_add(f->network, "aaa", "10.81.128.5", NULL), 1);
        ASSERT_OK(stat("/proc/self/ns/net", &after));
        ASSERT_EQ(before.st_ino, after.st_ino);
}

#define FAR                                                                                                 \
        "{\"n2\":{\"name\":\"far1\",\"number\":2,\"overlay_address\":\"10.81.0.2\",\"blocks\":[\"10.81."    \
        "128.128/25\"],"                                                                                    \
        "\"public_address\":\"198.51.100.7\",\"link\":\"wireguard\"}}"

static void test_unavailable_link_is_said_once(void **state) {
        Fixture *f = fixture(state);

        ASSERT_OK(set_grid(f, NODE, NULL));
        ASSERT_OK(set_peers(f, FAR));
        reconcile(f);
        reconcile(f);
        ASSERT_OK(set_peers(f, FAR));
        reconcile(f);
        ASSERT_EQ(f->events, 1);
        ASSERT_TRUE(strstr(f->last, "'far1'") && strstr(f->last, "'wireguard'"));
        ASSERT_FALSE(has_route(f, 0x0a518080, 25));
        ASSERT_EQ(get_link(f, "kt-vx-demo").index, 0);
}

/* A device of our bridge's name that is not ours is left alone and told of, once; when it goes, ours comes. */
static void test_failure_is_said_once_and_retried(void **state) {
        static const uint8_t mac[MAC_SIZE] = { 2, 0, 0, 0, 0, 7 };
        _cleanup_close_ int self = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
        _cleanup_kerror_ KError e = KERROR_NULL;
        uint64_t begin = now_monotonic();
        Fixture *f = fixture(state);

        ASSERT_OK(rtnl_add_veth(f->netlink, "kt-demo", 1500, "other", mac, self));
        ASSERT_OK(netlink_flush(f->netlink, NULL));
        ASSERT_OK(set_grid(f, NODE, NULL));
        ASSERT_OK(set_peers(f, PEERS));
        ASSERT_TRUE(network_reconcile(f->network, &e) < 0);
        ASSERT_STREQ(kerror_message(&e), "There is a device 'kt-demo' on this machine which is not ours.");
        ASSERT_FALSE(network_is_ready(f->network));
        while (now_monotonic() - begin < 300 * USEC_PER_MSEC)
                ASSERT_OK(sd_event_run(f->event, 50 * USEC_PER_MSEC));
        ASSERT_EQ(f->events, 1);
        ASSERT_TRUE(strstr(f->last, "not ours"));

        ASSERT_OK(rtnl_delete_link(f->netlink, "kt-demo"));
        ASSERT_OK(netlink_flush(f->netlink, NULL));
        wait_repair(f, "as it should be again");
        ASSERT_TRUE(network_is_ready(f->network));
}

static void test_peer_that_leaves_is_forgotten(void **state) {
        Fixture *f = fixture(state);

        set_all(f);
        ASSERT_TRUE(get_link(f, "kt-vx-demo").index > 0);
        ASSERT_OK(set_peers(f, "{}"));
        reconcile(f);
        ASSERT_EQ(get_link(f, "kt-vx-demo").index, 0);
        ASSERT_FALSE(has_route(f, 0x0a518080, 25));
        ASSERT_EQ(f->events, 0);
}

static void test_mtu_follows_the_underlay(void **state) {
        Fixture *f = fixture(state);
        char veth[IFNAMSIZ];

        overlay_veth_name("aaa", veth);
        set_all(f);
        ASSERT_EQ(network_instance_add(f->network, "aaa", "10.81.128.5", NULL), 1);
        settle(f);
        ASSERT_OK(rtnl_set_mtu(f->netlink, "up0", 1400));
        ASSERT_OK(netlink_flush(f->netlink, NULL));
        wait_repair(f, "1320");
        ASSERT_EQ(network_mtu(f->network), 1320);
        ASSERT_EQ(get_link(f, "kt-demo").mtu, 1320);
        ASSERT_EQ(get_link(f, veth).mtu, 1320);
}

static void test_names_are_written_or_refused(void **state) {
        _cleanup_json_ json_object *good = json("{\"web.demo.kontena.local\":[\"10.81.128.5\"]}"),
                                   *bad = json("{\"web.demo.kontena.local\\n1.2.3.4 "
                                               "x.kontena.local\":[\"10.81.128.5\"]}");
        _cleanup_free_ char *text = NULL, *after = NULL;
        Fixture *f = fixture(state);

        ASSERT_EQ(network_set_names(f->network, good, NULL), 1);
        ASSERT_EQ(network_set_names(f->network, good, NULL), 0);
        ASSERT_OK(read_file("/run/kontena/dns/hosts/names", 4096, &text, NULL));
        ASSERT_STREQ(text, "10.81.128.5 web.demo.kontena.local\n");
        ASSERT_TRUE(network_set_names(f->network, bad, NULL) < 0);
        ASSERT_OK(read_file("/run/kontena/dns/hosts/names", 4096, &after, NULL));
        ASSERT_STREQ(after, text);
}

static void test_report(void **state) {
        _cleanup_json_ json_object *report = json_object_new_object();
        Fixture *f = fixture(state);

        set_all(f);
        ASSERT_OK(network_report(f->network, report));
        ASSERT_STREQ(json_text(report),
                        "{\"addresses\":[\"172.30.0.11/24\"],\"routes\":[\"172.30.0.0/24\"],\"mtu\":1500,"
                        "\"private_address\":\"172.30.0.11\"}");
}

static void assert_nothing_is_left(Fixture *f) {
        _cleanup_free_ RtnlRoute *routes = NULL;
        _cleanup_free_ RtnlLink *links = NULL;
        size_t n;

        ASSERT_OK(rtnl_dump_links(f->netlink, &links, &n, NULL));
        FOREACH_ARRAY(l, links, n)
                ASSERT_FALSE(startswith(l->alias, NETWORK_ALIAS_PREFIX));
        ASSERT_OK(rtnl_dump_routes(f->netlink, OVERLAY_ROUTE_PROTOCOL, &routes, &n, NULL));
        ASSERT_EQ(n, 0);
        ASSERT_FALSE(netns_exists(NETNS_DIRECTORY, "i1"));
        ASSERT_TRUE(firewall_run("list table inet kontena\n", NULL) < 0);
        ASSERT_TRUE(access("/run/kontena/network/ports", F_OK) < 0);
        ASSERT_TRUE(access("/run/kontena/dns/dnsmasq.conf", F_OK) < 0);
        ASSERT_TRUE(!network_resolver_address(f->network));
}

static void test_clear_leaves_nothing(void **state) {
        NetworkPort port = { .node_port = 8080, .container_port = 80 };
        Fixture *f = fixture(state);

        set_all(f);
        ASSERT_OK(network_instance_add(f->network, "i1", "10.81.128.5", NULL));
        ASSERT_OK(network_ports_set(f->network, "i1", "10.81.128.5", &port, 1, NULL));
        for (int i = 0; i < 2; i++) { /* there need be nothing */
                ASSERT_OK(network_clear(f->network, NULL));
                assert_nothing_is_left(f);
        }

        /* By a daemon that has never been told of a grid, as well. */
        set_all(f);
        network_free(f->network);
        start(f);
        ASSERT_OK(network_clear(f->network, NULL));
        assert_nothing_is_left(f);

        set_all(f);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

KONTENA_TESTS(TEST(test_reconcile_makes_the_grid), TEST(test_second_reconcile_changes_nothing),
                TEST(test_restart_keeps_what_runs), TEST(test_deleted_devices_come_back),
                TEST(test_mac_address_is_restored), TEST(test_routes_and_entries_are_restored),
                TEST(test_flushed_rules_are_restored), TEST(test_ports_of_instances),
                TEST(test_port_in_use_is_refused), TEST(test_ports_of_a_node_are_bounded),
                TEST(test_collision_names_the_route), TEST(test_instance_lifecycle),
                TEST(test_half_made_instance_is_repaired), TEST(test_this_process_stays_where_it_is),
                TEST(test_unavailable_link_is_said_once), TEST(test_failure_is_said_once_and_retried),
                TEST(test_peer_that_leaves_is_forgotten), TEST(test_mtu_follows_the_underlay),
                TEST(test_names_are_written_or_refused), TEST(test_report), TEST(test_clear_leaves_nothing))
