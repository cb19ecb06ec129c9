/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "image-store.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <utime.h>

#include "file-util.h"
#include "image-layout.h"
#include "string-util.h"
#include "test.h"

#define HEX(c) c c c c c c c c
#define IMAGE  HEX("11111111")
#define OTHER  HEX("22222222")
#define LOW    HEX("aaaaaaaa")
#define TOP    HEX("bbbbbbbb")
#define ORPHAN HEX("cccccccc")

#define HOUR   (UINT64_C(3600) * USEC_PER_SEC)

typedef struct Fixture {
        char path[32];
        ImageStore *store;
} Fixture;

static void put(Fixture *f, const char *name, const char *content) {
        _cleanup_free_ char *path = strjoin(f->path, "/", name);

        ASSERT_OK(write_file_atomic(path, content, strlen(content), 0600));
}

static bool has(Fixture *f, const char *name) {
        _cleanup_free_ char *path = strjoin(f->path, "/", name);

        return access(path, F_OK) >= 0;
}

static void make_tree(Fixture *f, const char *name) {
        _cleanup_free_ char *path = strjoin(f->path, "/", name, "/a/b/c");

        ASSERT_OK(mkdir_p(path, 0755));
}

static void put_image(Fixture *f, const char *hex, const char *layers) {
        _cleanup_free_ char *name = strjoin("images/", hex, ".json"),
                            *text = strjoin("{\"version\":1,\"digest\":\"sha256:", hex,
                                            "\",\"reference\":\"docker.io/library/"
                                            "web:1\",\"env\":[\"A=b\"],\"entrypoint\":[],"
                                            "\"user\":\"app\",\"working_directory\":\"/w\",\"volumes\":[\"/"
                                            "data\"],\"size\":5,\"layers\":[",
                                            layers, "]}");

        put(f, name, text);
}

static void put_ref(Fixture *f, const char *reference, const char *hex) {
        _cleanup_free_ char *file = image_ref_file_name(reference), *name = strjoin("refs/", file),
                            *text = strjoin("{\"version\":1,\"reference\":\"", reference,
                                            "\",\"digest\":\"sha256:", hex, "\",\"pulled_at\":42}");

        put(f, name, text);
}

static int setup(void **state) {
        Fixture *f = new0(Fixture, 1);

        memcpy(f->path, "/tmp/test-image-store-XXXXXX", sizeof("/tmp/test-image-store-XXXXXX"));
        ASSERT_TRUE(mkdtemp(f->path));
        ASSERT_OK(image_store_new(f->path, &f->store));
        make_tree(f, "layers/" LOW);
        make_tree(f, "layers/" TOP);
        put_image(f, IMAGE, "\"" LOW "\",\"" TOP "\"");
        put_ref(f, "docker.io/library/web:1", IMAGE);
        *state = f;
        return 0;
}

static int teardown(void **state) {
        Fixture *f = *state;

        image_store_free(f->store);
        (void) rm_rf_at(AT_FDCWD, f->path);
        free(f);
        return 0;
}

static int find(Fixture *f, const char *reference) {
        _cleanup_(image_unrefp) Image *i = NULL;

        return image_store_find(f->store, reference, &i);
}

static void test_store_finds_by_reference_and_digest(void **state) {
        _cleanup_(image_unrefp) Image *i = NULL;
        _cleanup_free_ char *top = NULL;
        Fixture *f = *state;

        ASSERT_EQ(image_store_find(f->store, "web:1", &i), 1);
        ASSERT_STREQ(i->digest, "sha256:" IMAGE);
        ASSERT_STREQ(i->env[0], "A=b");
        ASSERT_TRUE(!i->entrypoint && !i->cmd && !i->stop_signal);
        ASSERT_STREQ(i->volumes[0], "/data");
        ASSERT_EQ(strv_length(i->layers), 2);
        top = strjoin(f->path, "/layers/" TOP);
        ASSERT_STREQ(i->layers[0], top);
        ASSERT_EQ(find(f, "index.docker.io/library/web:1"), 1);
        ASSERT_EQ(find(f, "sha256:" IMAGE), 1);
        ASSERT_EQ(find(f, "any@sha256:" IMAGE), 1);
        ASSERT_EQ(find(f, "web"), 0);
        ASSERT_EQ(find(f, "sha256:" OTHER), 0);
        ASSERT_ERROR(find(f, "No Name"), EINVAL);
        ASSERT_EQ(image_store_pulled_at(f->store, "web:1"), 42);
        ASSERT_EQ(image_store_pulled_at(f->store, "web:2"), 0);
}

