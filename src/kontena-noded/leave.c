/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "leave.h"

#include <stdio.h>
#include <unistd.h>

#include "bus.h"
#include "file-util.h"
#include "job.h"
#include "kept-data.h"
#include "log.h"
#include "noded-internal.h"

#define MARKER         "leaving"
#define MARKER_VOLUMES "volumes\n"
#define MARKER_MAX     64U
#define RETRY_USEC     (10 * USEC_PER_SEC)

struct Leave {
        Manager *manager;
        bool volumes;
        Job *job;
        sd_event_source *wake;

        manager_left_t done; /* NULL: nobody waits */
        void *userdata;
};

Leave *leave_free(Leave *l) {
        if (!l)
                return NULL;

        if (l->manager->leave == l)
                l->manager->leave = NULL;
        job_cancel(l->job);
        sd_event_source_disable_unref(l->wake);
        free(l);
        return NULL;
}
DEFINE_TRIVIAL_CLEANUP_FUNC(Leave *, leave_free);

static void schedule(Leave *l, uint64_t usec) {
        int r;

        r = sd_event_source_set_time_relative(l->wake, usec);
        if (r >= 0)
                r = sd_event_source_set_enabled(l->wake, SD_EVENT_ONESHOT);
        if (r < 0)
                log_error_errno(r, "Cannot set a timer, leaving the grid stops here: %m");
}

void leave_wake(Leave *l) {
        if (l && !l->job)
                schedule(l, 0);
}

static void tell(Leave *l, const KError *error) {
        manager_left_t done = l->done;

        l->done = NULL;
        if (done)
                done(error, l->userdata);
}

static void failed(Leave *l, const KError *error) {
        log_error("Leaving the grid is not complete, trying again: %s", kerror_message(error));
        tell(l, error);
        schedule(l, RETRY_USEC);
}

typedef struct Rest {
        const char *images, *volumes, *kept; /* volumes NULL: the last two stay */
} Rest;

/* In a process of its own. The store is opened anew: its lock keeps out a pull that has not ended yet. */
static int remove_rest(void *userdata) {
        const Rest *rest = userdata;
        ImageStore *s;
        int r;

        r = image_store_new(rest->images, &s);
        if (r < 0)
                return r;
        r = image_store_collect(s, NULL, now_monotonic(), 0);
        while (r >= 0 && (r = image_store_step(s)) == IMAGE_STORE_AGAIN)
                ;
        image_store_free(s);
        if (r < 0 || !rest->volumes)
                return r;

        r = rm_rf_at(AT_FDCWD, rest->kept);
        if (r >= 0)
                r = rm_rf_at(AT_FDCWD, rest->volumes);
        return r < 0 ? r : mkdir_p(rest->volumes, 0700);
}

static char *marker_path(const Manager *m) {
        return strjoin(m->config->state_directory, "/" MARKER);
}

/* The grid's slice is empty now, and systemd would keep it. Nobody waits for it. */
static void stop_slices(Manager *m) {
        int r;

        r = sd_bus_call_method_async(m->bus, NULL, "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
                        "org.freedesktop.systemd1.Manager", "StopUnit", NULL, NULL, "ss", "kontena.slice",
                        "replace");
        if (r < 0)
                log_warning_errno(r, "Cannot stop kontena.slice, ignoring it: %m");
}

static int forget_join(Manager *m, KError *reterr) {
        static const char *const files[] = { "join.conf", "key.pem", "certificate.pem", "ca.pem",
                "secret.key" };

        FOREACH_ARRAY(f, files, ELEMENTSOF(files)) {
                _cleanup_free_ char *path = strjoin(m->config->state_directory, "/", *f);

                if (!path)
                        return -ENOMEM;
                if (unlink(path) < 0 && errno != ENOENT)
                        return kerror_set_errno(reterr, -errno, "Cannot remove '%s': %m", path);
        }

        return 0;
}

static void on_rest_removed(Job *j, int r, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        _cleanup_free_ char *path = NULL;
        Leave *l = userdata;
        Manager *m = l->manager;

        l->job = NULL;
        path = marker_path(m);
        if (r >= 0 && !path)
                r = -ENOMEM;
        if (r >= 0) /* a daemon that was started meanwhile has made a key for secrets anew */
                r = forget_join(m, NULL);
        if (r >= 0 && unlink(path) < 0 && errno != ENOENT)
                r = -errno;
        if (r < 0) {
                (void) kerror_set_errno(&error, r, "Cannot remove images and volumes: %m");
                failed(l, &error);
                return;
        }

        stop_slices(m);
        log_notice("This machine has left its grid, nothing of it is left here%s%s.",
                        l->volumes ? "" : " but named volumes",
                        kept_is_empty(m->config->instances_directory) ? ""
                                                                      : " and data of stateful instances");
        tell(l, NULL);
        leave_free(l);

        /* There may be a new join by now. */
        r = channel_start(m->channel, &error);
        if (r < 0)
                log_warning("Not connecting to a master: %s", kerror_message(&error));
        manager_update_status(m);
        bus_face_node_changed(m->face);
}

