/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "macro.h"
#include "node-session.h"

/* Nodes of a test's making in the place of node-session.c: any node id is connected, or none, and answers are given by hand. */
void test_session_set_online(bool online);
void test_session_set_offline(const char *node_id); /* of those online, this one is not; NULL: none */
NodeSession *test_session(const char *node_id);
const char *test_session_last_method(void);
json_object *test_session_last_params(void);        /* borrowed */
unsigned test_session_n_open(void);                 /* calls without an answer */
size_t test_session_bytes(void);                    /* of binary messages, without their heads */
void test_session_answer(const char *error);        /* the oldest; NULL: success */
void test_session_answer_with(json_object *result); /* the oldest; consumed */
