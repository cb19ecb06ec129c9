/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "image-list.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "file-util.h"
#include "image-layout.h"
#include "string-util.h"
#include "test.h"

#define HEX(c) c c c c c c c c
#define IMAGE  HEX("11111111")
#define OTHER  HEX("22222222")
#define INDEX  HEX("33333333")
#define SHARED HEX("aaaaaaaa")
#define OWN    HEX("bbbbbbbb")
#define THEIRS HEX("cccccccc")
#define HALF   HEX("dddddddd")

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

static void put_ref(Fixture *f, const char *reference, const char *hex) {
        _cleanup_free_ char *file = image_ref_file_name(reference), *name = strjoin("refs/", file),
                            *text = strjoin("{\"version\":1,\"reference\":\"", reference,
                                            "\",\"digest\":\"sha256:", hex, "\",\"pulled_at\":42}");

        put(f, name, text);
}

static void make_layer(Fixture *f, const char *hex) {
        _cleanup_free_ char *path = strjoin(f->path, "/layers/", hex, "/a");

        ASSERT_OK(mkdir_p(path, 0755));
}

static void set_time(Fixture *f, const char *name, time_t t) {
        const struct timespec times[] = { { .tv_sec = t }, { .tv_sec = t } };
        _cleanup_free_ char *path = strjoin(f->path, "/", name);

        ASSERT_OK(utimensat(AT_FDCWD, path, times, 0));
}

