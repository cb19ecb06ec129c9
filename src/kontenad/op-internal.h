/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "operation.h"

/* prepare of service.create and service.update: what systemd says of the schedule. */
int service_check_schedule(OperationCall *c, KError *reterr);

/* Performed in a file of their own, because they go on after the function has returned. */
int service_restart(OperationCall *c, json_object **ret, KError *reterr);
int volume_snapshot(OperationCall *c, json_object **ret, KError *reterr); /* all of volume.snapshot-* */

/* Gives the call's node, or one that is being made, a token of its own; *ret is the whole of it, erase it. */
int node_make_token(OperationCall *c, NodeRow *n, char **ret, KError *reterr);

/* Parameter "instance", a number of the call's service: the current one of that number, and the session of its node, which is online. */
struct NodeSession;
int call_instance(OperationCall *c, InstanceRow **ret, struct NodeSession **ret_session, KError *reterr);

/* Parameter "volume", and of its places those that "options" (node, instance) means: at least one. */
int volume_select(OperationCall *c, const char *const *settings, VolumeRow **ret,
                VolumeInstanceRowList *ret_places, KError *reterr);
