/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <unistd.h>

#include "bus-internal.h"
#include "ca.h"
#include "join-token.h"
#include "listener.h"
#include "settings.h"
#include "string-util.h"

/* The Manager: its methods are operations. */

static int property_get_version(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        return sd_bus_message_append(reply, "s", KONTENA_VERSION);
}

static int property_get_url(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        _cleanup_free_ char *url = NULL;
        BusFace *f = ((BusLink *) userdata)->face;
        char host[256] = "localhost";

        if (f->master->config->advertised_url)
                return sd_bus_message_append(reply, "s", f->master->config->advertised_url);

        (void) gethostname(host, sizeof(host) - 1);
        url = strprintf("wss://%s:%u" JOIN_CHANNEL_PATH, host,
                        f->master->listener ? listener_port(f->master->listener) : f->master->config->port);
        if (!url)
                return -ENOMEM;
        return sd_bus_message_append(reply, "s", url);
}

static int property_get_fingerprint(sd_bus *bus, const char *path, const char *interface,
                const char *property, sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        BusFace *f = ((BusLink *) userdata)->face;

        return sd_bus_message_append(reply, "s", f->master->ca ? ca_fingerprint(f->master->ca) : "");
}

static int property_get_read_only(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        BusFace *f = ((BusLink *) userdata)->face;

        return sd_bus_message_append(reply, "s", strempty(store_read_only_reason(f->master->store)));
}

