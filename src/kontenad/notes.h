/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* What was last seen of something, as a hash, so that the same thing is not news twice. NULL is an empty table. */
typedef struct Note Note;

/* Is this something else than last time? Without memory: yes. */
bool note_is_news(Note **table, const char *id, uint64_t hash);
void note_forget(Note **table, const char *id);
void notes_clear(Note **table);
/* Takes the first one out; NULL: there is none. The caller frees. */
char *notes_take(Note **table);
