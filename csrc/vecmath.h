/* vecmath.h: the mathematical functions of the kernels, written for whole vectors although they look scalar.
 *
 * Every function is branch-free (ternaries become masks, exponents are moved as bits), so that a compiler turns
 * a plain loop over it into vector code for any instruction set, without intrinsics. vm_<name>_f32 and
 * vm_<name>_f64 carry NumPy's names. Against the exact value of the definition in ops.def they err by less than
 * 2 ULP, denormal results included; zeros keep NumPy's signs, nan gives nan, and what has no value is nan.
 * The bounds hold with fused multiply-add and without. Exceptions: celu may reach 2.2, and where logaddexp
 * and logaddexp2 of float64 cancel to nearly 0 the error is 2^-56 of the larger term.
 *
 * The float32 functions that training leans on (exp, log, tanh, sigmoid, silu, softplus, erf) have
 * arithmetic of their own; the other float32 functions round a result computed in double.
 * Where one double is not enough (arguments of exp above all, whose error grows by the argument), a value is
 * carried as an unevaluated sum hi + lo, after T. J. Dekker, "A floating-point technique for extending the
 * available precision" (1971). Polynomials are minimax fits made with the Remez algorithm for this file.
 *
 * sin and cos are right up to VM_TRIG_LIMIT; above it the caller takes vm_<name>_huge, element by element.
 * The functions marked VM_LIBM_<dtype>_<name> call the C library and are not vectorised.
 */
#ifndef FG_VECMATH_H
#define FG_VECMATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* A function left out of line would keep its loop from being vectorised. */
#ifdef __GNUC__
#define VM_INLINE static inline __attribute__((always_inline))
#else
#define VM_INLINE static inline
#endif

VM_INLINE uint32_t vm_bits_f32(float x) { uint32_t u; memcpy(&u, &x, sizeof u); return u; }
VM_INLINE float vm_float_f32(uint32_t u) { float x; memcpy(&x, &u, sizeof x); return x; }
VM_INLINE uint64_t vm_bits_f64(double x) { uint64_t u; memcpy(&u, &x, sizeof u); return u; }
VM_INLINE double vm_float_f64(uint64_t u) { double x; memcpy(&x, &u, sizeof x); return x; }

/* Horner's rule: VM_P3(x, a, b, c, d) is a + b x + c x^2 + d x^3. */
#define VM_P1(x, a, b) ((a) + (x) * (b))
#define VM_P2(x, a, ...) ((a) + (x) * VM_P1(x, __VA_ARGS__))
#define VM_P3(x, a, ...) ((a) + (x) * VM_P2(x, __VA_ARGS__))
#define VM_P4(x, a, ...) ((a) + (x) * VM_P3(x, __VA_ARGS__))
#define VM_P5(x, a, ...) ((a) + (x) * VM_P4(x, __VA_ARGS__))
#define VM_P6(x, a, ...) ((a) + (x) * VM_P5(x, __VA_ARGS__))
#define VM_P7(x, a, ...) ((a) + (x) * VM_P6(x, __VA_ARGS__))
#define VM_P8(x, a, ...) ((a) + (x) * VM_P7(x, __VA_ARGS__))
#define VM_P9(x, a, ...) ((a) + (x) * VM_P8(x, __VA_ARGS__))
#define VM_P10(x, a, ...) ((a) + (x) * VM_P9(x, __VA_ARGS__))
#define VM_P11(x, a, ...) ((a) + (x) * VM_P10(x, __VA_ARGS__))
#define VM_P12(x, a, ...) ((a) + (x) * VM_P11(x, __VA_ARGS__))

/* Adding and subtracting 1.5 * 2^52 (2^23) rounds to an integer, ties to even, and leaves that integer in the
 * low bits of the sum: the one rounding that every instruction set has. */
#define VM_ROUND_F64 0x1.8p52
#define VM_ROUND_F32 0x1.8p23f

/* ---- sums hi + lo of two doubles ---------------------------------------------------------------------- */
typedef struct { double hi, lo; } vm_dd;

/* a + b exactly, where |a| >= |b| or a is 0 */
VM_INLINE vm_dd vm_fast_two_sum(double a, double b) {
    double s = a + b;
    return (vm_dd){s, b - (s - a)};
}

VM_INLINE vm_dd vm_two_sum(double a, double b) {
    double s = a + b, t = s - a;
    return (vm_dd){s, (a - (s - t)) + (b - t)};
}

/* a * b exactly (without fma: but for 2^-105 of it) */
VM_INLINE vm_dd vm_two_product(double a, double b) {
    double p = a * b;
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    return (vm_dd){p, __builtin_fma(a, b, -p)};
#else
    double ah = vm_float_f64(vm_bits_f64(a) & ~UINT64_C(0x7ffffff)), al = a - ah;
    double bh = vm_float_f64(vm_bits_f64(b) & ~UINT64_C(0x7ffffff)), bl = b - bh;
    return (vm_dd){p, ((ah * bh - p) + ah * bl + al * bh) + al * bl};
#endif
}

VM_INLINE vm_dd vm_dd_multiply(vm_dd a, vm_dd b) {
    vm_dd p = vm_two_product(a.hi, b.hi);
    return vm_fast_two_sum(p.hi, p.lo + (a.hi * b.lo + a.lo * b.hi));
}

VM_INLINE vm_dd vm_dd_add(vm_dd a, vm_dd b) {
    vm_dd s = vm_two_sum(a.hi, b.hi);
    return vm_fast_two_sum(s.hi, s.lo + (a.lo + b.lo));
}

VM_INLINE vm_dd vm_dd_divide(vm_dd a, vm_dd b) {
    double q = a.hi / b.hi;
    vm_dd p = vm_two_product(q, b.hi);
    return vm_fast_two_sum(q, (((a.hi - p.hi) - p.lo) + (a.lo - q * b.lo)) / b.hi);
}

/* ---- the core of exp ----------------------------------------------------------------------------------
 * x = n ln 2 + r with |r| <= ln(2) / 2. n comes as the sum x / ln 2 + VM_ROUND, whose low bits are n. */

#define VM_LOG2E 0x1.71547652b82fep+0
#define VM_LOG2E_REST 0x1.777d0ffda0d24p-56
#define VM_SQRT_HALF 0x1.6a09e667f3bcdp-1
#define VM_SQRT_HALF_REST -0x1.bdd3413b26456p-55
#define VM_LN2 0x1.62e42fefa39efp-1
#define VM_LN2_REST 0x1.abc9e3b39803fp-56
#define VM_LN2_HI 0x1.62e42feep-1 /* 32 bits, so that n * VM_LN2_HI is exact */
#define VM_LN2_LO 0x1.a39ef35793c76p-33
#define VM_LN2_HI_F32 0x1.62e4p-1f
#define VM_LN2_LO_F32 0x1.7f7d1cp-20f

/* (exp(r) - 1 - r) / r^2 for |r| <= 0.3473, relative to exp(r): 2^-58 */
VM_INLINE double vm_exp_tail_f64(double r) {
    return VM_P9(r, 0x1.000000000000cp-1, 0x1.5555555555561p-3, 0x1.555555554fef3p-5, 0x1.111111110d4b6p-7,
                 0x1.6c16c185effe1p-10, 0x1.a01a01bb5ae89p-13, 0x1.a01995c6c1bdap-16, 0x1.71ddded174acep-19,
                 0x1.28b10d086704dp-22, 0x1.af86fd329fe5dp-26);
}

/* 2^-28 */
VM_INLINE float vm_exp_tail_f32(float r) {
    return VM_P4(r, 0x1p-1f, 0x1.55548ep-3f, 0x1.55545cp-5f, 0x1.123c78p-7f, 0x1.6db668p-10f);
}

/* exp(x) for |x| <= 700 to 2^-34: what a float32 result needs of a double */
VM_INLINE double vm_exp_short(double x) {
    double t = x * VM_LOG2E + VM_ROUND_F64, n = t - VM_ROUND_F64, r = x - n * VM_LN2;
    double tail = VM_P5(r, 0x1.00000043b631dp-1, 0x1.55555598d748ap-3, 0x1.55547eab95b55p-5, 0x1.11107bc8bc88bp-7,
                        0x1.6d98036c4baeep-10, 0x1.a1b98f7504124p-13);
    return vm_float_f64((vm_bits_f64(t) + 1023) << 52) * (1 + (r + r * r * tail));
}


