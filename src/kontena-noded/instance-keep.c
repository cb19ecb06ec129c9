/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "file-util.h"
#include "instance-internal.h"
#include "job.h"
#include "json-util.h"
#include "kept-data.h"
#include "message-id.h"

/* An instance that is not named any more has not been removed by anybody: a master that was restored from a backup does not know what
 * was made since. What it had in volumes of its own is put aside before the rest goes, and is there again when it is named again. */

typedef struct Keep {
        const char *instances, *id, *about;
} Keep;

static int carry_out(void *arg) {
        const Keep *k = arg;

        return kept_put(k->instances, k->id, k->about);
}

static void on_kept(Job *j, int r, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        Instance *i = userdata;

        i->job = NULL;
        i->removing = false;
        if (r < 0) {
                (void) kerror_set_errno(&error, r, "Cannot put the instance's data aside: %m");
                instance_fail(i, &error);
                return;
        }
        instance_step(i);
}

static int describe(const Instance *i, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();
        int r;

        if (!o)
                return -ENOMEM;
        if ((r = json_add_string(o, "id", i->id)) < 0 ||
                        (r = json_add_string(o, "grid", instance_grid(i))) < 0 ||
                        (r = json_add_string(o, "stack", instance_stack(i))) < 0 ||
                        (r = json_add_string(o, "service", instance_service(i))) < 0 ||
                        (r = json_add_u64(o, "number", instance_number(i))) < 0 ||
                        (r = json_add_string(o, "image", instance_image(i))) < 0 ||
                        (r = json_add_u64(o, "kept_at", now_realtime())) < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

int instance_keep_data(Instance *i, KError *reterr) {
        _cleanup_json_ json_object *about = NULL;
        Keep keep = { .instances = i->host->state_directory, .id = i->id };
        int r;

        if (!i->disowned || i->kept)
                return SYNC_DONE;

        r = kept_has_data(i->directory);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot look for the instance's data: %m");
        if (r == 0) {
                /* By us, or by a daemon before us that could not tell any more. */
                r = kept_find(keep.instances, i->id);
                if (r < 0)
                        return kerror_set_errno(reterr, r, "Cannot look for the instance's data: %m");
                if (r > 0)
                        instance_say(i, MESSAGE_INSTANCE_DATA_KEPT, "warning", "service:keep_data",
                                        "Nobody names this stateful instance any more, it is removed; its "
                                        "data are kept in %s/" KEPT_DIRECTORY "/%s.",
                                        keep.instances, i->id);
                i->kept = true;
                return SYNC_DONE;
        }

        r = describe(i, &about);
        if (r < 0)
                return r;
        keep.about = json_text(about);
        if (!keep.about)
                return -ENOMEM;
        r = job_start(i->host->event, "kt-keep", carry_out, &keep, on_kept, i, &i->job);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot put the instance's data aside: %m");
        i->removing = true; /* not to be interrupted half way */
        return SYNC_WAIT;
}

int instance_take_back_data(Instance *i, KError *reterr) {
        int r;

        if (i->taken_back)
                return 0;
        r = kept_take_back(i->host->state_directory, i->id);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot take back the data that are kept in %s/%s/%s: %m",
                                i->host->state_directory, KEPT_DIRECTORY, i->id);
        if (r > 0)
                instance_say(i, NULL, "info", "service:keep_data",
                                "The instance is named again and has the data that were kept of it.");
        i->taken_back = true;
        return 0;
}
