/* whole_updates.c: the updates of optimizers in which each element depends on the whole parameter: on its norm, on
 * means over its rows and columns, on products of matrices.
 *
 * The formulas are those of optim.def. The file includes itself once per dtype. Sums are taken in float64.
 */
#ifndef REAL

#include "kernels.h"
#include "kernels/gemm_dispatch.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* The last two axes of a parameter, and how many matrices of them there are. */
typedef struct { int64_t stack, rows, cols, n; } matrices;

static matrices matrices_of(int ndim, const int64_t *dim)
{
    matrices m = {1, 1, ndim ? dim[ndim - 1] : 1, 1};
    if (ndim > 1)
        m.rows = dim[ndim - 2];
    for (int i = 0; i < ndim - 2; i++)
        m.stack *= dim[i];
    m.n = m.stack * m.rows * m.cols;
    return m;
}

int64_t fg_state_size(int optimizer, int k, int ndim, const int64_t *dim)
{
    const matrices m = matrices_of(ndim, dim);
    if (optimizer == FG_OPTIMIZER_adafactor) {
        if (k == 2)
            return ndim > 1 ? 0 : m.n;
        return ndim > 1 ? m.stack * (k ? m.cols : m.rows) : 0;
    }
    return optimizer == FG_OPTIMIZER_muon && k ? 0 : m.n;
}

static int64_t lesser(int64_t a, int64_t b) { return a < b ? a : b; }

int64_t fg_update_work(int optimizer, int ndim, const int64_t *dim)
{
    const matrices m = matrices_of(ndim, dim);
    const int64_t square = lesser(m.rows, m.cols) * lesser(m.rows, m.cols);
    return optimizer == FG_OPTIMIZER_muon ? 2 * (m.n + square) : 0; /* X, the next X, A and b A + c A A */
}

static void product(int dtype, int ta, int tb, int64_t m, int64_t n, int64_t k, const void *a, int64_t lda,
                    const void *b, void *c)
{
    fg_gemm(dtype, fg_choose_gemm_backend(dtype, ta, tb, m, n, k), ta, tb, m, n, k, a, lda, b, 0, c);
}

#define REAL float
#define NAME(x) x##_f32
#include "whole_updates.c"
#undef REAL
#undef NAME

#define REAL double
#define NAME(x) x##_f64
#include "whole_updates.c"
#undef REAL
#undef NAME

void fg_update_whole(const fg_update_rule *u, int dtype, int ndim, const int64_t *dim, void *p, const void *g,
                     void *const *state, void *work)
{
    typedef void update(const matrices *, int ndim, void *p, const void *g, void *const *state, const void *numbers,
                        void *work);
    static update *const updates[FG_N_OPTIMIZERS][2] = {
#define OPTIMIZER(...)
#define WHOLE_OPTIMIZER(name, ...) [FG_OPTIMIZER_##name] = {name##_f32, name##_f64},
#include "optim.def"
#undef OPTIMIZER
    };
    const matrices m = matrices_of(ndim, dim);
    if (m.n)
        updates[u->optimizer][dtype](&m, ndim, p, g, state, u->number, work);
}

#else /* ---- once per dtype ---- */

static double NAME(norm)(int64_t n, const REAL *x)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

static void NAME(lamb)(const matrices *w, int ndim, void *p_, const void *g_, void *const *state, const void *numbers,
                       void *work)
{
    const fg_lamb_numbers *u = numbers;
    const REAL *g = g_;
    REAL *p = p_, *m = state[0], *v = state[1];
    const REAL new1 = (REAL)(1 - u->beta1), old2 = (REAL)u->beta2, new2 = (REAL)(1 - u->beta2);
    const REAL of_m = (REAL)(1 / u->correction1), of_v = (REAL)(1 / sqrt(u->correction2));
    const REAL eps = (REAL)u->eps, weight_decay = (REAL)u->weight_decay;
    double of_step = 0, of_p = 0;
    (void)ndim, (void)work;
#define STEP(i) (m[i] * of_m / ((REAL)sqrt(v[i]) * of_v + eps) + weight_decay * p[i])
    for (int64_t i = 0; i < w->n; i++) {
        m[i] += new1 * (g[i] - m[i]);
        v[i] = old2 * v[i] + new2 * g[i] * g[i];
        const double step = STEP(i), x = p[i];
        of_step += step * step;
        of_p += x * x;
    }
    const double ratio = of_step == 0 || of_p == 0 ? 1 : sqrt(of_p) / sqrt(of_step);
    const REAL rate = (REAL)(u->learning_rate * ratio);
    for (int64_t i = 0; i < w->n; i++)
        p[i] -= rate * STEP(i);
#undef STEP
}

/* Of one matrix: r, the running means of squares over its rows, and c, those over its columns. */
static void NAME(factor)(const matrices *w, const REAL *g, double new, REAL *r, REAL *c)
{
    for (int64_t k = 0; k < w->cols; k++)
        c[k] *= (REAL)(1 - new);
    for (int64_t i = 0; i < w->rows; i++, g += w->cols) {
        const double norm = NAME(norm)(w->cols, g);
        r[i] += (REAL)new * ((REAL)(norm * norm / (double)w->cols) - r[i]);
        const REAL weight = (REAL)(new / (double)w->rows);
        for (int64_t k = 0; k < w->cols; k++)
            c[k] += weight * g[k] * g[k];
    }
}

