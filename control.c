/* control, as C: see control.h. Written by fastgrad 0.1.0. */
#include "control.h"

#include <math.h>
#include <string.h>

static inline uint64_t vm_bits_f64(double x) { uint64_t u; memcpy(&u, &x, sizeof u); return u; }

static inline double vm_float_f64(uint64_t u) { double x; memcpy(&x, &u, sizeof x); return x; }

typedef struct { double hi, lo; } vm_dd;

static inline vm_dd vm_fast_two_sum(double a, double b) {
    double s = a + b;
    return (vm_dd){s, b - (s - a)};
}

static inline vm_dd vm_two_sum(double a, double b) {
    double s = a + b, t = s - a;
    return (vm_dd){s, (a - (s - t)) + (b - t)};
}

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

static inline double vm_sqrt_f64(double x) { return sqrt(x); }

typedef struct { double hi, lo, odd; uint64_t n; } vm_quadrant;

static inline double vm_mod2(double n) { return n - 2 * ((0.5 * n + 0x1.8p52) - 0x1.8p52); }

static inline vm_quadrant vm_quadrant_f64(double x) {
    double t = x * 0x1.45f306dc9c883p-1 + 0x1.8p52, n = t - 0x1.8p52;
    double a = (x - n * 0x1.921fb544p+0), b = n * 0x1.0b4611a6p-34;
    vm_dd s = vm_two_sum(a, -b);
    double lo = s.lo - n * 0x1.3198a2e037073p-69;
    vm_dd r = vm_fast_two_sum(s.hi, lo);
    return (vm_quadrant){r.hi, r.lo, vm_mod2(n), vm_bits_f64(t)};
}

static inline double vm_sine_part(vm_quadrant q) {
    double r = q.hi, z = r * r;
    double p = ((-0x1.5555555555549p-3) + (z) * ((0x1.111111110f84ap-7) + (z) * ((-0x1.a01a019c0b0adp-13) + (z) *
        ((0x1.71de35719e68cp-19) + (z) * ((-0x1.ae5e612815217p-26) + (z) * (0x1.5d91741d3880bp-33))))));
    return r + (r * z * p + q.lo * (1 - 0.5 * z));
}

static inline double vm_cosine_part(vm_quadrant q) {
    double r = q.hi, z = r * r, h = 0.5 * z, w = 1 - h;
    double p = ((0x1.555555555554cp-5) + (z) * ((-0x1.6c16c16c15145p-10) + (z) * ((0x1.a01a019cabd3fp-16) + (z) *
        ((-0x1.27e4f8056ef8bp-22) + (z) * ((0x1.1ee9e8b412507p-29) + (z) * (-0x1.8face1ac1eff7p-37))))));
    return w + (((1 - w) - h) + (z * z * p - r * q.lo));
}

static inline double vm_sin_f64(double x) {
    vm_quadrant q = vm_quadrant_f64(x);
    double y = q.odd != 0 ? vm_cosine_part(q) : vm_sine_part(q);
    y = vm_float_f64(vm_bits_f64(y) ^ ((q.n & 2) << 62));
    return x == 0 ? x : y;
}

static inline double vm_cos_f64(double x) {
    vm_quadrant q = vm_quadrant_f64(x);
    double y = q.odd != 0 ? vm_sine_part(q) : vm_cosine_part(q);
    return vm_float_f64(vm_bits_f64(y) ^ (((q.n + 1) & 2) << 62));
}

static inline double vm_sin_huge_f64(double x) { return sin(x); }

static inline double vm_cos_huge_f64(double x) { return cos(x); }

static inline double vm_tanh_f64(double x) {
    double a = vm_clamp_f64(fabs(x), 0, 22);
    vm_expm1_parts_f64 e = vm_expm1_core_f64(-2 * a);
    double u = e.s + e.s * e.q, m = e.s * e.q + (e.s - 1);
    double top = a > 0.55 ? -2 * u : -m, base = a > 0.55 ? 1 : 0;
    return copysign(base + top / (e.s * e.q + (e.s + 1)), x);
}

static inline double vm_absolute_f64(double x) { return fabs(x); }

static inline double sin_huge_f64(double x) { return vm_sin_huge_f64(x); }

static inline double cos_huge_f64(double x) { return vm_cos_huge_f64(x); }

static inline double minus_sin_huge_f64(double x) { return -vm_sin_huge_f64(x); }

static inline double square_f64(double x) { return (double)(x * x); }

static inline double square_vjp_f64(double x, double y, double g) { return (void)x, (void)y, g * (double)(2 * x); }

static inline double sqrt_f64 (double x) { return (vm_sqrt_f64(x)); }

