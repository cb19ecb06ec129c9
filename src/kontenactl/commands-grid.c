/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "commands.h"
#include "ctl.h"

static const OptionDef grid_create_options[] = {
        { .name = "subnet", .argument = "CIDR", .help = "Addresses of the overlay (10.81.0.0/16)" },
        { .name = "supernet",
                        .argument = "CIDR",
                        .help = "Range the overlay's networks come from (10.80.0.0/12)" },
        { .name = "initial-size", .argument = "COUNT", .help = "Number of initial nodes, 1 to 7" },
        {},
};

static const OptionDef grid_options[] = {
        { .name = "trusted-subnet",
                        .argument = "CIDR",
                        .help = "Between nodes in it nothing is encrypted",
                        .repeat = true },
        { .name = "default-affinity",
                        .argument = "RULE",
                        .help = "Affinity of services that have none",
                        .repeat = true },
        {},
};

static const OptionDef force_options[] = {
        { .name = "force", .letter = 'f', .help = "Do not ask" },
        {},
};

static const OptionDef token_options[] = {
        { .name = "regenerate", .help = "Make a new token; nodes that have joined stay" },
        {},
};

const CommandDef grid_commands[] = {
        { .group = "grid",
                        .name = "create",
                        .synopsis = "NAME",
                        .help = "Make a grid",
                        .args_min = 1,
                        .args_max = 1,
                        .options = { grid_create_options, grid_options },
                        .run = command_grid_create },
        { .group = "grid",
                        .name = "list",
                        .alias = "ls",
                        .help = "List the grids",
                        .run = command_grid_list },
        { .group = "grid",
                        .name = "show",
                        .synopsis = "[GRID]",
                        .help = "Show a grid",
                        .args_max = 1,
                        .complete = { COMPLETE_GRID },
                        .run = command_grid_show },
        { .group = "grid",
                        .name = "update",
                        .synopsis = "GRID",
                        .help = "Change a grid",
                        .args_min = 1,
                        .args_max = 1,
                        .complete = { COMPLETE_GRID },
                        .options = { grid_options },
                        .run = command_grid_update },
        { .group = "grid",
                        .name = "remove",
                        .alias = "rm",
                        .synopsis = "GRID...",
                        .help = "Remove grids that are empty",
                        .args_min = 1,
                        .args_max = 1024,
                        .complete = { COMPLETE_GRID },
                        .options = { force_options },
                        .run = command_grid_remove },
        { .group = "grid",
                        .name = "token",
                        .synopsis = "[GRID]",
                        .help = "Show the token that lets nodes join",
                        .args_max = 1,
                        .complete = { COMPLETE_GRID },
                        .options = { token_options },
                        .run = command_grid_token },
        {},
};
