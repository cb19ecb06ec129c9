/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "port-option.h"

#include "json-util.h"
#include "kontena-limits.h"
#include "parse-util.h"
#include "string-util.h"
#include "transport-protocol.h"

typedef struct PortRange {
        uint16_t first, last;
} PortRange;

static int bad_port(const char *value, const char *wanted, KError *reterr) {
        return kerror_set(reterr, K_INVALID_ARGUMENT, "--ports=%s: %s.", value, wanted);
}

/* "80", "8000-8010" */
static int parse_range(char *s, PortRange *ret) {
        char *dash = strchr(s, '-');
        int r;

        if (dash)
                *dash = '\0';
        r = parse_port(s, &ret->first);
        if (r >= 0)
                r = dash ? parse_port(dash + 1, &ret->last) : (ret->last = ret->first, 0);
        if (r < 0)
                return r;
        return ret->first <= ret->last ? 0 : -EINVAL;
}

static int add_port(json_object *array, const char *ip, uint16_t node, uint16_t container,
                const char *protocol) {
        _cleanup_json_ json_object *o = json_object_new_object();

        if (!o)
                return -ENOMEM;
        if (json_add_string(o, "ip", ip) < 0 || json_add_u64(o, "node_port", node) < 0 ||
                        json_add_u64(o, "container_port", container) < 0 ||
                        json_add_string(o, "protocol", protocol) < 0)
                return -ENOMEM;
        return json_append(array, TAKE_PTR(o));
}

int port_option_parse(const char *s, json_object *array, KError *reterr) {
        static const char wanted[] = "a port is [IP:]NODE:CONTAINER[/tcp|udp|sctp], say 8080:80 or "
                                     "8000-8010:8000-8010/udp";
        char *slash, *colon, *container, *node;
        const char *protocol = "tcp", *ip = "0.0.0.0";
        _cleanup_free_ char *text = NULL, *copy = NULL;
        PortRange outside, inside;
        uint32_t address;

        assert(s);
        assert(array);

        text = strdup(s);
        if (!text)
                return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");

        slash = strrchr(text, '/');
        if (slash) {
                *slash = '\0';
                protocol = slash + 1;
                if (transport_protocol_from_string(protocol) < 0)
                        return bad_port(s, "the protocol is tcp, udp or sctp", reterr);
        }

        colon = strrchr(text, ':');
        container = colon ? colon + 1 : text;
        if (colon) {
                *colon = '\0';
                colon = strrchr(text, ':');
                node = colon ? colon + 1 : text;
                if (colon) {
                        *colon = '\0';
                        ip = text;
                        if (parse_ipv4(ip, &address) < 0)
                                return bad_port(s, "the address is not an IPv4 address", reterr);
                }
        } else {
                node = copy = strdup(container);
                if (!copy)
                        return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
        }

        if (parse_range(node, &outside) < 0 || parse_range(container, &inside) < 0)
                return bad_port(s, wanted, reterr);
        if (outside.last - outside.first != inside.last - inside.first)
                return bad_port(s, "the two ranges differ in length", reterr);
        if (json_object_array_length(array) + (size_t) (outside.last - outside.first) >= PORTS_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED,
                                "--ports=%s: a service publishes at most %u ports.", s, PORTS_MAX);

        for (unsigned i = 0; i <= (unsigned) (outside.last - outside.first); i++)
                if (add_port(array, ip, (uint16_t) (outside.first + i), (uint16_t) (inside.first + i),
                                    protocol) < 0)
                        return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
        return 0;
}
