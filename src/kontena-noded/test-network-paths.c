/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "network-paths.h"

#include "test.h"

#define SEC      UINT64_C(1000000)
#define REALTIME (UINT64_C(1700000000) * SEC)

/* What happens to one peer, step by step. handshake: seconds ago, -1 never; generation 0: no such session. */
typedef struct Step {
        unsigned at; /* seconds */
        bool vxlan;
        struct {
                uint32_t generation;
                bool ready;
                int handshake;
        } sessions[PATH_SESSIONS_MAX];

        PathKind kind;
        uint32_t generation;
        PathHealth health;
        bool takes_vxlan, under_way;
} Step;

static PathInput input(const Step *s) {
        PathInput in = {
                .now = (1000 + s->at) * SEC,
                .realtime = REALTIME + s->at * SEC,
                .vxlan = s->vxlan,
                .vxlan_possible = true,
        };

        for (size_t i = 0; i < PATH_SESSIONS_MAX && s->sessions[i].generation > 0; i++)
                in.sessions[in.n_sessions++] = (PathSession){
                        .generation = s->sessions[i].generation,
                        .ready = s->sessions[i].ready,
                        .handshake = s->sessions[i].handshake < 0
                                                     ? 0
                                                     : in.realtime - (uint64_t) s->sessions[i].handshake *
                                                                                       SEC,
                };
        return in;
}

static void run(const char *name, const Step *steps, size_t n) {
        Path p = {};

        for (size_t i = 0; i < n; i++) {
                PathInput in = input(&steps[i]);
                bool under_way = path_decide(&p, &in);

                if (p.kind != steps[i].kind || p.generation != steps[i].generation ||
                                p.health != steps[i].health ||
                                path_takes_vxlan(&p, in.now) != steps[i].takes_vxlan ||
                                under_way != steps[i].under_way)
                        fail_msg("%s, step %zu: %s of %u, %s, takes VXLAN %d, under way %d", name, i,
                                        path_kind_to_string(p.kind), p.generation,
                                        path_health_to_string(p.health), path_takes_vxlan(&p, in.now),
                                        under_way);
        }
}
#define RUN(...)                                                                                            \
        run(__func__, (const Step[]){ __VA_ARGS__ }, sizeof((const Step[]){ __VA_ARGS__ }) / sizeof(Step))

static void test_trusted_from_the_start(void **state) {
        RUN({ 0, true, {}, PATH_VXLAN, 0, PATH_UP, true, false },
                        { 1, true, { { 1, true, 5 } }, PATH_VXLAN, 0, PATH_UP, true, false });
}

static void test_wireguard_from_the_start(void **state) {
        RUN({ 0, false, { { 1, false, -1 } }, PATH_NONE, 0, PATH_CONNECTING, false, true },
                        { 1, false, { { 1, true, -1 } }, PATH_WIREGUARD, 1, PATH_CONNECTING, false, true },
                        { 2, false, { { 1, true, 0 } }, PATH_WIREGUARD, 1, PATH_UP, false, false },
                        /* It falls silent, and comes back. */
                        { 182, false, { { 1, true, 180 } }, PATH_WIREGUARD, 1, PATH_DOWN, false, true },
                        { 184, false, { { 1, true, 0 } }, PATH_WIREGUARD, 1, PATH_UP, false, false });
}

static void test_without_keys_nothing_is_sent_in_clear(void **state) {
        RUN({ 0, false, {}, PATH_NONE, 0, PATH_CONNECTING, false, true },
                        { 60, false, {}, PATH_NONE, 0, PATH_DOWN, false, true });
}

