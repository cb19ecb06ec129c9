/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "file-util.h"
#include "image-layout.h"
#include "image-reference.h"
#include "image-store-internal.h"
#include "json-util.h"
#include "string-util.h"

#define STEP_USEC (10U * USEC_PER_MSEC)

/* A set of names; hex digits of layers or digests. */
typedef struct Name {
        char name[65];
        UT_hash_handle hh;
} Name;

static void names_free(Name **names) {
        Name *n, *next;

        HASH_ITER(hh, *names, n, next) {
                HASH_DEL(*names, n);
                free(n);
        }
}

static bool names_contain(Name *names, const char *name) {
        Name *n;

        HASH_FIND_STR(names, name, n);
        return n;
}

static int names_add(Name **names, const char *name) {
        Name *n;

        if (names_contain(*names, name) || strlen(name) >= sizeof(n->name))
                return 0;
        n = new0(Name, 1);
        if (!n)
                return -ENOMEM;
        memcpy(n->name, name, strlen(name));
        HASH_ADD_STR(*names, name, n);
        if (!n->hh.tbl) {
                free(n);
                return -ENOMEM;
        }
        return 0;
}

static int names_of(Name **names, char *const *digests) {
        STRV_FOREACH(d, digests) {
                const char *hex = digest_hex(*d);
                int r = hex ? names_add(names, hex) : 0;

                if (r < 0)
                        return r;
        }
        return 0;
}

static void unused_clear(ImageStore *s, bool all) {
        Unused *u, *next;

        HASH_ITER(hh, s->unused, u, next) {
                if (!all && u->seen)
                        continue;
                HASH_DEL(s->unused, u);
                free(u);
        }
}

void image_store_forget_unused(ImageStore *s) {
        unused_clear(s, /* all= */ true);
}

typedef struct Collection {
        Name *in_use;
        Name *wanted_gone; /* these and no others, whatever their age; NULL: by age */
        uint64_t now, min_age;
        Name *kept, *layers; /* images that stay, and what they need */
        Name *dropped_layers;
        int n_dropped;
} Collection;

static void collection_done(Collection *c) {
        names_free(&c->in_use);
        names_free(&c->wanted_gone);
        names_free(&c->kept);
        names_free(&c->layers);
        names_free(&c->dropped_layers);
}

/* How long has this been unused? A first sight begins the time. */
static int unused_for(ImageStore *s, const char *name, uint64_t now, uint64_t *ret) {
        Unused *u;

        HASH_FIND_STR(s->unused, name, u);
        if (!u) {
                u = new0(Unused, 1);
                if (!u)
                        return -ENOMEM;
                memcpy(u->name, name, MIN(strlen(name), sizeof(u->name) - 1));
                u->since = now;
                HASH_ADD_STR(s->unused, name, u);
                if (!u->hh.tbl) {
                        free(u);
                        return -ENOMEM;
                }
        }
        u->seen = true;

        *ret = now > u->since ? now - u->since : 0;
        return 0;
}

static void forget_unused(ImageStore *s, const char *name) {
        Unused *u = NULL;

        HASH_FIND_STR(s->unused, name, u);
        if (!u)
                return;
        HASH_DEL(s->unused, u);
        free(u);
}

/* By its own digest, or by that of the index from which it was chosen. */
static bool is_in_use(const Collection *c, const char *hex, json_object *record) {
        const char *index = NULL;

        if (names_contain(c->in_use, hex))
                return true;
        return record && json_find_string(record, "index_digest", &index, NULL) > 0 && digest_hex(index) &&
               names_contain(c->in_use, digest_hex(index));
}

static int collect_image(ImageStore *s, const char *hex, void *userdata) {
        _cleanup_strv_free_ char **layers = NULL;
        _cleanup_json_ json_object *o = NULL;
        _cleanup_free_ char *file = NULL, *path = NULL;
        Collection *c = userdata;
        bool drop = false;
        int r;

        file = strjoin(hex, ".json");
        path = strjoin(IMAGE_RECORDS_DIR "/", hex, ".json");
        if (!file || !path)
                return -ENOMEM;

        r = image_store_read_record(s, IMAGE_RECORDS_DIR, file, &o);
        if (r < 0 && r != -EBADMSG)
                return r;
        if (r > 0 && json_find_strv(o, "layers", &layers, NULL) == -ENOMEM)
                return -ENOMEM;

        if (c->wanted_gone)
                drop = names_contain(c->wanted_gone, hex);
        else if (is_in_use(c, hex, o))
                (void) utimensat(s->fd, path, NULL, AT_SYMLINK_NOFOLLOW); /* the last use, for who asks */
        else {
                uint64_t age;

                r = unused_for(s, hex, c->now, &age);
                if (r < 0)
                        return r;
                drop = age >= c->min_age;
        }

        if (drop) {
                if (unlinkat(s->fd, path, 0) < 0 && errno != ENOENT)
                        return -errno;
                forget_unused(s, hex); /* if it comes back, it is new */
                c->n_dropped++;
        } else {
                r = names_add(&c->kept, hex);
                if (r < 0)
                        return r;
        }
        STRV_FOREACH(l, layers) {
                r = names_add(drop ? &c->dropped_layers : &c->layers, *l);
                if (r < 0)
                        return r;
        }

        return 0;
}

