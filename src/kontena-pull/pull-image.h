/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "kerror.h"
#include "macro.h"
#include "report.h"
#include "request.h"

/* The whole way from a reference to a record in the store. ret_result is the line for noded. */
int pull_image(const Request *q, Report *report, json_object **ret_result, KError *reterr);

/* Reads a request from one descriptor and answers on the other; enter_sandbox() is called in between. Returns the
 * exit status. */
int pull_serve(int input_fd, int output_fd, int (*enter_sandbox)(void));
