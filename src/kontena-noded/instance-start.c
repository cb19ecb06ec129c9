/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "container-secrets.h"
#include "file-util.h"
#include "instance-internal.h"
#include "log.h"
#include "parse-util.h"
#include "rootfs.h"

#define GENERATION_PREFIX "gen-"

char *instance_generation_directory(const Instance *i, uint64_t generation) {
        return strprintf("%s/" GENERATION_PREFIX "%" PRIu64, i->directory, generation);
}

char *instance_generation_run_directory(const Instance *i, uint64_t generation) {
        return strprintf("%s/%" PRIu64, i->run_directory, generation);
}

static int on_volumes_made_fail(Instance *i, int r) {
        _cleanup_kerror_ KError error = KERROR_NULL;

        (void) volume_plan_explain(i->volumes, r, &error);
        instance_fail(i, &error);
        return r;
}

static void on_volumes_made(Job *j, int r, void *userdata) {
        Instance *i = userdata;

        i->job = NULL;
        if (r < 0) {
                (void) on_volumes_made_fail(i, r);
                return;
        }
        instance_step(i);
}

/* What a container's configuration is made of, as far as it is known before the runtime is asked. */
static int describe(Instance *i, uint64_t generation, const Image *image, const char *directory,
                const char *root, const char *id, const char *netns, RuntimeContainer *ret,
                OciMount **ret_mounts) {
        _cleanup_free_ OciMount *mounts = NULL;

        mounts = new0(OciMount, i->volumes->n_volumes + 1);
        if (!mounts)
                return -ENOMEM;
        for (size_t k = 0; k < i->volumes->n_volumes; k++)
                mounts[k] = i->volumes->volumes[k].mount; /* strings stay the plan's */

        *ret = (RuntimeContainer){
                .want = i->want,
                .image = image,
                .node_name = i->host->node_name,
                .id = id,
                .directory = directory,
                .root_path = root,
                .netns_path = netns,
                .secrets = i->host->secrets,
                .resolver = netns ? network_resolver_address(i->host->network) : NULL,
                .mounts = mounts,
                .n_mounts = i->volumes->n_volumes,
        };
        *ret_mounts = TAKE_PTR(mounts);
        return 0;
}

/* Everything before something of the old container is touched: root, volumes, configuration. Repeatable. */
int instance_make(Instance *i, uint64_t generation, Image *image, KError *reterr) {
        _cleanup_free_ char *data = NULL, *run = NULL, *root = NULL, *id = NULL, *netns = NULL;
        _cleanup_free_ OciMount *mounts = NULL;
        RuntimeContainer container;
        uint32_t uid_base = 0;
        int r;

        if (!instance_runtime(i))
                return kerror_set(reterr, K_RUNTIME, "%s", strna(instance_runtime_error(i)));
        if (!i->want->spec->host_network && !network_resolver_address(i->host->network))
                return kerror_set(reterr, K_NETWORK, "The grid's network is not set up on this machine.");

        data = instance_generation_directory(i, generation);
        run = instance_generation_run_directory(i, generation);
        root = run ? strjoin(run, "/rootfs") : NULL;
        id = strprintf("%s-%" PRIu64, i->id, generation);
        if (!data || !run || !root || !id)
                return -ENOMEM;
        if (!i->want->spec->host_network) {
                netns = strjoin("/run/netns/kt-", i->id);
                if (!netns)
                        return -ENOMEM;
        }

        r = mkdir_p(i->directory, 0700);
        if (r >= 0)
                r = mkdir_p(i->run_directory, 0700);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make the instance's directories: %m");
        i->volumes = volume_plan_free(i->volumes);
        r = volume_plan_new(i->want, image, i->directory, data, i->host->volumes_directory, root,
                        &i->volumes, reterr);
        if (r < 0)
                return r;
        if (i->want->spec->runtime == RUNTIME_NSPAWN) {
                r = instance_make_machine_root(i, image, data, root, &uid_base, reterr);
                if (r == SYNC_DONE && uid_base > 0)
                        r = volume_plan_copy_from_layers(i->volumes, image->layers) < 0 ? -ENOMEM
                                                                                        : SYNC_DONE;
                if (r != SYNC_DONE)
                        return r;
        } else {
                r = rootfs_mount(image, data, root, reterr);
                if (r < 0)
                        return r;
        }
        if (volume_plan_is_needed(i->volumes)) {
                r = job_start(i->host->event, "kt-volumes", volume_plan_carry_out, i->volumes,
                                on_volumes_made, i, &i->job);
                return r < 0 ? kerror_set_errno(reterr, r, "Cannot make the volumes: %m") : SYNC_WAIT;
        }

        r = describe(i, generation, image, run, root, id, netns, &container, &mounts);
        if (r < 0)
                return r;
        container.files_directory = data;
        container.uid_base = uid_base;
        r = instance_runtime(i)->ops->prepare(instance_runtime(i), &container, reterr);
        if (r < 0)
                return r;

        if (generation == i->record.generation) {
                r = instance_note_volumes(i);
                if (r < 0)
                        return r;
                i->unsaved = true;
        }
        i->rooted = false; /* looked at again for the next start */
        i->prepared_generation = generation;
        return SYNC_DONE;
}

