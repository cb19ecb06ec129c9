/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "kerror.h"
#include "macro.h"

/* The master's memory: SQLite in WAL mode with synchronous=FULL, one connection, no cache of rows above it. What a
 * function returned 0 for after store_commit() survives a kill and a power loss (but see store_begin_retold()). All times are
 * microseconds since 1970.
 * Ids are 26 characters of base32 (128 random bits). Strings in rows are owned by the row; NULL is SQL NULL.
 *
 * Every change happens between store_begin() and store_commit(); reads may happen anywhere and are bounded in time: no
 * statement stays open over a return to the event loop (trap 19). On a full disk the store is read-only: begin fails with
 * K_UNAVAILABLE until room is there again, which the store finds out by itself. */
typedef struct Store Store;

typedef enum StoreKind {
        STORE_GRID,
        STORE_NODE,
        STORE_SERVICE,
        STORE_INSTANCE,
        STORE_DEPLOY,
        STORE_EVENT,
        STORE_KEY_VALUE,
        STORE_REVISION,
        STORE_VOLUME,
        STORE_VOLUME_INSTANCE,
        STORE_SECRET,
        STORE_REGISTRY,
        STORE_RUN,
        STORE_USER, /* also when its roles, grids or uids changed */
        STORE_TOKEN,
        STORE_LOGIN_STATE,
        STORE_CONFIG, /* id: the key */
        _STORE_KIND_MAX,
} StoreKind;

typedef enum StoreChange { STORE_ADDED, STORE_CHANGED, STORE_REMOVED } StoreChange;

/* Called once for each changed row after the commit that changed it, from the event loop (not from inside
 * store_commit()), in order of the changes, one call for several changes of one row. For STORE_REMOVED grid_id is still given,
 * the row is gone. */
typedef void (*store_watch_t)(Store *s, StoreKind kind, StoreChange change, const char *id,
                const char *grid_id, void *userdata);

int store_open(sd_event *event, const char *path, Store **ret, KError *reterr);
Store *store_close(Store *s);
DEFINE_TRIVIAL_CLEANUP_FUNC(Store *, store_close);
int store_watch(Store *s, store_watch_t callback, void *userdata);
/* For one that remembers rows: it is called inside of the transaction, after each change, and again for each one that a rollback takes back. It
 * must only take note. NULL: not any more. */
void store_watch_now(Store *s, store_watch_t callback, void *userdata);
const char *store_read_only_reason(Store *s); /* NULL: can be written */

/* Becoming read-only and writable again is told as a change of STORE_KEY_VALUE "read-only". */

int store_begin(Store *s, KError *reterr);
/* For what nodes say, and say again on a new connection: its commit does not wait for the disk. It survives our own end as any other; a
 * power loss may undo it, but never if a later commit, for which it may have been a reason, is there. */
int store_begin_retold(Store *s, KError *reterr);
bool store_in_transaction(Store *s);
int store_commit(Store *s, KError *reterr); /* on failure everything is rolled back */
void store_rollback(Store *s);              /* no-op outside of a transaction */
/* { _cleanup_(store_rollbackp) Store *t = s; … r = store_commit(s); } */
static inline void store_rollbackp(Store **s) {
        if (*s)
                store_rollback(*s);
}

/* For a loop in which few rows, or none, want a change: begins when *t is NULL, and sets it. */
static inline int store_begin_once(Store *s, Store **t) {
        int r;

        if (*t)
                return 0;
        r = store_begin(s, NULL);
        if (r >= 0)
                *t = s;
        return r;
}

char *store_new_id(void);

typedef struct GridRow {
        char *id, *name, *subnet, *supernet;
        char **trusted_subnets, **default_affinity;
        uint32_t initial_size;
        char *token_id;         /* first 8 characters of the secret */
        uint8_t token_hash[32]; /* keyed hash of the secret */
        void *token_sealed;     /* the secret, sealed with the master's key */
        size_t token_sealed_size;
        uint64_t revision; /* rises with each change */
        uint64_t created_at, updated_at;
} GridRow;

