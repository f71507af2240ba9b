/* optim.c: the updates of the optimizers (optim.def), and the test for values that are not finite.
 *
 * Each update is one loop over the elements of a parameter, its gradient and the optimizer's state. The file includes
 * itself once per dtype. Loops carry `omp simd` because p, g and the state may not be told apart by the compiler. What
 * a loop stores it has in a variable and never reads back: a load just after the store waits for it where vectors lie
 * across two cache lines, as in NumPy's large arrays, which begin 16 bytes after a page.
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
#define FABS fabsf
#include "optim.c"
#undef REAL
#undef INTEGER
#undef NAME
#undef SQRT
#undef FABS

#define REAL double
#define INTEGER int64_t
#define NAME(x) x##_f64
#define SQRT sqrt
#define FABS fabs
#include "optim.c"

const fg_optim_kernels FG_TABLE(fg_optim)[2] = {
    {
#define OPTIM(result, name, operands) .name = name##_f32,
#include "kernels.def"
        .update = {
#define OPTIMIZER(name, ...) [FG_OPTIMIZER_##name] = name##_f32,
#define WHOLE_OPTIMIZER(...)
#include "optim.def"
#undef OPTIMIZER
        },
    },
    {
#define OPTIM(result, name, operands) .name = name##_f64,
#include "kernels.def"
        .update = {
#define OPTIMIZER(name, ...) [FG_OPTIMIZER_##name] = name##_f64,
#define WHOLE_OPTIMIZER(...)
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

/* With amsgrad `largest` is an array, else NULL, as a constant wherever this is inlined. */
INLINE void NAME(adam_loop)(int64_t n, REAL *p, const REAL *g, REAL *m, REAL *v, REAL *largest,
                            const fg_adam_numbers *u)
{
    const REAL keep = u->decoupled != 0 ? (REAL)(1 - u->learning_rate * u->weight_decay) : 1;
    const REAL weight_decay = (REAL)u->weight_decay, eps = (REAL)u->eps;
    const REAL step = (REAL)(u->learning_rate / u->correction1);
    const REAL new1 = (REAL)(1 - u->beta1), old2 = (REAL)u->beta2, new2 = (REAL)(1 - u->beta2);
    const REAL root2 = (REAL)(1 / sqrt(u->correction2));
    const int decayed = u->decoupled == 0 && u->weight_decay != 0;
    SIMD for (int64_t i = 0; i < n; i++) {
        const REAL p0 = p[i] * keep, d = decayed ? g[i] + weight_decay * p0 : g[i];
        const REAL mean = m[i] + new1 * (d - m[i]), square = old2 * v[i] + new2 * d * d;
        REAL s = square;
        if (largest) {
            s = largest[i] > s ? largest[i] : s;
            largest[i] = s;
        }
        m[i] = mean;
        v[i] = square;
        p[i] = p0 - step * (mean / (SQRT(s) * root2 + eps));
    }
}

static void NAME(adam)(int64_t n, void *p, const void *g, void *const *state, const void *numbers)
{
    if (state[2]) NAME(adam_loop)(n, p, g, state[0], state[1], state[2], numbers);
    else NAME(adam_loop)(n, p, g, state[0], state[1], NULL, numbers);
}

static void NAME(adagrad)(int64_t n, void *p_, const void *g_, void *const *state, const void *numbers)
{
    const fg_adagrad_numbers *u = numbers;
    const REAL *g = g_, weight_decay = (REAL)u->weight_decay, eps = (REAL)u->eps, rate = (REAL)u->learning_rate;
    const REAL initial = (REAL)u->initial;
    const int first = u->first != 0;
    REAL *p = p_, *s = state[0];
    SIMD for (int64_t i = 0; i < n; i++) {
        const REAL d = g[i] + weight_decay * p[i], sum = (first ? initial : s[i]) + d * d;
        s[i] = sum;
        p[i] -= rate * (d / (SQRT(sum) + eps));
    }
}

static void NAME(adadelta)(int64_t n, void *p_, const void *g_, void *const *state, const void *numbers)
{
    const fg_adadelta_numbers *u = numbers;
    const REAL *g = g_, weight_decay = (REAL)u->weight_decay, eps = (REAL)u->eps, rate = (REAL)u->learning_rate;
    const REAL old = (REAL)u->rho, new = (REAL)(1 - u->rho);
    REAL *p = p_, *squares = state[0], *steps = state[1];
    SIMD for (int64_t i = 0; i < n; i++) {
        const REAL d = g[i] + weight_decay * p[i];
        const REAL square = old * squares[i] + new * d * d;
        const REAL step = SQRT(steps[i] + eps) / SQRT(square + eps) * d;
        squares[i] = square;
        steps[i] = old * steps[i] + new * step * step;
        p[i] -= rate * step;
    }
}