static int list_ports(const Instance *i, NetworkPort **ret) {
        const ServiceSpec *s = i->want->spec;
        NetworkPort *ports;

        ports = new0(NetworkPort, s->n_ports + 1);
        if (!ports)
                return -ENOMEM;
        for (size_t k = 0; k < s->n_ports; k++) {
                ports[k] = (NetworkPort){
                        .node_port = s->ports[k].node_port,
                        .container_port = s->ports[k].container_port,
                        .protocol = s->ports[k].protocol,
                };
                if (s->ports[k].ip)
                        (void) parse_ipv4(s->ports[k].ip, &ports[k].ip);
        }

        *ret = ports;
        return 0;
}

int instance_publish(Instance *i, KError *reterr) {
        _cleanup_free_ NetworkPort *ports = NULL;
        int r;

        r = list_ports(i, &ports);
        if (r >= 0)
                r = network_ports_set(i->host->network, i->id, i->want->address, ports,
                                i->want->spec->n_ports, reterr);
        if (r < 0)
                return r;

        i->published = true;
        return 0;
}

/* Before anything is started for them. */
static int check_ports(Instance *i, KError *reterr) {
        _cleanup_free_ NetworkPort *ports = NULL;
        int r;

        r = list_ports(i, &ports);
        if (r < 0)
                return r;
        return network_ports_check(i->host->network, ports, i->want->spec->n_ports, reterr);
}

static void on_network_added(int r, const KError *error, void *userdata) {
        Instance *i = userdata;

        i->networking = NULL;
        if (r < 0) {
                _cleanup_kerror_ KError copy = KERROR_NULL;

                if (error && kerror_is_set(error))
                        (void) kerror_set(&copy, error->code, "%s", kerror_message(error));
                else
                        (void) kerror_set_errno(&copy, r, "Cannot set up the instance's network: %m");
                instance_fail(i, &copy);
                return;
        }
        i->networked = true;
        instance_wake(i);
}

/* Namespace and published ports; made already: looked at and repaired. */
int instance_add_network(Instance *i, KError *reterr) {
        int r;

        if (i->want->spec->host_network)
                return SYNC_DONE;
        if (!i->networked) {
                r = network_instance_add_start(i->host->network, i->id, i->want->address, on_network_added,
                                i, &i->networking, reterr);
                return r < 0 ? r : SYNC_WAIT;
        }

        i->networked = false;
        /* One that is to take another's place leaves it the ports until it is up. */
        if (i->want->incoming && !i->record.ready)
                r = check_ports(i, reterr);
        else
                r = instance_publish(i, reterr);
        return r < 0 ? r : SYNC_DONE;
}

void instance_remove_network(Instance *i) {
        _cleanup_kerror_ KError error = KERROR_NULL;

        if (network_ports_set(i->host->network, i->id, NULL, NULL, 0, &error) < 0)
                log_warning("Ports of instance '%s' stay published: %s", i->id, kerror_message(&error));
        kerror_done(&error);
        if (network_instance_remove(i->host->network, i->id, &error) < 0)
                log_warning("The network namespace of instance '%s' stays: %s", i->id,
                                kerror_message(&error));
}

