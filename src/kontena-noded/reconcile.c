/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dirent.h>
#include <stdio.h>

#include "bus.h"
#include "file-util.h"
#include "instance-want.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "log.h"
#include "message-id.h"
#include "noded-internal.h"
#include "overlay-keys.h"
#include "secrets.h"
#include "string-util.h"

/* Updates come in bursts; one write to the disk and one look at everything serve many. */
#define RECONCILE_DELAY_USEC (10 * USEC_PER_MSEC)
#define RECONCILE_RETRY_USEC (30 * USEC_PER_SEC)

static int manager_add_instance(Manager *m, const char *id, Instance **ret) {
        _cleanup_(instance_freep) Instance *i = NULL;
        InstanceEntry *e;
        int r;

        if (HASH_COUNT(m->instances) >= NODE_INSTANCES_MAX) {
                log_error("Instance '%s' is one too many: a node has at most %u.", id, NODE_INSTANCES_MAX);
                return -E2BIG;
        }
        r = instance_new(&m->host, id, &i);
        if (r < 0)
                return r;

        e = new0(InstanceEntry, 1);
        if (!e)
                return -ENOMEM;
        e->id = strdup(id);
        if (!e->id) {
                free(e);
                return -ENOMEM;
        }
        HASH_ADD_KEYPTR(hh, m->instances, e->id, strlen(e->id), e);
        if (!e->hh.tbl) {
                free(e->id);
                free(e);
                return -ENOMEM;
        }
        e->instance = TAKE_PTR(i);

        *ret = e->instance;
        return 0;
}

void manager_forget_instance(Manager *m, Instance *i) {
        InstanceEntry *e;

        HASH_FIND_STR(m->instances, instance_id(i), e);
        if (!e)
                return;
        HASH_DEL(m->instances, e);
        instance_free(e->instance);
        free(e->id);
        free(e);
}

int manager_load_instances(Manager *m) {
        _cleanup_(closedirp) DIR *d = NULL;
        struct dirent *de;
        Instance *i;

        d = opendir(m->config->instances_directory);
        if (!d)
                return errno == ENOENT ? 0
                                       : log_error_errno(-errno, "Cannot open '%s': %m",
                                                         m->config->instances_directory);

        while ((de = readdir(d))) {
                if (de->d_name[0] == '.' || instance_id_validate(de->d_name, NULL) < 0)
                        continue;
                if (manager_add_instance(m, de->d_name, &i) < 0)
                        log_warning("Leaving instance '%s' alone.", de->d_name);
        }

        return 0;
}

static void network_failed(Manager *m, int r, const KError *error) {
        if (free_and_strdup(&m->network_error, kerror_message(error)) > 0)
                manager_say(m, r == -EADDRINUSE ? MESSAGE_SUBNET_COLLISION : NULL, "error", "node:network",
                                "The network cannot be set up: %s", kerror_message(error));
}

/* Without it pairs have the keys of their nodes alone. */
static uint8_t *open_pair_key(Manager *m) {
        const char *sealed = NULL;
        char *key = NULL;
        size_t size = 0;
        int r;

        if (!m->secrets || json_find_string(desired_section(m->desired, "node"), "pair_key", &sealed,
                                           NULL) <= 0)
                return NULL;
        r = secrets_open(m->secrets, sealed, &key, &size);
        if (r >= 0 && size == PAIR_KEY_SIZE)
                return (uint8_t *) key;
        log_warning_errno(r < 0 ? r : -EBADMSG,
                        "Cannot open the key for pairs of nodes, going on without: %m");
        if (key)
                erase_memory(key, size);
        free(key);
        return NULL;
}

static int reconcile_pairs(Manager *m) {
        uint8_t *key = open_pair_key(m);
        int r;

        r = network_set_pairs(m->network, key, desired_section(m->desired, "preshared"),
                        desired_section(m->desired, "relays"));
        if (key)
                erase_memory(key, PAIR_KEY_SIZE);
        free(key);
        return r;
}

static int reconcile_network(Manager *m) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        int r;

        r = network_set_grid(m->network, desired_section(m->desired, "node"),
                        desired_section(m->desired, "grid"), &error);
        if (r >= 0)
                r = network_set_peers(m->network, desired_section(m->desired, "peers"), &error);
        if (r >= 0)
                r = reconcile_pairs(m);
        if (r >= 0)
                r = network_set_names(m->network, desired_section(m->desired, "names"), &error);
        /* As long as nothing is set anew, the monitor keeps it as it is. */
        if (r >= 0 && !network_is_settled(m->network))
                r = network_reconcile(m->network, &error);
        if (r < 0) {
                network_failed(m, r, &error);
                return r;
        }

        m->network_error = mfree(m->network_error);
        return 0;
}

