/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "commands.h"
#include "ctl.h"

const OptionDef common_options[] = {
        { .name = "help", .letter = 'h', .help = "Show this text" },
        { .name = "version", .help = "Show the version" },
        { .name = "grid",
                        .letter = 'g',
                        .argument = "GRID",
                        .help = "The grid; default $KONTENA_GRID, or the only one",
                        .complete = COMPLETE_GRID },
        { .name = "host",
                        .letter = 'H',
                        .argument = "[USER@]HOST",
                        .help = "The master is on another machine: go there by ssh",
                        .complete = COMPLETE_HOST },
        { .name = "machine",
                        .letter = 'M',
                        .argument = "NAME",
                        .help = "The master is in a local container" },
        { .name = "context",
                        .argument = "NAME",
                        .help = "The master is one that was logged in to; \"local\" is this machine",
                        .complete = COMPLETE_CONTEXT },
        { .name = "json",
                        .argument = "MODE",
                        .help = "JSON: pretty, short or off",
                        .complete = COMPLETE_WORDS,
                        .words = "pretty|short|off" },
        { .name = "j", .letter = 'j', .help = "--json=pretty on a terminal, else short" },
        { .name = "full", .letter = 'l', .help = "Do not shorten columns" },
        { .name = "quiet", .letter = 'q', .help = "Print less: of tables the first column" },
        { .name = "no-legend", .help = "Print no heading" },
        { .name = "no-pager", .help = "Print straight to the terminal" },
        { .name = "no-ask-password", .help = "Do not ask for authorization" },
        {},
};

/* For the completions and for a test. */
static const CommandDef hidden_commands[] = {
        { .name = "__complete",
                        .synopsis = "WHAT",
                        .help = "Names for completion",
                        .args_min = 1,
                        .args_max = 1,
                        .run = command_complete },
        { .name = "__tables", .help = "The tables of commands and options", .run = command_dump_tables },
        {},
};

const CommandDef *const command_families[] = {
        general_commands,
        grid_commands,
        node_commands,
        service_commands,
        exec_commands,
        volume_commands,
        vault_commands,
        registry_commands,
        image_commands,
        deploy_commands,
        job_commands,
        event_commands,
        audit_commands,
        user_commands,
        token_commands,
        config_commands,
        master_commands,
        login_commands,
        hidden_commands,
        NULL,
};

const CommandDef *command_skip(const CommandDef *const **family, const CommandDef *c) {
        while (!c->name) {
                c = *++*family;
                if (!c)
                        return NULL;
        }

        return c;
}
