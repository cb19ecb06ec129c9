/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/stat.h>

#include "kerror.h"
#include "macro.h"

/* The directory into which a layer is unpacked, by paths that come from afar. Nothing here follows a symbolic link or
 * leaves the root. Errors name the path. */
typedef struct ImplicitDirectory ImplicitDirectory;
typedef struct Tree {
        int root_fd;   /* borrowed */
        int parent_fd; /* the last one, most often the next one too */
        char *parent;
        ImplicitDirectory *implicit;
} Tree;

void tree_init(Tree *t, int root_fd);
void tree_done(Tree *t);

/* "./a//b/" and "/a/b" become "a/b", the root "". K_IMAGE for "..", for too long or too deep. */
int tree_normalize(const char *path, char **ret, KError *reterr);

/* The directory of a normalized path, made with its parents where missing, and the last part of the path. The
 * descriptor is the tree's and good until the next call. */
int tree_parent(Tree *t, const char *path, int *ret_fd, const char **ret_name, KError *reterr);

/* Directories that were made because something is below them and that the layer has not named so far: what they are
 * like is said by a layer below. The callback gets each path and stops the walk with a negative errno. */
void tree_named(Tree *t, const char *path);
bool tree_has_implicit(const Tree *t) _pure_;
int tree_for_each_implicit(Tree *t, int (*f)(const char *path, void *userdata), void *userdata);

/* The same as tree_parent() without making anything: -ENOENT, without an error. The caller closes. */
int tree_find_parent(int root_fd, const char *path, int *ret_fd, const char **ret_name);

/* Opens a directory by its normalized path; the caller closes. -ENOENT, -ENOTDIR or -ELOOP without an error. */
int tree_open_directory(int root_fd, const char *path);

bool stat_is_whiteout(const struct stat *st);

/* Removes what has this name in order to make something else of it. Returns 1 if a directory was found and
 * keep_directory is true: it stays. Sets *ret_was_whiteout. */
int tree_make_room(Tree *t, int fd, const char *name, bool keep_directory, bool *ret_was_whiteout);

/* Hides name of the layers below. What this layer has under the name stays; a directory becomes opaque. */
int tree_whiteout(int fd, const char *name);
int tree_set_opaque(int directory_fd);
