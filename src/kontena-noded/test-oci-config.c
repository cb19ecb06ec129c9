/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "oci-config.h"

#include <linux/capability.h>
#include <sys/sysmacros.h>

#include "json-util.h"
#include "kontena-limits.h"
#include "seccomp-profile.h"
#include "test.h"

static InstanceWant *want(const char *spec) {
        _cleanup_free_ char *text = NULL;
        _cleanup_json_ json_object *o = NULL;
        _cleanup_kerror_ KError e = KERROR_NULL;
        InstanceWant *w = NULL;

        text = strprintf("{\"number\":2,\"grid\":\"g01\",\"stack\":\"s\",\"service\":\"web\",\"service_id\":"
                         "\"sid\",\"desired\":\"running\","
                         "\"deploy_rev\":7,\"service_rev\":3,\"address\":\"10.81.128.5\",\"hostname\":\"web-"
                         "2\",\"domain\":\"s.g01.kontena.local\","
                         "\"search\":[\"s.g01.kontena.local\",\"g01.kontena.local\"],\"spec\":%s}",
                        spec);
        ASSERT_OK(json_parse(text, strlen(text), 65536, &o, NULL));
        if (instance_want_parse("abc", o, &w, &e) < 0)
                fail_msg("%s", kerror_message(&e));
        return w;
}

static char *image_entrypoint[] = { (char *) "/entry", NULL };
static char *image_cmd[] = { (char *) "serve", (char *) "-x", NULL };
static char *image_env[] = { (char *) "PATH=/image/bin", (char *) "LANG=C", (char *) "A=image", NULL };
static const Image image = { .entrypoint = image_entrypoint,
        .cmd = image_cmd,
        .env = image_env,
        .working_directory = (char *) "/srv" };
static const Image bare = {};

static char *args_of(const char *spec, const Image *i) {
        _cleanup_(instance_want_freep) InstanceWant *w = want(spec);
        _cleanup_strv_free_ char **args = NULL;

        if (oci_args(w, i, &args, NULL) < 0)
                return NULL;
        return strv_join(args, " ");
}

/* What Docker does with each pair. */
static void test_entrypoint_and_command(void **state) {
        static const struct {
                const char *spec, *args;
        } table[] = {
                { "{\"image\":\"a\"}", "/entry serve -x" },
                { "{\"image\":\"a\",\"cmd\":[\"other\"]}", "/entry other" },
                { "{\"image\":\"a\",\"entrypoint\":[\"/own\"]}", "/own" },
                { "{\"image\":\"a\",\"entrypoint\":[\"/own\"],\"cmd\":[\"x\",\"y\"]}", "/own x y" },
                { "{\"image\":\"a\",\"entrypoint\":[],\"cmd\":[\"x\"]}", "x" },
                { "{\"image\":\"a\",\"entrypoint\":[]}", "serve -x" },
                { "{\"image\":\"a\",\"cmd\":[]}", "/entry" },
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_free_ char *args = args_of(table[i].spec, &image);

                ASSERT_STREQ(args, table[i].args);
        }
}

static void test_nothing_to_run_is_an_error(void **state) {
        _cleanup_(instance_want_freep) InstanceWant *w = want("{\"image\":\"a\"}");
        _cleanup_kerror_ KError e = KERROR_NULL;
        char **args;

        ASSERT_ERROR(oci_args(w, &bare, &args, &e), EINVAL);
        ASSERT_TRUE(strstr(kerror_message(&e), "what to run"));
}

static const char *env_value(char *const *env, const char *name) {
        const char *found = NULL;
        size_t n = strlen(name);

        STRV_FOREACH(e, env)
                if (strneq(*e, name, n) && (*e)[n] == '=') {
                        ASSERT_TRUE(!found); /* no name twice */
                        found = *e + n + 1;
                }
        return found;
}

