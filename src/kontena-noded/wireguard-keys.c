/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wireguard-keys.h"

#include <sodium.h>
#include <unistd.h>

#include "file-util.h"
#include "parse-util.h"
#include "string-util.h"

#define FILE_NAME     "/wireguard-keys"
#define FILE_SIZE_MAX 4096U

struct WireguardKeys {
        char *path, *grid_id;
        WireguardKey keys[WIREGUARD_KEYS_MAX]; /* the latest first */
        size_t n;
};

WireguardKeys *wireguard_keys_free(WireguardKeys *k) {
        if (!k)
                return NULL;

        free(k->path);
        free(k->grid_id);
        (void) sodium_munlock(k->keys, sizeof(k->keys)); /* erases */
        return mfree(k);
}

/* "1 BASE64" */
static int parse_key(char *line, WireguardKey *ret) {
        char *space = strchr(line, ' ');
        unsigned generation;
        int r;

        if (!space)
                return -EBADMSG;
        *space = '\0';
        r = safe_atou(line, &generation);
        if (r < 0 || generation == 0)
                return -EBADMSG;
        r = wg_key_parse(space + 1, ret->private_key);
        if (r >= 0)
                r = wg_key_public(ret->private_key, ret->public_key);
        if (r < 0)
                return -EBADMSG;

        ret->generation = generation;
        return 0;
}

/* The grid's id, then a key a line. */
static int parse_file(WireguardKeys *k, char *text) {
        char *line = text;
        int r;

        for (size_t i = 0; *line != '\0'; i++) {
                char *end = strchr(line, '\n');

                if (!end || i > WIREGUARD_KEYS_MAX)
                        return -EBADMSG;
                *end = '\0';
                if (i == 0) {
                        const char *id = startswith(line, "grid ");

                        if (isempty(id))
                                return -EBADMSG;
                        k->grid_id = strdup(id);
                        if (!k->grid_id)
                                return -ENOMEM;
                } else {
                        r = parse_key(line, &k->keys[k->n]);
                        if (r < 0)
                                return r;
                        if (k->n > 0 && k->keys[k->n].generation >= k->keys[k->n - 1].generation)
                                return -EBADMSG;
                        k->n++;
                }
                line = end + 1;
        }
        return k->grid_id ? 0 : -EBADMSG;
}

static void forget(WireguardKeys *k) {
        sodium_memzero(k->keys, sizeof(k->keys));
        k->n = 0;
        k->grid_id = mfree(k->grid_id);
}

static int load(WireguardKeys *k, KError *reterr) {
        _cleanup_free_ char *aside = NULL;
        _cleanup_erase_ char *text = NULL;
        size_t size = 0;
        int r;

        r = read_file(k->path, FILE_SIZE_MAX, &text, &size);
        if (r == -ENOENT)
                return 0;
        if (r < 0 && r != -EFBIG)
                return kerror_set_errno(reterr, r, "Cannot read '%s': %m.", k->path);
        if (r >= 0) {
                r = strlen(text) == size ? parse_file(k, text) : -EBADMSG;
                if (text)
                        erase_memory(text, size); /* parsing has put ends into it */
        }
        if (r >= 0 || r == -ENOMEM)
                return r;

        forget(k);
        aside = strjoin(k->path, ".corrupt");
        if (!aside)
                return -ENOMEM;
        if (rename(k->path, aside) < 0)
                return kerror_set_errno(
                                reterr, -errno, "'%s' is damaged, and cannot be put aside: %m.", k->path);
        (void) kerror_set(reterr, K_INTERNAL, "'%s' was damaged and is now '%s'; new keys are made.",
                        k->path, aside);
        return 0;
}

int wireguard_keys_new(const char *state_directory, WireguardKeys **ret, KError *reterr) {
        _cleanup_(wireguard_keys_freep) WireguardKeys *k = NULL;
        int r;

        if (sodium_init() < 0)
                return kerror_set(reterr, K_INTERNAL, "Cannot prepare libsodium.");
        k = new0(WireguardKeys, 1);
        if (!k)
                return -ENOMEM;
        (void) sodium_mlock(k->keys, sizeof(k->keys)); /* without, they may be swapped out */
        k->path = strjoin(state_directory, FILE_NAME);
        if (!k->path)
                return -ENOMEM;
        r = load(k, reterr);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(k);
        return 0;
}

