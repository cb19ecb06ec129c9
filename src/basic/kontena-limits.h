/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Every bound on what somebody else can fill. Each has a test for the refusal above it. */

#define LOG_FIELDS_MAX                       16U

/* Names */
#define GRID_NAME_MIN                        3U
#define NAME_LENGTH_MAX                      63U /* grid, node, stack, service: one DNS label */
#define FQDN_LENGTH_MAX                      64U /* <service>-<count>.<stack>.<grid>.kontena.local */

/* Store and model */
#define GRIDS_MAX                            1024U
#define NODES_PER_GRID_MAX                   254U
#define SERVICES_PER_GRID_MAX                4096U
#define INSTANCES_PER_SERVICE_MAX            1000U
#define LABELS_MAX                           64U
#define LABEL_LENGTH_MAX                     256U
#define DEPLOYS_KEPT_PER_SERVICE             100U
#define REVISIONS_KEPT                       100U /* of a service's settings; the last good one for ever */
#define RUNS_KEPT_PER_SERVICE                100U
#define EVENTS_KEPT                          100000U

/* A service's settings */
#define ENV_ENTRIES_MAX                      1024U
#define ENV_ENTRY_SIZE_MAX                   131072U
#define PORTS_MAX                            128U
#define LIST_ENTRIES_MAX                     128U /* affinity, links, volumes, devices, ... */
#define HOOKS_MAX                            32U  /* of one stage */
#define HOOK_TIMEOUT_SEC_DEFAULT             60U
#define HOOK_TIMEOUT_SEC_MAX                 3600U
#define SECRET_NAME_MAX                      64U
#define SPEC_SIZE_MAX                        (1024U * 1024U) /* the JSON of one service */

#define SECRETS_PER_GRID_MAX                 4096U
#define SECRET_SIZE_MAX                      (128U * 1024U)
#define SEALED_SIZE_MAX                      (8U * 1024U * 1024U) /* what an instance gets under one name, in base64 */

/* Node channel */
#define FRAME_SIZE_MAX                       (16U * 1024U * 1024U)
#define JSON_DEPTH_MAX                       32U
#define CHANNEL_CALLS_MAX                    1024U /* outstanding requests, each way */
#define CHANNEL_QUEUE_BYTES_MAX              (32U * 1024U * 1024U)
#define CHANNEL_CALL_TIMEOUT_USEC            (5U * 1000000U)
#define CHANNEL_PING_USEC                    (30U * 1000000U)
#define CHANNEL_PONG_TIMEOUT_USEC            (5U * 1000000U)
#define CHANNEL_BACKOFF_MAX_USEC             (90U * 1000000U)
#define CHANNEL_UNAUTHENTICATED_MAX          128U /* connections that have not yet said who they are */

/* Streams of the node channel */
#define STREAM_WINDOW                        (256U * 1024U) /* on the way, of one stream in one direction */
#define STREAM_DATA_MAX                      (64U * 1024U)  /* in one message */
#define STREAM_FRAME_COST                    256U  /* of the window, for each message beside its data */
#define STREAM_FRAMES_UNCOUNTED_MAX          4096U /* on the way from a node that does not count them */
#define STREAM_OPEN_TIMEOUT_USEC             (30U * 1000000U)
#define STREAMS_PER_NODE_MAX                 64U
#define STREAMS_OPENING_MAX                  8U /* at once, on a node; others wait for them */
#define STREAMS_PER_CALLER_MAX               64U
#define STREAMS_PER_CALLER_ON_NODE_MAX       16U
#define STREAMS_OF_MASTER                    4U   /* of those of a node, kept for the master itself */
#define STREAMS_OF_CALLERS_MAX               256U /* to all nodes, of all callers */
#define EXEC_ARGUMENTS_MAX                   1024U
#define EXEC_ARGUMENTS_SIZE_MAX              (128U * 1024U) /* of all together; of the environment too */

/* The master's port */
#define LISTENER_CONNECTIONS_MAX             4096U
#define LISTENER_CONNECTIONS_PER_ADDRESS_MAX 1024U /* many nodes behind one gateway */
#define LISTENER_ROUTES_MAX                  512U
#define LISTENER_HEAD_SIZE_MAX               32768U
#define LISTENER_BODY_SIZE_MAX               (4U * 1024U * 1024U)
#define HTTP_BEARER_LENGTH_MAX               1024U
#define LISTENER_BODY_SMALL                  (16U * 1024U)         /* of anybody */
#define LISTENER_BODIES_SIZE_MAX             (64U * 1024U * 1024U) /* of larger ones, all together */
#define LISTENER_BODY_TIMEOUT_USEC           (60ULL * 1000000ULL)
#define LISTENER_HEAD_TIMEOUT_USEC           (15ULL * 1000000ULL) /* from accept to the end of the request's head */
#define HTTP_STREAM_QUEUE_MAX                (8U * 1024U * 1024U) /* of one answer without end, while its client reads */

