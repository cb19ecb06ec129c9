/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "data-copy.h"
#include "deployer.h"
#include "file-util.h"
#include "json-util.h"
#include "log-streams.h"
#include "master.h"
#include "node-session.h"
#include "node-tracker.h"
#include "placement-cache.h"
#include "rescheduler.h"
#include "store.h"
#include "string-util.h"
#include "test.h"

/* What the tests of the engine share: a master without faces on a store in a temporary directory, a clock that they set,
 * a store that dies where they say, and sessions that only remember what was sent. The test is linked with
 * --wrap=now_realtime,--wrap=store_begin,--wrap=store_commit, and defines the functions of node-session.h, events.h and
 * log-streams.h that the engine calls. */
typedef struct Engine {
        Master m;
        char directory[64];
        bool tracked; /* with a NodeTracker and a Rescheduler */
} Engine;

extern uint64_t fake_now;
/* Commits that still succeed; then, before or after one is written, the store is dead. -1: never. */
extern int commits_left;
extern bool die_after_commit, store_is_dead;
/* Messages of events since the engine started, joined by newlines. */
extern char *event_log;

void engine_start(Engine *e, bool tracked); /* again after engine_stop(): as after a restart of the master */
void engine_stop(Engine *e);                /* also as after a kill: nothing is written */
void engine_remove(Engine *e);              /* deletes the store */
void engine_settle(Engine *e);              /* runs the event loop until nothing is to be done now */
void engine_wait(Engine *e, uint64_t usec); /* ... for that long, in real time */

void engine_begin(Engine *e);
void engine_commit(Engine *e);

void add_grid(Engine *e, const char *id, const char *subnet);
void add_node(Engine *e, const char *grid_id,
                uint32_t number); /* id and name "n<number>", connected, 4 CPUs */
void set_connected(Engine *e, const char *node_id, bool connected);
void remove_node(Engine *e, const char *node_id); /* as the operation does */
void add_service(Engine *e, const char *grid_id, const char *name,
                const char *spec); /* id "s-<name>", in the null stack */
void set_spec(Engine *e, const char *service_id, const char *spec, bool is_update);
char *request_deploy(Engine *e, const char *service_id, bool force);

/* Nodes that do what they are told, at once: what is wanted runs, unless its image is "bad" or the node is not connected. */
bool nodes_work(Engine *e, const char *grid_id);

DeployRow *get_deploy(Engine *e, const char *id);
InstanceRow *get_instance(Engine *e, const char *service_id, uint32_t number);

/* A grid "grid" with a token, and who comes with it. */
#define GRID_SECRET "abcdefghijklmnopqrstuvwxyz234567abcdefgh"
void make_joinable_grid(Engine *e, const char *subnet);
NodeIntroduction introduction(const char *key);
int admit(Engine *e, const NodeIntroduction *who, char **ret_id, KError *reterr);
NodeRow *get_node(Engine *e, const char *id);
unsigned count_events(const char *part);

/* Fake sessions. */
struct NodeSession {
        char *node_id;
        uint64_t id;
        char *last_method;
        json_object *last, *reply; /* params of the last notification, the last reply */
        unsigned n_notified;
        int close_code;
        char *close_reason;
        KError error;
};
/* What session_call() is given; a test answers by calling fake_call_done. fake_session is the session of every node; NULL: none. */
extern NodeSession *fake_session;
extern session_result_t fake_call_done;
extern void *fake_call_userdata;
/* What data_copy_run() says, and how often it was asked. */
extern int fake_copy_result;
extern unsigned fake_copies;
NodeSession *session_new(const char *node_id, uint64_t id);
void session_free(NodeSession *s);
