/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "stream-exec.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "device-list.h"
#include "file-util.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "log.h"
#include "parse-util.h"
#include "runtime.h"
#include "string-util.h"
#include "unit-property.h"
#include "unit-release.h"
#include "unit-setup.h"

#define SYSTEMD           "org.freedesktop.systemd1"
#define MANAGER_PATH      "/org/freedesktop/systemd1"
#define MANAGER_INTERFACE "org.freedesktop.systemd1.Manager"

#define DIRECTORY_PREFIX  "exec-"
#define HANGUP_USEC       (5U * USEC_PER_SEC)
#define LOOK_USEC         USEC_PER_SEC
#define LOG_SIZE_MAX      (64U * 1024U)
#define CONFIG_SIZE_MAX   (8U * SPEC_SIZE_MAX)

struct StreamExec {
        sd_bus *bus;
        Unit *unit;
        char *name, *directory;
        stream_exec_started_t started;
        stream_exec_ended_t ended;
        void *userdata;

        bool tty, running, over, requested;
        struct winsize size;
        int fds[3]; /* ours */
        int pid_fd;
        int console_fd;
        sd_event_source *console, *watch, *process, *look;
        bool process_ended; /* the command, that is; systemd has not told yet */
        sd_bus_slot *start_slot;
};

static int set_user(json_object *process, const UserIdentity *identity) {
        _cleanup_json_ json_object *user = json_object_new_object(), *groups = json_object_new_array();
        int r;

        if (!user || !groups)
                return -ENOMEM;
        for (size_t i = 0; i < identity->n_groups; i++) {
                r = json_append(groups, json_object_new_uint64(identity->groups[i]));
                if (r < 0)
                        return r;
        }
        r = json_add_u64(user, "uid", identity->uid);
        if (r >= 0)
                r = json_add_u64(user, "gid", identity->gid);
        if (r >= 0)
                r = json_add(user, "additionalGids", TAKE_PTR(groups));
        return r < 0 ? r : json_add(process, "user", TAKE_PTR(user));
}

/* As after setuid(): root has what the container may have, others have nothing. */
static int set_capabilities(json_object *process, bool root) {
        static const char *const sets[] = { "effective", "permitted", "inheritable", "ambient" };
        json_object *capabilities = NULL, *bounding = NULL;
        int r;

        if (json_find_object(process, "capabilities", &capabilities, NULL) <= 0)
                return 0;
        (void) json_find_array(capabilities, "bounding", &bounding, NULL);
        FOREACH_ARRAY(s, sets, ELEMENTSOF(sets)) {
                _cleanup_json_ json_object *l = NULL;

                if (root && bounding && s < sets + 2) {
                        if (json_copy(bounding, &l) < 0)
                                return -ENOMEM;
                } else
                        l = json_object_new_array();
                r = json_add(capabilities, *s, TAKE_PTR(l));
                if (r < 0)
                        return r;
        }

        return 0;
}

static bool same_name(const char *a, const char *b) {
        size_t n = strcspn(a, "=");

        return n == strcspn(b, "=") && strneq(a, b, n);
}

/* Ours last and alone of their name. */
static int set_env(json_object *process, char *const *env, const char *home) {
        _cleanup_json_ json_object *l = json_object_new_array();
        _cleanup_free_ char *home_entry = NULL;
        json_object *old = NULL;
        int r;

        if (!l)
                return -ENOMEM;
        home_entry = home ? strjoin("HOME=", home) : NULL;
        if (home && !home_entry)
                return -ENOMEM;

        (void) json_find_array(process, "env", &old, NULL);
        FOREACH_JSON_ARRAY(entry, old) {
                const char *s = json_object_get_string(entry);
                bool given = !s || (home_entry && same_name(s, home_entry));

                STRV_FOREACH(e, env)
                        given = given || same_name(s, *e);
                if (!given && (r = json_append_string(l, s)) < 0)
                        return r;
        }
        if (home_entry && (r = json_append_string(l, home_entry)) < 0)
                return r;
        STRV_FOREACH(e, env) {
                r = json_append_string(l, *e);
                if (r < 0)
                        return r;
        }

        return json_add(process, "env", TAKE_PTR(l));
}

