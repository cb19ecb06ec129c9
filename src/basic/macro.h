/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define _cleanup_(f)       __attribute__((cleanup(f)))
#define _printf_(a, b)     __attribute__((format(printf, a, b)))
#define _const_            __attribute__((const))
#define _pure_             __attribute__((pure))
#define _unused_           __attribute__((unused))
#define _sentinel_         __attribute__((sentinel))
#define _warn_unused_      __attribute__((warn_unused_result))
#define _fallthrough_      __attribute__((fallthrough))

#define ELEMENTSOF(a)      (sizeof(a) / sizeof((a)[0]))
#define STRINGIFY_INNER(x) #x
#define STRINGIFY(x)       STRINGIFY_INNER(x)
#define CONCAT_INNER(a, b) a##b
#define CONCAT(a, b)       CONCAT_INNER(a, b)
#define UNIQUE(prefix)     CONCAT(prefix, __COUNTER__)

#define MIN(a, b)                                                                                           \
        ({                                                                                                  \
                typeof(a) _a_ = (a);                                                                        \
                typeof(b) _b_ = (b);                                                                        \
                _a_ < _b_ ? _a_ : _b_;                                                                      \
        })
#define MAX(a, b)                                                                                           \
        ({                                                                                                  \
                typeof(a) _a_ = (a);                                                                        \
                typeof(b) _b_ = (b);                                                                        \
                _a_ > _b_ ? _a_ : _b_;                                                                      \
        })
#define CLAMP(x, low, high)                                                                                 \
        ({                                                                                                  \
                typeof(x) _x_ = (x);                                                                        \
                typeof(low) _low_ = (low);                                                                  \
                typeof(high) _high_ = (high);                                                               \
                _x_<_low_ ? _low_ : _x_> _high_ ? _high_ : _x_;                                             \
        })

/* Ownership moves out of a variable whose cleanup then has nothing to do. */
#define TAKE_GENERIC(var, nothing)                                                                          \
        ({                                                                                                  \
                typeof(var) *_p_ = &(var);                                                                  \
                typeof(var) _v_ = *_p_;                                                                     \
                *_p_ = (nothing);                                                                           \
                _v_;                                                                                        \
        })
#define TAKE_PTR(p) TAKE_GENERIC(p, NULL)
#define TAKE_FD(fd) TAKE_GENERIC(fd, -EBADF)

#define DEFINE_TRIVIAL_CLEANUP_FUNC(type, func)                                                             \
        static inline void func##p(type *p) {                                                               \
                if (*p)                                                                                     \
                        func(*p);                                                                           \
        }                                                                                                   \
        struct UNIQUE(trivial_cleanup_semicolon_)

#define new0(type, n) ((type *) calloc((n), sizeof(type)))

static inline void freep(void *p) {
        free(*(void **) p);
}
#define _cleanup_free_ _cleanup_(freep)

/* Frees and returns NULL: p = mfree(p). */
#define mfree(p)                                                                                            \
        ({                                                                                                  \
                free((void *) (p));                                                                         \
                (typeof(p)) NULL;                                                                           \
        })

/* Even adding 0 to NULL is undefined, so an array that was never allocated is told apart. */
#define FOREACH_ARRAY(i, array, n)                                                                          \
        for (typeof((array)[0]) *i = (array), *_end_##i = (i) ? (i) + (n) : (i); (i) < _end_##i; (i)++)

/* True while r stands for "the peer or kernel wants us to come back later". */
#define ERRNO_IS_TRANSIENT(r)  ((r) == -EAGAIN || (r) == -EINTR)
#define ERRNO_IS_DISK_SPACE(r) ((r) == -ENOSPC || (r) == -EDQUOT)
