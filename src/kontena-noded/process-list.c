/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "process-list.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "file-util.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "parse-util.h"
#include "string-util.h"

#define PROC_FILE_MAX  (1024U * 1024U)
#define PROCS_SIZE_MAX (4U * 1024U * 1024U)
#define CGROUP_DEPTH   16U

typedef struct ProcessScan {
        int proc_fd;
        const char *passwd;
        uint64_t boot_usec; /* CLOCK_REALTIME when ticks began */
        uint64_t ticks_per_sec, page_size;
        json_object *list;
        size_t n, n_groups;
} ProcessScan;

int process_stat_parse(const char *text, ProcessStat *ret) {
        const char *open = strchr(text, '('), *close = strrchr(text, ')');
        uint64_t field[21] = {};
        ProcessStat s = {};
        size_t length;
        const char *p;

        if (!open || !close || close < open || close[1] != ' ' || close[2] == '\0')
                return -EBADMSG;
        length = MIN((size_t) (close - open - 1), sizeof(s.name) - 1);
        memcpy(s.name, open + 1, length);

        s.state = close[2];
        p = close + 3;
        /* From the fourth of proc(5) on, the parent, to the 24th, the resident pages. */
        for (size_t i = 0; i < ELEMENTSOF(field); i++) {
                char *end;

                errno = 0;
                field[i] = strtoull(p, &end, 10); /* a negative one is none of ours */
                if (end == p || errno != 0)
                        return -EBADMSG;
                p = end;
        }
        s.ppid = field[0];
        s.cpu_ticks = field[10] + field[11];
        s.start_ticks = field[18];
        s.rss_pages = field[20];

        *ret = s;
        return 0;
}

char *process_command_text(const char *cmdline, size_t size) {
        size_t n = MIN(size, (size_t) PROCESS_COMMAND_MAX);
        char *text;

        while (n > 0 && cmdline[n - 1] == '\0')
                n--;
        text = malloc(n + 1);
        if (!text)
                return NULL;

        for (size_t i = 0; i < n; i++) {
                unsigned char c = (unsigned char) cmdline[i];

                text[i] = c == '\0' ? ' ' : c < 0x20 || c == 0x7f ? '?' : (char) c;
        }
        text[n] = '\0';
        if (!utf8_is_valid(text, n))
                for (size_t i = 0; i < n; i++)
                        if ((unsigned char) text[i] >= 0x80)
                                text[i] = '?';
        return text;
}

char *process_user_name(const char *passwd, uid_t uid) {
        for (const char *line = passwd; line && *line;) {
                const char *end = strchrnul(line, '\n'), *first = memchr(line, ':', (size_t) (end - line));
                const char *second = first ? memchr(first + 1, ':', (size_t) (end - first - 1)) : NULL;
                const char *third = second ? memchr(second + 1, ':', (size_t) (end - second - 1)) : NULL;

                if (third && first > line && (size_t) (first - line) <= NAME_LENGTH_MAX) {
                        _cleanup_free_ char *name = strndup(line, (size_t) (first - line)),
                                            *number = strndup(second + 1, (size_t) (third - second - 1));
                        uint64_t value;

                        if (name && number && safe_atou64(number, &value) >= 0 && value == uid &&
                                        string_is_printable(name))
                                return TAKE_PTR(name);
                }
                line = *end ? end + 1 : end;
        }

        return NULL;
}

