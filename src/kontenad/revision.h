/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"
#include "store.h"

/* The settings in service->spec become a new revision: the next number, stored with the service and its history. updated_at says
 * since when, so that a service that was deployed before is outdated. In a transaction. */
int revision_add(Store *s, ServiceRow *service, const char *author);
