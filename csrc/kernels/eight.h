/* eight.h: vectors of eight elements, for native programs: lane i of a sum of products is sum i of the kernel `narrow`
 * in gemm.c.
 *
 * The file includes itself once per dtype.
 */
#ifndef REAL
#ifndef FG_KERNELS_EIGHT_H
#define FG_KERNELS_EIGHT_H

#include <stdint.h>

#define REAL float
#define NAME(x) x##_f32
#include "kernels/eight.h"
#define REAL double
#define NAME(x) x##_f64
#include "kernels/eight.h"

#endif
#else /* ---- once per dtype ---- */

typedef REAL NAME(eight) __attribute__((vector_size(8 * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));
typedef REAL NAME(four) __attribute__((vector_size(4 * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));

/* The upper half of the lanes is added to the lower one, until there is one lane. */
static inline __attribute__((always_inline)) REAL NAME(sum_of_eight)(NAME(eight) x)
{
    const NAME(four) *halves = (const NAME(four) *)&x;
    const NAME(four) y = halves[0] + halves[1];
    return (y[0] + y[2]) + (y[1] + y[3]);
}

#undef REAL
#undef NAME
#endif
