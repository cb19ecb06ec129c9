/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "noded.h"
#include "streams.h"

/* The kinds of streams this node has, each in its file; userdata of open() is the Manager. */
extern const StreamProvider stream_provider_exec;
extern const StreamProvider stream_provider_archive_get;
extern const StreamProvider stream_provider_archive_put;
extern const StreamProvider stream_provider_volume_get;
extern const StreamProvider stream_provider_volume_put;
extern const StreamProvider stream_provider_instance_get, stream_provider_instance_put;

/* node-streams.c */
int manager_new_streams(Manager *m);
