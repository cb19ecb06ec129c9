/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "output.h"

#include <errno.h>
#include <sys/stat.h>
#include <syslog.h>

#include "file-util.h"
#include "string-util.h"
#include "unit-property.h"

/* Whatever user the container runs as may write, and nobody there may read. systemd insists on the mode it is told. */
#define FIFO_MODE    0622

#define RESTART_USEC USEC_PER_SEC

int output_make(const char *directory) {
        _cleanup_free_ char *path = strjoin(directory, "/" OUTPUT_FIFO);

        if (!path)
                return -ENOMEM;
        if (mkfifo(path, FIFO_MODE) < 0)
                return errno == EEXIST ? 0 : -errno;
        if (chmod(path, FIFO_MODE) < 0)
                return -errno;
        return 0;
}

int output_setup(const char *id, const char *directory, UnitSetup *setup) {
        /* No dot in it: what is listed as "kontena-GRID-STACK.SERVICE-N.service" is instances only. */
        setup->output = strjoin("kontena-output@", id);
        setup->output_path = strjoin(directory, "/" OUTPUT_FIFO);
        return setup->output && setup->output_path ? 0 : -ENOMEM;
}

int output_append_dependencies(const UnitSetup *s, sd_bus_message *m) {
        _cleanup_free_ char *socket = NULL;
        int r;

        if (!s->output)
                return 0;
        socket = strjoin(s->output, ".socket");
        if (!socket)
                return -ENOMEM;

        r = unit_append_names(m, "Wants", socket);
        if (r >= 0)
                r = unit_append_names(m, "After", socket);
        return r;
}

static int append_socket(const UnitSetup *s, sd_bus_message *m) {
        _cleanup_free_ char *name = strjoin(s->output, ".socket"),
                            *description = strjoin(s->description, ": /dev/stdout by name");
        int r;

        if (!name || !description)
                return -ENOMEM;

        r = sd_bus_message_open_container(m, 'r', "sa(sv)");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", name);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "(sv)");
        if (r >= 0)
                r = unit_append_string(m, "Description", description);
        if (r >= 0)
                r = unit_append_string(m, "CollectMode", "inactive-or-failed");
        if (r >= 0)
                r = unit_append_bool(m, "StopWhenUnneeded", true);
        if (r >= 0)
                r = unit_append_string(m, "Slice", s->slice);
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "Listen", "a(ss)", 1, "FIFO", s->output_path);
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "SocketMode", "u", (uint32_t) FIFO_MODE);
        /* One comes with every start of an instance, and says nothing that the instance's unit does not. */
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "LogLevelMax", "i", (int32_t) LOG_NOTICE);
        for (int i = 0; i < 2 && r >= 0; i++)
                r = sd_bus_message_close_container(m);
        return r;
}

static int append_sandbox(sd_bus_message *m) {
        static const char *const yes[] = { "NoNewPrivileges", "ProtectHome", "PrivateDevices",
                "ProtectKernelTunables", "ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups",
                "MemoryDenyWriteExecute", "LockPersonality", "RestrictRealtime", "RestrictSUIDSGID" };
        int r = 0;

        FOREACH_ARRAY(name, yes, ELEMENTSOF(yes))
                if (r >= 0)
                        r = streq(*name, "ProtectHome") ? unit_append_string(m, *name, "yes")
                                                        : unit_append_bool(m, *name, true);
        if (r >= 0)
                r = unit_append_string(m, "ProtectSystem", "strict");
        if (r >= 0)
                r = unit_append_u64(m, "CapabilityBoundingSet", 0);
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "RestrictAddressFamilies", "(bas)", 1, 0);
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "SystemCallArchitectures", "as", 1, "native");
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "SystemCallFilter", "(bas)", 1, 3, "@default",
                                "@basic-io", "@file-system");
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "SystemCallErrorNumber", "i", (int32_t) EPERM);
        return r;
}

static int append_log(const UnitSetup *s, const char *instance_unit, sd_bus_message *m) {
        _cleanup_strv_free_ char **fields = NULL;
        int r;

        /* `journalctl -u` of the instance's unit shows what has this field, if it came from root. */
        fields = strv_copy(s->log_fields);
        if (!fields)
                return -ENOMEM;
        r = strv_extendf(&fields, "OBJECT_SYSTEMD_UNIT=%s", instance_unit);
        if (r >= 0)
                r = unit_append_string(m, "StandardOutput", "journal");
        if (r >= 0)
                r = unit_append_string(m, "StandardError", "journal");
        if (r >= 0)
                r = unit_append_string(m, "SyslogIdentifier", s->identifier);
        if (r >= 0)
                r = unit_append_bool(m, "SyslogLevelPrefix", false);
        if (r >= 0)
                r = unit_append_no_log_limit(m);
        if (r >= 0)
                r = unit_append_log_fields(m, fields);
        return r;
}

static int append_service(const UnitSetup *s, const char *instance_unit, sd_bus_message *m) {
        /* The descriptor that systemd hands over can write as well, so with it there would never be an end of the file. */
        char *const command[] = { (char *) "/bin/sh", (char *) "-c", (char *) "exec cat 3<&-", NULL };
        _cleanup_free_ char *name = strjoin(s->output, ".service"),
                            *description = strjoin(s->description, ": /dev/stdout by name");
        int r;

        if (!name || !description)
                return -ENOMEM;

        r = sd_bus_message_open_container(m, 'r', "sa(sv)");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", name);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "(sv)");
        if (r >= 0)
                r = unit_append_string(m, "Description", description);
        if (r >= 0)
                r = unit_append_string(m, "CollectMode", "inactive-or-failed");
        /* When the machine is shut down, it is stopped by the end of what it reads: not before the container, as it would be with
         * the default dependencies or in the grid's slice. */
        if (r >= 0)
                r = unit_append_bool(m, "DefaultDependencies", false);
        if (r >= 0)
                r = unit_append_string(m, "Slice", "system.slice");
        if (r >= 0)
                r = unit_append_string(m, "Type", "exec");
        if (r >= 0)
                r = unit_append_command(m, "ExecStart", command, false);
        if (r >= 0)
                r = unit_append_string(m, "StandardInputFile", s->output_path);
        /* Killed, say, for lack of memory: the FIFO keeps what is written meanwhile. */
        if (r >= 0)
                r = unit_append_string(m, "Restart", "on-failure");
        if (r >= 0)
                r = unit_append_u64(m, "RestartUSec", RESTART_USEC);
        if (r >= 0)
                r = unit_append_u64(m, "StartLimitIntervalUSec", 0);
        if (r >= 0)
                r = append_log(s, instance_unit, m);
        if (r >= 0)
                r = append_sandbox(m);
        for (int i = 0; i < 2 && r >= 0; i++)
                r = sd_bus_message_close_container(m);
        return r;
}

int output_append_units(const UnitSetup *s, const char *instance_unit, sd_bus_message *m) {
        int r;

        r = sd_bus_message_open_container(m, 'a', "(sa(sv))");
        if (r >= 0 && s->output)
                r = append_socket(s, m);
        if (r >= 0 && s->output)
                r = append_service(s, instance_unit, m);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r;
}
