/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "file-util.h"
#include "in-child.h"
#include "instance-internal.h"
#include "log.h"
#include "machine-root.h"
#include "nspawn-command.h"
#include "uid-range.h"

/* What is different with an instance that is a machine: see runtime-nspawn.c. */

#define ROOT_TIMEOUT_USEC     (60ULL * 1000000ULL)

/* systemd-nspawn(1): the machine wants to be started again. */
#define EXIT_STATUS_OF_REBOOT 133

Runtime *instance_runtime(const Instance *i) {
        if (i->want && i->want->spec->runtime == RUNTIME_NSPAWN)
                return i->host->machines;
        return i->host->runtime;
}

const char *instance_runtime_error(const Instance *i) {
        if (i->want && i->want->spec->runtime == RUNTIME_NSPAWN)
                return i->host->machines_error;
        return i->host->runtime_error;
}

Runtime *instance_present_runtime(const Instance *i) {
        _cleanup_free_ char *run = NULL, *path = NULL;

        run = instance_generation_run_directory(i, i->record.generation);
        path = run ? strjoin(run, "/" NSPAWN_ENVIRONMENT) : NULL;
        return path && access(path, F_OK) >= 0 ? i->host->machines : i->host->runtime;
}

/* A machine may take minutes to boot, or never do: whatever is wanted now does not wait for it (trap 8). */
void instance_cancel_boot(Instance *i) {
        if (!i->unit || i->start_cancelled || instance_present_runtime(i) != i->host->machines ||
                        !i->host->machines || unit_state_is_running(unit_state(i->unit)))
                return;
        if (i->operation != OPERATION_START && i->operation != OPERATION_RESTART &&
                        i->operation != OPERATION_REVIVE)
                return;
        i->start_cancelled = true;
        unit_cancel_start(i->unit);
}

bool instance_has_rebooted(const Instance *i, const UnitState *s) {
        return i->want && i->want->spec->runtime == RUNTIME_NSPAWN && s->exec_main_code == CLD_EXITED &&
               s->exec_main_status == EXIT_STATUS_OF_REBOOT;
}

static void on_root_made(int r, const KError *error, void *userdata) {
        _cleanup_kerror_ KError copy = KERROR_NULL;
        Instance *i = userdata;

        i->rooting = NULL;
        if (r < 0) {
                if (error && kerror_is_set(error))
                        (void) kerror_set(&copy, error->code, "%s", kerror_message(error));
                else
                        (void) kerror_set_errno(&copy, r, "Cannot make the machine's root: %m");
                instance_fail(i, &copy);
                return;
        }
        i->rooted = true;
        instance_step(i);
}

int instance_make_machine_root(Instance *i, const Image *image, const char *data, const char *root,
                uint32_t *ret_base, KError *reterr) {
        _cleanup_strv_free_ char **places = NULL;
        uint32_t base = 0;
        int r;

        if (!i->want->spec->privileged) {
                r = uid_range_claim(i->host->uid_directory, i->id, &base, reterr);
                if (r < 0)
                        return r;
        }
        *ret_base = base;
        if (i->rooted)
                return SYNC_DONE;

        for (size_t k = 0; k < i->volumes->n_volumes; k++) {
                r = strv_extend(&places, i->volumes->volumes[k].mount.path);
                if (r < 0)
                        return r;
        }
        r = child_call_start(i->host->event, "kt-root", machine_root_make,
                        &(MachineRoot){
                                        .mapped = { .image = image,
                                                        .data = data,
                                                        .target = root,
                                                        .base = base },
                                        .places = places,
                        },
                        ROOT_TIMEOUT_USEC, on_root_made, i, &i->rooting, reterr);
        return r < 0 ? r : SYNC_WAIT;
}

void instance_release_users(const Instance *i) {
        int r;

        if (!i->host->uid_directory)
                return;
        r = uid_range_release(i->host->uid_directory, i->id);
        if (r < 0)
                log_warning_errno(r, "The users of instance '%s' stay taken: %m", i->id);
}
