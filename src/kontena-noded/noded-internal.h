/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "noded.h"

/* Shared by noded.c (putting the parts together), reconcile.c (from desired state to instances and network) and
 * node-channel.c (the master's messages). */

/* reconcile.c */
int manager_load_instances(Manager *m);
/* Soon; many changes make one run. */
void manager_schedule_reconcile(Manager *m);
void manager_forget_instance(Manager *m, Instance *i);
int manager_all_status(Manager *m, json_object **ret);

/* node-channel.c */
void manager_channel_method(
                Channel *c, uint64_t id, const char *method, json_object *params, void *userdata);
void manager_channel_state(Channel *c, ChannelState state, void *userdata);
int manager_send(const char *method, json_object *params, void *userdata);

/* node-streams.c */
void manager_channel_binary(Channel *c, const void *data, size_t size, void *userdata);

/* node-volumes.c */
int manager_new_volumes(Manager *m);
void manager_reconcile_volumes(Manager *m);
void manager_volume_snapshot(Manager *m, uint64_t id, json_object *params);

/* node-images.c */
void manager_give_credentials(Manager *m); /* to its pulls */
void manager_image_resolve(Manager *m, uint64_t id, json_object *params);
/* The connection is gone, and with it who asked. */
void manager_forget_image_questions(Manager *m);
void manager_forget_image_listings(Manager *m);

/* node-image-list.c */
void manager_image_list(Manager *m, uint64_t id, json_object *params);
void manager_image_prune(Manager *m, uint64_t id, json_object *params);

/* node-links.c */
void manager_network_changed(Network *n, NetworkChange change, void *userdata);
void manager_send_links(Manager *m);
void manager_links_get(Manager *m, uint64_t id, json_object *params);
/* The connection is gone, and with it who asked. */
void manager_forget_link_questions(Manager *m);

/* noded.c */
void manager_report_soon(Manager *m); /* this machine, to the master */
void manager_update_status(Manager *m);
/* message_id: of message-id.h, or NULL. */
void manager_say(Manager *m, const char *message_id, const char *severity, const char *type,
                const char *format, ...) _printf_(5, 6);
