/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <netinet/in.h>

#include "macro.h"

/* All of these take the whole string: trailing bytes, a sign where none belongs, or an empty string are
 * -EINVAL, values out of range -ERANGE. */
int parse_boolean(const char *s); /* 1, 0 or -EINVAL; as systemd: yes no true false on off 1 0 */
int safe_atou64(const char *s, uint64_t *ret);
int safe_atou(const char *s, unsigned *ret);
int safe_atoi64(const char *s, int64_t *ret);
int safe_atod(const char *s, double *ret);
int parse_port(const char *s, uint16_t *ret); /* 1..65535 */

/* Bytes with optional suffix b k m g t (powers of 1024, any case, a trailing b or B allowed: "64m", "1GB"). */
int parse_size(const char *s, uint64_t *ret);

/* "10s" "5min" "1h 30min" "500ms", a bare number is seconds. Microseconds. */
int parse_sec(const char *s, uint64_t *ret_usec);

/* An IPv4 network in CIDR form. Host bits set are refused with -EINVAL. */
typedef struct Ipv4Prefix {
        uint32_t address; /* host byte order */
        uint8_t length;
} Ipv4Prefix;

int parse_ipv4(const char *s, uint32_t *ret); /* host byte order */
int parse_ipv4_prefix(const char *s, Ipv4Prefix *ret);
bool ipv4_prefix_contains(const Ipv4Prefix *p, uint32_t address) _pure_;
bool ipv4_prefix_overlaps(const Ipv4Prefix *a, const Ipv4Prefix *b) _pure_;
uint32_t ipv4_prefix_mask(uint8_t length) _const_;

#define IPV4_STRING_MAX (INET_ADDRSTRLEN)
const char *ipv4_to_string(uint32_t address, char ret[static INET_ADDRSTRLEN]);
#define IPV4_TO_STRING(a) ipv4_to_string((a), (char[INET_ADDRSTRLEN]){})
