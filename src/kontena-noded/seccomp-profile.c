/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "seccomp-profile.h"

#include <linux/capability.h>
#include <sched.h>
#include <seccomp.h>

#include "json-util.h"
#include "string-util.h"

/* Everything a program without special rights may need. Left out on purpose: keyrings (not separated by namespaces),
 * kernel modules, kexec, quotas, swap, clocks, raw I/O, bpf, perf, userfaultfd, ptrace's relatives across namespaces, and what is
 * listed by capability below. */
static const char *const always[] = {
        /* files */
        "access",
        "chdir",
        "chmod",
        "chown",
        "chown32",
        "close",
        "close_range",
        "copy_file_range",
        "creat",
        "dup",
        "dup2",
        "dup3",
        "faccessat",
        "faccessat2",
        "fadvise64",
        "fadvise64_64",
        "fallocate",
        "fchdir",
        "fchmod",
        "fchmodat",
        "fchmodat2",
        "fchown",
        "fchown32",
        "fchownat",
        "fcntl",
        "fcntl64",
        "fdatasync",
        "fgetxattr",
        "flistxattr",
        "flock",
        "fremovexattr",
        "fsetxattr",
        "fstat",
        "fstat64",
        "fstatat64",
        "fstatfs",
        "fstatfs64",
        "fsync",
        "ftruncate",
        "ftruncate64",
        "futimesat",
        "getcwd",
        "getdents",
        "getdents64",
        "getxattr",
        "getxattrat",
        "ioctl",
        "lchown",
        "lchown32",
        "lgetxattr",
        "link",
        "linkat",
        "listxattr",
        "listxattrat",
        "llistxattr",
        "_llseek",
        "lremovexattr",
        "lseek",
        "lsetxattr",
        "lstat",
        "lstat64",
        "mkdir",
        "mkdirat",
        "mknod",
        "mknodat",
        "name_to_handle_at",
        "newfstatat",
        "open",
        "openat",
        "openat2",
        "pread64",
        "preadv",
        "preadv2",
        "pwrite64",
        "pwritev",
        "pwritev2",
        "read",
        "readahead",
        "readlink",
        "readlinkat",
        "readv",
        "removexattr",
        "removexattrat",
        "rename",
        "renameat",
        "renameat2",
        "rmdir",
        "sendfile",
        "sendfile64",
        "setxattr",
        "setxattrat",
        "splice",
        "stat",
        "stat64",
        "statfs",
        "statfs64",
        "statx",
        "symlink",
        "symlinkat",
        "sync",
        "sync_file_range",
        "sync_file_range2",
        "syncfs",
        "tee",
        "truncate",
        "truncate64",
        "umask",
        "unlink",
        "unlinkat",
        "utime",
        "utimensat",
        "utimensat_time64",
        "utimes",
        "vmsplice",
        "write",
        "writev",
        "inotify_add_watch",
        "inotify_init",
        "inotify_init1",
        "inotify_rm_watch",
        "fanotify_mark",
        "memfd_create",
        "memfd_secret",
        "landlock_add_rule",
        "landlock_create_ruleset",
        "landlock_restrict_self",
        "cachestat",
        "listmount",
        "statmount",
        /* memory */
        "brk",
        "madvise",
        "map_shadow_stack",
        "membarrier",
        "mincore",
        "mlock",
        "mlock2",
        "mlockall",
        "mmap",
        "mmap2",
        "mprotect",
        "mremap",
        "mseal",
        "msync",
        "munlock",
        "munlockall",
        "munmap",
        "pkey_alloc",
        "pkey_free",
        "pkey_mprotect",
        "process_mrelease",
        "remap_file_pages",
        "shmat",
        "shmctl",
        "shmdt",
        "shmget",
        /* processes and threads */
        "capget",
        "capset",
        "execve",
        "execveat",
        "exit",
        "exit_group",
        "fork",
        "futex",
        "futex_requeue",
        "futex_time64",
        "futex_wait",
        "futex_waitv",
        "futex_wake",
        "get_robust_list",
        "get_thread_area",
        "getcpu",
        "getegid",
        "getegid32",
        "geteuid",
        "geteuid32",
        "getgid",
        "getgid32",
        "getgroups",
        "getgroups32",
        "getpgid",
        "getpgrp",
        "getpid",
        "getppid",
        "getpriority",
        "getresgid",
        "getresgid32",
        "getresuid",
        "getresuid32",
        "getrlimit",
        "getrusage",
        "getsid",
        "gettid",
        "getuid",
        "getuid32",
        "ioprio_get",
        "ioprio_set",
        "kill",
        "nice",
        "pidfd_getfd",
        "pidfd_open",
        "pidfd_send_signal",
        "prctl",
        "prlimit64",
        "rseq",
        "sched_get_priority_max",
        "sched_get_priority_min",
        "sched_getaffinity",
        "sched_getattr",
        "sched_getparam",
        "sched_getscheduler",
        "sched_rr_get_interval",
        "sched_rr_get_interval_time64",
        "sched_setaffinity",
        "sched_setattr",
        "sched_setparam",
        "sched_setscheduler",
        "sched_yield",
        "seccomp",
        "set_robust_list",
        "set_thread_area",
        "set_tid_address",
        "setfsgid",
        "setfsgid32",
        "setfsuid",
        "setfsuid32",
        "setgid",
        "setgid32",
        "setgroups",
        "setgroups32",
        "setpgid",
        "setpriority",
        "setregid",
        "setregid32",
        "setresgid",
        "setresgid32",
        "setresuid",
        "setresuid32",
        "setreuid",
        "setreuid32",
        "setrlimit",
        "setsid",
        "setuid",
        "setuid32",
        "sysinfo",
        "tgkill",
        "tkill",
        "ugetrlimit",
        "uname",
        "vfork",
        "wait4",
        "waitid",
        "waitpid",
        "arch_prctl",
        "modify_ldt",
        "arm_fadvise64_64",
        "arm_sync_file_range",
        "breakpoint",
        "cacheflush",
        "set_tls",
        "riscv_flush_icache",
        "riscv_hwprobe",
        "sigreturn",
        /* signals and time */
        "alarm",
        "clock_getres",
        "clock_getres_time64",
        "clock_gettime",
        "clock_gettime64",
        "clock_nanosleep",
        "clock_nanosleep_time64",
        "getitimer",
        "gettimeofday",
        "nanosleep",
        "pause",
        "restart_syscall",
        "rt_sigaction",
        "rt_sigpending",
        "rt_sigprocmask",
        "rt_sigqueueinfo",
        "rt_sigreturn",
        "rt_sigsuspend",
        "rt_sigtimedwait",
        "rt_sigtimedwait_time64",
        "rt_tgsigqueueinfo",
        "setitimer",
        "sigaltstack",
        "signal",
        "signalfd",
        "signalfd4",
        "sigpending",
        "sigprocmask",
        "sigsuspend",
        "time",
        "timer_create",
        "timer_delete",
        "timer_getoverrun",
        "timer_gettime",
        "timer_gettime64",
        "timer_settime",
        "timer_settime64",
        "timerfd_create",
        "timerfd_gettime",
        "timerfd_gettime64",
        "timerfd_settime",
        "timerfd_settime64",
        "times",
        "adjtimex",
        "clock_adjtime",
        "clock_adjtime64",
        /* waiting and talking */
        "accept",
        "accept4",
        "bind",
        "connect",
        "epoll_create",
        "epoll_create1",
        "epoll_ctl",
        "epoll_ctl_old",
        "epoll_pwait",
        "epoll_pwait2",
        "epoll_wait",
        "epoll_wait_old",
        "eventfd",
        "eventfd2",
        "getpeername",
        "getrandom",
        "getsockname",
        "getsockopt",
        "io_cancel",
        "io_destroy",
        "io_getevents",
        "io_pgetevents",
        "io_pgetevents_time64",
        "io_setup",
        "io_submit",
        "ipc",
        "listen",
        "mq_getsetattr",
        "mq_notify",
        "mq_open",
        "mq_timedreceive",
        "mq_timedreceive_time64",
        "mq_timedsend",
        "mq_timedsend_time64",
        "mq_unlink",
        "msgctl",
        "msgget",
        "msgrcv",
        "msgsnd",
        "pipe",
        "pipe2",
        "poll",
        "ppoll",
        "ppoll_time64",
        "pselect6",
        "pselect6_time64",
        "recv",
        "recvfrom",
        "recvmmsg",
        "recvmmsg_time64",
        "recvmsg",
        "select",
        "_newselect",
        "semctl",
        "semget",
        "semop",
        "semtimedop",
        "semtimedop_time64",
        "send",
        "sendmmsg",
        "sendmsg",
        "sendto",
        "setsockopt",
        "shutdown",
        "socketcall",
        "socketpair",
        /* own tracing: since Linux 4.8 ptrace cannot get round seccomp */
        "process_vm_readv",
        "process_vm_writev",
        "ptrace",
};

