/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume-manager.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "file-util.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "log.h"
#include "string-util.h"
#include "volume-directory.h"
#include "volume-manager-internal.h"
#include "volume-quota.h"
#include "volume-work.h"

#define LOOK_DELAY_USEC       (200 * USEC_PER_MSEC)
#define LOOK_INTERVAL_USEC    (60 * USEC_PER_SEC)
#define RETRY_USEC            (30 * USEC_PER_SEC)
/* A tree that is counted file by file is counted rarely: at most 2 % of the time is spent on it. */
#define MEASURE_INTERVAL_USEC (10 * 60 * USEC_PER_SEC)
#define MEASURE_SHARE         50U
/* Growing by less is not worth a message. */
#define USED_STEP             (1024U * 1024U)

void volume_users_done(VolumeUsers *u) {
        u->units = strv_free(u->units);
}

bool volume_manager_holds(const VolumeManager *m, const char *unit) {
        return m->freezer && freezer_holds(m->freezer, unit);
}

static void entry_free(VolumeManager *m, VolumeEntry *e) {
        HASH_DEL(m->entries, e);
        kerror_done(&e->error);
        free(e->told_error);
        free(e->name);
        free(e);
}

VolumeEntry *volume_manager_find_entry(VolumeManager *m, const char *name) {
        VolumeEntry *e = NULL;

        HASH_FIND_STR(m->entries, name, e);
        return e;
}

static void arm(VolumeManager *m, uint64_t usec) {
        int r;

        r = sd_event_source_set_time_relative(m->look, usec);
        if (r >= 0)
                r = sd_event_source_set_enabled(m->look, SD_EVENT_ONESHOT);
        if (r < 0)
                log_error_errno(r, "Cannot set a timer for volumes: %m");
}

void volume_manager_wake(VolumeManager *m) {
        uint64_t at;

        if (m && sd_event_source_get_time(m->look, &at) >= 0 && at > now_monotonic() + LOOK_DELAY_USEC)
                arm(m, LOOK_DELAY_USEC);
}

/* What there is */

static const char *entry_state(const VolumeEntry *e) {
        if (kerror_is_set(&e->error))
                return "error";
        if (e->remove)
                return e->removed ? "removed" : NULL;
        return e->present ? "present" : NULL;
}

static void set_error(VolumeEntry *e, KError *error) {
        if (!e->told_error || !streq(e->told_error, kerror_message(error)))
                log_warning("Volume '%s': %s", e->name, kerror_message(error));
        kerror_move(&e->error, error);
}

static void look_at(VolumeManager *m, VolumeEntry *e) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        _cleanup_close_ int fd = -EBADF;
        uint64_t used, size_max;
        int r;

        fd = volume_open(m->directory, e->name, &error);
        if (fd == -ENOENT) {
                e->present = false;
                kerror_done(&e->error);
                return;
        }
        if (fd < 0) {
                e->present = false;
                set_error(e, &error);
                return;
        }

        e->present = true;
        kerror_done(&e->error);
        r = volume_quota_get(fd, &used, &size_max);
        e->counted = r >= 0;
        if (r < 0)
                return;
        e->used = used;
        if (size_max != e->size_max && volume_quota_change(fd, e->size_max) < 0)
                log_warning("The quota of volume '%s' cannot be changed.", e->name);
}

/* Jobs */

static void on_measured(Job *j, int r, void *userdata) {
        VolumeManager *m = userdata;
        VolumeEntry *e = volume_manager_find_entry(m, m->measuring);

        m->measure = NULL;
        m->measuring = mfree(m->measuring);
        if (e) {
                e->measured_at = now_monotonic();
                e->measure_took = e->measured_at - m->measure_started;
                if (r >= 0)
                        e->used = *m->shared_size;
                else if (r != -ETIME)
                        log_debug_errno(r, "Volume '%s' cannot be measured: %m", e->name);
        }
        volume_manager_wake(m);
}

static bool measure_is_due(const VolumeEntry *e) {
        if (!e->present || e->counted || e->remove)
                return false;
        return e->measured_at == 0 ||
               now_monotonic() >=
                               e->measured_at + MAX(MEASURE_INTERVAL_USEC, e->measure_took * MEASURE_SHARE);
}

