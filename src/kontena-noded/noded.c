/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "noded.h"

#include <stdio.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "bus.h"
#include "fd-store.h"
#include "file-util.h"
#include "join-token.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "leave.h"
#include "log-stream.h"
#include "log.h"
#include "node-report.h"
#include "noded-internal.h"
#include "secrets.h"
#include "stream-provider.h"
#include "streams.h"
#include "volume-import.h"
#include "volume-manager.h"

#define REPORT_USEC        (60 * USEC_PER_SEC)
#define COLLECT_USEC       (60 * USEC_PER_SEC)
#define COLLECT_AGAIN_USEC (50 * USEC_PER_MSEC)
#define STATUS_DELAY_USEC  (100 * USEC_PER_MSEC)

void manager_say(Manager *m, const char *message_id, const char *severity, const char *type,
                const char *format, ...) {
        int level = streq(severity, "error") ? LOG_ERR : streq(severity, "warning") ? LOG_WARNING : LOG_INFO;
        _cleanup_json_ json_object *event = json_object_new_object();
        _cleanup_free_ char *message = NULL;
        va_list ap;

        va_start(ap, format);
        message = strvprintf(format, ap);
        va_end(ap);
        if (!message || !event)
                return;

        (void) log_struct(level, 0, FIELDS(message_id), "%s", message);
        if (json_add_string(event, "severity", severity) < 0 || json_add_string(event, "type", type) < 0 ||
                        json_add_string(event, "message", message) < 0 ||
                        json_add_string(event, "service", NULL) < 0 ||
                        json_add_string(event, "instance", NULL) < 0)
                return;
        reporter_event(m->reporter, TAKE_PTR(event));
}

/* What `systemctl status` shows, and the bus. */
static int on_status(sd_event_source *s, uint64_t usec, void *userdata) {
        _cleanup_free_ char *channel = NULL, *text = NULL, *address = NULL;
        Manager *m = userdata;
        unsigned n = HASH_COUNT(m->instances);
        size_t k;

        if (channel_state(m->channel) == CHANNEL_READY) {
                address = master_address(channel_master_url(m->channel));
                channel = strprintf("Connected to %s as %s", strna(address), m->host.node_name);
        } else if (m->leave)
                channel = strdup("Leaving the grid");
        else
                channel = strdup(channel_status_text(m->channel) ?: "Not connected to a master");
        if (!channel)
                return 0;
        k = strlen(channel);
        if (k > 0 && channel[k - 1] == '.') /* the sentence goes on */
                channel[k - 1] = '\0';

        text = strprintf("%s, %u instance%s%s%s", channel, n, n == 1 ? "" : "s",
                        m->network_error ? "; network: " : "", strempty(m->network_error));
        if (!text)
                return 0;

        if (free_and_strdup(&m->status, text) > 0) {
                (void) sd_notifyf(0, "STATUS=%s", text);
                bus_face_node_changed(m->face);
        }
        return 0;
}

void manager_update_status(Manager *m) {
        if (m->status_timer && sd_event_source_set_time_relative(m->status_timer, STATUS_DELAY_USEC) >= 0)
                (void) sd_event_source_set_enabled(m->status_timer, SD_EVENT_ONESHOT);
}

Instance *manager_find_instance(Manager *m, const char *id) {
        InstanceEntry *e;

        HASH_FIND_STR(m->instances, id, e);
        return e ? e->instance : NULL;
}

size_t manager_count_instances(Manager *m) {
        return HASH_COUNT(m->instances);
}

static void on_instance_changed(Instance *i, void *userdata) {
        Manager *m = userdata;

        reporter_instance_changed(m->reporter, instance_id(i));
        bus_face_instance_changed(m->face, i);
        volume_manager_wake(m->volumes);
}