static void test_environment_of_the_reference(void **state) {
        _cleanup_(instance_want_freep) InstanceWant *w = want(
                        "{\"image\":\"a\",\"env\":[\"A=own\",\"KONTENA_NODE_NAME=forged\"]}");
        _cleanup_strv_free_ char **env = NULL;

        ASSERT_OK(oci_env(w, &image, "node1", "/root", &env, NULL));
        ASSERT_STREQ(env_value(env, "PATH"), "/image/bin");
        ASSERT_STREQ(env_value(env, "LANG"), "C");
        ASSERT_STREQ(env_value(env, "A"), "own");
        ASSERT_STREQ(env_value(env, "HOME"), "/root");
        ASSERT_STREQ(env_value(env, "HOSTNAME"), "web-2");
        ASSERT_STREQ(env_value(env, "KONTENA_SERVICE_ID"), "sid");
        ASSERT_STREQ(env_value(env, "KONTENA_SERVICE_NAME"), "web");
        ASSERT_STREQ(env_value(env, "KONTENA_GRID_NAME"), "g01");
        ASSERT_STREQ(env_value(env, "KONTENA_PLATFORM_NAME"), "g01");
        ASSERT_STREQ(env_value(env, "KONTENA_STACK_NAME"), "s");
        ASSERT_STREQ(env_value(env, "KONTENA_NODE_NAME"), "node1");
        ASSERT_STREQ(env_value(env, "KONTENA_SERVICE_INSTANCE_NUMBER"), "2");
}

static void test_path_has_a_default(void **state) {
        _cleanup_(instance_want_freep) InstanceWant *w = want("{\"image\":\"a\"}");
        _cleanup_strv_free_ char **env = NULL;

        ASSERT_OK(oci_env(w, &bare, "n", NULL, &env, NULL));
        ASSERT_TRUE(strstr(env_value(env, "PATH"), "/usr/bin"));
        ASSERT_TRUE(!env_value(env, "HOME"));
}

/* The service's own are checked elsewhere; an image may bring such a one too. */
static void test_giant_entry_is_a_configuration_error(void **state) {
        _cleanup_(instance_want_freep) InstanceWant *w = want("{\"image\":\"a\"}");
        _cleanup_free_ char *entry = malloc(ENV_ENTRY_SIZE_MAX + 2);
        char *entries[] = { entry, NULL };
        const Image giant = { .env = entries };
        _cleanup_kerror_ KError e = KERROR_NULL;
        _cleanup_strv_free_ char **env = NULL;

        /* With its NUL it must fit in what the kernel takes as one string. */
        memset(entry, 'x', ENV_ENTRY_SIZE_MAX);
        entry[1] = '=';
        entry[ENV_ENTRY_SIZE_MAX] = '\0';
        ASSERT_ERROR(oci_env(w, &giant, "n", NULL, &env, &e), E2BIG);
        entry[ENV_ENTRY_SIZE_MAX - 1] = '\0';
        ASSERT_OK(oci_env(w, &giant, "n", NULL, &env, NULL));
}

#define ALL_CAPABILITIES ((UINT64_C(1) << 41) - 1)

