/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdio.h>

#include "macro.h"

/* What a program may do with the terminal behind standard output, and text that is safe and fits there. */

typedef enum Color {
        COLOR_NONE,
        COLOR_BOLD,
        COLOR_DIM,
        COLOR_RED,
        COLOR_GREEN,
        COLOR_YELLOW,
        COLOR_BLUE,
        COLOR_MAGENTA,
        COLOR_CYAN,
        _COLOR_MAX,
} Color;

/* "" for COLOR_NONE and whenever colours are off. */
const char *color_on(Color c);
const char *color_off(Color c);

/* Colours: $SYSTEMD_COLORS if it is a boolean; else a terminal, no $NO_COLOR, $TERM not "dumb". */
bool terminal_colors(void);
void terminal_set_colors(bool on); /* for tests, and after the pager took over */
bool terminal_on(FILE *f);         /* a terminal that can move its cursor */
unsigned terminal_columns(void);   /* of standard output; $COLUMNS; 80 */
unsigned terminal_rows(void);

/* Of the terminal fd; -ENOTTY. */
int terminal_size(int fd, unsigned *ret_rows, unsigned *ret_columns);

/* From now on keys typed at fd come as they are, none means anything here; until terminal_raw_end(), which is harmless without and
 * called at exit too. Calling it again sets the same once more, for whoever was stopped and continued. */
int terminal_raw(int fd);
void terminal_raw_end(void);

/* Whether the locale can show more than ASCII. Call setlocale() first. */
bool terminal_utf8(void);
void terminal_set_utf8(bool on); /* for tests */

typedef enum Glyph {
        GLYPH_DOT,
        GLYPH_CIRCLE,
        GLYPH_CROSS,
        GLYPH_ELLIPSIS,
        GLYPH_ARROW,
        GLYPH_BRANCH,
        GLYPH_LAST,
        _GLYPH_MAX,
} Glyph;
const char *glyph(Glyph g);

/* Columns that valid UTF-8 takes; bytes that are none count one each. Knows wide and combining characters. */
size_t text_width(const char *s) _pure_;

/* Cuts to at most width columns, the last being an ellipsis where something was cut. NULL on lack of memory. */
char *text_ellipsize(const char *s, size_t width);

/* Control characters, bidirectional overrides and bytes that are not UTF-8 as \xNN or \uNNNN; tabs as blanks; with keep_newlines
 * line feeds stay. What a container writes must not drive the terminal of the one who reads it. */
char *text_escape(const char *s, bool keep_newlines);

/* The same with line feeds for what comes in pieces, wherever they are cut, NUL bytes too. */
typedef struct TextEscaper {
        char held[5]; /* a character of which more is to come, and NUL */
        size_t size;
} TextEscaper;

#define TEXT_ESCAPED_SIZE(n) (4 * ((n) + sizeof(((TextEscaper *) NULL)->held)))

/* Both write at most TEXT_ESCAPED_SIZE(n) bytes, n being 0 for the end, and return how many: no NUL behind them. */
size_t text_escaper_feed(TextEscaper *e, const void *data, size_t n, char *buffer);
size_t text_escaper_end(TextEscaper *e, char *buffer);

/* Pipes what follows on stdout through a pager when that is a terminal; returns 1 if there is one now. pager_close() waits for it
 * and is harmless without. */
int pager_open(void);
void pager_close(void);
