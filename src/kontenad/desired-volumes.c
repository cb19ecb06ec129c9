/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "desired-volumes.h"

#include <uthash.h>

#include "json-util.h"
#include "string-util.h"
#include "volume.h"

struct SentVolume {
        char *name;
        bool removing, present;
        UT_hash_handle hh;
};

static void forget(SentVolume **sent, SentVolume *v) {
        HASH_DEL(*sent, v);
        free(v->name);
        free(v);
}

SentVolume *sent_volumes_free(SentVolume *sent) {
        SentVolume *v, *next;

        HASH_ITER(hh, sent, v, next)
                forget(&sent, v);
        return NULL;
}

/* Returns 1 when the node was not told of it before. */
static int get_sent(SentVolume **sent, const char *name, SentVolume **ret) {
        SentVolume *v = NULL;

        HASH_FIND_STR(*sent, name, v);
        if (v) {
                *ret = v;
                return 0;
        }
        v = new0(SentVolume, 1);
        if (!v)
                return -ENOMEM;
        v->name = strdup(name);
        if (v->name)
                HASH_ADD_KEYPTR(hh, *sent, v->name, strlen(v->name), v);
        if (!v->hh.tbl) {
                free(v->name);
                free(v);
                return -ENOMEM;
        }

        *ret = v;
        return 1;
}

static int compare_one(Store *s, const VolumeInstanceRow *row, SentVolume **sent, json_object *set) {
        json_object *o;
        SentVolume *v;
        int r, fresh;

        fresh = r = get_sent(sent, row->name, &v);
        if (r < 0)
                return r;
        v->present = true;
        if (!fresh && v->removing == row->removing)
                return 0; /* nothing else about a volume changes */
        r = volume_desired(s, row, &o);
        if (r < 0)
                return r;
        v->removing = row->removing;
        return json_add(set, row->name, o);
}

static int add_part(json_object **parent, json_object *value) {
        if (!*parent)
                *parent = json_object_new_object();
        return *parent ? json_add(*parent, "volumes", json_object_get(value)) : -ENOMEM;
}

int desired_volumes_compare(Store *s, const char *node_id, SentVolume **sent, json_object **ret_set,
                json_object **ret_removed) {
        _cleanup_json_ json_object *set = json_object_new_object(), *removed = json_object_new_array();
        _cleanup_(volume_instance_row_list_done) VolumeInstanceRowList rows = {};
        SentVolume *v, *next;
        int r;

        assert(s);
        assert(node_id);
        assert(sent);

        if (!set || !removed)
                return -ENOMEM;
        r = store_list_volume_instances_of_node(s, node_id, &rows);
        if (r < 0)
                return r;

        for (v = *sent; v; v = v->hh.next)
                v->present = false;
        FOREACH_ARRAY(row, rows.rows, rows.n) {
                r = compare_one(s, *row, sent, set);
                if (r < 0)
                        return r;
        }
        HASH_ITER(hh, *sent, v, next) {
                if (v->present)
                        continue;
                r = json_append_string(removed, v->name);
                if (r < 0)
                        return r;
                forget(sent, v);
        }

        r = json_object_object_length(set) > 0 ? add_part(ret_set, set) : 0;
        if (r >= 0 && json_object_array_length(removed) > 0)
                r = add_part(ret_removed, removed);
        return r;
}
