/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "service-spec.h"

/* An absolute path inside a container or on a host, without "..". what is for the sentence. */
int spec_path_validate(const char *what, const char *path, KError *reterr);

/* Fields of one object. "find" returns 0 and leaves *ret alone when the field is missing, 1 when it is there. */
int spec_refuse_unknown(
                json_object *o, const char *const *known, size_t n_known, const char *what, KError *reterr);
int spec_find_list(json_object *o, const char *key, size_t max, char ***ret, KError *reterr);
int spec_find_entries(json_object *o, const char *key, char ***ret, KError *reterr);
int spec_find_copy(json_object *o, const char *key, char **ret, KError *reterr);
int spec_find_number(
                json_object *o, const char *key, uint64_t min, uint64_t max, uint64_t *ret, KError *reterr);

/* Groups of fields, each in its file. Those for deploys come behind placement and isolation, which they look at. */
int spec_parse_deploy(json_object *o, ServiceSpec *s, KError *reterr);
int spec_parse_health_check(json_object *o, ServiceSpec *s, KError *reterr);
int spec_parse_hooks(json_object *o, ServiceSpec *s, KError *reterr);
int spec_parse_secrets(json_object *o, ServiceSpec *s, KError *reterr);
int spec_parse_systemd(json_object *o, ServiceSpec *s, KError *reterr);

/* "volumes_from", and "net" with another's container. */
int spec_refuse_shared(json_object *o, const char *net, KError *reterr);

/* Whether what was parsed fits a job, or a service that is none. */
int spec_check_job(const ServiceSpec *s, KError *reterr);

/* What has no meaning with runtime nspawn, or none that a node could give it. */
int spec_refuse_for_machine(const ServiceSpec *s, KError *reterr);
