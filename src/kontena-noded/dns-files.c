/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>

#include "dns.h"
#include "file-util.h"
#include "kontena-limits.h"
#include "string-util.h"

#define DOMAIN         "kontena.local"
#define NAME_SIZE_MAX  253U
#define LABEL_SIZE_MAX 63U

/* Everything written to a file of dnsmasq's passes here: no blank, newline, '#' or ','. */
bool dns_name_is_valid(const char *name) {
        const char *tail = endswith(name, DOMAIN);
        size_t label = 0;

        if (strlen(name) > NAME_SIZE_MAX || !tail || (tail > name && tail[-1] != '.'))
                return false;

        for (const char *p = name; *p; p++) {
                if (*p == '.') {
                        if (label == 0)
                                return false;
                        label = 0;
                        continue;
                }
                if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_", *p) ||
                                ++label > LABEL_SIZE_MAX)
                        return false;
        }
        return label > 0;
}

typedef struct Record {
        uint32_t address;
        const char *name;
        size_t n_addresses; /* of this name */
} Record;

static int compare_records(const void *a, const void *b) {
        const Record *x = a, *y = b;
        size_t n, m;

        if (x->address != y->address)
                return x->address < y->address ? -1 : 1;
        if (x->n_addresses != y->n_addresses)
                return x->n_addresses < y->n_addresses ? -1 : 1;
        n = strlen(x->name);
        m = strlen(y->name);
        if (n != m)
                return n > m ? -1 : 1;
        return strcmp(x->name, y->name);
}

static int add_records(
                const char *name, json_object *addresses, Record *records, size_t *n, KError *reterr) {
        size_t length;

        if (!dns_name_is_valid(name))
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "A name of a service is not valid in DNS below " DOMAIN ".");
        if (!json_object_is_type(addresses, json_type_array))
                return kerror_set(
                                reterr, K_INVALID_ARGUMENT, "'%s': a list of addresses was expected.", name);

        length = json_object_array_length(addresses);
        if (length > DNS_RECORDS_MAX - *n)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "At most %u addresses of names are served.",
                                DNS_RECORDS_MAX);

        for (size_t i = 0; i < length; i++) {
                json_object *o = json_object_array_get_idx(addresses, i);
                uint32_t a;

                if (!json_object_is_type(o, json_type_string) ||
                                parse_ipv4(json_object_get_string(o), &a) < 0)
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "'%s' has an address that is not IPv4.", name);
                records[(*n)++] = (Record){ .address = a, .name = name, .n_addresses = length };
        }
        return 0;
}

static size_t count_records(json_object *names) {
        size_t n = 0;

        json_object_object_foreach(names, name, addresses) {
                (void) name;
                if (json_object_is_type(addresses, json_type_array))
                        n += json_object_array_length(addresses);
        }
        return n;
}

int dns_hosts_text(json_object *names, char **ret, size_t *ret_size, KError *reterr) {
        _cleanup_free_ Record *records = NULL;
        _cleanup_free_ char *text = NULL;
        FILE *f;
        size_t n = 0, size = 0;
        int r;

        if (names && !json_object_is_type(names, json_type_object))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'names' must be an object.");
        if (names && json_object_object_length(names) > (int) DNS_NAMES_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "At most %u names are served.", DNS_NAMES_MAX);

        records = new0(Record, (names ? MIN(count_records(names), (size_t) DNS_RECORDS_MAX) : 0) + 1);
        if (!records)
                return -ENOMEM;
        if (names) {
                json_object_object_foreach(names, name, addresses) {
                        r = add_records(name, addresses, records, &n, reterr);
                        if (r < 0)
                                return r;
                }
        }
        if (n > 1)
                qsort(records, n, sizeof(Record), compare_records);

        f = open_memstream(&text, &size);
        if (!f)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                bool first = i == 0 || records[i].address != records[i - 1].address;

                if (!first && streq(records[i].name, records[i - 1].name))
                        continue;
                if (first)
                        (void) fprintf(f, "%s%s", i == 0 ? "" : "\n", IPV4_TO_STRING(records[i].address));
                (void) fprintf(f, " %s", records[i].name);
        }
        (void) fputs(n > 0 ? "\n" : "", f);
        if (fclose(f) != 0)
                return -ENOMEM;

        *ret = TAKE_PTR(text);
        *ret_size = size;
        return 0;
}

/* Reverse zones end at octets: a /17 is 128 of them. */
static void write_reverse_zones(FILE *f, const Ipv4Prefix *subnet) {
        unsigned octets = MIN((subnet->length + 7U) / 8U, 3U), bits = octets * 8;
        uint32_t n = subnet->length < bits ? 1U << (bits - subnet->length) : 1;

        for (uint32_t i = 0; i < n; i++) {
                uint32_t a = (subnet->address & ipv4_prefix_mask((uint8_t) bits)) + (i << (32 - bits));

                (void) fputs("local=/", f);
                for (unsigned k = octets; k > 0; k--)
                        (void) fprintf(f, "%u.", a >> (32 - 8 * k) & 0xff);
                (void) fputs("in-addr.arpa/\n", f);
        }
}

int dns_config_text(const char *directory, const char *resolv_conf, uint32_t address,
                const Ipv4Prefix *subnet, char **ret) {
        _cleanup_free_ char *text = NULL;
        size_t size;
        FILE *f;

        f = open_memstream(&text, &size);
        if (!f)
                return -ENOMEM;

        (void) fprintf(f,
                        "# Written by kontena-noded, for kontena-dns.service.\n"
                        "listen-address=%s\n"
                        "except-interface=lo\n"
                        "bind-dynamic\n" /* the bridge may be made anew below it */
                        "no-hosts\n"
                        "hostsdir=%s/hosts\n" /* TTL 0 is the default for these */
                        "local=/" DOMAIN "/\n",
                        IPV4_TO_STRING(address), directory);
        if (subnet->length > 0)
                write_reverse_zones(f, subnet);
        (void) fprintf(f,
                        "domain-needed\n"
                        "resolv-file=%s\n"
                        "dns-forward-max=1000\n"
                        "cache-size=1000\n"
                        "edns-packet-max=1232\n"
                        "pid-file=\n",
                        resolv_conf);
        if (fclose(f) != 0)
                return -ENOMEM;

        *ret = TAKE_PTR(text);
        return 0;
}