static void on_instance_event(Instance *i, const InstanceEvent *e, void *userdata) {
        _cleanup_json_ json_object *event = json_object_new_object();
        _cleanup_free_ char *service = NULL;
        Manager *m = userdata;

        service = strjoin(instance_stack(i), "/", instance_service(i));
        if (!event || !service || json_add_string(event, "severity", e->severity) < 0 ||
                        json_add_string(event, "type", e->type) < 0 ||
                        json_add_string(event, "message", e->message) < 0 ||
                        json_add_string(event, "service", service) < 0 ||
                        json_add_u64(event, "instance", instance_number(i)) < 0) {
                (void) log_oom();
                return;
        }
        reporter_event(m->reporter, TAKE_PTR(event));
}

static bool is_instance_held(Instance *i, void *userdata) {
        Manager *m = userdata;

        return m->volumes && volume_manager_holds(m->volumes, instance_unit(i));
}

static void on_instance_removed(Instance *i, void *userdata) {
        json_object *status = NULL;
        Manager *m = userdata;

        if (instance_status(i, &status) >= 0)
                reporter_instance_removed(m->reporter, instance_id(i), status);
        if (instance_is_disowned(i))
                manager_report_soon(m); /* what is kept of it */
        bus_face_instance_removed(m->face, i);
        manager_forget_instance(m, i);
        m->retained = false; /* should its namespace be there still, the next look takes it away */
        volume_manager_wake(m->volumes);
        leave_wake(m->leave);
        manager_update_status(m);
}

static int instance_status_by_id(const char *id, json_object **ret, void *userdata) {
        Instance *i = manager_find_instance(userdata, id);

        return i ? instance_status(i, ret) : -ENOENT;
}

static void on_network_event(Network *n, const char *message_id, const char *severity, const char *message,
                void *userdata) {
        manager_say(userdata, message_id, severity, "node:network", "%s", message);
}

static int on_report(sd_event_source *s, uint64_t usec, void *userdata) {
        json_object *report = NULL;
        Manager *m = userdata;
        int r;

        if (channel_state(m->channel) == CHANNEL_READY) {
                r = node_report_build(m, &report);
                if (r >= 0)
                        r = channel_notify(m->channel, "node.report", report);
                if (r < 0)
                        log_warning_errno(r, "Cannot report this machine to the master: %m");
                manager_send_links(m);
        }

        (void) sd_event_source_set_time_relative(s, REPORT_USEC);
        (void) sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
        return 0;
}

void manager_report_soon(Manager *m) {
        (void) sd_event_source_set_time(m->report, 0);
        (void) sd_event_source_set_enabled(m->report, SD_EVENT_ONESHOT);
}

/* Images that instances stand on, or are about to, or would go back to. */
static int images_in_use(Manager *m, char ***ret) {
        _cleanup_strv_free_ char **l = NULL;
        InstanceEntry *e, *next;
        size_t n = 0;

        l = new0(char *, 3 * (size_t) HASH_COUNT(m->instances) + 1);
        if (!l)
                return -ENOMEM;
        HASH_ITER(hh, m->instances, e, next) {
                const char *const digests[] = { instance_image_digest(e->instance),
                        instance_next_image_digest(e->instance), instance_rollback_digest(e->instance) };

                FOREACH_ARRAY(d, digests, ELEMENTSOF(digests)) {
                        if (isempty(*d))
                                continue;
                        l[n] = strdup(*d);
                        if (!l[n++])
                                return -ENOMEM;
                }
        }

        *ret = TAKE_PTR(l);
        return 0;
}

static int on_collect(sd_event_source *s, uint64_t usec, void *userdata) {
        _cleanup_strv_free_ char **used = NULL;
        uint64_t next = COLLECT_USEC;
        Manager *m = userdata;
        int r;

        r = images_in_use(m, &used);
        if (r >= 0)
                r = image_store_collect(m->images, used, now_monotonic(), m->config->image_keep_usec);
        if (r < 0 && r != -EAGAIN)
                log_warning_errno(r, "Cannot look for unused images: %m");
        else if (r > 0)
                log_info("Removed %i unused image%s.", r, r == 1 ? "" : "s");

        if (image_store_step(m->images) == IMAGE_STORE_AGAIN)
                next = COLLECT_AGAIN_USEC;
        (void) sd_event_source_set_time_relative(s, next);
        (void) sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
        return 0;
}

