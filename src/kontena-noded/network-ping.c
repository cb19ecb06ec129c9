/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "network-ping.h"

#include <arpa/inet.h>
#include <linux/icmp.h>
#include <sodium.h>
#include <string.h>
#include <sys/socket.h>

#include "file-util.h"

#define INTERVAL_USEC (200 * USEC_PER_MSEC)
#define LAST_USEC     (1 * USEC_PER_SEC)
#define READS_MAX     256U /* in one turn of the loop */

typedef struct Target {
        uint64_t sent[PING_COUNT]; /* monotonic; 0: answered, or not sent */
        uint64_t sum;
} Target;

struct Ping {
        sd_event_source *io, *timer;
        int fd;
        uint16_t id;
        unsigned round;
        Target *targets;
        PingResult *results;
        size_t n;
        ping_done_t done;
        void *userdata;
};

Ping *ping_cancel(Ping *p) {
        if (!p)
                return NULL;

        sd_event_source_disable_unref(p->io);
        sd_event_source_disable_unref(p->timer);
        safe_close(p->fd);
        free(p->targets);
        free(p->results);
        return mfree(p);
}

bool ping_parse(const uint8_t *packet, size_t size, uint16_t id, uint32_t *ret_source,
                uint16_t *ret_sequence) {
        struct icmphdr h;
        uint32_t source;
        size_t header;

        if (size < 20 || packet[0] >> 4 != 4)
                return false;
        header = (size_t) (packet[0] & 15) * 4;
        if (header < 20 || size < header + sizeof(h))
                return false;
        memcpy(&h, packet + header, sizeof(h));
        if (h.type != ICMP_ECHOREPLY || h.un.echo.id != htons(id))
                return false;

        memcpy(&source, packet + 12, sizeof(source));
        *ret_source = ntohl(source);
        *ret_sequence = ntohs(h.un.echo.sequence);
        return true;
}

static void take(Ping *p, uint32_t source, uint16_t sequence, uint64_t now) {
        if (sequence >= PING_COUNT)
                return;
        for (size_t i = 0; i < p->n; i++) {
                if (p->results[i].address != source || p->targets[i].sent[sequence] == 0)
                        continue;
                p->results[i].received++;
                p->targets[i].sum += now - p->targets[i].sent[sequence];
                p->targets[i].sent[sequence] = 0; /* a second one does not count */
        }
}

static int on_io(sd_event_source *s, int fd, uint32_t events, void *userdata) {
        uint8_t packet[512];
        Ping *p = userdata;
        uint64_t now = now_monotonic();

        for (unsigned i = 0; i < READS_MAX; i++) {
                ssize_t k = recv(fd, packet, sizeof(packet), 0);
                uint16_t sequence;
                uint32_t source;

                if (k < 0)
                        break; /* nothing more; an error of one address is its loss */
                if (ping_parse(packet, (size_t) k, p->id, &source, &sequence))
                        take(p, source, sequence, now);
        }
        return 0;
}

static uint16_t checksum(const void *data, size_t size) {
        const uint8_t *b = data;
        uint32_t sum = 0;

        for (size_t i = 0; i + 1 < size; i += 2)
                sum += (uint32_t) b[i] << 8 | b[i + 1];
        while (sum >> 16)
                sum = (sum & 0xffff) + (sum >> 16);
        return htons((uint16_t) ~sum);
}

static void send_round(Ping *p) {
        struct {
                struct icmphdr h;
                uint8_t rest[48]; /* 56 bytes in all, as ping(8) sends without its time */
        } packet = { .h = { .type = ICMP_ECHO,
                                     .un.echo.id = htons(p->id),
                                     .un.echo.sequence = htons((uint16_t) p->round) } };

        packet.h.checksum = checksum(&packet, sizeof(packet));
        for (size_t i = 0; i < p->n; i++) {
                struct sockaddr_in to = { .sin_family = AF_INET,
                        .sin_addr.s_addr = htonl(p->results[i].address) };

                /* One that cannot be sent is lost. */
                if (sendto(p->fd, &packet, sizeof(packet), 0, (struct sockaddr *) &to, sizeof(to)) >= 0)
                        p->targets[i].sent[p->round] = now_monotonic();
        }
}

static void finish(Ping *p) {
        _cleanup_(ping_cancelp) Ping *own = p;

        for (size_t i = 0; i < own->n; i++)
                if (own->results[i].received > 0)
                        own->results[i].rtt_usec = own->targets[i].sum / own->results[i].received;
        own->done(own->results, own->n, own->userdata);
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata) {
        Ping *p = userdata;

        if (p->round == PING_COUNT) {
                finish(p);
                return 0;
        }
        send_round(p);
        p->round++;
        if (sd_event_source_set_time_relative(s, p->round == PING_COUNT ? LAST_USEC : INTERVAL_USEC) < 0 ||
                        sd_event_source_set_enabled(s, SD_EVENT_ONESHOT) < 0)
                finish(p);
        return 0;
}

static int open_socket(uint32_t source, int *ret) {
        struct sockaddr_in from = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(source) };
        struct icmp_filter filter = { .data = ~(UINT32_C(1) << ICMP_ECHOREPLY) };
        _cleanup_close_ int fd = -EBADF;

        fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_ICMP);
        if (fd < 0 || setsockopt(fd, SOL_RAW, ICMP_FILTER, &filter, sizeof(filter)) < 0 ||
                        bind(fd, (struct sockaddr *) &from, sizeof(from)) < 0)
                return -errno;

        *ret = TAKE_FD(fd);
        return 0;
}

int ping_start(sd_event *event, uint32_t source, const uint32_t *addresses, size_t n, ping_done_t done,
                void *userdata, Ping **ret, KError *reterr) {
        _cleanup_(ping_cancelp) Ping *p = NULL;
        int r;

        if (n > PING_TARGETS_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "At most %u addresses are asked at once.",
                                PING_TARGETS_MAX);
        p = new0(Ping, 1);
        if (!p)
                return -ENOMEM;
        *p = (Ping){ .fd = -EBADF, .n = n, .done = done, .userdata = userdata };
        p->id = (uint16_t) randombytes_uniform(UINT16_MAX);
        p->targets = new0(Target, n + 1);
        p->results = new0(PingResult, n + 1);
        if (!p->targets || !p->results)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++)
                p->results[i].address = addresses[i];

        r = open_socket(source, &p->fd);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make a socket for echo requests: %m.");
        r = sd_event_add_io(event, &p->io, p->fd, EPOLLIN, on_io, p);
        if (r >= 0)
                r = sd_event_add_time_relative(event, &p->timer, CLOCK_MONOTONIC, 0, 0, on_timer, p);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot wait for echo answers: %m.");

        *ret = TAKE_PTR(p);
        return 0;
}
