/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "container-secrets.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <sodium.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "file-util.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "rootfs.h"
#include "secrets.h"
#include "string-util.h"
#include "test.h"

typedef struct Bench {
        char directory[64];
        Secrets *key;
} Bench;

static int setup(void **state) {
        Bench *b = new0(Bench, 1);

        ASSERT_OK(unsetenv("CREDENTIALS_DIRECTORY"));
        snprintf(b->directory, sizeof(b->directory), "/tmp/test-secrets.XXXXXX");
        ASSERT_TRUE(mkdtemp(b->directory));
        ASSERT_OK(secrets_new(b->directory, &b->key, NULL));
        *state = b;
        return 0;
}

static int teardown(void **state) {
        Bench *b = *state;

        secrets_free(b->key);
        (void) rm_rf_at(AT_FDCWD, b->directory);
        free(b);
        return 0;
}

static char *seal(Bench *b, const char *text) {
        const char *public = secrets_public_key(b->key);
        size_t n, m = strlen(text), length;
        _cleanup_free_ uint8_t *sealed = malloc(m + crypto_box_SEALBYTES);
        uint8_t key[32];
        char *base64;

        ASSERT_OK(sodium_base642bin(key, sizeof(key), public, strlen(public), NULL, &n, NULL,
                        sodium_base64_VARIANT_ORIGINAL));
        ASSERT_OK(crypto_box_seal(sealed, (const uint8_t *) text, m, key));
        length = sodium_base64_encoded_len(m + crypto_box_SEALBYTES, sodium_base64_VARIANT_ORIGINAL);
        base64 = malloc(length);
        return sodium_bin2base64(
                        base64, length, sealed, m + crypto_box_SEALBYTES, sodium_base64_VARIANT_ORIGINAL);
}

static void test_variables_are_opened_and_bounded(void **state) {
        Bench *b = *state;
        _cleanup_free_ char *small = seal(b, "value=1\n2"), *big = calloc(1, ENV_ENTRY_SIZE_MAX + 1),
                            *large = NULL;
        SealedSecret secrets[] = { { .name = (char *) "A", .type = SECRET_ENV } };
        InstanceWant w = { .secrets = secrets, .n_secrets = 1 };
        ContainerSecrets s = {};
        _cleanup_kerror_ KError error = KERROR_NULL;
        UserIdentity me = { .uid = getuid(), .gid = getgid() };

        secrets[0].sealed = small;
        ASSERT_OK(container_secrets_make(b->key, &w, b->directory, &me, &s, NULL));
        ASSERT_STREQ(s.env[0], "A=value=1\n2");
        ASSERT_TRUE(!s.directory);
        container_secrets_done(&s);

        /* "A=", the value and a NUL: one byte more does not fit. */
        memset(big, 'x', ENV_ENTRY_SIZE_MAX - 3);
        large = seal(b, big);
        secrets[0].sealed = large;
        ASSERT_OK(container_secrets_make(b->key, &w, b->directory, &me, &s, NULL));
        container_secrets_done(&s);
        big[ENV_ENTRY_SIZE_MAX - 3] = 'x';
        free(large);
        large = seal(b, big);
        secrets[0].sealed = large;
        ASSERT_TRUE(container_secrets_make(b->key, &w, b->directory, &me, &s, &error) < 0);
        ASSERT_EQ(error.code, K_LIMIT_EXCEEDED);
        ASSERT_TRUE(strstr(kerror_message(&error), "Secret 'A' has 131072 bytes") != NULL);
}

static void test_no_key_is_said(void **state) {
        Bench *b = *state;
        SealedSecret secrets[] = { { .name = (char *) "A", .type = SECRET_ENV } };
        InstanceWant w = { .secrets = secrets, .n_secrets = 1 };
        _cleanup_kerror_ KError none = KERROR_NULL, foreign = KERROR_NULL;
        UserIdentity me = {};
        ContainerSecrets s;

        ASSERT_TRUE(container_secrets_make(b->key, &w, b->directory, &me, &s, &none) < 0);
        ASSERT_TRUE(strstr(kerror_message(&none), "has no key") != NULL);
        secrets[0].sealed = (char *) "AAAA";
        ASSERT_TRUE(container_secrets_make(b->key, &w, b->directory, &me, &s, &foreign) < 0);
        ASSERT_TRUE(strstr(kerror_message(&foreign), "not sealed to this node") != NULL);
}

