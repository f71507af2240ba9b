/* vecmath_special.h: tanh, the logistic and error functions with the activations made of them, and sums of
 * exponentials; a part of vecmath.h, and included by it alone. */

/* ---- tanh and its relatives --------------------------------------------------------------------------- */
/* With exp(-2|x|) = s + s q, where s is a power of two, tanh|x| = ((1 - s) - s q) / ((1 + s) + s q). From 20 on it
 * rounds to 1, also where 2^n has left its range. */
VM_INLINE double vm_tanh_f64(double x) {
    double a = fabs(x), t = VM_ROUND_F64 - a * (2 * VM_LOG2E), n = t - VM_ROUND_F64;
    double r = vm_less_ln2_f64(-2 * a, n), q = r + r * r * vm_exp_tail_f64(r), s = vm_power2_f64(t);
    double y = ((1 - s) - s * q) / ((1 + s) + s * q);
    return copysign(a > 20 ? 1 : y, x);
}

/* a - a t with t = z / R(z), z = a^2, below 1.25, and 1 - t t with t = P(a) / Q(a) above: what is subtracted is the
 * smaller part, and either way there is one division. Minimax fits to 2^-25.5, whose rounded coefficients were then
 * searched for the least error of the function as computed: 1.52 ULP, 1.72 without fused multiply-add (every number was
 * tried). P is at most 1, so that an infinite a does not give inf / inf. After the division `left` is not tested again,
 * or compilers divide twice: the maximum of `least` and t is a below 1.25, where t < a, and t above. */
VM_INLINE float vm_tanh_f32(float x) {
    float a = fabsf(x), z = a * a;
    float R = VM_P3(z, 0x1.800018p+1f, 0x1.3331bap+0f, -0x1.734d0cp-8f, 0x1.bff2a2p-13f);
    float P = VM_P2(a, 0x1.cce6b2p-1f, -0x1.71562ap-3f, 0x1.39c56cp-7f);
    float Q = (0x1.d04572p-1f + a * 0x1.f29474p-3f)
              + z * ((0x1.31f2dp-2f + a * 0x1.328fp-5f) + z * (0x1.4d9c76p-8f + a * 0x1.3b220ep-9f));
    int left = a < 1.25f;
    float whole = left ? a : 1, least = left ? a : 0;
    P = P < whole ? P : whole;
    float t = (left ? z : P) / (left ? R : Q);
    return copysignf(whole - t * (least > t ? least : t), x);
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

/* ---- sigmoid and its relatives -------------------------------------------------------------------------- */
/* From e = exp(-|x|) <= 1. w / (1 + e) is computed as w - w (e / (1 + e)), which rounds less. */
VM_INLINE double vm_sigmoid_f64(double x) {
    double e = vm_exp_f64(-fabs(x)), w = x < 0 ? e : 1;
    return w - w * (e / (1 + e));
}

/* d = f + f exp(-x) for -110 <= x <= 60, where the power of two f keeps d finite until f / d has underflowed */
typedef struct { float f, d; } vm_logistic_f32;
VM_INLINE vm_logistic_f32 vm_logistic_parts_f32(float x) {
    float f = x < -64 ? 0x1p-64f : 1, t = VM_ROUND_F32 - x * (float)VM_LOG2E, n = t - VM_ROUND_F32;
    float r = (-x - n * VM_LN2_HI_F32) - n * VM_LN2_LO_F32, q = r + r * r * vm_exp_tail_f32(r);
    float s = vm_float_f32((vm_bits_f32(t) << 23) + vm_bits_f32(f)); /* 2^n f */
    q += n == 24 ? 0x1p-24f : 0; /* what f + s rounds off */
    return (vm_logistic_f32){f, (f + s) + s * q};
}

VM_INLINE float vm_sigmoid_f32(float x) {
    vm_logistic_f32 v = vm_logistic_parts_f32(x);
    float y = v.f / v.d;
    y = x < -105 ? 0 : y;
    return x > 60 ? 1 : y;
}

VM_INLINE double vm_softplus_f64(double x) {
    double l = vm_log1p_f64(vm_exp_f64(-fabs(x)));
    return x > 0 ? x + l : l;
}

/* log(1 + e) = e + e^2 P(e) on [0, 1], relative: 2^-33 */
VM_INLINE float vm_softplus_f32(float x) {
    float e = vm_exp_minus_f32(fabsf(x)), right = x < 0 ? 0 : x;
    float m = e * e * VM_P10(e, -0x1.fffffep-2f, 0x1.5554fep-2f, -0x1.fff16ep-3f, 0x1.98fb2cp-3f, -0x1.515bfcp-3f,
                             0x1.141a9ep-3f, -0x1.a2c6dep-4f, 0x1.0af3b6p-4f, -0x1.fc4a14p-6f, 0x1.351b4ep-7f,
                             -0x1.603faap-10f);
    float l = e + m, l_lo = m - (l - e);
    return l + (right + l_lo);
}

VM_INLINE double vm_log_sigmoid_f64(double x) { return -vm_softplus_f64(-x); }
VM_INLINE float vm_log_sigmoid_f32(float x) { return -vm_softplus_f32(-x); }

/* x / (1 + exp(-v)) for v of the sign of x; scaled last, because x exp(v) may be a normal number where exp(v) is not */
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
    vm_logistic_f32 v = vm_logistic_parts_f32(x);
    float y = x * v.f / v.d;
    y = x < -110 ? -0.0f : y;
    return x > 60 ? x : y;
}