static inline double sin_f64 (double x) {
    return (vm_absolute_f64(x) > (double)0x1p20 ? sin_huge_f64(x) : (vm_sin_f64(x)));
}

static inline double sin_vjp_f64 (double x, double y, double g) {
    return ((void)x, (void)y, g * (vm_absolute_f64(x) > (double)0x1p20 ? cos_huge_f64(x) : ((double)(vm_cos_f64(x)))));
}

static inline double cos_f64 (double x) {
    return (vm_absolute_f64(x) > (double)0x1p20 ? cos_huge_f64(x) : (vm_cos_f64(x)));
}

static inline double cos_vjp_f64 (double x, double y, double g) {
    return ((void)x, (void)y, g * (vm_absolute_f64(x) > (double)0x1p20 ? minus_sin_huge_f64(x) :
        ((double)(-vm_sin_f64(x)))));
}

static inline double tanh_f64 (double x) { return (vm_tanh_f64(x)); }

static inline double tanh_vjp_f64 (double x, double y, double g) {
    return ((void)x, (void)y, g * ((double)((1 + y) * (1 - y))));
}

static inline double add_f64(double a, double b) { return (double)(a + b); }

static inline double subtract_f64(double a, double b) { return (double)(a - b); }

static inline double subtract_db_f64(double a, double b, double y, double g) {
    return (void)a, (void)b, (void)y, g * (double)(-1);
}

static inline double multiply_f64(double a, double b) { return (double)(a * b); }

static inline double multiply_db_f64(double a, double b, double y, double g) {
    return (void)a, (void)b, (void)y, g * (double)(a);
}

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

_Static_assert(sizeof(control_workspace) == CONTROL_WORKSPACE_BYTES, "a workspace without gaps");

