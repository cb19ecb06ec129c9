/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "commands.h"
#include "ctl.h"

const CommandDef event_commands[] = {
        { .group = "event",
                        .name = "list",
                        .alias = "ls",
                        .help = "List what happened",
                        .options = { stream_options, event_options },
                        .run = command_event_list },
        {},
};
