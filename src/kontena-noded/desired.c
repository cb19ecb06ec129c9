/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "desired.h"

#include <stdio.h>
#include <unistd.h>

#include "file-util.h"
#include "instance-want.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "string-util.h"

#define FORMAT_VERSION 1U

struct Desired {
        char *path;
        json_object *document; /* NULL: none yet */
        uint64_t epoch, seq;
        bool dirty;
};

/* Parts of the document that are tables by id; "node" and "grid" are replaced as a whole. */
static const char *const tables[] = { "peers", "names", "instances", "volumes", "preshared", "relays" };

static const char *const later_tables[] = { "volumes", "preshared", "relays" };

int desired_new(const char *path, Desired **ret) {
        _cleanup_(desired_freep) Desired *d = NULL;

        d = new0(Desired, 1);
        if (!d)
                return -ENOMEM;
        d->path = strdup(path);
        if (!d->path)
                return -ENOMEM;

        *ret = TAKE_PTR(d);
        return 0;
}

Desired *desired_free(Desired *d) {
        if (!d)
                return NULL;

        json_object_put(d->document);
        free(d->path);
        free(d);
        return NULL;
}

/* All parts must be there: what is missing from a complete state is removed from the machine. */
static int document_validate(json_object *o, KError *reterr) {
        json_object *part;
        int r;

        if (!json_object_is_type(o, json_type_object))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "The desired state must be an object.");
        r = json_get_object(o, "node", &part, reterr);
        if (r >= 0)
                r = json_get_object(o, "grid", &part, reterr);
        /* Of a master or a daemon before there were any. */
        FOREACH_ARRAY(t, later_tables, ELEMENTSOF(later_tables))
                if (r >= 0 && !json_object_object_get_ex(o, *t, NULL))
                        r = json_add(o, *t, json_object_new_object());
        for (size_t i = 0; i < ELEMENTSOF(tables) && r >= 0; i++)
                r = json_get_object(o, tables[i], &part, reterr);
        if (r < 0)
                return r;

        json_object_object_foreach(json_object_object_get(o, "instances"), id, instance) {
                (void) instance;
                r = instance_id_validate(id, reterr);
                if (r < 0)
                        return r;
        }

        return 0;
}

static int load_file(Desired *d, KError *reterr) {
        _cleanup_json_ json_object *o = NULL;
        _cleanup_free_ char *text = NULL;
        json_object *document;
        uint64_t version, epoch = 0, seq = 0;
        size_t size;
        int r;

        r = read_file(d->path, FRAME_SIZE_MAX, &text, &size);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot read '%s': %m", d->path);

        r = json_parse(text, size, FRAME_SIZE_MAX, &o, reterr);
        if (r >= 0)
                r = json_get_u64(o, "version", &version, reterr);
        if (r >= 0 && version != FORMAT_VERSION)
                r = kerror_set(reterr, K_NOT_SUPPORTED, "It has the format %" PRIu64 ".", version);
        if (r >= 0)
                r = json_find_u64(o, "epoch", &epoch, reterr);
        if (r >= 0)
                r = json_find_u64(o, "seq", &seq, reterr);
        if (r >= 0)
                r = json_get_object(o, "desired", &document, reterr);
        if (r >= 0)
                r = document_validate(document, reterr);
        if (r < 0)
                return -EBADMSG;

        json_object_put(d->document);
        d->document = json_object_get(document);
        d->epoch = epoch;
        d->seq = seq;
        d->dirty = false;
        return 1;
}

int desired_load(Desired *d, KError *reterr) {
        _cleanup_free_ char *aside = NULL;
        int r;

        assert(d);

        r = load_file(d, reterr);
        if (r != -EBADMSG)
                return r;

        aside = strjoin(d->path, ".corrupt");
        if (!aside)
                return -ENOMEM;
        if (rename(d->path, aside) < 0)
                kerror_prefix(reterr, "'%s' is corrupt, and cannot be put aside", d->path);
        else
                kerror_prefix(reterr, "'%s' is corrupt, it is now '%s'", d->path, aside);
        return -EBADMSG;
}

int desired_replace(Desired *d, uint64_t epoch, json_object *desired, KError *reterr) {
        int r;

        assert(d);

        r = document_validate(desired, reterr);
        if (r < 0)
                return r;

        json_object_get(desired);
        json_object_put(d->document);
        d->document = desired;
        d->epoch = epoch;
        d->seq = 0;
        d->dirty = true;
        return 0;
}

static bool is_table(const char *name) {
        for (size_t i = 0; i < ELEMENTSOF(tables); i++)
                if (streq(tables[i], name))
                        return true;
        return false;
}

