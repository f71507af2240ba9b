/* vecmath.h: the mathematical functions of the kernels, written for whole vectors although they look scalar.
 *
 * Every function but vm_polygamma is branch-free (ternaries become masks, exponents are moved as bits), so that a
 * compiler turns a plain loop over it into vector code for any instruction set, without intrinsics. vm_<name>_f32 and
 * vm_<name>_f64 carry NumPy's and SciPy's names. Against the exact value of the definition in ops.def they err by less
 * than 2 ULP, tanh of float64 and some special functions by more (docs/accuracy.md), denormal results included; zeros
 * have NumPy's signs, nan gives nan, and so does an argument outside of the domain. The bounds hold with fused
 * multiply-add and without. Exception: where logaddexp and logaddexp2 of float64 cancel to less than 2^-47, they are
 * only 2^-100 from the truth.
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

#include "vecmath_exp.h"

/* ---- roots -------------------------------------------------------------------------------------------- */
VM_INLINE double vm_sqrt_f64(double x) { return sqrt(x); }
VM_INLINE float vm_sqrt_f32(float x) { return sqrtf(x); }

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