/* The trusted subnet goes: VXLAN until WireGuard works, taken a little longer from the peer. */
static void test_from_vxlan_to_wireguard(void **state) {
        RUN({ 0, true, { { 1, false, -1 } }, PATH_VXLAN, 0, PATH_UP, true, false },
                        { 10, false, { { 1, false, -1 } }, PATH_VXLAN, 0, PATH_UP, true, true },
                        { 11, false, { { 1, true, -1 } }, PATH_VXLAN, 0, PATH_UP, true, true },
                        { 12, false, { { 1, true, 0 } }, PATH_WIREGUARD, 1, PATH_UP, true, true },
                        { 21, false, { { 1, true, 9 } }, PATH_WIREGUARD, 1, PATH_UP, true, true },
                        { 23, false, { { 1, true, 11 } }, PATH_WIREGUARD, 1, PATH_UP, false, false });
}

/* Where WireGuard does not come, what is no longer trusted is not used for ever. */
static void test_distrust_is_not_put_off(void **state) {
        RUN({ 0, true, { { 1, true, -1 } }, PATH_VXLAN, 0, PATH_UP, true, false },
                        { 10, false, { { 1, true, -1 } }, PATH_VXLAN, 0, PATH_UP, true, true },
                        { 24, false, { { 1, true, -1 } }, PATH_VXLAN, 0, PATH_UP, true, true },
                        { 25, false, { { 1, true, -1 } }, PATH_WIREGUARD, 1, PATH_CONNECTING, true, true },
                        { 35, false, { { 1, true, -1 } }, PATH_WIREGUARD, 1, PATH_CONNECTING, false, true });
        RUN({ 0, true, {}, PATH_VXLAN, 0, PATH_UP, true, false },
                        { 10, false, {}, PATH_NONE, 0, PATH_CONNECTING, true, true });
}

/* It is taken at once, and sent when the peer takes it as well. */
static void test_from_wireguard_to_vxlan(void **state) {
        RUN({ 0, false, { { 1, true, 0 } }, PATH_WIREGUARD, 1, PATH_UP, false, false },
                        { 10, true, { { 1, true, 10 } }, PATH_WIREGUARD, 1, PATH_UP, true, true },
                        { 11, true, { { 1, true, 11 } }, PATH_WIREGUARD, 1, PATH_UP, true, true },
                        { 12, true, { { 1, true, 12 } }, PATH_VXLAN, 0, PATH_UP, true, false });
        /* Nothing is lost where nothing arrives. */
        RUN({ 0, false, { { 1, true, -1 } }, PATH_WIREGUARD, 1, PATH_CONNECTING, false, true },
                        { 10, true, { { 1, true, -1 } }, PATH_VXLAN, 0, PATH_UP, true, false });
}

static void test_rotation(void **state) {
        RUN({ 0, false, { { 1, true, 0 } }, PATH_WIREGUARD, 1, PATH_UP, false, false },
                        { 10, false, { { 2, false, -1 }, { 1, true, 10 } }, PATH_WIREGUARD, 1, PATH_UP,
                                        false, true },
                        { 11, false, { { 2, true, -1 }, { 1, true, 11 } }, PATH_WIREGUARD, 1, PATH_UP, false,
                                        true },
                        { 12, false, { { 2, true, 0 }, { 1, true, 12 } }, PATH_WIREGUARD, 2, PATH_UP, false,
                                        false },
                        { 20, false, { { 2, true, 8 } }, PATH_WIREGUARD, 2, PATH_UP, false, false });
        /* The peer has lost the new keys: what still works is used. */
        RUN({ 0, false, { { 2, true, 190 }, { 1, true, 5 } }, PATH_WIREGUARD, 1, PATH_UP, false, true });
        /* After a restart of the daemon, in the middle. */
        RUN({ 0, false, { { 2, true, 3 }, { 1, true, 5 } }, PATH_WIREGUARD, 2, PATH_UP, false, false });
        /* The old keys go before the new ones work. */
        RUN({ 0, false, { { 1, true, 0 } }, PATH_WIREGUARD, 1, PATH_UP, false, false },
                        { 1, false, { { 2, true, -1 } }, PATH_WIREGUARD, 2, PATH_CONNECTING, false, true });
}

