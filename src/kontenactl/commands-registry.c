/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "commands.h"
#include "ctl.h"

static const OptionDef add_options[] = {
        { .name = "username", .argument = "NAME", .letter = 'u', .help = "Who the nodes are there" },
        { .name = "email", .argument = "ADDRESS", .help = "To be shown in the list" },
        {},
};

static const OptionDef remove_options[] = {
        { .name = "force", .letter = 'f', .help = "Do not ask" },
        {},
};

const CommandDef registry_commands[] = {
        { .group = "registry",
                        .name = "add",
                        .synopsis = "[REGISTRY]",
                        .help = "Give the nodes credentials for a registry",
                        .args_max = 1,
                        .options = { add_options },
                        .run = command_registry_add },
        { .group = "registry",
                        .name = "list",
                        .alias = "ls",
                        .help = "List registries with credentials",
                        .run = command_registry_list },
        { .group = "registry",
                        .name = "remove",
                        .alias = "rm",
                        .synopsis = "REGISTRY...",
                        .help = "Remove credentials",
                        .args_min = 1,
                        .args_max = 64,
                        .complete = { COMPLETE_REGISTRY },
                        .options = { remove_options },
                        .run = command_registry_remove },
        {},
};
