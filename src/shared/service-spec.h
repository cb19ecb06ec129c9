/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "kerror.h"
#include "macro.h"
#include "string-util.h"
#include "transport-protocol.h"

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
 *   ports            list of {ip "0.0.0.0", node_port, container_port, protocol "tcp"|"udp"|"sctp"}
 *   net              "bridge" | "host", "bridge"
 *   pid              "" | "host"
 *   privileged, read_only                               bool
 *   cap_add, cap_drop                                   lists, without CAP_
 *   devices          list "host[:inside[:rwm]]"
 *   volumes          list "name:/path[:flags]" | "/host:/path[:flags]" | "/path"
 *   volumes_from     empty list                         what the reference has here is refused, see service-spec-share.c
 *   cpus             number, 0 none; cpu_shares 0..1024, 0 none
 *   memory, memory_swap, shm_size                       bytes, 0 none (memory_swap counts memory + swap)
 *   pids_limit       0 none
 *   stop_signal      "SIGTERM" ...                      default: image's, else SIGTERM
 *   stop_grace_period seconds, 10
 *   labels           list
 *   links            list "service" | "stack/service"
 *
 *   deploy_order     "start-first" | "stop-first"       default: start-first where it is possible, see service_spec_start_first()
 *   on_failure       "rollback" | "pause" | "continue"  default: rollback; stateful: pause
 *   drain            0..3600 seconds, 5                 how long a replaced instance serves open connections, out of the names
 *   notify           bool                               up when the container says READY=1 to $NOTIFY_SOCKET
 *   health_check     {protocol "http"|"tcp"|"exec", port, uri "/", command list of strings, timeout 10, interval 60,
 *                    initial_delay 10, retries 1}       seconds; up when the first is well, asked every second until then; failures
 *                                                       within initial_delay before that do not count; null: none
 *   hooks            {pre_start, post_start, pre_stop: [{name, cmd, instances "*" | "1,2", oneshot false,
 *                    timeout 1..3600 seconds, 60}]}
 *   secrets          list of {secret, name, type "env"|"file"}
 *   systemd          {PROPERTY: string}                 what unit-settings.h allows
 *   type             "service" | "job"                  a job's instances run to completion; fixed after creation
 *   retries          0..100, 0                          of a job's instance that failed
 *   schedule         systemd calendar expression        a job that the grid starts by itself; that systemd takes it is checked by
 *                                                       the master
 *   runtime          "oci" | "nspawn"                   nspawn: the image is a machine that is booted, or that runs cmd; see
 *                                                       service-spec-machine.c for what cannot go with it
 *   pull             "always" | "missing" | "never"     whether the registry is asked at a deploy, always
 *   unknown fields are refused
 */

typedef enum Strategy {
        STRATEGY_HA,
        STRATEGY_DAEMON,
        STRATEGY_RANDOM,
        _STRATEGY_MAX,
        _STRATEGY_INVALID = -EINVAL,
} Strategy;
DECLARE_STRING_TABLE_LOOKUP(strategy, Strategy);

typedef enum DeployOrder {
        DEPLOY_ORDER_AUTO, /* not given */
        DEPLOY_START_FIRST,
        DEPLOY_STOP_FIRST,
        _DEPLOY_ORDER_MAX,
        _DEPLOY_ORDER_INVALID = -EINVAL,
} DeployOrder;
DECLARE_STRING_TABLE_LOOKUP(deploy_order, DeployOrder);

typedef enum OnFailure {
        ON_FAILURE_AUTO, /* not given */
        ON_FAILURE_ROLLBACK,
        ON_FAILURE_PAUSE,
        ON_FAILURE_CONTINUE,
        _ON_FAILURE_MAX,
        _ON_FAILURE_INVALID = -EINVAL,
} OnFailure;
DECLARE_STRING_TABLE_LOOKUP(on_failure, OnFailure);

typedef enum PullPolicy {
        PULL_ALWAYS,
        PULL_MISSING,
        PULL_NEVER,
        _PULL_POLICY_MAX,
        _PULL_POLICY_INVALID = -EINVAL,
} PullPolicy;
DECLARE_STRING_TABLE_LOOKUP(pull_policy, PullPolicy);

