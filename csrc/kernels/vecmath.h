/* vecmath.h: the mathematical functions of the kernels, written for whole vectors although they look scalar.
 *
 * Every function but vm_polygamma is branch-free (ternaries become masks, exponents are moved as bits), so that a
 * compiler turns a plain loop over it into vector code for any instruction set, without intrinsics. vm_<name>_f32 and
 * vm_<name>_f64 carry NumPy's and SciPy's names. Against the exact value of the definition in ops.def they err by less
 * than 2 ULP, some special functions by up to 4 (docs/accuracy.md), denormal results included; zeros have NumPy's
 * signs, nan gives nan, and so does an argument outside of the domain. The bounds hold with fused multiply-add and
 * without. Exception: where logaddexp and logaddexp2 of float64 cancel to less than 2^-47, they are only 2^-100 from
 * the truth.
 *
 * The float32 functions that training leans on (exp, exp2, expm1, log, log1p, tanh, sigmoid, silu, gelu, softplus,
 * erf, and what is made of them) have arithmetic of their own; the others round a result computed in double.
 * Where one double is not enough (arguments of exp above all, whose error grows by the argument), a value is
 * carried as an unevaluated sum hi + lo, after T. J. Dekker, "A floating-point technique for extending the
 * available precision" (1971). Polynomials and quotients of them are minimax fits made for this file, polynomials with
 * the Remez algorithm, except where a part of this file says otherwise.
 *
 * sin and cos are accurate up to VM_TRIG_LIMIT; above it the caller takes vm_<name>_huge, element by element.
 * The functions marked VM_LIBM_<dtype>_<name> call the C library and are not vectorised. Those marked VM_LONG_<name>
 * have no float32 form, nor have their slopes. Where VM_SLOPE_<dtype>_<name> is defined, the backward kernel computes
 * the derivative in that way and not as its text is written: vecmath_slopes.h, or beside a special function.
 */
#ifndef FG_VECMATH_H
#define FG_VECMATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* A function that is not inlined would keep the loop that calls it from being vectorised. */
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
#define VM_P13(x, a, ...) ((a) + (x) * VM_P12(x, __VA_ARGS__))
#define VM_P14(x, a, ...) ((a) + (x) * VM_P13(x, __VA_ARGS__))
#define VM_P15(x, a, ...) ((a) + (x) * VM_P14(x, __VA_ARGS__))
#define VM_P16(x, a, ...) ((a) + (x) * VM_P15(x, __VA_ARGS__))
#define VM_P17(x, a, ...) ((a) + (x) * VM_P16(x, __VA_ARGS__))
#define VM_P18(x, a, ...) ((a) + (x) * VM_P17(x, __VA_ARGS__))
#define VM_P19(x, a, ...) ((a) + (x) * VM_P18(x, __VA_ARGS__))
#define VM_P20(x, a, ...) ((a) + (x) * VM_P19(x, __VA_ARGS__))
#define VM_P21(x, a, ...) ((a) + (x) * VM_P20(x, __VA_ARGS__))
#define VM_P22(x, a, ...) ((a) + (x) * VM_P21(x, __VA_ARGS__))
#define VM_P23(x, a, ...) ((a) + (x) * VM_P22(x, __VA_ARGS__))
#define VM_P24(x, a, ...) ((a) + (x) * VM_P23(x, __VA_ARGS__))
#define VM_P25(x, a, ...) ((a) + (x) * VM_P24(x, __VA_ARGS__))
#define VM_P26(x, a, ...) ((a) + (x) * VM_P25(x, __VA_ARGS__))

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

/* a * b - p, where p is the product rounded or nearly so: exact with fma, else but for 2^-105 (2^-46) of p */
VM_INLINE double vm_product_rest_f64(double a, double b, double p) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    return __builtin_fma(a, b, -p);
#else
    double ah = vm_float_f64(vm_bits_f64(a) & ~UINT64_C(0x7ffffff)), al = a - ah;
    double bh = vm_float_f64(vm_bits_f64(b) & ~UINT64_C(0x7ffffff)), bl = b - bh;
    return ((ah * bh - p) + ah * bl + al * bh) + al * bl;
