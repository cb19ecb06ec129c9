/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test-master.h"

#include "test.h"

#include <fcntl.h>
#include <stdlib.h>

#include "ca.h"
#include "file-util.h"
#include "identity.h"
#include "keyring.h"
#include "store.h"
#include "string-util.h"

char *test_master_open(Master *m) {
        char template[] = "/var/tmp/kontena-test-XXXXXX";
        _cleanup_free_ char *path = NULL;
        char *directory;

        ASSERT_OK(unsetenv("CREDENTIALS_DIRECTORY"));
        assert_non_null(mkdtemp(template));
        directory = strdup(template);
        path = strjoin(directory, "/kontena.db");
        ASSERT_OK(sd_event_new(&m->event));
        ASSERT_OK(store_open(m->event, path, &m->store, NULL));
        ASSERT_OK(keyring_new(directory, &m->keyring, NULL));
        return directory;
}

void test_master_make_ca(Master *m, const char *directory) {
        ASSERT_OK(ca_new(m->event, m->keyring, &(CaConfig){ .state_directory = directory }, &m->ca, NULL));
}

void test_master_close(Master *m, char *directory) {
        identity_free(m->identity);
        ca_free(m->ca);
        keyring_free(m->keyring);
        store_close(m->store);
        sd_event_unref(m->event);
        ASSERT_OK(rm_rf_at(AT_FDCWD, directory));
        free(directory);
}

void test_master_add_grid(Master *m, const char *id, const char *name, const char *subnet) {
        ASSERT_OK(store_put_grid(m->store, &(GridRow){ .id = (char *) id,
                                                           .name = (char *) name,
                                                           .subnet = (char *) subnet,
                                                           .supernet = (char *) "10.80.0.0/12",
                                                           .initial_size = 1 }));
}

void test_answer_set(TestAnswer *a, json_object *result, const KError *error) {
        a->count++;
        json_object_put(a->result);
        a->result = json_object_get(result);
        kerror_done(&a->error);
        if (error)
                (void) kerror_set(&a->error, error->code, "%s", kerror_message(error));
}

void test_answer_done(TestAnswer *a) {
        json_object_put(a->result);
        kerror_done(&a->error);
        *a = (TestAnswer){};
}
