/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "reporter.h"

#include "json-util.h"
#include "kontena-limits.h"
#include "string-util.h"
#include "test.h"

typedef struct Sent {
        unsigned statuses, instances, events;
        int result; /* of the next sends */
        char last[64];
} Sent;

static int send_one(const char *method, json_object *params, void *userdata) {
        Sent *s = userdata;
        json_object *l;

        if (s->result >= 0 && streq(method, "instances.status")) {
                ASSERT_OK(json_get_array(params, "instances", &l, NULL));
                s->statuses++;
                s->instances += (unsigned) json_object_array_length(l);
        } else if (s->result >= 0) {
                const char *message;

                ASSERT_OK(json_get_string(params, "message", &message, NULL));
                s->events++;
                strncpy(s->last, message, sizeof(s->last) - 1);
        }
        json_object_put(params);
        return s->result;
}

static int status(const char *id, json_object **ret, void *userdata) {
        if (streq(id, "gone"))
                return -ENOENT;
        *ret = json_object_new_object();
        return json_add_string(*ret, "id", id);
}

static void run(sd_event *e, uint64_t usec) {
        uint64_t until, now;

        ASSERT_OK(sd_event_now(e, CLOCK_MONOTONIC, &now));
        until = now + usec;
        while (now < until) {
                ASSERT_OK(sd_event_run(e, until - now));
                ASSERT_OK(sd_event_now(e, CLOCK_MONOTONIC, &now));
        }
        for (unsigned i = 0; i < 1000 && sd_event_run(e, 0) > 0; i++) /* what was due by then */
                ;
}

static json_object *event(unsigned n) {
        _cleanup_free_ char *message = strprintf("event %u", n);
        json_object *o = json_object_new_object();

        ASSERT_OK(json_add_string(o, "message", message));
        return o;
}

static void test_a_burst_is_one_message(void **state) {
        sd_event *e = NULL;
        Reporter *r = NULL;
        Sent s = {};

        ASSERT_OK(sd_event_new(&e));
        ASSERT_OK(reporter_new(e, send_one, status, &s, &r));
        reporter_open(r);
        for (unsigned i = 0; i < 100; i++) {
                reporter_instance_changed(r, "a");
                reporter_instance_changed(r, "b");
                reporter_instance_changed(r, "gone");
        }
        ASSERT_EQ(s.statuses, 0);
        run(e, 120000);
        ASSERT_EQ(s.statuses, 1);
        ASSERT_EQ(s.instances, 2);
        reporter_free(r);
        sd_event_unref(e);
}

static void test_events_wait_for_the_connection(void **state) {
        sd_event *e = NULL;
        Reporter *r = NULL;
        Sent s = {};

        ASSERT_OK(sd_event_new(&e));
        ASSERT_OK(reporter_new(e, send_one, status, &s, &r));
        reporter_event(r, event(1));
        reporter_instance_changed(r, "a");
        run(e, 80000);
        ASSERT_EQ(s.events, 0);
        reporter_open(r);
        run(e, 120000);
        ASSERT_EQ(s.events, 1);
        ASSERT_EQ(s.statuses, 0); /* hello has told it */
        reporter_free(r);
        sd_event_unref(e);
}

static void test_the_oldest_are_dropped_and_counted(void **state) {
        sd_event *e = NULL;
        Reporter *r = NULL;
        Sent s = {};

        ASSERT_OK(sd_event_new(&e));
        ASSERT_OK(reporter_new(e, send_one, status, &s, &r));
        for (unsigned i = 0; i < NODE_EVENTS_QUEUED_MAX + 7; i++)
                reporter_event(r, event(i));
        ASSERT_EQ(reporter_events_queued(r), NODE_EVENTS_QUEUED_MAX);
        ASSERT_EQ(reporter_events_dropped(r), 7);
        reporter_open(r);
        run(e, 120000);
        ASSERT_EQ(s.events, NODE_EVENTS_QUEUED_MAX);
        ASSERT_STREQ(s.last, "event 1006");
        reporter_free(r);
        sd_event_unref(e);
}

static void test_a_full_channel_is_tried_again(void **state) {
        Sent s = { .result = -ENOBUFS };
        sd_event *e = NULL;
        Reporter *r = NULL;

        ASSERT_OK(sd_event_new(&e));
        ASSERT_OK(reporter_new(e, send_one, status, &s, &r));
        reporter_open(r);
        reporter_instance_changed(r, "a");
        reporter_event(r, event(1));
        run(e, 120000);
        ASSERT_EQ(s.statuses, 0);
        s.result = 0;
        run(e, 120000);
        ASSERT_EQ(s.statuses, 1);
        ASSERT_EQ(s.events, 1);
        reporter_free(r);
        sd_event_unref(e);
}

KONTENA_TESTS(cmocka_unit_test(test_a_burst_is_one_message),
                cmocka_unit_test(test_events_wait_for_the_connection),
                cmocka_unit_test(test_the_oldest_are_dropped_and_counted),
                cmocka_unit_test(test_a_full_channel_is_tried_again))
