/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "file-util.h"
#include "parse-util.h"
#include "string-util.h"
#include "terminal.h"

static pid_t pager_pid = 0;

/* Whoever runs with rights that the person at the terminal need not have (sudo, setuid) gets "less" alone, and that without its ways
 * to run commands. */
static bool pager_must_be_secure(void) {
        const char *e = getenv("SYSTEMD_PAGERSECURE");
        int r = isempty(e) ? -EINVAL : parse_boolean(e);

        if (r >= 0)
                return r > 0;
        return getuid() != geteuid() || !isempty(getenv("SUDO_UID"));
}

static void pager_exec(char *const *command, bool secure) {
        const char *flags = getenv("SYSTEMD_LESS"), *charset = getenv("SYSTEMD_LESSCHARSET");

        (void) setenv("LESS", isempty(flags) ? "FRSXMK" : flags, 1);
        if (!isempty(charset) || terminal_utf8())
                (void) setenv("LESSCHARSET", isempty(charset) ? "utf-8" : charset, 1);
        if (secure)
                (void) setenv("LESSSECURE", "1", 1);
        else
                (void) unsetenv("LESSSECURE");

        if (command && command[0] && !secure)
                (void) execvp(command[0], command);
        (void) execlp("less", "less", (char *) NULL);
        if (!secure)
                (void) execlp("more", "more", (char *) NULL);
        (void) execlp("cat", "cat", (char *) NULL);
        _exit(127);
}

int pager_open(void) {
        _cleanup_strv_free_ char **command = NULL;
        _cleanup_close_ int read_end = -EBADF, write_end = -EBADF;
        const char *wanted = getenv("SYSTEMD_PAGER") ?: getenv("PAGER");
        int r, fds[2];

        if (pager_pid > 0)
                return 1;
        if (!terminal_on(stdout) || (wanted && STR_IN_SET(wanted, "", "cat")))
                return 0;
        if (wanted) {
                r = strv_split(wanted, " \t", &command);
                if (r < 0)
                        return r;
        }

        /* Both depend on standard output, which is about to become a pipe. */
        (void) terminal_colors();
        if (!getenv("COLUMNS")) {
                char columns[16];

                (void) snprintf(columns, sizeof(columns), "%u", terminal_columns());
                (void) setenv("COLUMNS", columns, 1);
        }

        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        read_end = fds[0];
        write_end = fds[1];

        (void) fflush(stdout);
        pager_pid = fork();
        if (pager_pid < 0) {
                pager_pid = 0;
                return -errno;
        }
        if (pager_pid == 0) {
                sigset_t none;

                (void) prctl(PR_SET_PDEATHSIG, SIGTERM);
                (void) sigemptyset(&none);
                (void) sigprocmask(SIG_SETMASK, &none, NULL);
                if (dup2(read_end, STDIN_FILENO) < 0)
                        _exit(127);
                pager_exec(command, pager_must_be_secure());
        }

        if (dup2(write_end, STDOUT_FILENO) < 0) {
                r = -errno;
                (void) kill(pager_pid, SIGTERM);
                return r;
        }
        /* A quit pager is not a failure of ours. */
        (void) signal(SIGPIPE, SIG_IGN);
        return 1;
}

void pager_close(void) {
        if (pager_pid <= 0)
                return;

        (void) fflush(stdout);
        /* The last writer must go, or the pager waits for more. */
        (void) close(STDOUT_FILENO);
        (void) waitpid(pager_pid, NULL, 0);
        pager_pid = 0;
}
