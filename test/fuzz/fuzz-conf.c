/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "conf-parser.h"
#include "file-util.h"
#include "string-util.h"

typedef struct Settings {
        char *name;
        char **list;
        bool on;
        uint16_t port;
        uint64_t time;
        unsigned n;
} Settings;

static int set_any(const ConfSource *where, const char *value, void *field) {
        assert(where->section && where->key && value);
        (*(unsigned *) field)++;
        return 0;
}

static void on_warning(const ConfSource *where, int r, const char *message, void *userdata) {
        assert(where->path && message && r < 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static const ConfItem items[] = {
                { "Main", "Name", conf_set_string, offsetof(Settings, name) },
                { "Main", "List", conf_set_strv, offsetof(Settings, list) },
                { "Main", "On", conf_set_bool, offsetof(Settings, on) },
                { "Main", "Port", conf_set_port, offsetof(Settings, port) },
                { "Main", "Time", conf_set_sec, offsetof(Settings, time) },
                { "Registry *", "User", set_any, offsetof(Settings, n) },
        };
        _cleanup_close_ int fd = -EBADF;
        char path[64];
        Settings s = {};

        fd = memfd_create("conf", MFD_CLOEXEC);
        if (fd < 0 || loop_write(fd, data, size) < 0)
                return 0;
        (void) snprintf(path, sizeof(path), "/proc/self/fd/%i", fd);

        (void) conf_read_file(path, items, ELEMENTSOF(items), &s, on_warning, NULL);
        free(s.name);
        strv_free(s.list);
        return 0;
}
