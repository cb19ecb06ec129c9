/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "options.h"

/* One table for each family of commands, in commands-<family>.c and ended by an entry without a name; commands.c has the list of
 * them, in the order --help prints them. */
extern const CommandDef general_commands[];
extern const CommandDef grid_commands[];
extern const CommandDef node_commands[];
extern const CommandDef service_commands[];
extern const CommandDef deploy_commands[];
extern const CommandDef job_commands[];
extern const CommandDef event_commands[];
extern const CommandDef audit_commands[];
extern const CommandDef user_commands[];
extern const CommandDef token_commands[];
extern const CommandDef config_commands[];
extern const CommandDef master_commands[];
extern const CommandDef login_commands[];
extern const CommandDef exec_commands[];
extern const CommandDef volume_commands[];
extern const CommandDef vault_commands[];
extern const CommandDef registry_commands[];
extern const CommandDef image_commands[];

/* Option tables of more than one family. */
extern const OptionDef join_options[];   /* node, bootstrap */
extern const OptionDef stream_options[]; /* what is read from a time on and followed */
extern const OptionDef event_options[];
extern const OptionDef audit_options[]; /* audit, master */
