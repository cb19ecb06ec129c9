/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-bus.h>

#include "kerror.h"
#include "macro.h"

/* Containers stand still while their volume is copied: systemd freezes their units. Whom we froze is written down before, so that
 * a daemon that is killed finds them on its next start and lets them go. */
typedef struct Freezer Freezer;

/* Thaws whom the last daemon has left frozen. */
int freezer_new(sd_bus *bus, const char *run_directory, Freezer **ret);
Freezer *freezer_free(Freezer *f);
DEFINE_TRIVIAL_CLEANUP_FUNC(Freezer *, freezer_free);

/* Does it stand still because of us? */
bool freezer_holds(const Freezer *f, const char *unit);

typedef struct Freeze Freeze;
/* All stand still, or error says who does not. Called once, from the loop. */
typedef void (*freeze_done_t)(Freeze *z, const KError *error, void *userdata);

int freeze_start(Freezer *f, char *const *units, freeze_done_t done, void *userdata, Freeze **ret);
/* Thaws; done is not called any more. */
Freeze *freeze_end(Freeze *z);
DEFINE_TRIVIAL_CLEANUP_FUNC(Freeze *, freeze_end);
