/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "systemd.h"

#include "file-util.h"
#include "string-util.h"

#define SYSTEMD_NAME    "org.freedesktop.systemd1"
#define SYSTEMD_PATH    "/org/freedesktop/systemd1"
#define SYSTEMD_MANAGER "org.freedesktop.systemd1.Manager"

static int systemd_message(Ctl *c, const char *method, sd_bus_message **ret, KError *reterr) {
        sd_bus *bus;
        int r;

        r = ctl_bus(c, &bus, reterr);
        if (r < 0)
                return r;
        r = sd_bus_message_new_method_call(bus, ret, SYSTEMD_NAME, SYSTEMD_PATH, SYSTEMD_MANAGER, method);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make a message: %m");
        return 0;
}

/* What systemd says about our units is not about our master. */
static int systemd_send(Ctl *c, sd_bus_message *m, sd_bus_message **ret_reply, KError *reterr) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        int r;

        r = sd_bus_call(c->bus, m, 0, &error, ret_reply);
        if (r >= 0)
                return 0;
        if (STR_IN_SET(strempty(error.name), SD_BUS_ERROR_ACCESS_DENIED,
                            SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED))
                return kerror_set(reterr, K_ACCESS_DENIED, "systemd refused: %s", strna(error.message));
        return kerror_set(reterr, K_INTERNAL, "systemd refused: %s",
                        sd_bus_error_is_set(&error) ? strna(error.message) : strerror(-r));
}

static int unit_files(Ctl *c, bool enable, const char *unit, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reload = NULL;
        int r;

        r = systemd_message(c, enable ? "EnableUnitFiles" : "DisableUnitFiles", &m, reterr);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "as", 1, unit);
        if (r >= 0)
                r = enable ? sd_bus_message_append(m, "bb", false, false)
                           : sd_bus_message_append(m, "b", false);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make a message: %m");
        r = systemd_send(c, m, NULL, reterr);
        if (r < 0)
                return r;

        r = systemd_message(c, "Reload", &reload, reterr);
        if (r < 0)
                return r;
        return systemd_send(c, reload, NULL, reterr);
}

int unit_enable(Ctl *c, const char *unit, KError *reterr) {
        return unit_files(c, true, unit, reterr);
}

int unit_disable(Ctl *c, const char *unit, KError *reterr) {
        return unit_files(c, false, unit, reterr);
}

typedef struct JobWait {
        const char *job; /* NULL: not known yet */
        char *result;
} JobWait;

static int on_job_removed(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        const char *job, *unit, *result;
        JobWait *w = userdata;
        uint32_t id;

        if (sd_bus_message_read(m, "uoss", &id, &job, &unit, &result) < 0)
                return 0;
        if (w->job && streq(job, w->job))
                (void) free_and_strdup(&w->result, result);
        return 0;
}

int unit_run(Ctl *c, const char *verb, const char *unit, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *subscribe = NULL, *m = NULL, *reply = NULL;
        _cleanup_(sd_bus_slot_unrefp) sd_bus_slot *slot = NULL;
        _cleanup_free_ char *result = NULL;
        JobWait w = {};
        int r;

        r = systemd_message(c, "Subscribe", &subscribe, reterr);
        if (r < 0)
                return r;
        /* Subscribed already is fine. */
        (void) sd_bus_call(c->bus, subscribe, 0, NULL, NULL);

        r = sd_bus_match_signal(c->bus, &slot, SYSTEMD_NAME, SYSTEMD_PATH, SYSTEMD_MANAGER, "JobRemoved",
                        on_job_removed, &w);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot watch systemd's jobs: %m");
        r = systemd_message(c, verb, &m, reterr);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "ss", unit, "replace");
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make a message: %m");
        r = systemd_send(c, m, &reply, reterr);
        if (r < 0)
                return r;
        r = sd_bus_message_read(reply, "o", &w.job);
        if (r < 0)
                return kerror_set_errno(reterr, r, "systemd's answer cannot be read: %m");

        while (!w.result) {
                r = sd_bus_process(c->bus, NULL);
                if (r == 0)
                        r = sd_bus_wait(c->bus, UINT64_MAX);
                if (r < 0 && r != -EINTR)
                        return kerror_set_errno(reterr, r, "Waiting for systemd failed: %m");
        }

        result = w.result;
        if (!STR_IN_SET(result, "done", "skipped"))
                return kerror_set(reterr, K_RUNTIME, "%s of %s ended as '%s'; see: systemctl status %s",
                                verb, unit, result, unit);
        return 0;
}

int unit_active_state(Ctl *c, const char *unit, char **ret, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        const char *path;
        int r;

        r = systemd_message(c, "LoadUnit", &m, reterr);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "s", unit);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make a message: %m");
        r = systemd_send(c, m, &reply, reterr);
        if (r < 0)
                return r;
        r = sd_bus_message_read(reply, "o", &path);
        if (r < 0)
                return kerror_set_errno(reterr, r, "systemd's answer cannot be read: %m");

        r = sd_bus_get_property_string(c->bus, SYSTEMD_NAME, path, "org.freedesktop.systemd1.Unit",
                        "ActiveState", &error, ret);
        if (r < 0)
                return kerror_set_errno(reterr, r, "The state of %s cannot be read: %m", unit);
        return 0;
}

int unit_list(Ctl *c, const char *pattern, char ***ret, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        _cleanup_strv_free_ char **l = NULL;
        const char *name, *active;
        int r;

        r = systemd_message(c, "ListUnitsByPatterns", &m, reterr);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "asas", 0, 1, pattern);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make a message: %m");
        r = systemd_send(c, m, &reply, reterr);
        if (r < 0)
                return r;

        r = sd_bus_message_enter_container(reply, 'a', "(ssssssouso)");
        if (r < 0)
                return kerror_set_errno(reterr, r, "systemd's answer cannot be read: %m");
        while ((r = sd_bus_message_read(reply, "(ssssssouso)", &name, NULL, NULL, &active, NULL, NULL, NULL,
                                NULL, NULL, NULL)) > 0) {
                if (streq(active, "inactive"))
                        continue;
                r = strv_extend(&l, name);
                if (r < 0)
                        break;
        }
        if (r < 0)
                return kerror_set_errno(reterr, r, "systemd's answer cannot be read: %m");

        *ret = TAKE_PTR(l);
        return 0;
}