/* In a mount namespace of the child's own. */
static int files(Bench *b) {
        _cleanup_free_ char *sealed = seal(b, "top secret"), *path = NULL, *config = NULL, *text = NULL;
        SealedSecret secrets[] = { { .name = (char *) "db", .type = SECRET_FILE, .sealed = sealed } };
        InstanceWant w = { .secrets = secrets, .n_secrets = 1 };
        UserIdentity user = { .uid = 1234, .gid = 4321 };
        struct statfs fs;
        struct stat st;

        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
                return 77;
        path = strjoin(b->directory, "/secrets/db");
        config = strjoin(b->directory, "/config.json");

        for (unsigned i = 0; i < 2; i++) { /* repeatable */
                _cleanup_(container_secrets_done) ContainerSecrets s = {};

                if (container_secrets_make(b->key, &w, b->directory, &user, &s, NULL) < 0)
                        return 1;
                if (s.env || !s.directory || statfs(s.directory, &fs) < 0 || fs.f_type != RAMFS_MAGIC)
                        return 2;
                if (stat(s.directory, &st) < 0 || st.st_uid != 1234 || (st.st_mode & 07777) != 0500)
                        return 3;
                if (stat(path, &st) < 0 || st.st_uid != 1234 || st.st_gid != 4321 ||
                                (st.st_mode & 07777) != 0400)
                        return 4;
                text = mfree(text);
                if (read_file(path, 100, &text, NULL) < 0 || !streq(text, "top secret"))
                        return 5;
        }

        if (write_file_atomic(config, "x", 1, 0600) < 0 || container_secrets_wipe(b->directory) < 0)
                return 6;
        if (access(path, F_OK) >= 0 || access(config, F_OK) >= 0)
                return 7;
        return container_secrets_wipe(b->directory) < 0 ? 8 : 0;
}

/* A command that was interrupted leaves the environment that it was to have. */
static void test_what_commands_left_goes_when_wiped(void **state) {
        static const char *const left[] = { "hook/config.json", "hook-post_start-migrate/process.json",
                "health/process.json", "exec-1/process.json" };
        static const char *const kept[] = { "pid/process.json", "hook/other" };
        Bench *b = *state;

        for (unsigned i = 0; i < ELEMENTSOF(left) + ELEMENTSOF(kept); i++) {
                const char *name = i < ELEMENTSOF(left) ? left[i] : kept[i - ELEMENTSOF(left)];
                _cleanup_free_ char *path = strjoin(b->directory, "/", name), *directory = strdup(path);

                *strrchr(directory, '/') = '\0';
                ASSERT_OK(mkdir_p(directory, 0700));
                ASSERT_OK(write_file_atomic(path, "x", 1, 0600));
        }
        ASSERT_OK(container_secrets_wipe(b->directory));
        for (unsigned i = 0; i < ELEMENTSOF(left) + ELEMENTSOF(kept); i++) {
                bool goes = i < ELEMENTSOF(left);
                const char *name = goes ? left[i] : kept[i - ELEMENTSOF(left)];
                _cleanup_free_ char *path = strjoin(b->directory, "/", name);

                ASSERT_EQ(access(path, F_OK) < 0, goes);
        }
}

static void test_files_are_the_users_and_go_when_wiped(void **state) {
        int status;
        pid_t pid;

        pid = fork();
        if (pid == 0)
                _exit(files(*state));
        ASSERT_EQ(waitpid(pid, &status, 0), pid);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
                print_message("Skipped: no mount namespace can be made here.\n");
                skip();
        }
        ASSERT_EQ(status, 0);
}

KONTENA_TESTS(cmocka_unit_test_setup_teardown(test_variables_are_opened_and_bounded, setup, teardown),
                cmocka_unit_test_setup_teardown(test_no_key_is_said, setup, teardown),
                cmocka_unit_test_setup_teardown(test_what_commands_left_goes_when_wiped, setup, teardown),
                cmocka_unit_test_setup_teardown(test_files_are_the_users_and_go_when_wiped, setup, teardown))