/* v * 2^n in two steps, so that n may lead beyond the normal numbers at either end (|n| < 2000) */
VM_INLINE double vm_scale_f64(double v, double n_rounded) {
    uint64_t u = vm_bits_f64(n_rounded) - vm_bits_f64(VM_ROUND_F64) + 4096, half = u >> 1;
    return v * vm_float_f64((half - 1025) << 52) * vm_float_f64((u - half - 1025) << 52);
}

VM_INLINE float vm_scale_f32(float v, float n_rounded) {
    uint32_t u = vm_bits_f32(n_rounded) - vm_bits_f32(VM_ROUND_F32) + 512, half = u >> 1;
    return v * vm_float_f32((half - 129) << 23) * vm_float_f32((u - half - 129) << 23);
}

/* v * 2^n for -190 <= n <= 63 */
VM_INLINE float vm_scale_down_f32(float v, float n_rounded) {
    return v * vm_float_f32((vm_bits_f32(n_rounded) + 191) << 23) * 0x1p-64f;
}

/* 2^n for normal results only */
VM_INLINE double vm_power2_f64(double n_rounded) { return vm_float_f64((vm_bits_f64(n_rounded) + 1023) << 52); }
VM_INLINE float vm_power2_f32(float n_rounded) { return vm_float_f32((vm_bits_f32(n_rounded) + 127) << 23); }

/* exp(x.hi + x.lo) = (hi + lo) * 2^n with a relative error of 2^-56; the caller keeps |x| below 1400 */
typedef struct { double hi, lo, n; } vm_scaled;
VM_INLINE vm_scaled vm_exp_dd(vm_dd x) {
    double t = x.hi * VM_LOG2E + VM_ROUND_F64, n = t - VM_ROUND_F64;
    double a = x.hi - n * VM_LN2_HI, r = a - n * VM_LN2_LO;
    double lo = ((a - r) - n * VM_LN2_LO) + x.lo;
    double tail = r * r * vm_exp_tail_f64(r);
    vm_dd one_r = vm_fast_two_sum(1.0, r);
    vm_dd s = vm_fast_two_sum(one_r.hi, tail + (lo + lo * (r + tail)));
    return (vm_scaled){s.hi, s.lo + one_r.lo, t};
}

/* x held in [lo, hi]; nan stays */
VM_INLINE double vm_clamp_f64(double x, double lo, double hi) { x = x < lo ? lo : x; return x > hi ? hi : x; }
VM_INLINE float vm_clamp_f32(float x, float lo, float hi) { x = x < lo ? lo : x; return x > hi ? hi : x; }

/* ---- exponentials ------------------------------------------------------------------------------------- */
VM_INLINE double vm_exp_f64(double x) {
    x = vm_clamp_f64(x, -750, 710);
    double t = x * VM_LOG2E + VM_ROUND_F64, n = t - VM_ROUND_F64;
    double r = (x - n * VM_LN2_HI) - n * VM_LN2_LO;
    return vm_scale_f64(1 + (r + r * r * vm_exp_tail_f64(r)), t);
}

VM_INLINE float vm_exp_f32(float x) {
    x = vm_clamp_f32(x, -105, 89);
    float t = x * (float)VM_LOG2E + VM_ROUND_F32, n = t - VM_ROUND_F32;
    float r = (x - n * VM_LN2_HI_F32) - n * VM_LN2_LO_F32;
    return vm_scale_f32(1 + (r + r * r * vm_exp_tail_f32(r)), t);
}

/* exp(-a) for a >= 0 */
VM_INLINE float vm_exp_minus_f32(float a) {
    float x = a > 105 ? -105 : -a, t = x * (float)VM_LOG2E + VM_ROUND_F32, n = t - VM_ROUND_F32;
    float r = (x - n * VM_LN2_HI_F32) - n * VM_LN2_LO_F32;
    return vm_scale_down_f32(1 + (r + r * r * vm_exp_tail_f32(r)), t);
}

VM_INLINE double vm_exp2_f64(double x) {
    x = vm_clamp_f64(x, -1080, 1024);
    double t = x + VM_ROUND_F64, r = x - (t - VM_ROUND_F64);
    /* (2^r - 1) / r for |r| <= 0.501, relative to 2^r: 2^-58 */
    double p = VM_P10(r, 0x1.62e42fefa39efp-1, 0x1.ebfbdff82c5a5p-3, 0x1.c6b08d704a0d8p-5, 0x1.3b2ab6fb9fe66p-7,
                      0x1.5d87fe78a0b8cp-10, 0x1.4309130f67161p-13, 0x1.ffcbfc7cf2177p-17, 0x1.62bfc62f9cec4p-20,
                      0x1.b524ccccb94ddp-24, 0x1.e61dd26284e76p-28, 0x1.ea1994b16751ep-32);
    return vm_scale_f64(1 + r * p, t);
}

VM_INLINE float vm_exp2_f32(float x) {
    x = vm_clamp_f32(x, -151, 128);
    float t = x + VM_ROUND_F32, r = x - (t - VM_ROUND_F32);
    /* (2^r - 1) / r for |r| <= 0.501, relative to 2^r: 2^-34 */
    float p = VM_P6(r, 0x1.62e43p-1f, 0x1.ebfbep-3f, 0x1.c6b08ep-5f, 0x1.3b29fp-7f, 0x1.5d8722p-10f, 0x1.445facp-13f,
                    0x1.00f2fp-16f);
    return vm_scale_f32(1 + r * p, t);
}

/* s = 2^n and q = exp(r) - 1, so that exp(x) = s + s q and exp(x) - 1 = s q + (s - 1). For -60 <= x <= 700 */
typedef struct { double s, q; } vm_expm1_parts_f64;
VM_INLINE vm_expm1_parts_f64 vm_expm1_core_f64(double x) {
    double t = x * VM_LOG2E + VM_ROUND_F64, n = t - VM_ROUND_F64;
    double a = x - n * VM_LN2_HI, r = a - n * VM_LN2_LO, lo = (a - r) - n * VM_LN2_LO;
    return (vm_expm1_parts_f64){vm_power2_f64(t), r + (r * r * vm_exp_tail_f64(r) + lo)};
}

/* For -60 <= x <= 88 */
typedef struct { float s, q; } vm_expm1_parts_f32;
VM_INLINE vm_expm1_parts_f32 vm_expm1_core_f32(float x) {
    float t = x * (float)VM_LOG2E + VM_ROUND_F32, n = t - VM_ROUND_F32;
    float r = (x - n * VM_LN2_HI_F32) - n * VM_LN2_LO_F32;
    return (vm_expm1_parts_f32){vm_power2_f32(t), r + r * r * vm_exp_tail_f32(r)};
}

VM_INLINE double vm_expm1_f64(double x) {
    vm_expm1_parts_f64 e = vm_expm1_core_f64(vm_clamp_f64(x, -60, 700));
    double y = x > 60 ? vm_exp_f64(x) : e.s * e.q + (e.s - 1);
    return fabs(x) < 0x1p-54 ? x : y;
}

VM_INLINE float vm_expm1_f32(float x) {
    vm_expm1_parts_f32 e = vm_expm1_core_f32(vm_clamp_f32(x, -60, 88));
    float y = x > 60 ? vm_exp_f32(x) : e.s * e.q + (e.s - 1);
    return fabsf(x) < 0x1p-25f ? x : y;
}

/* exp(r) = C + S with the even part C and the odd part S, so that sinh and cosh need one reduction and no
 * quotient: with p = 2^n / 4, q = 2^-n / 4, sinh(x) / 2 = (p - q) C + (p + q) S, and cosh with the signs changed.
 * The quarter keeps 2^n in range where the result is. */
