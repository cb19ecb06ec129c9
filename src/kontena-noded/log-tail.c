/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "log-tail.h"

#include <systemd/sd-journal.h>
#include <unistd.h>

#include "file-util.h"
#include "job.h"
#include "log-stream.h"
#include "log.h"
#include "string-util.h"

#define TIMEOUT_USEC (2 * USEC_PER_SEC)
/* What was written last may still be on its way into the journal. */
#define LAG_USEC     (50 * USEC_PER_MSEC)
#define LAGS_MAX     8U

struct LogTail {
        char *match, *path;
        uint64_t since;
        Job *job;
        sd_event_source *timeout;
        log_tail_done_t done;
        void *userdata;
};

LogTail *log_tail_cancel(LogTail *t) {
        if (!t)
                return NULL;

        t->job = job_cancel(t->job);
        t->timeout = sd_event_source_disable_unref(t->timeout);
        if (t->path)
                (void) unlink(t->path);
        free(t->path);
        free(t->match);
        free(t);
        return NULL;
}

char *log_tail_join(char *const *newest_first) {
        _cleanup_strv_free_ char **lines = NULL;
        size_t size = 0, n = 0;
        char *text, *p;

        STRV_FOREACH(l, newest_first) {
                size_t length = strlen(*l);
                char *line;

                if (n == 0 && length >= LOG_TAIL_SIZE_MAX) /* its beginning, whole characters of it */
                        for (length = LOG_TAIL_SIZE_MAX - 1; ((unsigned char) (*l)[length] & 0xc0) == 0x80;)
                                length--;
                if (n >= LOG_TAIL_LINES_MAX || size + length + 1 > LOG_TAIL_SIZE_MAX)
                        break;
                line = strndup(*l, length);
                if (!line || strv_consume(&lines, line) < 0)
                        return NULL;
                for (char *c = line; *c; c++)
                        if ((unsigned char) *c < ' ' || *c == '\x7f')
                                *c = *c == '\t' ? ' ' : '?';
                size += strlen(line) + 1;
                n++;
        }

        text = p = malloc(size + 1);
        if (!text)
                return NULL;
        while (n > 0) {
                p = stpcpy(p, lines[--n]);
                if (n > 0)
                        p = stpcpy(p, "\n");
        }
        *p = '\0';
        return text;
}

static int take_lines(sd_journal *j, uint64_t since, char ***ret) {
        size_t n = 0;
        int r;

        r = sd_journal_seek_tail(j);
        while (r >= 0 && n < LOG_TAIL_LINES_MAX) {
                const void *data;
                uint64_t usec;
                size_t size;

                r = sd_journal_previous(j);
                if (r <= 0)
                        break;
                r = sd_journal_get_realtime_usec(j, &usec);
                if (r < 0 || usec < since)
                        break;
                if (sd_journal_get_data(j, "MESSAGE", &data, &size) < 0 || size < strlen("MESSAGE="))
                        continue;
                r = strv_consume(ret, log_text_sanitize((const char *) data + strlen("MESSAGE="),
                                                      size - strlen("MESSAGE=")));
                n++;
        }
        return MIN(r, 0);
}

/* In the child. */
static int read_tail(void *arg) {
        _cleanup_strv_free_ char **lines = NULL;
        _cleanup_free_ char *text = NULL;
        const LogTail *t = arg;
        sd_journal *j;
        int r;

        /* The journal is a little behind, under load more. */
        for (unsigned n = 0; n < LAGS_MAX && !lines; n++) {
                (void) usleep(LAG_USEC);
                r = sd_journal_open(&j, SD_JOURNAL_LOCAL_ONLY);
                if (r < 0)
                        return r;
                r = sd_journal_add_match(j, "_TRANSPORT=stdout", 0);
                if (r >= 0)
                        r = sd_journal_add_match(j, t->match, 0);
                if (r >= 0)
                        r = take_lines(j, t->since, &lines);
                sd_journal_close(j);
                if (r < 0)
                        return r;
        }

        text = log_tail_join(lines);
        return text ? write_file_atomic(t->path, text, strlen(text), 0600) : -ENOMEM;
}

static void finish(LogTail *t, const char *text) {
        t->done(t, isempty(text) ? NULL : text, t->userdata);
        log_tail_cancel(t);
}

static void on_read(Job *job, int r, void *userdata) {
        _cleanup_free_ char *text = NULL;
        LogTail *t = userdata;

        t->job = NULL;
        if (r >= 0)
                r = read_file(t->path, LOG_TAIL_SIZE_MAX + 1, &text, NULL);
        if (r < 0)
                log_debug_errno(r, "Cannot read the last lines of '%s': %m", t->match);
        finish(t, text);
}

static int on_timeout(sd_event_source *s, uint64_t usec, void *userdata) {
        finish(userdata, NULL);
        return 0;
}

static int start(sd_event *event, const char *field, const char *value, uint64_t since_usec,
                const char *directory, log_tail_done_t done, void *userdata, LogTail **ret) {
        _cleanup_(log_tail_cancelp) LogTail *t = NULL;
        int r;

        t = new0(LogTail, 1);
        if (!t)
                return -ENOMEM;
        t->match = strjoin(field, "=", value);
        t->path = strjoin(directory, "/log-tail");
        if (!t->match || !t->path)
                return -ENOMEM;
        t->since = since_usec;
        t->done = done;
        t->userdata = userdata;

        r = sd_event_add_time_relative(
                        event, &t->timeout, CLOCK_MONOTONIC, TIMEOUT_USEC, USEC_PER_SEC / 10, on_timeout, t);
        if (r >= 0)
                r = job_start(event, "kt-log-tail", read_tail, t, on_read, t, &t->job);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(t);
        return 0;
}

int log_tail_start(sd_event *event, const char *instance_id, uint64_t since_usec, const char *directory,
                log_tail_done_t done, void *userdata, LogTail **ret) {
        return start(event, "KONTENA_INSTANCE_ID", instance_id, since_usec, directory, done, userdata, ret);
}

int log_tail_start_unit(sd_event *event, const char *unit, uint64_t since_usec, const char *directory,
                log_tail_done_t done, void *userdata, LogTail **ret) {
        return start(event, "_SYSTEMD_UNIT", unit, since_usec, directory, done, userdata, ret);
}