static int on_wake(sd_event_source *s, uint64_t usec, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        _cleanup_free_ char *kept = NULL;
        Leave *l = userdata;
        Manager *m = l->manager;
        int r;

        if (l->job || manager_count_instances(m) > 0)
                return 0; /* woken again when the last one is gone */

        if (network_clear(m->network, &error) < 0) {
                failed(l, &error);
                return 0;
        }
        m->network_error = mfree(m->network_error);

        kept = strjoin(m->config->instances_directory, "/" KEPT_DIRECTORY);
        r = kept ? job_start(m->event, "kt-leave", remove_rest,
                                   &(Rest){ .images = m->config->images_directory,
                                                   .volumes = l->volumes ? m->config->volumes_directory
                                                                         : NULL,
                                                   .kept = kept },
                                   on_rest_removed, l, &l->job)
                 : -ENOMEM;
        if (r < 0) {
                (void) kerror_set_errno(&error, r, "Cannot start a process: %m");
                failed(l, &error);
        }
        return 0;
}

static int leave_new(Manager *m, bool volumes, Leave **ret) {
        _cleanup_(leave_freep) Leave *l = NULL;
        int r;

        l = new0(Leave, 1);
        if (!l)
                return -ENOMEM;
        l->manager = m;
        l->volumes = volumes;
        r = sd_event_add_time_relative(m->event, &l->wake, CLOCK_MONOTONIC, 0, 0, on_wake, l);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(l);
        return 0;
}

/* From here on it only goes forward. */
static void leave_begin(Manager *m, Leave *l) {
        InstanceEntry *e, *next;
        int r;

        m->leave = l;
        r = desired_clear(m->desired);
        if (r < 0)
                log_warning_errno(r, "Cannot remove the desired state from the disk, ignoring it: %m");
        if (m->reconcile)
                (void) sd_event_source_set_enabled(m->reconcile, SD_EVENT_OFF);
        HASH_ITER(hh, m->instances, e, next)
                if (l->volumes)
                        instance_terminate(e->instance);
                else
                        instance_disown(e->instance);
        manager_update_status(m);
}

int manager_leave(Manager *m, LeaveFlags flags, manager_left_t done, void *userdata, KError *reterr) {
        size_t n = manager_count_instances(m);
        _cleanup_(leave_freep) Leave *l = NULL;
        _cleanup_free_ char *path = NULL;
        const char *text = flags & LEAVE_VOLUMES ? MARKER_VOLUMES : "";
        int r;

        assert(done);

        if (n > 0 && !(flags & LEAVE_FORCE) && !m->leave)
                return kerror_set(reterr, K_IN_USE, "%zu instance%s run%s on this machine.", n,
                                n == 1 ? "" : "s", n == 1 ? "s" : "");
        if (m->leave && m->leave->done)
                return kerror_set(reterr, K_CONFLICT, "This machine is about to leave its grid already.");
        if (m->leave) {
                m->leave->done = done;
                m->leave->userdata = userdata;
                leave_wake(m->leave);
                return 0;
        }

        r = leave_new(m, flags & LEAVE_VOLUMES, &l);
        if (r < 0)
                return r;
        path = marker_path(m);
        if (!path)
                return -ENOMEM;
        r = write_file_atomic(path, text, strlen(text), 0600);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot write '%s': %m", path);

        m->was_connected = false; /* its end is no news */
        channel_stop(m->channel);
        r = forget_join(m, reterr);
        if (r < 0) {
                (void) unlink(path);
                (void) channel_start(m->channel, NULL);
                return r;
        }
        log_notice("This machine leaves its grid, %zu instance%s end%s.", n, n == 1 ? "" : "s",
                        n == 1 ? "s" : "");
        l->done = done;
        l->userdata = userdata;
        leave_begin(m, TAKE_PTR(l));
        return 0;
}

int manager_resume_leave(Manager *m) {
        _cleanup_free_ char *path = NULL, *text = NULL;
        _cleanup_(leave_freep) Leave *l = NULL;
        int r;

        path = marker_path(m);
        if (!path)
                return -ENOMEM;
        r = read_file(path, MARKER_MAX, &text, NULL);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return log_error_errno(r, "Cannot read '%s': %m", path);
        r = leave_new(m, streq(text, MARKER_VOLUMES), &l);
        if (r < 0)
                return log_error_errno(r, "Cannot go on leaving the grid: %m");

        log_notice("Going on to leave the grid, %zu instances are still here.", manager_count_instances(m));
        leave_begin(m, TAKE_PTR(l));
        return 1;
}
