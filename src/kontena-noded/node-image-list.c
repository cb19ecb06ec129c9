/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <utlist.h>

#include "file-util.h"
#include "image-list.h"
#include "json-util.h"
#include "log.h"
#include "noded-internal.h"

/* "image.list" and "image.prune": the store is read in portions, and what is used counts as of the end. */

#define PORTION_USEC (10 * USEC_PER_MSEC)
#define LISTINGS_MAX 8U

typedef int (*perform_t)(
                Manager *m, json_object *params, const ImageInfoList *l, json_object *rows, KError *reterr);

struct ImageListing {
        Manager *manager;
        uint64_t request;
        json_object *params;
        perform_t perform;
        ImageLister *lister;
        sd_event_source *work;
        ImageListing *prev, *next;
};

/* How many instances stand on each, or are about to. */
static int count_instances(Manager *m, ImageNames **ret) {
        InstanceEntry *e, *next;
        int r = 0;

        HASH_ITER(hh, m->instances, e, next) {
                const char *now = instance_image_digest(e->instance),
                           *then = instance_next_image_digest(e->instance);

                if (!isempty(now))
                        r = image_names_add(ret, now);
                if (r >= 0 && !isempty(then) && !streq(now, then))
                        r = image_names_add(ret, then);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* What the instances that are wanted here will look for, also those which nothing was done about yet. */
static int add_wanted(Manager *m, ImageNames **names) {
        json_object *instances = desired_section(m->desired, "instances");
        int r;

        if (!instances)
                return 0;
        json_object_object_foreach(instances, id, instance) {
                const char *digest = NULL, *image = NULL, *desired = NULL;
                json_object *spec = NULL;

                (void) id;
                (void) json_find_string(instance, "desired", &desired, NULL);
                (void) json_find_string(instance, "digest", &digest, NULL);
                if (json_find_object(instance, "spec", &spec, NULL) > 0)
                        (void) json_find_string(spec, "image", &image, NULL);
                if (streq_ptr(desired, "terminated") || (!digest && !image))
                        continue;
                r = image_names_add(names, digest ?: image);
                if (r < 0)
                        return r;
        }

        return 0;
}

static int add_kept(json_object *params, ImageNames **names, KError *reterr) {
        json_object *keep = NULL;
        int r;

        r = json_find_array(params, "keep", &keep, reterr);
        FOREACH_JSON_ARRAY(name, keep) {
                if (!json_object_is_type(name, json_type_string))
                        return kerror_set(reterr, K_INVALID_ARGUMENT, "'keep' must be a list of images.");
                r = image_names_add(names, json_object_get_string(name));
                if (r < 0)
                        return r;
        }
        return MIN(r, 0);
}

static int add_row(json_object *rows, const ImageInfo *i, unsigned instances) {
        _cleanup_json_ json_object *o = json_object_new_object();
        int r;

        if (!o)
                return -ENOMEM;
        r = json_add_string(o, "digest", i->digest);
        if (r >= 0)
                r = json_add_string(o, "index_digest", i->index_digest);
        if (r >= 0)
                r = json_add_strv(o, "references", i->references);
        if (r >= 0)
                r = json_add_u64(o, "size", i->size);
        if (r >= 0)
                r = json_add_u64(o, "instances", instances);
        if (r >= 0)
                r = json_add_u64(o, "used_at", instances > 0 ? now_realtime() : i->used_at);
        return r < 0 ? r : json_append(rows, TAKE_PTR(o));
}

static int list(Manager *m, json_object *params, const ImageInfoList *l, json_object *rows, KError *reterr) {
        _cleanup_(image_names_freep) ImageNames *used = NULL;
        int r;

        r = count_instances(m, &used);
        FOREACH_ARRAY(i, l->infos, l->n) {
                if (r < 0)
                        break;
                r = add_row(rows, i, image_names_count(used, i->digest));
        }
        return r;
}

/* Not while something is fetched: who waits for it may not have taken it yet, and layers are shared. */
static int remove_images(Manager *m, char *const *digests, KError *reterr) {
        int r;

        r = pull_manager_is_busy(m->pulls) ? -EAGAIN : image_store_remove(m->images, digests);
        if (r == -EAGAIN)
                return kerror_set(
                                reterr, K_CONFLICT, "An image is being pulled; try again when it is here.");
        if (r <= 0)
                return r;

        log_info("Removed %i image%s that nothing uses, as the master asked.", r, r == 1 ? "" : "s");
        r = sd_event_source_set_time_relative(m->image_collect, 0); /* the bytes go bit by bit */
        if (r >= 0)
                r = sd_event_source_set_enabled(m->image_collect, SD_EVENT_ONESHOT);
        if (r < 0)
                log_warning_errno(r, "The space of removed images comes free later: %m");
        return 0;
}

static int prune(
                Manager *m, json_object *params, const ImageInfoList *l, json_object *rows, KError *reterr) {
        _cleanup_(image_names_freep) ImageNames *names = NULL, *used = NULL;
        _cleanup_free_ char **gone = NULL; /* borrowed strings */
        size_t n = 0;
        bool dry_run = false;
        int r;

        r = json_find_bool(params, "dry_run", &dry_run, reterr);
        if (r >= 0)
                r = add_kept(params, &names, reterr);
        if (r >= 0)
                r = add_wanted(m, &names);
        if (r >= 0)
                r = count_instances(m, &used);
        if (r < 0)
                return r;
        gone = new0(char *, l->n + 1);
        if (!gone)
                return -ENOMEM;
        FOREACH_ARRAY(i, l->infos, l->n) {
                if (image_names_count(used, i->digest) > 0 || image_names_match(names, i))
                        continue;
                r = add_row(rows, i, 0);
                if (r < 0)
                        return r;
                gone[n++] = i->digest;
        }

        return dry_run ? 0 : remove_images(m, gone, reterr);
}

static ImageListing *listing_free(ImageListing *q) {
        if (!q)
                return NULL;
        if (q->prev)
                DL_DELETE(q->manager->image_listings, q);
        sd_event_source_disable_unref(q->work);
        image_lister_free(q->lister);
        json_object_put(q->params);
        return mfree(q);
}
DEFINE_TRIVIAL_CLEANUP_FUNC(ImageListing *, listing_free);

void manager_forget_image_listings(Manager *m) {
        while (m->image_listings)
                listing_free(m->image_listings);
}

static void answer(Manager *m, uint64_t id, json_object *rows, int error, KError *e) {
        _cleanup_json_ json_object *o = json_object_new_object();
        int r = error;

        if (r >= 0)
                r = o ? json_add(o, "images", json_object_get(rows)) : -ENOMEM;
        if (r < 0)
                (void) kerror_set_errno(e, r, "The images cannot be looked through: %m");
        r = kerror_is_set(e) ? channel_reply_error(m->channel, id, e)
                             : channel_reply(m->channel, id, TAKE_PTR(o));
        if (r < 0)
                log_warning_errno(r, "Cannot answer the master: %m");
}

static int on_listing(sd_event_source *s, void *userdata) {
        _cleanup_json_ json_object *rows = NULL;
        _cleanup_image_info_list_ ImageInfoList l = {};
        _cleanup_kerror_ KError error = KERROR_NULL;
        ImageListing *q = userdata;
        _cleanup_(listing_freep) ImageListing *over = NULL;
        int r;

        r = image_lister_step(q->lister, now_monotonic() + PORTION_USEC, &l);
        if (r > 0)
                return sd_event_source_set_enabled(q->work, SD_EVENT_ONESHOT);
        over = q;
        if (r >= 0) {
                rows = json_object_new_array();
                r = rows ? q->perform(q->manager, q->params, &l, rows, &error) : -ENOMEM;
        }
        DL_DELETE(q->manager->image_listings, q); /* whatever becomes of the connection */
        q->prev = NULL;
        answer(q->manager, q->request, rows, r, &error);
        return 0;
}

static int begin(Manager *m, uint64_t id, json_object *params, perform_t perform, KError *reterr) {
        _cleanup_(listing_freep) ImageListing *q = NULL;
        ImageListing *other;
        unsigned n = 0;
        int r;

        DL_FOREACH(m->image_listings, other)
                n++;
        if (n >= LISTINGS_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED,
                                "The images are looked through %u times already.", n);
        q = new0(ImageListing, 1);
        if (!q)
                return -ENOMEM;
        q->manager = m;
        q->request = id;
        q->params = json_object_get(params);
        q->perform = perform;
        r = image_lister_new(m->images, &q->lister);
        if (r >= 0)
                r = sd_event_add_defer(m->event, &q->work, on_listing, q);
        if (r < 0)
                return r;
        DL_APPEND(m->image_listings, q);
        TAKE_PTR(q);
        return 0;
}

static void ask(Manager *m, uint64_t id, json_object *params, perform_t perform) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        int r;

        if (id == 0)
                return;
        r = begin(m, id, params, perform, &error);
        if (r < 0)
                answer(m, id, NULL, r, &error);
}

void manager_image_list(Manager *m, uint64_t id, json_object *params) {
        ask(m, id, params, list);
}

void manager_image_prune(Manager *m, uint64_t id, json_object *params) {
        ask(m, id, params, prune);
}
