/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "commands.h"
#include "ctl.h"

static const OptionDef exec_options[] = {
        { .name = "interactive", .letter = 'i', .help = "Pass standard input on to the command" },
        { .name = "tty", .letter = 't', .help = "Give the command a terminal" },
        { .name = "env",
                        .letter = 'e',
                        .argument = "NAME[=VALUE]",
                        .help = "A variable for the command; without a value, the one from here",
                        .repeat = true },
        { .name = "user",
                        .letter = 'u',
                        .argument = "USER",
                        .help = "Run it as this user of the image, or number" },
        {},
};

static const OptionDef attach_options[] = {
        { .name = "lines",
                        .letter = 'n',
                        .argument = "COUNT",
                        .help = "Begin with so many that were written (0)" },
        {},
};

static const OptionDef copy_options[] = {
        { .name = "archive", .letter = 'a', .help = "Keep owners, as numbers" },
        { .name = "follow-link", .letter = 'L', .help = "Of a link, copy what it leads to" },
        {},
};

const CommandDef exec_commands[] = {
        { .name = "exec",
                        .synopsis = "INSTANCE COMMAND [ARGUMENT...]",
                        .help = "Run a command in an instance",
                        .args_min = 1,
                        .args_max = 1,
                        .rest = true,
                        .rest_from = 1,
                        .complete = { COMPLETE_SERVICE },
                        .options = { exec_options },
                        .run = command_exec },
        { .name = "attach",
                        .synopsis = "INSTANCE",
                        .help = "Show what an instance writes, as it is, from now on",
                        .args_min = 1,
                        .args_max = 1,
                        .complete = { COMPLETE_SERVICE },
                        .options = { attach_options },
                        .run = command_attach },
        { .name = "cp",
                        .synopsis = "SOURCE DESTINATION",
                        .help = "Copy files out of or into an instance; - is a tar archive",
                        .args_min = 2,
                        .args_max = 2,
                        .complete = { COMPLETE_FILE, COMPLETE_FILE },
                        .options = { copy_options },
                        .run = command_cp },
        {},
};
