/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume-freeze.h"

#include <stdio.h>
#include <unistd.h>

#include "file-util.h"
#include "log.h"
#include "string-util.h"

#define RECORD_MAX       (1024U * 1024U)
#define FREEZE_TIMEOUT   (20 * USEC_PER_SEC)
#define FROZEN_UNITS_MAX 4096U

struct Freezer {
        sd_bus *bus;
        char *path;
        char **frozen; /* a unit twice: twice frozen */
};

typedef struct FreezeCall {
        Freeze *freeze;
        char *unit;
        sd_bus_slot *slot;
} FreezeCall;

struct Freeze {
        Freezer *freezer;
        FreezeCall *calls;
        size_t n_calls, open;
        KError error;
        freeze_done_t done;
        void *userdata;
        sd_event_source *defer; /* of a freeze of nobody */
};

static int save(Freezer *f) {
        _cleanup_free_ char *text = NULL;

        if (strv_length(f->frozen) == 0)
                return unlink(f->path) < 0 && errno != ENOENT ? -errno : 0;
        text = strv_join(f->frozen, "\n");
        if (!text)
                return -ENOMEM;
        return write_file_atomic(f->path, text, strlen(text), 0600);
}

static int on_thawed(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        const sd_bus_error *e = sd_bus_message_get_error(reply);

        /* A unit that has ended needs no thawing. */
        if (e && !sd_bus_error_has_name(e, "org.freedesktop.systemd1.NoSuchUnit") &&
                        !sd_bus_error_has_name(e, "org.freedesktop.systemd1.UnitInactive"))
                log_warning("A unit that was frozen for a snapshot could not be thawed: %s",
                                strna(e->message));
        return 0;
}

static void thaw(Freezer *f, const char *unit) {
        int r;

        r = sd_bus_call_method_async(f->bus, NULL, "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
                        "org.freedesktop.systemd1.Manager", "ThawUnit", on_thawed, NULL, "s", unit);
        if (r < 0)
                log_error_errno(r, "Cannot thaw '%s'; 'systemctl thaw' does: %m", unit);
}

/* The last of those who froze it lets it go. */
static void release(Freezer *f, const char *unit) {
        char **kept = NULL;
        bool found = false;

        STRV_FOREACH(u, f->frozen) {
                if (!found && streq(*u, unit)) {
                        found = true;
                        continue;
                }
                if (strv_extend(&kept, *u) < 0) {
                        strv_free(kept);
                        return;
                }
        }
        strv_free(f->frozen);
        f->frozen = kept;
        if (!strv_contains(f->frozen, unit))
                thaw(f, unit);
}

int freezer_new(sd_bus *bus, const char *run_directory, Freezer **ret) {
        _cleanup_(freezer_freep) Freezer *f = NULL;
        _cleanup_strv_free_ char **left = NULL;
        _cleanup_free_ char *text = NULL;
        int r;

        f = new0(Freezer, 1);
        if (!f)
                return -ENOMEM;
        f->bus = sd_bus_ref(bus);
        f->path = strjoin(run_directory, "/frozen");
        if (!f->path)
                return -ENOMEM;

        r = read_file(f->path, RECORD_MAX, &text, NULL);
        if (r >= 0)
                r = strv_split(text, "\n", &left);
        if (r < 0 && r != -ENOENT)
                log_warning_errno(
                                r, "Cannot read '%s', whom a snapshot has frozen is not known: %m", f->path);
        STRV_FOREACH(u, left) {
                log_info("Thawing '%s', which a snapshot had frozen when this daemon ended.", *u);
                thaw(f, *u);
        }
        (void) unlink(f->path);

        *ret = TAKE_PTR(f);
        return 0;
}

Freezer *freezer_free(Freezer *f) {
        if (!f)
                return NULL;

        sd_bus_unref(f->bus);
        strv_free(f->frozen);
        free(f->path);
        return mfree(f);
}

bool freezer_holds(const Freezer *f, const char *unit) {
        return strv_contains(f->frozen, unit);
}

Freeze *freeze_end(Freeze *z) {
        if (!z)
                return NULL;

        sd_event_source_disable_unref(z->defer);
        FOREACH_ARRAY(c, z->calls, z->n_calls) {
                sd_bus_slot_unref(c->slot);
                if (c->unit)
                        release(z->freezer, c->unit);
                free(c->unit);
        }
        if (z->n_calls > 0 && save(z->freezer) < 0)
                log_warning("Cannot write '%s', ignoring it.", z->freezer->path);
        free(z->calls);
        kerror_done(&z->error);
        return mfree(z);
}

static void finish(Freeze *z) {
        if (z->open == 0)
                z->done(z, kerror_is_set(&z->error) ? &z->error : NULL, z->userdata);
}

static int on_frozen(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        const sd_bus_error *e = sd_bus_message_get_error(reply);
        FreezeCall *c = userdata;

        /* One that does not run writes nothing. */
        if (e && !sd_bus_error_has_name(e, "org.freedesktop.systemd1.NoSuchUnit") &&
                        !sd_bus_error_has_name(e, "org.freedesktop.systemd1.UnitInactive"))
                (void) kerror_set(&c->freeze->error, K_RUNTIME,
                                "Unit '%s' cannot be made to stand still: %s", c->unit, strna(e->message));
        c->freeze->open--;
        finish(c->freeze);
        return 0;
}

static int on_nobody(sd_event_source *s, void *userdata) {
        finish(userdata);
        return 0;
}

static int freeze_unit(Freeze *z, FreezeCall *c) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        r = sd_bus_message_new_method_call(z->freezer->bus, &m, "org.freedesktop.systemd1",
                        "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "FreezeUnit");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", c->unit);
        if (r >= 0)
                r = sd_bus_call_async(z->freezer->bus, &c->slot, m, on_frozen, c, FREEZE_TIMEOUT);
        return r;
}

int freeze_start(Freezer *f, char *const *units, freeze_done_t done, void *userdata, Freeze **ret) {
        _cleanup_(freeze_endp) Freeze *z = NULL;
        size_t n = strv_length(units);
        int r;

        if (n > FROZEN_UNITS_MAX)
                return -E2BIG;
        z = new0(Freeze, 1);
        if (!z)
                return -ENOMEM;
        *z = (Freeze){ .freezer = f, .done = done, .userdata = userdata };
        if (n == 0) {
                r = sd_event_add_defer(sd_bus_get_event(f->bus), &z->defer, on_nobody, z);
                if (r < 0)
                        return r;
                *ret = TAKE_PTR(z);
                return 0;
        }

        z->calls = new0(FreezeCall, n);
        if (!z->calls)
                return -ENOMEM;
        STRV_FOREACH(u, units) {
                FreezeCall *c = z->calls + z->n_calls;

                r = strv_extend(&f->frozen, *u);
                if (r < 0)
                        return r;
                *c = (FreezeCall){ .freeze = z, .unit = strdup(*u) };
                if (!c->unit)
                        return -ENOMEM;
                z->n_calls++;
        }
        r = save(f);
        if (r < 0)
                return r;
        FOREACH_ARRAY(c, z->calls, z->n_calls) {
                r = freeze_unit(z, c);
                if (r < 0)
                        return r;
                z->open++;
        }

        *ret = TAKE_PTR(z);
        return 0;
}
