/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Preloaded into kontena-noded: counts what the daemon and its children are about to do to the machine (files, mounts, namespaces,
 * processes, messages to systemd and to the kernel's network), while the file /run/kontena-die is there with a number in it.
 * Before the call with that number the file goes and the daemon is killed, as by kill -9. With 0 it lives, and how many there were is
 * written to /run/kontena-count. What it writes to the journal does not count. */
#include <dlfcn.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CONTROL "/run/kontena-die"
#define COUNT   "/run/kontena-count"

static struct { int count, at; } *shared; /* with the children */
static pid_t daemon_pid;

__attribute__((constructor)) static void begin(void) {
        shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        daemon_pid = getpid();
}

static int (*real_unlink)(const char *path);

static void step(void) {
        char text[16] = "";
        int fd, n, at;

        if (shared == MAP_FAILED || !shared)
                return;
        fd = open(CONTROL, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return;
        (void) !read(fd, text, sizeof(text) - 1);
        close(fd);
        at = (int) strtol(text, NULL, 10);
        if (shared->at != at) { /* another attempt than the last one, which did not come that far */
                shared->at = at;
                shared->count = 0;
        }
        n = __atomic_add_fetch(&shared->count, 1, __ATOMIC_SEQ_CST);
        if (at == 0) {
                fd = open(COUNT, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
                if (fd >= 0) {
                        (void) dprintf(fd, "%d\n", n);
                        close(fd);
                }
        }
        if (at != n)
                return;
        if (!real_unlink)
                real_unlink = (int (*)(const char *)) dlsym(RTLD_NEXT, "unlink");
        (void) real_unlink(CONTROL);
        (void) kill(daemon_pid, SIGKILL);
        for (;;) /* a child ends with it */
                pause();
}

#define COUNTED(type, name, parameters, arguments)                                                                 \
        type name parameters;                                                                                       \
        type name parameters {                                                                                      \
                static type(*real) parameters;                                                                      \
                                                                                                                    \
                if (!real)                                                                                          \
                        real = (type(*) parameters) dlsym(RTLD_NEXT, #name);                                        \
                step();                                                                                             \
                return real arguments;                                                                              \
        }

COUNTED(int, mkdir, (const char *p, mode_t m), (p, m))
COUNTED(int, mkdirat, (int d, const char *p, mode_t m), (d, p, m))
COUNTED(int, rename, (const char *a, const char *b), (a, b))
COUNTED(int, renameat, (int c, const char *a, int d, const char *b), (c, a, d, b))
COUNTED(int, renameat2, (int c, const char *a, int d, const char *b, unsigned f), (c, a, d, b, f))
COUNTED(int, unlink, (const char *p), (p))
COUNTED(int, unlinkat, (int d, const char *p, int f), (d, p, f))
COUNTED(int, rmdir, (const char *p), (p))
COUNTED(int, symlink, (const char *a, const char *b), (a, b))
COUNTED(int, symlinkat, (const char *a, int d, const char *b), (a, d, b))
COUNTED(int, mount, (const char *s, const char *t, const char *k, unsigned long f, const void *o), (s, t, k, f, o))
COUNTED(int, umount2, (const char *t, int f), (t, f))
COUNTED(int, unshare, (int f), (f))
COUNTED(int, setns, (int fd, int k), (fd, k))
COUNTED(pid_t, fork, (void), ())
COUNTED(ssize_t, sendto, (int s, const void *b, size_t n, int f, const struct sockaddr *a, socklen_t l), (s, b, n, f, a, l))

ssize_t sendmsg(int s, const struct msghdr *m, int f) {
        static ssize_t (*real)(int, const struct msghdr *, int);
        const struct sockaddr *a = m->msg_name;

        if (!real)
                real = (ssize_t(*)(int, const struct msghdr *, int)) dlsym(RTLD_NEXT, "sendmsg");
        if (!a || a->sa_family != AF_UNIX) /* not the journal, not the watchdog */
                step();
        return real(s, m, f);
}

long syscall(long number, ...) {
        static long (*real)(long, ...);
        long a[6];
        va_list ap;

        if (!real)
                real = (long (*)(long, ...)) dlsym(RTLD_NEXT, "syscall");
        va_start(ap, number);
        for (int i = 0; i < 6; i++)
                a[i] = va_arg(ap, long);
        va_end(ap);
        if (number == SYS_fsmount || number == SYS_move_mount)
                step();
        return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
