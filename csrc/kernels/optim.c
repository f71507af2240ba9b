/* optim.c: the updates of the optimizers (optim.def), and the test for values that are not finite.
 *
 * Each update is one loop over the elements of a parameter, its gradient and the optimizer's state. The file includes
 * itself once per dtype. Loops carry `omp simd` because p, g and the state may not be told apart by the compiler.
 */
#ifndef REAL

#include "kernels.h"
#include <math.h>

enum { CHUNK = 1024 }; /* elements between two checks whether a value that is not finite was found */

#define INLINE static inline __attribute__((always_inline))
#define SIMD _Pragma("omp simd")
#define LESSER(a, b) ((a) < (b) ? (a) : (b))

#define REAL float
#define INTEGER int32_t
#define NAME(x) x##_f32
#define SQRT sqrtf
#include "optim.c"
#undef REAL
#undef INTEGER
#undef NAME
#undef SQRT

#define REAL double
#define INTEGER int64_t
#define NAME(x) x##_f64
#define SQRT sqrt
#include "optim.c"

const fg_optim_kernels FG_TABLE(fg_optim)[2] = {
    {
#define OPTIM(result, name, operands) .name = name##_f32,
#include "kernels.def"
        .update = {
#define OPTIMIZER(name, ...) [FG_OPTIMIZER_##name] = name##_f32,
#include "optim.def"
#undef OPTIMIZER
        },
    },
    {
#define OPTIM(result, name, operands) .name = name##_f64,
#include "kernels.def"
        .update = {
#define OPTIMIZER(name, ...) [FG_OPTIMIZER_##name] = name##_f64,
#include "optim.def"
#undef OPTIMIZER
        },
    },
};

#else /* ---- once per dtype ---- */

/* The flags are constants wherever this is inlined, so that the loop has no branch. */
INLINE void NAME(sgd_loop)(int64_t n, REAL *p, const REAL *g, REAL *buf, REAL lr, REAL momentum, REAL undamped,
                           REAL weight_decay, int decayed, int nesterov, const int has_momentum,
                           const int first)
{
    SIMD for (int64_t i = 0; i < n; i++) {
        REAL d = decayed ? g[i] + weight_decay * p[i] : g[i];
        if (has_momentum) {
            const REAL b = first ? d : momentum * buf[i] + undamped * d;
            buf[i] = b;
            d = nesterov ? d + momentum * b : b;
        }
        p[i] -= lr * d;
    }
}

static void NAME(sgd)(int64_t n, void *p, const void *g, void *const *state, const void *numbers)
{
    const fg_sgd_numbers *u = numbers;
#define LOOP(has_momentum, is_first)                                                                               \
    NAME(sgd_loop)(n, p, g, state[0], (REAL)u->learning_rate, (REAL)u->momentum, (REAL)(1 - u->dampening),    \
                   (REAL)u->weight_decay, u->weight_decay != 0, u->nesterov != 0, has_momentum, is_first)
    if (u->momentum == 0) LOOP(0, 0);
    else if (u->first != 0) LOOP(1, 1);
    else LOOP(1, 0);
#undef LOOP
}

static void NAME(adam)(int64_t n, void *p_, const void *g_, void *const *state, const void *numbers)
{
    const fg_adam_numbers *u = numbers;
    const REAL *g = g_;
    REAL *p = p_, *m = state[0], *v = state[1];
    const REAL keep = u->decoupled != 0 ? (REAL)(1 - u->learning_rate * u->weight_decay) : 1;
    const REAL weight_decay = (REAL)u->weight_decay, eps = (REAL)u->eps;
    const REAL step = (REAL)(u->learning_rate / u->correction1);
    const REAL new1 = (REAL)(1 - u->beta1), old2 = (REAL)u->beta2, new2 = (REAL)(1 - u->beta2);
    const REAL root2 = (REAL)(1 / sqrt(u->correction2));
    const int decayed = u->decoupled == 0 && u->weight_decay != 0;
    SIMD for (int64_t i = 0; i < n; i++) {
        const REAL p0 = p[i] * keep, d = decayed ? g[i] + weight_decay * p0 : g[i];
        m[i] += new1 * (d - m[i]);
        v[i] = old2 * v[i] + new2 * d * d;
        p[i] = p0 - step * (m[i] / (SQRT(v[i]) * root2 + eps));
    }
}

static int NAME(all_finite)(int64_t n, const void *x_)
{
    const REAL *x = x_;
    INTEGER bad = 0;
    for (int64_t start = 0; start < n && !bad; start += CHUNK)
        for (int64_t i = start; i < LESSER(n, start + CHUNK); i++) bad |= x[i] - x[i] != 0;
    return !bad;
}

#endif