static int collect_ref(ImageStore *s, const char *hex, void *userdata) {
        _cleanup_json_ json_object *o = NULL;
        _cleanup_free_ char *file = NULL, *path = NULL;
        Collection *c = userdata;
        const char *digest;
        int r;

        file = strjoin(hex, ".json");
        path = strjoin(IMAGE_REFS_DIR "/", hex, ".json");
        if (!file || !path)
                return -ENOMEM;
        r = image_store_read_record(s, IMAGE_REFS_DIR, file, &o);
        if (r < 0 && r != -EBADMSG)
                return r;
        if (r > 0 && json_get_string(o, "digest", &digest, NULL) >= 0 && digest_hex(digest) &&
                        names_contain(c->kept, digest_hex(digest)))
                return 0;

        return unlinkat(s->fd, path, 0) < 0 && errno != ENOENT ? -errno : 0;
}

static int collect_layer(ImageStore *s, const char *hex, void *userdata) {
        _cleanup_free_ char *path = NULL;
        Collection *c = userdata;
        uint64_t age;
        int r;

        if (names_contain(c->layers, hex))
                return 0;
        if (!names_contain(c->dropped_layers, hex)) {
                if (c->wanted_gone)
                        return 0;
                /* A layer of a pull that failed half-way waits for the next attempt as an image would. */
                r = unused_for(s, hex, c->now, &age);
                if (r < 0)
                        return r;
                if (age < c->min_age)
                        return 0;
        }

        path = strjoin(IMAGE_LAYERS_DIR "/", hex);
        if (!path)
                return -ENOMEM;
        return image_store_discard(s, s->fd, path);
}

/* With the lock. */
static int collect(ImageStore *s, Collection *c) {
        Unused *u, *next;
        int r;

        if (s->staging_stale) {
                r = image_store_clean_staging(s);
                if (r < 0)
                        return r;
                s->staging_stale = false;
        }

        HASH_ITER(hh, s->unused, u, next)
                u->seen = false;
        r = image_store_for_each(s, IMAGE_RECORDS_DIR, ".json", collect_image, c);
        /* Names go before the layers: what is found by name is whole after a power loss as well. */
        if (r >= 0)
                r = image_store_for_each(s, IMAGE_REFS_DIR, ".json", collect_ref, c);
        if (r >= 0)
                r = image_store_for_each(s, IMAGE_LAYERS_DIR, "", collect_layer, c);
        if (r >= 0 && !c->wanted_gone)
                unused_clear(s, /* all= */ false);
        return r;
}

static int collect_locked(ImageStore *s, Collection *c) {
        int r;

        r = image_store_lock(s);
        if (r < 0)
                return r;
        if (r == 0)
                return -EAGAIN;
        r = collect(s, c);
        image_store_unlock(s);
        return r < 0 ? r : c->n_dropped;
}

int image_store_collect(ImageStore *s, char *const *in_use, uint64_t now, uint64_t min_age_usec) {
        _cleanup_(collection_done) Collection c = { .now = now, .min_age = min_age_usec };
        int r;

        assert(s);

        r = names_of(&c.in_use, in_use);
        return r < 0 ? r : collect_locked(s, &c);
}

int image_store_remove(ImageStore *s, char *const *digests) {
        _cleanup_(collection_done) Collection c = {};
        int r;

        assert(s);

        r = names_of(&c.wanted_gone, digests);
        return r < 0 || !c.wanted_gone ? r : collect_locked(s, &c);
}

/* Removes what is below fd until the time is over (-EAGAIN). The depth is bounded by what kontena-pull unpacks. */
static int remove_some(int fd, dev_t device, uint64_t deadline) {
        _cleanup_(closedirp) DIR *d = NULL;
        struct dirent *de;
        int r;

        d = fdopendir(fd);
        if (!d) {
                safe_close(fd);
                return -errno;
        }

        while ((errno = 0, de = readdir(d))) {
                struct stat st;
                int child;

                if (STR_IN_SET(de->d_name, ".", ".."))
                        continue;
                if (now_monotonic() >= deadline)
                        return -EAGAIN;
                if (unlinkat(fd, de->d_name, 0) >= 0 || errno == ENOENT)
                        continue;
                if (errno != EISDIR && errno != EPERM)
                        return -errno;

                child = openat(fd, de->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (child < 0)
                        return -errno;
                if (fstat(child, &st) < 0 || st.st_dev != device) {
                        safe_close(child);
                        return -EXDEV;
                }
                r = remove_some(child, device, deadline);
                if (r < 0)
                        return r;
                if (unlinkat(fd, de->d_name, AT_REMOVEDIR) < 0 && errno != ENOENT)
                        return -errno;
        }

        return -errno;
}

int image_store_step(ImageStore *s) {
        _cleanup_(closedirp) DIR *d = NULL;
        uint64_t deadline = now_monotonic() + STEP_USEC;
        struct dirent *de;
        struct stat st;
        int fd, r;

        assert(s);

        fd = openat(s->fd, IMAGE_STAGING_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        d = fdopendir(fd);
        if (!d || fstat(fd, &st) < 0) {
                r = -errno;
                if (!d)
                        safe_close(fd);
                return r;
        }

        while ((errno = 0, de = readdir(d))) {
                int child;

                if (!startswith(de->d_name, IMAGE_TRASH_PREFIX))
                        continue;
                child = openat(fd, de->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (child < 0) {
                        if (unlinkat(fd, de->d_name, 0) < 0 && errno != ENOENT)
                                return -errno;
                        continue;
                }
                r = remove_some(child, st.st_dev, deadline);
                if (r == -EAGAIN)
                        return IMAGE_STORE_AGAIN;
                if (r < 0)
                        return r;
                if (unlinkat(fd, de->d_name, AT_REMOVEDIR) < 0 && errno != ENOENT)
                        return -errno;
                if (now_monotonic() >= deadline)
                        return IMAGE_STORE_AGAIN;
        }

        return errno > 0 ? -errno : IMAGE_STORE_DONE;
}