int stream_exec_process(json_object *config, const StreamExecOptions *o, const UserIdentity *identity,
                json_object **ret, KError *reterr) {
        _cleanup_json_ json_object *process = NULL;
        json_object *old;
        int r;

        if (!o->argv || !o->argv[0] || isempty(o->argv[0]))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "No command is given.");
        STRV_FOREACH(e, o->env)
                if (**e == '=' || !strchr(*e, '='))
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "An entry of the environment is not of the form NAME=value.");

        r = json_get_object(config, "process", &old, reterr);
        if (r < 0)
                return r;
        if (json_copy(old, &process) < 0)
                return -ENOMEM;

        r = json_add_strv(process, "args", o->argv);
        if (r >= 0)
                r = json_add_bool(process, "terminal", o->tty);
        if (r >= 0)
                r = set_env(process, o->env, identity ? identity->home : NULL);
        if (r >= 0 && identity)
                r = set_user(process, identity);
        if (r >= 0 && identity)
                r = set_capabilities(process, identity->uid == 0);
        if (r < 0)
                return r;
        json_object_object_del(process, "consoleSize");

        *ret = TAKE_PTR(process);
        return 0;
}

static char *path_of(const StreamExec *e, const char *name) {
        return strjoin(e->directory, "/", name);
}

/* It holds values of the environment: not a moment longer than it is needed. */
static void remove_process(const StreamExec *e) {
        _cleanup_free_ char *path = path_of(e, "process.json");

        if (path && unlink(path) < 0 && errno != ENOENT)
                log_warning_errno(-errno, "Cannot remove '%s': %m", path);
}

static void close_all(StreamExec *e) {
        FOREACH_ARRAY(fd, e->fds, ELEMENTSOF(e->fds))
                *fd = safe_close(*fd);
        e->process = sd_event_source_disable_unref(e->process);
        e->look = sd_event_source_disable_unref(e->look);
        e->pid_fd = safe_close(e->pid_fd);
        e->console = sd_event_source_disable_unref(e->console);
        e->watch = sd_event_source_disable_unref(e->watch);
        e->console_fd = safe_close(e->console_fd);
}

StreamExec *stream_exec_free(StreamExec *e) {
        int r;

        if (!e)
                return NULL;

        if (e->requested)
                unit_release(e->bus, e->name, /* stop= */ !e->over);
        close_all(e);
        sd_bus_slot_unref(e->start_slot);
        unit_free(e->unit);
        if (e->directory && (r = rm_rf_at(AT_FDCWD, e->directory)) < 0)
                log_warning_errno(r, "Cannot remove '%s': %m", e->directory);
        sd_bus_unref(e->bus);
        free(e->name);
        free(e->directory);
        free(e);
        return NULL;
}

int stream_exec_fd(const StreamExec *e, unsigned channel) {
        if (e->tty)
                return channel < 2 ? e->fds[0] : -EBADF;
        return channel < ELEMENTSOF(e->fds) ? e->fds[channel] : -EBADF;
}

int stream_exec_end_input(StreamExec *e) {
        struct termios t;

        if (!e->tty) {
                e->fds[0] = safe_close(e->fds[0]);
                return 0;
        }
        if (tcgetattr(e->fds[0], &t) < 0)
                return -errno;
        return write(e->fds[0], &t.c_cc[VEOF], 1) < 0 ? -errno : 0;
}

int stream_exec_resize(StreamExec *e, unsigned rows, unsigned columns) {
        if (rows > UINT16_MAX || columns > UINT16_MAX)
                return -ERANGE;
        if (!e->tty)
                return -ENOTTY;

        e->size = (struct winsize){ .ws_row = (unsigned short) rows, .ws_col = (unsigned short) columns };
        if (e->fds[0] >= 0 && ioctl(e->fds[0], TIOCSWINSZ, &e->size) < 0)
                return -errno;
        return 0;
}

