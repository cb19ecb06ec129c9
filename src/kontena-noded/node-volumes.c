/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "json-util.h"
#include "log.h"
#include "noded-internal.h"
#include "volume-directory.h"
#include "volume-manager.h"

/* Between instances, the channel and the volumes of this machine. */

static int users_of(const char *volume, VolumeUsers *ret, void *userdata) {
        _cleanup_(volume_users_done) VolumeUsers users = {};
        InstanceEntry *e, *next;
        Manager *m = userdata;

        HASH_ITER(hh, m->instances, e, next) {
                uint32_t pid = instance_main_pid(e->instance);

                if (instance_may_use_volume(e->instance, volume))
                        users.wanted = true;
                if (pid > 0 && volume_is_mounted_by(m->config->volumes_directory, volume, pid)) {
                        int r = strv_extend(&users.units, instance_unit(e->instance));

                        if (r < 0)
                                return r;
                }
        }

        *ret = users;
        users = (VolumeUsers){};
        return 0;
}

static int tell(json_object *volumes, void *userdata) {
        _cleanup_json_ json_object *o = json_object_new_object();
        Manager *m = userdata;
        int r;

        if (!o) {
                json_object_put(volumes);
                return -ENOMEM;
        }
        r = json_add(o, "volumes", volumes);
        if (r < 0)
                return r;
        if (channel_state(m->channel) != CHANNEL_READY)
                return -ENOTCONN;
        return channel_notify(m->channel, "volumes.status", TAKE_PTR(o));
}

static void answer(uint64_t request, json_object *result, const KError *error, void *userdata) {
        Manager *m = userdata;
        int r;

        r = kerror_is_set(error) ? channel_reply_error(m->channel, request, error)
                                 : channel_reply(m->channel, request, result);
        if (r < 0)
                log_warning_errno(r, "Cannot answer the master: %m");
}

int manager_new_volumes(Manager *m) {
        return volume_manager_new(m->event, m->bus,
                        &(VolumeManagerConfig){
                                        .directory = m->config->volumes_directory,
                                        .run_directory = m->config->run_directory,
                                        .users = users_of,
                                        .tell = tell,
                                        .answer = answer,
                                        .userdata = m,
                        },
                        &m->volumes);
}

void manager_reconcile_volumes(Manager *m) {
        int r;

        r = volume_manager_set(m->volumes, desired_section(m->desired, "volumes"));
        if (r < 0)
                log_error_errno(r, "Cannot take the desired state of the volumes: %m");
}

void manager_volume_snapshot(Manager *m, uint64_t id, json_object *params) {
        if (id > 0)
                volume_manager_snapshot(m->volumes, id, params);
}
