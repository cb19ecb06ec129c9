/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "master.h"

#include <inttypes.h>
#include <malloc.h>

#include "audit-verify.h"
#include "authorities.h"
#include "bus-face.h"
#include "bus-tunnel.h"
#include "ca.h"
#include "data-copy.h"
#include "deploy-image.h"
#include "deployer.h"
#include "event-util.h"
#include "file-util.h"
#include "identity.h"
#include "job-runner.h"
#include "keyring.h"
#include "listener.h"
#include "log-streams.h"
#include "log.h"
#include "node-session.h"
#include "node-tracker.h"
#include "operation.h"
#include "parse-util.h"
#include "placement-cache.h"
#include "rescheduler.h"
#include "rest.h"
#include "settings.h"
#include "standing.h"
#include "store.h"
#include "streams.h"
#include "string-util.h"
#include "volume.h"

/* Faces first, then what they speak to. Sessions end before operations: who waits for a node is told that it is gone. */
Master *master_free(Master *m) {
        if (!m)
                return NULL;

        m->bus_tunnels = bus_tunnels_free(m->bus_tunnels);
        rest_stop(m->rest);
        m->log_streams = log_streams_free(m->log_streams);
        m->data_copies = data_copies_free(m->data_copies);
        m->streams = streams_free(m->streams);
        m->sessions = node_sessions_free(m->sessions);
        m->listener = listener_free(m->listener);
        m->audit_verify = audit_verify_free(m->audit_verify);
        operations_abort(m);
        m->rest = rest_free(m->rest);
        m->bus_face = bus_face_free(m->bus_face);
        m->standings = standings_free(m->standings);
        m->identity = identity_free(m->identity);
        m->job_runner = job_runner_free(m->job_runner);
        m->rescheduler = rescheduler_free(m->rescheduler);
        m->deployer = deployer_free(m->deployer);
        m->deploy_images = deploy_images_free(m->deploy_images);
        m->tracker = node_tracker_free(m->tracker);
        m->authorities = authorities_free(m->authorities);
        m->ca = ca_free(m->ca);
        m->keyring = keyring_free(m->keyring);
        m->placement = placement_cache_free(m->placement);
        m->store = store_close(m->store);
        m->config = config_free(m->config);
        sd_event_source_disable_unref(m->bus_turn);
        sd_bus_flush_close_unref(m->bus);
        sd_event_unref(m->event);
        free(m);
        return NULL;
}

static CaConfig ca_config(const Config *c) {
        return (CaConfig){
                .state_directory = c->state_directory,
                .server_names = c->server_names,
                .certificate = c->certificate,
                .private_key = c->private_key,
        };
}

static int start_store(Master *m, KError *reterr) {
        _cleanup_free_ char *path = NULL;
        int r;

        r = mkdir_p(m->config->state_directory, 0700);
        if (r < 0)
                return kerror_set_errno(reterr, r, "The state directory '%s' cannot be made: %m.",
                                m->config->state_directory);
        path = strjoin(m->config->state_directory, "/kontena.db");
        if (!path)
                return -ENOMEM;
        r = store_open(m->event, path, &m->store, reterr);
        if (r < 0)
                return r;

        return keyring_new(m->config->state_directory, &m->keyring, reterr);
}

/* A call over the bus takes several messages to and fro, one in each turn. When all else has to do, too, as when a thousand nodes come back,
 * each would wait for all of that; so a message has every second turn, and all else the others. */
static int on_turn(sd_event_source *source, void *userdata) {
        Master *m = userdata;

        (void) sd_bus_process(m->bus, NULL); /* what fails is for the bus' own event source */
        return 0;
}

static int start_bus(Master *m, KError *reterr) {
        int r;

        r = sd_bus_open_system_with_description(&m->bus, "kontenad");
        if (r >= 0)
                r = sd_bus_attach_event(m->bus, m->event, SD_EVENT_PRIORITY_NORMAL);
        if (r >= 0)
                r = sd_bus_set_exit_on_disconnect(m->bus, true);
        if (r >= 0)
                r = sd_event_add_post(m->event, &m->bus_turn, on_turn, m);
        if (r >= 0)
                r = sd_event_source_set_priority(m->bus_turn, SD_EVENT_PRIORITY_NORMAL - 1);
        if (r < 0)
                return kerror_set_errno(reterr, r, "The system bus cannot be reached: %m.");

        return 0;
}

