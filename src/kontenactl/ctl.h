/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>
#include <sys/types.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "kerror.h"
#include "macro.h"
#include "options.h"
#include "table.h"

/* One run of the command: its common options and its connection. */
typedef enum JsonMode {
        JSON_OFF,
        JSON_SHORT,
        JSON_PRETTY,
        _JSON_MODE_MAX,
        _JSON_MODE_INVALID = -EINVAL,
} JsonMode;

struct Context;

struct Ctl {
        const char *host, *machine; /* where the bus is; both NULL: here, or: */
        struct Context *context;    /* a master that is reached by HTTPS; see ctl_context() */
        const char *context_option; /* --context, as given */
        bool context_known;         /* looked for */
        const char *grid;           /* as given; NULL: look */
        JsonMode json;
        bool legend, full, quiet, pager, ask_password;
        uint64_t call_timeout_usec; /* 0: long enough to find and type a password */

        sd_bus *bus;
        sd_event *event;
        char *default_grid;
        pid_t agent_pid; /* pkttyagent */
        pid_t bridge_pid;
        int bridge_out;     /* where it says why it ended; -EBADF: there is none */
        KError lost;        /* why it ended, once that is known */
        bool token_refused; /* at the last attempt to connect */
};

void ctl_done(Ctl *c);
#define _cleanup_ctl_ _cleanup_(ctl_done)

int ctl_setup(Ctl *c, const Arguments *a, KError *reterr);
int kontenactl_main(int argc, char **argv);

#define MASTER_NAME    "io.kontena.Master1"
#define MASTER_PATH    "/io/kontena/Master1"
#define MASTER_MANAGER "io.kontena.Master1.Manager"
#define NODE_NAME      "io.kontena.Node1"
#define NODE_PATH      "/io/kontena/Node1"

/* ctl-bus.c: the connection is opened by the first call. */
int ctl_bus(Ctl *c, sd_bus **ret, KError *reterr);
int ctl_loop(Ctl *c, KError *reterr); /* makes c->event and attaches the bus to it */

/* A method of the manager. ctl_call() appends simple arguments; for dictionaries make the message, append, send. */
int ctl_message(Ctl *c, const char *method, sd_bus_message **ret, KError *reterr);
int ctl_send(Ctl *c, sd_bus_message *m, sd_bus_message **ret_reply, KError *reterr);
int ctl_call(Ctl *c, const char *method, sd_bus_message **ret_reply, KError *reterr, const char *types, ...);
/* The first value of the reply, a{sv} and aa{sv} as JSON. */
int ctl_call_json(Ctl *c, const char *method, json_object **ret, KError *reterr, const char *types, ...);
int ctl_send_json(Ctl *c, sd_bus_message *m, json_object **ret, KError *reterr);
/* Property names as keys. */
int ctl_get_properties(Ctl *c, const char *name, const char *path, const char *interface, json_object **ret,
                KError *reterr);
/* Turns what a peer or the bus said into our codes; sentences for "nobody is there". Returns the errno. */
int ctl_bus_error(Ctl *c, const sd_bus_error *e, int error, KError *reterr);
bool ctl_is_remote(Ctl *c);
/* Instead of one by HTTPS that was lost, with c->event. Whoever subscribed to signals does so again. */
int ctl_reconnect(Ctl *c, KError *reterr);
/* The connection has ended: says why, as far as is known. Returns the errno. */
int ctl_connection_lost(Ctl *c, KError *reterr);

/* ctl-context.c: --context, $KONTENA_URL and $KONTENA_TOKEN, or the current context. NULL: the bus of this machine, or of -H and -M. */
int ctl_context(Ctl *c, struct Context **ret, KError *reterr);
/* For what is about this machine, whatever is selected. */
void ctl_use_local(Ctl *c);
int ctl_open_remote(Ctl *c, sd_bus **ret, KError *reterr);
void ctl_end_bridge(Ctl *c); /* whose connection is no more */
void ctl_close_remote(Ctl *c);

/* Names */
int ctl_grid(Ctl *c, const char **ret, KError *reterr); /* --grid, $KONTENA_GRID, or the only one */
typedef struct ServiceName {
        char *grid, *stack, *service;
} ServiceName;
void service_name_done(ServiceName *n);
#define _cleanup_service_name_ _cleanup_(service_name_done)
int ctl_service_name(Ctl *c, const char *text, ServiceName *ret, KError *reterr);
/* "web-1", "stack/web-1": an instance; "web", "stack/web": its service, and number 0. A service may itself be called "web-1": what is
 * a service is one. */
int ctl_instance_name(Ctl *c, const char *text, ServiceName *ret, unsigned *ret_number, KError *reterr);
/* The same, but of a service the first instance that runs. */
int ctl_instance_find(Ctl *c, const char *text, ServiceName *ret, unsigned *ret_number, KError *reterr);
/* "web" of the null stack, "stack/web"; as people write it. */
char *service_display_name(const char *stack, const char *service);

/* Output of rows and records in the form asked for. nothing is said when there are no rows. */
int ctl_print_rows(
                Ctl *c, const TableColumn *columns, json_object *rows, const char *nothing, KError *reterr);
int ctl_print_record(Ctl *c, const TableColumn *fields, json_object *record, KError *reterr);
int ctl_print_json(Ctl *c, json_object *o);
/* One bare text; as JSON an object with that key. */
int ctl_print_text(Ctl *c, const char *key, const char *text, KError *reterr);
void ctl_open_pager(Ctl *c);
/* A sentence about what was done, not with --quiet. */
void ctl_say(const Ctl *c, const char *format, ...) _printf_(2, 3);
void ctl_warn(const char *format, ...) _printf_(1, 2);