static int setup(void **state) {
        Fixture *f = new0(Fixture, 1);

        memcpy(f->path, "/tmp/test-image-list-XXXXXX", sizeof("/tmp/test-image-list-XXXXXX"));
        ASSERT_TRUE(mkdtemp(f->path));
        ASSERT_OK(image_store_new(f->path, &f->store));
        make_layer(f, SHARED);
        make_layer(f, OWN);
        make_layer(f, THEIRS);
        make_layer(f, HALF); /* of a pull that broke off */
        put(f, "images/" OTHER ".json",
                        "{\"version\":1,\"digest\":\"sha256:" OTHER "\",\"index_digest\":\"sha256:" INDEX
                        "\",\"size\":7,\"layers\":[\"" SHARED "\",\"" THEIRS "\"]}");
        put(f, "images/" IMAGE ".json",
                        "{\"version\":1,\"digest\":\"sha256:" IMAGE "\",\"size\":5,\"layers\":[\"" SHARED
                        "\",\"" OWN "\"]}");
        set_time(f, "images/" IMAGE ".json", 1000);
        set_time(f, "images/" OTHER ".json", 2000);
        put_ref(f, "docker.io/library/web:2", IMAGE);
        put_ref(f, "docker.io/library/web:1", IMAGE);
        put_ref(f, "registry:5000/db:1", OTHER);
        put_ref(f, "registry:5000/gone:1", INDEX);
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

static void test_images_are_listed_with_their_names(void **state) {
        _cleanup_image_info_list_ ImageInfoList l = {};
        Fixture *f = *state;

        put(f, "images/" HEX("44444444") ".json", "{\"version\":1,\"digest\":\"sha256:" OTHER "\"}");
        put(f, "images/" HEX("55555555") ".json", "{");
        put(f, "images/" HEX("66666666") ".json", "{\"version\":99}");
        put(f, "refs/" HEX("77777777") ".json", "{\"version\":1,\"digest\":7}");
        ASSERT_OK(image_store_list(f->store, &l));
        ASSERT_EQ(l.n, 2);
        ASSERT_STREQ(l.infos[0].digest, "sha256:" IMAGE);
        ASSERT_TRUE(!l.infos[0].index_digest);
        ASSERT_EQ(l.infos[0].size, 5);
        ASSERT_EQ(l.infos[0].used_at, 1000 * USEC_PER_SEC);
        ASSERT_EQ(strv_length(l.infos[0].references), 2);
        ASSERT_STREQ(l.infos[0].references[0], "docker.io/library/web:1");
        ASSERT_STREQ(l.infos[1].index_digest, "sha256:" INDEX);
        ASSERT_STREQ(l.infos[1].references[0], "registry:5000/db:1");
}

static void test_list_is_made_in_portions(void **state) {
        _cleanup_image_info_list_ ImageInfoList whole = {}, parts = {};
        _cleanup_(image_lister_freep) ImageLister *lister = NULL, *given_up = NULL;
        Fixture *f = *state;
        unsigned steps = 0;
        int r;

        ASSERT_OK(image_store_list(f->store, &whole));
        ASSERT_OK(image_lister_new(f->store, &given_up));
        ASSERT_EQ(image_lister_step(given_up, 0, &parts), 1);
        ASSERT_OK(image_lister_new(f->store, &lister));
        while ((r = image_lister_step(lister, 0, &parts)) > 0) {
                ASSERT_EQ(parts.n, 0);
                steps++;
        }
        ASSERT_OK(r);
        ASSERT_EQ(steps, 6); /* a file each */
        ASSERT_EQ(parts.n, whole.n);
        for (size_t i = 0; i < whole.n; i++) {
                ASSERT_STREQ(parts.infos[i].digest, whole.infos[i].digest);
                ASSERT_EQ(strv_length(parts.infos[i].references), strv_length(whole.infos[i].references));
        }
}

static void test_use_is_remembered(void **state) {
        char *in_use[] = { (char *) "sha256:" IMAGE, NULL };
        _cleanup_image_info_list_ ImageInfoList l = {};
        uint64_t before = now_realtime() - 2 * USEC_PER_SEC;
        Fixture *f = *state;

        ASSERT_EQ(image_store_collect(f->store, in_use, 1, UINT64_MAX), 0);
        ASSERT_OK(image_store_list(f->store, &l));
        ASSERT_TRUE(l.infos[0].used_at > before);
        ASSERT_EQ(l.infos[1].used_at, 2000 * USEC_PER_SEC);
}

/* What a node is told to keep may go by the digest of the index. */
static void test_image_is_kept_by_the_digest_of_its_index(void **state) {
        char *in_use[] = { (char *) "sha256:" INDEX, NULL };
        Fixture *f = *state;

        ASSERT_EQ(image_store_collect(f->store, in_use, 1, 1000), 0);
        ASSERT_EQ(image_store_collect(f->store, in_use, 1001, 1000), 1);
        ASSERT_TRUE(has(f, "images/" OTHER ".json"));
        ASSERT_FALSE(has(f, "images/" IMAGE ".json"));
        ASSERT_TRUE(has(f, "layers/" THEIRS));
}

static void test_names_are_counted(void **state) {
        _cleanup_(image_names_freep) ImageNames *names = NULL;

        ASSERT_EQ(image_names_count(NULL, "sha256:" IMAGE), 0);
        for (unsigned i = 0; i < 3; i++)
                ASSERT_OK(image_names_add(&names, "sha256:" IMAGE));
        ASSERT_OK(image_names_add(&names, "sha256:" OTHER));
        ASSERT_EQ(image_names_count(names, "sha256:" IMAGE), 3);
        ASSERT_EQ(image_names_count(names, "sha256:" OTHER), 1);
        ASSERT_EQ(image_names_count(names, "sha256:" INDEX), 0);
}

static bool matches(const ImageInfo *i, const char *name) {
        _cleanup_(image_names_freep) ImageNames *names = NULL;

        ASSERT_OK(image_names_add(&names, name));
        ASSERT_OK(image_names_add(&names, name));
        return image_names_match(names, i);
}

static void test_images_match_every_name_they_go_by(void **state) {
        _cleanup_image_info_list_ ImageInfoList l = {};
        Fixture *f = *state;

        ASSERT_OK(image_store_list(f->store, &l));
        ASSERT_TRUE(matches(&l.infos[0], "web:1"));
        ASSERT_TRUE(matches(&l.infos[0], "index.docker.io/library/web:2"));
        ASSERT_TRUE(matches(&l.infos[0], "sha256:" IMAGE));
        ASSERT_TRUE(matches(&l.infos[0], "anything@sha256:" IMAGE));
        ASSERT_TRUE(matches(&l.infos[1], "sha256:" INDEX));
        ASSERT_FALSE(matches(&l.infos[0], "web"));
        ASSERT_FALSE(matches(&l.infos[0], "sha256:" OTHER));
        ASSERT_FALSE(matches(&l.infos[0], "No Name"));
        ASSERT_FALSE(image_names_match(NULL, &l.infos[0]));
}

static void test_removed_are_names_and_layers_that_nobody_shares(void **state) {
        char *gone[] = { (char *) "sha256:" IMAGE, (char *) "sha256:" HEX("99999999"), NULL };
        Fixture *f = *state;

        ASSERT_EQ(image_store_remove(f->store, gone), 1);
        ASSERT_FALSE(has(f, "images/" IMAGE ".json"));
        ASSERT_TRUE(has(f, "images/" OTHER ".json"));
        ASSERT_FALSE(has(f, "layers/" OWN));
        ASSERT_TRUE(has(f, "layers/" SHARED) && has(f, "layers/" THEIRS));
        ASSERT_TRUE(has(f, "layers/" HALF)); /* it helps who pulls again */
        ASSERT_EQ(image_store_pulled_at(f->store, "web:1"), 0);
        ASSERT_EQ(image_store_pulled_at(f->store, "registry:5000/db:1"), 42);
        while (image_store_step(f->store) == IMAGE_STORE_AGAIN)
                ;
        ASSERT_EQ(image_store_remove(f->store, NULL), 0);
        ASSERT_EQ(image_store_remove(f->store, gone), 0);
}

static void test_nothing_is_removed_during_a_pull(void **state) {
        char *gone[] = { (char *) "sha256:" IMAGE, NULL };
        _cleanup_free_ char *path = NULL;
        _cleanup_close_ int fd = -EBADF;
        Fixture *f = *state;

        path = strjoin(f->path, "/lock");
        fd = open(path, O_RDWR | O_CLOEXEC);
        ASSERT_OK(flock(fd, LOCK_SH));
        ASSERT_ERROR(image_store_remove(f->store, gone), EAGAIN);
        ASSERT_TRUE(has(f, "images/" IMAGE ".json"));
        ASSERT_OK(flock(fd, LOCK_UN));
        ASSERT_EQ(image_store_remove(f->store, gone), 1);
}

static void test_what_comes_back_is_new(void **state) {
        char *gone[] = { (char *) "sha256:" IMAGE, NULL };
        Fixture *f = *state;

        ASSERT_EQ(image_store_collect(f->store, NULL, 1, 1000), 0);
        ASSERT_EQ(image_store_remove(f->store, gone), 1);
        make_layer(f, OWN);
        put(f, "images/" IMAGE ".json",
                        "{\"version\":1,\"digest\":\"sha256:" IMAGE "\",\"layers\":[\"" SHARED "\",\"" OWN
                        "\"]}");
        ASSERT_EQ(image_store_collect(f->store, NULL, 1001, 1000), 1); /* the other one */
        ASSERT_TRUE(has(f, "images/" IMAGE ".json"));
        ASSERT_EQ(image_store_collect(f->store, NULL, 2001, 1000), 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
KONTENA_TESTS(TEST(test_images_are_listed_with_their_names), TEST(test_use_is_remembered),
                TEST(test_list_is_made_in_portions), TEST(test_image_is_kept_by_the_digest_of_its_index),
                TEST(test_names_are_counted), TEST(test_images_match_every_name_they_go_by),
                TEST(test_removed_are_names_and_layers_that_nobody_shares),
                TEST(test_nothing_is_removed_during_a_pull), TEST(test_what_comes_back_is_new))
