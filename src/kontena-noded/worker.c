/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "worker.h"

#include <signal.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "file-util.h"
#include "log.h"
#include "string-util.h"

#define SYSTEMD           "org.freedesktop.systemd1"
#define MANAGER_PATH      "/org/freedesktop/systemd1"
#define MANAGER_INTERFACE "org.freedesktop.systemd1.Manager"

/* Signals of systemd are lost while it re-executes itself or our bus connection is replaced: ask now and then. */
#define CHECK_USEC        (10U * USEC_PER_SEC)
/* How long the unit's own account of its end may come behind that of its job. */
#define JOB_GRACE_USEC    (300U * USEC_PER_MSEC)
#define STOP_TIMEOUT_USEC (5U * USEC_PER_SEC)

struct Worker {
        sd_bus *bus;
        sd_event *event;
        char *unit;
        char *path;
        worker_exit_t done;
        void *userdata;

        sd_bus_slot *start_slot;
        sd_bus_slot *properties_slot;
        sd_bus_slot *job_slot;
        sd_bus_slot *check_slot;
        sd_event_source *check_timer;

        unsigned n_checks;
        bool seen_active;
        bool job_removed;
        bool ended;
        char *result;  /* of the service: "success", "exit-code", "oom-kill", ... */
        int exec_code; /* CLD_*, 0 while it runs */
        int exec_status;
};

const char *worker_unit(const Worker *w) {
        return w->unit;
}

static void worker_disconnect(Worker *w) {
        w->start_slot = sd_bus_slot_unref(w->start_slot);
        w->properties_slot = sd_bus_slot_unref(w->properties_slot);
        w->job_slot = sd_bus_slot_unref(w->job_slot);
        w->check_slot = sd_bus_slot_unref(w->check_slot);
        w->check_timer = sd_event_source_disable_unref(w->check_timer);
}

Worker *worker_free(Worker *w) {
        int r;

        if (!w)
                return NULL;

        worker_disconnect(w);
        if (!w->ended && w->path) {
                r = sd_bus_call_method_async(w->bus, NULL, SYSTEMD, MANAGER_PATH, MANAGER_INTERFACE,
                                "StopUnit", NULL, NULL, "ss", w->unit, "replace");
                if (r == -ENOTCONN) /* the daemon ends, and so does the worker: its socket is closed */
                        log_debug_errno(r, "Unit '%s' is left to end by itself: %m", w->unit);
                else if (r < 0)
                        log_warning_errno(r, "Unit '%s' is left to end by itself: %m", w->unit);
        }

        sd_bus_unref(w->bus);
        sd_event_unref(w->event);
        free(w->unit);
        free(w->path);
        free(w->result);
        free(w);
        return NULL;
}

/* Statuses of systemd, not of the program, that an operator can do something about. */
static const char *exec_failure(int status) {
        switch (status) {
        case 203:
                return "its program could not be executed";
        case 217:
                return "its user does not exist";
        case 218:
                return "its capabilities could not be set";
        case 226:
                return "its view of the file system could not be made";
        case 228:
                return "its system call filter could not be installed";
        case 243:
                return "its credentials could not be read";
        default:
                return NULL;
        }
}

static void worker_end(Worker *w, const KError *error) {
        w->ended = true;
        worker_disconnect(w);
        w->done(w, error, w->userdata); /* may have freed w */
}

