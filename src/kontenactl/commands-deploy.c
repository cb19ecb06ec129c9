/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "commands.h"
#include "ctl.h"
#include "deploy-follow.h"

static const OptionDef deploy_show_options[] = {
        { .name = "follow", .letter = 'f', .help = "Follow it to its end" },
        {},
};

const CommandDef deploy_commands[] = {
        { .group = "deploy",
                        .name = "list",
                        .alias = "ls",
                        .synopsis = "[SERVICE]",
                        .help = "List deploys, newest first",
                        .args_max = 1,
                        .complete = { COMPLETE_SERVICE },
                        .run = command_deploy_list },
        { .group = "deploy",
                        .name = "show",
                        .synopsis = "DEPLOY",
                        .help = "Show a deploy, or follow it",
                        .args_min = 1,
                        .args_max = 1,
                        .complete = { COMPLETE_DEPLOY },
                        .options = { deploy_show_options, follow_options },
                        .run = command_deploy_show },
        { .group = "deploy",
                        .name = "cancel",
                        .synopsis = "DEPLOY",
                        .help = "Stop a deploy where it is",
                        .args_min = 1,
                        .args_max = 1,
                        .complete = { COMPLETE_DEPLOY },
                        .run = command_deploy_cancel },
        {},
};
