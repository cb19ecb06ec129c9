/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit-setup.h"

#include <math.h>
#include <signal.h>

#include "file-util.h"
#include "output.h"
#include "string-util.h"
#include "unit-property.h"
#include "unit-settings.h"

/* select() is rare in servers, thousands of connections are not. systemd takes what is possible. */
#define NOFILE_SOFT  65536U
#define NOFILE_HARD  524288U

/* The daemon restarts what crashed; this is for the time when it is away. */
#define RESTART_USEC (30U * USEC_PER_SEC)

void unit_setup_done(UnitSetup *s) {
        free(s->description);
        free(s->slice);
        free(s->pid_file);
        free(s->identifier);
        free(s->output);
        free(s->output_path);
        strv_free(s->create);
        strv_free(s->start);
        strv_free(s->delete);
        strv_free(s->log_fields);
        strv_free(s->devices);
        strv_free(s->settings);
        strv_free(s->environment);
        free(s->network_namespace);
        *s = UNIT_SETUP_NULL;
}

/* The curve through (2, 1), (1024, 100) and (262144, 10000) that container runtimes agreed on: a straight line would make a
 * container with the old default four times lighter than every other unit. */
uint64_t cpu_shares_to_weight(uint64_t shares) {
        double l;

        shares = CLAMP(shares, UINT64_C(2), UINT64_C(262144));
        l = log2((double) shares);
        return CLAMP((uint64_t) lround(pow(10.0, (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0)), UINT64_C(1),
                        UINT64_C(10000));
}

static int add_log_fields(const InstanceWant *w, const char *image, char ***l) {
        int r;

        r = strv_extendf(l, "KONTENA_GRID=%s", w->grid);
        if (r >= 0)
                r = strv_extendf(l, "KONTENA_STACK=%s", w->stack);
        if (r >= 0)
                r = strv_extendf(l, "KONTENA_SERVICE=%s", w->service);
        if (r >= 0)
                r = strv_extendf(l, "KONTENA_INSTANCE=%u", w->number);
        if (r >= 0)
                r = strv_extendf(l, "KONTENA_INSTANCE_ID=%s", w->id);
        if (r >= 0)
                r = strv_extendf(l, "KONTENA_IMAGE=%s", image);
        if (r >= 0)
                r = strv_extendf(l, "KONTENA_DEPLOY=%" PRIu64, w->deploy_rev);
        if (r >= 0 && w->run)
                r = strv_extendf(l, "KONTENA_RUN=%s", w->run);
        return r;
}

static void set_limits(const ServiceSpec *s, UnitSetup *setup) {
        /* "memory_swap" counts both. Without it as much swap as memory may be used, as in Docker; alone it bounds the memory. */
        if (s->memory > 0) {
                setup->memory_max = s->memory;
                setup->memory_swap_max = s->memory_swap > 0 ? s->memory_swap - s->memory : s->memory;
        } else if (s->memory_swap > 0) {
                setup->memory_max = s->memory_swap;
                setup->memory_swap_max = 0;
        }
        if (s->cpus > 0)
                setup->cpu_quota_per_sec_usec = (uint64_t) (s->cpus * (double) USEC_PER_SEC);
        if (s->cpu_shares > 0)
                setup->cpu_weight = cpu_shares_to_weight(s->cpu_shares);
        if (s->pids_limit > 0)
                setup->tasks_max = s->pids_limit;
}

int unit_setup_from_want(
                const InstanceWant *w, const char *image, const char *image_stop_signal, UnitSetup *ret) {
        _cleanup_(unit_setup_done) UnitSetup s = UNIT_SETUP_NULL;
        int r;

        assert(w);
        assert(ret);

        s.description = strprintf(
                        "Kontena instance %u of %s/%s in grid %s", w->number, w->stack, w->service, w->grid);
        s.slice = strdup(w->slice);
        s.identifier = strprintf("%s-%u", w->service, w->number);
        if (!s.description || !s.slice || !s.identifier)
                return -ENOMEM;
        r = add_log_fields(w, image, &s.log_fields);
        if (r < 0)
                return r;

        s.stop_signal = signal_from_string(w->spec->stop_signal ?: image_stop_signal);
        if (s.stop_signal < 0)
                s.stop_signal = SIGTERM;
        s.stop_grace_usec = w->spec->stop_grace_sec * USEC_PER_SEC;
        set_limits(w->spec, &s);

        s.once = w->run;
        s.all_devices = w->spec->privileged;
        if (w->spec->systemd) {
                s.settings = strv_copy(w->spec->systemd);
                if (!s.settings)
                        return -ENOMEM;
        }

        *ret = s;
        s = UNIT_SETUP_NULL;
        return 0;
}

/* Nothing where there is no limit, or where the service sets the property itself. */
static int append_limit(const UnitSetup *s, sd_bus_message *m, const char *name, uint64_t value) {
        if (value == UINT64_MAX || unit_settings_have(s->settings, name))
                return 0;
        return unit_append_u64(m, name, value);
}

static int append_devices(sd_bus_message *m, char *const *devices) {
        int r;

        r = sd_bus_message_open_container(m, 'r', "sv");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", "DeviceAllow");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', "a(ss)");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "(ss)");
        STRV_FOREACH(d, devices) {
                const char *blank = strrchr(*d, ' ');
                _cleanup_free_ char *path = NULL;

                if (r < 0)
                        break;
                path = strndup(*d, (size_t) (blank - *d));
                if (!path)
                        return -ENOMEM;
                r = sd_bus_message_append(m, "(ss)", path, blank + 1);
        }
        for (int i = 0; i < 3 && r >= 0; i++)
                r = sd_bus_message_close_container(m);
        return r;
}

/* A process that stays and watches over the container. It passes the signal on. */
static int append_watched(const UnitSetup *s, sd_bus_message *m) {
        int r;

        r = unit_append_string(m, "Type", "notify");
        if (r >= 0)
                r = unit_append_string(m, "NotifyAccess", "main");
        if (r >= 0 && s->delete)
                r = unit_append_command(m, "ExecStartPre", s->delete, true);
        if (r >= 0 && s->delete)
                r = unit_append_command(m, "ExecStopPost", s->delete, true);
        if (r >= 0)
                r = unit_append_command(m, "ExecStart", s->create, false);
        if (r >= 0 && s->network_namespace)
                r = unit_append_string(m, "NetworkNamespacePath", s->network_namespace);
        STRV_FOREACH(e, s->environment)
                if (r >= 0)
                        r = sd_bus_message_append(m, "(sv)", "Environment", "as", 1, *e);
        return r < 0 ? r : sd_bus_message_append(m, "(sv)", "KillSignal", "i", (int32_t) SIGTERM);
}

static int append_forking(const UnitSetup *s, sd_bus_message *m) {
        int r;

        r = unit_append_string(m, "Type", "forking");
        if (r >= 0)
                r = unit_append_string(m, "PIDFile", s->pid_file);
        /* ExecStopPost has no more time than the container has for its end, which may be too little to forget it. */
        if (r >= 0)
                r = unit_append_command(m, "ExecStartPre", s->delete, true);
        /* Created, its PID read, then let go: so systemd is there to see how even the shortest life ended. */
        if (r >= 0)
                r = unit_append_command(m, "ExecStart", s->create, false);
        if (r >= 0)
                r = unit_append_command(m, "ExecStartPost", s->start, false);
        if (r >= 0)
                r = unit_append_command(m, "ExecStopPost", s->delete, true);
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "KillSignal", "i", (int32_t) s->stop_signal);
        return r;
}

