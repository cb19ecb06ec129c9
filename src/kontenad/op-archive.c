/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "caller-stream.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "node-session.h"
#include "op-internal.h"
#include "render.h"
#include "string-util.h"
#include "volume-move.h"

/* Files of instances and whole volumes, as tar streams. What is in them the master never looks at. */

static int archive_open(OperationCall *c, json_object **ret, KError *reterr) {
        static const char *const get_settings[] = { "follow", NULL }, *const put_settings[] = { "name",
                "keep-owner", NULL };
        _cleanup_(instance_row_freep) InstanceRow *instance = NULL;
        _cleanup_json_ json_object *params = json_object_new_object();
        bool put, follow = false, keep_owner = false;
        const char *mode, *path, *name = NULL;
        _cleanup_free_ char *what = NULL;
        json_object *options;
        NodeSession *session;
        int r;

        if (!params)
                return -ENOMEM;
        r = call_string(c, "mode", &mode, reterr);
        if (r < 0)
                return r;
        if (!STR_IN_SET(mode, "get", "put"))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'mode' is 'get' or 'put'.");
        put = streq(mode, "put");
        r = call_string(c, "path", &path, reterr);
        if (r >= 0)
                r = call_settings(c, "options", put ? put_settings : get_settings, &options, reterr);
        if (r >= 0)
                r = json_find_bool(options, "follow", &follow, reterr);
        if (r >= 0)
                r = json_find_bool(options, "keep-owner", &keep_owner, reterr);
        if (r >= 0)
                r = json_find_string(options, "name", &name, reterr);
        if (r < 0)
                return r;
        if (isempty(path) ||
                        (name && (isempty(name) || strchr(name, '/') || strlen(name) > LABEL_LENGTH_MAX)))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "The path is empty, or 'name' is no name.");
        r = call_instance(c, &instance, &session, reterr);
        if (r < 0)
                return r;

        if ((r = json_add_string(params, "id", instance->id)) < 0 ||
                        (r = json_add_string(params, "path", path)) < 0 ||
                        (r = put ? json_add_bool(params, "keep_owner", keep_owner)
                                 : json_add_bool(params, "follow", follow)) < 0 ||
                        (name && (r = json_add_string(params, "name", name)) < 0))
                return r;
        what = strprintf("A copy %s %s/%s-%u", put ? "into" : "out of", c->service->stack, c->service->name,
                        instance->number);
        return what ? caller_stream_open(c, session, put ? "archive-put" : "archive-get", TAKE_PTR(params),
                                      what, reterr)
                    : -ENOMEM;
}

/* The one place of a volume that was meant. */
static int select_place(OperationCall *c, const char *const *settings, VolumeRow **ret,
                VolumeInstanceRow **ret_place, KError *reterr) {
        _cleanup_(volume_instance_row_list_done) VolumeInstanceRowList places = {};
        _cleanup_(volume_row_freep) VolumeRow *v = NULL;
        int r;

        r = volume_select(c, settings, &v, &places, reterr);
        if (r < 0)
                return r;
        if (places.n > 1) {
                _cleanup_free_ char *node = node_name(c->master, places.rows[0]->node_id);

                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "Volume '%s' is in %zu places, as '%s' on node '%s'; say which one is "
                                "meant, "
                                "with --node or --instance.",
                                v->name, places.n, places.rows[0]->name, strna(node));
        }

        *ret = TAKE_PTR(v);
        *ret_place = TAKE_PTR(places.rows[0]);
        return 0;
}

static int open_volume(OperationCall *c, bool put, const char *snapshot, KError *reterr) {
        static const char *const export_settings[] = { "node", "instance", "snapshot", NULL };
        _cleanup_json_ json_object *params = json_object_new_object();
        _cleanup_(volume_instance_row_freep) VolumeInstanceRow *place = NULL;
        _cleanup_(volume_row_freep) VolumeRow *v = NULL;
        _cleanup_free_ char *what = NULL, *node = NULL;
        NodeSession *session;
        int r;

        if (!params)
                return -ENOMEM;
        r = select_place(c, put ? NULL : export_settings, &v, &place, reterr);
        if (r >= 0 && put)
                r = volume_move_check_idle(c->master->store, v, place, reterr);
        if (r < 0)
                return r;
        node = node_name(c->master, place->node_id);
        if (!node)
                return -ENOMEM;
        session = node_sessions_find(c->master->sessions, place->node_id);
        if (!session)
                return kerror_set(reterr, K_NODE_OFFLINE, "Node '%s' is offline.", node);

        r = json_add_string(params, "volume", place->name);
        if (r >= 0 && snapshot)
                r = json_add_string(params, "snapshot", snapshot);
        if (r < 0)
                return r;
        what = strprintf("The %s of volume '%s' on node '%s'", put ? "import" : "export", place->name, node);
        if (!what)
                return -ENOMEM;
        /* How it ends is in the audit, too. */
        return caller_stream_open(
                        c, session, put ? "volume-put" : "volume-get", TAKE_PTR(params), what, reterr);
}

static int volume_export(OperationCall *c, json_object **ret, KError *reterr) {
        const char *snapshot = NULL;
        json_object *options = NULL;
        int r;

        r = json_find_object(c->parameters, "options", &options, reterr);
        if (r > 0)
                r = json_find_string(options, "snapshot", &snapshot, reterr);
        return r < 0 ? r : open_volume(c, /* put= */ false, snapshot, reterr);
}

static int volume_import(OperationCall *c, json_object **ret, KError *reterr) {
        return open_volume(c, /* put= */ true, NULL, reterr);
}

const Operation archive_operations[] = {
        {
                        .name = "archive.open",
                        .method = "OpenArchive",
                        .action = "io.kontena.master1.exec",
                        .role = "member",
                        .flags = OPERATION_LONG | OPERATION_AUDITED | OPERATION_GRID | OPERATION_SERVICE,
                        .parameters = { { "grid", PARAMETER_STRING, true },
                                        { "stack", PARAMETER_STRING, true },
                                        { "service", PARAMETER_STRING, true },
                                        { "instance", PARAMETER_U32, true },
                                        { "mode", PARAMETER_STRING, true }, { "path", PARAMETER_PATH, true },
                                        { "options", PARAMETER_OBJECT, false } },
                        .results = { "stream" },
                        .perform = archive_open,
        },
        {
                        .name = "volume.export",
                        .method = "ExportVolume",
                        .action = "io.kontena.master1.export-volumes",
                        .role = "member",
                        .flags = OPERATION_LONG | OPERATION_AUDITED | OPERATION_GRID,
                        .parameters = { { "grid", PARAMETER_STRING, true },
                                        { "volume", PARAMETER_STRING, true },
                                        { "options", PARAMETER_OBJECT, false } },
                        .results = { "stream" },
                        .perform = volume_export,
        },
        {
                        .name = "volume.import",
                        .method = "ImportVolume",
                        .action = "io.kontena.master1.manage-volumes",
                        .role = "member",
                        .flags = OPERATION_LONG | OPERATION_AUDITED | OPERATION_GRID,
                        .parameters = { { "grid", PARAMETER_STRING, true },
                                        { "volume", PARAMETER_STRING, true },
                                        { "options", PARAMETER_OBJECT, false } },
                        .results = { "stream" },
                        .perform = volume_import,
        },
};
const size_t n_archive_operations = ELEMENTSOF(archive_operations);
