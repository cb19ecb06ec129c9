/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "enter.h"

#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "enter-filter.h"
#include "file-util.h"
#include "json-util.h"
#include "machine-leader.h"
#include "string-util.h"

#define JSON_FILE_MAX   (16U * 1024U * 1024U)
#define STATUS_SIZE_MAX (64U * 1024U)

/* In this order: the network namespace is not the machine's user namespace's, so it is entered with our own rights, and the user
 * namespace, which takes these away, comes last. The one for processes counts for children only. */
static const struct {
        const char *name;
        int flag;
} namespaces[] = {
        { "net", CLONE_NEWNET },
        { "ipc", CLONE_NEWIPC },
        { "uts", CLONE_NEWUTS },
        { "cgroup", CLONE_NEWCGROUP },
        { "pid", CLONE_NEWPID },
        { "mnt", CLONE_NEWNS },
        { "user", CLONE_NEWUSER },
};

typedef struct Machine {
        int fds[ELEMENTSOF(namespaces)]; /* -EBADF: it is ours */
        int root;
        uint64_t bounding; /* capabilities */
        uid_t base;        /* who is root there, as this machine numbers users */
} Machine;

static void machine_done(Machine *m) {
        FOREACH_ARRAY(fd, m->fds, ELEMENTSOF(m->fds))
                *fd = safe_close(*fd);
        m->root = safe_close(m->root);
}

static int read_json(const char *path, json_object **ret, KError *reterr) {
        _cleanup_erase_ char *text = NULL;
        size_t size;
        int r;

        r = read_file(path, JSON_FILE_MAX, &text, &size);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot read '%s': %m", path);
        return json_parse(text, size, JSON_FILE_MAX, ret, reterr);
}

static int open_namespace(int process, const char *name) {
        _cleanup_free_ char *path = strjoin("ns/", name), *own = strjoin("/proc/self/ns/", name);
        struct stat theirs, ours;
        int fd;

        if (!path || !own)
                return -ENOMEM;
        fd = openat(process, path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        if (fstat(fd, &theirs) < 0 || stat(own, &ours) < 0) {
                safe_close(fd);
                return -EIO;
        }
        if (theirs.st_ino == ours.st_ino && theirs.st_dev == ours.st_dev) {
                safe_close(fd);
                return -EBADF;
        }
        return fd;
}

/* Not whose process it is: that one may have become another user since. */
static int read_base(int process, uid_t *ret) {
        _cleanup_free_ char *text = NULL;
        unsigned long long inside, base;
        char *end;
        int r;

        r = read_file_at(process, "uid_map", STATUS_SIZE_MAX, &text, NULL);
        if (r < 0)
                return r;
        inside = strtoull(text, &end, 10);
        base = strtoull(end, NULL, 10);
        if (end == text || inside != 0 || base >= UINT32_MAX)
                return -ESRCH;

        *ret = (uid_t) base;
        return 0;
}

/* By way of a directory of /proc that stays that process' one: a number that is used again leads nowhere. */
static int open_machine(const char *cgroup, Machine *ret, KError *reterr) {
        _cleanup_free_ char *path = NULL, *status = NULL;
        _cleanup_close_ int process = -EBADF;
        const char *line;
        Machine m = { .root = -EBADF };
        pid_t leader, again;
        int r;

        FOREACH_ARRAY(fd, m.fds, ELEMENTSOF(m.fds))
                *fd = -EBADF;
        r = machine_leader_find(cgroup, &leader);
        if (r < 0)
                return kerror_set_errno(reterr, r, "The machine does not run: %m");
        path = strprintf("/proc/%i", (int) leader);
        if (!path)
                return -ENOMEM;
        process = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (process < 0)
                return kerror_set_errno(reterr, -errno, "Cannot open the machine's first process: %m");

        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(namespaces); i++) {
                int fd = open_namespace(process, namespaces[i].name);

                if (fd >= 0)
                        m.fds[i] = fd;
                else if (fd != -EBADF)
                        r = fd;
        }
        if (r >= 0)
                r = read_file_at(process, "status", STATUS_SIZE_MAX, &status, NULL);
        if (r >= 0) {
                m.root = openat(process, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
                r = m.root < 0 ? -errno : 0;
        }
        if (r >= 0)
                r = read_base(process, &m.base);
        line = r >= 0 ? strstr(status, "\nCapBnd:") : NULL;
        /* It is still the one in that group. */
        if (r >= 0 && (!line || machine_leader_find(cgroup, &again) < 0 || again != leader ||
                                      !machine_status_is_leader(status)))
                r = -ESRCH;
        if (r < 0) {
                machine_done(&m);
                return kerror_set_errno(reterr, r, "Cannot open the machine's namespaces: %m");
        }

        m.bounding = strtoull(line + strlen("\nCapBnd:"), NULL, 16);
        *ret = m;
        return 0;
}

static int connect_to(const char *path) {
        struct sockaddr_un sa = { .sun_family = AF_UNIX };
        _cleanup_close_ int fd = -EBADF;

        if (strlen(path) >= sizeof(sa.sun_path))
                return -ENAMETOOLONG;
        memcpy(sa.sun_path, path, strlen(path));
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *) &sa, sizeof(sa)) < 0)
                return -errno;
        return TAKE_FD(fd);
}