INLINE void NAME(rmsprop_loop)(int64_t n, REAL *p, const REAL *g, REAL *s, REAL *mean, REAL *buf,
                               const fg_rmsprop_numbers *u)
{
    const REAL weight_decay = (REAL)u->weight_decay, eps = (REAL)u->eps, rate = (REAL)u->learning_rate;
    const REAL old = (REAL)u->alpha, new = (REAL)(1 - u->alpha), momentum = (REAL)u->momentum;
    SIMD for (int64_t i = 0; i < n; i++) {
        const REAL d = g[i] + weight_decay * p[i];
        const REAL square = old * s[i] + new * d * d;
        REAL v = square;
        s[i] = square;
        if (mean) {
            const REAL a = mean[i] + new * (d - mean[i]);
            mean[i] = a;
            v -= a * a;
            v = v < 0 ? 0 : v; /* a variance of nearly 0, rounded */
        }
        REAL step = d / (SQRT(v) + eps);
        if (buf) {
            step += momentum * buf[i];
            buf[i] = step;
        }
        p[i] -= rate * step;
    }
}

static void NAME(rmsprop)(int64_t n, void *p, const void *g, void *const *state, const void *numbers)
{
    const fg_rmsprop_numbers *u = numbers;
    if (u->centered != 0 && u->momentum != 0) NAME(rmsprop_loop)(n, p, g, state[0], state[1], state[2], u);
    else if (u->centered != 0) NAME(rmsprop_loop)(n, p, g, state[0], state[1], NULL, u);
    else if (u->momentum != 0) NAME(rmsprop_loop)(n, p, g, state[0], NULL, state[1], u);
    else NAME(rmsprop_loop)(n, p, g, state[0], NULL, NULL, u);
}

static void NAME(nadam)(int64_t n, void *p_, const void *g_, void *const *state, const void *numbers)
{
    const fg_nadam_numbers *u = numbers;
    const REAL *g = g_, keep = u->decoupled != 0 ? (REAL)(1 - u->learning_rate * u->weight_decay) : 1;
    const REAL weight_decay = u->decoupled != 0 ? 0 : (REAL)u->weight_decay, eps = (REAL)u->eps;
    const REAL new1 = (REAL)(1 - u->beta1), old2 = (REAL)u->beta2, new2 = (REAL)(1 - u->beta2);
    const REAL root2 = (REAL)(1 / sqrt(u->correction2)), of_gradient = (REAL)u->of_gradient, of_mean = (REAL)u->of_mean;
    REAL *p = p_, *m = state[0], *v = state[1];
    SIMD for (int64_t i = 0; i < n; i++) {
        const REAL p0 = p[i] * keep, d = g[i] + weight_decay * p0;
        const REAL mean = m[i] + new1 * (d - m[i]), square = old2 * v[i] + new2 * d * d;
        m[i] = mean;
        v[i] = square;
        p[i] = p0 - (of_gradient * d + of_mean * mean) / (SQRT(square) * root2 + eps);
    }
}

static void NAME(radam)(int64_t n, void *p_, const void *g_, void *const *state, const void *numbers)
{
    const fg_radam_numbers *u = numbers;
    const REAL *g = g_, keep = u->decoupled != 0 ? (REAL)(1 - u->learning_rate * u->weight_decay) : 1;
    const REAL weight_decay = u->decoupled != 0 ? 0 : (REAL)u->weight_decay, eps = (REAL)u->eps;
    const REAL new1 = (REAL)(1 - u->beta1), old2 = (REAL)u->beta2, new2 = (REAL)(1 - u->beta2);
    const REAL rate = (REAL)(u->learning_rate / u->correction1), adaptive = (REAL)u->adaptive;
    const int adapts = u->adaptive != 0;
    REAL *p = p_, *m = state[0], *v = state[1];
    SIMD for (int64_t i = 0; i < n; i++) {
        const REAL p0 = p[i] * keep, d = g[i] + weight_decay * p0;
        const REAL mean = m[i] + new1 * (d - m[i]), square = old2 * v[i] + new2 * d * d;
        m[i] = mean;
        v[i] = square;
        p[i] = p0 - rate * mean * (adapts ? adaptive / (SQRT(square) + eps) : 1);
    }
}

