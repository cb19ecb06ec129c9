/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "channel.h"

/* How kontena-channel is started: as a transient unit in the daemon, as a child in tests. */
typedef struct ChannelLink {
        /* Gives the socket to the program. ended may be called once, later, from the loop, with why (NULL: exit status 0). */
        int (*start)(const char *state_directory, void (*ended)(const KError *error, void *userdata),
                        void *userdata, void *link_userdata, void **ret_handle, int *ret_fd);
        void (*stop)(void *handle, void *link_userdata); /* ended is not called any more */
        void (*free)(void *link_userdata);               /* with the channel; may be NULL */
        void *userdata;
} ChannelLink;

int channel_new_full(sd_event *event, const ChannelLink *link, const ChannelConfig *config,
                channel_method_t on_method, channel_state_changed_t on_state, void *userdata, Channel **ret);
