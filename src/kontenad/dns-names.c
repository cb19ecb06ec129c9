/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dns-names.h"

#include <uthash.h>

#include "json-util.h"
#include "kontena-limits.h"
#include "names.h"
#include "parse-util.h"
#include "string-util.h"

typedef struct Name {
        char *name;
        uint32_t *addresses; /* ascending; none: removed, kept for those who do not know it yet */
        size_t n, n_allocated;
        uint64_t version;
        UT_hash_handle hh;
} Name;

typedef struct Member {
        char *instance_id;
        char **names;
        uint32_t address;
        UT_hash_handle hh;
} Member;

struct DnsNames {
        Name *names;
        Member *members;
        uint64_t version, n_records;
        size_t n_empty; /* names without addresses */
};

int dns_names_new(DnsNames **ret) {
        DnsNames *t;

        t = new0(DnsNames, 1);
        if (!t)
                return -ENOMEM;
        *ret = t;
        return 0;
}

static void name_free(DnsNames *t, Name *n) {
        t->n_empty -= n->n == 0;
        HASH_DEL(t->names, n);
        free(n->name);
        free(n->addresses);
        free(n);
}

static void member_free(DnsNames *t, Member *m) {
        HASH_DEL(t->members, m);
        free(m->instance_id);
        strv_free(m->names);
        free(m);
}

DnsNames *dns_names_free(DnsNames *t) {
        Member *m, *next_member;
        Name *n, *next_name;

        if (!t)
                return NULL;

        HASH_ITER(hh, t->members, m, next_member)
                member_free(t, m);
        HASH_ITER(hh, t->names, n, next_name)
                name_free(t, n);
        return mfree(t);
}

int dns_names_of_instance(
                const char *grid, const char *stack, const char *service, uint32_t number, char ***ret) {
        _cleanup_strv_free_ char **names = NULL;
        _cleanup_free_ char *domain = NULL;
        int r;

        domain = stack_domain(grid, stack);
        if (!domain)
                return -ENOMEM;

        r = strv_extendf(&names, "%s.%s", service, domain);
        if (r >= 0)
                r = strv_extendf(&names, "%s-%u.%s", service, number, domain);
        if (r >= 0 && streq(stack, STACK_NULL)) {
                r = strv_extendf(&names, "%s.kontena.local", service);
                if (r >= 0)
                        r = strv_extendf(&names, "%s-%u.kontena.local", service, number);
        }
        if (r < 0)
                return r;

        *ret = TAKE_PTR(names);
        return 0;
}

static Name *find_name(const DnsNames *t, const char *name) {
        Name *n = NULL;

        HASH_FIND_STR(t->names, name, n);
        return n;
}