static void start_measure(VolumeManager *m, const VolumeEntry *e) {
        int r;

        m->measuring = strdup(e->name);
        if (!m->measuring) {
                (void) log_oom();
                return;
        }
        m->measure_started = now_monotonic();
        r = job_start(m->event, "kt-volume-size", volume_work_measure,
                        &(VolumeWork){ .directory = m->directory,
                                        .volume = e->name,
                                        .ret_size = m->shared_size },
                        on_measured, m, &m->measure);
        if (r < 0) {
                log_warning_errno(r, "Cannot measure volume '%s': %m", e->name);
                m->measuring = mfree(m->measuring);
        }
}

static void on_removed(Job *j, int r, void *userdata) {
        VolumeManager *m = userdata;
        VolumeEntry *e = volume_manager_find_entry(m, m->removing);

        m->removal = NULL;
        if (r < 0) {
                _cleanup_kerror_ KError error = KERROR_NULL;

                m->removal_not_before = now_monotonic() + RETRY_USEC;
                (void) kerror_set_errno(&error, r, "Volume '%s' cannot be removed: %m.", m->removing);
                if (e)
                        set_error(e, &error);
        } else {
                log_info("Volume '%s' was removed.", m->removing);
                if (e) {
                        e->removed = true;
                        kerror_done(&e->error);
                }
        }
        m->removing = mfree(m->removing);
        volume_manager_wake(m);
}

static bool may_remove(VolumeManager *m, const VolumeEntry *e) {
        _cleanup_(volume_users_done) VolumeUsers users = {};

        if (!e->remove || e->removed || snapshot_request_find(m, e->name) ||
                        volume_claim_find(m->claims, e->name, false))
                return false;
        if (m->config.users(e->name, &users, m->config.userdata) < 0)
                return false;
        return !users.wanted && strv_length(users.units) == 0;
}

/* Right after the question who uses it: what is made by that name from now on is another one. */
static int start_removal(VolumeManager *m, const VolumeEntry *e) {
        int r;

        m->removing = strdup(e->name);
        if (!m->removing)
                return -ENOMEM;
        r = volume_take_away(m->directory, e->name);
        if (r >= 0)
                r = job_start(m->event, "kt-volume-rm", volume_work_remove,
                                &(VolumeWork){ .directory = m->directory }, on_removed, m, &m->removal);
        if (r < 0)
                m->removing = mfree(m->removing);
        return r;
}

static void try_removal(VolumeManager *m, VolumeEntry *e) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        int r;

        if (m->removal || now_monotonic() < m->removal_not_before || !may_remove(m, e))
                return;
        r = start_removal(m, e);
        if (r >= 0)
                return;
        m->removal_not_before = now_monotonic() + RETRY_USEC;
        (void) kerror_set_errno(&error, r, "Volume '%s' cannot be removed: %m.", e->name);
        set_error(e, &error);
}

/* Telling */