/* JSON rows: borrowed text, "" when missing or of another type. */
const char *row_string(json_object *row, const char *key);
int64_t row_int(json_object *row, const char *key);
bool row_bool(json_object *row, const char *key);

/* Columns that several commands share. */
Color state_color(json_object *row, json_object *value);
int format_service_name(json_object *row, json_object *value, char **ret);

/* The commands, each family in its file. */
#define DECLARE_COMMAND(name) int name(Ctl *c, const Arguments *a, KError *reterr)
DECLARE_COMMAND(command_grid_create);
DECLARE_COMMAND(command_grid_list);
DECLARE_COMMAND(command_grid_show);
DECLARE_COMMAND(command_grid_update);
DECLARE_COMMAND(command_grid_remove);
DECLARE_COMMAND(command_grid_token);
DECLARE_COMMAND(command_node_list);
DECLARE_COMMAND(command_node_show);
DECLARE_COMMAND(command_node_create);
DECLARE_COMMAND(command_node_update);
DECLARE_COMMAND(command_node_label);
DECLARE_COMMAND(command_node_remove);
DECLARE_COMMAND(command_node_join);
DECLARE_COMMAND(command_node_leave);
DECLARE_COMMAND(command_node_token);
DECLARE_COMMAND(command_node_reset_token);
DECLARE_COMMAND(command_node_clear_token);
DECLARE_COMMAND(command_service_create);
DECLARE_COMMAND(command_service_update);
DECLARE_COMMAND(command_service_list);
DECLARE_COMMAND(command_service_show);
DECLARE_COMMAND(command_service_deploy);
DECLARE_COMMAND(command_service_history);
DECLARE_COMMAND(command_service_diff);
DECLARE_COMMAND(command_service_rollback);
DECLARE_COMMAND(command_service_move);
DECLARE_COMMAND(command_service_scale);
DECLARE_COMMAND(command_service_start);
DECLARE_COMMAND(command_service_stop);
DECLARE_COMMAND(command_service_restart);
DECLARE_COMMAND(command_service_remove);
DECLARE_COMMAND(command_service_logs);
DECLARE_COMMAND(command_deploy_list);
DECLARE_COMMAND(command_deploy_show);
DECLARE_COMMAND(command_deploy_cancel);
DECLARE_COMMAND(command_image_list);
DECLARE_COMMAND(command_image_prune);
DECLARE_COMMAND(command_registry_add);
DECLARE_COMMAND(command_registry_list);
DECLARE_COMMAND(command_registry_remove);
DECLARE_COMMAND(command_job_list);
DECLARE_COMMAND(command_job_run);
DECLARE_COMMAND(command_job_show);
DECLARE_COMMAND(command_job_logs);
DECLARE_COMMAND(command_job_cancel);
DECLARE_COMMAND(command_vault_write);
DECLARE_COMMAND(command_vault_update);
DECLARE_COMMAND(command_vault_read);
DECLARE_COMMAND(command_vault_list);
DECLARE_COMMAND(command_vault_remove);
DECLARE_COMMAND(command_vault_export);
DECLARE_COMMAND(command_vault_import);
DECLARE_COMMAND(command_volume_create);
DECLARE_COMMAND(command_volume_list);
DECLARE_COMMAND(command_volume_show);
DECLARE_COMMAND(command_volume_remove);
DECLARE_COMMAND(command_volume_snapshots);
DECLARE_COMMAND(command_volume_snapshot);
DECLARE_COMMAND(command_volume_restore);
DECLARE_COMMAND(command_volume_remove_snapshot);
DECLARE_COMMAND(command_volume_export);
DECLARE_COMMAND(command_volume_import);
DECLARE_COMMAND(command_cp);
DECLARE_COMMAND(command_exec);
DECLARE_COMMAND(command_attach);
DECLARE_COMMAND(command_event_list);
DECLARE_COMMAND(command_master_ca);
DECLARE_COMMAND(command_user_list);
DECLARE_COMMAND(command_user_show);
DECLARE_COMMAND(command_user_invite);
DECLARE_COMMAND(command_user_remove);
DECLARE_COMMAND(command_user_add_role);
DECLARE_COMMAND(command_user_remove_role);
DECLARE_COMMAND(command_user_map);
DECLARE_COMMAND(command_grid_users);
DECLARE_COMMAND(command_grid_add_user);
DECLARE_COMMAND(command_grid_remove_user);
DECLARE_COMMAND(command_token_list);
DECLARE_COMMAND(command_token_show);
DECLARE_COMMAND(command_token_create);
DECLARE_COMMAND(command_token_remove);
DECLARE_COMMAND(command_config_list);
DECLARE_COMMAND(command_config_get);
DECLARE_COMMAND(command_config_set);
DECLARE_COMMAND(command_config_unset);
DECLARE_COMMAND(command_config_export);
DECLARE_COMMAND(command_config_import);
DECLARE_COMMAND(command_master_admin_code);
DECLARE_COMMAND(command_audit_list);
DECLARE_COMMAND(command_audit_verify);
DECLARE_COMMAND(command_login);
DECLARE_COMMAND(command_logout);
DECLARE_COMMAND(command_whoami);
DECLARE_COMMAND(command_context_list);
DECLARE_COMMAND(command_context_use);
DECLARE_COMMAND(command_context_show);
DECLARE_COMMAND(command_context_remove);
DECLARE_COMMAND(command_status);
DECLARE_COMMAND(command_top);
DECLARE_COMMAND(command_inspect);
DECLARE_COMMAND(command_bootstrap);
DECLARE_COMMAND(command_complete);
DECLARE_COMMAND(command_dump_tables);
