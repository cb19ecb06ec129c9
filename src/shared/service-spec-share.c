/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service-spec-internal.h"

/* What the reference lets two containers have in common, and this does not: an instance here is replaced by one that stands beside it,
 * with another root, volumes of its own and another address. Whoever had the first one's would be left with what nobody uses
 * any more, until it is replaced as well. The sentences say what does the same and lasts. */

static int refuse_volumes_from(json_object *o, KError *reterr) {
        _cleanup_strv_free_ char **sources = NULL;
        int r;

        r = spec_find_entries(o, "volumes_from", &sources, reterr);
        if (r < 0)
                return r;
        if (strv_length(sources) == 0)
                return 0;
        return kerror_set(reterr, K_NOT_SUPPORTED,
                        "'volumes_from' is not supported: the volumes of '%.64s' come and go with it. Name "
                        "one "
                        "volume of the grid, of scope stack, in both services, and keep them together by "
                        "'affinity' container==%.64s.",
                        sources[0], sources[0]);
}

int spec_refuse_shared(json_object *o, const char *net, KError *reterr) {
        if (!isempty(net) && startswith(net, "container:"))
                return kerror_set(reterr, K_NOT_SUPPORTED,
                                "'net' %.64s is not supported: that container's address changes when it is "
                                "replaced. Services reach each other by name on the overlay, from every "
                                "node.",
                                net);
        return refuse_volumes_from(o, reterr);
}