static void set_registries(Manager *m) {
        int r;

        pull_manager_clear_registries(m->pulls);
        r = pull_manager_set_ca_file(m->pulls, m->config->image_ca_file);
        if (r < 0)
                log_warning_errno(r, "Cannot use '%s' for registries: %m", strna(m->config->image_ca_file));

        FOREACH_ARRAY(registry, m->config->registries, m->config->n_registries) {
                r = pull_manager_set_registry(m->pulls, &(RegistrySettings){
                                                                        .registry = registry->name,
                                                                        .ca_file = registry->ca_file,
                                                                        .username = registry->username,
                                                                        .password = registry->password,
                                                                        .mirrors = registry->mirrors,
                                                                        .insecure = registry->insecure,
                                                        });
                if (r < 0)
                        log_warning_errno(r, "Cannot use the settings of registry '%s': %m", registry->name);
        }
}

int manager_reload(Manager *m, KError *reterr) {
        NodeConfig *c, old;
        int r;

        if (m->leave)
                return kerror_set(reterr, K_CONFLICT, "This machine is about to leave its grid.");
        r = node_config_load(NULL, &c);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot read the configuration, keeping the old one: %m");

        /* Directories and the runtime stay: what runs depends on them. */
        log_set_max_level(c->log_level);
        old = *m->config;
        m->config->registries = c->registries;
        m->config->n_registries = c->n_registries;
        m->config->image_ca_file = c->image_ca_file;
        m->config->public_address = c->public_address;
        m->config->private_address = c->private_address;
        m->config->image_keep_usec = c->image_keep_usec;
        c->registries = old.registries;
        c->n_registries = old.n_registries;
        c->image_ca_file = old.image_ca_file;
        c->public_address = old.public_address;
        c->private_address = old.private_address;
        node_config_free(c);
        set_registries(m);

        /* A join that was made meanwhile is taken up. */
        r = channel_reload(m->channel, reterr);
        manager_schedule_reconcile(m);
        manager_update_status(m);
        return r;
}

static int on_systemd_version(sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        Manager *m = userdata;
        const char *version;

        if (!sd_bus_message_is_method_error(reply, NULL) &&
                        sd_bus_message_read(reply, "v", "s", &version) >= 0)
                (void) free_and_strdup(&m->systemd_version, version);
        return 0;
}

static int make_directories(const NodeConfig *c) {
        const struct {
                const char *path;
                mode_t mode;
        } table[] = {
                { c->state_directory, 0700 },
                { c->instances_directory, 0700 },
                { c->volumes_directory, 0700 },
                { c->run_directory, 0755 },
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                int r = mkdir_p(table[i].path, table[i].mode);

                if (r < 0)
                        return log_error_errno(r, "Cannot make '%s': %m", table[i].path);
        }

        return 0;
}

/* Without it the node serves on, but services that use secrets fail here. */
static void new_secrets(Manager *m) {
        _cleanup_kerror_ KError error = KERROR_NULL;

        if (secrets_new(m->config->state_directory, &m->secrets, &error) < 0)
                log_warning("Services that use secrets cannot run here: %s", kerror_message(&error));
}

/* A node without serves on: the master knows by its report, and sends it no such service. */
static void new_machines(Manager *m) {
        _cleanup_kerror_ KError error = KERROR_NULL;

        if (runtime_nspawn_new(&m->machines, &error) < 0)
                m->machines_error = strdup(kerror_message(&error));
}

