/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "netlink.h"

#include <sys/socket.h>
#include <sys/time.h>

#include "file-util.h"
#include "kontena-limits.h"
#include "string-util.h"

#define MESSAGE_SIZE       4096U
#define RECEIVE_SIZE       32768U /* the kernel fills dumps up to what it sees us read */
#define BATCH_MESSAGES_MAX 64U    /* their acknowledgements fit in the default receive buffer */
#define BATCH_BYTES_MAX    16384U
#define TIMEOUT_SEC        5
#define DRAIN_MAX          64U /* datagrams for one turn of the event loop */

typedef struct Request {
        uint32_t seq;
        size_t offset, size;
        int tolerated;
        char *what;
        bool answered;
} Request;

struct Netlink {
        struct mnl_socket *socket;
        uint32_t seq;
        uint8_t *queue;
        size_t queue_size, queue_allocated;
        Request *requests;
        size_t n_requests, n_allocated;
        netlink_change_t on_change;
        void *userdata;
        _Alignas(struct nlmsghdr) uint8_t message[MESSAGE_SIZE];
};

static int socket_open(int protocol, int flags, struct mnl_socket **ret) {
        struct mnl_socket *s;
        int one = 1;

        s = mnl_socket_open2(protocol, SOCK_CLOEXEC | flags);
        if (!s)
                return -errno;

        /* Older kernels have less to say; nothing else changes. */
        (void) mnl_socket_setsockopt(s, NETLINK_EXT_ACK, &one, sizeof(one));
        (void) mnl_socket_setsockopt(s, NETLINK_CAP_ACK, &one, sizeof(one));

        *ret = s;
        return 0;
}

int netlink_open(int protocol, Netlink **ret) {
        _cleanup_(netlink_freep) Netlink *nl = NULL;
        struct timeval timeout = { .tv_sec = TIMEOUT_SEC };
        int one = 1, r;

        assert(ret);

        nl = new0(Netlink, 1);
        if (!nl)
                return -ENOMEM;

        r = socket_open(protocol, 0, &nl->socket);
        if (r < 0)
                return r;
        if (mnl_socket_bind(nl->socket, 0, MNL_SOCKET_AUTOPID) < 0)
                return -errno;
        (void) mnl_socket_setsockopt(nl->socket, NETLINK_GET_STRICT_CHK, &one, sizeof(one));
        if (setsockopt(mnl_socket_get_fd(nl->socket), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) <
                        0)
                return -errno;

        nl->seq = (uint32_t) now_monotonic();
        *ret = TAKE_PTR(nl);
        return 0;
}

static void queue_clear(Netlink *nl) {
        FOREACH_ARRAY(q, nl->requests, nl->n_requests)
                free(q->what);
        nl->requests = mfree(nl->requests);
        nl->n_requests = nl->n_allocated = 0;
        /* A WireGuard device's keys may be in it. */
        if (nl->queue)
                erase_memory(nl->queue, nl->queue_size);
        nl->queue = mfree(nl->queue);
        nl->queue_size = nl->queue_allocated = 0;
}

Netlink *netlink_free(Netlink *nl) {
        if (!nl)
                return NULL;

        if (nl->socket)
                (void) mnl_socket_close(nl->socket);
        queue_clear(nl);
        erase_memory(nl->message, sizeof(nl->message));
        return mfree(nl);
}

uint32_t netlink_port_id(const Netlink *nl) {
        return mnl_socket_get_portid(nl->socket);
}

void netlink_on_change(Netlink *nl, netlink_change_t callback, void *userdata) {
        nl->on_change = callback;
        nl->userdata = userdata;
}

struct nlmsghdr *netlink_begin(Netlink *nl, uint16_t type, uint16_t flags) {
        struct nlmsghdr *h;

        memset(nl->message, 0, sizeof(nl->message));
        h = mnl_nlmsg_put_header(nl->message);
        h->nlmsg_type = type;
        h->nlmsg_flags = NLM_F_REQUEST | flags;
        h->nlmsg_seq = ++nl->seq;
        return h;
}