static void test_keepalive_and_need(void **state) {
        Step both = { 0, false, { { 2, true, -1 }, { 1, true, 5 } }, 0, 0, 0, false, false };
        PathInput in = input(&both);
        Path p = {};

        /* The new session is called for, the old one kept. */
        (void) path_decide(&p, &in);
        ASSERT_EQ(path_keepalive(&p, &in, 1), PATH_KEEPALIVE_SEC);
        ASSERT_EQ(path_keepalive(&p, &in, 2), PATH_KEEPALIVE_CONNECTING_SEC);
        ASSERT_EQ(path_keepalive(&p, &in, 3), 0);
        ASSERT_TRUE(path_needs(&p, &in, 1, 2) && path_needs(&p, &in, 2, 2));

        /* Left, the old one falls silent. */
        in.sessions[0].handshake = in.realtime;
        (void) path_decide(&p, &in);
        ASSERT_EQ(path_keepalive(&p, &in, 1), 0);
        ASSERT_EQ(path_keepalive(&p, &in, 2), PATH_KEEPALIVE_SEC);
        ASSERT_TRUE(!path_needs(&p, &in, 1, 2) && path_needs(&p, &in, 2, 2));

        /* A peer that only has the old keys. */
        in.sessions[0] = in.sessions[1];
        in.n_sessions = 1;
        (void) path_decide(&p, &in);
        ASSERT_TRUE(path_needs(&p, &in, 1, 2) && !path_needs(&p, &in, 2, 2));

        /* In a trusted subnet nothing is needed, nothing sent. */
        in.vxlan = true;
        in.now += PATH_VXLAN_DELAY_USEC;
        (void) path_decide(&p, &in);
        in.now += PATH_VXLAN_DELAY_USEC;
        (void) path_decide(&p, &in);
        ASSERT_EQ(p.kind, PATH_VXLAN);
        ASSERT_EQ(path_keepalive(&p, &in, 1), 0);
        ASSERT_FALSE(path_needs(&p, &in, 1, 2));

        /* A relayed peer is tried for ever. */
        in.vxlan = false;
        in.relayed = true;
        in.sessions[0].handshake = in.realtime;
        (void) path_decide(&p, &in);
        ASSERT_EQ(path_keepalive(&p, &in, 1), PATH_KEEPALIVE_CONNECTING_SEC);
}

static void test_addresses_are_tried_in_turn(void **state) {
        Step silent = { 0, false, { { 1, true, -1 } }, 0, 0, 0, false, false };
        PathInput in = input(&silent);
        Path p = {};

        for (unsigned i = 0; i < 35; i++) {
                (void) path_decide(&p, &in);
                ASSERT_EQ(p.attempt, i / 10);
                in.now += SEC;
        }
        /* Which answers is kept. */
        for (unsigned i = 0; i < 35; i++) {
                in.sessions[0].handshake = in.realtime;
                (void) path_decide(&p, &in);
                in.now += SEC;
        }
        ASSERT_EQ(p.attempt, 3);
}

static void test_clock_set_back(void **state) {
        PathSession s = { .generation = 1, .ready = true, .handshake = REALTIME + 3600 * SEC };

        ASSERT_TRUE(path_session_is_fresh(&s, REALTIME));
        s.handshake = REALTIME - PATH_FRESH_USEC;
        ASSERT_FALSE(path_session_is_fresh(&s, REALTIME));
        s.handshake = 0;
        ASSERT_FALSE(path_session_is_fresh(&s, REALTIME));
}

KONTENA_TESTS(cmocka_unit_test(test_trusted_from_the_start), cmocka_unit_test(test_wireguard_from_the_start),
                cmocka_unit_test(test_without_keys_nothing_is_sent_in_clear),
                cmocka_unit_test(test_from_vxlan_to_wireguard),
                cmocka_unit_test(test_distrust_is_not_put_off),
                cmocka_unit_test(test_from_wireguard_to_vxlan), cmocka_unit_test(test_rotation),
                cmocka_unit_test(test_keepalive_and_need),
                cmocka_unit_test(test_addresses_are_tried_in_turn), cmocka_unit_test(test_clock_set_back))