static int new_host(Manager *m) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        char *run, *uids;
        int r;

        if (runtime_oci_new(m->config->runtime, &m->runtime, &error) < 0) {
                log_error("%s No container can be started.", kerror_message(&error));
                m->runtime_error = strdup(kerror_message(&error));
        }

        if (m->runtime) {
                r = runtime_version_ask(m->runtime, m->event, &m->version_query);
                if (r < 0)
                        log_warning_errno(r, "Cannot ask '%s' for its version: %m", m->runtime->program);
        }

        new_machines(m);
        new_secrets(m);
        r = fd_store_new(&m->fds);
        if (r < 0)
                log_warning_errno(r, "Cannot take the descriptors that systemd held, going on without: %m");
        uids = strjoin(m->config->run_directory, "/uid-ranges");
        run = strjoin(m->config->run_directory, "/instances");
        if (!run || !uids) {
                free(run);
                free(uids);
                return -ENOMEM;
        }
        m->host = (InstanceHost){
                .event = m->event,
                .units = m->units,
                .network = m->network,
                .images = m->images,
                .pulls = m->pulls,
                .runtime = m->runtime,
                .runtime_error = m->runtime_error,
                .machines = m->machines,
                .machines_error = m->machines_error,
                .uid_directory = uids,
                .node_name = m->config->name,
                .state_directory = m->config->instances_directory,
                .run_directory = run,
                .volumes_directory = m->config->volumes_directory,
                .secrets = m->secrets,
                .fds = m->fds,
                .log_tails = true,
                .changed = on_instance_changed,
                .event_happened = on_instance_event,
                .held = is_instance_held,
                .removed = on_instance_removed,
                .userdata = m,
        };
        return mkdir_p(run, 0700);
}

static int new_timer(Manager *m, uint64_t usec, sd_event_time_handler_t handler, sd_event_source **ret) {
        return sd_event_add_time_relative(
                        m->event, ret, CLOCK_MONOTONIC, usec, USEC_PER_SEC / 10, handler, m);
}

static int new_parts(Manager *m) {
        const NodeConfig *c = m->config;
        _cleanup_free_ char *path = NULL;
        int r;

        r = unit_manager_new(m->event, m->bus, &m->units);
        if (r < 0)
                return log_error_errno(r, "Cannot follow systemd's units: %m");
        r = image_store_new(c->images_directory, &m->images);
        if (r < 0)
                return log_error_errno(r, "Cannot open the image store '%s': %m", c->images_directory);
        r = pull_manager_new(m->event, m->bus, m->images, &m->pulls);
        if (r < 0)
                return log_error_errno(r, "Cannot prepare pulls: %m");
        manager_give_credentials(m);
        set_registries(m);

        r = network_new(m->event, m->bus,
                        &(NetworkConfig){
                                        .state_directory = c->state_directory,
                                        .runtime_directory = c->run_directory,
                                        .underlay_interface = c->underlay_interface,
                                        .wireguard = { .mode = c->wireguard },
                                        .wireguard_port = c->wireguard_port,
                                        .changed = manager_network_changed,
                        },
                        on_network_event, m, &m->network);
        if (r < 0)
                return log_error_errno(r, "Cannot prepare the network: %m");

        path = strjoin(c->state_directory, "/desired.json");
        if (!path)
                return log_oom();
        r = desired_new(path, &m->desired);
        if (r >= 0)
                r = reporter_new(m->event, manager_send, instance_status_by_id, m, &m->reporter);
        if (r >= 0)
                r = log_streams_new(m->event, manager_send, m, &m->logs);
        if (r >= 0)
                r = new_host(m);
        if (r >= 0)
                r = manager_new_streams(m);
        if (r >= 0)
                r = manager_new_volumes(m);
        if (r < 0)
                return log_error_errno(r, "Cannot set up: %m");

        r = channel_new(m->event, m->bus,
                        &(ChannelConfig){ .state_directory = c->state_directory,
                                        .node_name = c->name,
                                        .labels = c->labels },
                        manager_channel_method, manager_channel_state, m, &m->channel);
        if (r < 0)
                return log_error_errno(r, "Cannot prepare the node channel: %m");
        channel_set_binary(m->channel, manager_channel_binary);

        r = new_timer(m, STATUS_DELAY_USEC, on_status, &m->status_timer);
        if (r >= 0)
                r = new_timer(m, REPORT_USEC, on_report, &m->report);
        if (r >= 0)
                r = new_timer(m, COLLECT_USEC, on_collect, &m->image_collect);
        if (r < 0)
                return log_error_errno(r, "Cannot set a timer: %m");

        return 0;
}