static const char *const sys_admin[] = {
        "bpf",
        "clone",
        "clone3",
        "fanotify_init",
        "fsconfig",
        "fsmount",
        "fsopen",
        "fspick",
        "lookup_dcookie",
        "mount",
        "mount_setattr",
        "move_mount",
        "open_tree",
        "perf_event_open",
        "quotactl",
        "quotactl_fd",
        "setdomainname",
        "sethostname",
        "setns",
        "syslog",
        "umount",
        "umount2",
        "unshare",
};
static const char *const sys_boot[] = { "reboot" };
static const char *const sys_chroot[] = { "chroot" };
static const char *const sys_module[] = { "delete_module", "finit_module", "init_module" };
static const char *const sys_pacct[] = { "acct" };
static const char *const sys_ptrace[] = { "kcmp", "pidfd_getfd", "process_madvise" };
static const char *const sys_rawio[] = { "ioperm", "iopl" };
static const char *const sys_time[] = { "clock_settime", "clock_settime64", "settimeofday", "stime" };
static const char *const sys_tty_config[] = { "vhangup" };
static const char *const sys_nice[] = { "get_mempolicy", "mbind", "set_mempolicy",
        "set_mempolicy_home_node" };
static const char *const syslog_calls[] = { "syslog" };
static const char *const bpf_calls[] = { "bpf" };
static const char *const perfmon_calls[] = { "perf_event_open" };
static const char *const dac_read_search[] = { "open_by_handle_at" };

