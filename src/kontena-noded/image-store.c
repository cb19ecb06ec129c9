/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "file-util.h"
#include "image-layout.h"
#include "image-reference.h"
#include "image-store-internal.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "log.h"
#include "string-util.h"

/* A blob that was partly fetched helps who tries again soon. */
#define BLOB_MAX_AGE_SEC 3600

Image *image_ref(Image *i) {
        assert(i && i->n_ref > 0);

        i->n_ref++;
        return i;
}

Image *image_unref(Image *i) {
        if (!i)
                return NULL;

        assert(i->n_ref > 0);
        if (--i->n_ref > 0)
                return NULL;

        free(i->digest);
        free(i->index_digest);
        free(i->reference);
        free(i->architecture);
        strv_free(i->env);
        strv_free(i->entrypoint);
        strv_free(i->cmd);
        free(i->user);
        free(i->working_directory);
        free(i->stop_signal);
        strv_free(i->volumes);
        strv_free(i->exposed_ports);
        strv_free(i->labels);
        strv_free(i->layers);
        free(i);
        return NULL;
}

ImageStore *image_store_free(ImageStore *s) {
        if (!s)
                return NULL;

        image_store_forget_unused(s);
        safe_close(s->staging_fd);
        safe_close(s->lock_fd);
        safe_close(s->fd);
        free(s->path);
        free(s);
        return NULL;
}

const char *image_store_path(const ImageStore *s) {
        return s->path;
}

static bool is_hex64(const char *s, size_t n) {
        return n == 64 && strspn(s, "0123456789abcdef") >= 64;
}