typedef enum RuntimeKind {
        RUNTIME_OCI,
        RUNTIME_NSPAWN,
        _RUNTIME_KIND_MAX,
        _RUNTIME_KIND_INVALID = -EINVAL,
} RuntimeKind;
DECLARE_STRING_TABLE_LOOKUP(runtime_kind, RuntimeKind);

typedef enum HealthProtocol {
        HEALTH_NONE,
        HEALTH_HTTP,
        HEALTH_TCP,
        HEALTH_EXEC,
        _HEALTH_PROTOCOL_MAX,
        _HEALTH_PROTOCOL_INVALID = -EINVAL,
} HealthProtocol;
DECLARE_STRING_TABLE_LOOKUP(health_protocol, HealthProtocol);

typedef struct HealthCheck {
        HealthProtocol protocol;
        uint16_t port;
        char *uri;
        char **command;
        uint32_t timeout_sec, interval_sec, initial_delay_sec;
        uint32_t retries; /* as many failures in a row make it unhealthy; at least 1 */
} HealthCheck;

typedef enum HookStage {
        HOOK_PRE_START,
        HOOK_POST_START,
        HOOK_PRE_STOP,
        _HOOK_STAGE_MAX,
        _HOOK_STAGE_INVALID = -EINVAL,
} HookStage;
DECLARE_STRING_TABLE_LOOKUP(hook_stage, HookStage);

typedef struct Hook {
        HookStage stage;
        char *name, *cmd;    /* cmd is for /bin/sh -c */
        uint32_t *instances; /* NULL: all */
        size_t n_instances;
        bool oneshot;         /* once for each instance number, over all deploys */
        uint32_t timeout_sec; /* it is killed then */
} Hook;

typedef enum SecretType {
        SECRET_ENV,
        SECRET_FILE,
        _SECRET_TYPE_MAX,
        _SECRET_TYPE_INVALID = -EINVAL,
} SecretType;
DECLARE_STRING_TABLE_LOOKUP(secret_type, SecretType);

typedef struct SecretUse {
        char *secret; /* in the vault */
        char *name;   /* of the variable, or of the file below /run/secrets */
        SecretType type;
} SecretUse;

typedef struct PortMapping {
        char *ip; /* NULL: any */
        uint16_t node_port, container_port;
        TransportProtocol protocol;
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

        DeployOrder deploy_order;
        OnFailure on_failure;
        uint32_t drain_sec;
        bool notify, job;
        uint32_t retries;
        char *schedule; /* NULL: none */
        RuntimeKind runtime;
        PullPolicy pull;
        HealthCheck health_check;
        Hook *hooks; /* by stage, in the order given */
        size_t n_hooks;
        SecretUse *secrets;
        size_t n_secrets;
        char **systemd; /* "CPUWeight=200", sorted */
} ServiceSpec;

ServiceSpec *service_spec_free(ServiceSpec *s);
DEFINE_TRIVIAL_CLEANUP_FUNC(ServiceSpec *, service_spec_free);

/* Validates everything, names the field in the error, fills in defaults. */
int service_spec_parse(json_object *o, ServiceSpec **ret, KError *reterr);

/* May a new instance run beside the one it replaces? Not if stateful, a job, on the host's network, or told otherwise. Published ports
 * do not hinder: they are mappings of ours, which change over when the new one is up. What only the master knows, that an
 * instance-scoped volume would have two writers, is the deployer's to ask. */
bool service_spec_start_first(const ServiceSpec *s) _pure_;
/* Is the image's own init started? */
bool service_spec_boots(const ServiceSpec *s) _pure_;
OnFailure service_spec_on_failure(const ServiceSpec *s) _pure_; /* the default put in */
/* The one after that, NULL: the first, of those of the stage that concern the instance and are not done once for all. */
const Hook *service_spec_next_hook(const ServiceSpec *s, HookStage stage, unsigned number, char *const *done,
                const Hook *after);
/* How long all of them together may take, beyond what an instance takes to start anyway. */
uint64_t service_spec_hooks_sec(const ServiceSpec *s) _pure_;
bool hook_concerns(const Hook *h, uint32_t number) _pure_;
/* "pre_start/migrate": how a oneshot hook that was done is remembered. */
char *hook_id(const Hook *h);

/* Lays the fields of changes over base (null resets a field to its default; in env an entry with an empty value keeps
 * its present value) and validates the outcome. ret is a fresh object. "stateful" and "type" cannot change. */
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