static void NAME(adamax)(int64_t n, void *p_, const void *g_, void *const *state, const void *numbers)
{
    const fg_adamax_numbers *u = numbers;
    const REAL *g = g_, weight_decay = (REAL)u->weight_decay, eps = (REAL)u->eps;
    const REAL new1 = (REAL)(1 - u->beta1), old2 = (REAL)u->beta2, rate = (REAL)(u->learning_rate / u->correction1);
    REAL *p = p_, *m = state[0], *most = state[1];
    SIMD for (int64_t i = 0; i < n; i++) {
        const REAL d = g[i] + weight_decay * p[i], size = FABS(d) + eps, old = old2 * most[i];
        const REAL mean = m[i] + new1 * (d - m[i]), largest = old > size ? old : size;
        m[i] = mean;
        most[i] = largest;
        p[i] -= rate * (mean / largest);
    }
}

/* -1, 0 or 1; nan of nan */
INLINE REAL NAME(sign)(REAL x) { return x != x ? x : (REAL)((x > 0) - (x < 0)); }

static void NAME(lion)(int64_t n, void *p_, const void *g_, void *const *state, const void *numbers)
{
    const fg_lion_numbers *u = numbers;
    const REAL *g = g_, weight_decay = (REAL)u->weight_decay, rate = (REAL)u->learning_rate;
    const REAL old1 = (REAL)u->beta1, new1 = (REAL)(1 - u->beta1), old2 = (REAL)u->beta2, new2 = (REAL)(1 - u->beta2);
    REAL *p = p_, *m = state[0];
    SIMD for (int64_t i = 0; i < n; i++) {
        p[i] -= rate * (NAME(sign)(old1 * m[i] + new1 * g[i]) + weight_decay * p[i]);
        m[i] = old2 * m[i] + new2 * g[i];
    }
}

static void NAME(rprop)(int64_t n, void *p_, const void *g_, void *const *state, const void *numbers)
{
    const fg_rprop_numbers *u = numbers;
    const REAL *g = g_, plus = (REAL)u->eta_plus, minus = (REAL)u->eta_minus, least = (REAL)u->least;
    const REAL most = (REAL)u->most, initial = (REAL)u->learning_rate;
    const int first = u->first != 0;
    REAL *p = p_, *before = state[0], *size = state[1];
    SIMD for (int64_t i = 0; i < n; i++) {
        const REAL turn = first ? 0 : NAME(sign)(g[i]) * NAME(sign)(before[i]);
        REAL s = (first ? initial : size[i]) * (turn > 0 ? plus : turn < 0 ? minus : 1);
        s = s < least ? least : s > most ? most : s;
        const REAL d = turn < 0 ? 0 : g[i];
        p[i] -= s * NAME(sign)(d);
        before[i] = d;
        size[i] = s;
    }
}

static void NAME(average)(int64_t n, void *p_, const void *g_, void *const *state, const void *numbers)
{
    const fg_average_numbers *u = numbers;
    const REAL *g = g_, weight = (REAL)u->weight;
    REAL *p = p_;
    (void)state;
    SIMD for (int64_t i = 0; i < n; i++) p[i] += weight * (g[i] - p[i]);
}

static double NAME(sum_squares)(int64_t n, double scale, const void *x_)
{
    const REAL *x = x_;
    double sum = 0;
    _Pragma("omp simd reduction(+ : sum)") for (int64_t i = 0; i < n; i++) {
        const double y = scale * (double)x[i];
        sum += y * y;
    }
    return sum;
}

static void NAME(clip)(int64_t n, double scale_, double limit_, const void *x_, void *y_)
{
    const REAL *x = x_, scale = (REAL)scale_, limit = (REAL)limit_;
    REAL *y = y_;
    SIMD for (int64_t i = 0; i < n; i++) {
        const REAL v = scale * x[i];
        y[i] = v > limit ? limit : v < -limit ? -limit : v;
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

static int NAME(all_zero)(int64_t n, const void *x_)
{
    const REAL *x = x_;
    INTEGER other = 0;
    for (int64_t start = 0; start < n && !other; start += CHUNK)
        for (int64_t i = start; i < LESSER(n, start + CHUNK); i++) other |= x[i] != 0;
    return !other;
}

#endif
