/* context.c: the state of each thread, the switch that says whether anything is traced, the callbacks that the caller
 * lends the core, and the last error.
 *
 * All of it is read or written by several wings above. It is here so that none of them has to ask a higher one.
 */
#include "fastgrad.h"

#include <stdarg.h>
#include <stdio.h>

_Thread_local fg_thread_state fg_thread = {.grad_enabled = 1};
int fg_tracing;

/* ---- callbacks, set by the caller once ------------------------------------------------------------------ */
void (*fg_on_release)(void *owner);
int (*fg_on_pause)(void);
int (*fg_on_promotion)(const fg_array *narrow, const fg_array *wide);
int (*fg_on_rule)(fg_node *, int i, fg_tensor g, fg_tensor *gx);
int (*fg_on_custom)(void *rule, fg_node *, fg_tensor g, fg_tensor *gin);
int (*fg_on_numpy)(const fg_call *, fg_array *y);
const char *(*fg_on_numpy_name)(int64_t which);
int (*fg_on_refused)(const fg_call *, fg_array *y);

/* ---- the last error ------------------------------------------------------------------------------------- */
static _Thread_local char message[1024];
static _Thread_local fg_status last_status;

int fg_fail(fg_status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    last_status = status;
    return status;
}

int fg_index_outside(const char *name, int64_t index, int64_t at, int64_t length)
{
    char place[40] = "";
    if (at >= 0)
        snprintf(place, sizeof place, " at position %lld", (long long)at);
    return fg_fail(FG_BAD_INDEX, "%s: index %lld%s is outside an axis of length %lld", name, (long long)index, place,
                   (long long)length);
}

int fg_failed(void) { return last_status; }
const char *fg_message(void) { return message; }
