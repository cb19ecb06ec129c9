/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "caller.h"
#include "kerror.h"
#include "macro.h"
#include "master.h"

/* What goes on after it was allowed, a command, a copy, a log that is followed, has to end when its caller may no longer do that: the token was
 * revoked or has expired, the user was removed, lost a role, or left the grid. Only callers with a token are watched: what polkit has said, it has
 * said of that moment. */
typedef struct Standings Standings;
typedef struct Standing Standing;

int standings_new(Master *m, Standings **ret); /* m->standings */
Standings *standings_free(Standings *l); /* whose standings must not be used any more, but can be freed */
DEFINE_TRIVIAL_CLEANUP_FUNC(Standings *, standings_free);
void standings_check(Standings *l); /* as when users change, and now and then */

/* Called at most once, from the loop, with why. The standing may be freed inside, others of the same owner too. */
typedef void (*standing_lost_t)(const KError *error, void *userdata);

/* role and grid are those of the operation that allowed it. *ret is NULL when there is nothing to watch. */
int standing_new(Master *m, Caller *c, const char *role, const char *grid, standing_lost_t lost,
                void *userdata, Standing **ret);
Standing *standing_free(Standing *s);
DEFINE_TRIVIAL_CLEANUP_FUNC(Standing *, standing_free);