/* Of one matrix, or of one vector if r is NULL, whose v is then c: with `rate`, p -= rate u, else the sum of u^2. */
static double NAME(adafactor_pass)(const matrices *w, const fg_adafactor_numbers *n, const REAL *g, const REAL *r,
                                   const REAL *c, double rate, REAL *p)
{
    const double eps1 = n->eps1 >= 0 ? n->eps1 : sizeof(REAL) == sizeof(float) ? FLT_EPSILON : DBL_EPSILON;
    const double least = eps1 * eps1;
    double sum = 0, mean = 0;
    for (int64_t i = 0; r && i < w->rows; i++)
        mean += r[i];
    mean /= (double)w->rows;
    for (int64_t i = 0; i < w->rows; i++, g += w->cols, p += w->cols) {
        const double of_row = r ? r[i] / (mean < eps1 ? eps1 : mean) : 1;
        for (int64_t k = 0; k < w->cols; k++) {
            const double v = of_row * (double)c[k], u = (double)g[k] / sqrt(v < least ? least : v);
            if (rate != 0)
                p[k] -= (REAL)(rate * u);
            else
                sum += u * u;
        }
    }
    return sum;
}

static void NAME(adafactor)(const matrices *w, int ndim, void *p_, const void *g_, void *const *state,
                            const void *numbers, void *work)
{
    const fg_adafactor_numbers *u = numbers;
    const REAL *g = g_;
    REAL *p = p_, *r = state[0], *c = state[1], *v = state[2];
    const int64_t size = w->rows * w->cols;
    const double root_n = sqrt((double)w->n);
    (void)work;
    const double of_p = NAME(norm)(w->n, p) / root_n;
    const REAL keep = (REAL)(1 - u->learning_rate * u->weight_decay);
    if (keep != 1)
        for (int64_t i = 0; i < w->n; i++)
            p[i] *= keep;
    if (ndim > 1)
        for (int64_t s = 0; s < w->stack; s++)
            NAME(factor)(w, g + s * size, u->new, r + s * w->rows, c + s * w->cols);
    else
        for (int64_t i = 0; i < w->n; i++)
            v[i] += (REAL)u->new * (g[i] * g[i] - v[i]);
    double rate = 0;
    for (int pass = 0; pass < 2; pass++) {
        double sum = 0;
        for (int64_t s = 0; s < w->stack; s++)
            sum += NAME(adafactor_pass)(w, u, g + s * size, ndim > 1 ? r + s * w->rows : NULL,
                                        ndim > 1 ? c + s * w->cols : v, rate, p + s * size);
        const double rms = sqrt(sum) / root_n / u->d;
        rate = u->step * (of_p > u->eps2 ? of_p : u->eps2) / (rms > 1 ? rms : 1);
        if (rate == 0)
            return;
    }
}

/* y = a x + b y */
static void NAME(add_scaled)(int64_t n, double a_, const REAL *x, double b_, REAL *y)
{
    const REAL a = (REAL)a_, b = (REAL)b_;
    for (int64_t i = 0; i < n; i++)
        y[i] = a * x[i] + b * y[i];
}

static void NAME(muon)(const matrices *w, int ndim, void *p, const void *g, void *const *state, const void *numbers,
                       void *work)
{
    const fg_muon_numbers *u = numbers;
    const int dtype = sizeof(REAL) == sizeof(float) ? FG_FLOAT32 : FG_FLOAT64;
    const int tall = w->rows > w->cols; /* then A = X' X, and X is multiplied from the right */
    const int64_t n = w->n, rows = w->rows, cols = w->cols, k = tall ? cols : rows;
    REAL *m = state[0], *x = work, *y = x + n, *a = y + n, *b = a + k * k;
    (void)ndim;
    NAME(add_scaled)(n, 1 - u->momentum, g, u->momentum, m);
    memcpy(x, u->nesterov != 0 ? g : m, (size_t)n * sizeof(REAL));
    if (u->nesterov != 0)
        NAME(add_scaled)(n, u->momentum, m, 1 - u->momentum, x);
    const double norm = NAME(norm)(n, x);
    NAME(add_scaled)(n, 0, m, 1 / (norm > u->eps ? norm : u->eps), x);
    for (int step = 0; step < (int)u->ns_steps; step++) {
        product(dtype, tall, !tall, k, k, tall ? rows : cols, x, cols, x, a);
        product(dtype, 0, 0, k, k, k, a, k, a, b);
        NAME(add_scaled)(k * k, u->b, a, u->c, b);
        if (tall)
            product(dtype, 0, 0, rows, cols, cols, x, cols, b, y);
        else
            product(dtype, 0, 0, rows, cols, rows, b, rows, x, y);
        NAME(add_scaled)(n, u->a, x, 1, y);
        REAL *swap = x;
        x = y, y = swap;
    }
    const double r = (double)rows, c = (double)cols;
    const double adjusted = u->match_rms != 0 ? 0.2 * sqrt(r > c ? r : c) : sqrt(r > c ? r / c : 1);
    NAME(add_scaled)(n, -u->learning_rate * adjusted, x, 1 - u->learning_rate * u->weight_decay, p);
}

#endif
