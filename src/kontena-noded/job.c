/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "job.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "log.h"

#define NICE_OF_JOBS 10 /* containers come first */

struct Job {
        sd_event_source *child;
        pid_t pid;
        job_done_t done;
        void *userdata;
};

static void child_main(const char *name, job_function_t function, void *arg, pid_t parent)
                __attribute__((noreturn));
static void child_main(const char *name, job_function_t function, void *arg, pid_t parent) {
        sigset_t none;
        int r;

        (void) prctl(PR_SET_NAME, name);
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
                _exit(EIO);
        (void) signal(SIGTERM, SIG_DFL);
        (void) signal(SIGINT, SIG_DFL);
        (void) sigemptyset(&none);
        (void) sigprocmask(SIG_SETMASK, &none, NULL);
        (void) setpriority(PRIO_PROCESS, 0, NICE_OF_JOBS);

        /* The other ends of our sockets must see us go although the child lives. */
        if (close_range(3, ~0U, 0) < 0)
                _exit(EIO);

        r = function(arg);
        _exit(r < 0 ? MIN(-r, 255) : 0);
}

static int on_child(sd_event_source *s, const siginfo_t *si, void *userdata) {
        Job *j = userdata;
        int r = si->si_code == CLD_EXITED ? -si->si_status : -EIO;

        j->child = sd_event_source_disable_unref(j->child);
        j->pid = 0;
        j->done(j, r, j->userdata);
        free(j);
        return 0;
}

int job_start(sd_event *event, const char *name, job_function_t function, void *arg, job_done_t done,
                void *userdata, Job **ret) {
        _cleanup_free_ Job *j = NULL;
        pid_t parent = getpid();
        int r;

        assert(function);
        assert(done);
        assert(ret);

        j = new0(Job, 1);
        if (!j)
                return -ENOMEM;
        j->done = done;
        j->userdata = userdata;

        j->pid = fork();
        if (j->pid < 0)
                return -errno;
        if (j->pid == 0)
                child_main(name, function, arg, parent);

        r = sd_event_add_child(event, &j->child, j->pid, WEXITED, on_child, j);
        if (r < 0) {
                (void) kill(j->pid, SIGKILL);
                (void) waitpid(j->pid, NULL, 0);
                return r;
        }

        *ret = TAKE_PTR(j);
        return 0;
}

Job *job_cancel(Job *j) {
        if (!j)
                return NULL;

        j->child = sd_event_source_disable_unref(j->child);
        if (j->pid > 0) {
                (void) kill(j->pid, SIGKILL);
                (void) waitpid(j->pid, NULL, 0);
        }
        free(j);
        return NULL;
}