static void worker_finish(Worker *w) {
        _cleanup_kerror_ KError e = KERROR_NULL;

        if (w->result && streq(w->result, "oom-kill"))
                (void) kerror_set(&e, K_RUNTIME, "Unit '%s' was killed for lack of memory.", w->unit);
        else if (w->result && streq(w->result, "timeout"))
                (void) kerror_set(&e, K_TIMEOUT, "Unit '%s' took too long and was stopped.", w->unit);
        else if (w->exec_code == CLD_EXITED && w->exec_status != 0) {
                const char *failure = exec_failure(w->exec_status);

                (void) kerror_set(&e, K_RUNTIME, "Unit '%s' ended with status %i%s%s.", w->unit,
                                w->exec_status, failure ? ": " : "", strempty(failure));
        } else if (w->exec_code == CLD_KILLED || w->exec_code == CLD_DUMPED)
                (void) kerror_set(&e, K_RUNTIME, "Unit '%s' was ended by signal %s.", w->unit,
                                strna(sigabbrev_np(w->exec_status)));
        else if (w->exec_code == 0)
                (void) kerror_set(&e, K_RUNTIME, "Unit '%s' ended and nothing is known of it (%s).", w->unit,
                                strna(w->result));

        worker_end(w, kerror_is_set(&e) ? &e : NULL);
}

/* Reads one "a{sv}" entry whose key has been read. */
static int read_property(Worker *w, sd_bus_message *m, const char *key, const char **state) {
        const char *s;

        if (streq(key, "ActiveState"))
                return sd_bus_message_read(m, "v", "s", state);
        if (streq(key, "ExecMainCode"))
                return sd_bus_message_read(m, "v", "i", &w->exec_code);
        if (streq(key, "ExecMainStatus"))
                return sd_bus_message_read(m, "v", "i", &w->exec_status);
        if (streq(key, "Result")) {
                int r = sd_bus_message_read(m, "v", "s", &s);

                return r < 0 ? r : free_and_strdup(&w->result, s);
        }

        return sd_bus_message_skip(m, "v");
}

/* Takes "a{sv}" and sees whether it says that the unit ended. The callback may have freed w when 1 is returned. */
static int worker_take_properties(Worker *w, sd_bus_message *m) {
        const char *state = NULL;
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                const char *key;

                r = sd_bus_message_read(m, "s", &key);
                if (r >= 0)
                        r = read_property(w, m, key, &state);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return r;
        r = sd_bus_message_exit_container(m);
        if (r < 0)
                return r;

        if (!state)
                return 0;
        if (STR_IN_SET(state, "activating", "active", "deactivating", "reloading"))
                w->seen_active = true;
        else if (streq(state, "failed") ||
                        (streq(state, "inactive") &&
                                        (w->seen_active || w->job_removed || w->exec_code != 0))) {
                worker_finish(w);
                return 1;
        }

        return 0;
}

static int on_properties_changed(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Worker *w = userdata;
        const char *interface;
        int r;

        r = sd_bus_message_read(m, "s", &interface);
        if (r >= 0)
                r = worker_take_properties(w, m);
        if (r < 0)
                log_debug_errno(r, "Ignoring a signal about '%s': %m", w->unit);

        return 0;
}

static int on_checked(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Worker *w = userdata;
        int r;

        w->check_slot = sd_bus_slot_unref(w->check_slot);
        if (sd_bus_message_is_method_error(m, NULL)) {
                /* systemd away or busy: the next check tells. */
                if (sd_bus_message_is_method_error(m, "org.freedesktop.systemd1.NoSuchUnit") ||
                                sd_bus_message_is_method_error(m, SD_BUS_ERROR_UNKNOWN_OBJECT))
                        worker_finish(w);
                return 0;
        }

        r = worker_take_properties(w, m);
        if (r < 0)
                log_debug_errno(r, "Cannot read the state of '%s': %m", w->unit);

        return 0;
}

static int on_check_timer(sd_event_source *s, uint64_t usec, void *userdata) {
        Worker *w = userdata;
        int r;

        if (!w->check_slot && !w->start_slot) {
                /* Inactive counts once the job is gone; when even that signal was lost, after a minute. */
                w->n_checks++;
                if (w->job_removed || w->n_checks * CHECK_USEC >= 60U * USEC_PER_SEC)
                        w->seen_active = true;
                r = sd_bus_call_method_async(w->bus, &w->check_slot, SYSTEMD, w->path,
                                "org.freedesktop.DBus.Properties", "GetAll", on_checked, w, "s", "");
                if (r < 0)
                        log_debug_errno(r, "Cannot ask for the state of '%s': %m", w->unit);
        }

        r = sd_event_source_set_time_relative(s, CHECK_USEC);
        if (r >= 0)
                r = sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
        return r;
}