typedef enum NodeAvailability {
        NODE_ACTIVE,
        NODE_DRAIN,
        _NODE_AVAILABILITY_MAX,
        _NODE_AVAILABILITY_INVALID = -EINVAL
} NodeAvailability;
const char *node_availability_to_string(NodeAvailability a);
NodeAvailability node_availability_from_string(const char *s);

typedef struct NodeRow {
        char *id, *grid_id, *name;
        uint32_t number;        /* 1..254, lowest free */
        char *node_key;         /* SHA-256 of the public key in hex; NULL before the first join */
        char *machine_id;       /* Kontena-Node-Id */
        uint8_t token_hash[32]; /* all zero: no token of its own */
        void *token_sealed;     /* its secret, for who may see it again; NULL: of an earlier version */
        size_t token_sealed_size;
        char **labels;
        NodeAvailability availability;
        bool connected;
        uint64_t connected_at, disconnected_at, last_seen_at, created_at, updated_at;
        json_object *report; /* last REPORT, NULL before the first */
        char **blocks;       /* "10.81.128.0/25", in order of allotment */
} NodeRow;

typedef enum ServiceState {
        SERVICE_INITIALIZED,
        SERVICE_RUNNING,
        SERVICE_STOPPED,
        _SERVICE_STATE_MAX,
        _SERVICE_STATE_INVALID = -EINVAL
} ServiceState;
const char *service_state_to_string(ServiceState s);
ServiceState service_state_from_string(const char *s);

typedef struct ServiceRow {
        char *id, *grid_id, *stack, *name;
        ServiceState state;
        uint64_t revision; /* service_rev: which revision the spec is of; changes with the spec, not with count alone */
        uint64_t revision_last; /* highest that was ever given: the next change is revision_last + 1 */
        uint64_t deploy_rev;    /* of the last deploy that was started */
        json_object *spec;
        uint64_t created_at, updated_at, deployed_at; /* updated_at > deployed_at: outdated */
        uint64_t next_run_at;                         /* of a schedule; 0: none */
} ServiceRow;

/* What a service's settings were. Kept for REVISIONS_KEPT changes; the current one, and the last good one, for ever. */
typedef struct RevisionRow {
        char *id; /* SERVICE-ID/NUMBER */
        char *grid_id, *service_id;
        uint64_t revision;
        json_object *spec;
        char *image_digest; /* what its last deploy ran; NULL: never deployed */
        bool good;          /* a deploy of it has succeeded */
        char *author;       /* "uid 1000 (anna)", "secret 'db-password' changed" */
        uint64_t created_at, deployed_at;
} RevisionRow;

typedef enum InstanceDesired {
        INSTANCE_RUNNING,
        INSTANCE_STOPPED,
        INSTANCE_TERMINATED,
        _INSTANCE_DESIRED_MAX,
        _INSTANCE_DESIRED_INVALID = -EINVAL
} InstanceDesired;
const char *instance_desired_to_string(InstanceDesired d);
InstanceDesired instance_desired_from_string(const char *s);

typedef enum InstanceRole {
        INSTANCE_CURRENT, /* it is instance n of the service: at most one */
        INSTANCE_INCOMING, /* will take the place of the current one when it is up (or, in a move, has the data): at most one */
        INSTANCE_OUTGOING, /* of a move: stopped and kept until the one that has taken its place runs */
        _INSTANCE_ROLE_MAX,
        _INSTANCE_ROLE_INVALID = -EINVAL,
} InstanceRole;
const char *instance_role_to_string(InstanceRole r);
InstanceRole instance_role_from_string(const char *s);

/* An instance that was moved or replaced lives on as a TERMINATED row of its node until that node says it is removed (or is
 * itself removed): only CURRENT rows that are not TERMINATED count as "instance number n of the service". Of a stateful
 * service never two run. */
