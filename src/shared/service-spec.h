/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "kerror.h"
#include "macro.h"
#include "string-util.h"

/* A service's settings: what a user asks for. One JSON object, the same in the store, on the node channel and, converted
 * from a{sv}, on the bus. Fields, with defaults (reference/rest-api.md and stack-file.md have their meaning):
 *
 *   image            string, mandatory                  "nginx:1"
 *   count            1..1000, 1                         how many instances (daemon: for each node)
 *   stateful         bool, false                        fixed after creation
 *   strategy         "ha" | "daemon" | "random", "ha"
 *   affinity         list of strings, grid's default    "node==n1" "label!=~az=b"
 *   min_health       0.0..1.0, 0.8
 *   wait_for_port    1..65535 or 0                      0: do not wait
 *   interval         seconds or 0                       redeploy that often
 *   cmd, entrypoint  list of strings                    override the image's
 *   env              list "KEY=value"
 *   user, working_dir, hostname                         strings
 *   ports            list of {ip "0.0.0.0", node_port, container_port, protocol "tcp"|"udp"}
 *   net              "bridge" | "host", "bridge"
 *   pid              "" | "host"
 *   privileged, read_only                               bool
 *   cap_add, cap_drop                                   lists, without CAP_
 *   devices          list "host[:inside[:rwm]]"
 *   volumes          list "name:/path[:flags]" | "/host:/path[:flags]" | "/path"
 *   cpus             number, 0 none; cpu_shares 0..1024, 0 none
 *   memory, memory_swap, shm_size                       bytes, 0 none (memory_swap counts memory + swap)
 *   pids_limit       0 none
 *   stop_signal      "SIGTERM" ...                      default: image's, else SIGTERM
 *   stop_grace_period seconds, 10
 *   labels           list
 *   links            list "service" | "stack/service"
 *   hooks, health_check, secrets, ...                   later issues; unknown fields are refused
 */

typedef enum Strategy {
        STRATEGY_HA,
        STRATEGY_DAEMON,
        STRATEGY_RANDOM,
        _STRATEGY_MAX,
        _STRATEGY_INVALID = -EINVAL,
} Strategy;
DECLARE_STRING_TABLE_LOOKUP(strategy, Strategy);

typedef struct PortMapping {
        char *ip; /* NULL: any */
        uint16_t node_port, container_port;
        bool udp;
} PortMapping;

typedef struct ServiceSpec {
        char *image;
        uint32_t count;
        bool stateful;
        Strategy strategy;
        char **affinity; /* NULL: the grid's default */
        double min_health;
        uint16_t wait_for_port;
        uint64_t interval_sec;
        char **cmd, **entrypoint, **env;
        char *user, *working_dir, *hostname;
        PortMapping *ports;
        size_t n_ports;
        bool host_network, host_pid, privileged, read_only;
        char **cap_add, **cap_drop, **devices, **volumes, **labels, **links;
        double cpus;
        uint32_t cpu_shares;
        uint64_t memory, memory_swap, shm_size, pids_limit;
        char *stop_signal; /* NULL: image's */
        uint64_t stop_grace_sec;
} ServiceSpec;

ServiceSpec *service_spec_free(ServiceSpec *s);
DEFINE_TRIVIAL_CLEANUP_FUNC(ServiceSpec *, service_spec_free);

/* Validates everything, names the field in the error, fills in defaults. */
int service_spec_parse(json_object *o, ServiceSpec **ret, KError *reterr);

/* Lays the fields of changes over base (null resets a field to its default; in env an entry with an empty value keeps
 * its present value) and validates the outcome. ret is a fresh object. "stateful" cannot change. */
int service_spec_update(json_object *base, json_object *changes, json_object **ret, KError *reterr);

/* One entry of volumes, taken apart. */
typedef enum VolumeType {
        VOLUME_ANONYMOUS, /* source is NULL */
        VOLUME_NAMED,     /* source is the volume's name */
        VOLUME_BIND,      /* source is a path of the host */
} VolumeType;

typedef struct VolumeMount {
        VolumeType type;
        char *source, *path;
        bool read_only, no_copy;
        char *propagation; /* "rshared", ...; NULL: private */
} VolumeMount;

void volume_mount_done(VolumeMount *v);
int volume_mount_parse(const char *s, VolumeMount *ret, KError *reterr);

/* One entry of devices. */
typedef struct DeviceMapping {
        char *host, *inside, *access; /* access: some of "rwm" */
} DeviceMapping;

void device_mapping_done(DeviceMapping *d);
int device_mapping_parse(const char *s, DeviceMapping *ret, KError *reterr);

/* "CHOWN" for 0, ... as in cap_add; NULL behind the last. */
const char *capability_to_name(unsigned number);

/* Number of the signal for "SIGTERM", "TERM" or "15"; -EINVAL. */
int signal_from_string(const char *s);
