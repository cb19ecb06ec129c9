/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-bus.h>

#include "kerror.h"
#include "macro.h"

/* The properties of systemd units that a service may set for its instances ("systemd" of its settings): those that systemd takes
 * from StartTransientUnit(), that have an effect on a container, and that let it take nothing from others but what the machine's
 * administrator lets any unit take. Names and values are those of systemd.resource-control(5) and systemd.exec(5). */

/* Names the property, the value and what is expected instead. */
int unit_setting_validate(const char *property, const char *value, KError *reterr);

/* Settings are "PROPERTY=value", validated. Does one of them set this property of the bus ("CPUQuotaPerSecUSec")? */
bool unit_settings_have(char *const *settings, const char *bus_property) _pure_;

/* Into an open a(sv). -EINVAL for what does not validate. */
int unit_settings_append(char *const *settings, sd_bus_message *m);
