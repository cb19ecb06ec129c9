/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "commands.h"
#include "ctl.h"

static const OptionDef node_label_options[] = {
        { .name = "label",
                        .letter = 'l',
                        .argument = "LABEL",
                        .help = "Label of the node, key=value or key",
                        .repeat = true },
        {},
};

static const OptionDef node_update_options[] = {
        { .name = "availability",
                        .argument = "STATE",
                        .help = "active, or drain to move instances away",
                        .complete = COMPLETE_WORDS,
                        .words = "active|drain" },
        {},
};

static const OptionDef node_remove_options[] = {
        { .name = "force", .letter = 'f', .help = "Even if it is online or has data, which is then lost" },
        {},
};

const OptionDef join_options[] = {
        { .name = "timeout", .argument = "TIME", .help = "Wait at most that long for the master (1min)" },
        {},
};

static const OptionDef leave_options[] = {
        { .name = "force", .letter = 'f', .help = "Even if instances run here; they are removed" },
        { .name = "volumes", .help = "Remove named volumes and what is in them, too" },
        {},
};

const CommandDef node_commands[] = {
        { .group = "node",
                        .name = "list",
                        .alias = "ls",
                        .help = "List the nodes",
                        .run = command_node_list },
        { .group = "node",
                        .name = "show",
                        .synopsis = "NODE",
                        .help = "Show a node",
                        .args_min = 1,
                        .args_max = 1,
                        .complete = { COMPLETE_NODE },
                        .run = command_node_show },
        { .group = "node",
                        .name = "create",
                        .synopsis = "NAME",
                        .help = "Reserve a node and print a token for it alone",
                        .args_min = 1,
                        .args_max = 1,
                        .options = { node_label_options, node_update_options },
                        .run = command_node_create },
        { .group = "node",
                        .name = "update",
                        .synopsis = "NODE...",
                        .help = "Change nodes",
                        .args_min = 1,
                        .args_max = 1024,
                        .complete = { COMPLETE_NODE },
                        .options = { node_label_options, node_update_options },
                        .run = command_node_update },
        { .group = "node",
                        .name = "label",
                        .synopsis = "NODE [LABEL|KEY-]...",
                        .help = "List, set or (with KEY-) unset labels",
                        .args_min = 1,
                        .args_max = 65,
                        .complete = { COMPLETE_NODE, COMPLETE_NONE },
                        .run = command_node_label },
        { .group = "node",
                        .name = "join",
                        .synopsis = "MASTER [TOKEN]",
                        .help = "Make this machine a node; without TOKEN it is read from stdin",
                        .args_min = 1,
                        .args_max = 2,
                        .complete = { COMPLETE_HOST, COMPLETE_NONE },
                        .options = { join_options },
                        .run = command_node_join },
        { .group = "node",
                        .name = "leave",
                        .help = "Make this machine no node any more",
                        .options = { leave_options },
                        .run = command_node_leave },
        { .group = "node",
                        .name = "remove",
                        .alias = "rm",
                        .synopsis = "NODE...",
                        .help = "Remove nodes from the grid",
                        .args_min = 1,
                        .args_max = 1024,
                        .complete = { COMPLETE_NODE },
                        .options = { node_remove_options },
                        .run = command_node_remove },
        {},
};
