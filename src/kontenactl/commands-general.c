/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "commands.h"
#include "ctl.h"

static const OptionDef bootstrap_options[] = {
        { .name = "trusted-subnet",
                        .argument = "CIDR",
                        .help = "Of a new grid: between nodes in it nothing is encrypted",
                        .repeat = true },
        { .name = "url",
                        .argument = "URL",
                        .help = "How this machine reaches the master; default: where it listens" },
        {},
};

const OptionDef stream_options[] = {
        { .name = "follow", .letter = 'f', .help = "Go on with what comes" },
        { .name = "lines",
                        .letter = 'n',
                        .argument = "COUNT",
                        .help = "How many of the newest, or all (100)",
                        .alias = "tail" },
        { .name = "since",
                        .argument = "TIME",
                        .help = "Not older: \"10min ago\", \"today\", \"2026-11-25 09:30\"" },
        {},
};

const OptionDef event_options[] = {
        { .name = "service",
                        .argument = "SERVICE",
                        .help = "Only of this service",
                        .complete = COMPLETE_SERVICE },
        { .name = "node", .argument = "NODE", .help = "Only of this node", .complete = COMPLETE_NODE },
        {},
};

const CommandDef general_commands[] = {
        { .name = "status", .help = "Show grids, nodes, services and what is wrong", .run = command_status },
        { .name = "bootstrap",
                        .help = "Make this machine a master, a grid, and a node of it",
                        .options = { bootstrap_options, join_options },
                        .run = command_bootstrap },
        { .name = "events",
                        .help = "Short for event list",
                        .options = { stream_options, event_options },
                        .run = command_event_list },
        { .name = "top",
                        .synopsis = "SERVICE|INSTANCE",
                        .help = "Show the processes of a service's instances, or of one",
                        .args_min = 1,
                        .args_max = 1,
                        .complete = { COMPLETE_SERVICE },
                        .run = command_top },
        { .name = "inspect",
                        .synopsis = "INSTANCE",
                        .help = "Show all that its node knows of an instance, as JSON",
                        .args_min = 1,
                        .args_max = 1,
                        .complete = { COMPLETE_SERVICE },
                        .run = command_inspect },
        {},
};