typedef struct InstanceRow {
        char *id, *grid_id, *service_id;
        char *node_id; /* NULL: not placed */
        uint32_t number;
        InstanceDesired desired;
        uint64_t deploy_rev, service_rev; /* wanted */
        bool force;
        char *address;     /* NULL until placed, and with host network */
        json_object *spec; /* what it was deployed with */
        InstanceRole role;
        char *slot; /* NULL or a letter: part of the unit's name, so that several can stand side by side on a node */
        char *wanted_digest; /* the image's bytes; NULL: whatever the reference means there */
        uint32_t drain_sec;  /* TERMINATED: runs on for that long, under no name */
        char *run_id;        /* of a job */
        /* Observed, as of the last STATUS */
        char *state, *progress, *error_code, *error, *unit, *image_digest, *health;
        uint64_t observed_deploy_rev, observed_service_rev, epoch, started_at, status_at;
        int64_t pid, exit_status, restarts, oom_kills; /* exit_status -1: none */
        char *log_tail;                                /* last lines before it failed */
        uint64_t created_at;
} InstanceRow;

typedef enum DeployState {
        DEPLOY_CREATED,
        DEPLOY_ONGOING,
        DEPLOY_SUCCESS,
        DEPLOY_ERROR,
        DEPLOY_SUPERSEDED,
        DEPLOY_CANCELLED,
        _DEPLOY_STATE_MAX,
        _DEPLOY_STATE_INVALID = -EINVAL,
} DeployState;
const char *deploy_state_to_string(DeployState s);
DeployState deploy_state_from_string(const char *s);
#define DEPLOY_STATE_IS_FINAL(s) ((s) >= DEPLOY_SUCCESS)

typedef struct DeployStepRow { /* one instance of one deploy */
        char *deploy_id, *instance_id, *node_id;
        uint32_t number;
        char *state; /* waiting starting running error skipped */
        char *error, *log_tail;
        uint64_t started_at, finished_at;
} DeployStepRow;

typedef struct DeployRow {
        char *id, *grid_id, *service_id;
        uint64_t deploy_rev, service_rev;
        DeployState state;
        char *reason;
        bool force;
        char *kind;         /* "deploy", "rollback" (to service_rev), "move" (its step says where to) */
        char *cause;        /* id of the deploy whose failure this rollback answers; NULL */
        char *image_digest; /* resolved once; NULL: not yet */
        bool accept_loss;   /* place stateful instances anew whose data went with their node */
        uint64_t created_at, started_at, finished_at;
        DeployStepRow **steps; /* by number; filled by get, not by list */
        size_t n_steps;
} DeployRow;

typedef struct EventRow {
        uint64_t id; /* rises */
        uint64_t time;
        char *grid_id, *severity, *type, *message;
        char *node_id, *service_id, *stack, *service; /* NULL where it has none */
        int64_t instance;                             /* -1: none */
} EventRow;

typedef enum VolumeScope {
        VOLUME_SCOPE_INSTANCE,
        VOLUME_SCOPE_STACK,
        VOLUME_SCOPE_GRID,
        _VOLUME_SCOPE_MAX,
        _VOLUME_SCOPE_INVALID = -EINVAL,
} VolumeScope;
const char *volume_scope_to_string(VolumeScope s);
VolumeScope volume_scope_from_string(const char *s);

typedef struct VolumeRow {
        char *id, *grid_id, *name, *driver; /* driver: "local" */
        VolumeScope scope;
        json_object *options;
        uint64_t size_max; /* bytes; 0: no quota */
        bool removing;     /* goes when no node has it any more */
        uint64_t created_at;
} VolumeRow;

/* A volume as it is on one node. */
typedef struct VolumeInstanceRow {
        char *id, *grid_id, *volume_id, *node_id;
        char *name;       /* on the node: "shop.db.data-1", "shop.data" or "data", as the scope is */
        char *service_id; /* scope instance: whose; otherwise NULL, and number 0 */
        uint32_t number;
        bool removing;       /* the node is to delete it, and has not said yet that it did */
        char *state, *error; /* as the node reported: "present" "error"; NULL: not yet */
        uint64_t used, created_at;
} VolumeInstanceRow;

typedef struct SecretRow {
        char *id, *grid_id, *name;
        void *sealed; /* with the master's key, context "secret:ID" */
        size_t sealed_size;
        uint64_t revision, created_at, updated_at;
} SecretRow;