static void test_store_finds_by_the_digest_of_an_index(void **state) {
        _cleanup_(image_unrefp) Image *i = NULL;
        Fixture *f = *state;

        put(f, "images/" OTHER ".json",
                        "{\"version\":1,\"digest\":\"sha256:" OTHER "\",\"index_digest\":\"sha256:" ORPHAN
                        "\",\"layers\":[\"" LOW "\"]}");
        ASSERT_EQ(find(f, "sha256:" TOP), 0);
        ASSERT_EQ(image_store_find(f->store, "sha256:" ORPHAN, &i), 1);
        ASSERT_STREQ(i->digest, "sha256:" OTHER);
        ASSERT_EQ(find(f, "any@sha256:" ORPHAN), 1);
}

/* A record is no better than a missing one if something is wrong with it: the image is pulled again. */
static void test_store_does_not_trust_records(void **state) {
        Fixture *f = *state;

        put_image(f, OTHER, "\"" ORPHAN "\"");
        ASSERT_EQ(find(f, "sha256:" OTHER), 0);
        put_image(f, OTHER, "\"../../../etc\"");
        ASSERT_EQ(find(f, "sha256:" OTHER), 0);
        put_image(f, OTHER, "17");
        ASSERT_EQ(find(f, "sha256:" OTHER), 0);
        put(f, "images/" OTHER ".json", "{\"version\":1,\"digest\":\"sha256:" IMAGE "\",\"layers\":[]}");
        ASSERT_EQ(find(f, "sha256:" OTHER), 0);
        put(f, "images/" OTHER ".json", "{\"version\":2,\"digest\":\"sha256:" OTHER "\",\"layers\":[]}");
        ASSERT_EQ(find(f, "sha256:" OTHER), 0);
        put(f, "images/" OTHER ".json",
                        "{\"version\":1,\"digest\":\"sha256:" OTHER "\",\"volumes\":[\"x\"],\"layers\":[]}");
        ASSERT_EQ(find(f, "sha256:" OTHER), 0);
        put(f, "images/" OTHER ".json", "{\"version\":1,");
        ASSERT_EQ(find(f, "sha256:" OTHER), 0);
        put(f, "images/" OTHER ".json", "{\"version\":1,\"digest\":\"sha256:" OTHER "\",\"layers\":[]}");
        ASSERT_EQ(find(f, "sha256:" OTHER), 1);
        /* A reference whose record is another's: two names with one hash do not happen, a copied file does. */
        put_ref(f, "docker.io/library/web:2", OTHER);
        ASSERT_EQ(find(f, "web:2"), 1);
}

static void test_collect_waits_and_then_drops_what_is_unused(void **state) {
        char *in_use[] = { (char *) "sha256:" IMAGE, NULL };
        Fixture *f = *state;

        put_image(f, OTHER, "\"" LOW "\"");
        put_ref(f, "docker.io/library/other:1", OTHER);
        make_tree(f, "layers/" ORPHAN);
        ASSERT_EQ(image_store_collect(f->store, in_use, 1, HOUR), 0);
        ASSERT_EQ(image_store_collect(f->store, in_use, HOUR, HOUR), 0);
        ASSERT_TRUE(has(f, "layers/" ORPHAN));
        ASSERT_EQ(image_store_collect(f->store, in_use, HOUR + 1, HOUR), 1);
        ASSERT_FALSE(has(f, "images/" OTHER ".json"));
        ASSERT_EQ(find(f, "other:1"), 0);
        ASSERT_EQ(image_store_pulled_at(f->store, "other:1"), 0);
        ASSERT_FALSE(has(f, "layers/" ORPHAN));
        ASSERT_TRUE(has(f, "layers/" LOW)); /* the image that is used has it too */
        ASSERT_EQ(find(f, "web:1"), 1);
        while (image_store_step(f->store) == IMAGE_STORE_AGAIN)
                ;
        {
                _cleanup_free_ char *path = strjoin(f->path, "/staging");

                ASSERT_OK(rmdir(path)); /* empty */
        }
}