static int grow(void **array, size_t *allocated, size_t wanted, size_t element) {
        size_t n;
        void *p;

        if (wanted <= *allocated)
                return 0;
        n = MAX(wanted, *allocated * 2);
        p = reallocarray(*array, n, element);
        if (!p)
                return -ENOMEM;
        *array = p;
        *allocated = n;
        return 0;
}

static int queue_begun(Netlink *nl, int tolerated, char *what) {
        struct nlmsghdr *h = (struct nlmsghdr *) nl->message;
        size_t size = MNL_ALIGN(h->nlmsg_len);
        int r;

        assert(size <= MESSAGE_SIZE);

        r = grow((void **) &nl->queue, &nl->queue_allocated, nl->queue_size + size, 1);
        if (r < 0)
                return r;
        r = grow((void **) &nl->requests, &nl->n_allocated, nl->n_requests + 1, sizeof(Request));
        if (r < 0)
                return r;

        h->nlmsg_flags |= NLM_F_ACK;
        memcpy(nl->queue + nl->queue_size, nl->message, size);
        nl->requests[nl->n_requests++] = (Request){
                .seq = h->nlmsg_seq,
                .offset = nl->queue_size,
                .size = size,
                .tolerated = tolerated,
                .what = what,
        };
        nl->queue_size += size;
        return 0;
}

int netlink_queue(Netlink *nl, int tolerated, const char *what, ...) {
        _cleanup_free_ char *text = NULL;
        va_list ap;
        int r;

        va_start(ap, what);
        text = strvprintf(what, ap);
        va_end(ap);

        r = text ? queue_begun(nl, tolerated, text) : -ENOMEM;
        if (r < 0) {
                queue_clear(nl);
                return r;
        }
        TAKE_PTR(text);
        return 0;
}

const struct nlmsghdr *netlink_next(const uint8_t **p, size_t *left) {
        const struct nlmsghdr *h = (const struct nlmsghdr *) *p;
        size_t step;

        if (*left < sizeof(struct nlmsghdr) || h->nlmsg_len < sizeof(struct nlmsghdr) ||
                        h->nlmsg_len > *left)
                return NULL;

        step = MIN((size_t) MNL_ALIGN(h->nlmsg_len), *left);
        *p += step;
        *left -= step;
        return h;
}

int netlink_ack_parse(const struct nlmsghdr *h, int *ret_error, const char **ret_text) {
        const struct nlattr *tb[NLMSGERR_ATTR_MAX + 1] = {};
        const struct nlmsgerr *e;
        size_t size = sizeof(struct nlmsgerr);
        int r;

        assert(h);

        if (h->nlmsg_len < MNL_NLMSG_HDRLEN + sizeof(struct nlmsgerr))
                return -EBADMSG;
        e = mnl_nlmsg_get_payload(h);
        if (e->error > 0 || e->error < -4095)
                return -EBADMSG;

        if (h->nlmsg_flags & NLM_F_ACK_TLVS) {
                if (!(h->nlmsg_flags & NLM_F_CAPPED)) {
                        if (e->msg.nlmsg_len < MNL_NLMSG_HDRLEN || e->msg.nlmsg_len > h->nlmsg_len)
                                return -EBADMSG;
                        size += MNL_ALIGN(e->msg.nlmsg_len) - MNL_NLMSG_HDRLEN;
                }
                r = netlink_attributes(h, size, tb, NLMSGERR_ATTR_MAX);
                if (r < 0)
                        return r;
        }

        *ret_error = -e->error;
        *ret_text = tb[NLMSGERR_ATTR_MSG] ? netlink_get_string(tb[NLMSGERR_ATTR_MSG]) : NULL;
        return 0;
}

static int parse_attributes(
                const struct nlattr *first, size_t size, const struct nlattr **tb, uint16_t max) {
        const struct nlattr *a = first;

        while (size >= sizeof(struct nlattr)) {
                uint16_t type = mnl_attr_get_type(a);
                size_t step;

                if (a->nla_len < sizeof(struct nlattr) || a->nla_len > size)
                        return -EBADMSG;
                if (type <= max)
                        tb[type] = a;
                step = MIN((size_t) MNL_ALIGN(a->nla_len), size);
                size -= step;
                a = (const struct nlattr *) ((const uint8_t *) a + step);
        }
        return size == 0 ? 0 : -EBADMSG;
}

