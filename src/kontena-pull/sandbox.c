/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sandbox.h"

#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "macro.h"

/* Three answers. Allowed: what libcurl, GnuTLS, libarchive and the resolver use. EPERM for all others, because plug-ins
 * of the resolver try things (sockets to their daemons, other files' locks) and go on without. The end of the process
 * for what only an intruder would call. */

static const int allowed[] = { SCMP_SYS(read), SCMP_SYS(readv), SCMP_SYS(pread64), SCMP_SYS(write),
        SCMP_SYS(writev), SCMP_SYS(pwrite64), SCMP_SYS(lseek), SCMP_SYS(_llseek), SCMP_SYS(sendfile),
        SCMP_SYS(sendfile64), SCMP_SYS(close), SCMP_SYS(fcntl), SCMP_SYS(fcntl64), SCMP_SYS(flock),
        SCMP_SYS(dup), SCMP_SYS(dup2), SCMP_SYS(pipe2), SCMP_SYS(eventfd2),
        /* files, in whose paths openat2 keeps us below the root */
        SCMP_SYS(open), SCMP_SYS(openat), SCMP_SYS(openat2), SCMP_SYS(stat), SCMP_SYS(lstat),
        SCMP_SYS(fstat), SCMP_SYS(fstat64), SCMP_SYS(newfstatat), SCMP_SYS(fstatat64), SCMP_SYS(statx),
        SCMP_SYS(statfs), SCMP_SYS(fstatfs), SCMP_SYS(access), SCMP_SYS(faccessat), SCMP_SYS(faccessat2),
        SCMP_SYS(readlink), SCMP_SYS(readlinkat), SCMP_SYS(getdents64), SCMP_SYS(getcwd), SCMP_SYS(mkdir),
        SCMP_SYS(mkdirat), SCMP_SYS(unlink), SCMP_SYS(unlinkat), SCMP_SYS(rmdir), SCMP_SYS(rename),
        SCMP_SYS(renameat), SCMP_SYS(renameat2), SCMP_SYS(linkat), SCMP_SYS(symlinkat), SCMP_SYS(ftruncate),
        SCMP_SYS(ftruncate64), SCMP_SYS(fchown), SCMP_SYS(fchownat), SCMP_SYS(fchmod), SCMP_SYS(fchmodat),
        SCMP_SYS(utimensat), SCMP_SYS(utimensat_time64), SCMP_SYS(fsetxattr), SCMP_SYS(fgetxattr),
        SCMP_SYS(flistxattr), SCMP_SYS(fsync), SCMP_SYS(fdatasync), SCMP_SYS(syncfs), SCMP_SYS(fadvise64),
        SCMP_SYS(umask),
        /* network: socket() is below */
        SCMP_SYS(connect), SCMP_SYS(bind), SCMP_SYS(getsockname), SCMP_SYS(getpeername),
        SCMP_SYS(getsockopt), SCMP_SYS(setsockopt), SCMP_SYS(sendto), SCMP_SYS(sendmsg), SCMP_SYS(sendmmsg),
        SCMP_SYS(recvfrom), SCMP_SYS(recvmsg), SCMP_SYS(recvmmsg), SCMP_SYS(shutdown), SCMP_SYS(socketpair),
        SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(ppoll_time64), SCMP_SYS(select), SCMP_SYS(pselect6),
        SCMP_SYS(epoll_create1), SCMP_SYS(epoll_ctl), SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait),
        /* memory and threads: libcurl resolves names in one */
        SCMP_SYS(brk), SCMP_SYS(mmap), SCMP_SYS(mmap2), SCMP_SYS(munmap), SCMP_SYS(mremap),
        SCMP_SYS(mprotect), SCMP_SYS(madvise), SCMP_SYS(futex), SCMP_SYS(futex_time64),
        SCMP_SYS(set_robust_list), SCMP_SYS(rseq), SCMP_SYS(sched_yield), SCMP_SYS(sched_getaffinity),
        SCMP_SYS(membarrier), SCMP_SYS(exit), SCMP_SYS(exit_group),
        /* signals, time, who am I */
        SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn), SCMP_SYS(sigaltstack),
        SCMP_SYS(tgkill), SCMP_SYS(gettid), SCMP_SYS(getpid), SCMP_SYS(getppid), SCMP_SYS(getuid),
        SCMP_SYS(geteuid), SCMP_SYS(getgid), SCMP_SYS(getegid), SCMP_SYS(getrandom), SCMP_SYS(clock_gettime),
        SCMP_SYS(clock_gettime64), SCMP_SYS(clock_getres), SCMP_SYS(clock_nanosleep), SCMP_SYS(gettimeofday),
        SCMP_SYS(nanosleep), SCMP_SYS(uname), SCMP_SYS(sysinfo), SCMP_SYS(getrlimit), SCMP_SYS(prlimit64),
        SCMP_SYS(restart_syscall) };

