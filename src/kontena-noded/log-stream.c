/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "log-stream.h"

#include <sys/epoll.h>
#include <systemd/sd-journal.h>
#include <utlist.h>

#include "file-util.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "log.h"
#include "names.h"
#include "parse-util.h"
#include "string-util.h"

#define BATCH_ENTRIES_MAX 100U
#define BATCH_BYTES_MAX   (128U * 1024U)
#define SCAN_MAX          1000U                 /* entries looked at in one turn of the loop */
#define PACE_USEC         (5 * USEC_PER_MSEC)   /* between batches: other work comes in between */
#define FULL_USEC         (200 * USEC_PER_MSEC) /* the channel's queue is full */

typedef struct LogStream LogStream;

struct LogStream {
        LogStreams *streams;
        uint64_t id;
        sd_journal *journal;
        sd_event_source *io, *timer;
        bool follow, reading;
        uint64_t left;      /* lines, where not following */
        json_object *batch; /* read, not yet sent */
        bool end;           /* batch is the last one */
        LogStream *next;
};

struct LogStreams {
        sd_event *event;
        log_send_t send;
        void *userdata;
        LogStream *list;
        size_t n;
};

static void stream_free(LogStream *s) {
        LL_DELETE(s->streams->list, s);
        s->streams->n--;
        sd_event_source_disable_unref(s->io);
        sd_event_source_disable_unref(s->timer);
        sd_journal_close(s->journal);
        json_object_put(s->batch);
        free(s);
}

int log_streams_new(sd_event *event, log_send_t send, void *userdata, LogStreams **ret) {
        LogStreams *l;

        l = new0(LogStreams, 1);
        if (!l)
                return -ENOMEM;
        l->event = event;
        l->send = send;
        l->userdata = userdata;

        *ret = l;
        return 0;
}

void log_streams_close_all(LogStreams *l) {
        while (l->list)
                stream_free(l->list);
}

LogStreams *log_streams_free(LogStreams *l) {
        if (!l)
                return NULL;

        log_streams_close_all(l);
        free(l);
        return NULL;
}

size_t log_streams_count(const LogStreams *l) {
        return l->n;
}

char *log_text_sanitize(const char *data, size_t size) {
        char *text, *p;

        text = p = malloc(size * 3 + 1);
        if (!text)
                return NULL;

        for (size_t i = 0; i < size;) {
                size_t n = 1;

                while (n < 4 && i + n < size && ((unsigned char) data[i + n] & 0xc0) == 0x80)
                        n++;
                if ((unsigned char) data[i] < 0x80)
                        n = 1;
                if (data[i] != '\0' && utf8_is_valid(data + i, n)) {
                        memcpy(p, data + i, n);
                        p += n;
                        i += n;
                } else {
                        p = stpcpy(p, "\xef\xbf\xbd");
                        i++;
                }
        }
        *p = '\0';

        return text;
}

static int get_field(sd_journal *j, const char *name, char **ret) {
        const void *data;
        size_t size, n = strlen(name) + 1;
        int r;

        r = sd_journal_get_data(j, name, &data, &size);
        if (r < 0)
                return r;
        *ret = log_text_sanitize((const char *) data + n, size - MIN(size, n));
        return *ret ? 0 : -ENOMEM;
}

/* Returns 0 for an entry that is none of ours. */
static int read_entry(LogStream *s, json_object **ret, size_t *ret_size) {
        _cleanup_free_ char *message = NULL, *service = NULL, *stack = NULL, *instance = NULL,
                            *cursor = NULL, *name = NULL;
        _cleanup_json_ json_object *o = NULL;
        unsigned number = 0;
        uint64_t usec;
        int r;

        if (get_field(s->journal, "KONTENA_SERVICE", &service) < 0 ||
                        get_field(s->journal, "KONTENA_STACK", &stack) < 0 ||
                        get_field(s->journal, "MESSAGE", &message) < 0)
                return 0;
        (void) get_field(s->journal, "KONTENA_INSTANCE", &instance);
        if (instance)
                (void) safe_atou(instance, &number);

        r = sd_journal_get_realtime_usec(s->journal, &usec);
        if (r >= 0)
                r = sd_journal_get_cursor(s->journal, &cursor);
        if (r < 0)
                return r;

        name = strjoin(stack, "/", service);
        o = json_object_new_object();
        if (!name || !o)
                return -ENOMEM;
        r = json_add_u64(o, "time", usec);
        if (r >= 0)
                r = json_add_u64(o, "instance", number);
        if (r >= 0)
                r = json_add_string(o, "service", name);
        if (r >= 0)
                r = json_add_string(o, "stream", "stdout"); /* the journal does not tell it from stderr */
        if (r >= 0)
                r = json_add_string(o, "message", message);
        if (r >= 0)
                r = json_add_string(o, "cursor", cursor);
        if (r < 0)
                return r;

        *ret_size = strlen(message) + 256;
        *ret = TAKE_PTR(o);
        return 1;
}

