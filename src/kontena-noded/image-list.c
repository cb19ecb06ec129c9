/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "image-list.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "file-util.h"
#include "image-layout.h"
#include "image-reference.h"
#include "image-store-internal.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "string-util.h"

struct ImageNames {
        char *name;
        unsigned count;
        UT_hash_handle hh;
};

static void image_info_done(ImageInfo *i) {
        free(i->digest);
        free(i->index_digest);
        strv_free(i->references);
        *i = (ImageInfo){};
}

void image_info_list_done(ImageInfoList *l) {
        FOREACH_ARRAY(i, l->infos, l->n)
                image_info_done(i);
        free(l->infos);
        *l = (ImageInfoList){};
}

static int take_digest(json_object *o, const char *key, char **ret) {
        const char *s = NULL;

        if (json_find_string(o, key, &s, NULL) <= 0 || !digest_hex(s))
                return 0;
        *ret = strdup(s);
        return *ret ? 1 : -ENOMEM;
}

static int add_image(ImageStore *s, const char *hex, void *userdata) {
        _cleanup_(image_info_done) ImageInfo i = {};
        _cleanup_free_ char *file = NULL, *path = NULL;
        _cleanup_json_ json_object *o = NULL;
        ImageInfoList *l = userdata;
        ImageInfo *larger;
        struct stat st;
        int r;

        if (l->n >= IMAGES_LISTED_MAX)
                return 0;
        file = strjoin(hex, ".json");
        path = strjoin(IMAGE_RECORDS_DIR "/", hex, ".json");
        if (!file || !path)
                return -ENOMEM;
        r = image_store_read_record(s, IMAGE_RECORDS_DIR, file, &o);
        if (r == -EBADMSG)
                return 0;
        if (r <= 0)
                return r;
        r = take_digest(o, "digest", &i.digest);
        if (r > 0 && !streq(digest_hex(i.digest), hex))
                r = 0;
        if (r <= 0)
                return r;
        r = take_digest(o, "index_digest", &i.index_digest);
        if (r < 0)
                return r;
        (void) json_find_u64(o, "size", &i.size, NULL);
        if (fstatat(s->fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? 0 : -errno;
        i.used_at = (uint64_t) MAX(st.st_mtim.tv_sec, (time_t) 0) * USEC_PER_SEC +
                    (uint64_t) st.st_mtim.tv_nsec / 1000U;

        larger = reallocarray(l->infos, l->n + 1, sizeof(ImageInfo));
        if (!larger)
                return -ENOMEM;
        l->infos = larger;
        l->infos[l->n++] = TAKE_GENERIC(i, (ImageInfo){});
        return 0;
}

static int by_digest(const void *a, const void *b) {
        return strcmp(((const ImageInfo *) a)->digest, ((const ImageInfo *) b)->digest);
}

static int by_text(const void *a, const void *b) {
        return strcmp(*(char *const *) a, *(char *const *) b);
}

static int add_reference(ImageStore *s, const char *hex, void *userdata) {
        _cleanup_free_ char *file = strjoin(hex, ".json");
        const char *digest = NULL, *reference = NULL;
        _cleanup_json_ json_object *o = NULL;
        ImageInfoList *l = userdata;
        ImageInfo key, *found;
        int r;

        if (!file)
                return -ENOMEM;
        r = image_store_read_record(s, IMAGE_REFS_DIR, file, &o);
        if (r == -EBADMSG)
                return 0;
        if (r <= 0)
                return r;
        if (json_get_string(o, "digest", &digest, NULL) < 0 ||
                        json_get_string(o, "reference", &reference, NULL) < 0)
                return 0;
        key = (ImageInfo){ .digest = (char *) digest };
        found = l->n > 0 ? bsearch(&key, l->infos, l->n, sizeof(ImageInfo), by_digest) : NULL;
        return found ? strv_extend(&found->references, reference) : 0;
}

/* 64 hex digits each */
typedef struct NameList {
        char (*names)[65];
        size_t n, n_allocated, n_read;
} NameList;

struct ImageLister {
        ImageStore *store;
        NameList records, refs;
        ImageInfoList list;
        bool sorted;
};

ImageLister *image_lister_free(ImageLister *l) {
        if (!l)
                return NULL;
        free(l->records.names);
        free(l->refs.names);
        image_info_list_done(&l->list);
        return mfree(l);
}

static int take_name(ImageStore *s, const char *hex, void *userdata) {
        NameList *l = userdata;

        if (l->n >= l->n_allocated) {
                size_t n = MAX(l->n_allocated * 2, (size_t) 64);
                void *larger = reallocarray(l->names, n, sizeof(*l->names));

                if (!larger)
                        return -ENOMEM;
                l->names = larger;
                l->n_allocated = n;
        }
        memcpy(l->names[l->n++], hex, sizeof(*l->names));
        return 0;
}

int image_lister_new(ImageStore *s, ImageLister **ret) {
        _cleanup_(image_lister_freep) ImageLister *l = NULL;
        int r;

        assert(s);
        assert(ret);

        l = new0(ImageLister, 1);
        if (!l)
                return -ENOMEM;
        l->store = s;
        r = image_store_for_each(s, IMAGE_RECORDS_DIR, ".json", take_name, &l->records);
        if (r >= 0)
                r = image_store_for_each(s, IMAGE_REFS_DIR, ".json", take_name, &l->refs);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(l);
        return 0;
}

static int read_some(ImageLister *l, NameList *names, image_store_name_t f, uint64_t deadline) {
        while (names->n_read < names->n) {
                int r = f(l->store, names->names[names->n_read++], &l->list);

                if (r < 0)
                        return r;
                if (now_monotonic() >= deadline)
                        return 1;
        }
        return 0;
}

int image_lister_step(ImageLister *l, uint64_t deadline, ImageInfoList *ret) {
        int r;

        assert(l);
        assert(ret);

        r = read_some(l, &l->records, add_image, deadline);
        if (r != 0)
                return r;
        if (!l->sorted && l->list.n > 0)
                qsort(l->list.infos, l->list.n, sizeof(ImageInfo), by_digest);
        l->sorted = true;
        r = read_some(l, &l->refs, add_reference, deadline);
        if (r != 0)
                return r;
        FOREACH_ARRAY(i, l->list.infos, l->list.n)
                if (strv_length(i->references) > 1)
                        qsort(i->references, strv_length(i->references), sizeof(char *), by_text);

        *ret = TAKE_GENERIC(l->list, (ImageInfoList){});
        return 0;
}

int image_store_list(ImageStore *s, ImageInfoList *ret) {
        _cleanup_(image_lister_freep) ImageLister *l = NULL;
        int r;

        r = image_lister_new(s, &l);
        return r < 0 ? r : image_lister_step(l, USEC_INFINITY, ret);
}

ImageNames *image_names_free(ImageNames *names) {
        ImageNames *n, *next;

        HASH_ITER(hh, names, n, next) {
                HASH_DEL(names, n);
                free(n->name);
                free(n);
        }
        return NULL;
}

int image_names_add(ImageNames **names, const char *name) {
        _cleanup_image_reference_ ImageReference ref = {};
        _cleanup_free_ char *normalized = NULL;
        ImageNames *n = NULL;
        int r;

        if (digest_hex(name))
                normalized = strdup(name);
        else {
                r = image_reference_parse(name, &ref, NULL);
                if (r == -EINVAL)
                        return 0;
                if (r < 0)
                        return r;
                /* By its bytes an image is found whatever name it was pulled by. */
                normalized = ref.digest ? strdup(ref.digest) : image_reference_normalized(&ref);
        }
        if (!normalized)
                return -ENOMEM;
        HASH_FIND_STR(*names, normalized, n);
        if (n) {
                n->count++;
                return 0;
        }

        n = new0(ImageNames, 1);
        if (!n)
                return -ENOMEM;
        HASH_ADD_KEYPTR(hh, *names, normalized, strlen(normalized), n);
        if (!n->hh.tbl) {
                free(n);
                return -ENOMEM;
        }
        n->name = TAKE_PTR(normalized);
        n->count = 1;
        return 0;
}

unsigned image_names_count(ImageNames *names, const char *digest) {
        ImageNames *n = NULL;

        HASH_FIND_STR(names, digest, n);
        return n ? n->count : 0;
}

static bool contains(ImageNames *names, const char *name) {
        ImageNames *n = NULL;

        if (name)
                HASH_FIND_STR(names, name, n);
        return n;
}

bool image_names_match(ImageNames *names, const ImageInfo *i) {
        if (contains(names, i->digest) || contains(names, i->index_digest))
                return true;
        STRV_FOREACH(r, i->references)
                if (contains(names, *r))
                        return true;
        return false;
}