static void test_capabilities(void **state) {
        const uint64_t chown = UINT64_C(1) << CAP_CHOWN, net_admin = UINT64_C(1) << CAP_NET_ADMIN,
                       admin = UINT64_C(1) << CAP_SYS_ADMIN;
        static const struct {
                const char *spec;
                int n;
        } counts[] = {
                { "{\"image\":\"a\"}", 14 },
                { "{\"image\":\"a\",\"cap_add\":[\"NET_ADMIN\"]}", 15 },
                { "{\"image\":\"a\",\"cap_drop\":[\"CHOWN\"]}", 13 },
                { "{\"image\":\"a\",\"cap_drop\":[\"ALL\"]}", 0 },
                { "{\"image\":\"a\",\"cap_drop\":[\"ALL\"],\"cap_add\":[\"CHOWN\",\"KILL\"]}", 2 },
                { "{\"image\":\"a\",\"cap_add\":[\"ALL\"],\"cap_drop\":[\"SYS_ADMIN\"]}", 40 },
                { "{\"image\":\"a\",\"privileged\":true}", 41 },
        };
        _cleanup_(instance_want_freep) InstanceWant *w = want("{\"image\":\"a\"}");
        uint64_t mask;

        mask = oci_capabilities(w->spec, ALL_CAPABILITIES);
        ASSERT_TRUE(mask & chown);
        ASSERT_FALSE(mask & (net_admin | admin));
        for (size_t i = 0; i < ELEMENTSOF(counts); i++) {
                _cleanup_(instance_want_freep) InstanceWant *v = want(counts[i].spec);

                ASSERT_EQ(__builtin_popcountll(oci_capabilities(v->spec, ALL_CAPABILITIES)), counts[i].n);
        }
        /* An older kernel refuses what it does not know. */
        {
                _cleanup_(instance_want_freep)
                                InstanceWant *v = want("{\"image\":\"a\",\"privileged\":true}");

                ASSERT_EQ(__builtin_popcountll(oci_capabilities(v->spec, ALL_CAPABILITIES >> 3)), 38);
        }
        /* Nor can a machine give what it has not itself, unless somebody insists. */
        {
                const uint64_t poor = ALL_CAPABILITIES & ~(chown | admin);
                _cleanup_(instance_want_freep) InstanceWant *all = want(counts[5].spec),
                                                            *privileged = want(counts[6].spec),
                                                            *named = want(counts[4].spec);

                ASSERT_FALSE(oci_capabilities(w->spec, poor) & chown);
                ASSERT_EQ(oci_capabilities(all->spec, poor), poor);
                ASSERT_EQ(oci_capabilities(privileged->spec, poor), poor);
                ASSERT_TRUE(oci_capabilities(named->spec, poor) & chown);
        }
}

static json_object *build(const char *spec, const Image *i, const char *netns) {
        _cleanup_(instance_want_freep) InstanceWant *w = want(spec);
        _cleanup_kerror_ KError e = KERROR_NULL;
        gid_t groups[] = { 5, 6 };
        UserIdentity identity = {
                .uid = 33, .gid = 34, .groups = groups, .n_groups = 2, .home = (char *) "/var/www"
        };
        OciMount mounts[] = { { (char *) "/var/lib/kontena/volumes/v", (char *) "/data", true, NULL } };
        OciDevice devices[] = { { (char *) "/dev/fuse", S_IFCHR | 0666, makedev(10, 229), 0, 0 } };
        json_object *o = NULL;
        OciInput in = {
                .want = w,
                .image = i,
                .node_name = "node1",
                .root_path = "/run/r",
                .files_directory = "/run/f",
                .output_directory = "/run/f",
                .netns_path = netns,
                .cgroup_path = "/kontena.slice/x/container",
                .identity = &identity,
                .mounts = mounts,
                .n_mounts = 1,
                .devices = devices,
                .n_devices = 1,
                .capabilities = ALL_CAPABILITIES,
        };

        if (oci_config_build(&in, &o, &e) < 0)
                fail_msg("%s", kerror_message(&e));
        return o;
}

static json_object *at(json_object *o, const char *a, const char *b) {
        json_object *v = json_object_object_get(o, a);

        return b ? json_object_object_get(v, b) : v;
}

static json_object *find_by(json_object *array, const char *key, const char *value) {
        FOREACH_JSON_ARRAY(e, array)
                if (streq_ptr(json_object_get_string(json_object_object_get(e, key)), value))
                        return e;
        return NULL;
}

static bool array_has(json_object *array, const char *s) {
        FOREACH_JSON_ARRAY(e, array)
                if (streq(json_object_get_string(e), s))
                        return true;
        return false;
}