static int wait_for(LogStream *s, uint64_t usec) {
        int r;

        r = sd_event_source_set_time_relative(s->timer, usec);
        if (r < 0)
                return r;
        return sd_event_source_set_enabled(s->timer, SD_EVENT_ONESHOT);
}

/* Fills the batch. Returns 1 when there may be more. */
static int fill(LogStream *s) {
        _cleanup_json_ json_object *l = json_object_new_array();
        size_t bytes = 0;
        bool more = true;
        int r;

        if (!l)
                return -ENOMEM;

        for (unsigned scanned = 0; scanned < SCAN_MAX && bytes < BATCH_BYTES_MAX &&
                                   json_object_array_length(l) < BATCH_ENTRIES_MAX;
                        scanned++) {
                json_object *entry = NULL;
                size_t size = 0;

                if (s->left == 0 && !s->follow) {
                        more = false;
                        break;
                }
                r = sd_journal_next(s->journal);
                if (r < 0)
                        return r;
                if (r == 0) {
                        more = false;
                        break;
                }
                r = read_entry(s, &entry, &size);
                if (r < 0 && r != -EBADMSG && r != -ENODATA)
                        return r;
                if (r <= 0) /* not ours, or a damaged file */
                        continue;
                r = json_append(l, entry);
                if (r < 0)
                        return r;
                bytes += size;
                if (s->left > 0 && !s->follow)
                        s->left--;
        }

        s->end = !more && !s->follow;
        if (json_object_array_length(l) > 0 || s->end)
                s->batch = TAKE_PTR(l);
        return more;
}

static int send_batch(LogStream *s) {
        _cleanup_json_ json_object *params = json_object_new_object();
        int r;

        if (!params)
                return -ENOMEM;
        r = json_add_u64(params, "stream", s->id);
        if (r >= 0)
                r = json_add(params, "entries", json_object_get(s->batch));
        if (r >= 0)
                r = json_add_bool(params, "end", s->end);
        if (r >= 0)
                r = s->streams->send("logs.data", TAKE_PTR(params), s->streams->userdata);
        if (r < 0)
                return r;

        json_object_put(s->batch);
        s->batch = NULL;
        return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        LogStream *s = userdata;
        int r = 0;

        if (!s->batch) {
                r = fill(s);
                if (r < 0) {
                        log_warning_errno(r, "Cannot read the journal, ending the log view: %m");
                        s->end = true;
                        s->batch = s->batch ?: json_object_new_array();
                }
                s->reading = r > 0;
        }

        if (s->batch) {
                if (send_batch(s) < 0) {
                        (void) wait_for(s, FULL_USEC);
                        return 0;
                }
                if (s->end) {
                        stream_free(s);
                        return 0;
                }
        }
        if (s->reading)
                (void) wait_for(s, PACE_USEC);
        return 0;
}

static int on_journal(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        LogStream *s = userdata;
        int r;

        /* Rotation and vacuuming show here as well: libsystemd opens and closes files by itself. */
        r = sd_journal_process(s->journal);
        if (r < 0)
                log_warning_errno(r, "Cannot follow the journal: %m");
        if (r != SD_JOURNAL_NOP && !s->batch && !s->reading) {
                s->reading = true;
                (void) wait_for(s, PACE_USEC);
        }
        return 0;
}

static int add_match(sd_journal *j, const char *field, const char *value) {
        _cleanup_free_ char *match = strjoin(field, "=", value);

        return match ? sd_journal_add_match(j, match, 0) : -ENOMEM;
}

