/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "caller-stream.h"
#include "json-util.h"
#include "operation.h"
#include "streams.h"

/* What a caller does with a stream that another operation has opened. The id is 128 random bits that only the opener was told,
 * and nobody else may use it. */

static int stream_write_data(OperationCall *c, json_object **ret, KError *reterr) {
        CallerStream *s = caller_stream_find(c, reterr);
        json_object *data = NULL;

        if (!s)
                return -ENOENT;
        if (!json_object_object_get_ex(c->parameters, "data", &data))
                return -EINVAL;
        return caller_stream_write(s, c, json_object_get_string(data),
                        (size_t) json_object_get_string_len(data), reterr);
}

static int stream_end(OperationCall *c, json_object **ret, KError *reterr) {
        CallerStream *s = caller_stream_find(c, reterr);

        if (!s)
                return -ENOENT;
        caller_stream_end_input(s);
        return 0;
}

static int stream_set_size(OperationCall *c, json_object **ret, KError *reterr) {
        CallerStream *s = caller_stream_find(c, reterr);
        uint64_t rows = 0, columns = 0;
        int r;

        if (!s)
                return -ENOENT;
        r = json_get_u64(c->parameters, "rows", &rows, reterr);
        if (r >= 0)
                r = json_get_u64(c->parameters, "columns", &columns, reterr);
        if (r < 0)
                return r;
        if (rows > UINT16_MAX || columns > UINT16_MAX)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "No terminal is that large.");
        return stream_resize(caller_stream_get(s), (unsigned) rows, (unsigned) columns);
}

static int stream_send_signal(OperationCall *c, json_object **ret, KError *reterr) {
        CallerStream *s = caller_stream_find(c, reterr);
        const char *name;
        int r;

        if (!s)
                return -ENOENT;
        r = call_string(c, "signal", &name, reterr);
        if (r < 0)
                return r;
        r = stream_signal(caller_stream_get(s), name);
        return r == -EINVAL ? kerror_set(reterr, K_INVALID_ARGUMENT,
                                              "'%s' is no signal that can be sent: INT, TERM, HUP and "
                                              "others.",
                                              name)
                            : r;
}

static int stream_give_credit(OperationCall *c, json_object **ret, KError *reterr) {
        CallerStream *s = caller_stream_find(c, reterr);
        uint64_t bytes = 0;
        int r;

        if (!s)
                return -ENOENT;
        r = json_get_u64(c->parameters, "bytes", &bytes, reterr);
        if (r < 0)
                return r;
        r = stream_credit(caller_stream_get(s), bytes);
        return r == -ERANGE ? kerror_set(reterr, K_INVALID_ARGUMENT, "So many bytes did not come.") : r;
}

static int stream_close_it(OperationCall *c, json_object **ret, KError *reterr) {
        CallerStream *s = caller_stream_find(c, reterr);

        if (!s)
                return -ENOENT;
        caller_stream_close(s);
        return 0;
}

const Operation stream_operations[] = {
        {
                        .name = "stream.write",
                        .method = "WriteStream",
                        .role = "member",
                        .flags = OPERATION_OPEN,
                        .parameters = { { "stream", PARAMETER_STRING, true },
                                        { "data", PARAMETER_BYTES, true } },
                        .perform = stream_write_data,
        },
        {
                        .name = "stream.end-input",
                        .method = "EndStreamInput",
                        .role = "member",
                        .flags = OPERATION_OPEN,
                        .parameters = { { "stream", PARAMETER_STRING, true } },
                        .perform = stream_end,
        },
        {
                        .name = "stream.resize",
                        .method = "ResizeStream",
                        .role = "member",
                        .flags = OPERATION_OPEN,
                        .parameters = { { "stream", PARAMETER_STRING, true },
                                        { "rows", PARAMETER_U32, true },
                                        { "columns", PARAMETER_U32, true } },
                        .perform = stream_set_size,
        },
        {
                        .name = "stream.signal",
                        .method = "SignalStream",
                        .role = "member",
                        .flags = OPERATION_OPEN,
                        .parameters = { { "stream", PARAMETER_STRING, true },
                                        { "signal", PARAMETER_STRING, true } },
                        .perform = stream_send_signal,
        },
        {
                        .name = "stream.credit",
                        .method = "CreditStream",
                        .role = "member",
                        .flags = OPERATION_OPEN,
                        .parameters = { { "stream", PARAMETER_STRING, true },
                                        { "bytes", PARAMETER_U32, true } },
                        .perform = stream_give_credit,
        },
        {
                        .name = "stream.close",
                        .method = "CloseStream",
                        .role = "member",
                        .flags = OPERATION_OPEN,
                        .parameters = { { "stream", PARAMETER_STRING, true } },
                        .perform = stream_close_it,
        },
};
const size_t n_stream_operations = ELEMENTSOF(stream_operations);