VM_INLINE double vm_sinh_f64(double x) {
    double ax = vm_clamp_f64(fabs(x), 0, 710.5), t = ax * VM_LOG2E + VM_ROUND_F64, n = t - VM_ROUND_F64;
    double b = ax - n * VM_LN2_HI, r = b - n * VM_LN2_LO, lo = (b - r) - n * VM_LN2_LO, z = r * r;
    /* (sinh(r) - r) / r^3 and (cosh(r) - 1) / r^2 for |r| <= 0.3473: 2^-61, 2^-70 */
    double S = r + (lo + r * z * VM_P4(z, 0x1.5555555555559p-3, 0x1.111111110f64dp-7, 0x1.a01a01b01204cp-13,
                                 0x1.71ddf7d4e4637p-19, 0x1.af5fb17ed3bbap-26));
    double c = z * VM_P5(z, 0x1p-1, 0x1.555555555555cp-5, 0x1.6c16c16c13e7bp-10, 0x1.a01a01b1b1372p-16,
                         0x1.27e4c4985e46ep-22, 0x1.1f95e88803f3dp-29);
    double p = vm_power2_f64(t - 2), q = n > 60 ? 0 : vm_power2_f64(VM_ROUND_F64 - 2 - n);
    double y = 2 * ((p - q) + ((p - q) * c + (p + q) * S));
    return fabs(x) < 0x1p-26 ? x : copysign(y, x);
}

VM_INLINE double vm_cosh_f64(double x) {
    double ax = vm_clamp_f64(fabs(x), 0, 710.5), t = ax * VM_LOG2E + VM_ROUND_F64, n = t - VM_ROUND_F64;
    double r = (ax - n * VM_LN2_HI) - n * VM_LN2_LO, z = r * r;
    double S = r + r * z * VM_P4(z, 0x1.5555555555559p-3, 0x1.111111110f64dp-7, 0x1.a01a01b01204cp-13,
                                 0x1.71ddf7d4e4637p-19, 0x1.af5fb17ed3bbap-26);
    double c = z * VM_P5(z, 0x1p-1, 0x1.555555555555cp-5, 0x1.6c16c16c13e7bp-10, 0x1.a01a01b1b1372p-16,
                         0x1.27e4c4985e46ep-22, 0x1.1f95e88803f3dp-29);
    double p = vm_power2_f64(t - 2), q = n > 60 ? 0 : vm_power2_f64(VM_ROUND_F64 - 2 - n);
    return 2 * ((p + q) + ((p + q) * c + (p - q) * S));
}

/* ---- logarithms ---------------------------------------------------------------------------------------
 * x = 2^e m with sqrt(1/2) <= m < sqrt(2); s = (m - 1) / (m + 1); log m = 2 s + s R(s^2). */

/* R(z) / z for z <= 0.02945, relative to log m: 2^-64 */
VM_INLINE double vm_log_tail_f64(double z) {
    return VM_P6(z, 0x1.5555555555592p-1, 0x1.999999997fd3dp-2, 0x1.24924941f9c1bp-2, 0x1.c71c5200b03acp-3,
                 0x1.7466410c15d82p-3, 0x1.39a17a5970affp-3, 0x1.2f08446f6348bp-3);
}

typedef struct { double m, e; } vm_split;
VM_INLINE vm_split vm_split_f64(double x) {
    double shift = x < 0x1p-1022 ? 54 : 0;
    uint64_t u = vm_bits_f64(x < 0x1p-1022 ? x * 0x1p54 : x) + (0x3ff0000000000000 - 0x3fe6a09e667f3bcd);
    double e = vm_float_f64((u >> 52) | 0x4330000000000000) - (0x1p52 + 1023 + shift);
    return (vm_split){vm_float_f64((u & 0x000fffffffffffff) + 0x3fe6a09e667f3bcd), e};
}

/* What a logarithm is where its polynomial does not apply */
VM_INLINE double vm_log_edges_f64(double x, double y) {
    y = x < INFINITY ? y : x;
    return x > 0 ? y : x == 0 ? -INFINITY : NAN;
}
VM_INLINE float vm_log_edges_f32(float x, float y) {
    y = x < INFINITY ? y : x;
    return x > 0 ? y : x == 0 ? -INFINITY : NAN;
}

/* log(x) + lost, where lost is small beside x - 1 */
VM_INLINE double vm_log_core_f64(double x, double lost) {
    vm_split v = vm_split_f64(x);
    double f = v.m - 1, s = f / (2 + f), z = s * s, h = 0.5 * f * f;
    double y = f - (h - (s * (h + z * vm_log_tail_f64(z)) + (v.e * VM_LN2_LO + lost)));
    return vm_log_edges_f64(x, v.e * VM_LN2_HI + y);
}

VM_INLINE float vm_log_core_f32(float x, float lost) {
    float shift = x < 0x1p-126f ? 23 : 0;
    uint32_t u = vm_bits_f32(x < 0x1p-126f ? x * 0x1p23f : x) + (0x3f800000 - 0x3f3504f3);
    float e = (float)((int32_t)(u >> 23) - 127) - shift;
    float f = vm_float_f32((u & 0x007fffff) + 0x3f3504f3) - 1, h = 0.5f * f * f;
    /* (log(1 + f) - f + f^2 / 2) / f^3 for sqrt(1/2) - 1 <= f <= sqrt(2) - 1, relative to log: 2^-30 */
    float p = VM_P8(f, 0x1.555546p-2f, -0x1.ffffeep-3f, 0x1.99a548p-3f, -0x1.55631p-3f, 0x1.23329ep-3f,
                    -0x1.fb3cf8p-4f, 0x1.e64e4p-4f, -0x1.e30da8p-4f, 0x1.1b7048p-4f);
    float y = f - (h - (f * f * f * p + (e * VM_LN2_LO_F32 + lost)));
    return vm_log_edges_f32(x, e * VM_LN2_HI_F32 + y);
}

VM_INLINE double vm_log_f64(double x) { return vm_log_core_f64(x, 0); }
VM_INLINE float vm_log_f32(float x) { return vm_log_core_f32(x, 0); }

/* with what rounding 1 + x has cut off */
VM_INLINE double vm_log1p_f64(double x) {
    double u = 1 + x, y = vm_log_core_f64(u, (x < 1 ? x - (u - 1) : 1 - (u - x)) / u);
    return fabs(x) < 0x1p-54 ? x : y;
}

VM_INLINE float vm_log1p_f32(float x) {
    float u = 1 + x, y = vm_log_core_f32(u, (x < 1 ? x - (u - 1) : 1 - (u - x)) / u);
    return fabsf(x) < 0x1p-25f ? x : y;
}

/* log m as hi + lo with a relative error of 2^-64 */
VM_INLINE vm_dd vm_log_mantissa_dd(double m) {
    double f = m - 1;
    vm_dd s = vm_dd_divide((vm_dd){f, 0}, vm_fast_two_sum(m > 1 ? m : 1, m > 1 ? 1 : m));
    vm_dd z = vm_dd_multiply(s, s);
    double tail = z.hi * VM_P6(z.hi, 0x1.9999999999b3p-2, 0x1.2492492457c46p-2, 0x1.c71c722d867a7p-3,
                               0x1.745ce9d6288d6p-3, 0x1.3b1eeebe698d1p-3, 0x1.0f7fa483d34b2p-3, 0x1.0e455d4685fd4p-3);
    vm_dd c = vm_dd_multiply(z, vm_fast_two_sum(0x1.5555555555555p-1, tail + 0x1.5555555555555p-55));
    vm_dd y = vm_dd_multiply(s, c);
    return vm_dd_add((vm_dd){2 * s.hi, 2 * s.lo}, y);
}

VM_INLINE vm_dd vm_log_dd(double x) {
    vm_split v = vm_split_f64(x);
    return vm_dd_add((vm_dd){v.e * VM_LN2_HI, v.e * VM_LN2_LO}, vm_log_mantissa_dd(v.m));
}

VM_INLINE double vm_log2_f64(double x) {
    vm_split v = vm_split_f64(x);
    vm_dd y = vm_dd_multiply(vm_log_mantissa_dd(v.m), (vm_dd){VM_LOG2E, VM_LOG2E_REST});
    return vm_log_edges_f64(x, vm_dd_add((vm_dd){v.e, 0}, y).hi);
}

VM_INLINE double vm_log10_f64(double x) {
    vm_dd y = vm_dd_multiply(vm_log_dd(x), (vm_dd){0x1.bcb7b1526e50ep-2, 0x1.95355baaafad3p-57});
    return vm_log_edges_f64(x, y.hi);
}

