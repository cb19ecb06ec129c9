/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "record.h"

#include "file-util.h"
#include "image-layout.h"
#include "json-util.h"
#include "string-util.h"

static int write_json(const Record *d, const char *directory, const char *file, json_object *o) {
        _cleanup_free_ char *path = NULL;
        const char *text;

        path = strjoin(d->request->store, "/", directory, "/", file);
        text = json_text(o);
        if (!path || !text)
                return -ENOMEM;

        return write_file_atomic(path, text, strlen(text), 0600);
}

static int write_image(const Record *d) {
        const ImageConfig *c = d->config;
        _cleanup_json_ json_object *o = NULL;
        _cleanup_free_ char *file = NULL;
        int r;

        o = json_object_new_object();
        file = strjoin(digest_hex(d->digest), ".json");
        if (!o || !file)
                return -ENOMEM;
        if ((r = json_add_u64(o, "version", IMAGE_RECORD_VERSION)) < 0 ||
                        (r = json_add_string(o, "digest", d->digest)) < 0 ||
                        (r = json_add_string(o, "index_digest", d->index_digest)) < 0 ||
                        (r = json_add_string(o, "config_digest", d->manifest->config.digest)) < 0 ||
                        (r = json_add_string(o, "reference", d->request->normalized)) < 0 ||
                        (r = json_add_string(o, "architecture",
                                         c->architecture ?: d->request->architecture)) < 0 ||
                        (r = json_add_strv(o, "env", c->env)) < 0 ||
                        (r = json_add_strv(o, "entrypoint", c->entrypoint)) < 0 ||
                        (r = json_add_strv(o, "cmd", c->cmd)) < 0 ||
                        (r = json_add_string(o, "user", c->user)) < 0 ||
                        (r = json_add_string(o, "working_directory", c->working_directory)) < 0 ||
                        (r = json_add_string(o, "stop_signal", c->stop_signal)) < 0 ||
                        (r = json_add_strv(o, "volumes", c->volumes)) < 0 ||
                        (r = json_add_strv(o, "exposed_ports", c->exposed_ports)) < 0 ||
                        (r = json_add_strv(o, "labels", c->labels)) < 0 ||
                        (r = json_add_strv(o, "layers", d->layers)) < 0 ||
                        (r = json_add_u64(o, "size", d->manifest->size)) < 0)
                return r;

        return write_json(d, IMAGE_RECORDS_DIR, file, o);
}

static int write_ref(const Record *d) {
        _cleanup_json_ json_object *o = NULL;
        _cleanup_free_ char *file = NULL;
        int r;

        o = json_object_new_object();
        file = image_ref_file_name(d->request->normalized);
        if (!o || !file)
                return -ENOMEM;
        if ((r = json_add_u64(o, "version", IMAGE_RECORD_VERSION)) < 0 ||
                        (r = json_add_string(o, "reference", d->request->normalized)) < 0 ||
                        (r = json_add_string(o, "digest", d->digest)) < 0 ||
                        (r = json_add_u64(o, "pulled_at", now_realtime())) < 0)
                return r;

        return write_json(d, IMAGE_REFS_DIR, file, o);
}

int record_write(const Record *d) {
        int r;

        r = write_image(d);
        return r < 0 ? r : write_ref(d);
}

int record_result(const Record *d, json_object **ret) {
        _cleanup_json_ json_object *o = NULL;
        int r;

        o = json_object_new_object();
        if (!o)
                return -ENOMEM;
        if ((r = json_add_string(o, "digest", d->digest)) < 0 ||
                        (r = json_add_string(o, "index", d->index_digest)) < 0 ||
                        (r = json_add_string(o, "config", d->manifest->config.digest)) < 0 ||
                        (r = json_add_strv(o, "layers", d->layers)) < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}
