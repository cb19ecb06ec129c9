/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <systemd/sd-bus.h>

#include "file-util.h"
#include "json-util.h"
#include "log.h"
#include "network.h"
#include "parse-util.h"
#include "string-util.h"

/* Runs the network part alone on a lab host: reads a desired state (sections node, grid, peers, names as in
 * doc/node-channel.md, "preshared", "relays", "pair_key" in base64, not sealed, and "instances": {ID: {"address", "ports": [{"node_port", "container_port", "udp"}]}}) from a file, keeps
 * to it, and reads it again on SIGHUP. Prints events, reports, links; on SIGUSR1 measures these. Built with the tests, never installed. */

#define DESIRED_SIZE_MAX (16U * 1024U * 1024U)

typedef struct Driver {
        Network *network;
        const char *path;
        NetworkMeasure *measure;
} Driver;

/* What the master would be told: wireguard_keys and the like beside the file that was read. */
static void on_changed(Network *n, NetworkChange change, void *userdata) {
        _cleanup_json_ json_object *links = NULL, *report = json_object_new_object();

        if (change == NETWORK_CHANGED_KEYS && report && network_report(n, report) >= 0)
                (void) printf("report %s\n", json_text(report));
        else if (change == NETWORK_CHANGED_LINKS && network_links(n, &links) >= 0)
                (void) printf("links %s\n", json_text(links));
        (void) fflush(stdout);
}

static void on_measured(int r, json_object *links, void *userdata) {
        Driver *d = userdata;

        d->measure = NULL;
        (void) printf("measured %s\n", r < 0 ? strerror(-r) : json_text(links));
        (void) fflush(stdout);
}

static int on_measure(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata) {
        Driver *d = userdata;

        return d->measure ? 0 : network_measure_start(d->network, on_measured, d, &d->measure, NULL);
}

static void on_event(Network *n, const char *message_id, const char *severity, const char *message,
                void *userdata) {
        (void) printf("event %s: %s\n", severity, message);
        (void) fflush(stdout);
}

static int set_ports(
                Network *n, const char *id, const char *address, json_object *instance, KError *reterr) {
        NetworkPort ports[16];
        json_object *list = NULL;
        size_t k = 0;
        int r;

        r = json_find_array(instance, "ports", &list, reterr);
        if (r < 0)
                return r;
        FOREACH_JSON_ARRAY(o, list) {
                uint64_t node_port, container_port;
                const char *ip = NULL, *protocol = NULL;
                NetworkPort p = {};

                if (k >= ELEMENTSOF(ports))
                        return -E2BIG;
                r = json_get_u64(o, "node_port", &node_port, reterr);
                if (r >= 0)
                        r = json_get_u64(o, "container_port", &container_port, reterr);
                if (r >= 0)
                        r = json_find_string(o, "protocol", &protocol, reterr);
                if (r >= 0 && protocol)
                        p.protocol = r = transport_protocol_from_string(protocol);
                if (r >= 0)
                        r = json_find_string(o, "ip", &ip, reterr);
                if (r >= 0 && ip)
                        r = parse_ipv4(ip, &p.ip);
                if (r < 0)
                        return r;
                p.node_port = (uint16_t) node_port;
                p.container_port = (uint16_t) container_port;
                ports[k++] = p;
        }
        return network_ports_set(n, id, address, ports, k, reterr);
}

static int set_instances(Network *n, json_object *instances, KError *reterr) {
        _cleanup_strv_free_ char **ids = NULL;
        int r;

        if (!instances)
                return 0;
        json_object_object_foreach(instances, id, instance) {
                uint64_t start = now_monotonic();
                const char *address;

                r = json_get_string(instance, "address", &address, reterr);
                if (r >= 0)
                        r = network_instance_add(n, id, address, reterr);
                if (r < 0)
                        return r;
                (void) printf("instance %s: %s in %" PRIu64 " us\n", id, r > 0 ? "made" : "checked",
                                now_monotonic() - start);
                start = now_monotonic();
                r = set_ports(n, id, address, instance, reterr);
                if (r < 0)
                        return r;
                (void) printf("instance %s: ports in %" PRIu64 " us\n", id, now_monotonic() - start);
                r = strv_extend(&ids, id);
                if (r < 0)
                        return r;
        }
        return network_instances_retain(n, ids, reterr);
}