int netlink_attributes(
                const struct nlmsghdr *h, size_t header_size, const struct nlattr **tb, uint16_t max) {
        size_t offset = MNL_NLMSG_HDRLEN + MNL_ALIGN(header_size);

        memset(tb, 0, sizeof(*tb) * (max + 1U));
        if (h->nlmsg_len < MNL_NLMSG_HDRLEN + header_size)
                return -EBADMSG;
        if (h->nlmsg_len <= offset)
                return 0;
        return parse_attributes((const struct nlattr *) ((const uint8_t *) h + offset),
                        h->nlmsg_len - offset, tb, max);
}

int netlink_nested(const struct nlattr *nest, const struct nlattr **tb, uint16_t max) {
        memset(tb, 0, sizeof(*tb) * (max + 1U));
        if (!nest)
                return 0;
        return parse_attributes(mnl_attr_get_payload(nest), mnl_attr_get_payload_len(nest), tb, max);
}

int netlink_list_next(const struct nlattr *list, const struct nlattr *a, const struct nlattr **ret) {
        const uint8_t *from = mnl_attr_get_payload(list), *end = from + mnl_attr_get_payload_len(list);
        const struct nlattr *next;

        if (a)
                from = (const uint8_t *) a +
                       MIN((size_t) MNL_ALIGN(a->nla_len), (size_t) (end - (const uint8_t *) a));
        *ret = NULL;
        if (from == end)
                return 0;
        next = (const struct nlattr *) from;
        if ((size_t) (end - from) < sizeof(*next) || next->nla_len < sizeof(*next) ||
                        next->nla_len > end - from)
                return -EBADMSG;

        *ret = next;
        return 0;
}

static bool get_value(const struct nlattr *a, void *ret, size_t size) {
        if (!a || mnl_attr_get_payload_len(a) != size)
                return false;
        memcpy(ret, mnl_attr_get_payload(a), size);
        return true;
}

bool netlink_get_u8(const struct nlattr *a, uint8_t *ret) {
        return get_value(a, ret, sizeof(*ret));
}

bool netlink_get_u16(const struct nlattr *a, uint16_t *ret) {
        return get_value(a, ret, sizeof(*ret));
}

bool netlink_get_u32(const struct nlattr *a, uint32_t *ret) {
        return get_value(a, ret, sizeof(*ret));
}

bool netlink_get_u64(const struct nlattr *a, uint64_t *ret) {
        return get_value(a, ret, sizeof(*ret));
}

const char *netlink_get_string(const struct nlattr *a) {
        if (!a || !memchr(mnl_attr_get_payload(a), 0, mnl_attr_get_payload_len(a)))
                return NULL;
        return mnl_attr_get_payload(a);
}

static int set_failure(KError *reterr, int error, const char *what, const char *text) {
        errno = error;
        (void) kerror_set(reterr, K_NETWORK, "Cannot %s: %s%s%m.", what, strempty(text), text ? ": " : "");
        return -error;
}

static ssize_t receive(Netlink *nl, void *buffer, size_t size) {
        for (;;) {
                ssize_t n = mnl_socket_recvfrom(nl->socket, buffer, size);

                if (n >= 0)
                        return n;
                if (errno == EAGAIN)
                        return -ETIMEDOUT; /* SO_RCVTIMEO */
                if (errno != EINTR)
                        return -errno;
        }
}

static int request_answered(Netlink *nl, Request *q, const struct nlmsghdr *h, KError *reterr) {
        const char *text;
        int error, r;

        r = netlink_ack_parse(h, &error, &text);
        if (r < 0)
                return set_failure(reterr, -r, q->what, "the kernel's answer is malformed");

        if (error == 0) {
                if (nl->on_change)
                        nl->on_change(q->what, nl->userdata);
                return 0;
        }
        return error == q->tolerated ? 0 : set_failure(reterr, error, q->what, text);
}

