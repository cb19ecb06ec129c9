/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dns.h"

#include <stdio.h>
#include <sys/stat.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include "file-util.h"
#include "string-util.h"

#define UNIT            "kontena-dns.service"
#define CONFIG_SIZE_MAX (64U * 1024U)
#define HOSTS_SIZE_MAX  (64U * 1024U * 1024U)
#define RESOLVED_CONF   "/run/systemd/resolve/resolv.conf"

struct Dns {
        sd_bus *bus;
        sd_bus_slot *slot; /* of the last start */
        char *directory, *hosts_directory, *hosts, *config;
        dns_failed_t on_failed;
        void *userdata;
        bool started; /* asked for since this daemon started */
};

int dns_new(sd_bus *bus, const char *runtime_directory, dns_failed_t on_failed, void *userdata, Dns **ret) {
        _cleanup_(dns_freep) Dns *d = NULL;

        d = new0(Dns, 1);
        if (!d)
                return -ENOMEM;
        d->bus = sd_bus_ref(bus);
        d->on_failed = on_failed;
        d->userdata = userdata;
        d->directory = strjoin(runtime_directory, "/dns");
        d->hosts_directory = strjoin(runtime_directory, "/dns/hosts");
        d->hosts = strjoin(runtime_directory, "/dns/hosts/names");
        d->config = strjoin(runtime_directory, "/dns/dnsmasq.conf");
        if (!d->directory || !d->hosts_directory || !d->hosts || !d->config)
                return -ENOMEM;

        *ret = TAKE_PTR(d);
        return 0;
}

Dns *dns_free(Dns *d) {
        if (!d)
                return NULL;

        sd_bus_slot_unref(d->slot);
        sd_bus_unref(d->bus);
        free(d->directory);
        free(d->hosts_directory);
        free(d->hosts);
        free(d->config);
        return mfree(d);
}

/* dnsmasq reads whatever appears in its directory, so the file is made beside it and moves there complete. */
static int replace_file(
                const Dns *d, const char *path, const char *text, size_t size, size_t max, KError *reterr) {
        _cleanup_free_ char *old = NULL, *fresh = NULL;
        size_t old_size;
        int r;

        if (read_file(path, max, &old, &old_size) >= 0 && old_size == size && memcmp(old, text, size) == 0)
                return 0;

        r = mkdir_p(d->hosts_directory, 0755);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make '%s': %m.", d->hosts_directory);
        fresh = strjoin(d->directory, "/new");
        if (!fresh)
                return -ENOMEM;
        r = write_file_atomic(fresh, text, size, 0644);
        if (r >= 0 && rename(fresh, path) < 0)
                r = -errno;
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot write '%s': %m.", path);
        return 1;
}

static int on_reply(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const sd_bus_error *e = sd_bus_message_get_error(m);
        Dns *d = userdata;
        _cleanup_free_ char *text = NULL;

        d->slot = sd_bus_slot_unref(d->slot);
        if (!e)
                return 0;

        d->started = false;
        text = strprintf("Names of the grid are not served, cannot start " UNIT ": %s",
                        e->message ?: e->name);
        d->on_failed(text ?: "Names of the grid are not served.", d->userdata);
        return 0;
}

static int on_stopped(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const sd_bus_error *e = sd_bus_message_get_error(m);
        Dns *d = userdata;
        _cleanup_free_ char *text = NULL;

        d->slot = sd_bus_slot_unref(d->slot);
        if (!e || STR_IN_SET(strempty(e->name), "org.freedesktop.systemd1.NoSuchUnit"))
                return 0;

        text = strprintf("Cannot stop " UNIT ": %s", e->message ?: e->name);
        d->on_failed(text ?: "Cannot stop " UNIT ".", d->userdata);
        return 0;
}

static int start_unit(Dns *d, bool restart, KError *reterr) {
        int r;

        d->slot = sd_bus_slot_unref(d->slot);
        r = sd_bus_call_method_async(d->bus, &d->slot, "org.freedesktop.systemd1",
                        "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager",
                        restart ? "RestartUnit" : "StartUnit", on_reply, d, "ss", UNIT, "replace");
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot start " UNIT ": %m.");

        d->started = true;
        return 1;
}

int dns_configure(Dns *d, uint32_t address, const Ipv4Prefix *subnet, KError *reterr) {
        _cleanup_free_ char *text = NULL;
        bool changed;
        int r;

        /* systemd-resolved's own list, where it runs: behind /etc/resolv.conf is then a stub, which knows less. */
        r = dns_config_text(d->directory,
                        access(RESOLVED_CONF, R_OK) >= 0 ? RESOLVED_CONF : "/etc/resolv.conf", address,
                        subnet, &text);
        if (r < 0)
                return r;
        r = replace_file(d, d->config, text, strlen(text), CONFIG_SIZE_MAX, reterr);
        if (r < 0)
                return r;
        changed = r > 0;

        if (!d->bus || (d->started && !changed))
                return changed;
        return start_unit(d, changed, reterr);
}

int dns_set_names(Dns *d, json_object *names, KError *reterr) {
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r;

        r = dns_hosts_text(names, &text, &size, reterr);
        if (r < 0)
                return r;
        return replace_file(d, d->hosts, text, size, HOSTS_SIZE_MAX, reterr);
}

int dns_clear(Dns *d, KError *reterr) {
        int r = 0;

        if (unlink(d->config) < 0 && errno != ENOENT)
                r = kerror_set_errno(reterr, -errno, "Cannot remove '%s': %m.", d->config);
        if (unlink(d->hosts) < 0 && errno != ENOENT && r >= 0)
                r = kerror_set_errno(reterr, -errno, "Cannot remove '%s': %m.", d->hosts);

        d->slot = sd_bus_slot_unref(d->slot);
        d->started = false;
        if (d->bus && r >= 0) {
                r = sd_bus_call_method_async(d->bus, &d->slot, "org.freedesktop.systemd1",
                                "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "StopUnit",
                                on_stopped, d, "ss", UNIT, "replace");
                if (r < 0)
                        return kerror_set_errno(reterr, r, "Cannot stop " UNIT ": %m.");
        }

        return MIN(r, 0);
}