static const struct {
        unsigned capability;
        const char *const *names;
        size_t n;
} by_capability[] = {
        { CAP_SYS_ADMIN, sys_admin, ELEMENTSOF(sys_admin) },
        { CAP_SYS_BOOT, sys_boot, ELEMENTSOF(sys_boot) },
        { CAP_SYS_CHROOT, sys_chroot, ELEMENTSOF(sys_chroot) },
        { CAP_SYS_MODULE, sys_module, ELEMENTSOF(sys_module) },
        { CAP_SYS_PACCT, sys_pacct, ELEMENTSOF(sys_pacct) },
        { CAP_SYS_PTRACE, sys_ptrace, ELEMENTSOF(sys_ptrace) },
        { CAP_SYS_RAWIO, sys_rawio, ELEMENTSOF(sys_rawio) },
        { CAP_SYS_TIME, sys_time, ELEMENTSOF(sys_time) },
        { CAP_SYS_TTY_CONFIG, sys_tty_config, ELEMENTSOF(sys_tty_config) },
        { CAP_SYS_NICE, sys_nice, ELEMENTSOF(sys_nice) },
        { CAP_SYSLOG, syslog_calls, ELEMENTSOF(syslog_calls) },
        { CAP_BPF, bpf_calls, ELEMENTSOF(bpf_calls) },
        { CAP_PERFMON, perfmon_calls, ELEMENTSOF(perfmon_calls) },
        { CAP_DAC_READ_SEARCH, dac_read_search, ELEMENTSOF(dac_read_search) },
};

/* Namespaces made by clone(2) would give rights that the profile is there to keep. */
#define CLONE_NAMESPACES                                                                                    \
        ((uint64_t) (CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |             \
                        CLONE_NEWNET | CLONE_NEWCGROUP))

#define AF_VSOCK_FAMILY 40U /* talks to the hypervisor past every network namespace */

static const struct {
        uint32_t arch;
        const char *names[3];
} architectures[] = {
        { SCMP_ARCH_X86_64, { "SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32" } },
        { SCMP_ARCH_AARCH64, { "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM" } },
        { SCMP_ARCH_ARM, { "SCMP_ARCH_ARM" } },
        { SCMP_ARCH_X86, { "SCMP_ARCH_X86" } },
        { SCMP_ARCH_RISCV64, { "SCMP_ARCH_RISCV64" } },
        { SCMP_ARCH_PPC64LE, { "SCMP_ARCH_PPC64LE" } },
        { SCMP_ARCH_S390X, { "SCMP_ARCH_S390X", "SCMP_ARCH_S390" } },
};

/* Known on the machine's architecture, or on one that its kernel runs beside it. */
static bool is_known(const char *name) {
        uint32_t native = seccomp_arch_native();

        if (seccomp_syscall_resolve_name_arch(native, name) >= 0)
                return true;
        if (native == SCMP_ARCH_X86_64)
                return seccomp_syscall_resolve_name_arch(SCMP_ARCH_X86, name) >= 0;
        if (native == SCMP_ARCH_AARCH64)
                return seccomp_syscall_resolve_name_arch(SCMP_ARCH_ARM, name) >= 0;
        return false;
}

static int add_known(json_object *names, const char *const *list, size_t n) {
        for (size_t i = 0; i < n; i++) {
                int r;

                if (!is_known(list[i]))
                        continue;
                r = json_append_string(names, list[i]);
                if (r < 0)
                        return r;
        }

        return 0;
}

