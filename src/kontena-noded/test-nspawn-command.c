/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "nspawn-command.h"

#include <signal.h>

#include "json-util.h"
#include "string-util.h"
#include "test.h"
#include "uid-range.h"

static InstanceWant *want_of(const char *stack, const char *service, const char *more, const char *spec) {
        _cleanup_free_ char *text = NULL;
        _cleanup_json_ json_object *o = NULL;
        _cleanup_kerror_ KError e = KERROR_NULL;
        InstanceWant *w = NULL;

        text = strprintf("{\"number\":2,\"grid\":\"g01\",\"stack\":\"%s\",\"service\":\"%s\",\"service_id\":"
                         "\"sid\",\"desired\":\"running\",\"deploy_rev\":7,\"service_rev\":3,"
                         "\"address\":\"10.81.128.5\",\"hostname\":\"web-2\",\"spec\":{\"image\":\"a\","
                         "\"runtime\":\"nspawn\"%s}%s}",
                        stack, service, spec, more);
        ASSERT_OK(json_parse(text, strlen(text), 65536, &o, NULL));
        if (instance_want_parse("abcdefgh", o, &w, &e) < 0)
                fail_msg("%s", kerror_message(&e));
        return w;
}

static char *volume_source = (char *) "/v/with:colon\\", *volume_path = (char *) "/data";

/* " word word ... " */
static char *command_of(
                const char *spec, const Image *image, uint32_t base, const OciMount *mounts, size_t n) {
        _cleanup_(instance_want_freep) InstanceWant *w = want_of("null", "web", "", spec);
        _cleanup_strv_free_ char **l = NULL;
        _cleanup_kerror_ KError e = KERROR_NULL;
        _cleanup_free_ char *joined = NULL;

        if (nspawn_command(
                            &(NspawnInput){
                                            .want = w,
                                            .image = image,
                                            .program = "/usr/bin/systemd-nspawn",
                                            .machine = "m1",
                                            .root_path = "/r",
                                            .run_directory = "/run/k",
                                            .files_directory = "/f",
                                            .uid_base = base,
                                            .mounts = mounts,
                                            .n_mounts = n,
                            },
                            &l, &e) < 0)
                fail_msg("%s", kerror_message(&e));
        joined = strv_join(l, " ");
        return strjoin(" ", joined, " ");
}

#define ASSERT_HAS(text, word)                                                                              \
        do {                                                                                                \
                if (!strstr(text, " " word " "))                                                            \
                        fail_msg("no '%s' in '%s'", word, text);                                            \
        } while (false)
#define ASSERT_HAS_NOT(text, part)                                                                          \
        do {                                                                                                \
                if (strstr(text, part))                                                                     \
                        fail_msg("'%s' in '%s'", part, text);                                               \
        } while (false)

static void test_what_is_booted(void **state) {
        const OciMount mounts[] = { { .source = volume_source, .path = volume_path, .read_only = true } };
        _cleanup_free_ char *text = command_of("", &(Image){}, 4096, mounts, 1), *kill = NULL;

        ASSERT_HAS(text, "--machine=m1");
        ASSERT_HAS(text, "--directory=/r");
        ASSERT_HAS(text, "--keep-unit");
        ASSERT_HAS(text, "--register=yes");
        ASSERT_HAS(text, "--hostname=web-2");
        ASSERT_HAS(text, "--boot");
        ASSERT_HAS(text, "--notify-ready=yes");
        ASSERT_HAS(text, "--private-users=4096:65536");
        ASSERT_HAS(text, "--private-users-ownership=off");
        ASSERT_HAS(text, "--bind=/f/resolv.conf:/etc/resolv.conf:idmap");
        ASSERT_HAS(text, "--bind-ro=/v/with\\:colon\\\\:/data:idmap");
        ASSERT_HAS(text, "--bind-ro=/run/k/environment:/run/kontena/environment");
        ASSERT_HAS_NOT(text, "/run/secrets");
        ASSERT_HAS_NOT(text, "--capability");
        kill = strprintf(" --kill-signal=%i ", SIGRTMIN + 4);
        ASSERT_TRUE(strstr(text, kill));
}

static void test_what_asks_for_something(void **state) {
        static const struct {
                const char *spec, *word;
        } table[] = {
                { ",\"stop_signal\":\"SIGINT\"", " --kill-signal=2 " },
                { ",\"shm_size\":1048576", " --tmpfs=/dev/shm:mode=1777,size=1048576 " },
                { ",\"read_only\":true", " --read-only " },
                { ",\"cap_drop\":[\"MKNOD\"]", " --drop-capability=CAP_MKNOD " },
                { ",\"cap_drop\":[\"ALL\"]", " --drop-capability=all " },
                { ",\"devices\":[\"/dev/fuse:/dev/f:rw\"]", " --bind=/dev/fuse:/dev/f " },
                { ",\"cmd\":[\"/bin/x\",\"$A b\"]", " --kill-signal=15 --console=pipe -- /bin/x $A b " },
                { ",\"cmd\":[\"x\"],\"working_dir\":\"/w\"", " --chdir=/w " },
                { ",\"hostname\":\"other\"", " --hostname=other " },
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_free_ char *text = command_of(t->spec, &(Image){}, 4096, NULL, 0);

                if (!strstr(text, t->word))
                        fail_msg("no '%s' in '%s'", t->word, text);
        }
}

