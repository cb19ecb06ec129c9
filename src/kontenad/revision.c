/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "revision.h"

#include <inttypes.h>

#include "file-util.h"
#include "string-util.h"

int revision_add(Store *s, ServiceRow *service, const char *author) {
        _cleanup_free_ char *id = NULL;
        int r;

        assert(s);
        assert(service);

        service->revision_last = MAX(service->revision_last, service->revision) + 1;
        service->revision = service->revision_last;
        service->updated_at = now_realtime();
        r = store_put_service(s, service);
        if (r < 0)
                return r;

        id = strprintf("%s/%" PRIu64, service->id, service->revision);
        if (!id)
                return -ENOMEM;
        return store_put_revision(s, &(RevisionRow){
                                                     .id = id,
                                                     .grid_id = service->grid_id,
                                                     .service_id = service->id,
                                                     .revision = service->revision,
                                                     .spec = service->spec,
                                                     .author = (char *) author,
                                                     .created_at = service->updated_at,
                                     });
}
