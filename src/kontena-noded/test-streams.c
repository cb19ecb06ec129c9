/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "streams.h"

#include <signal.h>
#include <sys/socket.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "file-util.h"
#include "json-util.h"
#include "stream-frame.h"
#include "stream-pump.h"
#include "string-util.h"
#include "test.h"

/* A master that writes down what it is told, and a provider "echo" that does as it is told. */

typedef struct Provided {
        Stream *stream;
        size_t written, resized_to;
        unsigned inputs_over, readies;
        int signal;
} Provided;

typedef struct Machine {
        Streams *streams;
        Provided *last;
        unsigned freed;
        char *said;     /* the last notification or answer, as text */
        size_t credits; /* given back to the master */
        uint8_t *data;  /* of channel 1 */
        size_t size;
        unsigned ends; /* of channels */
} Machine;

static void say(Machine *m, const char *what, json_object *o) {
        free(m->said);
        m->said = strjoin(what, " ", o ? json_text(o) : "-");
        assert_non_null(m->said);
        json_object_put(o);
}

static int fake_notify(const char *method, json_object *params, void *userdata) {
        Machine *m = userdata;
        uint64_t bytes = 0;

        if (streq(method, "stream.credit")) {
                ASSERT_OK(json_get_u64(params, "bytes", &bytes, NULL));
                m->credits += bytes;
        }
        say(m, method, params);
        return 0;
}

static int fake_send(const void *head, size_t head_size, const void *data, size_t size, void *userdata) {
        Machine *m = userdata;
        StreamFrame f;

        assert_int_equal(head_size, STREAM_FRAME_HEAD_SIZE);
        assert_true(stream_frame_parse(head, head_size, &f) == 1);
        if (size == 0) {
                m->ends++;
                return 0;
        }
        m->data = realloc(m->data, m->size + size);
        assert_non_null(m->data);
        memcpy(m->data + m->size, data, size);
        m->size += size;
        return 0;
}

static int fake_reply(uint64_t id, json_object *result, void *userdata) {
        say(userdata, "reply", result);
        return 0;
}

static int fake_reply_error(uint64_t id, const KError *error, void *userdata) {
        say(userdata, kerror_bus_name(error->code), NULL);
        return 0;
}

static int echo_open(Stream *s, json_object *params, void *userdata, void **ret, KError *reterr) {
        Machine *m = userdata;
        bool refuse = false;
        Provided *p;

        (void) json_find_bool(params, "refuse", &refuse, NULL);
        if (refuse)
                return kerror_set(reterr, K_CONFLICT, "Not now.");
        p = new0(Provided, 1);
        assert_non_null(p);
        p->stream = s;
        m->last = p;
        *ret = p;
        return 0;
}

static void echo_write(void *p, const void *data, size_t size) {
        ((Provided *) p)->written += size;
}

static void echo_end_input(void *p) {
        ((Provided *) p)->inputs_over++;
}

static void echo_ready(void *p) {
        ((Provided *) p)->readies++;
}

static void echo_resize(void *p, unsigned rows, unsigned columns) {
        ((Provided *) p)->resized_to = rows * 1000 + columns;
}

static void echo_signal(void *p, int number) {
        ((Provided *) p)->signal = number;
}

static unsigned freed;

static void echo_free(void *p) {
        freed++;
        free(p);
}

static const StreamProvider echo = {
        .kind = "echo",
        .open = echo_open,
        .write = echo_write,
        .end_input = echo_end_input,
        .ready = echo_ready,
        .resize = echo_resize,
        .signal = echo_signal,
        .free = echo_free,
};

static const StreamProvider quiet = { .kind = "quiet", .open = echo_open, .free = echo_free };
static const StreamProvider *const providers[] = { &echo, &quiet, NULL };

static int set_up(void **state) {
        Machine *m = new0(Machine, 1);
        StreamsHandler handler = {
                .notify = fake_notify,
                .send = fake_send,
                .reply = fake_reply,
                .reply_error = fake_reply_error,
                .userdata = m,
        };

        assert_non_null(m);
        ASSERT_OK(streams_new(&handler, providers, m, &m->streams));
        freed = 0;
        (void) signal(SIGPIPE, SIG_IGN); /* as the daemon */
        *state = m;
        return 0;
}

static int tear_down(void **state) {
        Machine *m = *state;

        streams_free(m->streams);
        free(m->said);
        free(m->data);
        free(m);
        return 0;
}

static void method(Machine *m, const char *name, const char *params) {
        _cleanup_json_ json_object *o = NULL;

        ASSERT_OK(json_parse(params, strlen(params), 4096, &o, NULL));
        assert_true(streams_method(m->streams, 7, name, o));
}