typedef struct RegistryRow {
        char *id, *grid_id, *name; /* name: host[:port] */
        char *url, *username, *email;
        void *sealed; /* the password, context "registry:ID" */
        size_t sealed_size;
        uint64_t created_at, updated_at;
} RegistryRow;

/* One run of a job. */
typedef struct RunRow {
        char *id, *grid_id, *service_id;
        uint64_t number;       /* 1, 2, … of the service */
        char *trigger;         /* "manual", "schedule" */
        uint64_t scheduled_at; /* the point of the schedule, unique for the service; 0: manual */
        char *state;           /* waiting running succeeded failed cancelled */
        char *reason;
        uint32_t attempts;
        char *node_id, *instance_id; /* of the last attempt */
        int64_t exit_status;         /* -1: none */
        char *log_tail;
        uint64_t created_at, started_at, finished_at;
} RunRow;

/* Somebody who may log in. E-mail addresses are in lower case. */
typedef struct UserRow {
        char *id, *email;
        char *name, *external_id; /* NULL: unknown; external_id: what the login provider calls them */
        char **roles;             /* of "master_admin" "user_admin" "grid_admin" */
        uint8_t invite_hash[32];  /* all zero: not invited, or has come */
        uint64_t invite_expires_at;
        uint64_t created_at, updated_at;
} UserRow;

typedef enum TokenKind {
        TOKEN_BEARER,
        TOKEN_CODE, /* can be exchanged once for a bearer token */
        _TOKEN_KIND_MAX,
        _TOKEN_KIND_INVALID = -EINVAL,
} TokenKind;
const char *token_kind_to_string(TokenKind k);
TokenKind token_kind_from_string(const char *s);

typedef struct TokenRow {
        char *id, *user_id;
        TokenKind kind;
        uint8_t token_hash[32];   /* of the token or code */
        uint8_t refresh_hash[32]; /* all zero: cannot be refreshed */
        char *last_four, *refresh_last_four;
        char **scopes; /* "user" "owner" */
        char *description;
        uint64_t expires_at; /* 0: never; of a code: the token's that it gives */
        uint64_t ends_at;    /* the row is of no use from then on; 0: never */
        uint64_t created_at, used_at;
} TokenRow;

/* A login that is under way at the provider. */
typedef struct LoginStateRow {
        char *id;
        uint8_t state_hash[32];
        char *user_id; /* NULL: whom the provider names */
        char *redirect_uri;
        bool invited;      /* user_id by an invitation */
        uint64_t lifetime; /* seconds, of the token to come; 0: for ever */
        void *verifier;    /* of PKCE, sealed; NULL: without */
        size_t verifier_size;
        uint64_t created_at, expires_at;
} LoginStateRow;

typedef struct ConfigRow {
        char *id;     /* the key */
        char *value;  /* NULL: it is sealed */
        void *sealed; /* context "config:KEY" */
        size_t sealed_size;
        uint64_t updated_at;
} ConfigRow;

/* For each kind: free, get by id and by name (-ENOENT), list, put (insert or replace by id), delete. Lists are arrays of
 * pointers that *_list_free() frees with their rows. */
#define STORE_DECLARE_ROW(Type, name)                                                                       \
        Type *name##_row_free(Type *row);                                                                   \
        DEFINE_TRIVIAL_CLEANUP_FUNC(Type *, name##_row_free);                                               \
        typedef struct Type##List {                                                                         \
                Type **rows;                                                                                \
                size_t n;                                                                                   \
        } Type##List;                                                                                       \
        void name##_row_list_done(Type##List *l);                                                           \
        int store_put_##name(Store *s, const Type *row);                                                    \
        int store_delete_##name(Store *s, const char *id);                                                  \
        int store_get_##name(Store *s, const char *id, Type **ret)
STORE_DECLARE_ROW(GridRow, grid);
STORE_DECLARE_ROW(NodeRow, node);
STORE_DECLARE_ROW(ServiceRow, service);
STORE_DECLARE_ROW(InstanceRow, instance);
STORE_DECLARE_ROW(DeployRow, deploy); /* put writes the deploy alone, not its steps */

