/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sandbox.h"

#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "macro.h"
#include "test.h"

/* Runs f in a process with the filter; returns its exit status, or minus the signal that ended it. */
static int in_sandbox(int (*f)(void)) {
        pid_t pid = fork();
        int status;

        ASSERT_TRUE(pid >= 0);
        if (pid == 0) {
                (void) prctl(PR_SET_DUMPABLE, 0);
                _exit(sandbox_enter() < 0 ? 99 : f());
        }
        ASSERT_TRUE(waitpid(pid, &status, 0) == pid);
        return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static void *thread(void *userdata) {
        return userdata;
}

static int work(void) {
        char path[] = "/tmp/test-sandbox-XXXXXX", file[64];
        struct addrinfo *a = NULL;
        pthread_t t;
        int fd, s;

        if (!mkdtemp(path))
                return 1;
        snprintf(file, sizeof(file), "%s/f", path);
        fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0 || write(fd, "x", 1) != 1 || fchmod(fd, 04755) < 0 || syncfs(fd) < 0 || unlink(file) < 0)
                return 2;
        /* What whiteouts are. */
        if (mknod(file, S_IFCHR, makedev(0, 0)) < 0 || unlink(file) < 0)
                return 3;
        if (mkfifo(file, 0600) < 0 || unlink(file) < 0 || rmdir(path) < 0)
                return 4;
        s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (s < 0)
                return 5;
        if (pthread_create(&t, NULL, thread, NULL) != 0 || pthread_join(t, NULL) != 0)
                return 6;
        if (getaddrinfo("localhost", "80", NULL, &a) != 0)
                return 7;
        freeaddrinfo(a);
        return 0;
}

static int refused(void) {
        if (mknod("/tmp/test-sandbox-device", S_IFCHR | 0600, makedev(1, 3)) >= 0 || errno != EPERM)
                return 1;
        if (mknod("/tmp/test-sandbox-device", S_IFBLK | 0600, makedev(8, 0)) >= 0 || errno != EPERM)
                return 2;
        if (socket(AF_UNIX, SOCK_STREAM, 0) >= 0 || errno != EPERM)
                return 3;
        if (socket(AF_PACKET, SOCK_RAW, 0) >= 0 || errno != EPERM)
                return 4;
        if (kill(getppid(), 0) >= 0 || errno != EPERM)
                return 5;
        return 0;
}

static int run_program(void) {
        (void) execl("/bin/true", "true", NULL);
        return 0;
}

static int fork_process(void) {
        /* EPERM from clone(), which is how libc forks. */
        return fork() < 0 && errno == EPERM ? 0 : 1;
}

static int trace(void) {
        (void) ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        return 0;
}

static int leave_namespace(void) {
        (void) unshare(CLONE_NEWUSER);
        return 0;
}

static int mount_something(void) {
        (void) mount("none", "/tmp", "tmpfs", 0, NULL);
        return 0;
}

static void test_sandbox_lets_work(void **state) {
        ASSERT_EQ(in_sandbox(work), 0);
}

static void test_sandbox_refuses_what_others_may_try(void **state) {
        ASSERT_EQ(in_sandbox(refused), 0);
        ASSERT_EQ(in_sandbox(fork_process), 0);
}

static void test_sandbox_kills_an_intruder(void **state) {
        ASSERT_EQ(in_sandbox(run_program), -SIGSYS);
        ASSERT_EQ(in_sandbox(trace), -SIGSYS);
        ASSERT_EQ(in_sandbox(leave_namespace), -SIGSYS);
        ASSERT_EQ(in_sandbox(mount_something), -SIGSYS);
}

KONTENA_TESTS(cmocka_unit_test(test_sandbox_lets_work),
                cmocka_unit_test(test_sandbox_refuses_what_others_may_try),
                cmocka_unit_test(test_sandbox_kills_an_intruder))
