/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "credentials.h"
#include "desired.h"
#include "instance-want.h"
#include "json-util.h"
#include "redact.h"
#include "string-util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Without a key none is opened, and one that is there is an error, not a pull without a password. */
static void look_for_credentials(Desired *d) {
        json_object *registries = NULL;

        if (json_find_array(desired_section(d, "node"), "registries", &registries, NULL) < 0)
                return;
        FOREACH_JSON_ARRAY(o, registries) {
                _cleanup_free_ char *mark = NULL;
                char *username = NULL, *password = NULL;
                const char *name = NULL;

                if (json_find_string(o, "name", &name, NULL) <= 0)
                        continue;
                assert(credentials_open(registries, NULL, name, &username, &password, NULL) < 0);
                assert(!username && !password);
                assert(credentials_mark(registries, name, &mark) >= 0 && mark);
        }
}

static void show(Desired *d) {
        json_object *instances = desired_section(d, "instances");

        assert(json_redact(instances) >= 0);
        json_object_object_foreach(instances, id, instance) {
                (void) id;
                assert(!json_object_is_type(instance, json_type_object) ||
                                (!json_object_object_get_ex(instance, "secrets", NULL) &&
                                                !json_object_object_get_ex(instance, "sealed", NULL)));
        }
}

/* What the master sends: a complete state, a NUL byte, a difference. Whatever it is, the daemon keeps a state that is complete, and
 * every instance in it has an id that can be a file's name. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_json_ json_object *state = NULL, *update = NULL;
        _cleanup_(desired_freep) Desired *d = NULL;
        const char *text = (const char *) data;
        const uint8_t *nul;
        size_t n;

        if (desired_new("/nonexistent/desired.json", &d) < 0)
                return 0;
        nul = memchr(data, 0, size);
        n = nul ? (size_t) (nul - data) : size;
        if (json_parse(text, n, 65536, &state, NULL) < 0 || desired_replace(d, 1, state, NULL) < 0)
                return 0;
        if (nul && json_parse(text + n + 1, size - n - 1, 65536, &update, NULL) >= 0)
                (void) desired_update(d, update, NULL);

        assert(desired_is_complete(d));
        assert(json_object_is_type(desired_section(d, "instances"), json_type_object));
        json_object_object_foreach(desired_section(d, "instances"), id, instance) {
                _cleanup_(instance_want_freep) InstanceWant *w = NULL;
                _cleanup_kerror_ KError error = KERROR_NULL;

                assert(!strchr(id, '/') && id[0] != '.');
                if (instance_want_parse(id, instance, &w, &error) >= 0) {
                        assert(!strchr(w->unit, '/') && !strchr(w->slice, '/'));
                        STRV_FOREACH(s, w->search)
                                assert(!strchr(*s, '\n'));
                } else
                        assert(kerror_is_set(&error));
        }
        look_for_credentials(d);
        show(d);

        return 0;
}