STORE_DECLARE_ROW(RevisionRow, revision);
STORE_DECLARE_ROW(VolumeRow, volume); /* delete: -EBUSY while it is on a node */
STORE_DECLARE_ROW(VolumeInstanceRow, volume_instance);
STORE_DECLARE_ROW(SecretRow, secret);
STORE_DECLARE_ROW(RegistryRow, registry);
STORE_DECLARE_ROW(RunRow, run);
STORE_DECLARE_ROW(UserRow, user); /* delete: with its tokens, memberships, uids and logins */
STORE_DECLARE_ROW(TokenRow, token);
STORE_DECLARE_ROW(LoginStateRow, login_state);
STORE_DECLARE_ROW(ConfigRow, config);

int store_find_user(Store *s, const char *email, UserRow **ret);
int store_find_user_by_external_id(Store *s, const char *external_id, UserRow **ret);
int store_find_user_by_invite(Store *s, const uint8_t hash[static 32], UserRow **ret);
int store_find_user_by_uid(Store *s, uid_t uid, UserRow **ret);
int store_list_users(Store *s, UserRowList *ret); /* by e-mail */
int store_count_users_with_role(Store *s, const char *role, const char *except_id, uint64_t *ret);
int store_forget_external_ids(Store *s);

int store_put_uid(Store *s, uid_t uid, const char *user_id);    /* -EEXIST: is somebody else's */
int store_delete_uid(Store *s, uid_t uid, const char *user_id); /* -ENOENT */
int store_list_uids(Store *s, const char *user_id, char ***ret);

int store_add_grid_user(Store *s, const char *grid_id, const char *user_id);    /* 1: was not in it before */
int store_remove_grid_user(Store *s, const char *grid_id, const char *user_id); /* -ENOENT */
int store_is_grid_user(Store *s, const char *grid_id, const char *user_id);     /* 1 or 0 */
int store_list_grid_users(Store *s, const char *grid_id, UserRowList *ret);
int store_list_user_grids(Store *s, const char *user_id, GridRowList *ret);

/* By the keyed hash, so that how long the search takes says nothing about a token. */
int store_find_token(Store *s, TokenKind kind, const uint8_t hash[static 32], TokenRow **ret);
int store_note_token_use(Store *s, const char *id, uint64_t at); /* not told as a change */
int store_find_token_by_refresh(Store *s, const uint8_t hash[static 32], TokenRow **ret);
int store_list_tokens(Store *s, const char *user_id, TokenRowList *ret); /* oldest first */
int store_count_tokens(Store *s, const char *user_id, uint64_t *ret);
int store_delete_codes(Store *s, const char *user_id); /* that are not used */
/* How many tokens; logins under way as well. */
int store_prune_tokens(Store *s, uint64_t now, uint32_t limit);
int store_count_login_states(Store *s, uint64_t *ret);
int store_drop_oldest_login_state(Store *s);

int store_find_login_state(Store *s, const uint8_t hash[static 32], LoginStateRow **ret);
int store_list_config(Store *s, ConfigRowList *ret); /* by key */

int store_find_revision(Store *s, const char *service_id, uint64_t revision, RevisionRow **ret);
/* The newest good one that is not "except" (0: none); -ENOENT. */
int store_find_good_revision(Store *s, const char *service_id, uint64_t except, RevisionRow **ret);
/* The image of that one; 0 when there is none, or its bytes are not known. */
int store_find_rollback_digest(Store *s, const char *service_id, uint64_t except, char **ret);
int store_list_revisions(Store *s, const char *service_id, RevisionRowList *ret); /* newest first */

int store_find_volume(Store *s, const char *grid_id, const char *name, VolumeRow **ret);
int store_list_volumes(Store *s, const char *grid_id, VolumeRowList *ret);
int store_find_volume_instance(Store *s, const char *node_id, const char *name, VolumeInstanceRow **ret);
int store_list_volume_instances_of_volume(Store *s, const char *volume_id, VolumeInstanceRowList *ret);
int store_list_volume_instances_of_node(Store *s, const char *node_id, VolumeInstanceRowList *ret);

