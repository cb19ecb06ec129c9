/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume-import.h"

#include <fcntl.h>
#include <utlist.h>

#include "file-util.h"
#include "job.h"
#include "log.h"
#include "string-util.h"
#include "volume-directory.h"
#include "volume-work.h"

struct VolumeClaim {
        VolumeClaim **list;
        char *volume;
        bool exclusive;

        sd_event *event;
        char *directory, *name; /* what is imported is to be <directory>/<name> */
        char *snapshot;         /* that is restored */
        uint64_t size_max;
        Job *job;
        bool waiting; /* for the disk: the job is left to its end */
        volume_import_done_t done;
        void *userdata;
        VolumeClaim *prev, *next;
};

VolumeClaim *volume_claim_find(VolumeClaim *list, const char *volume, bool exclusive_only) {
        VolumeClaim *c;

        DL_FOREACH(list, c)
                if (streq(c->volume, volume) && (c->exclusive || !exclusive_only))
                        return c;
        return NULL;
}

int volume_claim_new(
                VolumeClaim **list, const char *volume, bool exclusive, VolumeClaim **ret, KError *reterr) {
        VolumeClaim *c;

        if (volume_claim_find(*list, volume, !exclusive))
                return kerror_set(reterr, K_CONFLICT, "Volume '%s' is being exported or imported.", volume);
        c = new0(VolumeClaim, 1);
        if (!c)
                return -ENOMEM;
        c->volume = strdup(volume);
        if (!c->volume) {
                free(c);
                return -ENOMEM;
        }
        c->list = list;
        c->exclusive = exclusive;
        DL_APPEND(*list, c);

        *ret = c;
        return 0;
}

VolumeClaim *volume_claim_free(VolumeClaim *c) {
        if (!c)
                return NULL;

        DL_DELETE(*c->list, c);
        job_cancel(c->job);
        sd_event_unref(c->event);
        free(c->directory);
        free(c->name);
        free(c->snapshot);
        free(c->volume);
        return mfree(c);
}

void volume_claims_free(VolumeClaim **list) {
        while (*list)
                volume_claim_free(*list);
}

static void finished(VolumeClaim *c, int r) {
        if (c->done)
                c->done(c, r, c->userdata);
        volume_claim_free(c);
}

static void on_discarded(Job *j, int r, void *userdata) {
        VolumeClaim *c = userdata;

        c->job = NULL;
        if (r < 0)
                log_warning_errno(r, "What is not needed of volume '%s' cannot be removed: %m", c->volume);
        finished(c, 0);
}

static void on_done(Job *j, int r, void *userdata) {
        VolumeClaim *c = userdata;

        c->job = NULL;
        c->waiting = false;
        if (c->done)
                c->done(c, r, c->userdata);
        else
                volume_import_cancel(c);
}

static int start(VolumeClaim *c, job_function_t function, job_done_t done) {
        return job_start(c->event, "kt-import", function,
                        &(VolumeWork){ .directory = c->directory,
                                        .volume = c->name,
                                        .snapshot = c->snapshot,
                                        .size_max = c->size_max },
                        done, c, &c->job);
}

/* The new content has its place, whatever becomes of the old. */
static void on_old_removed(Job *j, int r, void *userdata) {
        VolumeClaim *c = userdata;

        c->job = NULL;
        if (r < 0)
                log_warning_errno(r, "The former content of volume '%s' is left behind: %m", c->volume);
        finished(c, 0);
}

/* What is left of the old content goes when the disk has the exchange: before, either may be there after a power failure. */
static void on_placed(Job *j, int r, void *userdata) {
        VolumeClaim *c = userdata;

        c->job = NULL;
        if (r < 0) {
                log_error_errno(r, "Whether the disk has the new content of volume '%s' is not known: %m",
                                c->volume);
                finished(c, r);
                return;
        }
        r = start(c, volume_work_discard_import, on_old_removed);
        if (r < 0) {
                log_warning_errno(r, "The former content of volume '%s' is left behind: %m", c->volume);
                finished(c, 0);
        }
}

static int begin(VolumeClaim *c, sd_event *event, const char *directory, const char *name,
                const char *snapshot, uint64_t size_max, volume_import_done_t done, void *userdata) {
        assert(c->exclusive && !c->event);

        c->directory = strdup(directory);
        c->name = strdup(name);
        c->snapshot = snapshot ? strdup(snapshot) : NULL;
        if (!c->directory || !c->name || (snapshot && !c->snapshot))
                return -ENOMEM;
        c->event = sd_event_ref(event);
        c->size_max = size_max;
        c->done = done;
        c->userdata = userdata;
        return start(c, snapshot ? volume_work_begin_restore : volume_work_begin_import, on_done);
}

int volume_import_begin(VolumeClaim *c, sd_event *event, const char *directory, const char *name,
                uint64_t size_max, volume_import_done_t done, void *userdata) {
        return begin(c, event, directory, name, NULL, size_max, done, userdata);
}

int volume_import_begin_restore(VolumeClaim *c, sd_event *event, const char *directory, const char *name,
                const char *snapshot, uint64_t size_max, volume_import_done_t done, void *userdata) {
        return begin(c, event, directory, name, snapshot, size_max, done, userdata);
}

int volume_import_open(VolumeClaim *c) {
        _cleanup_close_ int parent = -EBADF;
        _cleanup_free_ char *path = NULL;

        path = volume_import_path(c->name);
        if (!path)
                return -ENOMEM;
        parent = open(c->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return parent < 0 ? -errno : volume_directory_open(parent, path);
}

int volume_import_sync(VolumeClaim *c, volume_import_done_t done, void *userdata) {
        assert(!c->job);

        c->done = done;
        c->userdata = userdata;
        c->waiting = true;
        return start(c, volume_work_sync_import, on_done);
}

int volume_import_commit(VolumeClaim *c, volume_import_done_t done, void *userdata) {
        int r, existed, k;

        assert(!c->job);

        existed = volume_exchange_import(c->directory, c->name);
        if (existed < 0)
                return existed;
        r = start(c, volume_work_sync_exchange, on_placed);
        if (r < 0) {
                /* Nobody has had a chance to use it. */
                k = volume_exchange_back(c->directory, c->name, existed > 0);
                if (k >= 0)
                        return r;
                log_error_errno(k, "The new content of volume '%s' has its place although it failed: %m",
                                c->volume);
                return r;
        }
        c->done = done;
        c->userdata = userdata;
        c->waiting = true;
        return 0;
}

int volume_import_discard(VolumeClaim *c, volume_import_done_t done, void *userdata) {
        assert(!c->job);

        c->done = done;
        c->userdata = userdata;
        return start(c, volume_work_discard_import, on_discarded);
}

void volume_import_cancel(VolumeClaim *c) {
        int r;

        c->done = NULL;
        if (c->job && c->waiting)
                return; /* its end comes here again */
        c->waiting = false;
        c->job = job_cancel(c->job);
        r = c->event ? start(c, volume_work_discard_import, on_discarded) : -ENODATA;
        if (r >= 0)
                return;
        if (r != -ENODATA)
                log_warning_errno(r, "What is not needed of volume '%s' is left for the next start: %m",
                                c->volume);
        volume_claim_free(c);
}
