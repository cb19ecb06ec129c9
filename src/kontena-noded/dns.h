/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>
#include <systemd/sd-bus.h>

#include "kerror.h"
#include "parse-util.h"

/* The grid's names are served by dnsmasq, a unit of its own (kontena-dns.service) that outlives this daemon. It is
 * configured by RUNTIME/dns/dnsmasq.conf and watches RUNTIME/dns/hosts/, where names are replaced as a whole: they are
 * served, and gone, within milliseconds. */
typedef struct Dns Dns;

/* Something went wrong later, with the unit. */
typedef void (*dns_failed_t)(const char *message, void *userdata);

/* bus NULL: files only. */
int dns_new(sd_bus *bus, const char *runtime_directory, dns_failed_t on_failed, void *userdata, Dns **ret);
Dns *dns_free(Dns *d);
DEFINE_TRIVIAL_CLEANUP_FUNC(Dns *, dns_free);

/* Serves on this address, names below kontena.local and addresses of the subnet. Starts the unit, or restarts it when
 * something changed. Returns 1 when it did. */
int dns_configure(Dns *d, uint32_t address, const Ipv4Prefix *subnet, KError *reterr);

/* {NAME: [ADDRESS...]}; refused as a whole when one is not valid. Returns 1 when something changed. */
int dns_set_names(Dns *d, json_object *names, KError *reterr);

/* Ends the unit, and removes the files without which it does not start. */
int dns_clear(Dns *d, KError *reterr);

/* Contents of the files. The first name of a line is what the address resolves to: the one with the fewest addresses. */
int dns_hosts_text(json_object *names, char **ret, size_t *ret_size, KError *reterr);
int dns_config_text(const char *directory, const char *resolv_conf, uint32_t address,
                const Ipv4Prefix *subnet, char **ret);
bool dns_name_is_valid(const char *name) _pure_;