static int on_job_removed(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Worker *w = userdata;
        const char *job, *unit, *result;
        uint32_t id;

        if (sd_bus_message_read(m, "uoss", &id, &job, &unit, &result) < 0 || !streq(unit, w->unit))
                return 0;

        w->job_removed = true;
        if (streq(result, "done"))
                w->seen_active = true;
        else if (sd_event_source_set_time_relative(w->check_timer, JOB_GRACE_USEC) >= 0)
                (void) sd_event_source_set_enabled(w->check_timer, SD_EVENT_ONESHOT);

        return 0;
}

static int on_started(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Worker *w = userdata;
        const sd_bus_error *e = sd_bus_message_get_error(m);

        w->start_slot = sd_bus_slot_unref(w->start_slot);
        if (e) {
                _cleanup_kerror_ KError k = KERROR_NULL;

                (void) kerror_set(&k, K_RUNTIME, "Unit '%s' cannot be started: %s", w->unit,
                                e->message ?: e->name);
                worker_end(w, &k);
        }

        return 0;
}

static int append_property_strv(sd_bus_message *m, const char *name, char *const *l) {
        int r;

        if (!l || !l[0])
                return 0;
        if ((r = sd_bus_message_open_container(m, 'r', "sv")) < 0 ||
                        (r = sd_bus_message_append(m, "s", name)) < 0 ||
                        (r = sd_bus_message_open_container(m, 'v', "as")) < 0 ||
                        (r = sd_bus_message_append_strv(m, (char **) l)) < 0 ||
                        (r = sd_bus_message_close_container(m)) < 0)
                return r;

        return sd_bus_message_close_container(m);
}

static int append_filter(sd_bus_message *m, const char *name, bool allow, char *const *l) {
        int r;

        if (!l || !l[0])
                return 0;
        if ((r = sd_bus_message_open_container(m, 'r', "sv")) < 0 ||
                        (r = sd_bus_message_append(m, "s", name)) < 0 ||
                        (r = sd_bus_message_open_container(m, 'v', "(bas)")) < 0 ||
                        (r = sd_bus_message_open_container(m, 'r', "bas")) < 0 ||
                        (r = sd_bus_message_append(m, "b", allow)) < 0 ||
                        (r = sd_bus_message_append_strv(m, (char **) l)) < 0 ||
                        (r = sd_bus_message_close_container(m)) < 0 ||
                        (r = sd_bus_message_close_container(m)) < 0)
                return r;

        return sd_bus_message_close_container(m);
}

static int append_exec(sd_bus_message *m, char *const *argv) {
        int r;

        if ((r = sd_bus_message_open_container(m, 'r', "sv")) < 0 ||
                        (r = sd_bus_message_append(m, "s", "ExecStart")) < 0 ||
                        (r = sd_bus_message_open_container(m, 'v', "a(sasb)")) < 0 ||
                        (r = sd_bus_message_open_container(m, 'a', "(sasb)")) < 0 ||
                        (r = sd_bus_message_open_container(m, 'r', "sasb")) < 0 ||
                        (r = sd_bus_message_append(m, "s", argv[0])) < 0 ||
                        (r = sd_bus_message_append_strv(m, (char **) argv)) < 0 ||
                        (r = sd_bus_message_append(m, "b", false)) < 0 ||
                        (r = sd_bus_message_close_container(m)) < 0 ||
                        (r = sd_bus_message_close_container(m)) < 0 ||
                        (r = sd_bus_message_close_container(m)) < 0)
                return r;

        return sd_bus_message_close_container(m);
}

