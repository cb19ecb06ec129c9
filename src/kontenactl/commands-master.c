/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "commands.h"
#include "ctl.h"

static const OptionDef ca_options[] = {
        { .name = "force",
                        .letter = 'f',
                        .help = "(rotate) At once; nodes that do not trust the next one are cut off" },
        { .name = "no-block", .help = "(rotate) Do not wait until all nodes have followed" },
        { .name = "timeout",
                        .argument = "TIME",
                        .help = "(rotate) Wait at most that long (2min); the master goes on" },
        {},
};

const CommandDef master_commands[] = {
        { .group = "master",
                        .name = "ca",
                        .synopsis = "[status|rotate|abort]",
                        .help = "Show or replace the master's certificate authority",
                        .args_max = 1,
                        .options = { ca_options },
                        .run = command_master_ca },
        { .group = "master",
                        .name = "admin-code",
                        .help = "Make a code that the first administrator logs in with, once",
                        .run = command_master_admin_code },
        { .group = "master",
                        .name = "audit-log",
                        .help = "The same as audit list",
                        .options = { stream_options, audit_options },
                        .run = command_audit_list },
        {},
};
