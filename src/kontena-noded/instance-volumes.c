/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "instance-internal.h"
#include "string-util.h"

/* Which named volumes an instance has, or is about to have. */

bool instance_wants_volume(const Instance *i, const char *name) {
        return !i->terminate && i->want && i->want->goal == GOAL_RUNNING &&
               instance_want_uses_volume(i->want, name);
}

/* Something of it runs, or may do so the next moment, whether that is still wanted or not. */
static bool is_up(const Instance *i) {
        return i->operation != OPERATION_NONE || i->hooks || i->record.hooked ||
               (i->unit && !unit_state_is_gone(unit_state(i->unit)));
}

static bool plan_names(const VolumePlan *p, const char *name) {
        if (p)
                FOREACH_ARRAY(v, p->volumes, p->n_volumes)
                        if (streq_ptr(v->name, name))
                                return true;
        return false;
}

bool instance_may_use_volume(const Instance *i, const char *name) {
        if (instance_wants_volume(i, name))
                return true;
        return is_up(i) && (strv_contains(i->record.volumes, name) || plan_names(i->volumes, name) ||
                                           (i->want && instance_want_uses_volume(i->want, name)));
}

int instance_note_volumes(Instance *i) {
        _cleanup_strv_free_ char **names = NULL;

        if (!i->volumes)
                return 0;
        FOREACH_ARRAY(v, i->volumes->volumes, i->volumes->n_volumes) {
                int r = v->name ? strv_extend(&names, v->name) : 0;

                if (r < 0)
                        return r;
        }
        strv_free(i->record.volumes);
        i->record.volumes = TAKE_PTR(names);
        return 0;
}
