/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <syslog.h>

#include "file-util.h"
#include "string-util.h"
#include "test.h"

static NodeConfig *load(const char *text) {
        _cleanup_free_ char *path = NULL;
        char directory[] = "/tmp/test-noded-config.XXXXXX";
        NodeConfig *c = NULL;

        ASSERT_TRUE(mkdtemp(directory));
        path = strjoin(directory, "/noded.conf");
        ASSERT_OK(write_file_atomic(path, text, strlen(text), 0600));
        ASSERT_OK(node_config_load((const char *const[]){ directory, NULL }, &c));
        ASSERT_OK(rm_rf_at(AT_FDCWD, directory));
        return c;
}

static void test_defaults(void **state) {
        _cleanup_(node_config_freep) NodeConfig *c = NULL;

        assert_int_equal(unsetenv("KONTENA_LOG_LEVEL"), 0);
        c = load("");

        ASSERT_TRUE(c->name && !strchr(c->name, '.'));
        ASSERT_STREQ(c->state_directory, STATEDIR "/node");
        ASSERT_STREQ(c->run_directory, "/run/kontena");
        ASSERT_EQ(c->log_level, LOG_INFO);
        ASSERT_EQ(c->image_keep_usec, 3600 * USEC_PER_SEC);
        ASSERT_TRUE(!c->runtime && c->n_registries == 0);
}

/* At the start and at each reload. */
static void test_environment_gives_the_level_that_the_file_does_not(void **state) {
        _cleanup_(node_config_freep) NodeConfig *without = NULL, *with = NULL;

        assert_int_equal(setenv("KONTENA_LOG_LEVEL", "debug", 1), 0);
        without = load("");
        with = load("[Node]\nLogLevel=warning\n");
        assert_int_equal(unsetenv("KONTENA_LOG_LEVEL"), 0);
        ASSERT_EQ(without->log_level, LOG_DEBUG);
        ASSERT_EQ(with->log_level, LOG_WARNING);
}

static void test_settings(void **state) {
        _cleanup_(node_config_freep) NodeConfig *c = load(
                        "[Node]\nName=n7\nLabels=az=a "
                        "region=eu\nRuntime=runc\nLogLevel=debug\n[Images]\nKeepUnusedSec=5min\n"
                        "RegistryCA=/etc/"
                        "ca.pem\n[Network]\nPublicAddress=192.0.2.1\nPrivateAddress=nonsense\n");

        ASSERT_STREQ(c->name, "n7");
        ASSERT_STREQ(c->labels[1], "region=eu");
        ASSERT_STREQ(c->runtime, "runc");
        ASSERT_EQ(c->image_keep_usec, 300 * USEC_PER_SEC);
        ASSERT_STREQ(c->image_ca_file, "/etc/ca.pem");
        ASSERT_STREQ(c->public_address, "192.0.2.1");
        ASSERT_TRUE(!c->private_address); /* warned about, ignored */
}

static void test_registries_by_name(void **state) {
        _cleanup_(node_config_freep) NodeConfig *c = load(
                        "[Registry a:5000]\nUsername=u\nPassword=p\nMirrors=m1 m2\n[Registry "
                        "b]\nInsecure=yes\nPasswordFile=/nonexistent\n"
                        "[Registry "
                        "a:5000]\nCertificateAuthority=/ca.pem\nColour=red\n[Registry]\nUsername=x\n");

        ASSERT_EQ(c->n_registries, 2);
        ASSERT_STREQ(c->registries[0].name, "a:5000");
        ASSERT_STREQ(c->registries[0].username, "u");
        ASSERT_STREQ(c->registries[0].password, "p");
        ASSERT_STREQ(c->registries[0].mirrors[1], "m2");
        ASSERT_STREQ(c->registries[0].ca_file, "/ca.pem");
        ASSERT_TRUE(c->registries[1].insecure && !c->registries[1].password);
}

/* The sample that is installed says what the defaults are. */
static void test_sample_is_understood(void **state) {
        _cleanup_free_ char *text = NULL;
        _cleanup_(node_config_freep) NodeConfig *c = NULL, *none = load("");

        ASSERT_OK(read_file(SAMPLE_CONFIG, 65536, &text, NULL));
        for (char *p = text; (p = strchr(p, '\n')); p++)
                if (p[1] == '#' && (p[2] == '[' || strcspn(p + 2, "= \n") < strcspn(p + 2, " \n")))
                        p[1] = ' ';
        c = load(text);
        ASSERT_STREQ(c->state_directory, none->state_directory);
        ASSERT_STREQ(c->images_directory, none->images_directory);
        ASSERT_STREQ(c->name, none->name);
        ASSERT_EQ(c->image_keep_usec, none->image_keep_usec);
        ASSERT_EQ(c->n_registries, 1);
}

KONTENA_TESTS(cmocka_unit_test(test_defaults),
                cmocka_unit_test(test_environment_gives_the_level_that_the_file_does_not),
                cmocka_unit_test(test_settings), cmocka_unit_test(test_registries_by_name),
                cmocka_unit_test(test_sample_is_understood))