int stream_exec_signal(StreamExec *e, int sig) {
        if (e->pid_fd < 0)
                return -ESRCH;
        return pidfd_send_signal(e->pid_fd, sig, NULL, 0) < 0 ? -errno : 0;
}

static void finish(StreamExec *e, int status, const KError *error) {
        if (e->over)
                return;
        e->over = true;
        e->process = sd_event_source_disable_unref(e->process);
        e->look = sd_event_source_disable_unref(e->look);
        remove_process(e);
        e->ended(e, status, error, e->userdata); /* may have freed it */
}

/* Runs once its PID is known and, with a terminal, that is here. */
static void check_started(StreamExec *e) {
        if (e->running || e->over || e->pid_fd < 0 || (e->tty && e->fds[0] < 0))
                return;

        e->running = true;
        remove_process(e);
        e->started(e, e->userdata);
}

static int on_look(sd_event_source *s, uint64_t usec, void *userdata) {
        StreamExec *e = userdata;
        int r;

        r = unit_read(e->unit);
        if (r >= 0)
                r = sd_event_source_set_time_relative(s, LOOK_USEC);
        if (r >= 0)
                r = sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
        if (r < 0)
                log_warning_errno(r, "Cannot ask how '%s' has ended: %m", e->name);
        return 0;
}

/* systemd tells at once, unless the signal is lost, as when it executes itself anew. */
static int on_process(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        StreamExec *e = userdata;
        int r;

        e->process_ended = true;
        e->process = sd_event_source_disable_unref(e->process);
        r = sd_event_add_time_relative(
                        sd_bus_get_event(e->bus), &e->look, CLOCK_MONOTONIC, LOOK_USEC, 0, on_look, e);
        if (r < 0)
                log_warning_errno(r, "Cannot look how '%s' ends: %m", e->name);
        return 0;
}

static void watch_process(StreamExec *e) {
        int r;

        if (e->pid_fd < 0)
                return;
        r = sd_event_add_io(sd_bus_get_event(e->bus), &e->process, e->pid_fd, EPOLLIN, on_process, e);
        if (r < 0)
                log_warning_errno(r, "Cannot watch the process of '%s': %m", e->name);
}

static void read_pid(StreamExec *e) {
        _cleanup_free_ char *path = path_of(e, "pid"), *text = NULL;
        uint64_t pid;

        if (e->pid_fd >= 0 || !path || read_file(path, 64, &text, NULL) < 0)
                return;
        text[strcspn(text, "\n")] = '\0';
        if (safe_atou64(text, &pid) < 0 || pid == 0 || pid > INT32_MAX)
                return;
        e->pid_fd = pidfd_open((pid_t) pid, 0);
        watch_process(e);
}

static int on_file(sd_event_source *s, const struct inotify_event *event, void *userdata) {
        StreamExec *e = userdata;

        if (event->len > 0 && streq(event->name, "pid")) {
                read_pid(e);
                check_started(e);
        }
        return 0;
}

static int take_terminal(StreamExec *e, int connection) {
        union {
                struct cmsghdr header;
                uint8_t space[CMSG_SPACE(sizeof(int))];
        } control;
        char text[4096];
        struct iovec iov = { .iov_base = text, .iov_len = sizeof(text) };
        struct msghdr m = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
        };
        struct cmsghdr *c;
        int fd;

        if (recvmsg(connection, &m, MSG_CMSG_CLOEXEC) < 0)
                return -errno;
        c = CMSG_FIRSTHDR(&m);
        if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS ||
                        c->cmsg_len != CMSG_LEN(sizeof(int)))
                return -EBADMSG;
        memcpy(&fd, CMSG_DATA(c), sizeof(fd));
        e->fds[0] = fd;
        if (e->size.ws_row > 0 && e->size.ws_col > 0)
                (void) ioctl(fd, TIOCSWINSZ, &e->size);
        return fd_set_nonblock(fd, true);
}

