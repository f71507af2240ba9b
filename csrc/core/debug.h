/* debug.h: assertions of what holds unless this library itself has a fault.
 *
 * Bad input is never a reason to assert: it gets a status and a message. Builds with -DFG_DEBUG (FASTGRAD_DEBUG=1 or
 * FASTGRAD_SANITIZE in setup.py) check each condition, name the one that fails and stop there, where a debugger or the
 * sanitizer's stack trace shows how it came about. Elsewhere a condition is compiled, so that it stays correct C, but
 * never evaluated.
 */
#ifndef FASTGRAD_DEBUG_H
#define FASTGRAD_DEBUG_H

#ifdef FG_DEBUG
#include <stdio.h>
#define FG_ASSERT(condition)                                                                                  \
    ((condition) ? (void)0 :                                                                                  \
     (void)(fprintf(stderr, "%s:%d: assertion failed: %s\n", __FILE__, __LINE__, #condition), __builtin_trap()))
#else
#define FG_ASSERT(condition) ((void)sizeof(!(condition)))
#endif

/* Under the memory sanitizer: memory that a kernel is about to read has been written. */
#if defined(__has_feature)
#if __has_feature(memory_sanitizer)
#include <sanitizer/msan_interface.h>
#define FG_MEMORY_SANITIZER
#define FG_ASSERT_WRITTEN(memory, bytes) __msan_check_mem_is_initialized(memory, (size_t)(bytes))
#endif
#endif

#endif
