/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "network-ping.h"

#include <arpa/inet.h>
#include <sched.h>

#include "file-util.h"
#include "netlink-route.h"
#include "test.h"

static void test_answers(void **state) {
        uint8_t packet[64] = { 0x45 };
        uint16_t sequence = 9;
        uint32_t source = 0;

        packet[12] = 10, packet[15] = 2;
        packet[24] = 0x12, packet[25] = 0x34, packet[27] = 3; /* id, sequence */
        ASSERT_TRUE(ping_parse(packet, sizeof(packet), 0x1234, &source, &sequence));
        ASSERT_EQ(source, 0x0a000002);
        ASSERT_EQ(sequence, 3);
        ASSERT_FALSE(ping_parse(packet, sizeof(packet), 0x1235, &source, &sequence));
        for (size_t n = 0; n < 28; n++)
                ASSERT_FALSE(ping_parse(packet, n, 0x1234, &source, &sequence));
        packet[0] = 0x4f; /* options up to the end */
        ASSERT_FALSE(ping_parse(packet, 60 + 7, 0x1234, &source, &sequence));
        packet[0] = 0x44;
        ASSERT_FALSE(ping_parse(packet, sizeof(packet), 0x1234, &source, &sequence));
        packet[0] = 0x65;
        ASSERT_FALSE(ping_parse(packet, sizeof(packet), 0x1234, &source, &sequence));
        packet[0] = 0x45, packet[20] = 8; /* a request */
        ASSERT_FALSE(ping_parse(packet, sizeof(packet), 0x1234, &source, &sequence));
}

typedef struct Results {
        PingResult all[2];
        size_t n;
} Results;

static void on_done(const PingResult *results, size_t n, void *userdata) {
        Results *r = userdata;

        memcpy(r->all, results, n * sizeof(*results));
        r->n = n;
}

static void test_loss_and_time(void **state) {
        static const uint32_t addresses[] = { 0x7f000002, 0xc0000201 }; /* one answers, one is nowhere */
        _cleanup_(netlink_freep) Netlink *nl = NULL;
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        Results results = {};
        Ping *p;

        if (unshare(CLONE_NEWNET) < 0) {
                print_message("Skipped: cannot make a network namespace.\n");
                skip();
        }
        ASSERT_OK(netlink_open(NETLINK_ROUTE, &nl));
        ASSERT_OK(rtnl_set_up(nl, "lo"));
        ASSERT_OK(netlink_flush(nl, NULL));
        ASSERT_OK(sd_event_new(&event));
        ASSERT_OK(ping_start(event, 0, addresses, 2, on_done, &results, &p, NULL));
        while (results.n == 0)
                ASSERT_OK(sd_event_run(event, 100 * USEC_PER_MSEC));
        ASSERT_EQ(results.n, 2);
        ASSERT_EQ(results.all[0].received, PING_COUNT);
        ASSERT_TRUE(results.all[0].rtt_usec < USEC_PER_SEC);
        ASSERT_EQ(results.all[1].received, 0);
        ASSERT_EQ(results.all[1].rtt_usec, 0);

        ASSERT_OK(ping_start(event, 0, addresses, 2, on_done, &results, &p, NULL));
        ASSERT_TRUE(!ping_cancel(p));
        ASSERT_ERROR(ping_start(event, 0, addresses, PING_TARGETS_MAX + 1, on_done, &results, &p, NULL),
                        E2BIG);
}

KONTENA_TESTS(cmocka_unit_test(test_answers), cmocka_unit_test(test_loss_and_time))