/* The REST face */
#define REST_CALLS_MAX                       1024U /* requests that have no answer yet, streams too */
#define REST_CALLS_PER_ADDRESS_MAX           256U
#define REST_LOGINS_PER_MINUTE_MAX           60U /* of one address, and of one account */
#define REST_LOGINS_REMEMBERED_MAX           16384U /* addresses and accounts; when full, others share one count */
#define REST_JSON_VALUES_MAX                 100000U /* in one body */
#define REST_FORM_VALUES_MAX                 256U
#define REST_FIELD_ERRORS_MAX                1024U

/* Images */
#define MANIFEST_SIZE_MAX                    (4U * 1024U * 1024U)
#define IMAGE_LAYERS_MAX                     127U /* overlayfs takes 500, Docker 127 */
#define IMAGE_ENTRIES_MAX                    2000000U
#define IMAGE_SIZE_MAX                       (256ULL * 1024ULL * 1024ULL * 1024ULL)
#define IMAGE_REFERENCE_MAX                  512U
#define IMAGE_PATH_MAX                       4095U  /* of one entry in a layer */
#define IMAGE_DEPTH_MAX                      256U   /* of directories; noded opens as many to remove them */
#define IMAGE_XATTRS_MAX                     256U   /* of one entry */
#define REGISTRIES_MAX                       64U    /* with settings of their own; mirrors of one as well */
#define REGISTRIES_PER_GRID_MAX              32U    /* with credentials */
#define REGISTRY_PASSWORD_MAX                16384U /* some are keys as JSON */
#define REGISTRY_REDIRECTS_MAX               5U
#define IMAGES_LISTED_MAX                    4096U /* of one node */
#define PULLS_RUNNING_MAX                    3U
#define PULLS_WAITING_MAX                    1024U
#define PULL_ATTEMPTS_MAX                    10U /* of one request to a registry */

/* Deploys */
#define DEPLOY_TIMEOUT_USEC                  (30ULL * 60ULL * 1000000ULL)
#define INSTANCE_DEPLOY_TIMEOUT_USEC         (300ULL * 1000000ULL)
#define WAIT_FOR_PORT_TIMEOUT_USEC           (300ULL * 1000000ULL)
#define DEPLOY_NODE_GRACE_USEC               (60ULL * 1000000ULL) /* an instance's node may be away that long */
#define DEPLOY_STEPS_MAX                     20U                  /* under way at once, of one deploy */
#define DEPLOYED_INSTANCES_MAX               10000U /* of one service on the daemon strategy: count times nodes */
#define AFFINITY_LENGTH_MAX                  512U
#define REGEX_REPETITIONS_MAX                256U /* product of the {n,m} of one expression, a + is 2 */

/* Jobs */
#define RUN_CATCH_UP_USEC                    (24ULL * 3600ULL * 1000000ULL) /* missed by less: made up for */
#define RUN_PLACE_TIMEOUT_USEC               (600ULL * 1000000ULL)          /* waiting for a node */
#define SCHEDULE_LENGTH_MAX                  512U
#define CALENDAR_TIMEOUT_USEC                (10ULL * 1000000ULL) /* systemd-analyze, usually some milliseconds */
#define CALENDAR_QUERIES_MAX                 16U                  /* at once, asked for by callers */

/* What a node says about itself and its instances */
#define STATUS_TEXT_MAX                      4096U /* longer errors are cut */
#define STATUSES_PER_MESSAGE_MAX             8192U
#define REPORT_SIZE_MAX                      (256U * 1024U)
#define NODE_EVENTS_PER_MINUTE_MAX           120U /* of one node; more are counted, not stored */
#define REFUSALS_REMEMBERED_MAX              256U /* the same refusal is an event once in a while only */
#define REFUSAL_EVENTS_PER_MINUTE_MAX        30U

/* Logs */
#define LOG_LINES_MAX                        10000U
#define LOG_STREAMS_MAX                      64U
#define LOG_STREAMS_PER_CALLER_MAX           16U                  /* one does not take those of others */
#define LOG_STREAM_BYTES_MAX                 (8U * 1024U * 1024U) /* kept of one view while it waits for all nodes */

/* D-Bus */
#define BUS_JSON_VALUES_MAX                  1000000U /* in one argument or result */
#define BUS_CALLS_MAX                        1024U    /* method calls that have no answer yet */
#define BUS_CALLS_PER_PEER_MAX               64U

/* D-Bus through HTTPS */
#define BUS_GUESTS_MAX                       1024U
#define BUS_GUESTS_PER_USER_MAX              32U
#define BUS_GUEST_MESSAGE_SIZE_MAX           (4U * 1024U * 1024U) /* to the master */
#define BUS_GUEST_QUEUE_MAX                  65536U /* messages that wait for who does not read */
#define BUS_GUEST_STALLED_MAX_USEC                                                                          \
        (30ULL * 1000000ULL) /* who reads nothing may have 256 waiting for that long */