/* In float32 these two are computed in double, as the formula is written. */
VM_INLINE float vm_mish_f32(float x) {
    double c = vm_clamp_f64(x, -200, 40), e = vm_exp_short(c), w = e * (e + 2);
    return copysignf(x > 30 ? x : (float)(c * w / (w + 2)), x);
}

VM_INLINE float vm_gelu_tanh_f32(float x) {
    double c = vm_clamp_f64(x, -15, 15), v = c * (0x1.9884533d43651p+0 + 0x1.2444f2a4d8b4bp-4 * (c * c));
    return copysignf(x > 15 ? x : (float)(c / (1 + vm_exp_short(-v))), x);
}

/* x tanh(log(1 + e)) = x w / (w + 2) with w = e (e + 2), e = exp(x); below 0 the factor 2^n of e comes last */
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

/* 2 sqrt(2/pi) (x + 0.044715 x^3) in two doubles */
VM_INLINE vm_dd vm_gelu_tanh_argument(double x) {
    vm_dd v = vm_dd_multiply(vm_two_product(x, x), (vm_dd){0x1.2444f2a4d8b4bp-4, -0x1.6c843a29d1c70p-61});
    return vm_dd_multiply((vm_dd){x, 0}, vm_dd_add((vm_dd){0x1.9884533d43651p+0, -0x1.cbc0d30ebfd15p-54}, v));
}

