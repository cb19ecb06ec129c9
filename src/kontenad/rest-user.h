/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "rest.h"

/* {users: …} of an operation, as the reference has it, with the route's status. */
int rest_reply_users(RestCall *c, json_object *result);
