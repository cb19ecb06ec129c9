/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "json-util.h"
#include "kontena-limits.h"
#include "log-streams.h"
#include "operation.h"

static int check_after(json_object *after, KError *reterr) {
        uint64_t time;
        int r;

        if (!after)
                return 0;
        json_object_object_foreach(after, node, value) {
                (void) value;
                r = json_get_u64(after, node, &time, reterr);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int log_open(OperationCall *c, json_object **ret, KError *reterr) {
        static const char *const settings[] = { "lines", "follow", "instance", "since", "after", NULL };
        _cleanup_json_ json_object *o = json_object_new_object();
        LogOptions options = { .lines = 100, .caller = c->caller };
        uint64_t lines = options.lines, instance = 0;
        const struct LogSink *sink;
        json_object *given;
        const char *id;
        void *userdata;
        int r;

        if (!o)
                return -ENOMEM;
        r = call_settings(c, "options", settings, &given, reterr);
        if (r >= 0)
                r = json_find_u64(given, "lines", &lines, reterr);
        if (r >= 0)
                r = json_find_bool(given, "follow", &options.follow, reterr);
        if (r >= 0)
                r = json_find_u64(given, "instance", &instance, reterr);
        if (r >= 0)
                r = json_find_u64(given, "since", &options.since, reterr);
        if (r >= 0)
                r = json_find_object(given, "after", &options.after, reterr);
        if (r >= 0)
                r = check_after(options.after, reterr);
        if (r < 0)
                return r;
        if (lines > LOG_LINES_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "At most %u lines can be read at once.",
                                LOG_LINES_MAX);
        if (instance > INSTANCES_PER_SERVICE_MAX)
                return kerror_set(reterr, K_NO_SUCH_INSTANCE, "No service has so many instances.");
        options.lines = (uint32_t) lines;
        options.instance = (uint32_t) instance;

        r = caller_log_sink(c->caller, &sink, &userdata);
        if (r == -EOPNOTSUPP)
                return kerror_set(reterr, K_NOT_SUPPORTED, "Log entries cannot be sent this way.");
        if (r < 0)
                return r;
        r = log_streams_open(
                        c->master->log_streams, c->grid, c->service, &options, sink, userdata, &id, reterr);
        if (r < 0)
                return r;
        r = json_add_string(o, "stream", id);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

static int log_close(OperationCall *c, json_object **ret, KError *reterr) {
        const char *id;
        int r;

        r = call_string(c, "stream", &id, reterr);
        if (r < 0)
                return r;
        r = log_streams_close(c->master->log_streams, id);
        if (r == -ENOENT)
                return kerror_set(reterr, K_NO_SUCH_OPERATION, "No such log view is open.");
        return r;
}

const Operation log_operations[] = {
        {
                        .name = "log.open",
                        .method = "OpenLogs",
                        .action = "io.kontena.master1.read-logs",
                        .role = "member",
                        .flags = OPERATION_LONG | OPERATION_GRID | OPERATION_SERVICE,
                        .parameters = { { "grid", PARAMETER_STRING, true },
                                        { "stack", PARAMETER_STRING, true },
                                        { "service", PARAMETER_STRING, true },
                                        { "options", PARAMETER_OBJECT, false } },
                        .results = { "stream" },
                        .perform = log_open,
        },
        {
                        /* The id is 128 random bits that only the opener was told. */
                        .name = "log.close",
                        .method = "CloseLogs",
                        .role = "member",
                        .flags = OPERATION_OPEN,
                        .parameters = { { "stream", PARAMETER_STRING, true } },
                        .perform = log_close,
        },
};
const size_t n_log_operations = ELEMENTSOF(log_operations);