static void binary(Machine *m, uint32_t stream, unsigned channel, size_t size) {
        uint8_t *message = new0(uint8_t, STREAM_FRAME_HEAD_SIZE + size);

        assert_non_null(message);
        stream_frame_head(message, stream, channel);
        streams_binary(m->streams, message, STREAM_FRAME_HEAD_SIZE + size);
        free(message);
}

static void open_echo(Machine *m, unsigned number) {
        _cleanup_free_ char *params = strprintf("{\"stream\": %u, \"kind\": \"echo\"}", number);

        method(m, "stream.open", params);
        assert_non_null(m->last);
        stream_opened(m->last->stream);
        ASSERT_STREQ(m->said, "reply {}");
}

static void test_opens_runs_and_ends(void **state) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        Machine *m = *state;

        open_echo(m, 5);
        binary(m, 5, 0, 100);
        assert_int_equal(m->last->written, 100);
        stream_credit(m->last->stream, 100);
        ASSERT_STREQ(m->said, "stream.credit {\"stream\":5,\"bytes\":100}");
        method(m, "stream.resize", "{\"stream\": 5, \"rows\": 24, \"columns\": 80}");
        assert_int_equal(m->last->resized_to, 24080);
        method(m, "stream.signal", "{\"stream\": 5, \"signal\": \"INT\"}");
        assert_int_equal(m->last->signal, SIGINT);
        method(m, "stream.signal", "{\"stream\": 5, \"signal\": \"SEGV\"}");
        assert_int_equal(m->last->signal, SIGINT);
        binary(m, 5, 0, 0);
        assert_int_equal(m->last->inputs_over, 1);

        ASSERT_OK(stream_send(m->last->stream, 1, "abc", 3));
        ASSERT_OK(stream_send_end(m->last->stream, 1));
        ASSERT_ERROR(stream_send(m->last->stream, 1, "d", 1), EPIPE);
        stream_end(m->last->stream, 3, NULL);
        ASSERT_STREQ(m->said, "stream.end {\"stream\":5,\"status\":3}");
        assert_int_equal(m->size, 3);
        assert_int_equal(freed, 1);
        assert_int_equal(streams_count(m->streams), 0);

        /* The number is free again; the error of one that never began is the answer. */
        method(m, "stream.open", "{\"stream\": 5, \"kind\": \"echo\"}");
        (void) kerror_set(&error, K_RUNTIME, "No such file.");
        stream_end(m->last->stream, -1, &error);
        ASSERT_STREQ(m->said, "io.kontena.Error.Runtime -");
        assert_int_equal(freed, 2);
}

static void test_refuses_what_cannot_be(void **state) {
        Machine *m = *state;

        method(m, "stream.open", "{\"stream\": 1, \"kind\": \"teapot\"}");
        ASSERT_STREQ(m->said, "io.kontena.Error.NotSupported -");
        method(m, "stream.open", "{\"kind\": \"echo\"}");
        ASSERT_STREQ(m->said, "io.kontena.Error.InvalidArgument -");
        method(m, "stream.open", "{\"stream\": 4294967296, \"kind\": \"echo\"}");
        ASSERT_STREQ(m->said, "io.kontena.Error.InvalidArgument -");
        method(m, "stream.open", "{\"stream\": 1, \"kind\": \"echo\", \"refuse\": true}");
        ASSERT_STREQ(m->said, "io.kontena.Error.Conflict -");
        assert_int_equal(streams_count(m->streams), 0);

        open_echo(m, 1);
        method(m, "stream.open", "{\"stream\": 1, \"kind\": \"echo\"}");
        ASSERT_STREQ(m->said, "io.kontena.Error.InvalidArgument -");
        for (unsigned i = 2; i <= STREAMS_PER_NODE_MAX; i++)
                open_echo(m, i);
        method(m, "stream.open", "{\"stream\": 1000, \"kind\": \"echo\"}");
        ASSERT_STREQ(m->said, "io.kontena.Error.LimitExceeded -");
        streams_close_all(m->streams);
        assert_int_equal(freed, STREAMS_PER_NODE_MAX);
}

