/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "report.h"

#include <poll.h>

#include "file-util.h"
#include "json-util.h"
#include "kontena-limits.h"

#define INTERVAL_USEC (250U * USEC_PER_MSEC)

static const char *const report_phase_table[_REPORT_PHASE_MAX] = {
        [REPORT_FETCHING] = "fetching",
        [REPORT_WAITING] = "waiting",
        [REPORT_UNPACKING] = "unpacking",
};
DEFINE_STRING_TABLE_LOOKUP(report_phase, ReportPhase)

static int read_line(int fd, char *buffer, size_t size, size_t *ret) {
        size_t n = 0;

        while (n < size) {
                ssize_t k = read(fd, buffer + n, size - n);
                char *end;

                if (k < 0 && errno == EINTR)
                        continue;
                if (k < 0)
                        return -errno;
                end = k > 0 ? memchr(buffer + n, '\n', (size_t) k) : NULL;
                if (end || k == 0) {
                        *ret = end ? (size_t) (end - buffer) : n;
                        return 0;
                }
                n += (size_t) k;
        }

        return -E2BIG;
}

int report_read_request(Report *p, json_object **ret, KError *reterr) {
        _cleanup_free_ char *buffer = NULL;
        size_t n = 0;
        int r;

        buffer = malloc(SPEC_SIZE_MAX);
        if (!buffer)
                return -ENOMEM;

        r = read_line(p->input_fd, buffer, SPEC_SIZE_MAX, &n);
        if (r < 0)
                (void) kerror_set_errno(reterr, r, "The request cannot be read: %m");
        else {
                r = json_parse(buffer, n, SPEC_SIZE_MAX, ret, reterr);
                kerror_prefix(reterr, "The request is malformed");
        }
        erase_memory(buffer, SPEC_SIZE_MAX);
        return r;
}

static int write_line(Report *p, json_object *o) {
        const char *text = json_text(o);
        _cleanup_free_ char *line = NULL;
        int r;

        line = text ? strjoin(text, "\n") : NULL;
        if (!line)
                return -ENOMEM;
        r = loop_write(p->output_fd, line, strlen(line));
        if (r == -EPIPE || r == -ECONNRESET)
                p->gone = true;
        return r;
}

/* The other end is closed; what else may be in the socket is no matter. */
static bool listener_gone(Report *p, int timeout_ms) {
        struct pollfd pfd = { .fd = p->output_fd, .events = 0 };

        if (!p->gone && poll(&pfd, 1, timeout_ms) > 0 && (pfd.revents & (POLLHUP | POLLERR)))
                p->gone = true;
        return p->gone;
}

int report_progress(Report *p) {
        _cleanup_json_ json_object *line = NULL;
        json_object *progress;
        uint64_t now = now_monotonic();
        int r;

        if (p->gone)
                return -ECANCELED;
        if (p->last_usec != 0 && now - p->last_usec < INTERVAL_USEC && p->phase == p->last_phase)
                return 0;
        if (listener_gone(p, 0))
                return -ECANCELED;

        line = json_object_new_object();
        progress = json_object_new_object();
        if (!line || json_add(line, "progress", progress) < 0)
                return -ENOMEM;
        if ((r = json_add_u64(progress, "bytes", p->bytes)) < 0 ||
                        (r = json_add_u64(progress, "total", p->total)) < 0 ||
                        (r = json_add_string(progress, "phase", report_phase_to_string(p->phase))) < 0)
                return r;

        p->last_usec = now;
        p->last_phase = p->phase;
        r = write_line(p, line);
        return p->gone ? -ECANCELED : r;
}

int report_sleep(Report *p, uint64_t usec) {
        uint64_t end = now_monotonic() + usec;

        for (;;) {
                uint64_t now = now_monotonic();

                if (now >= end)
                        return 0;
                if (listener_gone(p, (int) MIN((end - now + 999) / 1000, UINT64_C(60000))))
                        return -ECANCELED;
        }
}

int report_result(Report *p, json_object *result) {
        _cleanup_json_ json_object *line = NULL;
        int r;

        line = json_object_new_object();
        if (!line)
                return -ENOMEM;
        r = json_add(line, "result", json_object_get(result));
        return r < 0 ? r : write_line(p, line);
}

int report_error(Report *p, const KError *error, bool unreachable) {
        _cleanup_json_ json_object *line = NULL;
        json_object *o;
        int r;

        line = json_object_new_object();
        o = json_object_new_object();
        if (!line || json_add(line, "error", o) < 0)
                return -ENOMEM;
        r = json_add_string(o, "code", kerror_bus_name(error->code));
        if (r >= 0)
                r = json_add_string(o, "message", kerror_message(error));
        if (r >= 0 && unreachable)
                r = json_add_bool(o, "unreachable", true);
        return r < 0 ? r : write_line(p, line);
}