/* Place of the address, or where it would be. */
static size_t locate(const Name *n, uint32_t address) {
        size_t low = 0, high = n->n;

        while (low < high) {
                size_t middle = (low + high) / 2;

                if (n->addresses[middle] < address)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

static int add_record(DnsNames *t, const char *name, uint32_t address) {
        Name *n = find_name(t, name);
        size_t i;

        if (t->n_records >= DNS_RECORDS_MAX)
                return -E2BIG;

        if (!n) {
                if (HASH_COUNT(t->names) >= DNS_NAMES_MAX)
                        return -E2BIG;
                n = new0(Name, 1);
                if (!n)
                        return -ENOMEM;
                n->name = strdup(name);
                if (!n->name) {
                        free(n);
                        return -ENOMEM;
                }
                HASH_ADD_KEYPTR(hh, t->names, n->name, strlen(n->name), n);
                if (!n->hh.tbl) {
                        free(n->name);
                        free(n);
                        return -ENOMEM;
                }
                t->n_empty++;
        }

        if (n->n >= n->n_allocated) {
                size_t m = MAX(2U, n->n_allocated * 2);
                uint32_t *p = reallocarray(n->addresses, m, sizeof(uint32_t));

                if (!p)
                        return -ENOMEM;
                n->addresses = p;
                n->n_allocated = m;
        }
        i = locate(n, address);
        memmove(n->addresses + i + 1, n->addresses + i, (n->n - i) * sizeof(uint32_t));
        n->addresses[i] = address;
        t->n_empty -= n->n == 0;
        n->n++;
        n->version = ++t->version;
        t->n_records++;
        return 0;
}

static void remove_record(DnsNames *t, const char *name, uint32_t address) {
        Name *n = find_name(t, name);
        size_t i;

        if (!n)
                return;
        i = locate(n, address);
        if (i >= n->n || n->addresses[i] != address)
                return;
        memmove(n->addresses + i, n->addresses + i + 1, (n->n - i - 1) * sizeof(uint32_t));
        n->n--;
        t->n_empty += n->n == 0;
        n->version = ++t->version;
        t->n_records--;
}

static void remove_member(DnsNames *t, Member *m) {
        STRV_FOREACH(name, m->names)
                remove_record(t, *name, m->address);
        member_free(t, m);
}

int dns_names_set(DnsNames *t, const char *instance_id, char *const *names, uint32_t address) {
        Member *m = NULL;
        int r;

        assert(t);
        assert(instance_id);

        HASH_FIND_STR(t->members, instance_id, m);
        if (m ? m->address == address : address == 0)
                return 0;
        if (m)
                remove_member(t, m);
        if (address == 0)
                return 1;

        m = new0(Member, 1);
        if (!m)
                return -ENOMEM;
        m->instance_id = strdup(instance_id);
        m->names = strv_copy(names);
        m->address = address;
        if (m->instance_id && m->names)
                HASH_ADD_KEYPTR(hh, t->members, m->instance_id, strlen(m->instance_id), m);
        if (!m->hh.tbl) {
                free(m->instance_id);
                strv_free(m->names);
                free(m);
                return -ENOMEM;
        }

        STRV_FOREACH(name, m->names) {
                r = add_record(t, *name, address);
                if (r < 0) {
                        remove_member(t, m);
                        return r;
                }
        }
        return 1;
}

uint64_t dns_names_version(const DnsNames *t) {
        return t->version;
}

static int addresses_to_json(const Name *n, json_object **ret) {
        _cleanup_json_ json_object *array = NULL;
        int r;

        array = json_object_new_array();
        if (!array)
                return -ENOMEM;
        for (size_t i = 0; i < n->n; i++) {
                r = json_append_string(array, IPV4_TO_STRING(n->addresses[i]));
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(array);
        return 0;
}

int dns_names_differences(
                const DnsNames *t, uint64_t since, json_object **ret_set, json_object **ret_removed) {
        _cleanup_json_ json_object *set = NULL, *removed = NULL;
        int r;

        assert(t);
        assert(ret_set);
        assert(ret_removed);

        for (Name *n = t->names; n; n = n->hh.next) {
                json_object *array;

                if (n->version <= since)
                        continue;
                if (n->n == 0) {
                        if (since == 0)
                                continue;
                        if (!removed && !(removed = json_object_new_array()))
                                return -ENOMEM;
                        r = json_append_string(removed, n->name);
                        if (r < 0)
                                return r;
                        continue;
                }
                if (!set && !(set = json_object_new_object()))
                        return -ENOMEM;
                r = addresses_to_json(n, &array);
                if (r >= 0)
                        r = json_add(set, n->name, array);
                if (r < 0)
                        return r;
        }

        /* Many nodes are told the same. */
        r = set ? json_keep_text(set) : 0;
        if (r < 0)
                return r;

        *ret_set = TAKE_PTR(set);
        *ret_removed = TAKE_PTR(removed);
        return 0;
}

void dns_names_prune(DnsNames *t, uint64_t version) {
        Name *n, *next;

        if (t->n_empty == 0) /* asked often */
                return;
        HASH_ITER(hh, t->names, n, next)
                if (n->n == 0 && n->version <= version)
                        name_free(t, n);
}