int store_find_secret(Store *s, const char *grid_id, const char *name, SecretRow **ret);
int store_list_secrets(Store *s, const char *grid_id, SecretRowList *ret);
int store_find_registry(Store *s, const char *grid_id, const char *name, RegistryRow **ret);
int store_list_registries(Store *s, const char *grid_id, RegistryRowList *ret);

int store_find_run_at(Store *s, const char *service_id, uint64_t scheduled_at, RunRow **ret);
int store_list_runs(Store *s, const char *service_id, uint32_t limit, RunRowList *ret); /* newest first */
int store_list_unfinished_runs(Store *s, RunRowList *ret);                              /* oldest first */
int store_list_scheduled_services(Store *s, ServiceRowList *ret); /* next_run_at > 0, soonest first */

/* Oneshot hooks that were done, "pre_start/migrate", by instance number; they go with the service. One that is gone, whose instances may
 * outlive it, remembers none. */
int store_put_hook_done(Store *s, const char *service_id, uint32_t number, const char *hook);
int store_list_hooks_done(Store *s, const char *service_id, uint32_t number, char ***ret);

int store_find_grid(Store *s, const char *name, GridRow **ret);
int store_find_grid_by_token_id(Store *s, const char *token_id, GridRow **ret);
int store_list_grids(Store *s, GridRowList *ret);

/* What changes all the time and is of no interest but to who looks: the report (NULL: stays) and when the node was last heard of. No watch is
 * told of it. */
int store_put_node_seen(
                Store *s, const char *id, const char *grid_id, json_object *report, uint64_t seen_at);
int store_find_node(Store *s, const char *grid_id, const char *name, NodeRow **ret);
int store_list_nodes_away(Store *s, const char *grid_id, NodeRowList *ret); /* not connected */
int store_get_node_name(Store *s, const char *id, char **ret);              /* without reading its report */
int store_find_node_by_key(Store *s, const char *node_key, NodeRow **ret);
int store_find_node_by_machine_id(Store *s, const char *grid_id, const char *machine_id, NodeRow **ret);
int store_list_nodes(Store *s, const char *grid_id, NodeRowList *ret);
int store_list_node_ids(Store *s, const char *grid_id, char ***ret); /* by name; NULL: there are none */
/* Those that have joined, and whose last report names other authorities than these, or none. */
int store_list_nodes_not_trusting(Store *s, const char *digest, NodeRowList *ret);
int store_next_node_number(
                Store *s, const char *grid_id, uint32_t *ret); /* lowest free; -E2BIG: the grid is full */

int store_find_service(Store *s, const char *grid_id, const char *stack, const char *name, ServiceRow **ret);
int store_list_services(Store *s, const char *grid_id /* NULL: all grids */, ServiceRowList *ret);
/* Newest first; stack NULL: of all. NULL: there are none. */
int store_list_service_ids(Store *s, const char *grid_id, const char *stack, char ***ret);

/* Counted by the database, for lists of many. */
typedef struct ServiceSummary {
        uint32_t instances, running; /* CURRENT and not TERMINATED; of these, running on a connected node */
        bool deploying;              /* has an unfinished deploy */
        char *error;                 /* of the lowest instance that has one, NULL: none */
        uint32_t error_number;
        uint64_t error_restarts;
        char *waiting; /* "waiting for READY=1": of the lowest that is not up yet, NULL: none */
        uint32_t waiting_number;
} ServiceSummary;
void service_summary_done(ServiceSummary *s);
int store_summarize_service(Store *s, const char *service_id, ServiceSummary *ret);

typedef struct GridSummary {
        uint32_t nodes, nodes_online, services;
} GridSummary;
int store_summarize_grid(Store *s, const char *grid_id, GridSummary *ret);
int store_count_instances_of_node(Store *s, const char *node_id, uint32_t *ret); /* not TERMINATED */

/* A service that is removed vanishes at once. Its placed instances become TERMINATED rows whose service_id names nothing any
 * more; they keep their address reserved until their node says that they are gone, or is itself removed. store_delete_service()
 * is -EBUSY while another kind of instance is left. Its deploys stay for an hour after their end, for who follows one.
 * store_delete_node() is -EBUSY while instances name the node, store_delete_grid() while it has nodes or services. With a service
 * go its revisions, runs and hooks, with a node what volumes it had, with a grid its volumes, secrets and registries. */