static void test_few_are_opened_at_once(void **state) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        Provided *opened[STREAMS_OPENING_MAX + 3];
        Machine *m = *state;

        for (unsigned i = 0; i < ELEMENTSOF(opened); i++) {
                _cleanup_free_ char *params = strprintf("{\"stream\": %u, \"kind\": \"echo\"}", i);

                m->last = NULL;
                method(m, "stream.open", params);
                opened[i] = m->last;
                ASSERT_TRUE((m->last != NULL) == (i < STREAMS_OPENING_MAX));
        }
        assert_int_equal(streams_count(m->streams), ELEMENTSOF(opened));

        /* One runs, one fails, one is closed while it waits: each makes room for the next in order. */
        m->last = NULL;
        stream_opened(opened[3]->stream);
        assert_non_null(m->last);
        (void) kerror_set(&error, K_RUNTIME, "No such file.");
        method(m, "stream.close", "{\"stream\": 9}");
        ASSERT_STREQ(m->said, "io.kontena.Error.Conflict -");
        m->last = NULL;
        stream_end(opened[0]->stream, -1, &error);
        assert_non_null(m->last);
        stream_opened(m->last->stream);
        stream_end(m->last->stream, 5, NULL);
        ASSERT_STREQ(m->said, "stream.end {\"stream\":10,\"status\":5}");
        binary(m, 8, 0, 1); /* is being opened */
        assert_int_equal(streams_count(m->streams), STREAMS_OPENING_MAX - 1);
        assert_int_equal(freed, 3);
}

static void test_the_window_holds_both_ways(void **state) {
        static const uint8_t data[STREAM_DATA_MAX];
        Machine *m = *state;

        open_echo(m, 1);
        for (size_t sent = 0; sent < STREAM_WINDOW; sent += STREAM_DATA_MAX) {
                ASSERT_OK(stream_send(m->last->stream, 1, data, STREAM_DATA_MAX));
                binary(m, 1, 0, STREAM_DATA_MAX);
        }
        assert_int_equal(stream_room(m->last->stream), 0);
        method(m, "stream.credit", "{\"stream\": 1, \"bytes\": 10}");
        assert_int_equal(stream_room(m->last->stream), 10);
        assert_int_equal(m->last->readies, 1);
        method(m, "stream.credit", "{\"stream\": 1, \"bytes\": 10}");
        assert_int_equal(m->last->readies, 1);

        stream_credit(m->last->stream, 5);
        binary(m, 1, 0, 6);
        assert_int_equal(freed, 1);
        ASSERT_TRUE(startswith(m->said, "stream.end {\"stream\":1,\"status\":-1,\"error\":{\"code\":"
                                        "\"io.kontena.Error.InvalidArgument\""));

        open_echo(m, 2);
        method(m, "stream.credit", "{\"stream\": 2, \"bytes\": 1}");
        assert_int_equal(freed, 2);
        ASSERT_TRUE(startswith(m->said, "stream.end {\"stream\":2"));
}

static void test_frames_count_where_the_master_counts_them(void **state) {
        Machine *m = *state;
        unsigned n;

        method(m, "stream.open", "{\"stream\": 1, \"kind\": \"echo\", \"frame_cost\": 256}");
        stream_opened(m->last->stream);
        ASSERT_STREQ(m->said, "reply {\"frame_cost\":256}");
        for (n = 0; stream_room(m->last->stream) > 0; n++)
                ASSERT_OK(stream_send(m->last->stream, 1, "x", 1));
        ASSERT_EQ(n, STREAM_WINDOW / (1 + STREAM_FRAME_COST) - 1); /* the last crumb is not sent */
        method(m, "stream.credit", "{\"stream\": 1, \"bytes\": 257}");
        assert_int_equal(m->last->readies, 1);

        for (n = 0; n < STREAM_WINDOW / (1 + STREAM_FRAME_COST); n++)
                binary(m, 1, 0, 1);
        assert_int_equal(freed, 0);
        stream_credit(m->last->stream, 1);
        ASSERT_STREQ(m->said, "stream.credit {\"stream\":1,\"bytes\":257}");
        binary(m, 1, 0, 1);
        assert_int_equal(freed, 0);
        binary(m, 1, 0, 1);
        assert_int_equal(freed, 1);
        ASSERT_TRUE(startswith(m->said, "stream.end {\"stream\":1,\"status\":-1,\"error\":{\"code\":"
                                        "\"io.kontena.Error.InvalidArgument\""));

        /* A rule that this node does not know is none that it can keep. */
        method(m, "stream.open", "{\"stream\": 1, \"kind\": \"echo\", \"frame_cost\": 1024}");
        stream_opened(m->last->stream);
        ASSERT_STREQ(m->said, "reply {}");
        method(m, "stream.open", "{\"stream\": 2, \"kind\": \"echo\", \"frame_cost\": \"x\"}");
        ASSERT_STREQ(m->said, "io.kontena.Error.InvalidArgument -");
}

