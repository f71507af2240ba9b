/* step, as C: see step.h. Written by fastgrad 0.1.0. */
#include "step.h"

#include <math.h>
#include <string.h>

static inline uint64_t vm_bits_f64(double x) { uint64_t u; memcpy(&u, &x, sizeof u); return u; }

static inline double vm_float_f64(uint64_t u) { double x; memcpy(&x, &u, sizeof x); return x; }

static inline double vm_exp_tail_f64(double r) {
    return ((0x1.000000000000cp-1) + (r) * ((0x1.5555555555561p-3) + (r) * ((0x1.555555554fef3p-5) + (r) *
        ((0x1.111111110d4b6p-7) + (r) * ((0x1.6c16c185effe1p-10) + (r) * ((0x1.a01a01bb5ae89p-13) + (r) *
        ((0x1.a01995c6c1bdap-16) + (r) * ((0x1.71ddded174acep-19) + (r) * ((0x1.28b10d086704dp-22) + (r) *
        (0x1.af86fd329fe5dp-26))))))))));
}

static inline double vm_power2_f64(double n_rounded) { return vm_float_f64((vm_bits_f64(n_rounded) + 1023) << 52); }

static inline double vm_clamp_f64(double x, double lo, double hi) { x = x < lo ? lo : x; return x > hi ? hi : x; }

typedef struct { double s, q; } vm_expm1_parts_f64;

static inline vm_expm1_parts_f64 vm_expm1_core_f64(double x) {
    double t = x * 0x1.71547652b82fep+0 + 0x1.8p52, n = t - 0x1.8p52;
    double a = x - n * 0x1.62e42feep-1, r = a - n * 0x1.a39ef35793c76p-33, lo = (a - r) - n * 0x1.a39ef35793c76p-33;
    return (vm_expm1_parts_f64){vm_power2_f64(t), r + (r * r * vm_exp_tail_f64(r) + lo)};
}

static inline double vm_tanh_f64(double x) {
    double a = vm_clamp_f64(fabs(x), 0, 22);
    vm_expm1_parts_f64 e = vm_expm1_core_f64(-2 * a);
    double u = e.s + e.s * e.q, m = e.s * e.q + (e.s - 1);
    double top = a > 0.55 ? -2 * u : -m, base = a > 0.55 ? 1 : 0;
    return copysign(base + top / (e.s * e.q + (e.s + 1)), x);
}

static inline double square_f64(double x) { return (double)(x * x); }

static inline double square_vjp_f64(double x, double y, double g) { return (void)x, (void)y, g * (double)(2 * x); }

static inline double tanh_f64 (double x) { return (vm_tanh_f64(x)); }

static inline double tanh_vjp_f64 (double x, double y, double g) {
    return ((void)x, (void)y, g * ((double)((1 + y) * (1 - y))));
}

static inline double subtract_f64(double a, double b) { return (double)(a - b); }

static inline double multiply_f64(double a, double b) { return (double)(a * b); }

static inline double divide_f64(double a, double b) { return (double)(a / b); }

static double sum_of_f64(int64_t n, int64_t step, const double *x)
{
    double total = 0;
    for (int64_t from = 0; from < n; from += 64) {
        const int64_t end = n - from < 64 ? n : from + 64;
        double part = 0;
        for (int64_t i = from; i < end; i++) part += x[i * step];
        total += part;
    }
    return total;
}

_Static_assert(sizeof(step_workspace) == STEP_WORKSPACE_BYTES, "a workspace without gaps");

