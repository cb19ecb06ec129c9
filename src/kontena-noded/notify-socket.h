/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>
#include <systemd/sd-event.h>

#include "kontena-limits.h"
#include "macro.h"

/* Where a container says that it is up: "READY=1" to $NOTIFY_SOCKET. The socket lies in a directory of its own, below the
 * container's, which is mounted into it; so only the container can reach it, and a socket bound anew is seen there, too. */
#define NOTIFY_DIRECTORY     "notify" /* below the container's directory */
#define NOTIFY_NAME          "notify" /* in that one */
#define NOTIFY_CONTAINER_DIR "/run/kontena"

typedef struct NotifyMessage {
        bool ready;
        char status[NOTIFY_STATUS_MAX + 1]; /* "" if there was none that can be shown */
} NotifyMessage;

/* True when something in it is for us. Everything else that containers may say is for others. */
bool notify_message_parse(const char *text, size_t size, NotifyMessage *ret);

/* /proc/PID/cgroup: is it below the unit's group? */
bool notify_sender_is_of_unit(const char *cgroup_file, const char *unit);

typedef struct NotifySocket NotifySocket;

/* sender: 0 if the kernel could not say it. */
typedef void (*notify_message_t)(NotifySocket *n, const NotifyMessage *m, pid_t sender, void *userdata);

/* Makes directory and socket; what was there before is replaced. Whatever user the container runs as may write. */
int notify_socket_bind(const char *directory, int *ret_fd);
/* Silent at first: what is sent waits in the kernel. */
int notify_socket_new(sd_event *event, int consume_fd, notify_message_t message, void *userdata,
                NotifySocket **ret);
NotifySocket *notify_socket_free(NotifySocket *n);
DEFINE_TRIVIAL_CLEANUP_FUNC(NotifySocket *, notify_socket_free);

int notify_socket_fd(const NotifySocket *n);
/* At most NOTIFY_MESSAGES_PER_SECOND_MAX are read in a second: who sends more waits. */
void notify_socket_listen(NotifySocket *n);
/* Silent again, and what was sent is forgotten. */
void notify_socket_flush(NotifySocket *n);
