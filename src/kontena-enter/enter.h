/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "kerror.h"
#include "macro.h"

/* Runs a command in a machine of systemd-nspawn, whatever that has inside: no bus, no shell and no tool of it is needed. The command
 * line is that of "crun exec", so that whoever runs commands in containers need not know the difference; for the container's id stands
 * the machine's directory below /run, with config.json. */
typedef struct EnterOptions {
        const char *log;            /* NULL: standard error */
        const char *pid_file;       /* written when the command has begun */
        const char *process;        /* JSON: args, env, cwd, user, terminal */
        const char *console_socket; /* where the terminal's master goes */
        const char *directory;
} EnterOptions;

/* -EINVAL with a sentence. Unknown options that crun takes and that have no meaning here are skipped. */
int enter_options_parse(int argc, char *argv[], EnterOptions *ret, KError *reterr);

typedef struct EnterProcess {
        char **args, **env;
        char *cwd;
        uint32_t uid, gid;
        gid_t *groups;
        size_t n_groups;
        bool terminal;
} EnterProcess;

void enter_process_done(EnterProcess *p);
int enter_process_parse(json_object *o, EnterProcess *ret, KError *reterr);

/* Exit status of the command, 128 + signal when it was killed; negative when it could not be run, with the reason in the log. */
int enter_run(const EnterOptions *o, KError *reterr);