static int append_binds(sd_bus_message *m, const char *name, char *const *a, char *const *b) {
        int r;

        if ((r = sd_bus_message_open_container(m, 'r', "sv")) < 0 ||
                        (r = sd_bus_message_append(m, "s", name)) < 0 ||
                        (r = sd_bus_message_open_container(m, 'v', "a(ssbt)")) < 0 ||
                        (r = sd_bus_message_open_container(m, 'a', "(ssbt)")) < 0)
                return r;
        STRV_FOREACH(p, a)
                if ((r = sd_bus_message_append(m, "(ssbt)", *p, *p, true, (uint64_t) MS_REC)) < 0)
                        return r;
        STRV_FOREACH(p, b)
                if ((r = sd_bus_message_append(m, "(ssbt)", *p, *p, true, (uint64_t) MS_REC)) < 0)
                        return r;
        if ((r = sd_bus_message_close_container(m)) < 0 || (r = sd_bus_message_close_container(m)) < 0)
                return r;

        return sd_bus_message_close_container(m);
}

static int append_credentials(sd_bus_message *m, char *const *l) {
        int r;

        STRV_FOREACH(p, l) {
                _cleanup_free_ char *name = NULL;
                const char *colon = strchr(*p, ':');

                if (!colon || colon == *p || colon[1] != '/')
                        return -EINVAL;
                name = strndup(*p, (size_t) (colon - *p));
                if (!name)
                        return -ENOMEM;
                r = sd_bus_message_append(m, "(sv)", "LoadCredential", "a(ss)", 1, name, colon + 1);
                if (r < 0)
                        return r;
        }

        return 0;
}

static int append_file_system(sd_bus_message *m, const WorkerOptions *o) {
        /* Each is bound by what it points to, so that /lib -> usr/lib works; a missing one is left out. */
        static const char *const visible[] = { "/usr", "/bin", "/lib", "/lib32", "/lib64", "/sbin",
                "/etc/ssl/certs", "/etc/pki", "/etc/ca-certificates", "/etc/crypto-policies", "/etc/gnutls",
                "/etc/ld.so.cache", "/etc/resolv.conf", "/etc/hosts", "/etc/host.conf", "/etc/gai.conf",
                "/etc/nsswitch.conf", "/etc/localtime", NULL };
        int r;

        r = sd_bus_message_append(
                        m, "(sv)(sv)", "PrivateTmp", "b", true, "PrivateDevices", "b", !o->device_files);
        if (r < 0)
                return r;
        if (!o->private_root) {
                r = sd_bus_message_append(
                                m, "(sv)(sv)", "ProtectSystem", "s", "strict", "ProtectHome", "s", "yes");
                return r < 0 ? r : append_property_strv(m, "ReadWritePaths", o->writable_paths);
        }

        /* Not together with ProtectSystem=: of two mounts for "/" systemd keeps one, and it was not this. */
        r = sd_bus_message_append(m, "(sv)(sv)", "TemporaryFileSystem", "a(ss)", 1, "/", "ro,mode=0755",
                        "MountAPIVFS", "b", true);
        if (r >= 0)
                r = append_binds(m, "BindReadOnlyPaths", (char *const *) visible, o->readable_paths);
        if (r >= 0 && o->writable_paths && o->writable_paths[0])
                r = append_binds(m, "BindPaths", o->writable_paths, NULL);
        return r;
}