int manager_new(sd_event *event, Manager **ret) {
        _cleanup_(manager_freep) Manager *m = NULL;
        int r;

        m = new0(Manager, 1);
        if (!m)
                return log_oom();
        m->event = sd_event_ref(event);

        r = node_config_load(NULL, &m->config);
        if (r < 0)
                return log_error_errno(r, "Cannot read the configuration: %m");
        log_set_max_level(m->config->log_level);
        r = make_directories(m->config);
        if (r < 0)
                return r;

        r = sd_bus_open_system(&m->bus);
        if (r >= 0)
                r = sd_bus_attach_event(m->bus, event, SD_EVENT_PRIORITY_NORMAL);
        if (r >= 0)
                r = sd_bus_set_exit_on_disconnect(m->bus, true);
        if (r < 0)
                return log_error_errno(r, "Cannot connect to the system bus: %m");
        r = new_parts(m);
        if (r < 0)
                return r;
        r = sd_bus_call_method_async(m->bus, NULL, "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
                        "org.freedesktop.DBus.Properties", "Get", on_systemd_version, m, "ss",
                        "org.freedesktop.systemd1.Manager", "Version");
        if (r < 0)
                log_warning_errno(r, "Cannot ask systemd for its version: %m");

        *ret = TAKE_PTR(m);
        return 0;
}

int manager_start(Manager *m) {
        _cleanup_kerror_ KError error = KERROR_NULL, join_error = KERROR_NULL;
        int r;

        r = manager_load_instances(m);
        if (r < 0)
                return r;
        fd_store_drop_rest(m->fds);
        r = bus_face_new(m, &m->face);
        if (r < 0)
                return log_error_errno(r, "Cannot appear on the bus: %m");

        r = manager_resume_leave(m);
        if (r != 0) {
                manager_update_status(m);
                return MIN(r, 0);
        }

        r = desired_load(m->desired, &error);
        if (r > 0)
                manager_schedule_reconcile(m); /* what it had, whether or not there is a master (trap 14) */
        else if (r < 0)
                manager_say(m, NULL, "error", "node:state",
                                "What this machine has to run is not known until the master tells it; what "
                                "runs is left alone. %s",
                                kerror_message(&error));

        r = channel_start(m->channel, &join_error);
        if (r < 0)
                log_warning("Not connecting to a master: %s", kerror_message(&join_error));
        manager_update_status(m);
        return 0;
}

Manager *manager_free(Manager *m) {
        InstanceEntry *e, *next;

        if (!m)
                return NULL;

        HASH_ITER(hh, m->instances, e, next) {
                HASH_DEL(m->instances, e);
                instance_free(e->instance);
                free(e->id);
                free(e);
        }
        leave_free(m->leave);
        m->face = bus_face_free(m->face);
        m->streams = streams_free(m->streams); /* an import gives back the volume */
        volume_claims_free(&m->instance_claims);
        volume_manager_free(m->volumes);
        log_streams_free(m->logs);
        channel_free(m->channel);
        reporter_free(m->reporter);
        desired_free(m->desired);
        manager_forget_link_questions(m);
        sd_event_source_disable_unref(m->links_timer);
        network_free(m->network);
        manager_forget_image_questions(m);
        manager_forget_image_listings(m);
        pull_manager_free(m->pulls);
        image_store_free(m->images);
        unit_manager_free(m->units);
        fd_store_free(m->fds);
        runtime_version_free(m->version_query);
        runtime_free(m->runtime);
        runtime_free(m->machines);
        sd_event_source_disable_unref(m->reconcile);
        sd_event_source_disable_unref(m->report);
        sd_event_source_disable_unref(m->image_collect);
        sd_event_source_disable_unref(m->status_timer);
        sd_bus_flush_close_unref(m->bus);
        sd_event_unref(m->event);
        secrets_free(m->secrets);
        free((char *) m->host.run_directory);
        free((char *) m->host.uid_directory);
        free(m->runtime_error);
        free(m->machines_error);
        free(m->network_error);
        free(m->systemd_version);
        free(m->node_name);
        free(m->status);
        node_config_free(m->config);
        free(m);
        return NULL;
}
