/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "volumes.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "device-list.h"
#include "file-util.h"
#include "json-util.h"
#include "test.h"

static InstanceWant *want(const char *volumes, bool stateful) {
        _cleanup_free_ char *text = NULL;
        _cleanup_json_ json_object *o = NULL;
        InstanceWant *w = NULL;

        text = strprintf("{\"number\":1,\"grid\":\"g01\",\"stack\":\"null\",\"service\":\"web\",\"desired\":"
                         "\"running\",\"deploy_rev\":1,"
                         "\"service_rev\":1,\"address\":\"10.81.128.5\",\"stateful\":%s,\"spec\":{\"image\":"
                         "\"a\",\"volumes\":%s}}",
                        stateful ? "true" : "false", volumes);
        ASSERT_OK(json_parse(text, strlen(text), 65536, &o, NULL));
        ASSERT_OK(instance_want_parse("abc", o, &w, NULL));
        return w;
}

static VolumePlan *plan(const char *volumes, bool stateful, char *const *declared, const char *directory) {
        _cleanup_(instance_want_freep) InstanceWant *w = want(volumes, stateful);
        _cleanup_free_ char *instance = strjoin(directory, "/i"),
                            *generation = strjoin(directory, "/i/gen-1"), *named = strjoin(directory, "/v"),
                            *root = strjoin(directory, "/root");
        const Image image = { .volumes = (char **) declared };
        VolumePlan *p = NULL;

        ASSERT_OK(volume_plan_new(w, &image, instance, generation, named, root, &p, NULL));
        return p;
}

static const char *source_of(const VolumePlan *p, const char *path) {
        FOREACH_ARRAY(v, p->volumes, p->n_volumes)
                if (streq(v->mount.path, path))
                        return v->mount.source;
        return NULL;
}

static void test_where_volumes_are(void **state) {
        char *const declared[] = { (char *) "/data", (char *) "/own", NULL };
        _cleanup_(volume_plan_freep)
                        VolumePlan *stateless = plan("[\"/own\",\"db:/named:ro\",\"/host:/bind\"]", false,
                                                   declared, "/d"),
                                   *stateful = plan("[\"/a-b/c\"]", true, declared, "/d");

        ASSERT_EQ(stateless->n_volumes, 4);
        ASSERT_STREQ(source_of(stateless, "/own"), "/d/i/gen-1/volumes/own");
        ASSERT_STREQ(source_of(stateless, "/data"), "/d/i/gen-1/volumes/data");
        ASSERT_STREQ(source_of(stateless, "/named"), "/d/v/db");
        ASSERT_STREQ(source_of(stateless, "/bind"), "/host");
        ASSERT_TRUE(stateless->volumes[1].mount.read_only);
        /* Kept over re-creation, and no two paths have one name. */
        ASSERT_STREQ(source_of(stateful, "/a-b/c"), "/d/i/volumes/a%2db-c");
        ASSERT_STREQ(source_of(stateful, "/data"), "/d/i/volumes/data");
}

static void test_a_named_volume_is_where_the_master_says(void **state) {
        static const char text[] = "{\"number\":1,\"grid\":\"g01\",\"stack\":\"null\",\"service\":\"web\","
                                   "\"desired\":\"running\","
                                   "\"deploy_rev\":1,\"service_rev\":1,\"address\":\"10.81.128.5\","
                                   "\"volumes\":{\"db\":{\"name\":"
                                   "\"web.db-1\",\"driver\":\"local\",\"size_max\":7}},\"spec\":{\"image\":"
                                   "\"a\",\"volumes\":"
                                   "[\"db:/named\",\"/srv:/bind\"]}}";
        char directory[] = "/tmp/test-volumes.XXXXXX";
        _cleanup_(instance_want_freep) InstanceWant *w = NULL;
        _cleanup_(volume_plan_freep) VolumePlan *p = NULL, *none = NULL;
        _cleanup_free_ char *named = NULL, *path = NULL;
        _cleanup_kerror_ KError error = KERROR_NULL;
        _cleanup_json_ json_object *o = NULL;
        const Image image = {};

        ASSERT_TRUE(mkdtemp(directory));
        named = strjoin(directory, "/v");
        path = strjoin(named, "/web.db-1");
        ASSERT_OK(json_parse(text, strlen(text), 65536, &o, NULL));
        ASSERT_OK(instance_want_parse("abc", o, &w, NULL));
        ASSERT_TRUE(instance_want_uses_volume(w, "web.db-1"));
        ASSERT_FALSE(instance_want_uses_volume(w, "db"));
        ASSERT_FALSE(instance_want_uses_volume(w, "/srv"));

        ASSERT_OK(volume_plan_new(w, &image, directory, directory, named, directory, &p, NULL));
        ASSERT_STREQ(source_of(p, "/named"), path);
        ASSERT_EQ(p->volumes[0].size_max, 7);

        /* Somebody has put a link there. */
        ASSERT_OK(mkdir_p(named, 0700));
        ASSERT_TRUE(symlink("/etc", path) >= 0);
        ASSERT_TRUE(volume_plan_new(w, &image, directory, directory, named, directory, &none, &error) < 0);
        ASSERT_TRUE(strstr(kerror_message(&error), "web.db-1"));
        ASSERT_TRUE(volume_plan_carry_out(p) < 0);
        ASSERT_OK(rm_rf_at(AT_FDCWD, directory));
}

static void write_at(const char *directory, const char *name, const char *text) {
        _cleanup_free_ char *path = strjoin(directory, "/", name);

        ASSERT_OK(write_file_atomic(path, text, strlen(text), 0640));
}

