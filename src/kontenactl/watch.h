/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "ctl.h"

/* Commands that follow something live through a restart of the master, and through the loss of a connection by HTTPS, which is made anew
 * until it is there or the token is refused. back() is tried until it succeeds or, with a master that is there, a minute has passed, which
 * ends the loop with its error. */
typedef struct MasterWatch {
        Ctl *c;
        bool patient; /* false: the master's end is ours */
        int (*subscribe)(void *userdata,
                        KError *reterr); /* to signals, once on each connection; NULL: to none */
        int (*back)(void *userdata, KError *reterr);
        void *userdata;
        KError error; /* why the loop ended */

        bool gone, lost;          /* lost: the connection; gone, too */
        unsigned tries, connects; /* that failed, in a row */
        uint64_t connected_at;
        sd_event_source *retry_source;
} MasterWatch;

int master_watch_start(MasterWatch *w, KError *reterr); /* connects, subscribes */
/* A call has failed as the connection was lost, and that is mended: it is left to back(). */
bool master_watch_mends(MasterWatch *w);
/* Runs the loop until somebody ends it. */
int master_watch_run(MasterWatch *w, KError *reterr);
void master_watch_done(MasterWatch *w);

/* Asks check() now and whenever a signal of the match comes, until it returns 1 (the answer then), fails, or the time is over, which
 * is K_TIMEOUT with no message of its own. */
int ctl_wait(Ctl *c, const char *match, int (*check)(Ctl *c, void *userdata, KError *reterr), void *userdata,
                uint64_t timeout_usec, KError *reterr);

/* Until somebody has the name on the bus. */
int ctl_wait_for_name(Ctl *c, const char *name, uint64_t timeout_usec, KError *reterr);