static void test_ordinary_container(void **state) {
        _cleanup_json_ json_object *o = build("{\"image\":\"a\"}", &image, "/run/netns/kt-abc");
        json_object *process = at(o, "process", NULL), *namespaces = at(o, "linux", "namespaces"),
                    *mounts = at(o, "mounts", NULL), *m;

        ASSERT_STREQ(json_object_get_string(at(o, "root", "path")), "/run/r");
        ASSERT_FALSE(json_object_get_boolean(at(o, "root", "readonly")));
        ASSERT_FALSE(json_object_get_boolean(at(process, "terminal", NULL)));
        ASSERT_FALSE(json_object_get_boolean(at(process, "noNewPrivileges", NULL)));
        ASSERT_EQ(json_object_get_int(at(process, "user", "uid")), 33);
        ASSERT_EQ(json_object_get_int(at(process, "user", "gid")), 34);
        ASSERT_EQ(json_object_array_length(at(process, "user", "additionalGids")), 2);
        ASSERT_STREQ(json_object_get_string(at(process, "cwd", NULL)), "/srv");
        ASSERT_EQ(json_object_array_length(at(process, "capabilities", "bounding")), 14);
        ASSERT_TRUE(!at(process, "capabilities", "ambient"));
        ASSERT_STREQ(json_object_get_string(at(o, "hostname", NULL)), "web-2");
        ASSERT_STREQ(json_object_get_string(at(o, "linux", "cgroupsPath")), "/kontena.slice/x/container");

        ASSERT_STREQ(json_object_get_string(at(find_by(namespaces, "type", "network"), "path", NULL)),
                        "/run/netns/kt-abc");
        ASSERT_TRUE(find_by(namespaces, "type", "pid") && find_by(namespaces, "type", "mount") &&
                        find_by(namespaces, "type", "cgroup"));

        ASSERT_TRUE(array_has(at(o, "linux", "maskedPaths"), "/proc/kcore"));
        ASSERT_TRUE(array_has(at(o, "linux", "readonlyPaths"), "/proc/sys"));
        ASSERT_TRUE(at(o, "linux", "seccomp"));
        ASSERT_TRUE(!at(o, "linux", "resources")); /* limits are the unit's */
        ASSERT_TRUE(array_has(at(find_by(mounts, "destination", "/sys"), "options", NULL), "ro"));
        ASSERT_STREQ(json_object_get_string(
                                     at(find_by(mounts, "destination", "/etc/hosts"), "source", NULL)),
                        "/run/f/hosts");
        ASSERT_TRUE(array_has(
                        at(find_by(mounts, "destination", "/dev/shm"), "options", NULL), "size=67108864"));
        ASSERT_STREQ(json_object_get_string(
                                     at(find_by(mounts, "destination", "/dev/stdout"), "source", NULL)),
                        "/run/f/output");
        ASSERT_STREQ(json_object_get_string(
                                     at(find_by(mounts, "destination", "/dev/stderr"), "source", NULL)),
                        "/run/f/output");
        m = find_by(mounts, "destination", "/data");
        ASSERT_TRUE(array_has(at(m, "options", NULL), "ro") && array_has(at(m, "options", NULL), "rbind"));
        m = find_by(at(o, "linux", "devices"), "path", "/dev/fuse");
        ASSERT_EQ(json_object_get_int(at(m, "major", NULL)), 10);
        ASSERT_STREQ(json_object_get_string(at(o, "annotations", "io.kontena.service.name")), "web");
}

static void test_privileged(void **state) {
        _cleanup_json_ json_object *o = build(
                        "{\"image\":\"a\",\"privileged\":true}", &image, "/run/netns/kt-abc");

        ASSERT_TRUE(!at(o, "linux", "seccomp") && !at(o, "linux", "maskedPaths") &&
                        !at(o, "linux", "readonlyPaths"));
        ASSERT_FALSE(array_has(
                        at(find_by(at(o, "mounts", NULL), "destination", "/sys"), "options", NULL), "ro"));
        ASSERT_EQ(json_object_array_length(at(at(o, "process", NULL), "capabilities", "effective")), 41);
}

static void test_host_network_and_pid(void **state) {
        _cleanup_json_ json_object *o = build(
                        "{\"image\":\"a\",\"net\":\"host\",\"pid\":\"host\"}", &image, NULL);
        json_object *namespaces = at(o, "linux", "namespaces");

        ASSERT_TRUE(!find_by(namespaces, "type", "network") && !find_by(namespaces, "type", "pid") &&
                        !find_by(namespaces, "type", "uts"));
        ASSERT_TRUE(!at(o, "hostname", NULL));
        ASSERT_TRUE(!at(o, "linux", "sysctl"));
}