static int append_process(const UnitSetup *s, sd_bus_message *m) {
        int r;

        r = s->notify ? append_watched(s, m) : append_forking(s, m);
        if (r >= 0)
                r = unit_append_string(m, "KillMode", "mixed");
        /* 0 would be "for ever". */
        if (r >= 0)
                r = unit_append_u64(m, "TimeoutStopUSec", MAX(s->stop_grace_usec, USEC_PER_MSEC));
        if (r >= 0)
                r = unit_append_u64(m, "TimeoutStartUSec", s->start_timeout_usec);
        if (r >= 0)
                r = unit_append_string(m, "Restart", s->once ? "no" : "always");
        if (r >= 0 && s->once)
                r = unit_append_bool(m, "RemainAfterExit", true);
        if (r >= 0)
                r = unit_append_u64(m, "RestartUSec", RESTART_USEC);
        /* The back-off is ours; a limit would end restarts for good. */
        if (r >= 0)
                r = unit_append_u64(m, "StartLimitIntervalUSec", 0);
        return r;
}

static int append_output(const UnitSetup *s, sd_bus_message *m) {
        int r;

        r = unit_append_string(m, "StandardInput", "null");
        if (r >= 0)
                r = unit_append_string(m, "StandardOutput", "journal");
        if (r >= 0)
                r = unit_append_string(m, "StandardError", "journal");
        if (r >= 0)
                r = unit_append_string(m, "SyslogIdentifier", s->identifier);
        /* "<3>" at the beginning of a line is the container's text, not a level. */
        if (r >= 0)
                r = unit_append_bool(m, "SyslogLevelPrefix", false);
        /* Nothing is dropped silently (trap 16): the journal's size is bounded anyway. */
        if (r >= 0)
                r = unit_append_no_log_limit(m);
        if (r >= 0)
                r = unit_append_log_fields(m, s->log_fields);
        return r;
}

