/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Pulls images as noded does, by hand and for lab tests: real units, real registries.
 *
 *   test-pull-driver STORE CA-FILE REFERENCE...      a reference of "-" collects at once what is unused
 *
 * KONTENA_PULL names another kontena-pull, KONTENA_USER and KONTENA_PASSWORD are sent to every registry. */

#include <stdio.h>

#include "file-util.h"
#include "image-store.h"
#include "log.h"
#include "pull.h"
#include "string-util.h"

typedef struct Driver {
        sd_event *event;
        size_t n_waiting;
        size_t n_failed;
} Driver;

static void on_progress(Pull *p, const PullProgress *progress, void *userdata) {
        printf("progress %llu of %llu%s%s\n", (unsigned long long) progress->bytes,
                        (unsigned long long) progress->total, progress->waiting ? " waiting" : "",
                        progress->unpacking ? " unpacking" : "");
        (void) fflush(stdout);
}

static void on_done(Pull *p, int result, Image *image, const KError *error, void *userdata) {
        Driver *d = userdata;

        if (image) {
                printf("image %s %s\n", image->digest, strnull(image->reference));
                STRV_FOREACH(l, image->layers)
                        printf("layer %s\n", *l);
        }
        if (error)
                printf("error %s: %s\n", kerror_bus_name(error->code), kerror_message(error));
        d->n_failed += result < 0;
        if (--d->n_waiting == 0)
                (void) sd_event_exit(d->event, d->n_failed > 0 ? EXIT_FAILURE : EXIT_SUCCESS);
}

static int open_credentials(const char *registry, char **ret_username, char **ret_password, KError *reterr,
                void *userdata) {
        const char *user = getenv("KONTENA_USER"), *password = getenv("KONTENA_PASSWORD");

        if (!user || !password)
                return 0;
        *ret_username = strdup(user);
        *ret_password = strdup(password);
        return *ret_username && *ret_password ? 1 : -ENOMEM;
}

static int run(int argc, char *argv[]) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
        _cleanup_(image_store_freep) ImageStore *store = NULL;
        _cleanup_(pull_manager_freep) PullManager *m = NULL;
        const RegistryCredentials credentials = { .open = open_credentials };
        const char *program = getenv("KONTENA_PULL");
        Driver d = {};
        int r;

        if ((r = sd_event_default(&event)) < 0 || (r = sd_bus_open_system(&bus)) < 0 ||
                        (r = sd_bus_attach_event(bus, event, SD_EVENT_PRIORITY_NORMAL)) < 0 ||
                        (r = image_store_new(argv[1], &store)) < 0 ||
                        (r = pull_manager_new(event, bus, store, &m)) < 0 ||
                        (r = pull_manager_set_ca_file(m, empty_to_null(argv[2]))) < 0 ||
                        (program && (r = pull_manager_set_program(m, program)) < 0))
                return log_error_errno(r, "Cannot set up: %m");

        pull_manager_set_credentials(m, &credentials);
        d.event = event;
        for (int i = 3; i < argc; i++) {
                _cleanup_kerror_ KError e = KERROR_NULL;
                Pull *p;

                if (streq(argv[i], "-")) {
                        r = image_store_collect(store, NULL, now_monotonic(), 0);
                        printf("collected %i\n", r);
                        while (r >= 0 && image_store_step(store) == IMAGE_STORE_AGAIN)
                                ;
                        continue;
                }
                r = pull_image(m, argv[i], NULL, on_progress, on_done, &d, &p, &e);
                if (r < 0)
                        return log_error_errno(r, "%s", kerror_message(&e));
                d.n_waiting++;
        }

        return d.n_waiting > 0 ? sd_event_loop(event) : 0;
}

int main(int argc, char *argv[]) {
        log_setup();
        if (argc < 4) {
                fprintf(stderr, "%s STORE CA-FILE REFERENCE...\n", argv[0]);
                return 2;
        }

        return run(argc, argv) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