static void test_collect_begins_anew_when_an_image_was_used(void **state) {
        char *in_use[] = { (char *) "sha256:" IMAGE, NULL };
        Fixture *f = *state;

        ASSERT_EQ(image_store_collect(f->store, NULL, 1, HOUR), 0);
        ASSERT_EQ(image_store_collect(f->store, in_use, HOUR / 2, HOUR), 0);
        ASSERT_EQ(image_store_collect(f->store, NULL, HOUR + 1, HOUR), 0);
        ASSERT_EQ(image_store_collect(f->store, NULL, HOUR * 2 + 1, HOUR), 1);
        ASSERT_FALSE(has(f, "layers/" LOW));
        ASSERT_FALSE(has(f, "layers/" TOP));
}

static void test_collect_keeps_off_while_a_pull_runs(void **state) {
        _cleanup_free_ char *path = NULL;
        Fixture *f = *state;
        int fd;

        path = strjoin(f->path, "/lock");
        fd = open(path, O_RDWR | O_CLOEXEC);
        ASSERT_TRUE(fd >= 0);
        ASSERT_OK(flock(fd, LOCK_SH));
        ASSERT_ERROR(image_store_collect(f->store, NULL, 1, 0), EAGAIN);
        ASSERT_EQ(find(f, "web:1"), 1);
        safe_close(fd);
        ASSERT_EQ(image_store_collect(f->store, NULL, 1, 0), 1);
}

static void test_store_cleans_staging_at_its_start(void **state) {
        _cleanup_free_ char *old = NULL, *lock = NULL;
        Fixture *f = *state;
        int fd;

        make_tree(f, "staging/tree-" TOP);
        put(f, "staging/blob-young", "x");
        put(f, "staging/blob-old", "x");
        put(f, "staging/lock-" TOP, "");
        old = strjoin(f->path, "/staging/blob-old");
        ASSERT_OK(utime(old, &(struct utimbuf){ 1, 1 }));

        /* Not under the hands of a pull that an earlier noded started. */
        lock = strjoin(f->path, "/lock");
        fd = open(lock, O_RDWR | O_CLOEXEC);
        ASSERT_OK(flock(fd, LOCK_SH));
        f->store = image_store_free(f->store);
        ASSERT_OK(image_store_new(f->path, &f->store));
        ASSERT_TRUE(has(f, "staging/tree-" TOP));
        safe_close(fd);
        ASSERT_OK(image_store_collect(f->store, NULL, 1, HOUR));
        ASSERT_FALSE(has(f, "staging/tree-" TOP));

        make_tree(f, "staging/tree-" TOP);
        f->store = image_store_free(f->store);
        ASSERT_OK(image_store_new(f->path, &f->store));
        ASSERT_FALSE(has(f, "staging/tree-" TOP));
        ASSERT_FALSE(has(f, "staging/blob-old"));
        ASSERT_FALSE(has(f, "staging/lock-" TOP));
        ASSERT_TRUE(has(f, "staging/blob-young"));
}

static void test_step_takes_a_large_tree_in_slices(void **state) {
        Fixture *f = *state;
        size_t n_steps = 0;
        uint64_t longest = 0;

        for (unsigned i = 0; i < 20000; i++) {
                char name[160];
                int fd;

                snprintf(name, sizeof(name), "%s/layers/" TOP "/a/%u", f->path, i);
                fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
                ASSERT_TRUE(fd >= 0);
                safe_close(fd);
        }
        ASSERT_EQ(image_store_collect(f->store, NULL, 1, 0), 1);
        for (;;) {
                uint64_t start = now_monotonic();
                int r = image_store_step(f->store);

                ASSERT_OK(r);
                longest = MAX(longest, now_monotonic() - start);
                n_steps++;
                if (r == IMAGE_STORE_DONE)
                        break;
        }
        print_message("%zu steps, the longest %llu ms\n", n_steps,
                        (unsigned long long) (longest / USEC_PER_MSEC));
        ASSERT_FALSE(has(f, "layers/" TOP));
        ASSERT_EQ(image_store_step(f->store), IMAGE_STORE_DONE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

KONTENA_TESTS(TEST(test_store_finds_by_reference_and_digest),
                TEST(test_store_finds_by_the_digest_of_an_index), TEST(test_store_does_not_trust_records),
                TEST(test_collect_waits_and_then_drops_what_is_unused),
                TEST(test_collect_begins_anew_when_an_image_was_used),
                TEST(test_collect_keeps_off_while_a_pull_runs), TEST(test_store_cleans_staging_at_its_start),
                TEST(test_step_takes_a_large_tree_in_slices))