#endif
}

VM_INLINE float vm_product_rest_f32(float a, float b, float p) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    return __builtin_fmaf(a, b, -p);
#else
    float ah = vm_float_f32(vm_bits_f32(a) & 0xfffff000), al = a - ah;
    float bh = vm_float_f32(vm_bits_f32(b) & 0xfffff000), bl = b - bh;
    return ((ah * bh - p) + ah * bl + al * bh) + al * bl;
#endif
}

/* a * b - c where that cancels, rounded once or nearly so */
VM_INLINE float vm_product_less_f32(float a, float b, float c) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    return __builtin_fmaf(a, b, -c);
#else
    float p = a * b;
    return (p - c) + vm_product_rest_f32(a, b, p);
#endif
}

/* a * b */
VM_INLINE vm_dd vm_two_product(double a, double b) {
    double p = a * b;
    return (vm_dd){p, vm_product_rest_f64(a, b, p)};
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

/* (exp(r) - 1 - r) / r^2 for |r| <= 0.3473, relative to exp(r): 2^-58. Neighbouring terms are added first, then pairs,
 * and so on (Estrin's scheme): what a single exponential, which has to be waited for, takes is a chain of dependences.
 * Callers have r * r anyway. */
VM_INLINE double vm_exp_tail_f64(double r) {
    double z = r * r, w = z * z;
    return (VM_P1(r, 0x1.000000000000cp-1, 0x1.5555555555561p-3)
            + z * VM_P1(r, 0x1.555555554fef3p-5, 0x1.111111110d4b6p-7))
           + w * ((VM_P1(r, 0x1.6c16c185effe1p-10, 0x1.a01a01bb5ae89p-13)
                   + z * VM_P1(r, 0x1.a01995c6c1bdap-16, 0x1.71ddded174acep-19))
                  + w * VM_P1(r, 0x1.28b10d086704dp-22, 0x1.af86fd329fe5dp-26));
}

/* 2^-28; arranged for a short chain of dependences */
VM_INLINE float vm_exp_tail_f32(float r) {
    float z = r * r;
    return (0x1p-1f + r * 0x1.55548ep-3f) + z * ((0x1.55545cp-5f + r * 0x1.123c78p-7f) + z * 0x1.6db668p-10f);
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

/* x - n ln 2, but for 2^-56 n */
VM_INLINE double vm_less_ln2_f64(double x, double n) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    return __builtin_fma(-n, VM_LN2, x);
#else
    return (x - n * VM_LN2_HI) - n * VM_LN2_LO;
#endif
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

/* x clamped to [lo, hi]; nan stays nan */
VM_INLINE double vm_clamp_f64(double x, double lo, double hi) { x = x < lo ? lo : x; return x > hi ? hi : x; }
VM_INLINE float vm_clamp_f32(float x, float lo, float hi) { x = x < lo ? lo : x; return x > hi ? hi : x; }

/* ---- exponentials ------------------------------------------------------------------------------------- */
/* v 2^n for 2^-60 < v < 2, or n = 0: n is added to the exponent. If `left`, for results that may be subnormal, it is
 * added to v 2^64, and the result divided by that. nan does not stay nan. */
VM_INLINE double vm_add_exponent_f64(double v, double n_rounded, int left) {
    double f = left ? 0x1p-64 : 1;
    return vm_float_f64(vm_bits_f64(v) + (vm_bits_f64(n_rounded) << 52) + (0x3ff0000000000000 - vm_bits_f64(f))) * f;
}

VM_INLINE float vm_add_exponent_f32(float v, float n_rounded, int left) {
    float f = left ? 0x1p-64f : 1;
    return vm_float_f32(vm_bits_f32(v) + (vm_bits_f32(n_rounded) << 23) + (0x3f800000 - vm_bits_f32(f))) * f;
}

VM_INLINE double vm_exp_f64(double x) {
    double t = x * VM_LOG2E + VM_ROUND_F64, n = t - VM_ROUND_F64;
    double r = (x - n * VM_LN2_HI) - n * VM_LN2_LO;
    double y = vm_add_exponent_f64(1 + (r + r * r * vm_exp_tail_f64(r)), t, x < -690);
    y = x < -746 ? 0 : y;
    return x <= 0x1.62e42fefa39efp+9 ? y : x + INFINITY; /* nan stays nan */
}

VM_INLINE float vm_exp_f32(float x) {
    float t = x * (float)VM_LOG2E + VM_ROUND_F32, n = t - VM_ROUND_F32;
    float r = (x - n * VM_LN2_HI_F32) - n * VM_LN2_LO_F32;
    float y = vm_add_exponent_f32(1 + (r + r * r * vm_exp_tail_f32(r)), t, x < -64);
    y = x < -104 ? 0 : y;
    return x <= 0x1.62e42ep+6f ? y : x + INFINITY; /* nan stays nan */
}

/* exp(-a) for a >= 0; nan does not stay nan */
VM_INLINE float vm_exp_minus_f32(float a) {
    float t = VM_ROUND_F32 - a * (float)VM_LOG2E, n = t - VM_ROUND_F32;
    float r = (-a - n * VM_LN2_HI_F32) - n * VM_LN2_LO_F32;
    float y = vm_add_exponent_f32(1 + (r + r * r * vm_exp_tail_f32(r)), t, a > 64);
    return a > 104 ? 0 : y;
}

/* v 2^n, before the multiplication by the power of two */
typedef struct { double v, n; } vm_unscaled;

/* 2^(x + lo), where lo is small */
VM_INLINE vm_unscaled vm_exp2_unscaled(double x, double lo) {
    double t = x + VM_ROUND_F64, r = (x - (t - VM_ROUND_F64)) + lo;
    /* (2^r - 1) / r for |r| <= 0.501, relative to 2^r: 2^-58 */
    double p = VM_P10(r, 0x1.62e42fefa39efp-1, 0x1.ebfbdff82c5a5p-3, 0x1.c6b08d704a0d8p-5, 0x1.3b2ab6fb9fe66p-7,
                      0x1.5d87fe78a0b8cp-10, 0x1.4309130f67161p-13, 0x1.ffcbfc7cf2177p-17, 0x1.62bfc62f9cec4p-20,
                      0x1.b524ccccb94ddp-24, 0x1.e61dd26284e76p-28, 0x1.ea1994b16751ep-32);
    return (vm_unscaled){1 + r * p, t};
}

VM_INLINE double vm_exp2_f64(double x) {
    vm_unscaled y = vm_exp2_unscaled(vm_clamp_f64(x, -1080, 1024), 0);
    return vm_scale_f64(y.v, y.n);
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

/* (sinh(r) - r) / r^3 and (cosh(r) - 1) / r^2 of r^2 for |r| <= 0.3473: 2^-61, 2^-70 */
VM_INLINE double vm_sinh_tail_f64(double z) {
    return VM_P4(z, 0x1.5555555555559p-3, 0x1.111111110f64dp-7, 0x1.a01a01b01204cp-13, 0x1.71ddf7d4e4637p-19,
                 0x1.af5fb17ed3bbap-26);
}
VM_INLINE double vm_cosh_tail_f64(double z) {
    return VM_P5(z, 0x1p-1, 0x1.555555555555cp-5, 0x1.6c16c16c13e7bp-10, 0x1.a01a01b1b1372p-16, 0x1.27e4c4985e46ep-22,
                 0x1.1f95e88803f3dp-29);
}

/* exp(r) = C + S with the even part C = 1 + c and the odd part S, so that sinh and cosh need one reduction and no
 * quotient: with p = 2^n / 4, q = 2^-n / 4, sinh(x) / 2 = (p - q) C + (p + q) S, and cosh with the signs changed.
 * The quarter keeps 2^n in range where the result is. */
VM_INLINE double vm_sinh_f64(double x) {
    double ax = vm_clamp_f64(fabs(x), 0, 710.5), t = ax * VM_LOG2E + VM_ROUND_F64, n = t - VM_ROUND_F64;
    double b = ax - n * VM_LN2_HI, r = b - n * VM_LN2_LO, lo = (b - r) - n * VM_LN2_LO, z = r * r;
    double S = r + (lo + r * z * vm_sinh_tail_f64(z)), c = z * vm_cosh_tail_f64(z);
    double p = vm_power2_f64(t - 2), q = n > 60 ? 0 : vm_power2_f64(VM_ROUND_F64 - 2 - n);
    double y = 2 * ((p - q) + ((p - q) * c + (p + q) * S));
    return fabs(x) < 0x1p-26 ? x : copysign(y, x);
}

VM_INLINE double vm_cosh_f64(double x) {
    double ax = vm_clamp_f64(fabs(x), 0, 710.5), t = ax * VM_LOG2E + VM_ROUND_F64, n = t - VM_ROUND_F64;
    double r = (ax - n * VM_LN2_HI) - n * VM_LN2_LO, z = r * r;
    double S = r + r * z * vm_sinh_tail_f64(z), c = z * vm_cosh_tail_f64(z);
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
    int32_t u = (int32_t)(vm_bits_f32(x < 0x1p-126f ? x * 0x1p23f : x) - 0x3f3504f3);
    float e = (float)(u >> 23) - shift, f = vm_float_f32((uint32_t)(u & 0x007fffff) + 0x3f3504f3) - 1;
    /* (log(1 + f) - f) / f^2 for sqrt(1/2) - 1 <= f <= sqrt(2) - 1, relative to log: 2^-30 */
    float p = VM_P9(f, -0.5f, 0x1.555546p-2f, -0x1.ffffeep-3f, 0x1.99a548p-3f, -0x1.55631p-3f, 0x1.23329ep-3f,
                    -0x1.fb3cf8p-4f, 0x1.e64e4p-4f, -0x1.e30da8p-4f, 0x1.1b7048p-4f);
    float y = f + (f * f * p + (e * VM_LN2_LO_F32 + lost));
    return vm_log_edges_f32(x, e * VM_LN2_HI_F32 + y);
}

VM_INLINE double vm_log_f64(double x) { return vm_log_core_f64(x, 0); }
VM_INLINE float vm_log_f32(float x) { return vm_log_core_f32(x, 0); }

/* log(u) with u = 1 + x, corrected by what the rounding of u has cut off */
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
    vm_dd b = vm_fast_two_sum(m > 1 ? m : 1, m > 1 ? 1 : m); /* s = f / b by the reciprocal of b.hi */
    double r = 1 / b.hi, q = f * r;
    vm_dd s = vm_fast_two_sum(q, -(vm_product_rest_f64(q, b.hi, f) + q * b.lo) * r);
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
    y = (((a) != (a)) | ((b) != (b))) ? (a) + (b) : y;                                                                \
    y = (((a) == -1) & (fabs_(b) == (T)INFINITY)) ? 1 : y;                                                            \
    y = (((b) == 0) | ((a) == 1)) ? 1 : y

VM_INLINE double vm_whole(double x) {
    double a = fabs(x), r = (a + 0x1p52) - 0x1p52;
    return copysign(a < 0x1p52 ? r : a, x);
}

VM_INLINE double vm_power_f64(double a, double b) {
    double m = fabs(a);
    vm_dd l = vm_log_dd(m), p = vm_two_product(b, l.hi);
    p.lo += b * l.lo;
    double far = b * vm_log_edges_f64(m, l.hi); /* the same product, correct also where m is 0 or infinite */
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

/* ---- roots -------------------------------------------------------------------------------------------- */
VM_INLINE double vm_cbrt_f64(double x) {
    vm_split v = vm_split_f64(fabs(x));
    double t = v.e * 0x1.5555555555555p-2 + VM_ROUND_F64, j = v.e - 3 * (t - VM_ROUND_F64);
    double m = v.m * (j < 0 ? 0.5 : j > 0 ? 2 : 1), f = v.m - 1;
    /* cbrt(1 + f) for sqrt(1/2) <= 1 + f <= sqrt(2) to 2^-16, one step of Halley to 2^-48, one of Newton */
    double y = VM_P4(f, 0x1.0000561ceb323p+0, 0x1.5538b432b42dep-2, -0x1.c922d2f6a2099p-4, 0x1.0cf69fbb64d18p-4,
                     -0x1.31184e279b68ap-5)
               * (j < 0 ? 0x1.965fea53d6e3dp-1 : j > 0 ? 0x1.428a2f98d728bp+0 : 1);
    double c = y * y * y;
    y = y - y * (c - m) / (2 * c + m);
    vm_dd s = vm_two_product(y, y), p = vm_two_product(s.hi, y);
    y = y + ((m - p.hi) - (p.lo + s.lo * y)) / (3 * s.hi);
    y = vm_scale_f64(y, t);
    return copysign(((x == 0) | !(fabs(x) < INFINITY)) ? fabs(x) : y, x);
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
    y = ((a != a) | (b != b)) ? a + b : y;
    return ((u == INFINITY) | (v == INFINITY)) ? INFINITY : y;
}

VM_INLINE float vm_hypot_f32(float a, float b) {
    double y = sqrt((double)a * a + (double)b * b);
    return ((fabsf(a) == INFINITY) | (fabsf(b) == INFINITY)) ? INFINITY : (float)y;
}

#include "vecmath_trig.h"
#include "vecmath_special.h"
#include "vecmath_slopes.h"
#include "vecmath_gamma.h"
#include "vecmath_normal.h"
#include "vecmath_bessel.h"

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
VM_VIA_F64(logit)
VM_VIA_F64(entr)
VM_VIA_F64_2(arctan2)
VM_VIA_F64_2(logaddexp)
VM_VIA_F64_2(logaddexp2)
VM_VIA_F64_2(xlogy)
VM_VIA_F64_2(xlog1py)

/* Loops that have a shorter form, without what only other arguments need, for those of which VM_USUAL_TEST_<loop> is
 * true, as it is of most: there its values have the same bits. */
#define VM_USUAL_gammaln_loop ~, USUAL_LOOPS, vm_gammaln_usual(x)
#define VM_USUAL_TEST_gammaln_loop(x, b) ((x) > 0x1p-60)
#define VM_USUAL_betaln_loop ~, USUAL_LOOPS, vm_betaln_usual(a, b)
#define VM_USUAL_TEST_betaln_loop(a, b) (((a) > 0x1p-60) & ((b) > 0x1p-60))
#define VM_USUAL_ndtri_loop ~, USUAL_LOOPS, vm_ndtri_usual(x)
#define VM_USUAL_TEST_ndtri_loop(x, b) (((x) > 0x1p-60) & ((x) < 1))

/* Long functions, of which there are no float32 forms: elementwise.c computes those by its loops of float64. */
#define VM_LONG_gammaln ~, LONG_LOOP
#define VM_LONG_digamma ~, LONG_LOOP
#define VM_LONG_stirling_error ~, LONG_LOOP
#define VM_LONG_trigamma ~, LONG_LOOP
#define VM_LONG_gamma ~, LONG_LOOP
#define VM_LONG_rgamma ~, LONG_LOOP
#define VM_LONG_erfinv ~, LONG_LOOP
#define VM_LONG_erfcinv ~, LONG_LOOP
#define VM_LONG_erfcx ~, LONG_LOOP
#define VM_LONG_log_ndtr ~, LONG_LOOP
#define VM_LONG_ndtri ~, LONG_LOOP
#define VM_LONG_log1mexp ~, LONG_LOOP
#define VM_LONG_j0 ~, LONG_LOOP
#define VM_LONG_j1 ~, LONG_LOOP
#define VM_LONG_i0 ~, LONG_LOOP
#define VM_LONG_i0e ~, LONG_LOOP
#define VM_LONG_i1 ~, LONG_LOOP
#define VM_LONG_i1e ~, LONG_LOOP
#define VM_LONG_rel_entr ~, LONG_LOOP
#define VM_LONG_kl_div ~, LONG_LOOP
#define VM_LONG_betaln ~, LONG_LOOP

/* ---- the same text for both dtypes -------------------------------------------------------------------- */
#define VM_T float
#define VM(name) vm_##name##_f32
#define VM_LIB(name) name##f
#define VM_INTEGRAL 0x1p23f
#define VM_FAR 0x1p100f
#include "vecmath.h"
#define VM_T double
#define VM(name) vm_##name##_f64
#define VM_LIB(name) name
#define VM_INTEGRAL 0x1p52
#define VM_FAR 0x1p600
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
/* b (exp(u) - 1) with u = a / b, corrected by the rounding error of the quotient */
VM_INLINE VM_T VM(celu)(VM_T a, VM_T b) {
    VM_T u = a / b, m = VM(expm1)(u), y = b * m;
    y = m > -1 ? y - (m + 1) * VM(product_rest)(u, b, a) : y;
    return ((a > 0) | (VM_LIB(fabs)(u) < (VM_T)0x1p-54)) ? a : y;
}

VM_INLINE VM_T VM(softsign)(VM_T x) { return x - x == 0 ? x / (1 + VM_LIB(fabs)(x)) : VM(sign)(x); }

VM_INLINE VM_T VM(maximum)(VM_T a, VM_T b) { return ((a > b) | (a != a)) ? a : b; }
VM_INLINE VM_T VM(minimum)(VM_T a, VM_T b) { return ((a < b) | (a != a)) ? a : b; }
VM_INLINE VM_T VM(fmax)(VM_T a, VM_T b) { return ((a > b) | (b != b)) ? a : b; }
VM_INLINE VM_T VM(fmin)(VM_T a, VM_T b) { return ((a < b) | (b != b)) ? a : b; }
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
    q = ((r != 0) & ((b < 0) != (r < 0))) ? q - 1 : q;
    VM_T whole = VM(floor)(q);
    whole = q - whole > (VM_T)0.5 ? whole + 1 : whole;
    return b == 0 ? a / b : q == 0 ? VM_LIB(copysign)(0, a / b) : whole;
}

/* -trunc(a / b). Where the quotient was rounded up to an integer, the integer times b is larger than a. */
#define VM_SLOPE_f32_fmod_db ~, vm_fmod_slope_f32(a, b)
#define VM_SLOPE_f64_fmod_db ~, vm_fmod_slope_f64(a, b)
VM_INLINE VM_T VM(fmod_slope)(VM_T a, VM_T b) {
    VM_T q = VM(trunc)(a / b), excess = VM(product_rest)(q, b, a);
    int above = (excess != 0) & ((excess < 0) == (a < 0)) & (VM_LIB(fabs)(q) < VM_INTEGRAL);
    return above ? VM_LIB(copysign)(1, q) - q : -q;
}

/* b exp(a) for a <= 0, as b exp(a / 2)^2, because exp(a) may be subnormal where its product with b is not */
#define VM_SLOPE_f32_elu_da ~, vm_elu_slope_f32(a, b)
#define VM_SLOPE_f64_elu_da ~, vm_elu_slope_f64(a, b)
VM_INLINE VM_T VM(elu_slope)(VM_T a, VM_T b) {
    VM_T half = VM(exp)((VM_T)0.5 * VM(minimum)(a, 0));
    return a > 0 ? 1 : b * half * half;
}

/* a / hypot(a, b). Where that is infinite or has lost bits, both are scaled first. */
#define VM_SLOPE_f32_hypot_da ~, vm_hypot_slope_f32(a, b, y)
#define VM_SLOPE_f64_hypot_da ~, vm_hypot_slope_f64(a, b, y)
#define VM_SLOPE_f32_hypot_db ~, vm_hypot_slope_f32(b, a, y)
#define VM_SLOPE_f64_hypot_db ~, vm_hypot_slope_f64(b, a, y)
VM_INLINE VM_T VM(hypot_slope)(VM_T a, VM_T b, VM_T y) {
    int fine = (y < INFINITY) & (y > 1 / VM_FAR);
    VM_T k = y < 1 ? VM_FAR : 1 / VM_FAR, c = a * k, d = b * k;
    VM_T slope = (fine ? a : c) / (fine ? y : VM_LIB(sqrt)(c * c + d * d));
    slope = ((VM_LIB(fabs)(a) == INFINITY) & (VM_LIB(fabs)(b) < INFINITY)) ? VM_LIB(copysign)(1, a) : slope;
    return y == 0 ? 0 : slope;
}

#undef VM_T
#undef VM
#undef VM_LIB
#undef VM_INTEGRAL
#undef VM_FAR
#endif