/* Asks systemd for the unit of the current generation, which is prepared. */
int instance_start(Instance *i, KError *reterr) {
        _cleanup_free_ char *run = NULL, *root = NULL, *id = NULL, *netns = NULL;
        _cleanup_(unit_setup_done) UnitSetup setup = UNIT_SETUP_NULL;
        RuntimeContainer container;
        int r;

        run = instance_generation_run_directory(i, i->record.generation);
        root = run ? strjoin(run, "/rootfs") : NULL;
        id = strprintf("%s-%" PRIu64, i->id, i->record.generation);
        netns = i->want->spec->host_network ? NULL : strjoin("/run/netns/kt-", i->id);
        if (!run || !root || !id || (!i->want->spec->host_network && !netns))
                return -ENOMEM;
        container = (RuntimeContainer){ .want = i->want,
                .image = i->image,
                .id = id,
                .directory = run,
                .root_path = root,
                .netns_path = netns };

        r = instance_notify_prepare(i, reterr);
        if (r < 0)
                return r;
        r = unit_setup_from_want(i->want, i->record.image, i->image->stop_signal, &setup);
        if (r < 0)
                return r;
        if (!instance_runtime(i))
                return kerror_set(reterr, K_RUNTIME, "%s", strna(instance_runtime_error(i)));
        r = instance_runtime(i)->ops->setup(instance_runtime(i), &container, &setup, reterr);
        if (r < 0)
                return r;

        r = unit_start(i->unit, &setup, setup.start_timeout_usec + 30 * USEC_PER_SEC,
                        instance_operation_done);
        if (r < 0)
                return kerror_set_errno(
                                reterr, r, "Cannot ask systemd to start unit '%s': %m", unit_name(i->unit));
        i->start_asked = now_realtime();
        i->operation = OPERATION_START;
        return 0;
}

typedef int (*generation_func_t)(DIR *d, const char *path, const char *name, void *userdata);

/* Calls f for each generation from first to last that has a directory there. A positive value ends it. */
static int for_each_generation(const char *path, const char *prefix, uint64_t first, uint64_t last,
                generation_func_t f, void *userdata) {
        _cleanup_(closedirp) DIR *d = NULL;
        struct dirent *de;
        int r = 0, k;

        d = opendir(path);
        if (!d)
                return errno == ENOENT ? 0 : -errno;

        while ((de = readdir(d))) {
                const char *number = startswith(de->d_name, prefix);
                uint64_t generation;

                if (!number || safe_atou64(number, &generation) < 0 || generation < first ||
                                generation > last)
                        continue;
                k = f(d, path, de->d_name, userdata);
                if (k > 0)
                        return k;
                if (k < 0)
                        r = k;
        }

        return r;
}

static int found(DIR *d, const char *path, const char *name, void *userdata) {
        return 1;
}

static bool has_generations(const Instance *i, uint64_t first, uint64_t last) {
        return for_each_generation(i->run_directory, "", first, last, found, NULL) > 0 ||
               for_each_generation(i->directory, GENERATION_PREFIX, first, last, found, NULL) > 0;
}

static int unmount_root(DIR *d, const char *path, const char *name, void *userdata) {
        _cleanup_free_ char *root = NULL, *generation = NULL;
        int r;

        root = strjoin(path, "/", name, "/rootfs");
        if (!root)
                return -ENOMEM;
        r = rootfs_unmount(root);
        if (r < 0)
                log_warning_errno(r, "Cannot unmount '%s', ignoring it: %m", root);
        generation = strjoin(path, "/", name);
        if (!generation)
                return -ENOMEM;
        hooks_unmount(generation);
        return container_secrets_wipe(generation);
}

void instance_wipe_secrets(Instance *i) {
        _cleanup_free_ char *run = NULL;

        if (i->want && i->want->n_secrets == 0)
                return;
        run = instance_generation_run_directory(i, i->record.generation);
        if (run)
                (void) container_secrets_wipe(run);
        i->prepared_generation = 0; /* its configuration is made again with them */
}

static void unmount_generations(const Instance *i, uint64_t first, uint64_t last) {
        (void) for_each_generation(i->run_directory, "", first, last, unmount_root, NULL);
}

