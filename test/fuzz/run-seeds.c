/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Runs a fuzz target over every file of a directory of seeds, and then for a short while over what small damage makes of them. It
 * is the same damage each time, so what fails fails again. libFuzzer finds more (-Dfuzzers=true); this needs no clang. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "file-util.h"
#include "string-util.h"

#define SEED_SIZE_MAX    (64U * 1024U * 1024U)
#define VARIANT_SIZE_MAX (64U * 1024U)
#define VARIANTS_MAX     5000U
#define VARIANTS_USEC    (500U * USEC_PER_MSEC) /* of the processor */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct Seed {
        uint8_t *data;
        size_t size;
} Seed;

typedef struct Seeds {
        Seed *items;
        size_t n;
} Seeds;

static void seeds_done(Seeds *s) {
        for (size_t i = 0; i < s->n; i++)
                free(s->items[i].data);
        free(s->items);
}

/* A copy of exact size, so that ASan sees one byte too far. */
static void run(const uint8_t *data, size_t size) {
        _cleanup_free_ uint8_t *exact = malloc(MAX(size, 1U));

        if (!exact)
                abort();
        memcpy(exact, data, size);
        (void) LLVMFuzzerTestOneInput(exact, size);
}

static int compare_names(const struct dirent **a, const struct dirent **b) {
        return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_seed(const struct dirent *de) {
        return de->d_name[0] != '.';
}

static int load(const char *directory, Seeds *ret) {
        struct dirent **entries;
        int n, r = 0;

        n = scandir(directory, &entries, is_seed, compare_names);
        if (n < 0)
                return -errno;
        ret->items = new0(Seed, (size_t) n + 1);
        for (int i = 0; i < n; i++) {
                _cleanup_free_ char *path = strjoin(directory, "/", entries[i]->d_name), *data = NULL;
                size_t size = 0;

                if (r >= 0)
                        r = ret->items && path ? read_file_at(AT_FDCWD, path, SEED_SIZE_MAX, &data, &size)
                                               : -ENOMEM;
                if (r >= 0)
                        ret->items[ret->n++] = (Seed){ .data = (uint8_t *) TAKE_PTR(data), .size = size };
                free(entries[i]);
        }
        free(entries);
        return r;
}

/* Marsaglia's xorshift64: the same numbers on every machine. */
static uint64_t draw(uint64_t *state, uint64_t below) {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        return below > 0 ? *state % below : 0;
}

static size_t insert(uint8_t *v, size_t size, size_t at, const uint8_t *what, size_t n) {
        n = MIN(n, VARIANT_SIZE_MAX - size);
        memmove(v + at + n, v + at, size - at);
        memcpy(v + at, what, n);
        return size + n;
}

/* v has room for VARIANT_SIZE_MAX bytes. Returns the new size. */
static size_t damage(uint8_t *v, size_t size, const Seeds *seeds, uint64_t *state) {
        static const uint8_t edges[] = { 0, 1, 0x0a, 0x20, 0x22, 0x2d, 0x2f, 0x5c, 0x7f, 0x80, 0xc0, 0xff };
        size_t at = draw(state, size + 1), n = MIN(draw(state, 32) + 1, size - at);
        const Seed *other = seeds->items + draw(state, seeds->n);
        uint8_t part[32], byte = edges[draw(state, ELEMENTSOF(edges))];

        switch (draw(state, 6)) {
        case 0: /* a bit */
                if (at < size)
                        v[at] ^= (uint8_t) (1U << draw(state, 8));
                return size;
        case 1: /* a byte at the edge of something */
                if (at < size)
                        v[at] = byte;
                return size;
        case 2: /* cut out */
                memmove(v + at, v + at + n, size - at - n);
                return size - n;
        case 3: /* said twice */
                memcpy(part, v + at, n);
                return insert(v, size, at, part, n);
        case 4: /* from somewhere else */
                n = draw(state, other->size + 1);
                return insert(v, size, at, other->data + n, MIN(other->size - n, sizeof(part)));
        default: /* ends too soon */
                return at;
        }
}

static unsigned run_damaged(const Seeds *seeds) {
        _cleanup_free_ uint8_t *v = malloc(VARIANT_SIZE_MAX);
        uint64_t state = UINT64_C(0x9e3779b97f4a7c15);
        clock_t end = clock() + VARIANTS_USEC * (clock_t) CLOCKS_PER_SEC / (clock_t) USEC_PER_SEC;
        unsigned n = 0;

        if (!v)
                abort();
        for (; n < VARIANTS_MAX && clock() < end; n++) {
                const Seed *s = seeds->items + n % seeds->n;
                size_t size = MIN(s->size, VARIANT_SIZE_MAX);

                memcpy(v, s->data, size);
                for (uint64_t k = draw(&state, 4) + 1; k > 0; k--)
                        size = damage(v, size, seeds, &state);
                run(v, size);
        }
        return n;
}

int main(int argc, char *argv[]) {
        _cleanup_(seeds_done) Seeds seeds = {};
        unsigned n;
        int r;

        if (argc != 2) {
                fprintf(stderr, "Usage: %s DIRECTORY\n", argv[0]);
                return 2;
        }
        r = load(argv[1], &seeds);
        if (r < 0 || seeds.n == 0) {
                fprintf(stderr, "No seeds in '%s': %s\n", argv[1], r < 0 ? strerror(-r) : "it is empty");
                return 1;
        }

        for (size_t i = 0; i < seeds.n; i++)
                run(seeds.items[i].data, seeds.items[i].size);
        n = run_damaged(&seeds);
        printf("%zu seeds, %u damaged ones\n", seeds.n, n);
        return 0;
}