/* { names, action, args: [{ index: 0, op, value, valueTwo }] }. names is consumed; NULL op: no condition. */
static int add_rule(json_object *rules, json_object *names, const char *action, const char *op,
                uint64_t value, uint64_t value2, int errno_ret) {
        _cleanup_json_ json_object *o = json_object_new_object(), *args = NULL;
        json_object *arg;
        int r;

        if (!names || !o) {
                json_object_put(names);
                return -ENOMEM;
        }
        r = json_add(o, "names", names);
        if (r >= 0)
                r = json_add_string(o, "action", action);
        if (r >= 0 && errno_ret > 0)
                r = json_add_u64(o, "errnoRet", (uint64_t) errno_ret);
        if (r < 0)
                return r;

        if (op) {
                args = json_object_new_array();
                arg = json_object_new_object();
                if (!args || !arg) {
                        json_object_put(arg);
                        return -ENOMEM;
                }
                r = json_append(args, arg);
                if (r >= 0)
                        r = json_add_u64(arg, "index", 0);
                if (r >= 0)
                        r = json_add_u64(arg, "value", value);
                if (r >= 0 && value2 != UINT64_MAX)
                        r = json_add_u64(arg, "valueTwo", value2);
                if (r >= 0)
                        r = json_add_string(arg, "op", op);
                if (r >= 0)
                        r = json_add(o, "args", TAKE_PTR(args));
                if (r < 0)
                        return r;
        }

        return json_append(rules, TAKE_PTR(o));
}

static json_object *one_name(const char *name) {
        json_object *names = json_object_new_array();

        if (names && json_append_string(names, name) < 0) {
                json_object_put(names);
                return NULL;
        }
        return names;
}

static int add_conditional_rules(json_object *rules, uint64_t capabilities) {
        static const uint64_t personalities[] = { 0x0, 0x8, 0x20000, 0x20008, 0xffffffff };
        int r;

        /* PER_LINUX, PER_LINUX32, each with UNAME26, and the question for the present one. */
        for (size_t i = 0; i < ELEMENTSOF(personalities); i++) {
                r = add_rule(rules, one_name("personality"), "SCMP_ACT_ALLOW", "SCMP_CMP_EQ",
                                personalities[i], UINT64_MAX, 0);
                if (r < 0)
                        return r;
        }

        r = add_rule(rules, one_name("socket"), "SCMP_ACT_ALLOW", "SCMP_CMP_NE", AF_VSOCK_FAMILY, UINT64_MAX,
                        0);
        if (r < 0 || (capabilities & UINT64_C(1) << CAP_SYS_ADMIN))
                return r;

        r = add_rule(rules, one_name("clone"), "SCMP_ACT_ALLOW", "SCMP_CMP_MASKED_EQ", CLONE_NAMESPACES, 0,
                        0);
        if (r < 0)
                return r;

        /* Its flags are in memory, where a filter cannot look: the C library then falls back to clone. */
        return add_rule(rules, one_name("clone3"), "SCMP_ACT_ERRNO", NULL, 0, 0, ENOSYS);
}

int seccomp_profile_build(uint64_t capabilities, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object(), *rules = json_object_new_array(),
                                   *names = json_object_new_array(), *arches = json_object_new_array();
        uint32_t native = seccomp_arch_native();
        int r;

        if (!o || !rules || !names || !arches)
                return -ENOMEM;

        r = add_known(names, always, ELEMENTSOF(always));
        if (r < 0)
                return r;
        FOREACH_ARRAY(c, by_capability, ELEMENTSOF(by_capability))
                if (capabilities & UINT64_C(1) << c->capability) {
                        r = add_known(names, c->names, c->n);
                        if (r < 0)
                                return r;
                }

        r = add_rule(rules, TAKE_PTR(names), "SCMP_ACT_ALLOW", NULL, 0, 0, 0);
        if (r >= 0)
                r = add_conditional_rules(rules, capabilities);
        if (r < 0)
                return r;

        FOREACH_ARRAY(a, architectures, ELEMENTSOF(architectures))
                if (a->arch == native)
                        for (size_t i = 0; i < ELEMENTSOF(a->names) && a->names[i]; i++) {
                                r = json_append_string(arches, a->names[i]);
                                if (r < 0)
                                        return r;
                        }

        r = json_add_string(o, "defaultAction", "SCMP_ACT_ERRNO");
        if (r >= 0)
                r = json_add_u64(o, "defaultErrnoRet", EPERM);
        if (r >= 0)
                r = json_add(o, "architectures", TAKE_PTR(arches));
        if (r >= 0)
                r = json_add(o, "syscalls", TAKE_PTR(rules));
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}
