/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "request.h"

#include "file-util.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "string-util.h"

static void endpoint_done(Endpoint *e) {
        free(e->host);
        free(e->username);
        erase_and_freep(&e->password);
        free(e->ca_file);
        *e = (Endpoint){};
}

void request_done(Request *r) {
        FOREACH_ARRAY(e, r->endpoints, r->n_endpoints)
                endpoint_done(e);
        free(r->endpoints);
        image_reference_done(&r->reference);
        free(r->store);
        free(r->written);
        free(r->normalized);
        free(r->architecture);
        free(r->variant);
        free(r->http_proxy);
        free(r->https_proxy);
        free(r->no_proxy);
        *r = (Request){};
}

static int find_copy(json_object *o, const char *key, char **ret, KError *reterr) {
        const char *s = NULL;
        int r;

        r = json_find_string(o, key, &s, reterr);
        if (r <= 0 || isempty(s))
                return MIN(r, 0);
        *ret = strdup(s);
        return *ret ? 0 : -ENOMEM;
}

static int endpoint_parse(json_object *o, const char *host, Endpoint *e, KError *reterr) {
        int r;

        e->host = strdup(host);
        if (!e->host)
                return -ENOMEM;
        if ((r = find_copy(o, "username", &e->username, reterr)) < 0 ||
                        (r = find_copy(o, "password", &e->password, reterr)) < 0 ||
                        (r = find_copy(o, "ca_file", &e->ca_file, reterr)) < 0)
                return r;
        r = json_find_bool(o, "insecure", &e->insecure, reterr);
        return MIN(r, 0);
}

static int endpoints_parse(json_object *o, Request *q, KError *reterr) {
        json_object *mirrors = NULL;
        size_t n;
        int r;

        r = json_find_array(o, "mirrors", &mirrors, reterr);
        if (r < 0)
                return r;
        n = mirrors ? json_object_array_length(mirrors) : 0;
        if (n > REGISTRIES_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "More than %u mirrors.", REGISTRIES_MAX);

        q->endpoints = new0(Endpoint, n + 1);
        if (!q->endpoints)
                return -ENOMEM;
        FOREACH_JSON_ARRAY(m, mirrors) {
                const char *host;

                r = json_get_string(m, "registry", &host, reterr);
                if (r >= 0)
                        r = endpoint_parse(m, host, &q->endpoints[q->n_endpoints++], reterr);
                if (r < 0)
                        return r;
        }

        return endpoint_parse(
                        o, image_reference_host(&q->reference), &q->endpoints[q->n_endpoints++], reterr);
}

static int limits_parse(json_object *o, Request *q, KError *reterr) {
        uint64_t stall = 0, attempts = PULL_ATTEMPTS_MAX;
        int r;

        q->size_max = IMAGE_SIZE_MAX;
        q->entries_max = IMAGE_ENTRIES_MAX;
        if ((r = json_find_u64(o, "size_max", &q->size_max, reterr)) < 0 ||
                        (r = json_find_u64(o, "entries_max", &q->entries_max, reterr)) < 0 ||
                        (r = json_find_u64(o, "attempts", &attempts, reterr)) < 0 ||
                        (r = json_find_u64(o, "stall_sec", &stall, reterr)) < 0)
                return r;

        q->size_max = MIN(q->size_max, (uint64_t) IMAGE_SIZE_MAX);
        q->entries_max = MIN(q->entries_max, (uint64_t) IMAGE_ENTRIES_MAX);
        q->attempts = (unsigned) CLAMP(attempts, UINT64_C(1), (uint64_t) PULL_ATTEMPTS_MAX);
        q->stall_usec = MIN(stall, UINT64_C(3600)) * USEC_PER_SEC;
        return 0;
}

static int platform_parse(json_object *o, Request *q, KError *reterr) {
        Platform machine = platform_of_machine();
        int r;

        r = find_copy(o, "architecture", &q->architecture, reterr);
        if (r >= 0)
                r = find_copy(o, "variant", &q->variant, reterr);
        if (r < 0 || q->architecture)
                return r;

        q->architecture = strdup(machine.architecture);
        if (!q->architecture)
                return -ENOMEM;
        r = free_and_strdup(&q->variant, machine.variant);
        return MIN(r, 0);
}

int request_parse(json_object *o, Request *ret, KError *reterr) {
        _cleanup_request_ Request q = {};
        json_object *proxy = NULL;
        const char *reference;
        int r;

        r = find_copy(o, "store", &q.store, reterr);
        if (r < 0)
                return r;
        if (!q.store || q.store[0] != '/')
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'store' must be an absolute path.");

        if ((r = json_get_string(o, "reference", &reference, reterr)) < 0 ||
                        (r = image_reference_parse(reference, &q.reference, reterr)) < 0)
                return r;
        q.written = strdup(reference);
        q.normalized = image_reference_normalized(&q.reference);
        if (!q.written || !q.normalized)
                return -ENOMEM;

        if ((r = endpoints_parse(o, &q, reterr)) < 0 || (r = platform_parse(o, &q, reterr)) < 0 ||
                        (r = limits_parse(o, &q, reterr)) < 0 ||
                        (r = json_find_bool(o, "resolve", &q.resolve, reterr)) < 0 ||
                        (r = json_find_object(o, "proxy", &proxy, reterr)) < 0)
                return r;
        if (proxy && ((r = find_copy(proxy, "http", &q.http_proxy, reterr)) < 0 ||
                                     (r = find_copy(proxy, "https", &q.https_proxy, reterr)) < 0 ||
                                     (r = find_copy(proxy, "no", &q.no_proxy, reterr)) < 0))
                return r;

        *ret = TAKE_GENERIC(q, (Request){});
        return 0;
}