/* The process itself, not another that got its number meanwhile: all is read by one descriptor of its directory. */
static int add_process(ProcessScan *scan, uint64_t pid) {
        _cleanup_free_ char *stat_text = NULL, *cmdline = NULL, *command = NULL, *user = NULL;
        _cleanup_json_ json_object *o = NULL;
        _cleanup_close_ int fd = -EBADF;
        char number[24], state[2] = {};
        size_t size = 0;
        ProcessStat s;
        struct stat st;
        int r;

        (void) snprintf(number, sizeof(number), "%" PRIu64, pid);
        fd = openat(scan->proc_fd, number, O_DIRECTORY | O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0 || fstat(fd, &st) < 0 || read_file_at(fd, "stat", PROC_FILE_MAX, &stat_text, NULL) < 0)
                return 0;
        r = process_stat_parse(stat_text, &s);
        if (r < 0)
                return r;
        (void) read_file_at(fd, "cmdline", PROC_FILE_MAX * 4, &cmdline, &size);
        command = size > 0 ? process_command_text(cmdline, size)
                           : process_command_text(s.name, strlen(s.name));
        user = process_user_name(scan->passwd, st.st_uid);
        if (!user)
                user = strprintf("%u", (unsigned) st.st_uid);
        o = json_object_new_object();
        if (!command || !user || !o)
                return -ENOMEM;

        state[0] = s.state;
        r = json_add_u64(o, "pid", pid);
        if (r >= 0)
                r = json_add_u64(o, "ppid", s.ppid);
        if (r >= 0)
                r = json_add_string(o, "user", user);
        if (r >= 0)
                r = json_add_string(o, "state", state);
        if (r >= 0)
                r = json_add_u64(o, "cpu_usec", s.cpu_ticks * USEC_PER_SEC / scan->ticks_per_sec);
        if (r >= 0)
                r = json_add_u64(o, "memory", s.rss_pages * scan->page_size);
        if (r >= 0)
                r = json_add_u64(o, "started_at",
                                scan->boot_usec + s.start_ticks * USEC_PER_SEC / scan->ticks_per_sec);
        if (r >= 0)
                r = json_add_string(o, "command", command);
        if (r >= 0)
                r = json_append(scan->list, TAKE_PTR(o));
        if (r >= 0)
                scan->n++;
        return r;
}

static int scan_group(ProcessScan *scan, int fd, unsigned depth) {
        _cleanup_free_ char *procs = NULL;
        _cleanup_(closedirp) DIR *d = NULL;
        struct dirent *de;
        int r, copy;

        /* A group of threads has no list of processes: those are in its parent's. */
        r = read_file_at(fd, "cgroup.procs", PROCS_SIZE_MAX, &procs, NULL);
        if (r < 0 && !(r == -ENOENT || r == -ENODEV || r == -EOPNOTSUPP))
                return r;
        for (char *p = procs; p && *p && scan->n < PROCESSES_SHOWN_MAX;) {
                char *end = strchrnul(p, '\n');
                bool last = *end == '\0';
                uint64_t pid;

                *end = '\0';
                if (safe_atou64(p, &pid) >= 0 && pid > 0) {
                        r = add_process(scan, pid);
                        if (r < 0)
                                return r;
                }
                p = last ? end : end + 1;
        }
        if (depth >= CGROUP_DEPTH)
                return 0;

        copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (copy < 0)
                return errno == ENOENT || errno == ENODEV ? 0 : -errno;
        d = fdopendir(copy);
        if (!d) {
                safe_close(copy);
                return -ENOMEM;
        }
        while ((de = readdir(d)) && scan->n < PROCESSES_SHOWN_MAX && scan->n_groups < CGROUPS_READ_MAX) {
                _cleanup_close_ int child = -EBADF;

                if (de->d_type != DT_DIR || de->d_name[0] == '.')
                        continue;
                child = openat(fd, de->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (child < 0)
                        continue;
                scan->n_groups++;
                r = scan_group(scan, child, depth + 1);
                if (r < 0)
                        return r;
        }

        return 0;
}

int process_list(const char *proc, const char *cgroup, const char *passwd, json_object **ret,
                KError *reterr) {
        _cleanup_json_ json_object *o = NULL, *list = NULL;
        _cleanup_close_ int proc_fd = -EBADF, fd = -EBADF;
        struct timespec boot = {};
        ProcessScan scan;
        int r;

        proc_fd = open(proc, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (proc_fd < 0)
                return kerror_set_errno(reterr, -errno, "Cannot open '%s': %m", proc);
        o = json_object_new_object();
        list = json_object_new_array();
        if (!o || !list)
                return -ENOMEM;

        (void) clock_gettime(CLOCK_BOOTTIME, &boot);
        scan = (ProcessScan){
                .proc_fd = proc_fd,
                .passwd = passwd,
                .boot_usec = now_realtime() -
                             ((uint64_t) boot.tv_sec * USEC_PER_SEC + (uint64_t) boot.tv_nsec / 1000),
                .ticks_per_sec = (uint64_t) sysconf(_SC_CLK_TCK),
                .page_size = (uint64_t) sysconf(_SC_PAGESIZE),
                .list = list,
        };

        fd = open(cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 && errno != ENOENT)
                return kerror_set_errno(reterr, -errno, "Cannot open '%s': %m", cgroup);
        r = fd >= 0 ? scan_group(&scan, fd, 0) : 0;
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot read the processes of '%s': %m", cgroup);

        r = json_add(o, "processes", TAKE_PTR(list));
        if (r < 0)
                return r;
        *ret = TAKE_PTR(o);
        return 0;
}