static int describe(const VolumeEntry *e, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object(), *error = NULL;
        int r;

        if (!o)
                return -ENOMEM;
        if (kerror_is_set(&e->error)) {
                error = json_object_new_object();
                if (!error)
                        return -ENOMEM;
                r = json_add_string(error, "code", kerror_bus_name(e->error.code));
                if (r >= 0)
                        r = json_add_string(error, "message", kerror_message(&e->error));
                if (r < 0)
                        return r;
        }
        r = json_add_string(o, "state", entry_state(e));
        if (r >= 0)
                r = error ? json_add(o, "error", TAKE_PTR(error)) : json_add_string(o, "error", NULL);
        if (r >= 0)
                r = json_add_u64(o, "used", e->used);
        if (r >= 0)
                r = json_add_u64(o, "size_max", e->size_max);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

static bool is_told(const VolumeEntry *e) {
        uint64_t difference = e->used > e->told_used ? e->used - e->told_used : e->told_used - e->used;
        const char *error = kerror_is_set(&e->error) ? kerror_message(&e->error) : NULL;

        if (!entry_state(e))
                return true;
        return e->told_state && streq(e->told_state, entry_state(e)) && streq_ptr(e->told_error, error) &&
               difference < USED_STEP;
}

static void mark_told(VolumeEntry *e) {
        e->told_state = entry_state(e);
        e->told_used = e->used;
        (void) free_and_strdup(&e->told_error, kerror_is_set(&e->error) ? kerror_message(&e->error) : NULL);
}

static void tell(VolumeManager *m) {
        _cleanup_json_ json_object *volumes = json_object_new_object();
        VolumeEntry *e, *next;

        if (!volumes) {
                (void) log_oom();
                return;
        }
        HASH_ITER(hh, m->entries, e, next) {
                json_object *o;

                if (is_told(e))
                        continue;
                if (describe(e, &o) < 0 || json_add(volumes, e->name, o) < 0) {
                        (void) log_oom();
                        return;
                }
        }
        if (json_object_object_length(volumes) == 0)
                return;
        if (m->config.tell(json_object_get(volumes), m->config.userdata) < 0)
                return; /* not connected: all is told with the next hello */

        json_object_object_foreach(volumes, name, value) {
                (void) value;
                e = volume_manager_find_entry(m, name);
                if (e)
                        mark_told(e);
        }
}

int volume_manager_status(VolumeManager *m, json_object **ret) {
        _cleanup_json_ json_object *volumes = json_object_new_object();
        VolumeEntry *e, *next;

        if (!volumes)
                return -ENOMEM;
        HASH_ITER(hh, m->entries, e, next) {
                json_object *o;
                int r;

                if (!entry_state(e))
                        continue;
                r = describe(e, &o);
                if (r >= 0)
                        r = json_add(volumes, e->name, o);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(volumes);
        return 0;
}

void volume_manager_connected(VolumeManager *m) {
        VolumeEntry *e, *next;

        HASH_ITER(hh, m->entries, e, next)
                e->told_state = NULL;
        volume_manager_wake(m);
}

static int on_look(sd_event_source *s, uint64_t usec, void *userdata) {
        VolumeManager *m = userdata;
        VolumeEntry *e, *next;

        HASH_ITER(hh, m->entries, e, next) {
                if (e->remove) {
                        try_removal(m, e);
                        continue;
                }
                look_at(m, e);
                if (!m->measure && measure_is_due(e))
                        start_measure(m, e);
        }
        tell(m);
        arm(m, LOOK_INTERVAL_USEC);
        return 0;
}

int volume_manager_set(VolumeManager *m, json_object *volumes) {
        VolumeEntry *e, *next;

        if (!volumes)
                return 0;
        HASH_ITER(hh, m->entries, e, next)
                e->named = false;

        json_object_object_foreach(volumes, name, volume) {
                _cleanup_kerror_ KError error = KERROR_NULL;
                const char *state = "present";
                uint64_t size_max = 0;

                if (volume_name_validate(name, &error) < 0 ||
                                json_find_string(volume, "state", &state, &error) < 0 ||
                                json_find_u64(volume, "size_max", &size_max, &error) < 0) {
                        log_warning("What the master wants of a volume is not understood: %s",
                                        kerror_message(&error));
                        continue;
                }
                e = volume_manager_find_entry(m, name);
                if (!e) {
                        e = new0(VolumeEntry, 1);
                        if (!e)
                                return -ENOMEM;
                        e->name = strdup(name);
                        if (e->name)
                                HASH_ADD_KEYPTR(hh, m->entries, e->name, strlen(e->name), e);
                        if (!e->hh.tbl) {
                                free(e->name);
                                free(e);
                                return -ENOMEM;
                        }
                }
                e->named = true;
                e->size_max = size_max;
                if (e->remove != streq(state, "removed")) {
                        e->remove = !e->remove;
                        e->removed = false;
                        kerror_done(&e->error);
                }
        }
        HASH_ITER(hh, m->entries, e, next)
                if (!e->named)
                        entry_free(m, e);

        volume_manager_wake(m);
        return 0;
}

VolumeClaim **volume_manager_claims(VolumeManager *m) {
        return &m->claims;
}

uint64_t volume_manager_size_max(VolumeManager *m, const char *volume) {
        const VolumeEntry *e = volume_manager_find_entry(m, volume);

        return e ? e->size_max : 0;
}

int volume_manager_check_unused(VolumeManager *m, const char *volume, KError *reterr) {
        const VolumeEntry *e = volume_manager_find_entry(m, volume);
        _cleanup_(volume_users_done) VolumeUsers users = {};
        int r;

        if (e && e->remove)
                return kerror_set(reterr, K_CONFLICT, "Volume '%s' is being removed.", volume);
        r = m->config.users(volume, &users, m->config.userdata);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Who uses volume '%s' cannot be found out: %m.", volume);
        if (users.wanted || strv_length(users.units) > 0)
                return kerror_set(reterr, K_IN_USE, VOLUME_IN_USE, volume);
        return 0;
}

int volume_manager_check(VolumeManager *m, const char *volume, bool replace, KError *reterr) {
        const VolumeEntry *e;
        int r;

        r = volume_name_validate(volume, reterr);
        if (r < 0)
                return r;
        e = volume_manager_find_entry(m, volume);
        if (!e || e->removed)
                return kerror_set(reterr, K_NO_SUCH_VOLUME, "There is no volume '%s' on this node.", volume);
        if (e->remove)
                return kerror_set(reterr, K_CONFLICT, "Volume '%s' is being removed.", volume);
        if (snapshot_request_find(m, volume))
                return kerror_set(reterr, K_CONFLICT,
                                "Something is being done with the snapshots of volume '%s'.", volume);
        return replace ? volume_manager_check_unused(m, volume, reterr) : 0;
}

static void on_cleaned(Job *j, int r, void *userdata) {
        VolumeManager *m = userdata;

        m->cleaning = NULL;
        if (r < 0)
                log_warning_errno(r, "Cannot remove what was left unfinished in '%s': %m", m->directory);
}

static void clean_up(VolumeManager *m) {
        int r;

        r = volume_work_put_aside(m->directory);
        if (r > 0)
                r = job_start(m->event, "kt-volume-rm", volume_work_clean,
                                &(VolumeWork){ .directory = m->directory }, on_cleaned, m, &m->cleaning);
        if (r < 0)
                log_warning_errno(r, "Cannot remove what was left unfinished in '%s': %m", m->directory);
}

int volume_manager_new(
                sd_event *event, sd_bus *bus, const VolumeManagerConfig *config, VolumeManager **ret) {
        _cleanup_(volume_manager_freep) VolumeManager *m = NULL;
        int r;

        assert(config->users);
        assert(config->tell);
        assert(config->answer);

        m = new0(VolumeManager, 1);
        if (!m)
                return -ENOMEM;
        m->event = sd_event_ref(event);
        m->config = *config;
        m->directory = strdup(config->directory);
        if (!m->directory)
                return -ENOMEM;
        m->shared_size = mmap(
                        NULL, sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (m->shared_size == MAP_FAILED) {
                m->shared_size = NULL;
                return -errno;
        }
        if (bus) {
                r = freezer_new(bus, config->run_directory, &m->freezer);
                if (r < 0)
                        return r;
        }
        r = sd_event_add_time_relative(
                        event, &m->look, CLOCK_MONOTONIC, LOOK_INTERVAL_USEC, USEC_PER_SEC / 10, on_look, m);
        if (r < 0)
                return r;
        clean_up(m);

        *ret = TAKE_PTR(m);
        return 0;
}

VolumeManager *volume_manager_free(VolumeManager *m) {
        VolumeEntry *e, *next;

        if (!m)
                return NULL;

        while (m->snapshots)
                snapshot_request_free(m->snapshots);
        volume_claims_free(&m->claims);
        job_cancel(m->cleaning);
        job_cancel(m->removal);
        job_cancel(m->measure);
        HASH_ITER(hh, m->entries, e, next)
                entry_free(m, e);
        sd_event_source_disable_unref(m->look);
        freezer_free(m->freezer);
        if (m->shared_size)
                (void) munmap(m->shared_size, sizeof(uint64_t));
        sd_event_unref(m->event);
        free(m->removing);
        free(m->measuring);
        free(m->directory);
        return mfree(m);
}
