/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bus-json.h"
#include "confirm.h"
#include "ctl-stream.h"
#include "ctl.h"
#include "file-util.h"
#include "json-util.h"
#include "string-util.h"
#include "transfer.h"

/* Whole volumes to and from archives. */

static int make_call(Ctl *c, const Arguments *a, const char *method, sd_bus_message **ret, KError *reterr) {
        const char *node = arguments_get(a, "node"), *snapshot = arguments_get(a, "snapshot"), *grid;
        _cleanup_json_ json_object *options = json_object_new_object();
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        unsigned instance;
        int r;

        if (!options || (node && json_add_string(options, "node", node) < 0) ||
                        (snapshot && json_add_string(options, "snapshot", snapshot) < 0))
                return -ENOMEM;
        r = arguments_get_unsigned(a, "instance", &instance, reterr);
        if (r > 0)
                r = json_add_u64(options, "instance", instance);
        if (r >= 0)
                r = ctl_grid(c, &grid, reterr);
        if (r >= 0)
                r = ctl_message(c, method, &m, reterr);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "ss", grid, arguments_arg(a, 0));
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make the call: %m");
        r = bus_json_append(m, "a{sv}", options, reterr);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(m);
        return 0;
}

static int run_save(Transfer *t, KError *reterr) {
        const int *fd = t->userdata;

        for (;;) {
                const void *data;
                size_t size;
                int r;

                r = transfer_read(&data, &size, t);
                if (r >= 0 && size == 0)
                        return 0;
                if (r >= 0)
                        r = loop_write(*fd, data, size);
                if (r < 0)
                        return kerror_set_errno(reterr, r, "The archive cannot be written: %m.");
                t->size += size;
                (void) transfer_progress(t->size, t);
        }
}

static int run_load(Transfer *t, KError *reterr) {
        static uint8_t buffer[64 * 1024];
        const int *fd = t->userdata;

        for (;;) {
                ssize_t n = read(*fd, buffer, sizeof(buffer));
                int r;

                if (n < 0 && errno == EINTR)
                        continue;
                if (n == 0)
                        return 0;
                r = n < 0 ? -errno : transfer_write(buffer, (size_t) n, t);
                if (r < 0)
                        return kerror_set_errno(reterr, r, "The archive cannot be read: %m.");
                t->size += (uint64_t) n;
                (void) transfer_progress(t->size, t);
        }
}

static int say_done(const Transfer *t, const char *format, const char *volume) {
        _cleanup_json_ json_object *size = json_object_new_uint64(t->size);
        _cleanup_free_ char *text = NULL;

        if (size && format_bytes(NULL, size, &text) >= 0)
                ctl_say(t->c, format, volume, strempty(text));
        return 0;
}

/* A device, or what else takes bytes. */
static int export_to_device(
                Ctl *c, sd_bus_message *m, const char *volume, const char *path, KError *reterr) {
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
        Transfer t = { .c = c, .open = m, .out = true, .run = run_save, .userdata = &fd };
        int r;

        if (fd < 0)
                return kerror_set_errno(reterr, -errno, "Cannot open '%s': %m", path);
        if (isatty(fd) > 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "An archive is not for a terminal; name a FILE.");
        r = transfer_run(&t, reterr);
        return r != 0 ? r : say_done(&t, "Volume '%s' is exported, %s.", volume);
}

/* A file beside the one that is meant, which takes its name when all is in it. */
static int export_to_file(Ctl *c, sd_bus_message *m, const char *volume, const char *file, KError *reterr) {
        _cleanup_free_ char *real = realpath(file, NULL), *temporary = NULL;
        const char *path = real ?: file; /* what a link leads to */
        _cleanup_close_ int fd = -EBADF;
        Transfer t = { .c = c, .open = m, .out = true, .run = run_save, .userdata = &fd };
        struct stat st;
        mode_t mask;
        int r;

        if (stat(path, &st) >= 0 && S_ISDIR(st.st_mode))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' is a directory.", file);
        if (stat(path, &st) >= 0 && !S_ISREG(st.st_mode))
                return export_to_device(c, m, volume, file, reterr);
        temporary = strjoin(path, ".XXXXXX");
        if (!temporary)
                return -ENOMEM;
        fd = mkostemp(temporary, O_CLOEXEC);
        if (fd < 0)
                return kerror_set_errno(reterr, -errno, "Cannot make '%s': %m", path);
        r = transfer_run(&t, reterr);
        if (r == 0) {
                mask = umask(0077);
                (void) umask(mask);
                if (fchmod(fd, 0666 & ~mask) < 0 || fsync(fd) < 0 || rename(temporary, path) < 0)
                        r = kerror_set_errno(reterr, -errno, "Cannot make '%s': %m", path);
        }
        if (r != 0) {
                (void) unlink(temporary);
                return r;
        }
        return say_done(&t, "Volume '%s' is exported, %s.", volume);
}

int command_volume_export(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        const char *path = arguments_arg(a, 1) ?: "-";
        bool to_stdout = streq(path, "-");
        int r;

        if (to_stdout && isatty(STDOUT_FILENO) > 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "An archive is not for a terminal; name a FILE.");
        r = make_call(c, a, "ExportVolume", &m, reterr);
        if (r < 0)
                return r;
        if (!to_stdout)
                return export_to_file(c, m, arguments_arg(a, 0), path, reterr);
        return ctl_stream_run(c, m,
                        &(CtlStreamOptions){ .input = -EBADF,
                                        .output = STDOUT_FILENO,
                                        .error = STDERR_FILENO,
                                        .error_is_text = true,
                                        .close_on_signal = true },
                        reterr);
}

int command_volume_import(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        const char *path = arguments_arg(a, 1) ?: "-", *volume = arguments_arg(a, 0);
        bool from_stdin = streq(path, "-");
        _cleanup_close_ int fd = -EBADF;
        Transfer t = { .c = c, .run = run_load, .userdata = &fd };
        int r;

        if (from_stdin && isatty(STDIN_FILENO) > 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "An archive is not typed; name a FILE.");
        if (!from_stdin) {
                fd = open(path, O_RDONLY | O_CLOEXEC);
                if (fd < 0)
                        return kerror_set_errno(reterr, -errno, "Cannot open '%s': %m", path);
        }
        r = confirm(arguments_has(a, "force"), reterr, "Replace all that is in volume '%s'?", volume);
        if (r >= 0)
                r = make_call(c, a, "ImportVolume", &m, reterr);
        if (r < 0)
                return r;
        if (from_stdin) {
                r = ctl_stream_run(c, m,
                                &(CtlStreamOptions){ .input = STDIN_FILENO,
                                                .output = -EBADF,
                                                .error = STDERR_FILENO,
                                                .error_is_text = true,
                                                .close_on_signal = true },
                                reterr);
                if (r == 0)
                        ctl_say(c, "Volume '%s' is imported.", volume);
                return r;
        }
        t.open = m;
        r = transfer_run(&t, reterr);
        return r != 0 ? r : say_done(&t, "Volume '%s' is imported, %s.", volume);
}