/* The whole update is checked before any of it is applied. */
static int update_validate(json_object *set, json_object *remove, KError *reterr) {
        int r;

        json_object_object_foreach(set, part, value) {
                if (!is_table(part) && !STR_IN_SET(part, "node", "grid"))
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "The desired state has no part '%.64s'.", part);
                if (!json_object_is_type(value, json_type_object))
                        return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' must be an object.", part);
                if (!streq(part, "instances"))
                        continue;
                json_object_object_foreach(value, id, instance) {
                        (void) instance;
                        r = instance_id_validate(id, reterr);
                        if (r < 0)
                                return r;
                }
        }

        json_object_object_foreach(remove, table, ids) {
                if (!is_table(table))
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "The desired state has no table '%.64s'.", table);
                if (!json_object_is_type(ids, json_type_array))
                        return kerror_set(
                                        reterr, K_INVALID_ARGUMENT, "'%s' to remove must be a list.", table);
                FOREACH_JSON_ARRAY(id, ids)
                        if (!json_object_is_type(id, json_type_string))
                                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                                "'%s' to remove must be a list of ids.", table);
        }

        return 0;
}

static int set_entry(json_object *o, const char *key, json_object *value) {
        if (json_object_object_add(o, key, json_object_get(value)) < 0) {
                json_object_put(value);
                return -ENOMEM;
        }

        return 0;
}

int desired_update(Desired *d, json_object *params, KError *reterr) {
        _cleanup_json_ json_object *nothing = json_object_new_object();
        json_object *set = nothing, *remove = nothing;
        uint64_t epoch, seq;
        int r;

        assert(d);

        if (!nothing)
                return -ENOMEM;
        r = json_get_u64(params, "epoch", &epoch, reterr);
        if (r >= 0)
                r = json_get_u64(params, "seq", &seq, reterr);
        if (r >= 0)
                r = json_find_object(params, "set", &set, reterr);
        if (r >= 0)
                r = json_find_object(params, "remove", &remove, reterr);
        if (r < 0)
                return r;

        if (!d->document || epoch != d->epoch || seq <= d->seq)
                return DESIRED_IGNORED;
        if (seq != d->seq + 1)
                return DESIRED_GAP;

        r = update_validate(set, remove, reterr);
        if (r < 0)
                return r;

        /* Lack of memory in the middle leaves half of it applied: as a gap, that the whole is asked for. */
        d->dirty = true;
        json_object_object_foreach(set, part, value) {
                if (!is_table(part)) {
                        if (set_entry(d->document, part, value) < 0)
                                return DESIRED_GAP;
                        continue;
                }
                json_object_object_foreach(value, id, entry)
                        if (set_entry(json_object_object_get(d->document, part), id, entry) < 0)
                                return DESIRED_GAP;
        }
        json_object_object_foreach(remove, table, ids)
                FOREACH_JSON_ARRAY(id, ids)
                        json_object_object_del(json_object_object_get(d->document, table),
                                        json_object_get_string(id));

        d->seq = seq;
        return DESIRED_APPLIED;
}

int desired_save(Desired *d, KError *reterr) {
        _cleanup_json_ json_object *o = NULL;
        const char *text;
        int r;

        assert(d);

        if (!d->dirty)
                return 0;
        assert(d->document);

        o = json_object_new_object();
        if (!o)
                return -ENOMEM;
        r = json_add_u64(o, "version", FORMAT_VERSION);
        if (r >= 0)
                r = json_add_u64(o, "epoch", d->epoch);
        if (r >= 0)
                r = json_add_u64(o, "seq", d->seq);
        if (r >= 0)
                r = json_add(o, "desired", json_object_get(d->document));
        if (r < 0)
                return r;
        text = json_text(o);
        if (!text)
                return -ENOMEM;

        r = write_file_atomic(d->path, text, strlen(text), 0600);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot write '%s': %m", d->path);

        d->dirty = false;
        return 0;
}

int desired_clear(Desired *d) {
        assert(d);

        json_object_put(TAKE_PTR(d->document));
        d->epoch = d->seq = 0;
        d->dirty = false;
        return unlink(d->path) < 0 && errno != ENOENT ? -errno : 0;
}

json_object *desired_section(Desired *d, const char *name) {
        return d->document ? json_object_object_get(d->document, name) : NULL;
}

bool desired_is_complete(Desired *d) {
        return d->document;
}

uint64_t desired_epoch(Desired *d) {
        return d->epoch;
}

bool desired_is_saved(Desired *d) {
        return d->document && !d->dirty;
}