static int append_sandbox(sd_bus_message *m, const WorkerOptions *o) {
        static const char *const service[] = { "@system-service", NULL },
                                 *const denied[] = { "@privileged", "@resources", NULL },
                                 *const internet[] = { "AF_INET", "AF_INET6", NULL },
                                 *const native[] = { "native", NULL }, *const none[] = { "AF_UNIX", NULL };
        static const char *const on[] = { "NoNewPrivileges", "ProtectKernelTunables", "ProtectKernelModules",
                "ProtectKernelLogs", "ProtectControlGroups", "ProtectClock", "ProtectHostname",
                "RestrictRealtime", "LockPersonality", "MemoryDenyWriteExecute", "RemoveIPC" };
        int r;

        FOREACH_ARRAY(p, on, ELEMENTSOF(on))
                if ((r = sd_bus_message_append(m, "(sv)", *p, "b", true)) < 0)
                        return r;

        if ((r = append_file_system(m, o)) < 0 ||
                        (r = sd_bus_message_append(m, "(sv)(sv)(sv)(sv)(sv)(sv)(sv)(sv)",
                                         "CapabilityBoundingSet", "t", o->capabilities,
                                         "AmbientCapabilities", "t", o->capabilities, "ProtectProc", "s",
                                         "invisible", "ProcSubset", "s", "pid", "RestrictNamespaces", "t",
                                         UINT64_C(0), "RestrictSUIDSGID", "b", !o->setuid_files,
                                         "PrivateNetwork", "b", !o->network, "UMask", "u", UINT32_C(0077))) <
                                        0 ||
                        (r = append_filter(m, "RestrictAddressFamilies", true,
                                         (char *const *) (o->network ? internet : none))) < 0 ||
                        (r = append_property_strv(m, "SystemCallArchitectures", (char *const *) native)) <
                                        0 ||
                        (r = append_filter(m, "SystemCallFilter", true, (char *const *) service)) < 0 ||
                        (r = append_filter(m, "SystemCallFilter", false, (char *const *) denied)) < 0 ||
                        (r = append_filter(m, "SystemCallFilter", true, o->system_calls)) < 0 ||
                        (r = sd_bus_message_append(m, "(sv)", "SystemCallErrorNumber", "i", EPERM)) < 0)
                return r;

        return o->user ? sd_bus_message_append(m, "(sv)", "User", "s", o->user)
                       : sd_bus_message_append(m, "(sv)", "DynamicUser", "b", true);
}

/* Behind the instances in CPU and disk, without swap and core dumps (credentials in memory), first to go when
 * memory is short. */
static int append_resources(sd_bus_message *m, const WorkerOptions *o) {
        int r;

        r = sd_bus_message_append(m, "(sv)(sv)(sv)(sv)(sv)(sv)(sv)", "CPUWeight", "t", UINT64_C(50),
                        "IOWeight", "t", UINT64_C(50), "TasksMax", "t", UINT64_C(32), "LimitCORE", "t",
                        UINT64_C(0), "MemorySwapMax", "t", UINT64_C(0), "OOMScoreAdjust", "i", 500,
                        "TimeoutStopUSec", "t", (uint64_t) STOP_TIMEOUT_USEC);
        if (r >= 0 && o->memory_max > 0)
                r = sd_bus_message_append(m, "(sv)", "MemoryMax", "t", o->memory_max);
        if (r >= 0 && o->runtime_max_usec > 0)
                r = sd_bus_message_append(m, "(sv)", "RuntimeMaxUSec", "t", o->runtime_max_usec);
        return r;
}