/* ---- powers ------------------------------------------------------------------------------------------- */
/* The signs and exceptions of C's pow around the value exp(b log|a|). */
#define VM_POWER_EDGES(T, fabs_, round_, a, b, y)                                                                     \
    T odd_half = (b) * (T)0.5;                                                                                        \
    int whole = round_(b) == (b), odd = whole & (round_(odd_half) != odd_half);                                       \
    y = (a) == 0 ? ((b) < 0 ? (T)INFINITY : (T)0) : y;                                                                \
    y = odd ? copysign(y, (a)) : y;                                                                                   \
    y = (((a) < 0) & ((a) > -(T)INFINITY) & !whole & (fabs_(b) < (T)INFINITY)) ? (T)NAN : y;                          \
    y = ((a) != (a)) | ((b) != (b)) ? (a) + (b) : y;                                                                  \
    y = ((a) == -1) & (fabs_(b) == (T)INFINITY) ? 1 : y;                                                              \
    y = ((b) == 0) | ((a) == 1) ? 1 : y

VM_INLINE double vm_whole(double x) {
    double a = fabs(x), r = (a + 0x1p52) - 0x1p52;
    return copysign(a < 0x1p52 ? r : a, x);
}

VM_INLINE double vm_power_f64(double a, double b) {
    double m = fabs(a);
    vm_dd l = vm_log_dd(m), p = vm_two_product(b, l.hi);
    p.lo += b * l.lo;
    double far = b * vm_log_edges_f64(m, l.hi); /* the product once more, right at 0 and infinity */
    int ok = fabs(far) < 1000;
    p.lo = ok ? p.lo : 0;
    p.hi = vm_clamp_f64(ok ? p.hi : far, -800, 800);
    vm_scaled e = vm_exp_dd(p);
    double y = vm_scale_f64(e.hi + e.lo, e.n);
    VM_POWER_EDGES(double, fabs, vm_whole, a, b, y);
    return y;
}

VM_INLINE float vm_power_f32(float af, float bf) {
    double a = af, b = bf, y = vm_exp_f64(b * vm_log_f64(fabs(a)));
    VM_POWER_EDGES(double, fabs, vm_whole, a, b, y);
    return (float)y;
}

VM_INLINE double vm_sqrt_f64(double x) { return sqrt(x); }
VM_INLINE float vm_sqrt_f32(float x) { return sqrtf(x); }

/* ---- trigonometric ------------------------------------------------------------------------------------ */
/* x = n pi/2 + (hi + lo). The first two parts of pi/2 have 33 bits, so their products with n < 2^20 are exact. */
#define VM_TRIG_LIMIT 0x1p20
#define VM_TWO_OVER_PI 0x1.45f306dc9c883p-1
typedef struct { double hi, lo, odd; uint64_t n; } vm_quadrant; /* odd: n mod 2, or -(n mod 2) */
VM_INLINE double vm_mod2(double n) { return n - 2 * ((0.5 * n + VM_ROUND_F64) - VM_ROUND_F64); }
VM_INLINE vm_quadrant vm_quadrant_f64(double x) {
    double t = x * VM_TWO_OVER_PI + VM_ROUND_F64, n = t - VM_ROUND_F64;
    double a = (x - n * 0x1.921fb544p+0), b = n * 0x1.0b4611a6p-34;
    vm_dd s = vm_two_sum(a, -b);
    double lo = s.lo - n * 0x1.3198a2e037073p-69;
    vm_dd r = vm_fast_two_sum(s.hi, lo);
    return (vm_quadrant){r.hi, r.lo, vm_mod2(n), vm_bits_f64(t)};
}

VM_INLINE double vm_sine_part(vm_quadrant q) {
    double r = q.hi, z = r * r;
    /* (sin(r) - r) / r^3 for |r| <= 0.7862, relative to sin(r) : 2^-58 */
    double p = VM_P5(z, -0x1.5555555555549p-3, 0x1.111111110f84ap-7, -0x1.a01a019c0b0adp-13, 0x1.71de35719e68cp-19,
                     -0x1.ae5e612815217p-26, 0x1.5d91741d3880bp-33);
    return r + (r * z * p + q.lo * (1 - 0.5 * z));
}

VM_INLINE double vm_cosine_part(vm_quadrant q) {
    double r = q.hi, z = r * r, h = 0.5 * z, w = 1 - h;
    /* (cos(r) - 1 + r^2 / 2) / r^4 for |r| <= 0.7862: 2^-64 */
    double p = VM_P5(z, 0x1.555555555554cp-5, -0x1.6c16c16c15145p-10, 0x1.a01a019cabd3fp-16, -0x1.27e4f8056ef8bp-22,
                     0x1.1ee9e8b412507p-29, -0x1.8face1ac1eff7p-37);
    return w + (((1 - w) - h) + (z * z * p - r * q.lo));
}

VM_INLINE double vm_sin_f64(double x) {
    vm_quadrant q = vm_quadrant_f64(x);
    double y = q.odd != 0 ? vm_cosine_part(q) : vm_sine_part(q);
    y = vm_float_f64(vm_bits_f64(y) ^ ((q.n & 2) << 62));
    return x == 0 ? x : y;
}

VM_INLINE double vm_cos_f64(double x) {
    vm_quadrant q = vm_quadrant_f64(x);
    double y = q.odd != 0 ? vm_sine_part(q) : vm_cosine_part(q);
    return vm_float_f64(vm_bits_f64(y) ^ (((q.n + 1) & 2) << 62));
}

/* In float32 one double carries the remainder. The polynomials are those of float64, shorter: 2^-37, 2^-43 */
typedef struct { double sine, cosine, odd; uint64_t n; } vm_sine_cosine;
VM_INLINE vm_sine_cosine vm_sine_cosine_f32(double x) {
    double t = x * VM_TWO_OVER_PI + VM_ROUND_F64, n = t - VM_ROUND_F64;
    double r = (x - n * 0x1.921fb544p+0) - n * 0x1.0b4611a626331p-34, z = r * r;
    double sine = r + r * z * VM_P3(z, -0x1.5555554caa3e3p-3, 0x1.1111088a5b053p-7, -0x1.a00f93c099fa1p-13, 0x1.6cd5f00480435p-19);
    double cosine = 1 + (-0.5 * z + z * z * VM_P3(z, 0x1.5555554f42b12p-5, -0x1.6c16b88c10ac2p-10, 0x1.a011179c1d02ap-16, -0x1.24290b82a95c2p-22));
    return (vm_sine_cosine){sine, cosine, vm_mod2(n), vm_bits_f64(t)};
}

VM_INLINE float vm_sin_f32(float x) {
    vm_sine_cosine v = vm_sine_cosine_f32(x);
    double y = vm_float_f64(vm_bits_f64(v.odd != 0 ? v.cosine : v.sine) ^ ((v.n & 2) << 62));
    return x == 0 ? x : (float)y;
}

VM_INLINE float vm_cos_f32(float x) {
    vm_sine_cosine v = vm_sine_cosine_f32(x);
    return (float)vm_float_f64(vm_bits_f64(v.odd != 0 ? v.sine : v.cosine) ^ (((v.n + 1) & 2) << 62));
}

VM_INLINE double vm_sin_huge_f64(double x) { return sin(x); }
VM_INLINE double vm_cos_huge_f64(double x) { return cos(x); }
VM_INLINE float vm_sin_huge_f32(float x) { return (float)sin(x); }
VM_INLINE float vm_cos_huge_f32(float x) { return (float)cos(x); }

/* (arctan(z) - z) / z^3 of z^2 for |z| <= tan(pi/8), relative to arctan: 2^-59 */
VM_INLINE double vm_arctan_tail_f64(double z) {
    return VM_P10(z, -0x1.555555555553dp-2, 0x1.99999999958b5p-3, -0x1.24924922afbe4p-3, 0x1.c71c70e7126a9p-4,
                  -0x1.745cf8fa5e74ep-4, 0x1.3b111b314c428p-4, -0x1.10ebcf9440158p-4, 0x1.df1095c36fcfap-5,
                  -0x1.9cd85ed6d203dp-5, 0x1.37e36dabea1ffp-5, -0x1.2587536e1cd02p-6);
}

#define VM_PI_HALF 0x1.921fb54442d18p+0
#define VM_PI_HALF_LO 0x1.1a62633145c07p-54
#define VM_TAN_PI_8 0x1.a827999fcef32p-2

