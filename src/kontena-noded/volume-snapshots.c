/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volume-snapshots.h"

#include "json-util.h"
#include "volume-directory.h"

int volume_snapshots_describe(const char *directory, const char *volume, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object(), *array = json_object_new_array();
        _cleanup_(volume_snapshot_list_done) VolumeSnapshotList l = {};
        int r;

        if (!o || !array)
                return -ENOMEM;
        r = volume_list_snapshots(directory, volume, &l);
        if (r < 0 && r != -ENOENT)
                return r;
        FOREACH_ARRAY(s, l.snapshots, l.n) {
                _cleanup_json_ json_object *row = json_object_new_object();

                if (!row)
                        return -ENOMEM;
                r = json_add_string(row, "name", s->name);
                if (r >= 0)
                        r = json_add_u64(row, "created_at", s->created_at);
                if (r >= 0)
                        r = json_add_u64(row, "size", s->size);
                if (r >= 0)
                        r = json_append(array, TAKE_PTR(row));
                if (r < 0)
                        return r;
        }
        r = json_add(o, "snapshots", TAKE_PTR(array));
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}