/* Configuration */
#define CONF_FILE_SIZE_MAX             (1024U * 1024U)
#define CONF_FILES_MAX                 256U

/* Users, tokens, logins */
#define USERS_MAX                      2000U
#define EMAIL_LENGTH_MAX               254U
#define UIDS_PER_USER_MAX              64U
#define TOKENS_PER_USER_MAX            1000U
#define TOKENS_PRUNED_AT_ONCE          500U
#define TOKEN_LENGTH_MAX               256U /* longer ones are nobody's */
#define TOKEN_REFRESHED_SEC            7200U
#define TOKEN_REFRESH_USEC             (30ULL * 24ULL * 3600ULL * 1000000ULL) /* from when a refresh token was made */
#define CODE_LIFETIME_USEC             (24ULL * 3600ULL * 1000000ULL)
#define LOGIN_CODE_LIFETIME_USEC       (600ULL * 1000000ULL) /* given to who has logged in at the provider */
#define INVITE_LIFETIME_USEC           (7ULL * 24ULL * 3600ULL * 1000000ULL)
#define LOGIN_STATE_LIFETIME_USEC      (3600ULL * 1000000ULL)
#define LOGIN_STATES_MAX               4096U
#define LOGINS_RUNNING_MAX             32U            /* that wait for the provider */
#define LOGIN_ANSWER_MAX               (256U * 1024U) /* bytes of the provider's answer */
#define LOGIN_TIMEOUT_USEC             (20ULL * 1000000ULL)
#define WRONG_CODES_BURST              100U /* then this many a second, whoever sends them: codes have 48 bits */
#define WRONG_CODES_PER_SECOND         10U
#define CONFIG_KEYS_MAX                256U
#define CONFIG_KEY_LENGTH_MAX          128U
#define CONFIG_VALUE_SIZE_MAX          16384U

/* Audit */
#define AUDIT_KEPT                     100000U
#define AUDIT_LIST_MAX                 500U   /* rows in one answer */
#define AUDIT_BREAKS_MAX               100U   /* that are told of */
#define AUDIT_PARAMETERS_MAX           16384U /* bytes; of longer ones the simple values */
#define AUDIT_RECORD_SIZE_MAX          (4U * 1024U * 1024U)
#define AUDIT_ANCHORS_MAX              256U

/* Network */
#define RTNL_LIST_MAX                  65536U /* links, addresses, routes, neighbours of the machine */
#define BLOCKS_PER_NODE_MAX            128U   /* address blocks */
#define DNS_NAMES_MAX                  32768U
#define DNS_RECORDS_MAX                131072U /* pairs of name and address */
#define REPORT_ADDRESSES_MAX           256U
#define REPORT_ROUTES_MAX              1024U
#define NETWORK_INSTANCES_MAX          4096U
#define CONNTRACK_FORGET_MAX           16384U /* flows forgotten when a UDP port changes */
#define NETWORK_PORTS_MAX              4096U  /* published on one node */

/* Node daemon */
#define NODE_INSTANCES_MAX             4096U
#define NODE_EVENTS_QUEUED_MAX         1000U /* while the master is away */
#define HEALTH_ANSWER_MAX              4096U /* bytes of an HTTP answer that a check reads */
#define NOTIFY_MESSAGE_MAX             4096U /* bytes of one datagram; longer ones are not read */
#define NOTIFY_STATUS_MAX              128U  /* bytes of STATUS= that are shown */
#define NOTIFY_MESSAGES_PER_SECOND_MAX 50U   /* of one container */
#define NOTIFY_FLUSH_MAX               1024U /* datagrams that are thrown away at once */
#define PROCESSES_SHOWN_MAX            1024U /* of one instance */
#define PROCESS_COMMAND_MAX            1024U /* bytes of one command line that are shown */
#define CGROUPS_READ_MAX               1024U /* of one instance: a container may make its own */

#define AUTHORITIES_SIZE_MAX           (64U * 1024U) /* of ca.pem */

/* Volumes */
#define VOLUMES_PER_GRID_MAX           4096U
#define VOLUME_SNAPSHOTS_MAX           64U                  /* of one volume on one node */
#define VOLUME_NAME_ON_NODE_MAX        210U                 /* STACK.SERVICE.VOLUME-N */
#define VOLUME_MEASURE_MAX_USEC        (60ULL * 1000000ULL) /* counting its bytes where no quota does */

/* Archives: "cp", exports and imports of volumes */
#define TAR_ENTRIES_MAX                16777216U
#define TAR_ATTRIBUTES_MAX             (64U * 1024U * 1024U)   /* of an archive's directories together */
#define ARCHIVE_DESCRIPTORS_MAX        (1U + LIST_ENTRIES_MAX) /* a root and its volumes */
#define ARCHIVE_FRAME_MAX              (1024U * 1024U)