int image_store_for_each(ImageStore *s, const char *directory, const char *suffix, image_store_name_t f,
                void *userdata) {
        _cleanup_(closedirp) DIR *d = NULL;
        struct dirent *de;
        int fd, r;

        fd = openat(s->fd, directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        d = fdopendir(fd);
        if (!d) {
                safe_close(fd);
                return -errno;
        }

        while ((errno = 0, de = readdir(d))) {
                const char *end = endswith(de->d_name, suffix);
                char hex[65] = {};

                if (!end || !is_hex64(de->d_name, (size_t) (end - de->d_name)))
                        continue;
                memcpy(hex, de->d_name, 64);
                r = f(s, hex, userdata);
                if (r < 0)
                        return r;
        }

        return -errno;
}

int image_store_discard(ImageStore *s, int dir_fd, const char *name) {
        _cleanup_free_ char *trash = NULL;

        trash = strprintf(IMAGE_TRASH_PREFIX "%llx-%llu", (unsigned long long) now_realtime(),
                        (unsigned long long) s->n_trash++);
        if (!trash)
                return -ENOMEM;

        return renameat(dir_fd, name, s->staging_fd, trash) < 0 ? -errno : 0;
}

int image_store_clean_staging(ImageStore *s) {
        _cleanup_(closedirp) DIR *d = NULL;
        struct dirent *de;
        time_t now = (time_t) (now_realtime() / USEC_PER_SEC);
        int fd, r;

        fd = openat(s->fd, IMAGE_STAGING_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        d = fdopendir(fd);
        if (!d) {
                safe_close(fd);
                return -errno;
        }

        while ((errno = 0, de = readdir(d))) {
                struct stat st;

                if (STR_IN_SET(de->d_name, ".", "..") || startswith(de->d_name, IMAGE_TRASH_PREFIX))
                        continue;
                if (startswith(de->d_name, IMAGE_BLOB_PREFIX) &&
                                fstatat(fd, de->d_name, &st, AT_SYMLINK_NOFOLLOW) >= 0 &&
                                st.st_mtim.tv_sec + BLOB_MAX_AGE_SEC > now)
                        continue;
                r = image_store_discard(s, fd, de->d_name);
                if (r < 0 && r != -ENOENT)
                        return r;
        }

        return -errno;
}

int image_store_lock(ImageStore *s) {
        if (flock(s->lock_fd, LOCK_EX | LOCK_NB) < 0)
                return errno == EWOULDBLOCK ? 0 : -errno;

        return 1;
}

void image_store_unlock(ImageStore *s) {
        (void) flock(s->lock_fd, LOCK_UN);
}

int image_store_new(const char *path, ImageStore **ret) {
        static const char *const directories[] = { IMAGE_LAYERS_DIR, IMAGE_RECORDS_DIR, IMAGE_REFS_DIR,
                IMAGE_STAGING_DIR };
        _cleanup_(image_store_freep) ImageStore *s = NULL;
        int r;

        assert(path && path[0] == '/');
        assert(ret);

        s = new0(ImageStore, 1);
        if (!s)
                return -ENOMEM;
        s->fd = s->lock_fd = s->staging_fd = -EBADF;
        s->path = strdup(path);
        if (!s->path)
                return -ENOMEM;

        r = mkdir_p(path, 0700);
        if (r < 0)
                return r;
        s->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (s->fd < 0)
                return -errno;
        FOREACH_ARRAY(d, directories, ELEMENTSOF(directories))
                if (mkdirat(s->fd, *d, 0700) < 0 && errno != EEXIST)
                        return -errno;
        s->staging_fd = openat(s->fd, IMAGE_STAGING_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (s->staging_fd < 0)
                return -errno;
        s->lock_fd = openat(s->fd, IMAGE_LOCK_FILE, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (s->lock_fd < 0)
                return -errno;

        r = image_store_lock(s);
        if (r < 0)
                return r;
        s->staging_stale = r == 0;
        if (r > 0) {
                r = image_store_clean_staging(s);
                image_store_unlock(s);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(s);
        return 0;
}

static int copy_string(json_object *o, const char *key, char **ret) {
        const char *s = NULL;
        int r;

        r = json_find_string(o, key, &s, NULL);
        if (r <= 0 || isempty(s))
                return MIN(r, 0);
        *ret = strdup(s);
        return *ret ? 0 : -ENOMEM;
}

/* The record has the lowest layer first, and names only. Returns 0 when one is not there. */
static int image_take_layers(ImageStore *s, Image *i, json_object *o) {
        _cleanup_strv_free_ char **names = NULL;
        size_t n;
        int r;

        r = json_find_strv(o, "layers", &names, NULL);
        if (r < 0)
                return r;
        n = strv_length(names);
        if (n > IMAGE_LAYERS_MAX)
                return -EBADMSG;

        while (n-- > 0) {
                _cleanup_free_ char *below = NULL;
                struct stat st;

                if (!is_hex64(names[n], strlen(names[n])))
                        return -EBADMSG;
                below = strjoin(IMAGE_LAYERS_DIR "/", names[n]);
                if (!below)
                        return -ENOMEM;
                if (fstatat(s->fd, below, &st, AT_SYMLINK_NOFOLLOW) < 0)
                        return errno == ENOENT ? 0 : -errno;
                if (!S_ISDIR(st.st_mode))
                        return -EBADMSG;
                r = strv_extendf(&i->layers, "%s/%s", s->path, below);
                if (r < 0)
                        return r;
        }

        return 1;
}

static int image_take_config(Image *i, json_object *o) {
        const struct {
                const char *key;
                char **p;
        } strings[] = { { "index_digest", &i->index_digest }, { "reference", &i->reference },
                { "architecture", &i->architecture }, { "user", &i->user },
                { "working_directory", &i->working_directory }, { "stop_signal", &i->stop_signal } };
        const struct {
                const char *key;
                char ***p;
        } lists[] = { { "env", &i->env }, { "entrypoint", &i->entrypoint }, { "cmd", &i->cmd },
                { "volumes", &i->volumes }, { "exposed_ports", &i->exposed_ports },
                { "labels", &i->labels } };
        int r;

        FOREACH_ARRAY(f, strings, ELEMENTSOF(strings)) {
                r = copy_string(o, f->key, f->p);
                if (r < 0)
                        return r;
        }
        FOREACH_ARRAY(f, lists, ELEMENTSOF(lists)) {
                r = json_find_strv(o, f->key, f->p, NULL);
                if (r < 0)
                        return r;
        }

        if (i->working_directory && i->working_directory[0] != '/')
                return -EBADMSG;
        STRV_FOREACH(v, i->volumes)
                if ((*v)[0] != '/')
                        return -EBADMSG;

        r = json_find_u64(o, "size", &i->size, NULL);
        return MIN(r, 0);
}

int image_store_read_record(ImageStore *s, const char *directory, const char *file, json_object **ret) {
        _cleanup_free_ char *path = NULL, *text = NULL;
        uint64_t version = 0;
        size_t size;
        int r;

        path = strjoin(directory, "/", file);
        if (!path)
                return -ENOMEM;
        r = read_file_at(s->fd, path, MANIFEST_SIZE_MAX, &text, &size);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return r;
        r = json_parse(text, size, MANIFEST_SIZE_MAX, ret, NULL);
        if (r < 0)
                return -EBADMSG;
        r = json_find_u64(*ret, "version", &version, NULL);
        if (r < 0 || version != IMAGE_RECORD_VERSION) {
                json_object_put(TAKE_PTR(*ret));
                return -EBADMSG;
        }

        return 1;
}

/* 0 where there is none, or it is damaged or from another version: then the image is pulled again. */
static int find_by_hex(ImageStore *s, const char *hex, Image **ret) {
        _cleanup_(image_unrefp) Image *i = NULL;
        _cleanup_json_ json_object *o = NULL;
        _cleanup_free_ char *file = NULL;
        int r;

        file = strjoin(hex, ".json");
        if (!file)
                return -ENOMEM;
        r = image_store_read_record(s, IMAGE_RECORDS_DIR, file, &o);
        if (r == 0)
                return 0;

        i = new0(Image, 1);
        if (!i)
                return -ENOMEM;
        i->n_ref = 1;
        if (r > 0)
                r = copy_string(o, "digest", &i->digest);
        if (r >= 0 && (!digest_hex(strempty(i->digest)) || !streq(digest_hex(i->digest), hex)))
                r = -EBADMSG;
        if (r >= 0)
                r = image_take_config(i, o);
        if (r >= 0)
                r = image_take_layers(s, i, o);
        if (r == -EBADMSG || r == -EINVAL) {
                log_warning("The record '%s' in the image store cannot be used; its image has to be pulled "
                            "again.",
                                file);
                return 0;
        }
        if (r <= 0)
                return r;

        *ret = TAKE_PTR(i);
        return 1;
}

/* Reads the digest, and when it was pulled, from refs/. */
static int find_ref(ImageStore *s, const char *normalized, char **ret_digest, uint64_t *ret_pulled_at) {
        _cleanup_json_ json_object *o = NULL;
        _cleanup_free_ char *file = NULL;
        const char *digest, *name;
        uint64_t at = 0;
        int r;

        file = image_ref_file_name(normalized);
        if (!file)
                return -ENOMEM;
        r = image_store_read_record(s, IMAGE_REFS_DIR, file, &o);
        if (r == -EBADMSG)
                return 0;
        if (r <= 0)
                return r;
        if (json_get_string(o, "digest", &digest, NULL) < 0 ||
                        json_get_string(o, "reference", &name, NULL) < 0 ||
                        json_find_u64(o, "pulled_at", &at, NULL) < 0 || !digest_hex(digest) ||
                        !streq(name, normalized))
                return 0;

        if (ret_digest) {
                *ret_digest = strdup(digest);
                if (!*ret_digest)
                        return -ENOMEM;
        }
        if (ret_pulled_at)
                *ret_pulled_at = at;
        return 1;
}

typedef struct IndexSearch {
        const char *digest;
        Image *image;
} IndexSearch;

static int match_index(ImageStore *s, const char *hex, void *userdata) {
        _cleanup_json_ json_object *o = NULL;
        _cleanup_free_ char *file = NULL;
        const char *index = NULL;
        IndexSearch *search = userdata;
        int r;

        if (search->image)
                return 0;
        file = strjoin(hex, ".json");
        if (!file)
                return -ENOMEM;
        r = image_store_read_record(s, IMAGE_RECORDS_DIR, file, &o);
        if (r == -EBADMSG)
                return 0;
        if (r <= 0 || json_find_string(o, "index_digest", &index, NULL) < 0 ||
                        !streq_ptr(index, search->digest))
                return MIN(r, 0);
        r = find_by_hex(s, hex, &search->image);
        return MIN(r, 0);
}

/* Whoever names many machines' bytes by one digest names an index; the record is named by the manifest for this one. */
static int find_by_digest(ImageStore *s, const char *digest, Image **ret) {
        IndexSearch search = { .digest = digest };
        int r;

        r = find_by_hex(s, digest_hex(digest), ret);
        if (r != 0)
                return r;
        r = image_store_for_each(s, IMAGE_RECORDS_DIR, ".json", match_index, &search);
        if (r < 0 || !search.image) {
                image_unref(search.image);
                return r;
        }

        *ret = search.image;
        return 1;
}

int image_store_find(ImageStore *s, const char *reference, Image **ret) {
        _cleanup_image_reference_ ImageReference ref = {};
        _cleanup_free_ char *normalized = NULL, *digest = NULL;
        int r;

        assert(s && reference && ret);

        if (digest_hex(reference))
                return find_by_digest(s, reference, ret);

        r = image_reference_parse(reference, &ref, NULL);
        if (r < 0)
                return r;
        normalized = image_reference_normalized(&ref);
        if (!normalized)
                return -ENOMEM;
        r = find_ref(s, normalized, &digest, NULL);
        if (r < 0)
                return r;
        if (r > 0)
                return find_by_hex(s, digest_hex(digest), ret);

        return ref.digest ? find_by_digest(s, ref.digest, ret) : 0;
}

uint64_t image_store_pulled_at(ImageStore *s, const char *reference) {
        _cleanup_image_reference_ ImageReference ref = {};
        _cleanup_free_ char *normalized = NULL;
        uint64_t at;

        if (image_reference_parse(reference, &ref, NULL) < 0)
                return 0;
        normalized = image_reference_normalized(&ref);
        if (!normalized || find_ref(s, normalized, NULL, &at) <= 0)
                return 0;

        return at;
}