static void tell_removed(Manager *m, const char *id, json_object *want) {
        _cleanup_json_ json_object *status = json_object_new_object();

        if (!status || json_add_string(status, "id", id) < 0 ||
                        json_add_u64(status, "deploy_rev", instance_want_deploy_rev(want)) < 0 ||
                        json_add_string(status, "state", "removed") < 0 ||
                        json_add_u64(status, "epoch", 0) < 0) {
                (void) log_oom();
                return;
        }
        reporter_instance_removed(m->reporter, id, TAKE_PTR(status));
}

static void reconcile_instances(Manager *m) {
        json_object *wanted = desired_section(m->desired, "instances");
        InstanceEntry *e, *next;
        int r;

        json_object_object_foreach(wanted, id, want) {
                Instance *i = manager_find_instance(m, id);

                if (!i) {
                        const char *goal = NULL;

                        /* Wanted gone, and it is. */
                        if (json_object_is_type(want, json_type_object) &&
                                        json_find_string(want, "desired", &goal, NULL) > 0 &&
                                        streq(goal, "terminated")) {
                                tell_removed(m, id, want);
                                continue;
                        }
                        r = manager_add_instance(m, id, &i);
                        if (r < 0) {
                                log_error_errno(r, "Cannot take instance '%s': %m", id);
                                continue;
                        }
                        bus_face_instance_added(m->face, i);
                }
                r = instance_set_want(i, want);
                if (r < 0)
                        log_error_errno(r, "Cannot take the desired state of instance '%s': %m", id);
        }

        /* The document is complete, so what it does not name is not ours any more. But nobody has said that its data may go. */
        HASH_ITER(hh, m->instances, e, next)
                if (!json_object_object_get_ex(wanted, e->id, NULL))
                        instance_disown(e->instance);
}

static void take_node_name(Manager *m) {
        const char *name = NULL;

        if (json_find_string(desired_section(m->desired, "node"), "name", &name, NULL) > 0 && name)
                (void) free_and_strdup(&m->node_name, name);
        m->host.node_name = m->node_name ?: m->config->name;
}

static void retain_namespaces(Manager *m) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        _cleanup_strv_free_ char **ids = NULL;
        InstanceEntry *e, *next;

        /* What is removed later takes its own namespace away. */
        if (m->retained)
                return;
        HASH_ITER(hh, m->instances, e, next)
                if (strv_extend(&ids, e->id) < 0) {
                        (void) log_oom();
                        return;
                }
        if (network_instances_retain(m->network, ids, &error) < 0)
                log_warning("Namespaces of former instances stay: %s", kerror_message(&error));
        else
                m->retained = true;
}

static int on_reconcile(sd_event_source *s, uint64_t usec, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        Manager *m = userdata;
        bool again = false;
        InstanceEntry *e, *next;
        int r;

        if (!desired_is_complete(m->desired))
                return 0;

        /* On disk before it is acted upon. With a full disk that would be a trap: the removal which makes room could never be
         * carried out, and the reason of a start that fails never be told. So it is acted upon, and written when it can be. */
        r = desired_save(m->desired, &error);
        if (r < 0) {
                manager_say(m, NULL, "error", "node:state", "%s", kerror_message(&error));
                again = true;
        }
        if (r >= 0 || ERRNO_IS_DISK_SPACE(r) || r == -EROFS) {
                take_node_name(m);
                again = reconcile_network(m) < 0 || again;
                reconcile_instances(m);
                manager_reconcile_volumes(m);
                retain_namespaces(m);
                /* Those that failed for want of the network need not wait for their turn. */
                HASH_ITER(hh, m->instances, e, next)
                        instance_wake(e->instance);
        }
        manager_update_status(m);

        if (again && sd_event_source_set_time_relative(s, RECONCILE_RETRY_USEC) >= 0)
                (void) sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
        return 0;
}

void manager_schedule_reconcile(Manager *m) {
        int r;

        if (!m->reconcile)
                r = sd_event_add_time_relative(m->event, &m->reconcile, CLOCK_MONOTONIC,
                                RECONCILE_DELAY_USEC, USEC_PER_MSEC, on_reconcile, m);
        else {
                r = sd_event_source_set_time_relative(m->reconcile, RECONCILE_DELAY_USEC);
                if (r >= 0)
                        r = sd_event_source_set_enabled(m->reconcile, SD_EVENT_ONESHOT);
        }
        if (r < 0)
                log_error_errno(r, "Cannot schedule the work on the desired state: %m");
}

int manager_all_status(Manager *m, json_object **ret) {
        _cleanup_json_ json_object *l = json_object_new_array();
        InstanceEntry *e, *next;

        if (!l)
                return -ENOMEM;
        HASH_ITER(hh, m->instances, e, next) {
                json_object *status = NULL;
                int r;

                r = instance_status(e->instance, &status);
                if (r >= 0)
                        r = json_append(l, status);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(l);
        return 0;
}
