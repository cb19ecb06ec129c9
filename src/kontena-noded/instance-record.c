/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "instance-record.h"

#include "file-util.h"
#include "json-util.h"
#include "string-util.h"

#define RECORD_SIZE_MAX (64U * 1024U)

void instance_record_done(InstanceRecord *r) {
        free(r->image_digest);
        free(r->image);
        free(r->unit);
        free(r->grid);
        free(r->stack);
        free(r->service);
        free(r->address);
        free(r->run_error);
        free(r->run_boot);
        strv_free(r->hooks_done);
        strv_free(r->volumes);
        *r = (InstanceRecord){};
}

/* One row for each field: reading and writing cannot drift apart. */
typedef enum FieldType {
        FIELD_U64,
        FIELD_STRING,
        FIELD_BOOL,
        FIELD_STRV,
} FieldType;

static const struct {
        const char *key;
        FieldType type;
        size_t offset;
} fields[] = {
        { "generation", FIELD_U64, offsetof(InstanceRecord, generation) },
        { "deploy_rev", FIELD_U64, offsetof(InstanceRecord, deploy_rev) },
        { "service_rev", FIELD_U64, offsetof(InstanceRecord, service_rev) },
        { "epoch", FIELD_U64, offsetof(InstanceRecord, epoch) },
        { "restarts", FIELD_U64, offsetof(InstanceRecord, restarts) },
        { "oom_kills", FIELD_U64, offsetof(InstanceRecord, oom_kills) },
        { "started_at", FIELD_U64, offsetof(InstanceRecord, started_at) },
        { "main_pid", FIELD_U64, offsetof(InstanceRecord, main_pid) },
        { "image_digest", FIELD_STRING, offsetof(InstanceRecord, image_digest) },
        { "image", FIELD_STRING, offsetof(InstanceRecord, image) },
        { "unit", FIELD_STRING, offsetof(InstanceRecord, unit) },
        { "grid", FIELD_STRING, offsetof(InstanceRecord, grid) },
        { "stack", FIELD_STRING, offsetof(InstanceRecord, stack) },
        { "service", FIELD_STRING, offsetof(InstanceRecord, service) },
        { "address", FIELD_STRING, offsetof(InstanceRecord, address) },
        { "host_network", FIELD_BOOL, offsetof(InstanceRecord, host_network) },
        { "notified", FIELD_BOOL, offsetof(InstanceRecord, notified) },
        { "ready", FIELD_BOOL, offsetof(InstanceRecord, ready) },
        { "proven", FIELD_BOOL, offsetof(InstanceRecord, proven) },
        { "stopped", FIELD_BOOL, offsetof(InstanceRecord, stopped) },
        { "run_started", FIELD_BOOL, offsetof(InstanceRecord, run_started) },
        { "run_over", FIELD_BOOL, offsetof(InstanceRecord, run_over) },
        { "run_exited", FIELD_BOOL, offsetof(InstanceRecord, run_exited) },
        { "run_status", FIELD_U64, offsetof(InstanceRecord, run_status) },
        { "run_error", FIELD_STRING, offsetof(InstanceRecord, run_error) },
        { "run_boot", FIELD_STRING, offsetof(InstanceRecord, run_boot) },
        { "volumes", FIELD_STRV, offsetof(InstanceRecord, volumes) },
        { "hooks_done", FIELD_STRV, offsetof(InstanceRecord, hooks_done) },
        { "hooked", FIELD_BOOL, offsetof(InstanceRecord, hooked) },
        { "pre_started", FIELD_BOOL, offsetof(InstanceRecord, pre_started) },
        { "post_start_epoch", FIELD_U64, offsetof(InstanceRecord, post_start_epoch) },
        { "pre_stop_epoch", FIELD_U64, offsetof(InstanceRecord, pre_stop_epoch) },
};

static int read_field(json_object *o, const char *key, FieldType type, void *field) {
        const char *s = NULL;
        int r;

        switch (type) {
        case FIELD_U64:
                return json_find_u64(o, key, field, NULL);
        case FIELD_BOOL:
                return json_find_bool(o, key, field, NULL);
        case FIELD_STRV:
                return json_find_strv(o, key, field, NULL);
        case FIELD_STRING:
                r = json_find_string(o, key, &s, NULL);
                if (r > 0)
                        r = free_and_strdup(field, s);
                return r;
        default:
                assert(false);
                return -EINVAL;
        }
}

int instance_record_load(const char *path, InstanceRecord *ret) {
        _cleanup_(instance_record_done) InstanceRecord record = {};
        _cleanup_json_ json_object *o = NULL;
        _cleanup_free_ char *text = NULL;
        uint64_t number = 0;
        size_t size;
        int r;

        r = read_file(path, RECORD_SIZE_MAX, &text, &size);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return r;

        if (json_parse(text, size, RECORD_SIZE_MAX, &o, NULL) < 0)
                return -EBADMSG;
        for (size_t i = 0; i < ELEMENTSOF(fields); i++) {
                r = read_field(o, fields[i].key, fields[i].type, (uint8_t *) &record + fields[i].offset);
                if (r < 0)
                        return r == -ENOMEM ? r : -EBADMSG;
        }
        if (json_find_u64(o, "number", &number, NULL) < 0 || number > UINT32_MAX)
                return -EBADMSG;
        record.number = (unsigned) number;
        if (record.generation > 0 && (isempty(record.unit) || isempty(record.grid)))
                return -EBADMSG;

        *ret = record;
        record = (InstanceRecord){};
        return 1;
}

int instance_record_save(const char *path, const InstanceRecord *record) {
        _cleanup_json_ json_object *o = NULL;
        const char *text;
        int r;

        o = json_object_new_object();
        if (!o)
                return -ENOMEM;

        for (size_t i = 0; i < ELEMENTSOF(fields); i++) {
                const void *field = (const uint8_t *) record + fields[i].offset;

                if (fields[i].type == FIELD_U64)
                        r = json_add_u64(o, fields[i].key, *(const uint64_t *) field);
                else if (fields[i].type == FIELD_BOOL)
                        r = json_add_bool(o, fields[i].key, *(const bool *) field);
                else if (fields[i].type == FIELD_STRV)
                        r = json_add_strv(o, fields[i].key, *(char **const *) field);
                else
                        r = json_add_string(o, fields[i].key, *(char *const *) field);
                if (r < 0)
                        return r;
        }
        r = json_add_u64(o, "number", record->number);
        if (r < 0)
                return r;

        text = json_text(o);
        if (!text)
                return -ENOMEM;

        return write_file_atomic(path, text, strlen(text), 0600);
}
