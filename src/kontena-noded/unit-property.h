/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-bus.h>

#include "macro.h"

/* One property in the a(sv) of StartTransientUnit(). */
int unit_append_string(sd_bus_message *m, const char *name, const char *value);
int unit_append_bool(sd_bus_message *m, const char *name, bool value);
int unit_append_u64(sd_bus_message *m, const char *name, uint64_t value);
int unit_append_names(sd_bus_message *m, const char *name,
                const char *value); /* a list of one: After= and the like */
int unit_append_command(sd_bus_message *m, const char *name, char *const *argv, bool ignore_failure);
int unit_append_log_fields(sd_bus_message *m, char *const *fields); /* "NAME=value" */
/* journald drops nothing of this unit (trap 16). An interval of 0 would mean journald's own limit up to systemd 253, where it is
 * not handed on; so it is a burst that nobody reaches within a second, small enough for journald to multiply in 32 bits. */
int unit_append_no_log_limit(sd_bus_message *m);
