/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "commands.h"
#include "ctl.h"

const OptionDef audit_options[] = {
        { .name = "until", .argument = "TIME", .help = "Older than that" },
        { .name = "user", .argument = "USER", .help = "Only by this user, a name or a number" },
        { .name = "operation",
                        .argument = "NAME",
                        .help = "Only this one, \"service.scale\", or all of one kind, \"service\"" },
        { .name = "refused", .help = "Only what was refused for lack of rights" },
        {},
};

static const OptionDef verify_options[] = {
        { .name = "anchor",
                        .argument = "ANCHOR",
                        .repeat = true,
                        .help = "Also compare with this, which an earlier run has printed" },
        { .name = "no-journal", .help = "Do not compare with what the journal of this machine knows" },
        {},
};

const CommandDef audit_commands[] = {
        { .group = "audit",
                        .name = "list",
                        .alias = "ls",
                        .help = "List who asked for what, and what came of it",
                        .standard = true,
                        .options = { stream_options, audit_options },
                        .run = command_audit_list },
        { .group = "audit",
                        .name = "verify",
                        .help = "Look for rows that were changed, added or removed",
                        .options = { verify_options },
                        .run = command_audit_verify },
        {},
};