static int set_pairs(Network *n, json_object *desired) {
        json_object *preshared = NULL, *relays = NULL;
        uint8_t key[WG_KEY_SIZE];
        const char *text = NULL;

        (void) json_find_object(desired, "preshared", &preshared, NULL);
        (void) json_find_object(desired, "relays", &relays, NULL);
        if (json_find_string(desired, "pair_key", &text, NULL) > 0 && wg_key_parse(text, key) < 0)
                return -EINVAL;
        return network_set_pairs(n, text ? key : NULL, preshared, relays);
}

static int apply(Driver *d, KError *reterr) {
        json_object *node = NULL, *grid = NULL, *peers = NULL, *names = NULL, *instances = NULL;
        _cleanup_json_ json_object *desired = NULL, *report = NULL;
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r;

        r = read_file(d->path, DESIRED_SIZE_MAX, &text, &size);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot read '%s': %m.", d->path);
        r = json_parse(text, size, DESIRED_SIZE_MAX, &desired, reterr);
        if (r >= 0)
                r = json_get_object(desired, "node", &node, reterr);
        if (r >= 0)
                r = json_get_object(desired, "grid", &grid, reterr);
        if (r >= 0)
                r = json_find_object(desired, "peers", &peers, reterr);
        if (r >= 0)
                r = json_find_object(desired, "names", &names, reterr);
        if (r >= 0)
                r = json_find_object(desired, "instances", &instances, reterr);

        if (r >= 0)
                r = network_set_grid(d->network, node, grid, reterr);
        if (r >= 0)
                r = network_set_peers(d->network, peers, reterr);
        if (r >= 0)
                r = set_pairs(d->network, desired);
        if (r >= 0)
                r = network_set_names(d->network, names, reterr);
        if (r >= 0)
                r = network_reconcile(d->network, reterr);
        if (r >= 0)
                r = set_instances(d->network, instances, reterr);
        if (r < 0)
                return r;

        report = json_object_new_object();
        if (!report)
                return -ENOMEM;
        r = network_report(d->network, report);
        (void) printf("ready, mtu %u, resolver %s, report %s\n", network_mtu(d->network),
                        network_resolver_address(d->network), json_text(report));
        (void) fflush(stdout);
        return r;
}

static int on_hangup(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata) {
        _cleanup_kerror_ KError e = KERROR_NULL;

        if (apply(userdata, &e) < 0)
                (void) printf("failed: %s\n", kerror_message(&e));
        (void) fflush(stdout);
        return 0;
}

static int run(int argc, char *argv[]) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
        _cleanup_(network_freep) Network *network = NULL;
        _cleanup_kerror_ KError e = KERROR_NULL;
        NetworkConfig config = { .state_directory = "/var/lib/kontena/node",
                .runtime_directory = "/run/kontena",
                .wireguard_port = 51820,
                .changed = on_changed };
        Driver driver = {};
        sigset_t mask;
        int r;

        log_setup();
        if (argc != 2)
                return log_error_errno(EINVAL, "Usage: test-network-driver DESIRED.json");

        (void) sigemptyset(&mask);
        (void) sigaddset(&mask, SIGHUP);
        (void) sigaddset(&mask, SIGUSR1);
        (void) sigaddset(&mask, SIGTERM);
        (void) sigaddset(&mask, SIGINT);
        (void) sigprocmask(SIG_BLOCK, &mask, NULL);

        r = sd_event_default(&event);
        if (r < 0)
                return r;
        if (sd_bus_open_system(&bus) >= 0)
                (void) sd_bus_attach_event(bus, event, 0);
        r = network_new(event, bus, &config, on_event, NULL, &network);
        if (r < 0)
                return log_error_errno(r, "Cannot start: %m");
        driver = (Driver){ .network = network, .path = argv[1] };

        r = sd_event_add_signal(event, NULL, SIGHUP, on_hangup, &driver);
        if (r >= 0)
                r = sd_event_add_signal(event, NULL, SIGUSR1, on_measure, &driver);
        if (r >= 0)
                r = sd_event_add_signal(event, NULL, SIGTERM, NULL, NULL);
        if (r >= 0)
                r = sd_event_add_signal(event, NULL, SIGINT, NULL, NULL);
        if (r < 0)
                return r;

        r = apply(&driver, &e);
        if (r < 0)
                return log_error_errno(r, "%s", kerror_message(&e));
        r = sd_event_loop(event);
        network_measure_cancel(driver.measure);
        return r;
}

int main(int argc, char *argv[]) {
        return run(argc, argv) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
