/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>

#include "enter.h"
#include "file-util.h"
#include "json-util.h"
#include "string-util.h"

/* A line as OCI runtimes write it, for whoever reads theirs. */
static void tell(const char *path, const KError *error) {
        _cleanup_json_ json_object *o = json_object_new_object();
        _cleanup_close_ int fd = -EBADF;
        const char *text;

        if (!path) {
                fprintf(stderr, "%s\n", kerror_message(error));
                return;
        }
        if (!o || json_add_string(o, "msg", kerror_message(error)) < 0 ||
                        json_add_string(o, "level", "error") < 0)
                return;
        text = json_text(o);
        fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd >= 0 && text && loop_write(fd, text, strlen(text)) >= 0)
                (void) loop_write(fd, "\n", 1);
}

int main(int argc, char *argv[]) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        EnterOptions options;
        int r;

        r = enter_options_parse(argc, argv, &options, &error);
        if (r < 0) {
                fprintf(stderr, "%s\n", kerror_message(&error));
                return 2;
        }

        /* They are the command's, who is in this unit too; we stay to tell how it ended. */
        (void) signal(SIGHUP, SIG_IGN);
        (void) signal(SIGINT, SIG_IGN);
        (void) signal(SIGTERM, SIG_IGN);
        r = enter_run(&options, &error);
        if (r < 0) {
                (void) kerror_set_errno(&error, r, "Cannot run a command in the machine: %m");
                tell(options.log, &error);
                return 1;
        }
        return r;
}
