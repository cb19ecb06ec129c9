/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <utlist.h>

#include "file-util.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "log.h"
#include "string-util.h"
#include "volume-directory.h"
#include "volume-manager-internal.h"
#include "volume-quota.h"
#include "volume-snapshots.h"
#include "volume-work.h"

/* The master waits for 600 s. */
#define SNAPSHOT_MAX_USEC (570 * USEC_PER_SEC)

/* One "volume.snapshot" under way; one at a time for each volume. */
struct SnapshotRequest {
        VolumeManager *manager;
        uint64_t request;
        char *volume, *snapshot;
        uint64_t size_max;
        job_function_t function; /* what its job does */
        char **units;            /* that stand still meanwhile */
        Freeze *freeze;
        Job *job;
        VolumeClaim *claim; /* of a restore */
        KError error;       /* why what was copied is thrown away */
        sd_event_source *timeout;
        struct SnapshotRequest *prev, *next;
};

SnapshotRequest *snapshot_request_find(VolumeManager *m, const char *volume) {
        SnapshotRequest *s;

        DL_FOREACH(m->snapshots, s)
                if (streq(s->volume, volume))
                        return s;
        return NULL;
}

SnapshotRequest *snapshot_request_free(SnapshotRequest *s) {
        if (!s)
                return NULL;

        if (s->claim)
                volume_import_cancel(s->claim);
        job_cancel(s->job);
        freeze_end(s->freeze);
        sd_event_source_disable_unref(s->timeout);
        if (s->prev)
                DL_DELETE(s->manager->snapshots, s);
        free(s->volume);
        free(s->snapshot);
        strv_free(s->units);
        kerror_done(&s->error);
        return mfree(s);
}
DEFINE_TRIVIAL_CLEANUP_FUNC(SnapshotRequest *, snapshot_request_free);

static void answer(VolumeManager *m, uint64_t request, const char *volume, KError *error) {
        json_object *result = NULL;

        if (!kerror_is_set(error)) {
                int r = volume_snapshots_describe(m->directory, volume, &result);

                if (r < 0)
                        (void) kerror_set_errno(error, r, "The snapshots of volume '%s' cannot be read: %m.",
                                        volume);
        }
        m->config.answer(request, result, error, m->config.userdata);
}

static void snapshot_finish(SnapshotRequest *s, KError *error) {
        _cleanup_free_ char *volume = TAKE_PTR(s->volume);
        VolumeManager *m = s->manager;
        uint64_t request = s->request;

        if (kerror_is_set(error))
                log_warning("%s", kerror_message(error));
        snapshot_request_free(s); /* thaws, before anybody is told */
        if (request > 0)
                answer(m, request, volume, error);
        volume_manager_wake(m);
}

/* Why it is not as it was to be. */
static void explain(const SnapshotRequest *s, int r, KError *ret) {
        if (r == -EEXIST)
                (void) kerror_set(ret, K_ALREADY_EXISTS, "Volume '%s' has a snapshot '%s' already.",
                                s->volume, s->snapshot);
        else if (r == -ENOENT && s->claim)
                (void) kerror_set(ret, K_NO_SUCH_VOLUME, "Volume '%s' has no snapshot '%s' on this node.",
                                s->volume, s->snapshot);
        else if (r == -ENOENT)
                (void) kerror_set(ret, K_NO_SUCH_VOLUME, "There is no volume '%s' on this node.", s->volume);
        else if (r == -EOPNOTSUPP && s->size_max > 0)
                (void) volume_quota_explain(s->manager->directory, s->volume, s->size_max, ret);
        else
                (void) kerror_set_errno(ret, r, "Snapshot '%s' of volume '%s': %m.", s->snapshot, s->volume);
}

static void fail(SnapshotRequest *s, int r, KError *error) {
        if (!kerror_is_set(error))
                explain(s, r, error);
        snapshot_finish(s, error);
}

static void succeed(SnapshotRequest *s, const char *what) {
        log_info("Snapshot '%s' of volume '%s' was %s.", s->snapshot, s->volume, what);
        snapshot_finish(s, &KERROR_NULL);
}

static void start_work(SnapshotRequest *s, job_function_t function);

