/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "node-report.h"

#include <stdio.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <systemd/sd-id128.h>
#include <unistd.h>

#include "authorities.h"
#include "file-util.h"
#include "json-util.h"
#include "kept-data.h"
#include "log.h"
#include "parse-util.h"
#include "secrets.h"
#include "string-util.h"

#define TEXT_MAX (64U * 1024U)

/* "MemTotal:       16384 kB" */
static uint64_t meminfo_value(const char *text, const char *key) {
        const char *p = text;
        size_t n = strlen(key);

        while (p) {
                if (strneq(p, key, n) && p[n] == ':')
                        return strtoull(p + n + 1, NULL, 10) * 1024;
                p = strchr(p, '\n');
                if (p)
                        p++;
        }

        return 0;
}

int node_report_memory(const char *meminfo, json_object **ret) {
        static const struct {
                const char *key, *name;
        } table[] = {
                { "total", "MemTotal" },
                { "free", "MemFree" },
                { "cached", "Cached" },
                { "buffers", "Buffers" },
                { "available", "MemAvailable" },
        };
        _cleanup_json_ json_object *o = json_object_new_object();

        if (!o)
                return -ENOMEM;
        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                int r = json_add_u64(o, table[i].key, meminfo_value(meminfo, table[i].name));

                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(o);
        return 0;
}

/* PRETTY_NAME="Debian GNU/Linux 12 (bookworm)" */
char *node_report_os_name(const char *text) {
        const char *p = text;

        while (p) {
                const char *value = startswith(p, "PRETTY_NAME=");

                if (value) {
                        size_t n = strcspn(value, "\n");

                        if (n >= 2 && (value[0] == '"' || value[0] == '\'') && value[n - 1] == value[0]) {
                                value++;
                                n -= 2;
                        }
                        return strndup(value, n);
                }
                p = strchr(p, '\n');
                if (p)
                        p++;
        }

        return strdup("Linux");
}

static int add_memory(json_object *report) {
        _cleanup_free_ char *text = NULL;
        json_object *memory;
        int r;

        r = read_file("/proc/meminfo", TEXT_MAX, &text, NULL);
        if (r >= 0)
                r = node_report_memory(text, &memory);
        if (r < 0)
                return r;

        return json_add(report, "memory", memory);
}

static int add_disk(json_object *report, const char *path) {
        struct statvfs st;
        json_object *o;
        int r;

        if (statvfs(path, &st) < 0)
                return -errno;
        o = json_object_new_object();
        r = json_add(report, "disk", o);
        if (r >= 0)
                r = json_add_u64(o, "total", (uint64_t) st.f_blocks * st.f_frsize);
        if (r >= 0)
                r = json_add_u64(o, "free", (uint64_t) st.f_bavail * st.f_frsize);
        return r;
}

static int add_load(json_object *report) {
        double load[3] = {};
        json_object *l;
        int r;

        (void) getloadavg(load, ELEMENTSOF(load));
        l = json_object_new_array();
        r = json_add(report, "load", l);
        for (size_t i = 0; i < ELEMENTSOF(load) && r >= 0; i++)
                r = json_append(l, json_object_new_double(load[i]));
        return r;
}

static int add_system(Manager *m, json_object *report) {
        _cleanup_free_ char *os_release = NULL, *os = NULL;
        char boot[SD_ID128_STRING_MAX] = "";
        struct utsname u;
        sd_id128_t id;
        int r;

        if (uname(&u) < 0)
                return -errno;
        r = read_file("/etc/os-release", TEXT_MAX, &os_release, NULL);
        if (r < 0)
                (void) read_file("/usr/lib/os-release", TEXT_MAX, &os_release, NULL);
        os = node_report_os_name(os_release);
        if (!os)
                return -ENOMEM;
        if (sd_id128_get_boot(&id) >= 0)
                sd_id128_to_string(id, boot);

        r = json_add_string(report, "os", os);
        if (r >= 0)
                r = json_add_string(report, "kernel", u.release);
        if (r >= 0)
                r = json_add_string(report, "architecture", u.machine);
        if (r >= 0)
                r = json_add_string(report, "version", KONTENA_VERSION);
        if (r >= 0)
                r = json_add_string(report, "boot_id", boot);
        if (r >= 0)
                r = json_add_i64(report, "cpus", sysconf(_SC_NPROCESSORS_ONLN));
        return r;
}

static int add_runtime(Manager *m, json_object *report) {
        json_object *o = json_object_new_object(), *kinds;
        int r;

        kinds = json_object_new_array();
        r = json_add(report, "runtimes", kinds);
        if (r >= 0 && m->runtime)
                r = json_append_string(kinds, runtime_kind_to_string(RUNTIME_OCI));
        if (r >= 0 && m->machines)
                r = json_append_string(kinds, runtime_kind_to_string(RUNTIME_NSPAWN));
        if (r >= 0)
                r = json_add(report, "runtime", o);
        else
                json_object_put(o);
        if (r >= 0)
                r = json_add_string(o, "name", m->runtime ? m->runtime->name : NULL);
        if (r >= 0)
                r = json_add_string(o, "version", m->runtime ? m->runtime->version : NULL);
        return r;
}

static int add_authorities(Manager *m, json_object *report) {
        _cleanup_free_ char *digest = NULL;
        int r;

        r = authorities_read_digest(m->config->state_directory, &digest);
        if (r == -ENOENT)
                return 0;
        return r < 0 ? r : json_add_string(report, "authorities", digest);
}

/* What an operator has to look at; more of them are not more news. */
#define KEPT_TOLD_MAX 32U

static int add_kept(Manager *m, json_object *report) {
        json_object *l;
        int r;

        if (kept_is_empty(m->config->instances_directory))
                return 0;
        r = kept_list(m->config->instances_directory, KEPT_TOLD_MAX, &l);
        if (r < 0 && r != -ENOMEM) {
                log_warning_errno(r, "Cannot look what is kept of former instances, ignoring it: %m");
                return 0;
        }
        return r < 0 ? r : json_add(report, "kept", l);
}

int node_report_build(Manager *m, json_object **ret) {
        _cleanup_json_ json_object *report = json_object_new_object();
        char *const drivers[] = { (char *) "local", NULL };
        int r;

        if (!report)
                return -ENOMEM;

        r = add_system(m, report);
        if (r >= 0)
                r = add_memory(report);
        if (r >= 0)
                r = add_disk(report, m->config->instances_directory);
        if (r >= 0)
                r = add_load(report);
        if (r >= 0)
                r = add_runtime(m, report);
        if (r >= 0)
                r = json_add_strv(report, "volume_drivers", drivers);
        if (r >= 0 && m->secrets)
                r = json_add_string(report, "secret_key", secrets_public_key(m->secrets));
        if (r >= 0)
                r = add_authorities(m, report);
        if (r >= 0)
                r = add_kept(m, report);
        if (r >= 0)
                r = json_add_string(report, "systemd", m->systemd_version);
        if (r >= 0)
                r = network_report(m->network, report);
        /* What the operator says is better than what the network guesses. */
        if (r >= 0 && m->config->private_address)
                r = json_add_string(report, "private_address", m->config->private_address);
        if (r >= 0 && m->config->public_address)
                r = json_add_string(report, "public_address", m->config->public_address);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(report);
        return 0;
}
