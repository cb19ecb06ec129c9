/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "kerror.h"
#include "options.h"
#include "service-spec.h"

/* The options of service create and update, and what they mean in a service's spec (service-spec.h). */
extern const OptionDef service_spec_options[]; /* both */
extern const OptionDef service_create_options[];
extern const OptionDef service_update_options[];

/* Only the fields that were given. An empty value ("--user=") sets null: back to the default. */
int service_options_to_spec(const Arguments *a, json_object **ret, KError *reterr);

/* Lines KEY=VALUE or KEY (its value then is ours), comments with '#', blank lines. */
int env_file_parse(const char *text, char ***ret, KError *reterr);

/* Splits as a shell would: quotes and backslashes, nothing is expanded. */
int command_line_split(const char *s, char ***ret, KError *reterr);

/* Values that have parts; field_ ones are called by service_options_to_spec(). */
int secret_option_parse(const char *s, json_object **ret, KError *reterr);
int hook_option_parse(const char *s, HookStage *ret_stage, json_object **ret, KError *reterr);
int field_secrets(json_object *spec, const char *field, const Arguments *a, const char *option,
                KError *reterr);
int field_hooks(json_object *spec, const char *field, const Arguments *a, const char *option,
                KError *reterr);
int field_systemd(json_object *spec, const char *field, const Arguments *a, const char *option,
                KError *reterr);

/* A setting that has parts, much as its options are written; NULL for any other, and when there are none. */
int service_part_to_text(const char *field, json_object *value, char **ret);