/* Beyond tan(pi/8), arctan(x) = pi/4 + arctan((x - 1) / (x + 1)); beyond its inverse, pi/2 - arctan(1 / x). */
VM_INLINE double vm_arctan_f64(double x) {
    double a = fabs(x);
    int mid = a > VM_TAN_PI_8, far = a > 1 / VM_TAN_PI_8;
    double z = (far ? -1 : mid ? a - 1 : a) / (far ? a : mid ? a + 1 : 1);
    double base = far ? VM_PI_HALF : mid ? VM_PI_HALF / 2 : 0, lo = far ? VM_PI_HALF_LO : mid ? VM_PI_HALF_LO / 2 : 0;
    double y = base + (z + (z * (z * z) * vm_arctan_tail_f64(z * z) + lo));
    return copysign(y, x);
}

VM_INLINE double vm_arctan2_f64(double a, double b) {
    double u = fabs(a), v = fabs(b);
    double big = u > v ? u : v, small = u > v ? v : u;
    double k = big > 0x1p1000 ? 0x1p-10 : big < 0x1p-900 ? 0x1p110 : 1; /* away from overflow and lost bits */
    big *= k, small *= k;
    int mid = (small > VM_TAN_PI_8 * big) | (small == INFINITY);
    double z = (mid ? small - big : small) / (mid ? small + big : big);
    z = (big == 0) | (small == INFINITY) ? 0 : z;
    double t = z * (z * z) * vm_arctan_tail_f64(z * z);
    /* the angle is base + z + t within the first octant; then mirrored at pi/4, pi/2 and 0 */
    double sign = copysign(1, b) * (u > v ? -1 : 1);
    double quarters = (mid ? sign : 0) + (u > v ? 2 : copysign(1, b) < 0 ? 4 : 0);
    double y = quarters * (VM_PI_HALF / 2) + (sign * z + (sign * t + quarters * (VM_PI_HALF_LO / 2)));
    y = copysign(y, a);
    return (a != a) | (b != b) ? a + b : y;
}

/* (arcsin(x) - x) / x^3 of x^2 for |x| <= 1/2, relative to arcsin: 2^-60 */
VM_INLINE double vm_arcsin_tail_f64(double z) {
    return VM_P12(z, 0x1.5555555555578p-3, 0x1.333333332df7p-4, 0x1.6db6db7226f7bp-5, 0x1.f1c71a8d4f78dp-6,
                  0x1.6e8bdfb674833p-6, 0x1.1c49e15d03988p-6, 0x1.ca20f50060151p-7, 0x1.757a07b4b3d2p-7,
                  0x1.617d37ed01f3ap-7, 0x1.e220cb75c8123p-9, 0x1.64c81b1cd9051p-6, -0x1.59a7d2edda7fdp-6,
                  0x1.0bccd72b55266p-5);
}

/* Beyond 1/2, arcsin(x) = pi/2 - 2 arcsin(s) with s = sqrt((1 - x) / 2), where lo is what s was rounded by. */
VM_INLINE double vm_arcsin_f64(double x) {
    int far = fabs(x) > 0.5;
    double a = fabs(x), z = far ? 0.5 * (1 - a) : a * a, root = sqrt(z), s = far ? root : a;
    vm_dd q = vm_two_product(s, s);
    double lo = far & (s > 0) ? ((z - q.hi) - q.lo) / (2 * s) : 0, t = s * z * vm_arcsin_tail_f64(z);
    double y = far ? VM_PI_HALF - (2 * s + (2 * (t + lo) - VM_PI_HALF_LO)) : s + t;
    y = a < 0x1p-27 ? a : y;
    return copysign(a > 1 ? NAN : y, x);
}

VM_INLINE double vm_arccos_f64(double x) {
    int far = fabs(x) > 0.5;
    double a = fabs(x), z = far ? 0.5 * (1 - a) : a * a, root = sqrt(z), s = far ? root : a;
    vm_dd q = vm_two_product(s, s);
    double lo = far & (s > 0) ? ((z - q.hi) - q.lo) / (2 * s) : 0, t = s * z * vm_arcsin_tail_f64(z);
    double right = 2 * s + 2 * (t + lo), left = 2 * VM_PI_HALF - (2 * s + (2 * (t + lo) - 2 * VM_PI_HALF_LO));
    double near = VM_PI_HALF - (x - (VM_PI_HALF_LO - copysign(t, x)));
    return a > 1 ? NAN : far ? x > 0 ? right : left : near;
}

/* ---- tanh and its relatives --------------------------------------------------------------------------- */
/* With u = exp(-2|x|), tanh|x| = (1 - u) / (1 + u), or, better where u is small, 1 - 2 u / (1 + u). */
VM_INLINE double vm_tanh_f64(double x) {
    double a = vm_clamp_f64(fabs(x), 0, 22);
    vm_expm1_parts_f64 e = vm_expm1_core_f64(-2 * a);
    double u = e.s + e.s * e.q, m = e.s * e.q + (e.s - 1);
    double q = (a > 0.55 ? 2 * u : -m) / (e.s * e.q + (e.s + 1));
    return copysign(a > 0.55 ? 1 - q : q, x);
}

VM_INLINE float vm_tanh_f32(float x) {
    float a = vm_clamp_f32(fabsf(x), 0, 10);
    vm_expm1_parts_f32 e = vm_expm1_core_f32(-2 * a);
    float u = e.s + e.s * e.q, m = e.s * e.q + (e.s - 1);
    float q = (a > 0.55f ? 2 * u : -m) / (e.s * e.q + (e.s + 1));
    return copysignf(a > 0.55f ? 1 - q : q, x);
}

/* Below 0.7 by its own series; above, from 1 - tanh|x| = 2 e / (1 + e), e = exp(-2|x|); both in two doubles. */
VM_INLINE double vm_tanh_shrink_f64(double x) {
    double a = fabs(x), c = vm_clamp_f64(a, 0, 40);
    vm_dd z = vm_two_product(c, c);
    /* (x - tanh(x)) / x^3 of x^2 for |x| <= 0.7035, relative: 2^-57 */
    vm_dd P = vm_fast_two_sum(0x1.5555555555555p-2,
                              z.hi * VM_P11(z.hi, -0x1.11111111110d4p-3, 0x1.ba1ba1ba14e2cp-5, -0x1.664f488065ff9p-6,
                                            0x1.226e34f0b5586p-7, -0x1.d6d3b90b0707bp-9, 0x1.7da1b8f10b86ap-10,
                                            -0x1.3543f64e35f3p-11, 0x1.f42c72b05fa77p-13, -0x1.8ed53f03e9a2p-14,
                                            0x1.2a9b4e9ed7889p-15, -0x1.6cf4e4600e422p-17, 0x1.00cc1ab4ce694p-19));
    double near = c * vm_dd_multiply(z, P).hi;
    vm_scaled e = vm_exp_dd((vm_dd){-2 * c, 0});
    double s = vm_power2_f64(e.n);
    vm_dd d = {s * e.hi, s * e.lo};
    vm_dd q = vm_dd_divide((vm_dd){2 * d.hi, 2 * d.lo}, vm_dd_add((vm_dd){1, 0}, d));
    vm_dd u = vm_two_sum(a, -1), w = vm_two_sum(u.hi, q.hi);
    double y = a < 0.7 ? near : w.hi + (w.lo + u.lo + q.lo);
    return copysign(a < 0x1p60 ? y : a, x);
}

/* ---- sigmoid and its relatives: all from e = exp(-|x|) <= 1 ---------------------------------------------
 * w / (1 + e) is taken as w - w (e / (1 + e)), which rounds less. */
VM_INLINE double vm_sigmoid_f64(double x) {
    double e = vm_exp_f64(-fabs(x)), w = x < 0 ? e : 1;
    return w - w * (e / (1 + e));
}

VM_INLINE float vm_sigmoid_f32(float x) {
    float e = vm_exp_minus_f32(fabsf(x)), w = x < 0 ? e : 1;
    return w - w * (e / (1 + e));
}

/* log(1 + e) = e + e^2 P(e) on [0, 1], relative: 2^-33 */
VM_INLINE float vm_log1p_unit_f32(float e) {
    return e + e * e * VM_P10(e, -0x1.fffffep-2f, 0x1.5554fep-2f, -0x1.fff16ep-3f, 0x1.98fb2cp-3f, -0x1.515bfcp-3f,
                              0x1.141a9ep-3f, -0x1.a2c6dep-4f, 0x1.0af3b6p-4f, -0x1.fc4a14p-6f, 0x1.351b4ep-7f,
                              -0x1.603faap-10f);
}