VM_INLINE double vm_gelu_tanh_f64(double x) {
    return vm_gated_f64(x, vm_gelu_tanh_argument(vm_clamp_f64(x, -100, 100)));
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

/* max(x, 0) - p exp(l - a^2 / 2) / 2 where a = |x|. Up to 1.3, p = a and l is a polynomial of a; beyond, p = 5/8 and
 * l is one of b = (2 - a) / (a + 1), which is small near a = 2, and with it the error of l. The rounding error of the
 * square is carried along. */
VM_INLINE float vm_gelu_f32(float x) {
    float a = fabsf(x), biased = VM_ROUND_F32 + (127 + 63);
    int far = a > 1.3f;
    float b = far ? (2 - a) / (a + 1) : a;
    /* 2^-29; far, up to 13.6: 2^-26.7 */
    float l = VM_P8(b, far ? 0x1.2b793ap-4f : 0, far ? -0x1.857b54p-2f : -0x1.988456p-1f,
                    far ? -0x1.d7d74ep-3f : 0x1.741adap-3f, far ? -0x1.12ce06p-6f : -0x1.29c24ep-5f,
                    far ? -0x1.60506ep-7f : 0x1.3beddcp-8f, far ? -0x1.ceeb56p-7f : -0x1.e6e16ep-16f,
                    far ? 0x1.92d688p-10f : -0x1.3d325p-13f, far ? -0x1.4cd2dap-9f : 0x1.aaf2ep-16f,
                    far ? -0x1.96a146p-9f : 0);
    float h = 0.5f * a, s = a * h, t = biased - (s - l) * (float)VM_LOG2E, n = t - biased;
    float r = (-s - n * VM_LN2_HI_F32) + l - (n * VM_LN2_LO_F32 + vm_product_rest_f32(a, h, s));
    float p = (far ? 0.625f : a) * vm_float_f32(vm_bits_f32(t) << 23); /* times 2^(n + 63), which keeps it normal */
    float v = p + p * (r + r * r * vm_exp_tail_f32(r)), right = x < 0 ? -0.0f : x;
    return a > 14.5f ? right : right - v * 0x1p-64f;
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

/* ---- sums of exponentials ------------------------------------------------------------------------------ */
/* c + r y, where c is the larger term */
VM_INLINE vm_dd vm_dd_step(double c, double c_lo, vm_dd r, vm_dd y) {
    vm_dd p = vm_dd_multiply(r, y), s = vm_fast_two_sum(c, p.hi);
    return (vm_dd){s.hi, s.lo + (c_lo + p.lo)};
}

/* exp(x.hi + x.lo) by its series to 2^-100, for -1100 <= x <= 1 */
VM_INLINE vm_dd vm_exp_wide(vm_dd x) {
    double t = x.hi * VM_LOG2E + VM_ROUND_F64, n = t - VM_ROUND_F64, s = vm_scale_f64(1, t);
    vm_dd p = vm_two_product(n, VM_LN2_LO), r = vm_two_sum(x.hi - n * VM_LN2_HI, -p.hi);
    r = vm_fast_two_sum(r.hi, r.lo + ((x.lo - p.lo) - n * 0x1.cc01f97b57a08p-87));
    vm_dd y = {VM_P8(r.hi, 0x1.6124613a86d09p-33, 0x1.93974a8c07c9dp-37, 0x1.ae7f3e733b81fp-41, 0x1.ae7f3e733b81fp-45,
                     0x1.952c77030ad4ap-49, 0x1.6827863b97d97p-53, 0x1.2f49b46814157p-57, 0x1.e542ba4020225p-62,
                     0x1.71b8ef6dcf572p-66), 0};
    y = vm_dd_step(0x1.1eed8eff8d898p-29, -0x1.2aec959e14c06p-83, r, y);
    y = vm_dd_step(0x1.ae64567f544e4p-26, -0x1.c062e06d1f209p-80, r, y);
    y = vm_dd_step(0x1.27e4fb7789f5cp-22, 0x1.cbbc05b4fa99ap-76, r, y);
    y = vm_dd_step(0x1.71de3a556c734p-19, -0x1.c154f8ddc6cp-73, r, y);
    y = vm_dd_step(0x1.a01a01a01a01ap-16, 0x1.a01a01a01a01ap-76, r, y);
    y = vm_dd_step(0x1.a01a01a01a01ap-13, 0x1.a01a01a01a01ap-73, r, y);
    y = vm_dd_step(0x1.6c16c16c16c17p-10, -0x1.f49f49f49f49fp-65, r, y);
    y = vm_dd_step(0x1.1111111111111p-7, 0x1.1111111111111p-63, r, y);
    y = vm_dd_step(0x1.5555555555555p-5, 0x1.5555555555555p-59, r, y);
    y = vm_dd_step(0x1.5555555555555p-3, 0x1.5555555555555p-57, r, y);
    y = vm_dd_step(0x1p-1, 0x0p+0, r, y);
    y = vm_dd_step(1, 0, r, vm_dd_step(1, 0, r, y));
    return (vm_dd){s * y.hi, s * y.lo};
}

/* a - b, but at least -1100, where exp is 0 */
VM_INLINE vm_dd vm_difference_dd(double a, double b) {
    vm_dd d = vm_two_sum(a, -b);
    int far = a - b < -1100;
    return (vm_dd){far ? -1100 : d.hi, far ? 0 : d.lo};
}

/* exp(a) + exp(b) - 1 where that is nearly 0 */
VM_INLINE double vm_sum_of_exps_less_1(vm_dd a, vm_dd b) {
    a = vm_exp_wide(a), b = vm_exp_wide(b);
    vm_dd s = vm_two_sum(a.hi, b.hi);
    return (s.hi - 1) + (s.lo + (a.lo + b.lo));
}

/* y = max + log(1 + exp(-|a - b|)), then, because the sum may cancel, a step of Newton on exp(a - y) + exp(b - y) = 1;
 * the difference of equal infinities is taken as 0. An error of 2^-100 is left, which matters where |y| < 2^-47. */
VM_INLINE double vm_logaddexp_f64(double a, double b) {
    double big = a > b ? a : b, small = a > b ? b : a, y = big + vm_log1p_f64(vm_exp_f64(a == b ? 0 : small - big));
    y += vm_sum_of_exps_less_1(vm_difference_dd(big, y), vm_difference_dd(small, y));
    y = fabs(big) < INFINITY ? y : big;
    return ((a != a) | (b != b)) ? a + b : y;
}

VM_INLINE double vm_logaddexp2_f64(double a, double b) {
    vm_dd ln2 = {VM_LN2, VM_LN2_REST};
    double big = a > b ? a : b, small = a > b ? b : a, d = a == b ? 0 : small - big;
    double y = big + vm_log1p_f64(vm_exp2_f64(d)) * VM_LOG2E;
    y += VM_LOG2E * vm_sum_of_exps_less_1(vm_dd_multiply(vm_difference_dd(big, y), ln2),
                                          vm_dd_multiply(vm_difference_dd(small, y), ln2));
    y = fabs(big) < INFINITY ? y : big;
    return ((a != a) | (b != b)) ? a + b : a == b ? a + 1 : y;
}
