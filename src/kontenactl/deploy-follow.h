/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "ctl.h"

/* Runs a call that answers with the path of a deploy, and follows that deploy to its end. */
typedef struct FollowRequest {
        const ServiceName *service;
        sd_bus_message *call; /* NULL: the deploy exists, see path */
        const char *path;
        const char *success; /* what is true then, a sentence without its stop; NULL: so many instances run */
        bool block;          /* false: only say its id */
        uint64_t timeout_usec; /* 0: none */
} FollowRequest;

extern const OptionDef follow_options[];
int follow_request_init(FollowRequest *ret, const Arguments *a, KError *reterr);

/* 0: success, or not waited for. FOLLOW_INTERRUPTED after Ctrl-C. Negative: the deploy failed, was cancelled or superseded, the
 * time-out passed, or the master was lost. */
int deploy_follow(Ctl *c, const FollowRequest *f, KError *reterr);
#define FOLLOW_INTERRUPTED (128 + 2)

bool deploy_state_is_final(const char *state) _pure_;

/* The part of a path behind the prefix, decoded: the id of a deploy. */
int deploy_id_from_path(const char *path, char **ret);
int deploy_path_from_id(const char *id, char **ret);
