/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "kerror.h"
#include "master.h"

/* A master without bus, listener and nodes, on a store of its own in a fresh directory. Each step is asserted. */

/* Event loop, store and keyring into m, which is zero. Returns the directory; the caller frees it through test_master_close(). */
char *test_master_open(Master *m);
/* Besides, the authority it makes for itself. */
void test_master_make_ca(Master *m, const char *directory);
/* Frees what is above and m->identity, and removes the directory (consumed). What a test put into m itself is gone by then. */
void test_master_close(Master *m, char *directory);

/* Inside of a transaction. supernet 10.80.0.0/12 */
void test_master_add_grid(Master *m, const char *id, const char *name, const char *subnet);

/* What an operation answered last. */
typedef struct TestAnswer {
        json_object *result;
        KError error;
        unsigned count;
} TestAnswer;

void test_answer_set(TestAnswer *a, json_object *result,
                const KError *error); /* a copy of the error, a reference to result */
void test_answer_done(TestAnswer *a);