static int save(const WireguardKeys *k, KError *reterr) {
        char text[FILE_SIZE_MAX], key[WG_KEY_STRING_SIZE];
        size_t n = 0;
        int r;

        n = (size_t) snprintf(text, sizeof(text), "grid %s\n", k->grid_id);
        if (n >= sizeof(text) / 2)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "The grid's id is too long.");
        FOREACH_ARRAY(i, k->keys, k->n)
                n += (size_t) snprintf(text + n, sizeof(text) - n, "%u %s\n", i->generation,
                                wg_key_to_string(i->private_key, key));
        r = write_file_atomic(k->path, text, n, 0600);
        erase_memory(text, sizeof(text));
        erase_memory(key, sizeof(key));
        return r < 0 ? kerror_set_errno(reterr, r, "Cannot write '%s': %m.", k->path) : 0;
}

/* As keys are changed only once they are on the disk. */
static int replace(
                WireguardKeys *k, const WireguardKey *keys, size_t n, const char *grid_id, KError *reterr) {
        WireguardKeys next = { .path = k->path, .grid_id = (char *) grid_id, .n = n };
        _cleanup_free_ char *id = strdup(grid_id);
        int r;

        if (!id)
                return -ENOMEM;
        memcpy(next.keys, keys, n * sizeof(*keys));
        r = save(&next, reterr);
        if (r >= 0) {
                memcpy(k->keys, next.keys, sizeof(k->keys));
                k->n = n;
                free(k->grid_id);
                k->grid_id = TAKE_PTR(id);
        }
        erase_memory(next.keys, sizeof(next.keys));
        return MIN(r, 0);
}

int wireguard_keys_ensure(WireguardKeys *k, const char *grid_id, uint32_t generation, KError *reterr) {
        WireguardKey keys[WIREGUARD_KEYS_MAX] = {};
        bool same = streq_ptr(k->grid_id, grid_id);
        size_t n = 1;
        int r;

        assert(generation > 0);

        if (strchr(grid_id, '\n'))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "The grid's id is not valid.");
        if (same && k->n > 0 && k->keys[0].generation == generation)
                return 0;

        keys[0].generation = generation;
        if (same && wireguard_keys_find(k, generation))
                keys[0] = *wireguard_keys_find(k, generation);
        else {
                wg_key_generate(keys[0].private_key);
                r = wg_key_public(keys[0].private_key, keys[0].public_key);
                if (r < 0)
                        return r;
        }
        for (size_t i = 0; same && i < k->n && n == 1; i++)
                if (k->keys[i].generation < generation)
                        keys[n++] = k->keys[i];

        r = replace(k, keys, n, grid_id, reterr);
        erase_memory(keys, sizeof(keys));
        return r < 0 ? r : 1;
}

int wireguard_keys_drop_before(WireguardKeys *k, uint32_t generation, KError *reterr) {
        size_t n = 0;
        int r;

        while (n < k->n && k->keys[n].generation >= generation)
                n++;
        if (n == k->n || n == 0)
                return 0;
        r = replace(k, k->keys, n, k->grid_id, reterr);
        return r < 0 ? r : 1;
}

int wireguard_keys_clear(WireguardKeys *k, KError *reterr) {
        forget(k);
        if (unlink(k->path) < 0 && errno != ENOENT)
                return kerror_set_errno(reterr, -errno, "Cannot remove '%s': %m.", k->path);
        return 0;
}

const WireguardKey *wireguard_keys_find(const WireguardKeys *k, uint32_t generation) {
        FOREACH_ARRAY(i, k->keys, k->n)
                if (i->generation == generation)
                        return i;
        return NULL;
}

size_t wireguard_keys_list(const WireguardKeys *k, const WireguardKey **ret) {
        *ret = k->keys;
        return k->n;
}
