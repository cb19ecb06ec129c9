/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "commands.h"
#include "ctl.h"

static const OptionDef update_options[] = {
        { .name = "upsert", .letter = 'u', .help = "Make it if there is none" },
        {},
};

static const OptionDef read_options[] = {
        { .name = "value", .help = "Print the value alone" },
        {},
};

static const OptionDef remove_options[] = {
        { .name = "force", .letter = 'f', .help = "Do not ask; also when services use it" },
        {},
};

static const OptionDef import_options[] = {
        { .name = "force", .letter = 'f', .help = "Do not ask; also remove what services use" },
        { .name = "skip-null", .help = "Leave alone what is null, instead of removing it" },
        { .name = "empty-is-null", .help = "An empty text is null" },
        {},
};

const CommandDef vault_commands[] = {
        { .group = "vault",
                        .name = "write",
                        .synopsis = "NAME [VALUE]",
                        .help = "Put a secret into the vault",
                        .args_min = 1,
                        .args_max = 2,
                        .run = command_vault_write },
        { .group = "vault",
                        .name = "update",
                        .synopsis = "NAME [VALUE]",
                        .help = "Change a secret",
                        .args_min = 1,
                        .args_max = 2,
                        .complete = { COMPLETE_SECRET, COMPLETE_NONE },
                        .options = { update_options },
                        .run = command_vault_update },
        { .group = "vault",
                        .name = "read",
                        .synopsis = "NAME",
                        .help = "Show a secret; this is audited",
                        .args_min = 1,
                        .args_max = 1,
                        .complete = { COMPLETE_SECRET },
                        .options = { read_options },
                        .run = command_vault_read },
        { .group = "vault",
                        .name = "list",
                        .alias = "ls",
                        .help = "List the secrets, without values",
                        .run = command_vault_list },
        { .group = "vault",
                        .name = "remove",
                        .alias = "rm",
                        .synopsis = "NAME...",
                        .help = "Remove secrets",
                        .args_min = 1,
                        .args_max = 1024,
                        .complete = { COMPLETE_SECRET },
                        .options = { remove_options },
                        .run = command_vault_remove },
        { .group = "vault",
                        .name = "export",
                        .help = "Print all secrets with their values, as JSON",
                        .run = command_vault_export },
        { .group = "vault",
                        .name = "import",
                        .synopsis = "[FILE]",
                        .help = "Write, and where null remove, the secrets of a JSON object",
                        .args_max = 1,
                        .complete = { COMPLETE_FILE },
                        .options = { import_options },
                        .run = command_vault_import },
        {},
};