typedef struct Removal {
        const char *directory, *run_directory;
        bool everything;
        uint64_t first, last; /* generations, otherwise */
} Removal;

static int remove_generation(DIR *d, const char *path, const char *name, void *userdata) {
        return rm_rf_at(dirfd(d), name);
}

static int carry_out_removal(void *arg) {
        const Removal *removal = arg;
        int r, q;

        if (removal->everything) {
                r = rm_rf_at(AT_FDCWD, removal->run_directory);
                q = rm_rf_at(AT_FDCWD, removal->directory);
        } else {
                r = for_each_generation(removal->run_directory, "", removal->first, removal->last,
                                remove_generation, NULL);
                q = for_each_generation(removal->directory, GENERATION_PREFIX, removal->first, removal->last,
                                remove_generation, NULL);
        }

        return r < 0 ? r : q;
}

static void on_garbage_removed(Job *j, int r, void *userdata) {
        Instance *i = userdata;

        i->garbage = NULL;
        if (r < 0)
                log_warning_errno(r, "Old containers of instance '%s' are still on the disk: %m", i->id);
}

/* Never a later one than the current: that may be in the making by the time the job comes to it. */
void instance_remove_old_generations(Instance *i) {
        Removal removal = { .directory = i->directory, .run_directory = i->run_directory };
        int r;

        i->swept = true;
        if (i->garbage || i->record.generation <= 1 || /* the first has none before it */
                        !has_generations(i, 0, i->record.generation - 1))
                return;
        removal.last = i->record.generation - 1;
        unmount_generations(i, 0, removal.last);
        r = job_start(i->host->event, "kt-remove", carry_out_removal, &removal, on_garbage_removed, i,
                        &i->garbage);
        if (r < 0)
                log_warning_errno(r, "Cannot remove old containers of instance '%s': %m", i->id);
}

static void on_attempts_removed(Job *j, int r, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        Instance *i = userdata;

        i->job = NULL;
        if (r < 0) {
                (void) kerror_set_errno(&error, r, "Cannot remove what an earlier attempt has left: %m");
                instance_fail(i, &error);
                return;
        }
        instance_step(i);
}

/* What was made for a container that never came to be stands on another image, perhaps. */
int instance_remove_attempts(Instance *i, KError *reterr) {
        Removal removal = { .directory = i->directory,
                .run_directory = i->run_directory,
                .first = i->record.generation + 1,
                .last = UINT64_MAX };
        int r;

        if (!has_generations(i, removal.first, removal.last))
                return SYNC_DONE;
        unmount_generations(i, removal.first, removal.last);
        r = job_start(i->host->event, "kt-remove", carry_out_removal, &removal, on_attempts_removed, i,
                        &i->job);
        return r < 0 ? kerror_set_errno(reterr, r, "Cannot remove what an earlier attempt has left: %m")
                     : SYNC_WAIT;
}

static void on_files_removed(Job *j, int r, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        Instance *i = userdata;

        i->job = NULL;
        i->removing = false;
        if (r < 0) {
                (void) kerror_set_errno(&error, r, "Cannot remove the instance's files: %m");
                instance_fail(i, &error);
                return;
        }

        instance_release_users(i);
        i->unit = unit_free(i->unit);
        instance_record_done(&i->record);
        i->prepared_generation = 0;
        i->made_of = mfree(i->made_of);
        if (!i->terminate) { /* wanted again meanwhile */
                instance_step(i);
                return;
        }
        i->failed = false;
        kerror_done(&i->error);
        instance_set_state(i, INSTANCE_REMOVED, NULL);
        i->host->removed(i, i->host->userdata);
}

int instance_remove_files(Instance *i) {
        Removal removal = {
                .directory = i->directory, .run_directory = i->run_directory, .everything = true
        };
        int r;

        i->garbage = job_cancel(i->garbage);
        instance_notify_close(i);
        unmount_generations(i, 0, UINT64_MAX);
        instance_remove_network(i);

        r = job_start(i->host->event, "kt-remove", carry_out_removal, &removal, on_files_removed, i,
                        &i->job);
        if (r < 0)
                return r;
        i->removing = true;
        return 0;
}