/* Sends requests [first, end) as one datagram and takes their answers. */
static int exchange(Netlink *nl, size_t first, size_t end, uint8_t *buffer, KError *reterr) {
        size_t offset = nl->requests[first].offset, missing = end - first;
        const Request *last = &nl->requests[end - 1];
        int r, result = 0;

        if (mnl_socket_sendto(nl->socket, nl->queue + offset, last->offset + last->size - offset) < 0)
                return set_failure(reterr, errno, nl->requests[first].what, NULL);

        while (missing > 0) {
                ssize_t n = receive(nl, buffer, RECEIVE_SIZE);
                size_t left = (size_t) n;
                const uint8_t *p = buffer;
                const struct nlmsghdr *h;

                if (n < 0)
                        return set_failure(reterr, (int) -n, nl->requests[first].what,
                                        "no answer from the kernel");

                while ((h = netlink_next(&p, &left))) {
                        uint32_t i = h->nlmsg_seq - nl->requests[first].seq;
                        Request *q;

                        /* Anything else is left from a request that was given up. */
                        if (h->nlmsg_type != NLMSG_ERROR || i >= end - first)
                                continue;
                        q = &nl->requests[first + i];
                        if (q->answered)
                                continue;
                        q->answered = true;
                        missing--;
                        r = request_answered(nl, q, h, reterr);
                        if (r < 0 && result == 0)
                                result = r;
                }
        }
        return result;
}

int netlink_flush(Netlink *nl, KError *reterr) {
        _cleanup_free_ uint8_t *buffer = NULL;
        int r, result = 0;

        if (nl->n_requests == 0)
                return 0;

        buffer = malloc(RECEIVE_SIZE);
        if (!buffer) {
                queue_clear(nl);
                return -ENOMEM;
        }

        for (size_t first = 0, end; first < nl->n_requests; first = end) {
                size_t bytes = 0;

                /* Sequence numbers are consecutive unless a call() came between; a batch must be. */
                for (end = first; end < nl->n_requests && end - first < BATCH_MESSAGES_MAX; end++) {
                        bytes += nl->requests[end].size;
                        if (end > first && (bytes > BATCH_BYTES_MAX ||
                                                           nl->requests[end].seq !=
                                                                           nl->requests[end - 1].seq + 1))
                                break;
                }
                r = exchange(nl, first, end, buffer, reterr);
                if (r < 0 && result == 0)
                        result = r;
        }

        queue_clear(nl);
        return result;
}

/* One message of an answer: 1 when it was the last, 0 when more follow. */
static int answer_one(const struct nlmsghdr *h, netlink_message_t callback, void *userdata,
                bool *interrupted, const char *what, KError *reterr) {
        const char *text = NULL;
        int error, r;

        if (h->nlmsg_flags & NLM_F_DUMP_INTR)
                *interrupted = true;

        switch (h->nlmsg_type) {
        case NLMSG_NOOP:
        case NLMSG_OVERRUN:
                return 0;
        case NLMSG_DONE:
                error = 0;
                if (mnl_nlmsg_get_payload_len(h) >= sizeof(int))
                        memcpy(&error, mnl_nlmsg_get_payload(h), sizeof(int));
                return error < 0 && error >= -4095 ? set_failure(reterr, -error, what, NULL) : 1;
        case NLMSG_ERROR:
                r = netlink_ack_parse(h, &error, &text);
                if (r < 0)
                        return set_failure(reterr, -r, what, "the kernel's answer is malformed");
                return error > 0 ? set_failure(reterr, error, what, text) : 1;
        default:
                return callback ? callback(h, userdata) : 0;
        }
}

