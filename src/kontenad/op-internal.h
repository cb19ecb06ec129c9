/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "operation.h"

/* Performed in a file of their own, because they go on after the function has returned. */
int service_restart(OperationCall *c, json_object **ret, KError *reterr);
int volume_snapshot(OperationCall *c, json_object **ret, KError *reterr); /* all of volume.snapshot-* */

/* Parameter "volume", and of its places those that "options" (node, instance) means: at least one. */
int volume_select(OperationCall *c, VolumeRow **ret, VolumeInstanceRowList *ret_places, KError *reterr);