static int on_terminal(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        StreamExec *e = userdata;
        int r;

        r = take_terminal(e, fd);
        e->console = sd_event_source_disable_unref(e->console);
        e->console_fd = safe_close(e->console_fd);
        if (r < 0) /* the command cannot start then, and its unit's end says so */
                log_warning_errno(r, "The terminal of '%s' did not come: %m", e->name);
        check_started(e);
        return 0;
}

static int on_console(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        StreamExec *e = userdata;
        int r, connection;

        connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (connection < 0)
                return 0;
        e->console = sd_event_source_disable_unref(e->console);
        safe_close(e->console_fd);
        e->console_fd = connection;
        r = sd_event_add_io(sd_bus_get_event(e->bus), &e->console, connection, EPOLLIN, on_terminal, e);
        if (r < 0)
                log_warning_errno(r, "Cannot wait for the terminal of '%s': %m", e->name);
        return 0;
}

/* What the runtime says went wrong before there was a command. */
static void fail(StreamExec *e) {
        _cleanup_free_ char *path = path_of(e, "log"), *text = NULL, *message = NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;
        size_t size;

        if (path && read_file(path, LOG_SIZE_MAX, &text, &size) >= 0)
                message = runtime_log_message(text, size);
        (void) kerror_set(&error, K_RUNTIME, "The command cannot be run: %s",
                        message ?: "the container runtime gave no reason.");
        finish(e, -1, &error);
}

static void fail_unknown(StreamExec *e) {
        _cleanup_kerror_ KError error = KERROR_NULL;

        (void) kerror_set(&error, K_RUNTIME,
                        "The command has ended, and systemd does not know any more with which status.");
        finish(e, -1, &error);
}

static void on_unit(Unit *u, void *userdata) {
        const UnitState *s = unit_state(u);
        StreamExec *e = userdata;

        if (e->over || !e->requested)
                return;
        if (s->exec_main_code == 0) {
                if (e->process_ended && unit_state_is_gone(s))
                        fail_unknown(e);
                return;
        }

        /* Whose life was shorter than our turn. */
        read_pid(e);
        if (e->pid_fd < 0 && !e->running) {
                _cleanup_free_ char *path = path_of(e, "pid");

                if (!path || access(path, F_OK) < 0) {
                        fail(e);
                        return;
                }
        }
        if (!e->running && (!e->tty || e->fds[0] >= 0)) {
                e->running = true;
                e->started(e, e->userdata);
        }
        finish(e, s->exec_main_code == CLD_EXITED ? s->exec_main_status : 128 + s->exec_main_status, NULL);
}

static int on_start_reply(sd_bus_message *m, void *userdata, sd_bus_error *ret_error) {
        const sd_bus_error *error = sd_bus_message_get_error(m);
        StreamExec *e = userdata;

        e->start_slot = sd_bus_slot_unref(e->start_slot);
        if (error) {
                _cleanup_kerror_ KError k = KERROR_NULL;

                (void) kerror_set(&k, K_RUNTIME, "Unit '%s' cannot be started: %s", e->name,
                                error->message ?: error->name);
                finish(e, -1, &k);
        }
        return 0;
}

static int append_limit(sd_bus_message *m, const char *name, uint64_t value) {
        return value == UINT64_MAX ? 0 : unit_append_u64(m, name, value);
}

static int append_devices(sd_bus_message *m, const StreamExecOptions *o, KError *reterr) {
        _cleanup_(device_list_done) DeviceList devices = {};
        int r;

        if (o->want->spec->privileged)
                return 0;
        r = device_list_resolve(o->want->spec, &devices, reterr);
        if (r >= 0)
                r = unit_append_string(m, "DevicePolicy", "closed");
        STRV_FOREACH(d, devices.allow) {
                const char *blank = strrchr(*d, ' ');
                _cleanup_free_ char *path = blank ? strndup(*d, (size_t) (blank - *d)) : NULL;

                if (!path)
                        return -ENOMEM;
                if (r >= 0)
                        r = sd_bus_message_append(m, "(sv)", "DeviceAllow", "a(ss)", 1, path, blank + 1);
        }
        return r;
}