static int send_terminal(int socket_fd, int master) {
        union {
                struct cmsghdr header;
                uint8_t space[CMSG_SPACE(sizeof(int))];
        } control = {};
        struct iovec iov = { .iov_base = (char *) "/dev/ptmx", .iov_len = strlen("/dev/ptmx") };
        struct msghdr m = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
        };
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);

        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &master, sizeof(master));
        return sendmsg(socket_fd, &m, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* One of the machine's own terminals. What the machine has put in its place is none. */
static int take_terminal(int socket_fd, const EnterProcess *p) {
        _cleanup_close_ int master = -EBADF, slave = -EBADF;
        struct stat st;
        int zero = 0, r;

        master = open("/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        if (master < 0 || fstat(master, &st) < 0)
                return -errno;
        if (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(5, 2))
                return -ENOTTY;
        if (ioctl(master, TIOCSPTLCK, &zero) < 0)
                return -errno;
        slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
        if (slave < 0)
                return -errno;
        if (fchown(slave, p->uid, (gid_t) -1) < 0 || fcntl(master, F_SETFL, O_RDWR) < 0)
                return -errno;
        r = send_terminal(socket_fd, master);
        if (r < 0)
                return r;

        if (setsid() < 0 || ioctl(slave, TIOCSCTTY, 0) < 0)
                return -errno;
        for (int fd = 0; fd <= 2; fd++)
                if (dup2(slave, fd) < 0)
                        return -errno;
        return 0;
}

static int become(const Machine *m, const EnterProcess *p) {
        for (unsigned c = 0; prctl(PR_CAPBSET_READ, c) >= 0; c++)
                if (!(m->bounding & UINT64_C(1) << c) && prctl(PR_CAPBSET_DROP, c) < 0)
                        return -errno;
        if (setgroups(p->n_groups, p->groups) < 0 || setresgid(p->gid, p->gid, p->gid) < 0 ||
                        setresuid(p->uid, p->uid, p->uid) < 0)
                return -errno;
        return 0;
}

/* So that /dev/stdout can be opened by name: pipes belong to who made them. */
static int give_pipes(const Machine *m, const EnterProcess *p) {
        for (int fd = 0; fd <= 2; fd++) {
                struct stat st;

                if (fstat(fd, &st) >= 0 && S_ISFIFO(st.st_mode) &&
                                fchown(fd, m->base + p->uid, m->base + p->gid) < 0)
                        return -errno;
        }
        return 0;
}

typedef struct Inside {
        const Machine *machine;
        const EnterProcess *process;
        scmp_filter_ctx filter; /* NULL: none */
        int console;            /* -EBADF: no terminal */
} Inside;

/* What fails first; what is done in the machine's view is as the machine lets it be. Only comes back with an error. */
static int run_inside(const Inside *in, const char **ret_what) {
        sigset_t none;
        int r;

        *ret_what = "hand over the pipes";
        r = give_pipes(in->machine, in->process);
        if (r < 0)
                return r;
        *ret_what = "enter the machine's namespaces";
        for (size_t i = 0; i < ELEMENTSOF(namespaces); i++) {
                if (namespaces[i].flag == CLONE_NEWPID || in->machine->fds[i] < 0)
                        continue;
                if (namespaces[i].flag == CLONE_NEWUSER &&
                                (fchdir(in->machine->root) < 0 || chroot(".") < 0))
                        return -errno;
                if (setns(in->machine->fds[i], namespaces[i].flag) < 0)
                        return -errno;
        }
        /* A machine with this machine's users. */
        if (in->machine->fds[ELEMENTSOF(namespaces) - 1] < 0 &&
                        (fchdir(in->machine->root) < 0 || chroot(".") < 0))
                return -errno;
        if (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
                return -errno;

        *ret_what = "get a terminal in the machine";
        r = in->console >= 0 ? take_terminal(in->console, in->process) : 0;
        if (r < 0)
                return r;
        *ret_what = "filter system calls";
        r = in->filter ? seccomp_load(in->filter) : 0;
        if (r < 0)
                return r;
        *ret_what = "become the user";
        r = become(in->machine, in->process);
        if (r < 0)
                return r;
        *ret_what = "change to the working directory";
        if (chdir(in->process->cwd) < 0 && chdir("/") < 0)
                return -errno;
        *ret_what = "end with who has started it";
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
                return -errno;

        (void) sigemptyset(&none);
        (void) sigprocmask(SIG_SETMASK, &none, NULL);
        FOREACH_ARRAY(s, ((const int[]){ SIGHUP, SIGINT, SIGTERM, SIGPIPE }), 4)
                (void) signal(*s, SIG_DFL);
        *ret_what = "execute it";
        environ = in->process->env;
        (void) execvp(in->process->args[0], in->process->args);
        return -errno;
}

typedef struct Failure {
        int r;
        char what[64];
} Failure;

static void child_main(const Inside *in, int report) __attribute__((noreturn));
static void child_main(const Inside *in, int report) {
        const char *what = "";
        Failure f = {};

        f.r = run_inside(in, &what);
        (void) strncpy(f.what, what, sizeof(f.what) - 1);
        (void) loop_write(report, &f, sizeof(f));
        _exit(EXIT_FAILURE);
}

static int write_pid(const char *path, pid_t pid) {
        _cleanup_free_ char *text = strprintf("%i\n", (int) pid);
        _cleanup_close_ int fd = -EBADF;

        if (!text)
                return -ENOMEM;
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
        return fd < 0 ? -errno : loop_write(fd, text, strlen(text));
}

static int wait_for(pid_t pid) {
        int status;

        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return -errno;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int run(const Inside *in, const EnterOptions *o, KError *reterr) {
        _cleanup_close_ int report = -EBADF, report_out = -EBADF;
        Failure f = {};
        int fds[2], r;
        ssize_t n;
        pid_t pid;

        FOREACH_ARRAY(ns, namespaces, ELEMENTSOF(namespaces)) {
                int fd = in->machine->fds[ns - namespaces];

                if (ns->flag == CLONE_NEWPID && fd >= 0 && setns(fd, CLONE_NEWPID) < 0)
                        return kerror_set_errno(
                                        reterr, -errno, "Cannot enter the machine's process namespace: %m");
        }
        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        report = fds[0];
        report_out = fds[1];
        pid = fork();
        if (pid < 0)
                return kerror_set_errno(reterr, -errno, "Cannot start a process in the machine: %m");
        if (pid == 0)
                child_main(in, report_out);

        /* Its end is closed by the execution. */
        report_out = safe_close(report_out);
        n = loop_read(report, &f, sizeof(f));
        if (n != 0) {
                (void) wait_for(pid);
                f.what[sizeof(f.what) - 1] = '\0';
                return kerror_set_errno(reterr, f.r < 0 ? f.r : -EIO,
                                "Cannot run '%s' in the machine, cannot %s: %m", in->process->args[0],
                                f.what);
        }
        r = o->pid_file ? write_pid(o->pid_file, pid) : 0;
        if (r < 0) {
                (void) kill(pid, SIGKILL);
                (void) wait_for(pid);
                return kerror_set_errno(reterr, r, "Cannot write '%s': %m", o->pid_file);
        }
        return wait_for(pid);
}

int enter_run(const EnterOptions *o, KError *reterr) {
        _cleanup_json_ json_object *config = NULL, *process_json = NULL;
        _cleanup_(enter_process_done) EnterProcess process = {};
        _cleanup_close_ int console = -EBADF;
        json_object *machine_json, *seccomp = NULL;
        scmp_filter_ctx filter = NULL;
        _cleanup_free_ char *path = NULL;
        const char *cgroup;
        Machine machine;
        int r;

        /* Nothing in the machine may look at this process or at what it has open. */
        if (prctl(PR_SET_DUMPABLE, 0) < 0)
                return -errno;
        path = strjoin(o->directory, "/config.json");
        if (!path)
                return -ENOMEM;
        r = read_json(path, &config, reterr);
        if (r >= 0)
                r = json_get_object(config, "machine", &machine_json, reterr);
        if (r >= 0)
                r = json_get_string(machine_json, "cgroup", &cgroup, reterr);
        if (r >= 0)
                r = json_find_object(config, "seccomp", &seccomp, reterr);
        if (r >= 0)
                r = read_json(o->process, &process_json, reterr);
        if (r >= 0)
                r = enter_process_parse(process_json, &process, reterr);
        if (r < 0)
                return r;

        if (process.terminal && o->console_socket) {
                console = connect_to(o->console_socket);
                if (console < 0)
                        return kerror_set_errno(
                                        reterr, console, "Cannot connect to '%s': %m", o->console_socket);
        }
        r = seccomp ? enter_filter_new(seccomp, &filter) : 0;
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make the filter of system calls: %m");
        r = open_machine(cgroup, &machine, reterr);
        if (r >= 0) {
                r = run(&(Inside){ .machine = &machine,
                                        .process = &process,
                                        .filter = filter,
                                        .console = console },
                                o, reterr);
                machine_done(&machine);
        }
        if (filter)
                seccomp_release(filter);
        return r;
}
