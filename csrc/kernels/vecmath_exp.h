/* vecmath_exp.h: exponentials, logarithms and powers, and what other functions take from them; a part of vecmath.h,
 * and included by it alone. */

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

/* (exp(r) - 1 - r) / r^2 for |r| <= 0.3473, relative to exp(r): 2^-58. Neighbouring terms are added first, then pairs
 * of them, and so on (Estrin's scheme): few operations wait for one another, which is what the time of a single
 * exponential depends on. Callers have r * r anyway. */
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

/* x - n ln 2, with an error of at most 2^-55 n beside that of the rounding */
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
/* v 2^n for 2^-60 < v < 2, or n = 0: n is added to the exponent. If `is_small`, for results that may be subnormal, it
 * is added to that of v 2^64, and the result divided by 2^64. nan does not stay nan. */
VM_INLINE double vm_add_exponent_f64(double v, double n_rounded, int is_small) {
    double f = is_small ? 0x1p-64 : 1;
    return vm_float_f64(vm_bits_f64(v) + (vm_bits_f64(n_rounded) << 52) + (0x3ff0000000000000 - vm_bits_f64(f))) * f;
}

VM_INLINE float vm_add_exponent_f32(float v, float n_rounded, int is_small) {
    float f = is_small ? 0x1p-64f : 1;
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
