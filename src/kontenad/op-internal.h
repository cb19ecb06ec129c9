/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "operation.h"

/* Performed in a file of their own, because they go on after the function has returned. */
int service_restart(OperationCall *c, json_object **ret, KError *reterr);
