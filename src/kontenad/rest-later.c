/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "rest-internal.h"

/* What the reference has and this master does not: said in a sentence, so that nobody looks for a fault elsewhere. */

static int say(RestCall *c, KError *reterr) {
        return rest_reply_error(c, 501, c->route->summary);
}

#define NO_STACKS       "Stacks as such are not in this master; their services are, by the name of the stack."
#define NO_CERTIFICATES "Certificates are not in this master."
#define NO_ETCD         "There is no etcd in this master."

#define LATER(m, p, s)                                                                                      \
        { .method = (m), .pattern = (p), .summary = (s), .handler = say, .status = 501 }
#define LATER_RAW(m, p, s)                                                                                  \
        {                                                                                                   \
                .method = (m), .pattern = (p), .summary = (s), .handler = say, .status = 501,               \
                .flags = REST_RAW_PATH                                                                      \
        }

const RestRoute later_routes[] = {
        LATER("GET", "/v1/grids/:grid/stacks", NO_STACKS),
        LATER("POST", "/v1/grids/:grid/stacks", NO_STACKS),
        LATER("GET", "/v1/stacks/:grid/:stack", NO_STACKS),
        LATER("PUT", "/v1/stacks/:grid/:stack", NO_STACKS),
        LATER("PATCH", "/v1/stacks/:grid/:stack", NO_STACKS),
        LATER("DELETE", "/v1/stacks/:grid/:stack", NO_STACKS),
        LATER("POST", "/v1/stacks/:grid/:stack/deploy", NO_STACKS),
        LATER("POST", "/v1/stacks/:grid/:stack/stop", NO_STACKS),
        LATER("POST", "/v1/stacks/:grid/:stack/restart", NO_STACKS),
        LATER("GET", "/v1/stacks/:grid/:stack/deploys/:deploy", NO_STACKS),
        LATER("GET", "/v1/grids/:grid/certificates", NO_CERTIFICATES),
        LATER("POST", "/v1/grids/:grid/certificates", NO_CERTIFICATES),
        LATER("GET", "/v1/certificates/:grid/:subject", NO_CERTIFICATES),
        LATER("PUT", "/v1/certificates/:grid/:subject", NO_CERTIFICATES),
        LATER("DELETE", "/v1/certificates/:grid/:subject", NO_CERTIFICATES),
        LATER("GET", "/v1/certificates/:grid/:subject/export", NO_CERTIFICATES),
        LATER("POST", "/v1/certificates/:grid/register", NO_CERTIFICATES),
        LATER("POST", "/v1/certificates/:grid/authorize", NO_CERTIFICATES),
        LATER("POST", "/v1/certificates/:grid/certificate", NO_CERTIFICATES),
        LATER("GET", "/v1/grids/:grid/domain_authorizations", NO_CERTIFICATES),
        LATER("POST", "/v1/grids/:grid/domain_authorizations", NO_CERTIFICATES),
        LATER("GET", "/v1/domain_authorizations/:grid/:domain", NO_CERTIFICATES),
        LATER("DELETE", "/v1/domain_authorizations/:grid/:domain", NO_CERTIFICATES),
        LATER_RAW("GET", "/v1/etcd/:grid/*key", NO_ETCD),
        LATER_RAW("POST", "/v1/etcd/:grid/*key", NO_ETCD),
        LATER_RAW("PUT", "/v1/etcd/:grid/*key", NO_ETCD),
        LATER_RAW("DELETE", "/v1/etcd/:grid/*key", NO_ETCD),
};
const size_t n_later_routes = ELEMENTSOF(later_routes);
