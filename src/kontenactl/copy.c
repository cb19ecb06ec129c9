/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <unistd.h>

#include "bus-json.h"
#include "ctl-stream.h"
#include "ctl.h"
#include "file-util.h"
#include "json-util.h"
#include "string-util.h"
#include "tar-path.h"
#include "tar.h"
#include "transfer.h"

/* kontenactl cp: one side is "INSTANCE:PATH", the other is here. */

typedef struct Copy {
        Ctl *c;
        ServiceName service;
        unsigned number;
        const char *remote, *local; /* paths */
        bool archive, follow;

        TarOptions options;
        int fd;
        char *name, *as; /* of what is packed */
        char *rename;
} Copy;

static void copy_done(Copy *x) {
        service_name_done(&x->service);
        safe_close(x->fd);
        free(x->name);
        free(x->as);
        free(x->rename);
}

/* As docker cp: what begins with "/" or "." is here, and so is what has no colon. */
static const char *find_colon(const char *s) {
        return strchr("/.", s[0]) ? NULL : strchr(s, ':');
}

static int run_pack(Transfer *t, KError *reterr) {
        Copy *x = t->userdata;
        TarStats stats = {};
        int r;

        x->options.progress = transfer_progress;
        x->options.userdata = t;
        r = tar_pack(x->fd, x->name, x->as, &x->options, transfer_write, t, &stats, reterr);
        t->size = stats.size;
        t->entries = stats.n_entries;
        t->skipped = stats.n_skipped;
        return r;
}

static int run_unpack(Transfer *t, KError *reterr) {
        Copy *x = t->userdata;
        TarStats stats = {};
        int r;

        x->options.progress = transfer_progress;
        x->options.userdata = t;
        r = tar_unpack(x->fd, &x->options, transfer_read, t, &stats, reterr);
        t->size = stats.size;
        t->entries = stats.n_entries;
        t->skipped = stats.n_skipped;
        return r;
}

static int make_call(Copy *x, bool put, json_object *options, sd_bus_message **ret, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        r = ctl_message(x->c, "OpenArchive", &m, reterr);
        if (r < 0)
                return r;
        if (!utf8_is_valid(x->remote, strlen(x->remote)))
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "The path in the instance is not UTF-8, which is all that the bus carries; "
                                "copy "
                                "the directory that it is in.");
        r = sd_bus_message_append(m, "sssuss", x->service.grid, x->service.stack, x->service.service,
                        x->number, put ? "put" : "get", x->remote);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make the call: %m");
        r = bus_json_append(m, "a{sv}", options, reterr);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(m);
        return 0;
}

static int finish(Copy *x, const Transfer *t, const char *what) {
        _cleanup_json_ json_object *size = json_object_new_uint64(t->size);
        _cleanup_free_ char *text = NULL;

        if (t->skipped > 0)
                ctl_warn("%llu sockets, devices or attributes were left out.",
                                (unsigned long long) t->skipped);
        if (!size || format_bytes(NULL, size, &text) < 0)
                return 0;
        ctl_say(x->c, "%s %llu %s, %s.", what, (unsigned long long) t->entries,
                        t->entries == 1 ? "file" : "files and directories", isempty(text) ? "0" : text);
        return 0;
}

static int copy_out(Copy *x, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_json_ json_object *options = json_object_new_object();
        Transfer t = { .c = x->c, .out = true, .run = run_unpack, .userdata = x };
        bool to_stdout = streq(x->local, "-");
        int r;

        if (!options || (x->follow && json_add_bool(options, "follow", true) < 0))
                return -ENOMEM;
        r = make_call(x, /* put= */ false, options, &m, reterr);
        if (r < 0)
                return r;
        if (to_stdout)
                return ctl_stream_run(x->c, m,
                                &(CtlStreamOptions){ .input = -EBADF,
                                                .output = STDOUT_FILENO,
                                                .error = STDERR_FILENO,
                                                .error_is_text = true,
                                                .close_on_signal = true },
                                reterr);

        r = tar_path_name(x->remote, &x->as);
        if (r < 0)
                return r;
        r = tar_target_open(&(TarRoot){ .fd = AT_FDCWD }, x->local, x->as, &x->fd, &x->rename, reterr);
        if (r < 0)
                return r;
        x->options = (TarOptions){
                .owner = x->archive ? TAR_OWNER_KEEP : TAR_OWNER_SELF,
                .rename = x->rename,
                .directory_only = r == 0 && tar_path_wants_directory(x->local),
        };
        t.open = m;
        r = transfer_run(&t, reterr);
        return r != 0 ? r : finish(x, &t, "Copied");
}

static int copy_in(Copy *x, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_json_ json_object *options = json_object_new_object();
        Transfer t = { .c = x->c, .run = run_pack, .userdata = x };
        bool from_stdin = streq(x->local, "-");
        int r;

        if (!options || (x->archive && json_add_bool(options, "keep-owner", true) < 0))
                return -ENOMEM;
        if (!from_stdin) {
                r = tar_source_open(&(TarRoot){ .fd = AT_FDCWD }, x->local, x->follow, &x->fd, &x->name,
                                &x->as, reterr);
                if (r < 0)
                        return r;
                if (!utf8_is_valid(x->as, strlen(x->as)))
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "The name of '%s' is not UTF-8, which is all that the bus carries; "
                                        "copy "
                                        "the directory that it is in.",
                                        x->local);
                if (json_add_string(options, "name", x->as) < 0)
                        return -ENOMEM;
        }
        r = make_call(x, /* put= */ true, options, &m, reterr);
        if (r < 0)
                return r;
        if (from_stdin)
                return ctl_stream_run(x->c, m,
                                &(CtlStreamOptions){ .input = STDIN_FILENO,
                                                .output = -EBADF,
                                                .error = STDERR_FILENO,
                                                .error_is_text = true,
                                                .close_on_signal = true },
                                reterr);

        x->options = (TarOptions){ .owner = TAR_OWNER_KEEP };
        t.open = m;
        r = transfer_run(&t, reterr);
        return r != 0 ? r : finish(x, &t, "Copied");
}

int command_cp(Ctl *c, const Arguments *a, KError *reterr) {
        const char *from = arguments_arg(a, 0), *to = arguments_arg(a, 1), *remote, *colon;
        bool out = find_colon(from);
        _cleanup_(copy_done) Copy x = {
                .c = c,
                .fd = -EBADF,
                .archive = arguments_has(a, "archive"),
                .follow = arguments_has(a, "follow-link"),
        };
        _cleanup_free_ char *instance = NULL;
        int r;

        if (out == !!find_colon(to))
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                out ? "Between two instances nothing is copied directly; copy it here first."
                                    : "Neither side is in an instance: INSTANCE:PATH.");
        remote = out ? from : to;
        x.local = out ? to : from;
        colon = find_colon(remote);
        x.remote = colon + 1;
        if (isempty(x.remote) || isempty(x.local))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "The path is missing: INSTANCE:PATH.");
        if (streq(x.local, "-") && isatty(out ? STDOUT_FILENO : STDIN_FILENO) > 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                out ? "An archive is not for a terminal; send it to a file."
                                    : "An archive is not typed; let it come from a file.");
        instance = strndup(remote, (size_t) (colon - remote));
        if (!instance)
                return -ENOMEM;
        r = ctl_instance_find(c, instance, &x.service, &x.number, reterr);
        if (r < 0)
                return r;
        return out ? copy_out(&x, reterr) : copy_in(&x, reterr);
}