/* The node is told to remove it, after that many seconds; one that was never placed is deleted. */
int store_terminate_instance(Store *s, InstanceRow *row, uint32_t drain_sec);
int store_list_instances_of_grid(Store *s, const char *grid_id, InstanceRowList *ret);
int store_list_instances_of_service(Store *s, const char *service_id, InstanceRowList *ret);
/* Alone, oldest first: for who looks at many, a few at a time. NULL: there are none. */
int store_list_instance_ids_of_grid(Store *s, const char *grid_id, char ***ret);
int store_list_instance_ids_of_service(Store *s, const char *service_id, bool by_number, char ***ret);
int store_list_instances_nowhere(Store *s, const char *grid_id, InstanceRowList *ret); /* on no node */
int store_list_instances_of_node(Store *s, const char *node_id, InstanceRowList *ret);

int store_list_deploys(
                Store *s, const char *service_id, uint32_t limit, DeployRowList *ret); /* newest first */
int store_list_unfinished_deploys(Store *s, DeployRowList *ret); /* oldest first, without steps */
int store_put_deploy_step(Store *s, const DeployStepRow *step);
DeployStepRow *deploy_step_row_free(DeployStepRow *row);

int store_add_event(Store *s, const EventRow *e); /* id is given by the store; old ones are pruned */
int store_get_event(Store *s, uint64_t id,
                EventRow **ret); /* the id that the watch is told is this number in decimal */
EventRow *event_row_free(EventRow *row);
DEFINE_TRIVIAL_CLEANUP_FUNC(EventRow *, event_row_free);
typedef struct EventRowList {
        EventRow **rows;
        size_t n;
} EventRowList;
void event_row_list_done(EventRowList *l);
typedef struct EventFilter {
        const char *grid_id, *node_id, *service_id; /* NULL: any */
        uint64_t since, after_id;
        uint32_t limit;
} EventFilter;
int store_list_events(Store *s, const EventFilter *f, EventRowList *ret); /* oldest first */

/* Small values: rotating counters, the CA's sealed key, … */
int store_get_value(Store *s, const char *key, void **ret, size_t *ret_size);
int store_put_value(Store *s, const char *key, const void *value, size_t size);

/* Who asked for what. audit-chain.c gives ids and hashes, each row's of the row before. */
typedef struct AuditRow {
        uint64_t id, time;
        char *grid;  /* "": of none */
        int64_t uid; /* -1: unknown */
        char *user;  /* who has logged in, by e-mail; "": nobody, or the row is of an earlier version */
        char *operation, *status;
        char *record; /* JSON */
        void *hash;   /* NULL: of an earlier version */
        size_t hash_size;
} AuditRow;

AuditRow *audit_row_free(AuditRow *row);
DEFINE_TRIVIAL_CLEANUP_FUNC(AuditRow *, audit_row_free);
typedef struct AuditRowList {
        AuditRow **rows;
        size_t n;
} AuditRowList;
void audit_row_list_done(AuditRowList *l);

typedef struct AuditFilter {
        const char *grid, *operation; /* NULL: any; operation "service": all of services */
        const char *user;             /* e-mail; NULL: any */
        int64_t uid;                  /* -1: any */
        bool refused;
        uint64_t since, until, after_id, before_id; /* until, before_id 0: no end */
        uint32_t limit;
} AuditFilter;

int store_add_audit(Store *s, const AuditRow *row);
int store_last_audit(Store *s, AuditRow **ret); /* -ENOENT */
/* The newest up to that id. -ENOENT. */
int store_find_audit(Store *s, uint64_t up_to, AuditRow **ret);
int store_list_audit(Store *s, const AuditFilter *f, AuditRowList *ret); /* oldest first */
int store_next_audit(Store *s, uint64_t after_id, uint32_t limit, AuditRowList *ret);
int store_prune_audit(Store *s, uint64_t up_to); /* removes these and those before */
int store_count_audit(Store *s, uint64_t up_to, uint64_t *ret);