static void test_junk_harms_nobody(void **state) {
        Machine *m = *state;

        open_echo(m, 1);
        binary(m, 99, 0, 10);
        streams_binary(m->streams, "", 0);
        streams_binary(m->streams, "\x01\x01", 2);
        streams_binary(m->streams, "\x02whatever", 9);
        method(m, "stream.close", "{\"stream\": 99}");
        method(m, "stream.close", "{}");
        method(m, "stream.signal", "{\"stream\": 1}");
        method(m, "stream.resize", "{\"stream\": 1, \"rows\": 70000, \"columns\": 1}");
        assert_int_equal(m->last->resized_to, 0);
        assert_false(streams_method(m->streams, 0, "logs.open", NULL));
        assert_int_equal(streams_count(m->streams), 1);

        binary(m, 1, 1, 10); /* what only comes from the node */
        assert_int_equal(streams_count(m->streams), 0);
        open_echo(m, 1);
        binary(m, 1, 0, 0);
        binary(m, 1, 0, 1); /* after the end */
        assert_int_equal(streams_count(m->streams), 0);
        method(m, "stream.open", "{\"stream\": 1, \"kind\": \"echo\"}");
        binary(m, 1, 0, 1); /* before it was opened */
        ASSERT_STREQ(m->said, "io.kontena.Error.InvalidArgument -");
        method(m, "stream.open", "{\"stream\": 1, \"kind\": \"echo\"}");
        method(m, "stream.close", "{\"stream\": 1}");
        ASSERT_STREQ(m->said, "io.kontena.Error.Conflict -");
        method(m, "stream.open", "{\"stream\": 1, \"kind\": \"quiet\"}");
        stream_opened(m->last->stream);
        method(m, "stream.signal", "{\"stream\": 1, \"signal\": \"INT\"}");
        binary(m, 1, 0, 1);
        assert_int_equal(streams_count(m->streams), 0);
}

/* The pump */

typedef struct Ends {
        sd_event *event;
        int fd; /* to be closed when the input is over */
        bool drained;
} Ends;

static void on_input_over(void *userdata) {
        Ends *e = userdata;

        e->fd = safe_close(e->fd);
}

static void on_drained(void *userdata) {
        Ends *e = userdata;

        e->drained = true;
}

static const StreamPumpHandler pump_handler = { .input_over = on_input_over, .drained = on_drained };

static void run(sd_event *event) {
        while (sd_event_run(event, 0) > 0)
                ;
}

static void test_pump_keeps_every_byte(void **state) {
        _cleanup_close_ int in = -EBADF, out = -EBADF;
        uint8_t chunk[STREAM_DATA_MAX], got[STREAM_DATA_MAX];
        size_t sent = 0, seen = 0, back = 0, total = 3U * STREAM_WINDOW + 12345U;
        Machine *m = *state;
        int a[2], b[2];
        StreamPump *p;
        Ends e = {};

        ASSERT_OK(sd_event_new(&e.event));
        ASSERT_OK(pipe2(a, O_CLOEXEC | O_NONBLOCK));
        ASSERT_OK(pipe2(b, O_CLOEXEC | O_NONBLOCK));
        e.fd = a[1];
        in = a[0];
        out = b[1];
        open_echo(m, 1);
        ASSERT_OK(stream_pump_new(e.event, m->last->stream, (const int[]){ a[1], b[0], -EBADF },
                        &pump_handler, &e, &p));

        /* What goes in is read here, written to the output, and comes back; the reader gives back half of what it saw now and then. */
        while (back < total) {
                size_t room = STREAM_WINDOW - (sent - m->credits), n = MIN(sizeof(chunk), room);
                ssize_t k;

                n = MIN(n, total - sent);
                for (size_t i = 0; i < n; i++)
                        chunk[i] = (uint8_t) ((sent + i) * 7 + (sent + i) / 251);
                if (n > 0) {
                        uint8_t message[STREAM_FRAME_HEAD_SIZE + STREAM_DATA_MAX];

                        stream_frame_head(message, 1, 0);
                        memcpy(message + STREAM_FRAME_HEAD_SIZE, chunk, n);
                        streams_binary(m->streams, message, STREAM_FRAME_HEAD_SIZE + n);
                        stream_pump_write(p, chunk, n);
                        sent += n;
                        if (sent == total)
                                stream_pump_end_input(p);
                }
                run(e.event);
                k = read(in, got, sizeof(got));
                if (k > 0)
                        ASSERT_OK(loop_write(out, got, (size_t) k));
                run(e.event);
                seen = m->size;
                for (size_t i = back; i < seen; i++)
                        if (m->data[i] != (uint8_t) (i * 7 + i / 251))
                                fail_msg("Byte %zu is wrong.", i);
                if (seen > back && stream_room(m->last->stream) < STREAM_WINDOW / 2) {
                        _cleanup_free_ char *credit = strprintf("{\"stream\": 1, \"bytes\": %zu}",
                                        STREAM_WINDOW - stream_room(m->last->stream));

                        method(m, "stream.credit", credit);
                        stream_pump_ready(p);
                }
                back = seen;
        }
        assert_int_equal(m->credits, total);
        assert_true(e.fd < 0);
        assert_false(e.drained);
        out = safe_close(out);
        run(e.event);
        assert_true(e.drained && stream_pump_is_drained(p));
        assert_int_equal(m->ends, 1);

        stream_pump_free(p);
        safe_close(b[0]);
        sd_event_unref(e.event);
}