VM_INLINE double vm_softplus_f64(double x) {
    double l = vm_log1p_f64(vm_exp_f64(-fabs(x)));
    return x > 0 ? x + l : l;
}

VM_INLINE float vm_softplus_f32(float x) {
    float l = vm_log1p_unit_f32(vm_exp_minus_f32(fabsf(x)));
    return x > 0 ? x + l : l;
}

VM_INLINE double vm_log_sigmoid_f64(double x) { return -vm_softplus_f64(-x); }
VM_INLINE float vm_log_sigmoid_f32(float x) { return -vm_softplus_f32(-x); }

/* x / (1 + exp(-v)) for v of the sign of x; scaled last, because x exp(v) is a normal number where exp(v) is not */
VM_INLINE double vm_gated_f64(double x, vm_dd v) {
    int left = x < 0, far = fabs(v.hi) > 800;
    v.hi = left ? v.hi : -v.hi, v.lo = left ? v.lo : -v.lo;
    v.hi = vm_clamp_f64(v.hi, -800, 0), v.lo = far ? 0 : v.lo;
    vm_scaled e = vm_exp_dd(v);
    double s = vm_scale_f64(1, e.n);
    vm_dd d = vm_dd_add((vm_dd){1, 0}, (vm_dd){s * e.hi, s * e.lo});
    vm_dd top = left ? vm_dd_multiply((vm_dd){x, 0}, (vm_dd){e.hi, e.lo}) : (vm_dd){x, 0};
    double y = vm_dd_divide(top, d).hi;
    y = left ? vm_scale_f64(y, e.n) : y;
    y = x == INFINITY ? x : y;
    return copysign(far & left ? 0 : y, x);
}

VM_INLINE double vm_silu_f64(double x) { return vm_gated_f64(x, (vm_dd){x, 0}); }

VM_INLINE float vm_silu_f32(float x) {
    float a = fabsf(x) > 110 ? -110 : -fabsf(x), t = a * (float)VM_LOG2E + VM_ROUND_F32, n = t - VM_ROUND_F32;
    float r = (a - n * VM_LN2_HI_F32) - n * VM_LN2_LO_F32, q = r + r * r * vm_exp_tail_f32(r);
    float e = vm_scale_down_f32(1 + q, t), c = x < -110 ? -110 : x, w = x < 0 ? c + c * q : x, y = w - w * (e / (1 + e));
    return copysignf(x < 0 ? vm_scale_down_f32(y, t) : fabsf(x) < INFINITY ? y : x, x);
}

/* In float32 these two are short enough to be done in double as they are written. */
VM_INLINE float vm_mish_f32(float x) {
    double c = vm_clamp_f64(x, -200, 40), e = vm_exp_short(c), w = e * (e + 2);
    return copysignf(x > 30 ? x : (float)(c * w / (w + 2)), x);
}

VM_INLINE float vm_gelu_tanh_f32(float x) {
    double c = vm_clamp_f64(x, -15, 15), v = c * (0x1.9884533d43651p+0 + 0x1.2444f2a4d8b4bp-4 * (c * c));
    return copysignf(x > 15 ? x : (float)(c / (1 + vm_exp_short(-v))), x);
}

/* x tanh(log(1 + e)) = x w / (w + 2) with w = e (e + 2), e = exp(x); below 0 the factor 2^n of e waits */
VM_INLINE double vm_mish_f64(double x) {
    vm_scaled e = vm_exp_dd((vm_dd){vm_clamp_f64(x, -800, 40), 0});
    double s = vm_scale_f64(1, e.n);
    vm_dd d = {s * e.hi, s * e.lo}, f = {e.hi, e.lo};
    vm_dd d2 = x < 0 ? vm_dd_add((vm_dd){2, 0}, d) : vm_dd_add(vm_two_sum(d.hi, 2), (vm_dd){d.lo, 0});
    vm_dd w = vm_dd_multiply(d, d2), top = vm_dd_multiply(f, d2);
    vm_dd w2 = vm_two_sum(w.hi, 2);
    w2.lo += w.lo;
    top = vm_dd_multiply(x < 0 ? top : w, (vm_dd){x, 0});
    double y = vm_dd_divide(top, w2).hi;
    y = x < 0 ? vm_scale_f64(y, e.n) : y;
    y = x > 30 ? x : y;
    return copysign(x < -800 ? 0 : y, x);
}

VM_INLINE double vm_gelu_tanh_f64(double x) {
    /* 2 sqrt(2/pi) (x + 0.044715 x^3) in two doubles */
    double c = vm_clamp_f64(x, -100, 100);
    vm_dd v = vm_dd_multiply(vm_two_product(c, c), (vm_dd){0x1.2444f2a4d8b4bp-4, -0x1.6c843a29d1c70p-61});
    v = vm_dd_multiply((vm_dd){c, 0}, vm_dd_add((vm_dd){0x1.9884533d43651p+0, -0x1.cbc0d30ebfd15p-54}, v));
    return vm_gated_f64(x, v);
}

/* ---- error function ----------------------------------------------------------------------------------- */
/* erfc(a) = exp(-s) F(t) / (1 + 2 a) where s = a^2, t = (a - k) / (a + k), k = 4.1 (computed
 * as 2 a / (a + k) - 1, which is accurate at small a), after M. M. Shepherd and
 * J. G. Laframboise, "Chebyshev approximation of (1 + 2x) exp(x^2) erfc x in 0 <= x < inf" (1981). */
VM_INLINE vm_scaled vm_erfc_part(vm_dd a, vm_dd s) {
    double t = 2 * a.hi / (a.hi + 4.1) - 1, t2 = t * t, t4 = t2 * t2, t12 = t4 * t4 * t4;
    /* F for 0 <= a <= 28: 2^-60 */
    double low = VM_P10(t, -0x1.1d0f864688c79p-3, 0x1.3fe1e219a3778p-6, 0x1.010ea0e9e3bbep-4, -0x1.9015f88a876b8p-4,
                        0x1.7f876f22b193p-4, -0x1.19a5522df7c0cp-4, 0x1.4b4949f224019p-5, -0x1.35c00fcf73cfp-6,
                        0x1.b29ec1ae0971dp-8, -0x1.74a0a7f134c4fp-10, -0x1.678f3b5e04826p-15);
    double high = VM_P11(t, 0x1.53f4fff546c87p-13, -0x1.9d405a889911fp-15, -0x1.140c46b222979p-18,
                         0x1.d75baf36a60f2p-18, -0x1.218da80a8e8fcp-20, -0x1.8074d9d5c2c3ap-21, 0x1.1eb655c8e66f1p-22,
                         0x1.23a2e418dc24p-24, -0x1.7e14a472979fcp-25, -0x1.27e15b3332578p-27, 0x1.60c3d12e7fcddp-28,
                         0x1.8c7b6823bb85ep-30);
    vm_dd F = vm_fast_two_sum(0x1.3b34c3b095ffep+0, t * low + t12 * high);
    vm_dd d = vm_two_sum(1, 2 * a.hi);
    d.lo += 2 * a.lo;
    vm_scaled e = vm_exp_dd((vm_dd){-s.hi, -s.lo});
    vm_dd y = vm_dd_divide(vm_dd_multiply((vm_dd){e.hi, e.lo}, F), d);
    return (vm_scaled){y.hi, y.lo, e.n};
}

/* erf(a) for 0 <= a <= 1 */
VM_INLINE double vm_erf_near_f64(double a) {
    double z = a * a;
    /* erf(a) / a - 1 of a^2, relative to erf(a): 2^-57 */
    return a + a * VM_P11(z, 0x1.06eba8214db68p-3, -0x1.812746b0379bdp-2, 0x1.ce2f21a040d21p-4, -0x1.b82ce311fab6fp-6,
                          0x1.565bccf92eaadp-8, -0x1.c02db03e3cd72p-11, 0x1.f9a2bab00ed8ep-14, -0x1.f4ca4dbca9a02p-17,
                          0x1.b97fd5d5cea58p-20, -0x1.5c072df7c0e9ep-23, 0x1.d71b21cf3dcd1p-27,
                          -0x1.abae353b8c9f6p-31);
}