static int append_streams(const StreamExec *e, sd_bus_message *m, const int fds[static 3]) {
        if (e->tty)
                return sd_bus_message_append(m, "(sv)(sv)(sv)", "StandardInput", "s", "null",
                                "StandardOutput", "s", "null", "StandardError", "s", "null");
        return sd_bus_message_append(m, "(sv)(sv)(sv)", "StandardInputFileDescriptor", "h", fds[0],
                        "StandardOutputFileDescriptor", "h", fds[1], "StandardErrorFileDescriptor", "h",
                        fds[2]);
}

static int command(const StreamExec *e, const StreamExecOptions *o, char ***ret) {
        _cleanup_strv_free_ char **l = NULL;
        int r;

        if ((r = strv_extend(&l, o->runtime)) < 0 || (r = strv_extend(&l, "--log")) < 0 ||
                        (r = strv_extendf(&l, "%s/log", e->directory)) < 0 ||
                        (r = strv_extend(&l, "--log-format")) < 0 || (r = strv_extend(&l, "json")) < 0 ||
                        (r = strv_extend(&l, "--cgroup-manager=disabled")) < 0 ||
                        (r = strv_extend(&l, "exec")) < 0 || (r = strv_extend(&l, "--pid-file")) < 0 ||
                        (r = strv_extendf(&l, "%s/pid", e->directory)) < 0 ||
                        (r = strv_extend(&l, "--process")) < 0 ||
                        (r = strv_extendf(&l, "%s/process.json", e->directory)) < 0)
                return r;
        if (e->tty && ((r = strv_extend(&l, "--console-socket")) < 0 ||
                                      (r = strv_extendf(&l, "%s/console", e->directory)) < 0))
                return r;
        r = strv_extend(&l, o->container_id);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(l);
        return 0;
}

static int request(StreamExec *e, const StreamExecOptions *o, const int fds[static 3], KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_(unit_setup_done) UnitSetup setup = UNIT_SETUP_NULL;
        _cleanup_strv_free_ char **argv = NULL;
        _cleanup_free_ char *description = NULL;
        int r;

        r = unit_setup_from_want(o->want, o->want->spec->image, NULL, &setup);
        if (r < 0)
                return r;
        r = command(e, o, &argv);
        if (r < 0)
                return r;
        description = strprintf(
                        "Kontena command in %s/%s-%u", o->want->stack, o->want->service, o->want->number);
        if (!description)
                return -ENOMEM;

        if ((r = sd_bus_message_new_method_call(e->bus, &m, SYSTEMD, MANAGER_PATH, MANAGER_INTERFACE,
                             "StartTransientUnit")) < 0 ||
                        (r = sd_bus_message_append(m, "ss", e->name, "fail")) < 0 ||
                        (r = sd_bus_message_open_container(m, 'a', "(sv)")) < 0 ||
                        (r = unit_append_string(m, "Description", description)) < 0 ||
                        (r = unit_append_string(m, "Type", "exec")) < 0 ||
                        (r = unit_append_string(m, "Slice", o->want->slice)) < 0 ||
                        (r = unit_append_string(m, "CollectMode", "inactive-or-failed")) < 0 ||
                        (r = sd_bus_message_append(m, "(sv)", "AddRef", "b", 1)) <
                                        0 || /* until it was read */
                        (r = unit_append_command(m, "ExecStart", argv, false)) < 0 ||
                        (r = append_streams(e, m, fds)) < 0 ||
                        (r = sd_bus_message_append(m, "(sv)(sv)", "KillSignal", "i", (int32_t) SIGHUP,
                                         "TimeoutStopUSec", "t", (uint64_t) HANGUP_USEC)) < 0 ||
                        (r = append_limit(m, "MemoryMax", setup.memory_max)) < 0 ||
                        (r = append_limit(m, "MemorySwapMax", setup.memory_swap_max)) < 0 ||
                        (r = append_limit(m, "CPUQuotaPerSecUSec", setup.cpu_quota_per_sec_usec)) < 0 ||
                        (r = append_limit(m, "CPUWeight", setup.cpu_weight)) < 0 ||
                        (r = append_limit(m, "TasksMax", setup.tasks_max)) < 0 ||
                        (r = append_devices(m, o, reterr)) < 0)
                return r;
        if (o->bind_unit && ((r = unit_append_names(m, "BindsTo", o->bind_unit)) < 0 ||
                                            (r = unit_append_names(m, "After", o->bind_unit)) < 0))
                return r;
        if ((r = sd_bus_message_close_container(m)) < 0 ||
                        (r = sd_bus_message_append(m, "a(sa(sv))", 0)) < 0)
                return r;

        r = sd_bus_call_async(e->bus, &e->start_slot, m, on_start_reply, e, 0);
        if (r >= 0)
                e->requested = true;
        return r;
}