static void test_pump_stops_reading_without_room(void **state) {
        _cleanup_close_ int out = -EBADF;
        Machine *m = *state;
        uint8_t data[4096] = {};
        StreamPump *p;
        Ends e = { .fd = -EBADF };
        size_t put = 0;
        int b[2];

        ASSERT_OK(sd_event_new(&e.event));
        ASSERT_OK(pipe2(b, O_CLOEXEC | O_NONBLOCK));
        out = b[1];
        open_echo(m, 1);
        ASSERT_OK(stream_pump_new(e.event, m->last->stream, (const int[]){ -EBADF, b[0], -EBADF },
                        &pump_handler, &e, &p));
        while (put < 2 * STREAM_WINDOW) {
                ssize_t n = write(out, data, sizeof(data));

                run(e.event);
                if (n < 0)
                        break;
                put += (size_t) n;
        }
        assert_int_equal(m->size, STREAM_WINDOW);
        assert_true(put > STREAM_WINDOW &&
                        put < 2 * STREAM_WINDOW);      /* the pipe is full, nothing is kept here */
        assert_int_equal(sd_event_run(e.event, 0), 0); /* and the loop has rest */

        /* Finished: the slow reader gets the rest nevertheless, though somebody holds the other end for ever. */
        stream_pump_finish(p, 20 * USEC_PER_MSEC);
        for (unsigned i = 0; i < 5; i++)
                (void) sd_event_run(e.event, 30 * USEC_PER_MSEC);
        assert_false(e.drained);
        method(m, "stream.credit", "{\"stream\": 1, \"bytes\": 262144}");
        stream_pump_ready(p);
        while (!e.drained)
                assert_true(sd_event_run(e.event, USEC_PER_SEC) > 0);
        assert_int_equal(m->size, put);

        stream_pump_free(p);
        safe_close(b[0]);
        sd_event_unref(e.event);
}

static void test_pump_serves_one_descriptor_both_ways(void **state) {
        _cleanup_close_ int far = -EBADF, near = -EBADF;
        Machine *m = *state;
        char text[16] = "";
        StreamPump *p;
        Ends e = { .fd = -EBADF };
        int fds[2];

        ASSERT_OK(sd_event_new(&e.event));
        ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds));
        near = fds[0];
        far = fds[1];
        open_echo(m, 1);
        ASSERT_OK(stream_pump_new(e.event, m->last->stream, (const int[]){ near, near, -EBADF },
                        &pump_handler, &e, &p));
        binary(m, 1, 0, 5);
        stream_pump_write(p, "hello", 5);
        assert_int_equal(read(far, text, sizeof(text)), 5);
        ASSERT_STREQ(text, "hello");
        ASSERT_OK(loop_write(far, "back", 4));
        run(e.event);
        assert_int_equal(m->size, 4);

        /* Nobody reads any more: what is written is taken and lost. */
        far = safe_close(far);
        run(e.event);
        assert_true(e.drained);
        binary(m, 1, 0, 5);
        stream_pump_write(p, "hello", 5);
        assert_int_equal(m->credits, 10);
        assert_int_equal(sd_event_run(e.event, 0), 0);

        stream_pump_free(p);
        sd_event_unref(e.event);
}

#define STREAMS_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

KONTENA_TESTS(STREAMS_TEST(test_opens_runs_and_ends), STREAMS_TEST(test_refuses_what_cannot_be),
                STREAMS_TEST(test_few_are_opened_at_once), STREAMS_TEST(test_the_window_holds_both_ways),
                STREAMS_TEST(test_frames_count_where_the_master_counts_them),
                STREAMS_TEST(test_junk_harms_nobody), STREAMS_TEST(test_pump_keeps_every_byte),
                STREAMS_TEST(test_pump_stops_reading_without_room),
                STREAMS_TEST(test_pump_serves_one_descriptor_both_ways))