VM_INLINE double vm_erf_f64(double x) {
    double a = vm_clamp_f64(fabs(x), 0, 6);
    vm_scaled q = vm_erfc_part((vm_dd){a, 0}, (vm_dd){a * a, 0});
    return copysign(a < 1 ? vm_erf_near_f64(a) : 1 - vm_scale_f64(q.hi, q.n), x);
}

VM_INLINE double vm_erfc_f64(double x) {
    double a = vm_clamp_f64(fabs(x), 0, 28);
    vm_scaled q = vm_erfc_part((vm_dd){a, 0}, vm_two_product(a, a));
    double y = a < 0.45 ? 1 - vm_erf_near_f64(a) : vm_scale_f64(q.hi, q.n);
    return x < 0 ? 2 - y : y;
}

/* x erfc(-x / sqrt 2) / 2 */
VM_INLINE double vm_gelu_f64(double x) {
    double c = vm_clamp_f64(fabs(x), 0, 39.5);
    vm_dd a = vm_dd_multiply((vm_dd){c, 0}, (vm_dd){VM_SQRT_HALF, VM_SQRT_HALF_REST});
    vm_dd s = vm_two_product(c, c);
    vm_scaled q = vm_erfc_part(a, (vm_dd){0.5 * s.hi, 0.5 * s.lo});
    double left = vm_dd_multiply((vm_dd){0.5 * vm_clamp_f64(x, -40, 0), 0}, (vm_dd){q.hi, q.lo}).hi;
    double y = x < 0 ? vm_scale_f64(left, q.n) : x * (1 - 0.5 * vm_scale_f64(q.hi, q.n));
    return copysign(c < 0.6 ? x * (0.5 + copysign(0.5 * vm_erf_near_f64(a.hi), x)) : y, x);
}

/* The same for a float32 result with k = 3, in plain double: F for 0 <= a <= 10.5 to 2^-28 */
VM_INLINE double vm_erfc_short(double a) {
    double q = 1 + 2 * a, w = 1 / ((a + 3) * q), t = (a - 3) * q * w;
    double F = VM_P10(t, 0x1.40c522dd39a6ep+0, -0x1.15c0899cb27cep-3, -0x1.85a1ab6413741p-5, 0x1.0984188081bdep-3,
                      -0x1.e887eb7094d84p-4, 0x1.17bd4ddd3cddcp-4, -0x1.85f6c3b41d187p-6, 0x1.501061be5b397p-9,
                      0x1.07270b385ad4ep-9, -0x1.9298601d97b8p-11, -0x1.1535979c5dae9p-12);
    return vm_exp_short(-a * a) * F * ((a + 3) * w);
}

VM_INLINE float vm_erfc_f32(float x) {
    double y = vm_erfc_short(vm_clamp_f64(fabs((double)x), 0, 10.5));
    return (float)(x < 0 ? 2 - y : y);
}

/* max(x, 0) - |x| erfc(|x| / sqrt 2) / 2 */
VM_INLINE float vm_gelu_f32(float x) {
    double a = vm_clamp_f64(fabs((double)x), 0, 14.8), y = 0.5 * a * vm_erfc_short(VM_SQRT_HALF * a);
    return copysignf((float)(x < 0 ? y : x - y), x);
}

/* erf(a) for 0 <= a <= 0.9 */
VM_INLINE float vm_erf_near_f32(float a) {
    float z = a * a;
    /* erf(a) / a - 1 of a^2, relative to erf(a): 2^-31 */
    return a + a * VM_P6(z, 0x1.06eba8p-3f, -0x1.812744p-2f, 0x1.ce2e54p-4f, -0x1.b81524p-6f, 0x1.550a4ap-8f,
                         -0x1.aca3a4p-11f, 0x1.6510b6p-14f);
}

/* By its series below 0.9, above by 1 - exp(P(|x|)) */
VM_INLINE float vm_erf_f32(float x) {
    float a = vm_clamp_f32(fabsf(x), 0, 4);
    /* log erfc(a) for 0.89 <= a <= 4, relative to erf: 2^-29 */
    float l = VM_P6(a, -0x1.3ecf7p-13f, -0x1.20bb5p+0f, -0x1.4614p-1f, -0x1.aad57ap-4f, 0x1.6e5e44p-6f,
                    -0x1.9358a6p-9f, 0x1.a2444cp-13f);
    float t = l * (float)VM_LOG2E + VM_ROUND_F32, n = t - VM_ROUND_F32, r = l - n * (float)VM_LN2;
    float s = vm_power2_f32(t);
    return copysignf(a < 0.9f ? vm_erf_near_f32(a) : 1 - (s + s * (r + r * r * vm_exp_tail_f32(r))), x);
}

/* ---- roots, sums -------------------------------------------------------------------------------------- */
VM_INLINE double vm_cbrt_f64(double x) {
    vm_split v = vm_split_f64(fabs(x));
    double t = v.e * 0x1.5555555555555p-2 + VM_ROUND_F64, j = v.e - 3 * (t - VM_ROUND_F64);
    double m = v.m * (j < 0 ? 0.5 : j > 0 ? 2 : 1), f = v.m - 1;
    /* cbrt(1 + f) for sqrt(1/2) <= 1 + f <= sqrt(2) to 2^-16, one step of Halley to 2^-48, one of Newton */
    double y = (VM_P4(f, 0x1.0000561ceb323p+0, 0x1.5538b432b42dep-2, -0x1.c922d2f6a2099p-4, 0x1.0cf69fbb64d18p-4, -0x1.31184e279b68ap-5))
               * (j < 0 ? 0x1.965fea53d6e3dp-1 : j > 0 ? 0x1.428a2f98d728bp+0 : 1);
    double c = y * y * y;
    y = y - y * (c - m) / (2 * c + m);
    vm_dd s = vm_two_product(y, y), p = vm_two_product(s.hi, y);
    y = y + ((m - p.hi) - (p.lo + s.lo * y)) / (3 * s.hi);
    y = vm_scale_f64(y, t);
    return copysign((x == 0) | !(fabs(x) < INFINITY) ? fabs(x) : y, x);
}

VM_INLINE double vm_hypot_f64(double a, double b) {
    double u = fabs(a), v = fabs(b), big = u > v ? u : v, small = u > v ? v : u;
    double k = big > 0x1p500 ? 0x1p-600 : big < 0x1p-400 ? 0x1p600 : 1; /* away from overflow and underflow */
    double ik = big > 0x1p500 ? 0x1p600 : big < 0x1p-400 ? 0x1p-600 : 1;
    big *= k, small *= k;
    vm_dd p = vm_two_product(big, big), q = vm_two_product(small, small);
    vm_dd s = vm_fast_two_sum(p.hi, q.hi);
    double y = sqrt(s.hi);
    vm_dd r = vm_two_product(y, y);
    double rest = (s.hi - r.hi) - r.lo + (s.lo + p.lo + q.lo);
    y = (y + (y > 0 ? rest / (2 * y) : 0)) * ik;
    y = (a != a) | (b != b) ? a + b : y;
    return (u == INFINITY) | (v == INFINITY) ? INFINITY : y;
}

VM_INLINE float vm_hypot_f32(float a, float b) {
    double y = sqrt((double)a * a + (double)b * b);
    return (fabsf(a) == INFINITY) | (fabsf(b) == INFINITY) ? INFINITY : (float)y;
}

/* log(1 + e) for the sum e <= 1 */
VM_INLINE vm_dd vm_log1p_dd(vm_dd e) {
    vm_dd d = vm_dd_add((vm_dd){1, 0}, e), l = vm_log_dd(d.hi);
    return vm_fast_two_sum(l.hi, l.lo + d.lo / d.hi);
}

/* max + log(1 + exp(-|a - b|)) in two doubles, because the sum may cancel; equal infinities have no difference */
VM_INLINE double vm_logaddexp_f64(double a, double b) {
    double big = a > b ? a : b, small = a > b ? b : a;
    vm_dd d = a == b ? (vm_dd){0, 0} : vm_two_sum(small, -big);
    int far = !(d.hi > -750);
    vm_scaled e = vm_exp_dd((vm_dd){far ? -750 : d.hi, far ? 0 : d.lo});
    double s = far ? 0 : vm_scale_f64(1, e.n);
    vm_dd l = vm_log1p_dd((vm_dd){s * e.hi, s * e.lo}), y = vm_two_sum(big, l.hi);
    double sum = fabs(big) < INFINITY ? y.hi + (y.lo + l.lo) : big;
    return (a != a) | (b != b) ? a + b : sum;
}

