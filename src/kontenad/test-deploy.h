/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "test-engine.h"

/* What the tests of deploys share: a grid "g" with one service "web", and nodes that do what they are told. */
#define WEB3      "{\"image\": \"web:1\", \"count\": 3}"
#define STOP_WEB3 "{\"image\": \"web:1\", \"count\": 3, \"deploy_order\": \"stop-first\"}"

void make(Engine *e, unsigned n_nodes, const char *spec);
size_t play(Engine *e, const char *deploy);
void assert_deploy(Engine *e, const char *id, DeployState state, const char *reason);
void assert_event(const char *part);
void pass_time(Engine *e, uint64_t usec);
void assert_consistent(Engine *e, uint32_t n, const char *image);
