/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <libmnl/libmnl.h>
#include <systemd/sd-event.h>

#include "kerror.h"
#include "macro.h"

/* Requests to the local kernel over one netlink socket. Changes are queued with a text of what they do, sent as a batch,
 * and each is acknowledged by its sequence number; a refusal becomes "Cannot add address 10.81.0.3/32 to 'kt-demo': <the
 * kernel's words>: File exists". Calls are synchronous: the kernel answers within the send. */
typedef struct Netlink Netlink;

/* A reply, or a multicast message; the whole message lies within its buffer. Negative ends the walk. */
typedef int (*netlink_message_t)(const struct nlmsghdr *h, void *userdata);
/* A change that the kernel has acknowledged. */
typedef void (*netlink_change_t)(const char *what, void *userdata);

/* The socket belongs to the network namespace that the caller is in now, for ever. */
int netlink_open(int protocol, Netlink **ret);
Netlink *netlink_free(Netlink *nl);
DEFINE_TRIVIAL_CLEANUP_FUNC(Netlink *, netlink_free);
/* The number that the kernel puts into multicast messages about what this socket asked for. */
uint32_t netlink_port_id(const Netlink *nl) _pure_;
void netlink_on_change(Netlink *nl, netlink_change_t callback, void *userdata);

/* Begins a message in nl's own buffer, of 4 KiB; the mnl_nlmsg_put and mnl_attr_put functions go on from there. */
struct nlmsghdr *netlink_begin(Netlink *nl, uint16_t type, uint16_t flags);

/* Puts the begun message into the queue. An error equal to tolerated (0: none, positive otherwise) counts as done, but not
 * as a change. Text as "add address ... to ...". On lack of memory the whole queue is dropped. */
int netlink_queue(Netlink *nl, int tolerated, const char *what, ...) _printf_(3, 4);

/* Sends the queue. All requests are tried; the first failure is returned. The queue is empty afterwards. */
int netlink_flush(Netlink *nl, KError *reterr);

/* Sends the begun message, alone, and calls back for each message of the answer. With NLM_F_DUMP the answer is a list;
 * -EINTR when it changed meanwhile and must be asked for again. The queue must be empty. */
int netlink_call(Netlink *nl, netlink_message_t callback, void *userdata, KError *reterr, const char *what,
                ...) _printf_(5, 6);

/* The next whole message of a datagram, of which *left bytes at *p remain; NULL at its end, or where it is malformed. (libmnl's
 * own walk takes lengths of 2 GiB and more for negative ones.) */
const struct nlmsghdr *netlink_next(const uint8_t **p, size_t *left);

/* The error (0 or positive) and the kernel's words, or NULL, of an NLMSG_ERROR. -EBADMSG when malformed. */
int netlink_ack_parse(const struct nlmsghdr *h, int *ret_error, const char **ret_text);

/* Attributes behind a family header of the given size into tb[0..max]; unknown ones are skipped. -EBADMSG. */
int netlink_attributes(const struct nlmsghdr *h, size_t header_size, const struct nlattr **tb, uint16_t max);
int netlink_nested(const struct nlattr *nest, const struct nlattr **tb, uint16_t max);
/* The attributes inside of a list, where their types say nothing: the first, or the one behind a. NULL at the end. -EBADMSG. */
int netlink_list_next(const struct nlattr *list, const struct nlattr *a, const struct nlattr **ret);
/* Value of an attribute, if it is there and of that size; returns false otherwise. */
bool netlink_get_u8(const struct nlattr *a, uint8_t *ret);
bool netlink_get_u16(const struct nlattr *a, uint16_t *ret);
bool netlink_get_u32(const struct nlattr *a, uint32_t *ret);
bool netlink_get_u64(const struct nlattr *a, uint64_t *ret);
const char *netlink_get_string(const struct nlattr *a); /* NULL unless it ends within the attribute */

/* Multicast messages on the event loop, at most a bounded number for each turn. h is NULL when the kernel had to drop
 * some: look at everything again. */
typedef struct NetlinkMonitor NetlinkMonitor;
int netlink_monitor_new(sd_event *event, int protocol, const unsigned *groups, size_t n_groups,
                netlink_message_t callback, void *userdata, NetlinkMonitor **ret);
NetlinkMonitor *netlink_monitor_free(NetlinkMonitor *m);
DEFINE_TRIVIAL_CLEANUP_FUNC(NetlinkMonitor *, netlink_monitor_free);
