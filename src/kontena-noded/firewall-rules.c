/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>

#include "file-util.h"
#include "firewall.h"
#include "string-util.h"

/* ports_any: published on every address of the machine but the bridge's, which is the resolver; ports_ip: on one. */
static const char table_format[] =
                "table inet kontena {}\n"
                "delete table inet kontena\n"
                "table inet kontena {\n"
                "  comment \"made by kontena-noded, restored when changed\"\n"
                "  set peers { type ipv4_addr; }\n"
                "  map ports_any { type inet_proto . inet_service : ipv4_addr . inet_service; }\n"
                "  map ports_ip { type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service; }\n"
                "  chain spoofed {\n"
                "    type filter hook prerouting priority raw; policy accept;\n"
                "    iifname { %1$s } ip daddr 127.0.0.0/8 drop\n"
                "  }\n"
                "  chain published {\n"
                "    dnat ip to meta l4proto . ip daddr . th dport map @ports_ip\n"
                "    ip daddr != %2$s dnat ip to meta l4proto . th dport map @ports_any\n"
                "  }\n"
                "  chain prerouting {\n"
                "    type nat hook prerouting priority dstnat; policy accept;\n"
                "    meta nfproto ipv4 meta l4proto { tcp, udp, sctp } fib daddr type local jump published\n"
                "  }\n"
                "  chain output {\n"
                "    type nat hook output priority -100; policy accept;\n"
                "    meta nfproto ipv4 meta l4proto { tcp, udp, sctp } fib daddr type local jump published\n"
                "  }\n"
                "  chain postrouting {\n"
                "    type nat hook postrouting priority srcnat; policy accept;\n"
                "    oifname %3$s ip saddr 127.0.0.0/8 masquerade\n"
                "    oifname %3$s ip saddr %4$s ct status dnat masquerade\n"
                "    ip saddr %4$s ip daddr != %4$s oifname != { %1$s } masquerade\n"
                "  }\n"
                "  chain clamp {\n"
                "    type filter hook forward priority mangle; policy accept;\n"
                "    iifname { %1$s } tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu\n"
                "    oifname { %1$s } tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu\n"
                "  }\n"
                "  chain forward {\n"
                "    type filter hook forward priority filter; policy accept;\n"
                "    ct state established,related accept\n"
                "    iifname { %1$s } oifname { %1$s } accept\n"
                "    oifname %3$s ct status dnat accept\n"
                "    oifname { %1$s } drop\n"
                "  }\n"
                "  chain input {\n"
                "    type filter hook input priority filter; policy accept;\n"
                "    iifname != { %1$s, \"lo\" } ip daddr %2$s drop\n"
                "%5$s"
                "  }\n"
                "}\n";

static int device_set(const FirewallRules *rules, char **ret) {
        char *s = strjoin("\"", rules->overlay->bridge, "\"");

        for (const char *const *d = rules->devices; s && d && *d; d++) {
                char *more = strjoin(s, ", \"", *d, "\"");

                free(s);
                s = more;
        }
        if (!s)
                return -ENOMEM;

        *ret = s;
        return 0;
}

static int input_rules(const FirewallRules *rules, char **ret) {
        char *s = strdup("");

        /* Who has no key gets no answer. */
        for (const uint16_t *p = rules->open_ports; s && p && *p != 0; p++) {
                char *more = strprintf("%s    udp dport %u accept\n", s, *p);

                free(s);
                s = more;
        }
        for (const uint16_t *p = rules->link_ports; s && p && *p != 0; p++) {
                char *more = strprintf("%s    udp dport %u meta nfproto ipv6 drop\n    udp dport %u ip "
                                       "saddr != @peers drop\n",
                                s, *p, *p);

                free(s);
                s = more;
        }
        if (!s)
                return -ENOMEM;

        *ret = s;
        return 0;
}