VM_INLINE float vm_logaddexp_f32(float a, float b) {
    double big = a > b ? a : b, d = a == b ? 0 : (a > b ? b : a) - big;
    double y = big + vm_log1p_f64(vm_exp_short(d > -700 ? d : -700));
    return (a != a) | (b != b) ? a + b : (float)y;
}

VM_INLINE double vm_logaddexp2_f64(double a, double b) {
    double big = a > b ? a : b, small = a > b ? b : a;
    vm_dd d = a == b ? (vm_dd){0, 0} : vm_two_sum(small, -big);
    int far = !(d.hi > -1080);
    vm_dd x = vm_dd_multiply((vm_dd){far ? -1080 : d.hi, far ? 0 : d.lo}, (vm_dd){VM_LN2, VM_LN2_REST});
    vm_scaled e = vm_exp_dd(x);
    double s = far ? 0 : vm_scale_f64(1, e.n);
    vm_dd l = vm_dd_multiply(vm_log1p_dd((vm_dd){s * e.hi, s * e.lo}), (vm_dd){VM_LOG2E, VM_LOG2E_REST});
    vm_dd y = vm_two_sum(big, l.hi);
    double sum = fabs(big) < INFINITY ? y.hi + (y.lo + l.lo) : big;
    return (a != a) | (b != b) ? a + b : a == b ? a + 1 : sum;
}

/* ---- from the C library ------------------------------------------------------------------------------- */
#define VM_LIBM_f64_tan ~, 1
#define VM_LIBM_f64_arcsinh ~, 1
#define VM_LIBM_f64_arccosh ~, 1
#define VM_LIBM_f64_arctanh ~, 1
#define VM_LIBM_f32_tan ~, 1
#define VM_LIBM_f32_fmod ~, 1
#define VM_LIBM_f64_fmod ~, 1
#define VM_LIBM_f32_remainder ~, 1
#define VM_LIBM_f64_remainder ~, 1
#define VM_LIBM_f32_floor_divide ~, 1
#define VM_LIBM_f64_floor_divide ~, 1
VM_INLINE double vm_tan_f64(double x) { return tan(x); }
VM_INLINE float vm_tan_f32(float x) { return (float)tan(x); }
VM_INLINE double vm_arcsinh_f64(double x) { return asinh(x); }
VM_INLINE double vm_arccosh_f64(double x) { return acosh(x); }
VM_INLINE double vm_arctanh_f64(double x) { return atanh(x); }

/* ---- float32 by way of float64 ------------------------------------------------------------------------ */
/* Naive in double where the float64 function has to be careful: what it loses is far below float32. */
VM_INLINE float vm_arcsinh_f32(float x) {
    double a = fabs((double)x);
    double y = vm_log1p_f64(a + a * a / (1 + sqrt(1 + a * a)));
    return (float)copysign(a < INFINITY ? y : a, x);
}
VM_INLINE float vm_arccosh_f32(float x) {
    double u = (double)x - 1;
    return (float)vm_log1p_f64(u < 0 ? NAN : u + sqrt(u * (u + 2)));
}
VM_INLINE float vm_arctanh_f32(float x) {
    double a = fabs((double)x);
    return (float)copysign(0.5 * vm_log1p_f64(2 * a / (1 - a)), x);
}

#define VM_VIA_F64(name) VM_INLINE float vm_##name##_f32(float x) { return (float)vm_##name##_f64(x); }
#define VM_VIA_F64_2(name) VM_INLINE float vm_##name##_f32(float a, float b) { return (float)vm_##name##_f64(a, b); }
VM_VIA_F64(sinh)
VM_VIA_F64(cosh)
VM_VIA_F64(log2)
VM_VIA_F64(log10)
VM_VIA_F64(arctan)
VM_VIA_F64(arcsin)
VM_VIA_F64(arccos)
VM_VIA_F64(tanh_shrink)
VM_VIA_F64(cbrt)
VM_VIA_F64_2(arctan2)
VM_VIA_F64_2(logaddexp2)

/* ---- the same text for both dtypes -------------------------------------------------------------------- */
#define VM_T float
#define VM(name) vm_##name##_f32
#define VM_LIB(name) name##f
#define VM_INTEGRAL 0x1p23f
#include "vecmath.h"
#define VM_T double
#define VM(name) vm_##name##_f64
#define VM_LIB(name) name
#define VM_INTEGRAL 0x1p52
#include "vecmath.h"

#elif defined VM_T

VM_INLINE VM_T VM(absolute)(VM_T x) { return VM_LIB(fabs)(x); }
VM_INLINE VM_T VM(sign)(VM_T x) { return x < 0 ? -1 : x > 0 ? 1 : x == 0 ? 0 : x; }

/* From VM_INTEGRAL on every number is an integer. */
VM_INLINE VM_T VM(rint)(VM_T x) {
    VM_T a = VM_LIB(fabs)(x), r = (a + VM_INTEGRAL) - VM_INTEGRAL;
    return VM_LIB(copysign)(a < VM_INTEGRAL ? r : a, x);
}
VM_INLINE VM_T VM(floor)(VM_T x) {
    VM_T r = VM(rint)(x);
    return r > x ? r - 1 : r;
}
VM_INLINE VM_T VM(ceil)(VM_T x) {
    VM_T r = VM(rint)(x);
    return VM_LIB(copysign)(r < x ? r + 1 : r, x);
}
VM_INLINE VM_T VM(trunc)(VM_T x) { return VM_LIB(copysign)(VM(floor)(VM_LIB(fabs)(x)), x); }

VM_INLINE VM_T VM(selu)(VM_T x) {
    VM_T scale = (VM_T)1.05070098735548049342, scale_alpha = (VM_T)1.75809934084737685994;
    return x > 0 ? scale * x : scale_alpha * VM(expm1)(x);
}
VM_INLINE VM_T VM(elu)(VM_T a, VM_T b) { return a > 0 ? a : b * VM(expm1)(a); }
VM_INLINE VM_T VM(celu)(VM_T a, VM_T b) {
    VM_T u = a / b;
    return (a > 0) | (VM_LIB(fabs)(u) < (VM_T)0x1p-54) ? a : b * VM(expm1)(u);
}

VM_INLINE VM_T VM(maximum)(VM_T a, VM_T b) { return (a > b) | (a != a) ? a : b; }
VM_INLINE VM_T VM(minimum)(VM_T a, VM_T b) { return (a < b) | (a != a) ? a : b; }
VM_INLINE VM_T VM(fmax)(VM_T a, VM_T b) { return (a > b) | (b != b) ? a : b; }
VM_INLINE VM_T VM(fmin)(VM_T a, VM_T b) { return (a < b) | (b != b) ? a : b; }
VM_INLINE VM_T VM(copysign)(VM_T a, VM_T b) { return VM_LIB(copysign)(a, b); }
VM_INLINE VM_T VM(heaviside)(VM_T a, VM_T b) { return a < 0 ? 0 : a > 0 ? 1 : a == 0 ? b : a; }

/* NumPy's rules: the remainder has the sign of b, the quotient is the integer that belongs to it, and a
 * division by zero is that of a / b. */
VM_INLINE VM_T VM(fmod)(VM_T a, VM_T b) { return VM_LIB(fmod)(a, b); }
VM_INLINE VM_T VM(remainder)(VM_T a, VM_T b) {
    VM_T r = VM_LIB(fmod)(a, b);
    return r == 0 ? VM_LIB(copysign)(0, b) : (b < 0) != (r < 0) ? r + b : r;
}
VM_INLINE VM_T VM(floor_divide)(VM_T a, VM_T b) {
    VM_T r = VM_LIB(fmod)(a, b), q = (a - r) / b;
    q = (r != 0) & ((b < 0) != (r < 0)) ? q - 1 : q;
    VM_T whole = VM(floor)(q);
    whole = q - whole > (VM_T)0.5 ? whole + 1 : whole;
    return b == 0 ? a / b : q == 0 ? VM_LIB(copysign)(0, a / b) : whole;
}

#undef VM_T
#undef VM
#undef VM_LIB
#undef VM_INTEGRAL
#endif