int control(double angle, double speed, const double *plan, double *result_0, double *result_1,
            control_workspace *workspace)
{
    double *const carry0_1 = workspace->of_double;
    double *const r0_0_1 = workspace->of_double + 40;
    double *const r0_1_1 = workspace->of_double + 81;
    double *const r0_2_1 = workspace->of_double + 122;
    double *const w17_1 = workspace->of_double + 162;
    static const double const18_1[42] = {
        0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0,
        1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0,
        1.0, 1.0};
    double *const w19_1 = workspace->of_double + 204;
    double *const w21_1 = workspace->of_double + 246;
    double *const w22_1 = workspace->of_double + 162;
    double *const r7_2_1 = workspace->of_double + 288;
    double *const r7_0_1 = workspace->of_double + 328;
    double *const r7_1_1 = workspace->of_double + 329;
    double *const w34_1 = workspace->of_double + 40;
    double *const w35_1 = workspace->of_double + 80;
    double *const w41_1 = workspace->of_double + 80;
    double *const r0_0 = workspace->of_double + 120;
    {
        for (int64_t i = 0; i < 40; i++) carry0_1[i] = plan[i];
        for (int64_t t_1 = 0; t_1 < 30; t_1++) {
            {
                double carry0_2 = angle;
                double *const stack0_2 = r0_0_1;
                stack0_2[0] = carry0_2;
                double carry1_2 = speed;
                double *const stack1_2 = r0_1_1;
                stack1_2[0] = carry1_2;
                double *const rows2_2 = r0_2_1;
                for (int64_t t_2 = 0; t_2 < 40; t_2++) {
                    const double in2_2 = carry0_1[t_2];
                    const double v3_2 = tanh_f64(in2_2);
                    const double v5_2 = multiply_f64(5.0, v3_2);
                    const double v6_2 = sin_f64(carry0_2);
                    const double v8_2 = multiply_f64(9.81, v6_2);
                    const double v10_2 = multiply_f64(0.1, carry1_2);
                    const double v11_2 = subtract_f64(v8_2, v10_2);
                    const double v12_2 = add_f64(v11_2, v5_2);
                    const double v14_2 = multiply_f64(0.05, v12_2);
                    const double v15_2 = add_f64(carry1_2, v14_2);
                    const double v17_2 = multiply_f64(0.05, v15_2);
                    const double v18_2 = add_f64(carry0_2, v17_2);
                    const double v19_2 = cos_f64(v18_2);
                    const double v21_2 = subtract_f64(1.0, v19_2);
                    const double v22_2 = square_f64(v15_2);
                    const double v24_2 = multiply_f64(0.02, v22_2);
                    const double v25_2 = add_f64(v21_2, v24_2);
                    const double v26_2 = square_f64(v5_2);
                    const double v28_2 = multiply_f64(0.002, v26_2);
                    const double v29_2 = add_f64(v25_2, v28_2);
                    rows2_2[t_2] = v29_2;
                    carry0_2 = v18_2;
                    carry1_2 = v15_2;
                    stack0_2[t_2 + 1] = carry0_2;
                    stack1_2[t_2 + 1] = carry1_2;
                }
            }
            const double v13_1 = square_vjp_f64(r0_1_1[40], 0, 0.5);
            const double v15_1 = cos_vjp_f64(r0_0_1[40], 0, -20.0);
            for (int64_t i = 0; i < 42; i++) w17_1[i] = 0;
            for (int64_t i = 0; i < 1; i++) w17_1[1] = v13_1;
            for (int64_t i = 0; i < 42; i++) {
                w19_1[i] = add_f64(const18_1[i], w17_1[i]);
            }
            for (int64_t i = 0; i < 42; i++) w21_1[i] = 0;
            for (int64_t i = 0; i < 1; i++) w21_1[0] = v15_1;
            for (int64_t i = 0; i < 42; i++) {
                w22_1[i] = add_f64(w19_1[i], w21_1[i]);
            }
            {
                double carry0_3 = w22_1[0];
                double carry1_3 = w22_1[1];
                double *const rows2_3 = r7_2_1;
                for (int64_t t_3 = 0; t_3 < 40; t_3++) {
                    const int64_t row_3 = 39 - t_3;
                    const double in2_3 = r0_0_1[row_3];
                    const double in4_3 = (r0_0_1 + 1)[row_3];
                    const double in5_3 = (r0_1_1 + 1)[row_3];
                    const double in6_3 = carry0_1[row_3];
                    const double in7_3 = (w22_1 + 2)[row_3];
                    const double v8_3 = tanh_f64(in6_3);
                    const double v10_3 = multiply_f64(5.0, v8_3);
                    const double v12_3 = multiply_db_f64(0.002, 0, 0, in7_3);
                    const double v13_3 = square_vjp_f64(v10_3, 0, v12_3);
                    const double v15_3 = multiply_db_f64(0.02, 0, 0, in7_3);
                    const double v16_3 = square_vjp_f64(in5_3, 0, v15_3);
                    const double v17_3 = add_f64(carry1_3, v16_3);
                    const double v18_3 = subtract_db_f64(0, 0, 0, in7_3);
                    const double v19_3 = cos_vjp_f64(in4_3, 0, v18_3);
                    const double v20_3 = add_f64(carry0_3, v19_3);
                    const double v22_3 = multiply_db_f64(0.05, 0, 0, v20_3);
                    const double v23_3 = add_f64(v17_3, v22_3);
                    const double v25_3 = multiply_db_f64(0.05, 0, 0, v23_3);
                    const double v26_3 = add_f64(v13_3, v25_3);
                    const double v27_3 = subtract_db_f64(0, 0, 0, v25_3);
                    const double v29_3 = multiply_db_f64(0.1, 0, 0, v27_3);
                    const double v30_3 = add_f64(v23_3, v29_3);
                    const double v32_3 = multiply_db_f64(9.81, 0, 0, v25_3);
                    const double v33_3 = sin_vjp_f64(in2_3, 0, v32_3);
                    const double v34_3 = add_f64(v20_3, v33_3);
                    const double v35_3 = multiply_db_f64(5.0, 0, 0, v26_3);
                    const double v36_3 = tanh_vjp_f64(0, v8_3, v35_3);
                    rows2_3[row_3] = v36_3;
                    carry0_3 = v34_3;
                    carry1_3 = v30_3;
                }
                r7_0_1[0] = carry0_3;
                r7_1_1[0] = carry1_3;
            }
            for (int64_t i = 0; i < 40; i++) {
                w34_1[i] = multiply_f64(0.3, r7_2_1[i]);
                w35_1[i] = square_f64(r7_2_1[i]);
            }
            double v36_1;
            {
                v36_1 = sum_of_f64(40, 1, w35_1);
            }
            const double v37_1 = sqrt_f64(v36_1);
            const double v39_1 = add_f64(1.0, v37_1);
            for (int64_t i = 0; i < 40; i++) {
                const double e40_1 = divide_f64(w34_1[i], v39_1);
                w41_1[i] = subtract_f64(carry0_1[i], e40_1);
            }
            for (int64_t i = 0; i < 40; i++) carry0_1[i] = w41_1[i];
        }
        for (int64_t i = 0; i < 40; i++) r0_0[i] = carry0_1[i];
    }
    const double v9 = tanh_f64(r0_0[0]);
    const double v11 = multiply_f64(5.0, v9);
    for (int64_t i = 0; i < 39; i++) result_1[i] = (r0_0 + 1)[i];
    for (int64_t i = 0; i < 1; i++) result_1[39] = r0_0[39];
    result_0[0] = v11;
    return 0;
}