int unit_setup_append_resources(const UnitSetup *s, sd_bus_message *m) {
        int r;

        r = unit_append_string(m, "Slice", s->slice);
        if (r >= 0)
                r = unit_append_bool(m, "Delegate", true);
        if (r >= 0)
                r = append_limit(s, m, "LimitNOFILE", NOFILE_HARD);
        if (r >= 0)
                r = append_limit(s, m, "LimitNOFILESoft", NOFILE_SOFT);
        if (r >= 0)
                r = append_limit(s, m, "MemoryMax", s->memory_max);
        if (r >= 0)
                r = append_limit(s, m, "MemorySwapMax", s->memory_swap_max);
        if (r >= 0)
                r = append_limit(s, m, "CPUQuotaPerSecUSec", s->cpu_quota_per_sec_usec);
        if (r >= 0)
                r = append_limit(s, m, "CPUWeight", s->cpu_weight);
        if (r >= 0)
                r = append_limit(s, m, "TasksMax", s->tasks_max);
        if (r >= 0)
                r = unit_settings_append(s->settings, m);
        /* Half a container is worse than none: all of it goes, and the result says why. */
        if (r >= 0)
                r = unit_append_string(m, "OOMPolicy", "kill");
        if (r >= 0 && !s->all_devices)
                r = unit_append_string(m, "DevicePolicy", "closed");
        if (r >= 0 && !s->all_devices)
                r = append_devices(m, s->devices);
        return r;
}

int unit_setup_append(const UnitSetup *s, sd_bus_message *m) {
        int r;

        assert(s->create && (s->notify || (s->start && s->delete &&s->pid_file)));

        r = sd_bus_message_open_container(m, 'a', "(sv)");
        if (r >= 0)
                r = unit_append_string(m, "Description", s->description);
        /* What has failed must not keep its name (trap 10); the result is read from the signal, but that of a job's container, which
         * may end while we are not there. */
        if (r >= 0)
                r = unit_append_string(m, "CollectMode", s->once ? "inactive" : "inactive-or-failed");
        if (r >= 0)
                r = append_process(s, m);
        if (r >= 0)
                r = append_output(s, m);
        if (r >= 0)
                r = output_append_dependencies(s, m);
        if (r >= 0)
                r = unit_setup_append_resources(s, m);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r;
}
