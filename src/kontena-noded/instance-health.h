/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "kerror.h"
#include "macro.h"

struct Instance;

/* When a container counts as up, and what follows when it does no longer: READY=1 and health checks. */

/* SyncStep: SYNC_DONE when it is up as far as this can say. Of a container that runs and is the right one. */
int instance_health_settle(struct Instance *i, KError *reterr);

/* Does anything but its staying say that it is up? */
bool instance_says_when_up(const struct Instance *i);
/* What the end of a sentence "before ..." names, while it is waited for; else NULL. */
char *instance_awaits(const struct Instance *i);

/* Before its unit is started: the socket is there. */
int instance_notify_prepare(struct Instance *i, KError *reterr);
/* What systemd held for us. */
void instance_notify_adopt(struct Instance *i);
/* The container's generation is over. */
void instance_notify_close(struct Instance *i);

/* No more questions to this container. */
void instance_health_stop(struct Instance *i);
/* It ends or has ended: what it has said and what was seen of it concerns no other. */
void instance_health_forget(struct Instance *i);