static void test_overrides(void **state) {
        _cleanup_json_ json_object *o = build("{\"image\":\"a\",\"read_only\":true,\"working_dir\":\"/"
                                              "x\",\"hostname\":\"h\",\"shm_size\":4096}",
                        &image, "/run/netns/kt-abc");

        ASSERT_TRUE(json_object_get_boolean(at(o, "root", "readonly")));
        ASSERT_STREQ(json_object_get_string(at(at(o, "process", NULL), "cwd", NULL)), "/x");
        ASSERT_STREQ(json_object_get_string(at(o, "hostname", NULL)), "h");
        ASSERT_TRUE(array_has(at(find_by(at(o, "mounts", NULL), "destination", "/dev/shm"), "options", NULL),
                        "size=4096"));
}

static void test_files(void **state) {
        _cleanup_(instance_want_freep) InstanceWant *w = want("{\"image\":\"a\"}");
        _cleanup_free_ char *hosts = oci_hosts_file(w), *resolv = oci_resolv_file(w, "10.81.0.1");

        ASSERT_TRUE(strstr(hosts, "127.0.0.1 localhost\n"));
        ASSERT_TRUE(strstr(hosts, "10.81.128.5 web-2.s.g01.kontena.local web-2\n"));
        ASSERT_STREQ(resolv, "nameserver 10.81.0.1\nsearch s.g01.kontena.local g01.kontena.local\n");
}

static bool profile_allows(json_object *profile, const char *name) {
        FOREACH_JSON_ARRAY(rule, json_object_object_get(profile, "syscalls"))
                if (array_has(json_object_object_get(rule, "names"), name) &&
                                !json_object_object_get(rule, "args") &&
                                streq(json_object_get_string(json_object_object_get(rule, "action")),
                                                "SCMP_ACT_ALLOW"))
                        return true;
        return false;
}

static void test_seccomp_profile(void **state) {
        _cleanup_json_ json_object *plain = NULL, *admin = NULL;

        ASSERT_OK(seccomp_profile_build(0, &plain));
        ASSERT_OK(seccomp_profile_build(UINT64_C(1) << CAP_SYS_ADMIN, &admin));
        ASSERT_STREQ(json_object_get_string(json_object_object_get(plain, "defaultAction")),
                        "SCMP_ACT_ERRNO");
        ASSERT_TRUE(json_object_array_length(json_object_object_get(plain, "architectures")) > 0);
        ASSERT_TRUE(profile_allows(plain, "read") && profile_allows(plain, "execve") &&
                        profile_allows(plain, "futex"));
        ASSERT_FALSE(profile_allows(plain, "mount") || profile_allows(plain, "bpf") ||
                        profile_allows(plain, "kexec_load"));
        ASSERT_FALSE(profile_allows(plain, "keyctl") || profile_allows(plain, "io_uring_setup") ||
                        profile_allows(plain, "clone3"));
        ASSERT_TRUE(profile_allows(admin, "mount") && profile_allows(admin, "clone3") &&
                        profile_allows(admin, "unshare"));
        ASSERT_FALSE(profile_allows(admin, "init_module"));
        /* What no architecture here knows is left out. */
        ASSERT_FALSE(strstr(json_text(plain), "\"riscv_hwprobe\"") &&
                        strstr(json_text(plain), "SCMP_ARCH_X86_64"));
}

KONTENA_TESTS(cmocka_unit_test(test_entrypoint_and_command),
                cmocka_unit_test(test_nothing_to_run_is_an_error),
                cmocka_unit_test(test_environment_of_the_reference),
                cmocka_unit_test(test_path_has_a_default),
                cmocka_unit_test(test_giant_entry_is_a_configuration_error),
                cmocka_unit_test(test_capabilities), cmocka_unit_test(test_ordinary_container),
                cmocka_unit_test(test_privileged), cmocka_unit_test(test_host_network_and_pid),
                cmocka_unit_test(test_overrides), cmocka_unit_test(test_files),
                cmocka_unit_test(test_seccomp_profile))