int firewall_table_text(const FirewallRules *rules, char **ret) {
        _cleanup_free_ char *devices = NULL, *input = NULL, *bridge = NULL, *subnet = NULL;
        const Overlay *o = rules->overlay;
        char *text;
        int r;

        r = device_set(rules, &devices);
        if (r < 0)
                return r;
        r = input_rules(rules, &input);
        if (r < 0)
                return r;
        bridge = strjoin("\"", o->bridge, "\"");
        subnet = strprintf("%s/%u", IPV4_TO_STRING(o->subnet.address), o->subnet.length);
        if (!bridge || !subnet)
                return -ENOMEM;

        text = strprintf(table_format, devices, IPV4_TO_STRING(o->address), bridge, subnet, input);
        if (!text)
                return -ENOMEM;

        *ret = text;
        return 0;
}

static int compare_strings(const void *a, const void *b) {
        return strcmp(*(char *const *) a, *(char *const *) b);
}

static size_t key_length(const char *element) {
        const char *colon = strstr(element, " : ");

        return colon ? (size_t) (colon - element) : strlen(element);
}

static bool same_key(const char *a, const char *b) {
        size_t n = key_length(a);

        return n == key_length(b) && strneq(a, b, n);
}

static int add_publication(char ***l, const Publication *p) {
        const char *protocol = transport_protocol_to_string(p->port.protocol);
        _cleanup_free_ char *element = NULL;

        if (p->port.ip != 0)
                element = strprintf("ports_ip %s . %s . %u : %s . %u", protocol, IPV4_TO_STRING(p->port.ip),
                                p->port.node_port, IPV4_TO_STRING(p->address), p->port.container_port);
        else
                element = strprintf("ports_any %s . %u : %s . %u", protocol, p->port.node_port,
                                IPV4_TO_STRING(p->address), p->port.container_port);
        if (!element)
                return -ENOMEM;

        STRV_FOREACH(s, *l)
                if (same_key(*s, element)) {
                        char **slot = (char **) s;

                        free(*slot);
                        *slot = TAKE_PTR(element);
                        return 0;
                }
        return strv_consume(l, TAKE_PTR(element));
}

int firewall_elements(const FirewallRules *rules, char ***ret) {
        _cleanup_strv_free_ char **l = NULL;
        int r;

        l = new0(char *, 1);
        if (!l)
                return -ENOMEM;

        FOREACH_ARRAY(p, rules->publications, rules->n_publications) {
                r = add_publication(&l, p);
                if (r < 0)
                        return r;
        }
        for (size_t i = 0; i < rules->n_peers; i++) {
                _cleanup_free_ char *element = strjoin("peers ", IPV4_TO_STRING(rules->peers[i]));

                if (!element)
                        return -ENOMEM;
                if (strv_contains(l, element))
                        continue;
                r = strv_consume(&l, TAKE_PTR(element));
                if (r < 0)
                        return r;
        }
        if (strv_length(l) > 1)
                qsort(l, strv_length(l), sizeof(char *), compare_strings);

        *ret = TAKE_PTR(l);
        return 0;
}

static void write_command(FILE *f, const char *verb, const char *element, bool with_value) {
        int set = (int) strcspn(element, " "),
            length = (int) (with_value ? strlen(element) : key_length(element));

        (void) fprintf(f, "%s element inet kontena %.*s { %.*s }\n", verb, set, element, length - set - 1,
                        element + set + 1);
}

int firewall_difference(char *const *from, char *const *to, char **ret) {
        _cleanup_(fclosep) FILE *f = NULL;
        _cleanup_free_ char *text = NULL;
        size_t size;

        f = open_memstream(&text, &size);
        if (!f)
                return -ENOMEM;

        STRV_FOREACH(s, from)
                if (!strv_contains(to, *s))
                        write_command(f, "delete", *s, false);
        STRV_FOREACH(s, to)
                if (!strv_contains(from, *s))
                        write_command(f, "add", *s, true);

        if (fclose(TAKE_PTR(f)) != 0)
                return -ENOMEM;

        *ret = TAKE_PTR(text);
        return 0;
}