static int write_process(const StreamExec *e, const StreamExecOptions *o, KError *reterr) {
        _cleanup_(user_identity_done) UserIdentity identity = {};
        _cleanup_json_ json_object *config = NULL, *process = NULL;
        _cleanup_free_ char *path = NULL, *target = NULL;
        _cleanup_close_ int root = -EBADF, fd = -EBADF;
        _cleanup_erase_ char *text = NULL; /* secrets may be in its environment */
        const char *out;
        size_t size;
        int r;

        path = strjoin(o->directory, "/config.json");
        target = path_of(e, "process.json");
        if (!path || !target)
                return -ENOMEM;
        r = read_file(path, CONFIG_SIZE_MAX, &text, &size);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot read the container's configuration: %m");
        r = json_parse(text, size, CONFIG_SIZE_MAX, &config, reterr);
        if (r >= 0 && o->user) {
                root = open(o->root_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
                if (root < 0)
                        return kerror_set_errno(reterr, -errno, "Cannot open the container's root: %m");
                r = user_lookup(root, o->user, &identity, reterr);
        }
        if (r >= 0)
                r = stream_exec_process(config, o, o->user ? &identity : NULL, &process, reterr);
        if (r < 0)
                return r;

        out = json_text(process);
        fd = open(target, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (!out || fd < 0)
                return out ? -errno : -ENOMEM;
        return loop_write(fd, out, strlen(out));
}

static int open_console(StreamExec *e, sd_event *event) {
        struct sockaddr_un sa = { .sun_family = AF_UNIX };
        _cleanup_free_ char *path = path_of(e, "console");

        if (!path)
                return -ENOMEM;
        if (strlen(path) >= sizeof(sa.sun_path))
                return -ENAMETOOLONG;
        memcpy(sa.sun_path, path, strlen(path));
        e->console_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (e->console_fd < 0 || bind(e->console_fd, (struct sockaddr *) &sa, sizeof(sa)) < 0 ||
                        listen(e->console_fd, 1) < 0)
                return -errno;
        return sd_event_add_io(event, &e->console, e->console_fd, EPOLLIN, on_console, e);
}

/* Pipes, which can be opened by name in the container as /dev/stdout is; sockets cannot. */
static int open_pipes(StreamExec *e, int theirs[static 3]) {
        for (int i = 0; i < 3; i++) {
                int ends[2], r;

                if (pipe2(ends, O_CLOEXEC) < 0)
                        return -errno;
                e->fds[i] = ends[i == 0 ? 1 : 0];
                theirs[i] = ends[i == 0 ? 0 : 1];
                r = fd_set_nonblock(e->fds[i], true);
                if (r < 0)
                        return r;
        }

        return 0;
}

int stream_exec_start(const StreamExecOptions *o, stream_exec_started_t started, stream_exec_ended_t ended,
                void *userdata, StreamExec **ret, KError *reterr) {
        _cleanup_close_ int in = -EBADF, out = -EBADF, err = -EBADF;
        _cleanup_(stream_exec_freep) StreamExec *e = NULL;
        int theirs[3] = { -EBADF, -EBADF, -EBADF };
        uint64_t id;
        int r;

        if (getrandom(&id, sizeof(id), 0) != sizeof(id))
                return -EIO;
        e = new0(StreamExec, 1);
        if (!e)
                return -ENOMEM;
        *e = (StreamExec){
                .bus = sd_bus_ref(o->bus),
                .started = started,
                .ended = ended,
                .userdata = userdata,
                .tty = o->tty,
                .fds = { -EBADF, -EBADF, -EBADF },
                .pid_fd = -EBADF,
                .console_fd = -EBADF,
        };
        if (o->tty && (r = stream_exec_resize(e, o->rows, o->columns)) < 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "No terminal is as large as %ux%u.",
                                o->columns, o->rows);
        e->name = strprintf("kontena-exec-%016" PRIx64 ".service", id);
        e->directory = strprintf("%s/" DIRECTORY_PREFIX "%016" PRIx64, o->directory, id);
        if (!e->name || !e->directory)
                return -ENOMEM;

        r = mkdir(e->directory, 0700) < 0 ? -errno : write_process(e, o, reterr);
        if (r >= 0)
                r = sd_event_add_inotify(
                                o->event, &e->watch, e->directory, IN_CLOSE_WRITE | IN_MOVED_TO, on_file, e);
        if (r >= 0)
                r = o->tty ? open_console(e, o->event) : open_pipes(e, theirs);
        in = theirs[0];
        out = theirs[1];
        err = theirs[2];
        if (r >= 0)
                r = unit_new(o->units, e->name, on_unit, e, &e->unit);
        if (r >= 0)
                r = request(e, o, theirs, reterr);
        if (r < 0)
                return kerror_set_errno(reterr, r, "The command cannot be run: %m");

        *ret = TAKE_PTR(e);
        return 0;
}

static int on_left_over(sd_bus_message *m, void *userdata, sd_bus_error *ret_error) {
        sd_bus *bus = sd_bus_message_get_bus(m);
        int r;

        if (sd_bus_message_is_method_error(m, NULL))
                return 0;
        r = sd_bus_message_enter_container(m, 'a', "(ssssssouso)");
        while (r > 0) {
                const char *name;

                r = sd_bus_message_enter_container(m, 'r', "ssssssouso");
                if (r <= 0)
                        break;
                r = sd_bus_message_read(m, "s", &name);
                if (r >= 0)
                        r = sd_bus_call_method_async(bus, NULL, SYSTEMD, MANAGER_PATH, MANAGER_INTERFACE,
                                        "StopUnit", NULL, NULL, "ss", name, "replace");
                if (r >= 0)
                        r = sd_bus_message_skip(m, "sssssouso");
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        if (r < 0)
                log_warning_errno(r, "Commands of a daemon before this one may still run: %m");
        return 0;
}

static int is_visible(const struct dirent *d) {
        return d->d_name[0] != '.';
}

static int is_ours(const struct dirent *d) {
        const char *id = startswith(d->d_name, DIRECTORY_PREFIX);

        return id && strlen(id) == 16 && strspn(id, "0123456789abcdef") == 16;
}

/* <instance>/<generation>/exec-<id> */
static int sweep_files(int parent_fd, const char *path, unsigned depth) {
        struct dirent **entries = NULL;
        _cleanup_close_ int fd = -EBADF;
        int n, r = 0;

        fd = openat(parent_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
                return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
        n = scandirat(fd, ".", &entries, depth == 0 ? is_ours : is_visible, NULL);
        if (n < 0)
                return -errno;
        for (int i = 0; i < n; i++) {
                int q = depth == 0 ? rm_rf_at(fd, entries[i]->d_name)
                                   : sweep_files(fd, entries[i]->d_name, depth - 1);

                if (q < 0)
                        r = q;
                free(entries[i]);
        }
        free(entries);
        return r;
}

int stream_exec_sweep(sd_bus *bus, const char *instances_directory) {
        int r;

        r = sweep_files(AT_FDCWD, instances_directory, 2);
        if (r < 0)
                log_warning_errno(r, "Files of commands that were left over stay: %m");
        return sd_bus_call_method_async(bus, NULL, SYSTEMD, MANAGER_PATH, MANAGER_INTERFACE,
                        "ListUnitsByPatterns", on_left_over, NULL, "asas", 0, 1, "kontena-exec-*.service");
}