static void test_new_volume_has_the_images_content(void **state) {
        _cleanup_free_ char *text = NULL, *data = NULL, *file = NULL, *kept = NULL;
        _cleanup_(volume_plan_freep) VolumePlan *p = NULL;
        char directory[] = "/tmp/test-volumes.XXXXXX";
        struct stat st;

        ASSERT_TRUE(mkdtemp(directory));
        data = strjoin(directory, "/root/usr/data/sub");
        ASSERT_OK(mkdir_p(data, 0755));
        write_at(data, "file", "content");
        /* The image's path is a link that would lead out; it ends inside the root. */
        file = strjoin(directory, "/root/data");
        ASSERT_TRUE(symlink("/usr/data", file) >= 0);
        free(data);
        data = strjoin(directory, "/root/usr/data");
        ASSERT_TRUE(chmod(data, 0751) >= 0);

        p = plan("[\"/data\",\"db:/empty\"]", true, NULL, directory);
        ASSERT_TRUE(volume_plan_is_needed(p));
        ASSERT_OK(volume_plan_carry_out(p));
        ASSERT_FALSE(volume_plan_is_needed(p));

        kept = strjoin(directory, "/i/volumes/data/sub/file");
        ASSERT_OK(read_file(kept, 100, &text, NULL));
        ASSERT_STREQ(text, "content");
        free(data);
        data = strjoin(directory, "/i/volumes/data");
        ASSERT_TRUE(stat(data, &st) >= 0 && (st.st_mode & 07777) == 0751);
        free(data);
        data = strjoin(directory, "/v/db");
        ASSERT_TRUE(stat(data, &st) >= 0 && S_ISDIR(st.st_mode));

        /* What is there already is the user's. */
        write_at(directory, "i/volumes/data/sub/file", "changed");
        ASSERT_OK(volume_plan_carry_out(p));
        text = mfree(text);
        ASSERT_OK(read_file(kept, 100, &text, NULL));
        ASSERT_STREQ(text, "changed");
        ASSERT_OK(rm_rf_at(AT_FDCWD, directory));
}

static void test_half_made_volume_is_made_again(void **state) {
        _cleanup_(volume_plan_freep) VolumePlan *p = NULL;
        _cleanup_free_ char *half = NULL, *data = NULL, *whole = NULL;
        char directory[] = "/tmp/test-volumes.XXXXXX";

        ASSERT_TRUE(mkdtemp(directory));
        data = strjoin(directory, "/root/data");
        half = strjoin(directory, "/i/volumes/%new-data");
        whole = strjoin(directory, "/i/volumes/data/half");
        ASSERT_OK(mkdir_p(data, 0755));
        ASSERT_OK(mkdir_p(half, 0755));
        write_at(half, "half", "x");

        p = plan("[\"/data\"]", true, NULL, directory);
        ASSERT_OK(volume_plan_carry_out(p));
        ASSERT_TRUE(access(whole, F_OK) < 0);
        ASSERT_OK(rm_rf_at(AT_FDCWD, directory));
}

/* The name of what is made is not that of another volume. */
static void test_a_new_volume_leaves_those_beside_it(void **state) {
        const char *const names[] = { "data.new", "new%2ddata", ".new%2ddata", "%25new%2ddata" };
        char directory[] = "/tmp/test-volumes.XXXXXX";
        _cleanup_(volume_plan_freep) VolumePlan *p = NULL;

        ASSERT_TRUE(mkdtemp(directory));
        FOREACH_ARRAY(n, names, ELEMENTSOF(names)) {
                _cleanup_free_ char *path = strjoin(directory, "/i/volumes/", *n);

                ASSERT_OK(mkdir_p(path, 0755));
                write_at(path, "file", "precious");
        }
        p = plan("[\"/data\",\"/data.new\",\"/new-data\",\"/.new-data\",\"/%new-data\"]", true, NULL,
                        directory);
        ASSERT_OK(volume_plan_carry_out(p));
        FOREACH_ARRAY(n, names, ELEMENTSOF(names)) {
                _cleanup_free_ char *path = strjoin(directory, "/i/volumes/", *n, "/file"), *text = NULL;

                ASSERT_OK(read_file(path, 100, &text, NULL));
                ASSERT_STREQ(text, "precious");
        }
        ASSERT_OK(rm_rf_at(AT_FDCWD, directory));
}

static void test_devices_of_this_machine(void **state) {
        _cleanup_(instance_want_freep) InstanceWant *w = want("[]", false);
        _cleanup_(device_list_done) DeviceList l = {};
        _cleanup_kerror_ KError e = KERROR_NULL;
        DeviceList none = {};

        ASSERT_OK(strv_extend(&w->spec->devices, "/dev/null:/dev/other:r"));
        ASSERT_OK(device_list_resolve(w->spec, &l, NULL));
        ASSERT_EQ(l.n_devices, 1);
        ASSERT_STREQ(l.devices[0].path, "/dev/other");
        ASSERT_TRUE(S_ISCHR(l.devices[0].mode));
        ASSERT_STREQ(l.allow[0], "/dev/null rm");

        ASSERT_OK(strv_extend(&w->spec->devices, "/dev/no-such-device"));
        ASSERT_TRUE(device_list_resolve(w->spec, &none, &e) < 0);
        ASSERT_TRUE(strstr(kerror_message(&e), "/dev/no-such-device"));
}

KONTENA_TESTS(cmocka_unit_test(test_where_volumes_are),
                cmocka_unit_test(test_a_named_volume_is_where_the_master_says),
                cmocka_unit_test(test_new_volume_has_the_images_content),
                cmocka_unit_test(test_half_made_volume_is_made_again),
                cmocka_unit_test(test_a_new_volume_leaves_those_beside_it),
                cmocka_unit_test(test_devices_of_this_machine))