/* Who has begun to use the volume while it was copied did not stand still. */
static int check_users(const SnapshotRequest *s, KError *reterr) {
        _cleanup_(volume_users_done) VolumeUsers users = {};
        VolumeManager *m = s->manager;
        int r;

        r = m->config.users(s->volume, &users, m->config.userdata);
        if (r < 0)
                return kerror_set_errno(
                                reterr, r, "Who uses volume '%s' cannot be found out: %m.", s->volume);
        STRV_FOREACH(u, users.units)
                if (!strv_contains(s->units, *u))
                        return kerror_set(reterr, K_CONFLICT,
                                        "'%s' has begun to use volume '%s' while the snapshot was made; try "
                                        "again.",
                                        *u, s->volume);
        return 0;
}

static void on_work_done(Job *j, int r, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        SnapshotRequest *s = userdata;

        s->job = NULL;
        if (s->function == volume_work_discard_snapshot) {
                if (r < 0)
                        log_warning_errno(r, "What was copied of volume '%s' is left behind: %m", s->volume);
                kerror_move(&error, &s->error);
                snapshot_finish(s, &error);
        } else if (r < 0)
                fail(s, r, &error);
        else if (s->function == volume_work_snapshot) {
                r = check_users(s, &s->error);
                s->freeze = freeze_end(s->freeze);
                start_work(s, r < 0 ? volume_work_discard_snapshot : volume_work_keep_snapshot);
        } else
                succeed(s, s->function == volume_work_keep_snapshot ? "made" : "removed");
}

static void on_restored(VolumeClaim *c, int r, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        SnapshotRequest *s = userdata;

        s->claim = NULL;
        if (r >= 0)
                succeed(s, "restored");
        else {
                (void) kerror_set_errno(&error, r,
                                "Volume '%s' has the content of snapshot '%s', but the disk may lose it: "
                                "%m.",
                                s->volume, s->snapshot);
                snapshot_finish(s, &error);
        }
}

static void on_discarded(VolumeClaim *c, int r, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        SnapshotRequest *s = userdata;

        s->claim = NULL;
        kerror_move(&error, &s->error);
        snapshot_finish(s, &error);
}

/* Nobody can begin to use the volume between the question and the exchange. */
static void on_copied(VolumeClaim *c, int r, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        SnapshotRequest *s = userdata;

        if (r >= 0)
                r = volume_manager_check_unused(s->manager, s->volume, &error);
        if (r >= 0)
                r = volume_import_commit(c, on_restored, s);
        if (r >= 0) {
                s->timeout = sd_event_source_disable_unref(s->timeout); /* it is not given up any more */
                return;
        }
        if (!kerror_is_set(&error))
                explain(s, r, &error);
        if (volume_import_discard(c, on_discarded, s) >= 0)
                kerror_move(&s->error, &error);
        else
                snapshot_finish(s, &error);
}

static int on_timeout(sd_event_source *source, uint64_t usec, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        SnapshotRequest *s = userdata;

        (void) kerror_set(&error, K_TIMEOUT, "Snapshot '%s' of volume '%s' takes too long and was given up.",
                        s->snapshot, s->volume);
        snapshot_finish(s, &error);
        return 0;
}

static int start(SnapshotRequest *s, job_function_t function) {
        s->function = function;
        return job_start(s->manager->event, "kt-snapshot", function,
                        &(VolumeWork){ .directory = s->manager->directory,
                                        .volume = s->volume,
                                        .snapshot = s->snapshot },
                        on_work_done, s, &s->job);
}

static void start_work(SnapshotRequest *s, job_function_t function) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        int r;

        r = start(s, function);
        if (r >= 0)
                return;
        (void) kerror_set_errno(&error, r, "Cannot start a process: %m.");
        snapshot_finish(s, &error);
}

static void on_frozen(Freeze *z, const KError *error, void *userdata) {
        _cleanup_kerror_ KError copy = KERROR_NULL;
        SnapshotRequest *s = userdata;

        if (!error) {
                start_work(s, volume_work_snapshot);
                return;
        }
        (void) kerror_set(&copy, error->code, "%s", kerror_message(error));
        snapshot_finish(s, &copy);
}