static const sd_bus_vtable manager_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD_WITH_ARGS("CreateGrid", SD_BUS_ARGS("s", name, "a{sv}", settings),
                        SD_BUS_RESULT("o", grid), bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("UpdateGrid", SD_BUS_ARGS("s", grid, "a{sv}", settings), SD_BUS_NO_RESULT,
                        bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("RemoveGrid", SD_BUS_ARGS("s", grid), SD_BUS_NO_RESULT, bus_method_operation,
                        SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ListGrids", SD_BUS_NO_ARGS, SD_BUS_RESULT("aa{sv}", grids),
                        bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("GetGrid", SD_BUS_ARGS("s", grid), SD_BUS_RESULT("a{sv}", properties),
                        bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("GetGridToken", SD_BUS_ARGS("s", grid, "b", regenerate),
                        SD_BUS_RESULT("s", token), bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("CreateNode", SD_BUS_ARGS("s", grid, "s", name, "a{sv}", settings),
                        SD_BUS_RESULT("o", node, "s", token), bus_method_operation,
                        SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("UpdateNode", SD_BUS_ARGS("s", grid, "s", node, "a{sv}", settings),
                        SD_BUS_NO_RESULT, bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("RemoveNode", SD_BUS_ARGS("s", grid, "s", node, "b", force),
                        SD_BUS_RESULT("aa{sv}", lost), bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ListNodes", SD_BUS_ARGS("s", grid), SD_BUS_RESULT("aa{sv}", nodes),
                        bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("GetNode", SD_BUS_ARGS("s", grid, "s", node),
                        SD_BUS_RESULT("a{sv}", properties), bus_method_operation,
                        SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("CreateService",
                        SD_BUS_ARGS("s", grid, "s", stack, "s", name, "a{sv}", spec),
                        SD_BUS_RESULT("o", service), bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("UpdateService",
                        SD_BUS_ARGS("s", grid, "s", stack, "s", service, "a{sv}", changes), SD_BUS_NO_RESULT,
                        bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("RemoveService", SD_BUS_ARGS("s", grid, "s", stack, "s", service),
                        SD_BUS_NO_RESULT, bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ListServices", SD_BUS_ARGS("s", grid), SD_BUS_RESULT("aa{sv}", services),
                        bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("GetService", SD_BUS_ARGS("s", grid, "s", stack, "s", service),
                        SD_BUS_RESULT("a{sv}", properties), bus_method_operation,
                        SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("DeployService",
                        SD_BUS_ARGS("s", grid, "s", stack, "s", service, "a{sv}", options),
                        SD_BUS_RESULT("o", deploy), bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ScaleService", SD_BUS_ARGS("s", grid, "s", stack, "s", service, "u", count),
                        SD_BUS_RESULT("o", deploy), bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("StartService", SD_BUS_ARGS("s", grid, "s", stack, "s", service),
                        SD_BUS_NO_RESULT, bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("StopService", SD_BUS_ARGS("s", grid, "s", stack, "s", service),
                        SD_BUS_NO_RESULT, bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("RestartService", SD_BUS_ARGS("s", grid, "s", stack, "s", service),
                        SD_BUS_NO_RESULT, bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ListInstances", SD_BUS_ARGS("s", grid, "s", stack, "s", service),
                        SD_BUS_RESULT("aa{sv}", instances), bus_method_operation,
                        SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("InspectInstance",
                        SD_BUS_ARGS("s", grid, "s", stack, "s", service, "u", instance),
                        SD_BUS_RESULT("s", description), bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ListProcesses",
                        SD_BUS_ARGS("s", grid, "s", stack, "s", service, "u", instance),
                        SD_BUS_RESULT("aa{sv}", processes), bus_method_operation,
                        SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ListDeploys", SD_BUS_ARGS("s", grid, "s", stack, "s", service),
                        SD_BUS_RESULT("aa{sv}", deploys), bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("WriteSecret",
                        SD_BUS_ARGS("s", grid, "s", name, "s", value, "a{sv}", options),
                        SD_BUS_RESULT("as", services), bus_method_operation,
                        SD_BUS_VTABLE_UNPRIVILEGED | SD_BUS_VTABLE_SENSITIVE),
        SD_BUS_METHOD_WITH_ARGS("ReadSecret", SD_BUS_ARGS("s", grid, "s", name),
                        SD_BUS_RESULT("a{sv}", secret), bus_method_operation,
                        SD_BUS_VTABLE_UNPRIVILEGED | SD_BUS_VTABLE_SENSITIVE),
        SD_BUS_METHOD_WITH_ARGS("AddRegistry",
                        SD_BUS_ARGS("s", grid, "s", registry, "s", username, "s", password, "a{sv}",
                                        options),
                        SD_BUS_RESULT("s", name, "b", replaced), bus_method_operation,
                        SD_BUS_VTABLE_UNPRIVILEGED | SD_BUS_VTABLE_SENSITIVE),
        SD_BUS_METHOD_WITH_ARGS("ListRegistries", SD_BUS_ARGS("s", grid),
                        SD_BUS_RESULT("aa{sv}", registries), bus_method_operation,
                        SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("RemoveRegistry", SD_BUS_ARGS("s", grid, "s", registry), SD_BUS_NO_RESULT,
                        bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ListImages", SD_BUS_ARGS("s", grid, "a{sv}", options),
                        SD_BUS_RESULT("aa{sv}", images, "as", warnings), bus_method_operation,
                        SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("PruneImages", SD_BUS_ARGS("s", grid, "a{sv}", options),
                        SD_BUS_RESULT("aa{sv}", images, "as", warnings), bus_method_operation,
                        SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ListSecrets", SD_BUS_ARGS("s", grid), SD_BUS_RESULT("aa{sv}", secrets),
                        bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("RemoveSecret", SD_BUS_ARGS("s", grid, "s", name, "b", force),
                        SD_BUS_NO_RESULT, bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ListRevisions", SD_BUS_ARGS("s", grid, "s", stack, "s", service),
                        SD_BUS_RESULT("aa{sv}", revisions), bus_method_operation,
                        SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("RollbackService",
                        SD_BUS_ARGS("s", grid, "s", stack, "s", service, "u", revision),
                        SD_BUS_RESULT("o", deploy), bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ListJobs", SD_BUS_ARGS("s", grid), SD_BUS_RESULT("aa{sv}", jobs),
                        bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("GetJob", SD_BUS_ARGS("s", grid, "s", stack, "s", service),
                        SD_BUS_RESULT("a{sv}", job), bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("RunJob", SD_BUS_ARGS("s", grid, "s", stack, "s", service),
                        SD_BUS_RESULT("u", number), bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("GetRun", SD_BUS_ARGS("s", grid, "s", stack, "s", service, "u", number),
                        SD_BUS_RESULT("a{sv}", run), bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("CancelRun", SD_BUS_ARGS("s", grid, "s", stack, "s", service, "u", number),
                        SD_BUS_NO_RESULT, bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_SIGNAL_WITH_ARGS("RunChanged",
                        SD_BUS_ARGS("s", grid, "s", stack, "s", service, "u", number, "s", state), 0),
        SD_BUS_METHOD_WITH_ARGS("MoveInstance",
                        SD_BUS_ARGS("s", grid, "s", stack, "s", service, "u", instance, "s", node),
                        SD_BUS_RESULT("o", deploy), bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("CreateVolume", SD_BUS_ARGS("s", grid, "s", name, "a{sv}", settings),
                        SD_BUS_NO_RESULT, bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("RemoveVolume", SD_BUS_ARGS("s", grid, "s", volume),
                        SD_BUS_RESULT("as", offline), bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ListVolumes", SD_BUS_ARGS("s", grid), SD_BUS_RESULT("aa{sv}", volumes),
                        bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("GetVolume", SD_BUS_ARGS("s", grid, "s", volume),
                        SD_BUS_RESULT("a{sv}", properties), bus_method_operation,
                        SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ListVolumeSnapshots", SD_BUS_ARGS("s", grid, "s", volume, "a{sv}", options),
                        SD_BUS_RESULT("aa{sv}", snapshots, "as", warnings), bus_method_operation,
                        SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("CreateVolumeSnapshot",
                        SD_BUS_ARGS("s", grid, "s", volume, "s", snapshot, "a{sv}", options),
                        SD_BUS_RESULT("aa{sv}", snapshots), bus_method_operation,
                        SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("RestoreVolumeSnapshot",
                        SD_BUS_ARGS("s", grid, "s", volume, "s", snapshot, "a{sv}", options),
                        SD_BUS_NO_RESULT, bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("RemoveVolumeSnapshot",
                        SD_BUS_ARGS("s", grid, "s", volume, "s", snapshot, "a{sv}", options),
                        SD_BUS_NO_RESULT, bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ListEvents", SD_BUS_ARGS("s", grid, "a{sv}", filter),
                        SD_BUS_RESULT("aa{sv}", events), bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ListAudit", SD_BUS_ARGS("s", grid, "a{sv}", filter),
                        SD_BUS_RESULT("aa{sv}", rows), bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("VerifyAudit", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("a{sv}", result),
                        bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("GetAuthority", SD_BUS_NO_ARGS, SD_BUS_RESULT("a{sv}", authority),
                        bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("RotateAuthority", SD_BUS_ARGS("b", force),
                        SD_BUS_RESULT("a{sv}", authority), bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("AbortAuthorityRotation", SD_BUS_NO_ARGS, SD_BUS_RESULT("a{sv}", authority),
                        bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("GetStatus", SD_BUS_ARGS("s", grid), SD_BUS_RESULT("a{sv}", status),
                        bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("OpenLogs",
                        SD_BUS_ARGS("s", grid, "s", stack, "s", service, "a{sv}", options),
                        SD_BUS_RESULT("s", stream), bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("CloseLogs", SD_BUS_ARGS("s", stream), SD_BUS_NO_RESULT,
                        bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("OpenExec",
                        SD_BUS_ARGS("s", grid, "s", stack, "s", service, "u", instance, "as", argv, "a{sv}",
                                        options),
                        SD_BUS_RESULT("s", stream), bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("OpenArchive",
                        SD_BUS_ARGS("s", grid, "s", stack, "s", service, "u", instance, "s", mode, "s", path,
                                        "a{sv}", options),
                        SD_BUS_RESULT("s", stream), bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ExportVolume", SD_BUS_ARGS("s", grid, "s", volume, "a{sv}", options),
                        SD_BUS_RESULT("s", stream), bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ImportVolume", SD_BUS_ARGS("s", grid, "s", volume, "a{sv}", options),
                        SD_BUS_RESULT("s", stream), bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("WriteStream", SD_BUS_ARGS("s", stream, "ay", data), SD_BUS_NO_RESULT,
                        bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("EndStreamInput", SD_BUS_ARGS("s", stream), SD_BUS_NO_RESULT,
                        bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ResizeStream", SD_BUS_ARGS("s", stream, "u", rows, "u", columns),
                        SD_BUS_NO_RESULT, bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("SignalStream", SD_BUS_ARGS("s", stream, "s", signal), SD_BUS_NO_RESULT,
                        bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("CreditStream", SD_BUS_ARGS("s", stream, "u", bytes), SD_BUS_NO_RESULT,
                        bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("CloseStream", SD_BUS_ARGS("s", stream), SD_BUS_NO_RESULT,
                        bus_method_operation, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_SIGNAL_WITH_ARGS("StreamData", SD_BUS_ARGS("s", stream, "u", channel, "ay", data), 0),
        SD_BUS_SIGNAL_WITH_ARGS(
                        "StreamEnded", SD_BUS_ARGS("s", stream, "i", status, "s", error, "s", message), 0),
        SD_BUS_SIGNAL_WITH_ARGS("LogEntries", SD_BUS_ARGS("s", stream, "a(tssss)", entries, "b", end), 0),
        SD_BUS_SIGNAL_WITH_ARGS("Event", SD_BUS_ARGS("s", grid, "a{sv}", event), 0),
        SD_BUS_PROPERTY("Version", "s", property_get_version, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("ListenURL", "s", property_get_url, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("CAFingerprint", "s", property_get_fingerprint, 0,
                        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("ReadOnlyReason", "s", property_get_read_only, 0,
                        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_VTABLE_END,
};

const sd_bus_vtable *bus_manager_vtable(void) {
        return manager_vtable;
}