int step(const double *params_v, const double *params_w, const double *x, const double *y, double rate,
         double *result_0, double *result_1_v, double *result_1_w, step_workspace *workspace)
{
    double *const w5 = workspace->of_double;
    double *const w6 = workspace->of_double + 40;
    double *const w18 = workspace->of_double;
    double *const w21 = workspace->of_double + 80;
    {
        const int64_t s = 0;
        for (int64_t i = 0; i < 10; i++) {
            for (int64_t j = 0; j < 4; j++) {
                double total = 0;
                for (int64_t p = 0; p < 3; p++) total += x[0 + i * 3 + p] * params_w[0 + p * 4 + j];
                w5[(s * 10 + i) * 4 + j] = total;
            }
        }
    }
    for (int64_t i = 0; i < 40; i++) {
        w6[i] = tanh_f64(w5[i]);
    }
    double v8[10];
    {
        const int64_t s = 0;
        for (int64_t i = 0; i < 10; i++) {
            {
                const int64_t j = 0;
                double total = 0;
                for (int64_t p = 0; p < 4; p++) total += w6[0 + i * 4 + p] * params_v[0 + p * 1 + j];
                v8[(s * 10 + i) * 1 + j] = total;
            }
        }
    }
    double v10[10];
    double v11[10];
    for (int64_t i = 0; i < 10; i++) {
        const double e10 = subtract_f64(v8[i], y[i]);
        v10[i] = e10;
        v11[i] = square_f64(e10);
    }
    double v12;
    {
        v12 = sum_of_f64(10, 1, v11);
    }
    const double v14 = divide_f64(v12, 10.0);
    double v16[10];
    for (int64_t i = 0; i < 10; i++) {
        v16[i] = square_vjp_f64(v10[i], 0, 0.1);
    }
    {
        const int64_t s = 0;
        for (int64_t i = 0; i < 10; i++) {
            for (int64_t j = 0; j < 4; j++) {
                double total = 0;
                for (int64_t p = 0; p < 1; p++) total += v16[0 + i * 1 + p] * params_v[0 + j * 1 + p];
                w18[(s * 10 + i) * 4 + j] = total;
            }
        }
    }
    double v19[4];
    {
        const int64_t s = 0;
        for (int64_t i = 0; i < 4; i++) {
            {
                const int64_t j = 0;
                double total = 0;
                for (int64_t p = 0; p < 10; p++) total += w6[0 + p * 4 + i] * v16[0 + p * 1 + j];
                v19[(s * 4 + i) * 1 + j] = total;
            }
        }
    }
    for (int64_t i = 0; i < 40; i++) {
        w21[i] = tanh_vjp_f64(0, w6[i], w18[i]);
    }
    double v22[12];
    {
        const int64_t s = 0;
        for (int64_t i = 0; i < 3; i++) {
            for (int64_t j = 0; j < 4; j++) {
                double total = 0;
                for (int64_t p = 0; p < 10; p++) total += x[0 + p * 3 + i] * w21[0 + p * 4 + j];
                v22[(s * 3 + i) * 4 + j] = total;
            }
        }
    }
    for (int64_t i = 0; i < 4; i++) {
        const double e24 = multiply_f64(rate, v19[i]);
        result_1_v[i] = subtract_f64(params_v[i], e24);
    }
    for (int64_t i = 0; i < 12; i++) {
        const double e26 = multiply_f64(rate, v22[i]);
        result_1_w[i] = subtract_f64(params_w[i], e26);
    }
    result_0[0] = v14;
    return 0;
}

#ifdef STEP_MAIN
#include <stdio.h>

static const double given_params_v[4] = {
    1.0, 1.0, 1.0, 1.0};
static const double given_params_w[12] = {
    1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0};
static const double given_x[30] = {
    1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0,
    1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0};
static const double given_y[10] = {
    1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0};
static const double given_rate[1] = {
    0.1};
static const double expected_result_0[1] = {
    8.881705375859113};
static double found_result_0[1];
static const double expected_result_1_v[4] = {
    0.4069037804696982, 0.4069037804696982, 0.4069037804696982, 0.4069037804696982};
static double found_result_1_v[4];
static const double expected_result_1_w[12] = {
    0.994119409687871, 0.994119409687871, 0.994119409687871, 0.994119409687871, 0.994119409687871,
    0.994119409687871, 0.994119409687871, 0.994119409687871, 0.994119409687871, 0.994119409687871,
    0.994119409687871, 0.994119409687871};
static double found_result_1_w[12];

static int differ(const char *name, int64_t n, double tolerance, double found, double expected, double scale)
{
    const int both_nan = found != found && expected != expected;
    if (both_nan || found == expected || fabs(found - expected) <= tolerance * scale) return 0;
    printf("%s[%ld] is %.17g, expected %.17g\n", name, (long)n, found, expected);
    return 1;
}

int main(void)
{
    int wrong = 0;
    static step_workspace workspace;
    const int status = step(given_params_v, given_params_w, given_x, given_y, given_rate[0], found_result_0, found_result_1_v, found_result_1_w, &workspace);
    if (status) {
        printf("step: status %d\n", status);
        return 1;
    }
    for (int64_t i = 0; i < 1; i++)
        wrong += differ("result_0", i, 1e-09, (double)found_result_0[i], (double)expected_result_0[i], 8.881705375859113);
    for (int64_t i = 0; i < 4; i++)
        wrong += differ("result_1_v", i, 1e-09, (double)found_result_1_v[i], (double)expected_result_1_v[i], 0.4069037804696982);
    for (int64_t i = 0; i < 12; i++)
        wrong += differ("result_1_w", i, 1e-09, (double)found_result_1_w[i], (double)expected_result_1_w[i], 0.994119409687871);
    printf("step: %s\n", wrong ? "wrong" : "all results agree");
    return wrong != 0;
}
#endif
