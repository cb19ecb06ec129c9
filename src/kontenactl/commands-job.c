/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "commands.h"
#include "ctl.h"

static const OptionDef job_run_options[] = {
        { .name = "wait", .letter = 'w', .help = "Wait for its end; exit with the status of its container" },
        { .name = "follow", .letter = 'f', .help = "The same, and show what it writes" },
        {},
};

static const OptionDef job_log_options[] = {
        { .name = "output",
                        .letter = 'o',
                        .argument = "FORM",
                        .help = "short, cat or json",
                        .complete = COMPLETE_WORDS,
                        .words = "short|cat|json" },
        { .name = "follow", .letter = 'f', .help = "Go on with what is written from now on" },
        {},
};

const CommandDef job_commands[] = {
        { .group = "job",
                        .name = "list",
                        .alias = "ls",
                        .help = "List the jobs, when they run and how they ended",
                        .run = command_job_list },
        { .group = "job",
                        .name = "run",
                        .synopsis = "JOB",
                        .help = "Run a job now",
                        .args_min = 1,
                        .args_max = 1,
                        .complete = { COMPLETE_JOB },
                        .options = { job_run_options },
                        .run = command_job_run },
        { .group = "job",
                        .name = "show",
                        .synopsis = "JOB [RUN]",
                        .help = "Show a job and its runs, or one run",
                        .args_min = 1,
                        .args_max = 2,
                        .complete = { COMPLETE_JOB, COMPLETE_NONE },
                        .run = command_job_show },
        { .group = "job",
                        .name = "logs",
                        .synopsis = "JOB [RUN]",
                        .help = "Show what a run wrote, the last one or another",
                        .args_min = 1,
                        .args_max = 2,
                        .complete = { COMPLETE_JOB, COMPLETE_NONE },
                        .options = { job_log_options },
                        .run = command_job_logs },
        { .group = "job",
                        .name = "cancel",
                        .synopsis = "JOB [RUN]",
                        .help = "Stop the run that is under way",
                        .args_min = 1,
                        .args_max = 2,
                        .complete = { COMPLETE_JOB, COMPLETE_NONE },
                        .run = command_job_cancel },
        {},
};