static int worker_request(Worker *w, const WorkerOptions *o, int fd) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        if ((r = sd_bus_message_new_method_call(w->bus, &m, SYSTEMD, MANAGER_PATH, MANAGER_INTERFACE,
                             "StartTransientUnit")) < 0 ||
                        (r = sd_bus_message_append(m, "ss", w->unit, "fail")) < 0 ||
                        (r = sd_bus_message_open_container(m, 'a', "(sv)")) < 0 ||
                        (r = sd_bus_message_append(m, "(sv)(sv)(sv)(sv)(sv)(sv)(sv)(sv)", "Description", "s",
                                         o->description ?: o->name, "Type", "s", "exec", "Slice", "s",
                                         WORKER_SLICE, "CollectMode", "s", "inactive-or-failed",
                                         "SyslogIdentifier", "s", o->name, "StandardInputFileDescriptor",
                                         "h", fd, "StandardOutputFileDescriptor", "h", fd, "StandardError",
                                         "s", "journal")) < 0 ||
                        /* Standard output is the socket all the same. But where its setting equals that of standard
                         * error, the one is made of the other, and messages would go into the socket. */
                        (r = sd_bus_message_append(m, "(sv)", "StandardOutput", "s", "null")) < 0 ||
                        /* Messages take the pipe to the journal: its socket is not reachable from the sandbox. */
                        (r = append_property_strv(m, "UnsetEnvironment",
                                         (char *const[]){ (char *) "JOURNAL_STREAM", NULL })) < 0 ||
                        (r = append_exec(m, o->argv)) < 0 ||
                        (r = append_property_strv(m, "Environment", o->environment)) < 0 ||
                        (r = append_credentials(m, o->credentials)) < 0 || (r = append_sandbox(m, o)) < 0 ||
                        (r = append_resources(m, o)) < 0 || (r = sd_bus_message_close_container(m)) < 0 ||
                        (r = sd_bus_message_append(m, "a(sa(sv))", 0)) < 0)
                return r;

        return sd_bus_call_async(w->bus, &w->start_slot, m, on_started, w, 0);
}

static int worker_watch(Worker *w) {
        int r;

        r = sd_bus_match_signal_async(w->bus, &w->properties_slot, SYSTEMD, w->path,
                        "org.freedesktop.DBus.Properties", "PropertiesChanged", on_properties_changed, NULL,
                        w);
        if (r >= 0)
                r = sd_bus_match_signal_async(w->bus, &w->job_slot, SYSTEMD, MANAGER_PATH, MANAGER_INTERFACE,
                                "JobRemoved", on_job_removed, NULL, w);
        if (r >= 0)
                r = sd_event_add_time_relative(w->event, &w->check_timer, CLOCK_MONOTONIC, CHECK_USEC,
                                USEC_PER_SEC, on_check_timer, w);
        if (r < 0)
                return r;

        /* Without a subscriber systemd sends no signals about units; a second subscription is refused, harmlessly. */
        return sd_bus_call_method_async(w->bus, NULL, SYSTEMD, MANAGER_PATH, MANAGER_INTERFACE, "Subscribe",
                        NULL, NULL, NULL);
}

int worker_start(sd_bus *bus, sd_event *event, const WorkerOptions *o, worker_exit_t done, void *userdata,
                Worker **ret, int *ret_fd) {
        _cleanup_(worker_freep) Worker *w = NULL;
        _cleanup_close_ int ours = -EBADF, theirs = -EBADF;
        uint64_t random;
        int r, fds[2];

        assert(bus && event && o && o->name && o->argv && o->argv[0] && done && ret && ret_fd);

        w = new0(Worker, 1);
        if (!w)
                return -ENOMEM;

        if (getrandom(&random, sizeof(random), 0) != sizeof(random))
                return -EIO;
        w->bus = sd_bus_ref(bus);
        w->event = sd_event_ref(event);
        w->done = done;
        w->userdata = userdata;
        w->ended = true; /* nothing to stop until it has been asked for */
        w->unit = strprintf("%s-%016llx.service", o->name, (unsigned long long) random);
        if (!w->unit)
                return -ENOMEM;
        r = sd_bus_path_encode(MANAGER_PATH "/unit", w->unit, &w->path);
        if (r < 0)
                return r;

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
                return -errno;
        ours = fds[0];
        theirs = fds[1];
        r = fd_set_nonblock(ours, true);
        if (r >= 0)
                r = worker_watch(w);
        if (r >= 0)
                r = worker_request(w, o, theirs);
        if (r < 0)
                return r;

        w->ended = false;
        *ret = TAKE_PTR(w);
        *ret_fd = TAKE_FD(ours);
        return 0;
}
