/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "commands.h"
#include "ctl.h"

static const OptionDef list_options[] = {
        { .name = "node", .argument = "NODE", .help = "Of this node alone", .complete = COMPLETE_NODE },
        {},
};

static const OptionDef prune_options[] = {
        { .name = "node", .argument = "NODE", .help = "From this node alone", .complete = COMPLETE_NODE },
        { .name = "all", .letter = 'a', .help = "Also what services need or could go back to" },
        { .name = "dry-run", .help = "Say what would be removed" },
        { .name = "force", .letter = 'f', .help = "Do not ask" },
        {},
};

const CommandDef image_commands[] = {
        { .group = "image",
                        .name = "list",
                        .alias = "ls",
                        .help = "List the images on the nodes",
                        .options = { list_options },
                        .run = command_image_list },
        { .group = "image",
                        .name = "prune",
                        .help = "Remove images that nothing uses",
                        .options = { prune_options },
                        .run = command_image_prune },
        {},
};