static int add_matches(
                LogStream *s, const char *of_grid, const char *service, uint64_t instance, KError *reterr) {
        _cleanup_free_ char *grid = NULL, *stack = NULL, *name = NULL, *number = NULL;
        int r;

        /* What the containers wrote, by either way (see output.h), not what is said about them. */
        r = add_match(s->journal, "_TRANSPORT", "stdout");
        if (r < 0)
                return r;

        /* Before it joined this one the node may have been in another grid, with services of the same names. */
        if (of_grid) {
                r = add_match(s->journal, "KONTENA_GRID", of_grid);
                if (r < 0)
                        return r;
        }
        if (service) {
                r = service_reference_parse(service, &grid, &stack, &name, reterr);
                if (r >= 0)
                        r = add_match(s->journal, "KONTENA_SERVICE", name);
                if (r >= 0)
                        r = add_match(s->journal, "KONTENA_STACK", stack ?: STACK_NULL);
                if (r < 0)
                        return r;
        }
        if (instance > 0) {
                number = strprintf("%" PRIu64, instance);
                if (!number)
                        return -ENOMEM;
                r = add_match(s->journal, "KONTENA_INSTANCE", number);
        }

        return r;
}

/* Stands before the first entry to be read. */
static int seek(LogStream *s, uint64_t lines, uint64_t since, bool has_since) {
        int r;

        if (has_since)
                return sd_journal_seek_realtime_usec(s->journal, since);

        r = sd_journal_seek_tail(s->journal);
        if (r < 0)
                return r;
        /* One more than wanted, and reading begins behind it. With every service's lines among others the count is only near. */
        r = sd_journal_previous_skip(s->journal, lines + 1);
        if (r < 0)
                return r;
        if ((uint64_t) r <= lines)
                return sd_journal_seek_head(s->journal);
        return 0;
}

static LogStream *find_stream(LogStreams *l, uint64_t id) {
        LogStream *s;

        LL_FOREACH(l->list, s)
                if (s->id == id)
                        return s;
        return NULL;
}

int log_streams_open(LogStreams *l, json_object *params, KError *reterr) {
        uint64_t id, lines = 100, instance = 0, since = 0;
        const char *service = NULL, *grid = NULL;
        bool follow = false;
        LogStream *s;
        int r, has_since;

        r = json_get_u64(params, "stream", &id, reterr);
        if (r >= 0)
                r = json_find_string(params, "service", &service, reterr);
        if (r >= 0)
                r = json_find_string(params, "grid", &grid, reterr);
        if (r >= 0)
                r = json_find_u64(params, "instance", &instance, reterr);
        if (r >= 0)
                r = json_find_u64(params, "lines", &lines, reterr);
        if (r >= 0)
                r = json_find_bool(params, "follow", &follow, reterr);
        if (r >= 0)
                r = json_find_u64(params, "since", &since, reterr);
        if (r < 0)
                return r;
        has_since = r;
        if (lines > LOG_LINES_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "At most %u lines can be read at once.",
                                LOG_LINES_MAX);
        if (find_stream(l, id))
                return kerror_set(reterr, K_ALREADY_EXISTS, "The log view %" PRIu64 " is open already.", id);
        if (l->n >= LOG_STREAMS_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "At most %u log views can be open on a node.",
                                LOG_STREAMS_MAX);

        s = new0(LogStream, 1);
        if (!s)
                return -ENOMEM;
        s->streams = l;
        s->id = id;
        s->follow = follow;
        s->reading = true;
        s->left = lines;
        LL_PREPEND(l->list, s);
        l->n++;

        /* With the journals of users: there journald keeps what a container with a user of its own writes. */
        r = sd_journal_open(&s->journal, SD_JOURNAL_LOCAL_ONLY);
        if (r >= 0)
                r = add_matches(s, grid, service, instance, reterr);
        if (r >= 0)
                r = seek(s, lines, since, has_since > 0);
        if (r >= 0)
                r = sd_event_add_time_relative(
                                l->event, &s->timer, CLOCK_MONOTONIC, 0, USEC_PER_MSEC, on_timer, s);
        if (r >= 0 && follow) {
                r = sd_journal_get_fd(s->journal);
                if (r >= 0)
                        r = sd_event_add_io(l->event, &s->io, r, EPOLLIN, on_journal, s);
        }
        if (r < 0) {
                stream_free(s);
                return kerror_set_errno(reterr, r, "Cannot open the journal: %m");
        }

        return 0;
}

int log_streams_close(LogStreams *l, json_object *params, KError *reterr) {
        LogStream *s;
        uint64_t id;
        int r;

        r = json_get_u64(params, "stream", &id, reterr);
        if (r < 0)
                return r;
        s = find_stream(l, id);
        if (s) /* it may have ended by itself */
                stream_free(s);
        return 0;
}
