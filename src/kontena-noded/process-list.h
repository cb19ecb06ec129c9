/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>
#include <sys/types.h>

#include "kerror.h"
#include "macro.h"

/* The processes of a control group and of those below it, as "instance.top" shows them. Everything is read while it may change or
 * vanish: what is gone is left out. */

/* What /proc/PID/stat tells; the name in it may hold blanks and parentheses. */
typedef struct ProcessStat {
        uint64_t ppid;
        char state;
        uint64_t cpu_ticks;   /* user and system */
        uint64_t start_ticks; /* since boot */
        uint64_t rss_pages;
        char name[64];
} ProcessStat;
int process_stat_parse(const char *text, ProcessStat *ret);

/* Arguments joined by blanks, cut at PROCESS_COMMAND_MAX, what is not printable as '?'. NULL on lack of memory. */
char *process_command_text(const char *cmdline, size_t size);

/* The name of a user in the text of a passwd file; NULL: none. */
char *process_user_name(const char *passwd, uid_t uid);

/* {"processes": [...]}. proc and cgroup: "/proc" and "/sys/fs/cgroup/kontena.slice/...". passwd: of the container, or NULL. */
int process_list(
                const char *proc, const char *cgroup, const char *passwd, json_object **ret, KError *reterr);