static int check_snapshot(VolumeManager *m, const char *volume, const char *action, const char *snapshot,
                VolumeUsers *ret_users, KError *reterr) {
        _cleanup_(volume_snapshot_list_done) VolumeSnapshotList l = {};
        VolumeEntry *e = volume_manager_find_entry(m, volume);
        int r;

        r = volume_name_validate(volume, reterr);
        if (r >= 0)
                r = volume_name_validate(snapshot, reterr);
        if (r < 0)
                return r;
        if (snapshot_request_find(m, volume))
                return kerror_set(reterr, K_CONFLICT,
                                "Something is being done with the snapshots of volume '%s'.", volume);
        if (volume_claim_find(m->claims, volume, streq(action, "create")))
                return kerror_set(reterr, K_CONFLICT, "Volume '%s' is being exported or imported.", volume);
        if (e && e->remove)
                return kerror_set(reterr, K_CONFLICT, "Volume '%s' is being removed.", volume);
        r = m->config.users(volume, ret_users, m->config.userdata);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Who uses volume '%s' cannot be found out: %m.", volume);

        if (streq(action, "create")) {
                r = volume_list_snapshots(m->directory, volume, &l);
                if (r >= 0 && l.n >= VOLUME_SNAPSHOTS_MAX)
                        return kerror_set(reterr, K_LIMIT_EXCEEDED,
                                        "Volume '%s' has %zu snapshots, more are not possible.", volume,
                                        l.n);
        } else if (streq(action, "restore") && (ret_users->wanted || strv_length(ret_users->units) > 0))
                return kerror_set(reterr, K_IN_USE, VOLUME_IN_USE, volume);
        return 0;
}

static int begin_snapshot(VolumeManager *m, uint64_t request, const char *volume, const char *action,
                const char *snapshot, char *const *units, KError *reterr) {
        _cleanup_(snapshot_request_freep) SnapshotRequest *s = NULL;
        const VolumeEntry *e = volume_manager_find_entry(m, volume);
        int r;

        s = new0(SnapshotRequest, 1);
        if (!s)
                return -ENOMEM;
        s->manager = m;
        s->request = request;
        s->size_max = e ? e->size_max : 0;
        s->volume = strdup(volume);
        s->snapshot = strdup(snapshot);
        s->units = strv_copy(units);
        if (!s->volume || !s->snapshot || (units && !s->units))
                return -ENOMEM;
        r = sd_event_add_time_relative(
                        m->event, &s->timeout, CLOCK_MONOTONIC, SNAPSHOT_MAX_USEC, 0, on_timeout, s);
        if (r < 0)
                return r;

        if (streq(action, "restore")) {
                r = volume_claim_new(&m->claims, volume, /* exclusive= */ true, &s->claim, reterr);
                if (r >= 0)
                        r = volume_import_begin_restore(s->claim, m->event, m->directory, volume, snapshot,
                                        s->size_max, on_copied, s);
        } else if (streq(action, "remove"))
                r = start(s, volume_work_remove_snapshot);
        else if (m->freezer)
                r = freeze_start(m->freezer, units, on_frozen, s, &s->freeze);
        else
                r = start(s, volume_work_snapshot);
        if (r < 0)
                return kerror_is_set(reterr)
                                       ? r
                                       : kerror_set_errno(reterr, r, "Snapshot '%s' of volume '%s': %m.",
                                                         snapshot, volume);

        DL_APPEND(m->snapshots, s);
        s = NULL;
        return 0;
}

void volume_manager_snapshot(VolumeManager *m, uint64_t request, json_object *params) {
        _cleanup_(volume_users_done) VolumeUsers users = {};
        const char *volume, *action, *snapshot = NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;
        int r;

        r = json_get_string(params, "volume", &volume, &error);
        if (r >= 0)
                r = json_get_string(params, "action", &action, &error);
        if (r >= 0)
                r = volume_name_validate(volume, &error);
        if (r >= 0 && !STR_IN_SET(action, "create", "restore", "remove", "list"))
                r = kerror_set(&error, K_NOT_SUPPORTED, "This node does not know how to '%.64s' snapshots.",
                                action);
        if (r >= 0 && !streq(action, "list")) {
                r = json_get_string(params, "snapshot", &snapshot, &error);
                if (r >= 0)
                        r = check_snapshot(m, volume, action, snapshot, &users, &error);
                if (r >= 0)
                        r = begin_snapshot(m, request, volume, action, snapshot, users.units, &error);
                if (r >= 0)
                        return;
        }

        if (r < 0 && !kerror_is_set(&error))
                (void) kerror_set_errno(&error, r, "The snapshots cannot be looked after: %m.");
        if (kerror_is_set(&error))
                m->config.answer(request, NULL, &error, m->config.userdata);
        else
                answer(m, request, volume, &error);
}

void volume_manager_disconnected(VolumeManager *m) {
        SnapshotRequest *s;

        DL_FOREACH(m->snapshots, s)
                s->request = 0;
}