static void test_image_says_how_it_stops(void **state) {
        _cleanup_free_ char *text = command_of("",
                        &(Image){ .stop_signal = (char *) "SIGRTMIN+3", .cmd = &volume_path }, 4096, NULL,
                        0);
        _cleanup_free_ char *kill = strprintf(" --kill-signal=%i ", SIGRTMIN + 3);

        ASSERT_TRUE(strstr(text, kill));
        ASSERT_HAS(text, "--boot"); /* its own command is its init */
}

static void test_privileged_has_the_hosts_users(void **state) {
        _cleanup_free_ char *text = command_of(",\"privileged\":true", &(Image){}, 0, NULL, 0);

        ASSERT_HAS(text, "--private-users=no");
        ASSERT_HAS(text, "--capability=all");
        ASSERT_HAS_NOT(text, "idmap");
}

/* Nothing of the environment: anybody on the machine can read a command line. */
static void test_environment_is_not_in_the_command(void **state) {
        _cleanup_free_ char *text = command_of(",\"env\":[\"PASSWORD=geheim\"]", &(Image){}, 4096, NULL, 0);

        ASSERT_HAS_NOT(text, "geheim");
        ASSERT_HAS_NOT(text, "PASSWORD");
}

static void test_names_are_legal_and_unique(void **state) {
        static const struct {
                const char *stack, *service, *more, *name;
        } table[] = {
                { "null", "web", "", "kontena-g01-null.web-2" },
                { "shop", "web", "", "kontena-g01-shop.web-2" },
                { "shop", "web", ",\"slot\":\"b\"", "kontena-g01-shop.web-2.b" },
                { "shop", "we_b", "", "kontena-g01-shop.we_b-2" },
                { "shop-", "web", "", "kontena-abcdefgh" }, /* "-." */
                { "a-stack-with-a-name-that-is-long-enough", "and-a-service-with-another", "",
                                "kontena-abcdefgh" },
        };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                _cleanup_(instance_want_freep) InstanceWant *w = want_of(t->stack, t->service, t->more, "");
                _cleanup_free_ char *name = nspawn_machine_name(w);

                ASSERT_STREQ(name, t->name);
                ASSERT_TRUE(strlen(name) <= 64);
        }
}

static void test_settings_quote(void **state) {
        char *const env[] = { (char *) "A=b c", (char *) "Q=it's \"x\" $HOME \\", (char *) "E=", NULL };
        _cleanup_free_ char *text = NULL;

        ASSERT_OK(nspawn_settings(env, &text, NULL));
        ASSERT_STREQ(text, "[Exec]\n"
                           "Environment='A=b c'\n"
                           "Environment='Q=it'\"'\"'s \"x\" $HOME \\'\n"
                           "Environment='E='\n");
}

/* Another line would be another setting, and the file is trusted. */
static void test_settings_refuse_lines(void **state) {
        static const char *const table[] = { "A=b\n[Network]", "A=b\r", "A=\xff" };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                char *const env[] = { (char *) *t, NULL };
                _cleanup_kerror_ KError e = KERROR_NULL;
                char *text = NULL;

                ASSERT_TRUE(nspawn_settings(env, &text, &e) < 0);
                ASSERT_EQ(e.code, K_NOT_SUPPORTED);
                ASSERT_TRUE(!text && strstr(kerror_message(&e), "'A'"));
                ASSERT_TRUE(!strstr(kerror_message(&e), "Network")); /* it may be a secret */
        }
}

static void test_environment_file(void **state) {
        char *const env[] = { (char *) "PATH=/bin", (char *) "HOME=/own", (char *) "A=\"$x`\\",
                (char *) "B=", (char *) "no-variable", NULL };
        char *own[] = { (char *) "HOME=/own", NULL };
        _cleanup_free_ char *text = NULL;

        ASSERT_OK(nspawn_environment(env, &(ServiceSpec){ .env = own }, &text));
        ASSERT_STREQ(text, "HOME=\"/own\"\nA=\"\\\"\\$x\\`\\\\\"\nB=\"\"\n");
}

KONTENA_TESTS(cmocka_unit_test(test_what_is_booted), cmocka_unit_test(test_what_asks_for_something),
                cmocka_unit_test(test_image_says_how_it_stops),
                cmocka_unit_test(test_privileged_has_the_hosts_users),
                cmocka_unit_test(test_environment_is_not_in_the_command),
                cmocka_unit_test(test_names_are_legal_and_unique), cmocka_unit_test(test_settings_quote),
                cmocka_unit_test(test_settings_refuse_lines), cmocka_unit_test(test_environment_file))