static int start_engine(Master *m, KError *reterr) {
        _cleanup_kerror_ KError upgrade = KERROR_NULL, first = KERROR_NULL;
        int r;

        r = volume_upgrade(m, &upgrade);
        if (r < 0)
                log_warning("Volumes of an earlier version's services are not listed: %s",
                                kerror_message(&upgrade));
        r = placement_cache_new(m->store, &m->placement);
        if (r >= 0)
                r = node_tracker_new(m, &m->tracker);
        if (r >= 0)
                r = node_sessions_new(m->event, node_tracker_handler(), m->tracker, &m->sessions);
        if (r >= 0)
                r = log_streams_new(m, &m->log_streams);
        if (r >= 0)
                r = streams_new(m, &m->streams);
        if (r >= 0)
                r = data_copies_new(m, &m->data_copies);
        if (r >= 0)
                r = deploy_images_new(m, &m->deploy_images);
        if (r >= 0)
                r = deployer_new(m, &m->deployer);
        if (r >= 0)
                r = rescheduler_new(m, &m->rescheduler);
        if (r >= 0)
                r = job_runner_new(m, &m->job_runner);
        if (r >= 0)
                r = identity_new(m, &m->identity);
        if (r >= 0)
                r = standings_new(m, &m->standings);
        if (r < 0)
                return kerror_set_errno(reterr, r, "The master's parts cannot be made: %m.");

        if (identity_start(m, &first) <
                        0) /* a full disk, say; 'kontenactl master admin-code' makes up for it */
                log_warning("The first administrator is not made: %s", kerror_message(&first));
        return 0;
}

/* ADDRESS:PORT, [ADDRESS]:PORT */
static int take_plain(const char *text, char **ret_address, uint16_t *ret_port, KError *reterr) {
        const char *colon = strrchr(text, ':'), *start = text, *end = colon;
        char *address;

        if (colon && text[0] == '[' && colon > text && colon[-1] == ']') {
                start++;
                end--;
        } else if (colon && strchr(text, ':') != colon)
                colon = NULL;
        if (!colon || end == start || parse_port(colon + 1, ret_port) < 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "HttpListen=%s is not ADDRESS:PORT or [ADDRESS]:PORT.", text);
        address = strndup(start, (size_t) (end - start));
        if (!address)
                return -ENOMEM;

        *ret_address = address;
        return 0;
}

static int start_listener(Master *m, KError *reterr) {
        _cleanup_free_ char *plain = NULL;
        ListenerConfig listen = {
                .address = m->config->listen_address,
                .port = m->config->port,
                .fd = -EBADF,
        };
        CaConfig ca = ca_config(m->config);
        int r;

        if (m->config->http_listen) {
                r = take_plain(m->config->http_listen, &plain, &listen.plain_port, reterr);
                if (r < 0)
                        return r;
                listen.plain_address = plain;
                log_notice("Plain HTTP is served on %s: for a proxy in front that speaks TLS.",
                                m->config->http_listen);
        }
        r = ca_new(m->event, m->keyring, &ca, &m->ca, reterr);
        if (r < 0)
                return r;
        r = authorities_new(m, &m->authorities);
        if (r < 0)
                return kerror_set_errno(reterr, r, "The master's parts cannot be made: %m.");
        r = listener_new(m->event, m->ca, &listen, &m->listener, reterr);
        if (r < 0)
                return r;
        r = node_sessions_listen(m->sessions, m->listener);
        if (r < 0)
                return kerror_set_errno(reterr, r, "The channel of nodes cannot be served: %m.");
        r = rest_new(m, &m->rest, reterr);
        if (r < 0)
                return kerror_set_errno(reterr, r, "The REST face cannot be made: %m.");

        return 0;
}

int master_new(sd_event *event, Master **ret, KError *reterr) {
        _cleanup_(master_freep) Master *m = NULL;
        int r;

        assert(event);
        assert(ret);

        m = new0(Master, 1);
        if (!m)
                return -ENOMEM;
        m->event = sd_event_ref(event);

        r = config_load(&m->config);
        if (r < 0)
                return kerror_set_errno(reterr, r, "The configuration cannot be read: %m.");
        log_set_max_level(m->config->log_level);

        r = start_store(m, reterr);
        if (r >= 0)
                r = start_bus(m, reterr);
        if (r >= 0)
                r = start_engine(m, reterr);
        if (r >= 0)
                r = start_listener(m, reterr);
        if (r >= 0)
                r = bus_face_new(m, &m->bus_face, reterr);
        if (r >= 0)
                r = bus_tunnels_new(m, bus_tunnel_token_access(), &m->bus_tunnels);
        if (r < 0)
                return r;
        (void) malloc_trim(0);

        *ret = TAKE_PTR(m);
        return 0;
}

int master_reload(Master *m, KError *reterr) {
        _cleanup_(config_freep) Config *c = NULL;
        CaConfig ca;
        int r;

        r = config_load(&c);
        if (r < 0)
                return kerror_set_errno(reterr, r, "The configuration cannot be read: %m.");

        ca = ca_config(c);
        r = ca_reload(m->ca, &ca, reterr);
        if (r < 0)
                return r;
        if (!streq_ptr(c->listen_address, m->config->listen_address) || c->port != m->config->port ||
                        !streq_ptr(c->http_listen, m->config->http_listen))
                log_notice("ListenAddress=, Port= and HttpListen= take effect when kontenad is restarted.");

        log_set_max_level(c->log_level);
        config_free(m->config);
        m->config = TAKE_PTR(c);
        authorities_changed(m->authorities);
        bus_face_reloaded(m->bus_face);
        return 0;
}

int master_loop(Master *m) {
        return event_loop(m->event, &m->turns);
}
