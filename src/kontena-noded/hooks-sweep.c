/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "container-exec.h"
#include "file-util.h"
#include "hooks.h"
#include "log.h"
#include "string-util.h"

/* A hook has 2 s to heed SIGTERM, and then there is its container to delete. */
#define STOP_TIMEOUT_USEC (60U * USEC_PER_SEC)

struct HookSweep {
        UnitManager *manager;
        char *pattern, *keep;
        sd_bus_slot *list;
        Unit **units;
        size_t n_units, n_left;
        hooks_swept_t done;
        void *userdata;
};

HookSweep *hooks_sweep_free(HookSweep *s) {
        if (!s)
                return NULL;

        sd_bus_slot_unref(s->list);
        FOREACH_ARRAY(u, s->units, s->n_units)
                unit_free(*u);
        free(s->units);
        free(s->pattern);
        free(s->keep);
        free(s);
        return NULL;
}

static void finish(HookSweep *s) {
        s->done(s, s->userdata);
        hooks_sweep_free(s);
}

static void on_changed(Unit *u, void *userdata) {
}

static void on_stopped(Unit *u, const KError *error, void *userdata) {
        HookSweep *s = userdata;

        if (error)
                log_warning("A hook is left to end by itself: %s", kerror_message(error));
        container_command_discard(s->manager, unit_name(u), NULL); /* it may be there as a failed one */
        if (--s->n_left == 0)
                finish(s);
}

static int stop(HookSweep *s, const char *name) {
        Unit **l;
        int r;

        l = reallocarray(s->units, s->n_units + 1, sizeof(Unit *));
        if (!l)
                return -ENOMEM;
        s->units = l;
        r = unit_new(s->manager, name, on_changed, s, s->units + s->n_units);
        if (r < 0)
                return r;
        r = unit_stop(s->units[s->n_units++], STOP_TIMEOUT_USEC, on_stopped);
        if (r >= 0)
                s->n_left++;
        return r;
}

static int read_list(HookSweep *s, sd_bus_message *m) {
        int r;

        r = sd_bus_message_enter_container(m, 'a', "(ssssssouso)");
        while (r > 0) {
                const char *name;

                r = sd_bus_message_enter_container(m, 'r', "ssssssouso");
                if (r <= 0)
                        break;
                r = sd_bus_message_read(m, "s", &name);
                if (r >= 0 && !(s->keep && startswith(name, s->keep)))
                        r = stop(s, name);
                if (r >= 0)
                        r = sd_bus_message_skip(m, "sssssouso");
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        return r;
}

static int on_list(sd_bus_message *m, void *userdata, sd_bus_error *ret_error) {
        HookSweep *s = userdata;
        int r;

        s->list = sd_bus_slot_unref(s->list);
        if (sd_bus_message_is_method_error(m, NULL))
                r = -sd_bus_message_get_errno(m);
        else
                r = read_list(s, m);
        if (r < 0)
                log_warning_errno(r, "Hooks of '%s' may still run: %m", s->pattern);
        if (s->n_left == 0)
                finish(s);
        return 0;
}

int hooks_sweep(UnitManager *units, const char *instance_id, const char *keep_start, HookStage keep_stage,
                hooks_swept_t done, void *userdata, HookSweep **ret) {
        _cleanup_(hooks_sweep_freep) HookSweep *s = NULL;
        int r;

        s = new0(HookSweep, 1);
        if (!s)
                return -ENOMEM;
        s->manager = units;
        s->done = done;
        s->userdata = userdata;
        s->pattern = strjoin(HOOK_UNIT_PREFIX, instance_id, "-*.service");
        if (!s->pattern)
                return -ENOMEM;
        if ((int) keep_stage >= 0) {
                s->keep = hooks_unit_prefix(instance_id, keep_start, keep_stage);
                if (!s->keep)
                        return -ENOMEM;
        }

        r = sd_bus_call_method_async(unit_manager_bus(units), &s->list, "org.freedesktop.systemd1",
                        "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager",
                        "ListUnitsByPatterns", on_list, s, "asas", 0, 1, s->pattern);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(s);
        return 0;
}