static const int deadly[] = { SCMP_SYS(execve), SCMP_SYS(execveat), SCMP_SYS(fork), SCMP_SYS(vfork),
        SCMP_SYS(ptrace), SCMP_SYS(process_vm_readv), SCMP_SYS(process_vm_writev), SCMP_SYS(mount),
        SCMP_SYS(umount2), SCMP_SYS(pivot_root), SCMP_SYS(chroot), SCMP_SYS(move_mount), SCMP_SYS(open_tree),
        SCMP_SYS(fsopen), SCMP_SYS(unshare), SCMP_SYS(setns), SCMP_SYS(bpf), SCMP_SYS(perf_event_open),
        SCMP_SYS(userfaultfd), SCMP_SYS(init_module), SCMP_SYS(finit_module), SCMP_SYS(kexec_load),
        SCMP_SYS(kexec_file_load), SCMP_SYS(open_by_handle_at), SCMP_SYS(add_key), SCMP_SYS(keyctl),
        SCMP_SYS(io_uring_setup), SCMP_SYS(setuid), SCMP_SYS(setresuid), SCMP_SYS(capset),
        SCMP_SYS(personality), SCMP_SYS(reboot), SCMP_SYS(swapon) };

static void seccomp_releasep(scmp_filter_ctx *c) {
        if (*c)
                seccomp_release(*c);
}

#define NAMESPACES                                                                                          \
        (CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET |          \
                        CLONE_NEWCGROUP)

static int add_arguments(scmp_filter_ctx c) {
        static const int families[] = { AF_INET, AF_INET6 };
        int r;

        /* Others (AF_UNIX to a name service's daemon, AF_NETLINK) get EPERM and are done without. */
        FOREACH_ARRAY(f, families, ELEMENTSOF(families)) {
                r = seccomp_rule_add(c, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
                                SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t) *f));
                if (r < 0)
                        return r;
        }

        /* The only device we make is the one that means "nothing is here", and there are FIFOs. */
        r = seccomp_rule_add(c, SCMP_ACT_ALLOW, SCMP_SYS(mknodat), 2,
                        SCMP_A2(SCMP_CMP_MASKED_EQ, S_IFMT, S_IFCHR), SCMP_A3(SCMP_CMP_EQ, 0));
        if (r >= 0)
                r = seccomp_rule_add(c, SCMP_ACT_ALLOW, SCMP_SYS(mknodat), 1,
                                SCMP_A2(SCMP_CMP_MASKED_EQ, S_IFMT, S_IFIFO));

        /* Threads, but no processes and no namespaces. clone3 hides its flags in memory: libc falls back to clone. */
        if (r >= 0)
                r = seccomp_rule_add(c, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
                                SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD | NAMESPACES, CLONE_THREAD));
        if (r >= 0)
                r = seccomp_rule_add(c, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
        /* Names of threads. */
        if (r >= 0)
                r = seccomp_rule_add(
                                c, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1, SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME));
        return r;
}

int sandbox_enter(void) {
        _cleanup_(seccomp_releasep) scmp_filter_ctx c = NULL;
        int r;

        c = seccomp_init(SCMP_ACT_ERRNO(EPERM));
        if (!c)
                return -ENOMEM;

        FOREACH_ARRAY(s, allowed, ELEMENTSOF(allowed)) {
                r = seccomp_rule_add(c, SCMP_ACT_ALLOW, *s, 0);
                if (r < 0)
                        return r;
        }
        FOREACH_ARRAY(s, deadly, ELEMENTSOF(deadly)) {
                r = seccomp_rule_add(c, SCMP_ACT_KILL_PROCESS, *s, 0);
                if (r < 0)
                        return r;
        }
        r = add_arguments(c);
        if (r < 0)
                return r;

        return seccomp_load(c);
}
