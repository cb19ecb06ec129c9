/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "rest-limit.h"

#include <arpa/inet.h>
#include <uthash.h>

#include "file-util.h"
#include "kontena-limits.h"
#include "string-util.h"

#define WINDOW_USEC (60U * USEC_PER_SEC)

typedef struct Count {
        char *name;
        uint64_t since;
        unsigned n;
        UT_hash_handle hh;
} Count;

struct RestLimit {
        unsigned max;
        Count *counts; /* oldest first: uthash keeps the order of insertion */
        Count others;
};

int rest_limit_new(unsigned per_minute_max, RestLimit **ret) {
        RestLimit *l;

        l = new0(RestLimit, 1);
        if (!l)
                return -ENOMEM;
        l->max = per_minute_max;
        *ret = l;
        return 0;
}

static void count_drop(RestLimit *l, Count *c) {
        HASH_DEL(l->counts, c);
        free(c->name);
        free(c);
}

RestLimit *rest_limit_free(RestLimit *l) {
        if (!l)
                return NULL;

        while (l->counts)
                count_drop(l, l->counts);
        free(l);
        return NULL;
}

static bool is_over(const Count *c, uint64_t now) {
        return now - c->since >= WINDOW_USEC;
}

static Count *count_get(RestLimit *l, const char *name, uint64_t now) {
        Count *c;

        HASH_FIND_STR(l->counts, name, c);
        if (c && is_over(c, now)) {
                count_drop(l, c);
                c = NULL;
        }
        if (c)
                return c;

        while (l->counts && is_over(l->counts, now))
                count_drop(l, l->counts);
        if (HASH_COUNT(l->counts) >= REST_LOGINS_REMEMBERED_MAX)
                return &l->others;
        c = new0(Count, 1);
        if (!c)
                return &l->others;
        c->name = strdup(name);
        if (!c->name) {
                free(c);
                return &l->others;
        }
        c->since = now;
        HASH_ADD_KEYPTR(hh, l->counts, c->name, strlen(c->name), c);
        if (!c->hh.tbl) {
                free(c->name);
                free(c);
                return &l->others;
        }
        return c;
}

int rest_limit_take(RestLimit *l, const char *name, uint64_t now) {
        Count *c = count_get(l, name, now);

        if (is_over(c, now)) { /* the common one */
                c->since = now;
                c->n = 0;
        }
        if (c->n >= l->max)
                return -EBUSY;
        c->n++;
        return 0;
}

char *rest_limit_address(const char *address) {
        struct in6_addr a;
        char text[INET6_ADDRSTRLEN];

        if (inet_pton(AF_INET6, address, &a) != 1)
                return strdup(address);
        memset(a.s6_addr + 8, 0, 8);
        if (!inet_ntop(AF_INET6, &a, text, sizeof(text)))
                return NULL;
        return strjoin(text, "/64");
}

int rest_address_normalize(const char *s, size_t size, char **ret) {
        char text[INET6_ADDRSTRLEN];
        struct in6_addr a6;
        struct in_addr a4;
        const char *p;

        if (size >= sizeof(text))
                return -EINVAL;
        memcpy(text, s, size);
        text[size] = '\0';

        if (inet_pton(AF_INET, text, &a4) == 1)
                p = inet_ntop(AF_INET, &a4, text, sizeof(text));
        else if (inet_pton(AF_INET6, text, &a6) != 1)
                return -EINVAL;
        else if (IN6_IS_ADDR_V4MAPPED(&a6))
                p = inet_ntop(AF_INET, &a6.s6_addr[12], text, sizeof(text));
        else
                p = inet_ntop(AF_INET6, &a6, text, sizeof(text));
        if (!p)
                return -errno;

        *ret = strdup(text);
        return *ret ? 0 : -ENOMEM;
}