int netlink_call(Netlink *nl, netlink_message_t callback, void *userdata, KError *reterr, const char *what,
                ...) {
        struct nlmsghdr *h = (struct nlmsghdr *) nl->message;
        _cleanup_free_ uint8_t *buffer = NULL;
        _cleanup_free_ char *text = NULL;
        uint32_t seq = h->nlmsg_seq;
        bool interrupted = false;
        va_list ap;
        int r = 0;

        assert(nl->n_requests == 0);

        va_start(ap, what);
        text = strvprintf(what, ap);
        va_end(ap);
        buffer = malloc(RECEIVE_SIZE);
        if (!text || !buffer)
                return -ENOMEM;

        h->nlmsg_flags |= NLM_F_ACK;
        if (mnl_socket_sendto(nl->socket, h, h->nlmsg_len) < 0)
                return set_failure(reterr, errno, text, NULL);

        /* The answer is read to its end also after a failure: what is left would be taken for that of the next request. */
        for (bool done = false; !done;) {
                ssize_t n = receive(nl, buffer, RECEIVE_SIZE);
                const struct nlmsghdr *reply;
                size_t left = (size_t) n;
                const uint8_t *p = buffer;

                if (n < 0)
                        return set_failure(reterr, (int) -n, text, "no answer from the kernel");

                while (!done && (reply = netlink_next(&p, &left))) {
                        int k;

                        if (reply->nlmsg_seq != seq)
                                continue;
                        done = reply->nlmsg_type == NLMSG_DONE || reply->nlmsg_type == NLMSG_ERROR;
                        if (r < 0)
                                continue;
                        k = answer_one(reply, callback, userdata, &interrupted, text, reterr);
                        if (k < 0)
                                r = k;
                }
        }

        if (r < 0)
                return r;
        return interrupted ? -EINTR : 0;
}

struct NetlinkMonitor {
        struct mnl_socket *socket;
        sd_event_source *source;
        netlink_message_t callback;
        void *userdata;
        uint8_t *buffer;
};

static int monitor_on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        NetlinkMonitor *m = userdata;

        for (unsigned i = 0; i < DRAIN_MAX; i++) {
                ssize_t n = mnl_socket_recvfrom(m->socket, m->buffer, RECEIVE_SIZE);
                const uint8_t *p = m->buffer;
                const struct nlmsghdr *h;
                size_t left = (size_t) n;

                if (n < 0) {
                        if (errno == EINTR)
                                continue;
                        /* ENOBUFS: queue overrun; ENOSPC: a message larger than the buffer. */
                        if (errno == ENOBUFS || errno == ENOSPC) {
                                (void) m->callback(NULL, m->userdata);
                                continue;
                        }
                        return 0;
                }

                while ((h = netlink_next(&p, &left)))
                        (void) m->callback(h, m->userdata);
        }
        return 0;
}

int netlink_monitor_new(sd_event *event, int protocol, const unsigned *groups, size_t n_groups,
                netlink_message_t callback, void *userdata, NetlinkMonitor **ret) {
        _cleanup_(netlink_monitor_freep) NetlinkMonitor *m = NULL;
        int r, size = 1024 * 1024;

        assert(callback);
        assert(ret);

        m = new0(NetlinkMonitor, 1);
        if (!m)
                return -ENOMEM;
        m->callback = callback;
        m->userdata = userdata;
        m->buffer = malloc(RECEIVE_SIZE);
        if (!m->buffer)
                return -ENOMEM;

        r = socket_open(protocol, SOCK_NONBLOCK, &m->socket);
        if (r < 0)
                return r;
        /* FORCE needs CAP_NET_ADMIN, which who watches has, mostly; with less room we only look more often. */
        if (setsockopt(mnl_socket_get_fd(m->socket), SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0)
                (void) setsockopt(mnl_socket_get_fd(m->socket), SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
        if (mnl_socket_bind(m->socket, 0, MNL_SOCKET_AUTOPID) < 0)
                return -errno;

        FOREACH_ARRAY(g, groups, n_groups)
                if (mnl_socket_setsockopt(m->socket, NETLINK_ADD_MEMBERSHIP, (void *) g, sizeof(*g)) < 0)
                        return -errno;

        r = sd_event_add_io(event, &m->source, mnl_socket_get_fd(m->socket), EPOLLIN, monitor_on_io, m);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(m);
        return 0;
}

NetlinkMonitor *netlink_monitor_free(NetlinkMonitor *m) {
        if (!m)
                return NULL;

        sd_event_source_disable_unref(m->source);
        if (m->socket)
                (void) mnl_socket_close(m->socket);
        free(m->buffer);
        return mfree(m);
}
