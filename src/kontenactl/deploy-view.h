/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>
#include <stdio.h>

#include "macro.h"

/* How a deploy is shown while it goes on: redrawn in place on a terminal, elsewhere a line for each change. */
typedef struct DeployView {
        FILE *out, *err; /* err: failures, where nothing is redrawn */
        bool redraw, quiet;
        unsigned columns, rows;
        char *service; /* "web": instances are web-1, web-2 */

        unsigned drawn; /* lines to go up before drawing again */
        char **said;    /* last line said of each instance, in order of instances */
        size_t n_said;
} DeployView;

void deploy_view_done(DeployView *v);

/* One instance as a sentence: "web-1 on node2: pulling 43 %". instance is [number, node, state, progress, error]. */
char *deploy_view_line(const char *service, json_object *instance);

/* title is the first line on a terminal; note, if any, the last. */
int deploy_view_update(DeployView *v, const char *title, json_object *instances, const char *note);
/* Takes the drawing away, so that what follows stands alone. */
void deploy_view_erase(DeployView *v);

typedef struct DeployCounts {
        size_t total, running, failed;
} DeployCounts;
/* What an instance of a deploy, as ListDeploys has it, wrote before it failed; nothing where it wrote nothing. */
void deploy_print_log_tail(FILE *f, const char *service, json_object *instance);

DeployCounts deploy_count(json_object *instances);

/* Fields of [number, node, state, progress, error], never NULL. */
typedef enum DeployField {
        DEPLOY_NUMBER,
        DEPLOY_NODE,
        DEPLOY_STATE,
        DEPLOY_PROGRESS,
        DEPLOY_ERROR,
} DeployField;
const char *deploy_field(json_object *instance, DeployField field);
