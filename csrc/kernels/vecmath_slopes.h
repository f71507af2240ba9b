/* vecmath_slopes.h: the derivatives that lose accuracy, or overflow on the way, when they are computed as their texts
 * in ops.def are written; a part of vecmath.h, and included by it alone.
 *
 * VM_SLOPE_<dtype>_<name> is what the backward kernel takes in place of the text of a unary row, and
 * VM_SLOPE_<dtype>_<name>_da or _db of a binary one, in the letters of that text. The tests hold each to its text
 * within 8 ULP (docs/accuracy.md lists the exceptions); at infinity they are the limits, where there are any. Those of
 * most special functions are beside them, in the parts of vecmath.h.
 */

/* exp(x + lo) before the multiplication by its power of two, so that it can be multiplied by another factor while it is
 * a normal number; |x| <= 1300, lo is small. */
VM_INLINE vm_unscaled vm_exp_unscaled(double x, double lo) {
    double t = x * VM_LOG2E + VM_ROUND_F64, n = t - VM_ROUND_F64;
    double r = ((x - n * VM_LN2_HI) - n * VM_LN2_LO) + lo;
    return (vm_unscaled){1 + (r + r * r * vm_exp_tail_f64(r)), t};
}

/* exp(-a) = e f for 0 <= a <= 128, where the power of two f keeps e normal; nan does not stay nan */
typedef struct { float e, f; } vm_unscaled_f32;
VM_INLINE vm_unscaled_f32 vm_exp_minus_unscaled_f32(float a) {
    float f = a > 64 ? 0x1p-64f : 1, t = VM_ROUND_F32 - a * (float)VM_LOG2E, n = t - VM_ROUND_F32;
    float r = (-a - n * VM_LN2_HI_F32) - n * VM_LN2_LO_F32, v = 1 + (r + r * r * vm_exp_tail_f32(r));
    return (vm_unscaled_f32){
        vm_float_f32(vm_bits_f32(v) + (vm_bits_f32(t) << 23) + (0x3f800000 - vm_bits_f32(f))), f};
}

/* c exp(-x h), corrected by the rounding error of the product x h; 0 <= x h <= 1300 */
VM_INLINE double vm_gauss_f64(double c, double x, double h) {
    vm_dd s = vm_two_product(x, h);
    vm_unscaled e = vm_exp_unscaled(-s.hi, -s.lo);
    return vm_scale_f64(c * e.v, e.n);
}

/* 2^63 c exp(-x h); 0 <= x h <= 130 */
VM_INLINE float vm_gauss_f32(float c, float x, float h) {
    float s = x * h, biased = VM_ROUND_F32 + (127 + 63), t = biased - s * (float)VM_LOG2E, n = t - biased;
    float r = (-s - n * VM_LN2_HI_F32) - (n * VM_LN2_LO_F32 + vm_product_rest_f32(x, h, s));
    float p = c * vm_float_f32(vm_bits_f32(t) << 23);
    return p + p * (r + r * r * vm_exp_tail_f32(r));
}

/* ---- error function ----------------------------------------------------------------------------------- */
#define VM_TWO_OVER_SQRT_PI 0x1.20dd750429b6dp+0
#define VM_SLOPE_f32_erf ~, vm_erf_slope_f32(x)
#define VM_SLOPE_f64_erf ~, vm_erf_slope_f64(x)
#define VM_SLOPE_f32_erfc ~, -vm_erf_slope_f32(x)
#define VM_SLOPE_f64_erfc ~, -vm_erf_slope_f64(x)
VM_INLINE float vm_erf_slope_f32(float x) {
    x = vm_clamp_f32(x, -11, 11);
    return vm_gauss_f32((float)VM_TWO_OVER_SQRT_PI, x, x) * 0x1p-63f;
}
VM_INLINE double vm_erf_slope_f64(double x) {
    x = vm_clamp_f64(x, -28, 28);
    return vm_gauss_f64(VM_TWO_OVER_SQRT_PI, x, x);
}

/* ---- the logistic function and what is made of it, from e = exp(-|x|) <= 1 ----------------------------------- */
#define VM_SLOPE_f32_sigmoid ~, vm_sigmoid_slope_f32(x)
#define VM_SLOPE_f64_sigmoid ~, vm_sigmoid_slope_f64(x)
VM_INLINE float vm_sigmoid_slope_f32(float x) {
    float e = vm_exp_f32(-fabsf(x)), d = 1 + e;
    return e / (d * d);
}
VM_INLINE double vm_sigmoid_slope_f64(double x) {
    double e = vm_exp_f64(-fabs(x)), d = 1 + e;
    return e / (d * d);
}

/* With q = 1 / (1 + e), sigmoid(|x|) is q and sigmoid(-|x|) is e q. Below 0 the factor 2^n of e comes last. */
#define VM_SLOPE_f32_silu ~, vm_silu_slope_f32(x)
#define VM_SLOPE_f64_silu ~, vm_silu_slope_f64(x)
VM_INLINE float vm_silu_slope_f32(float x) {
    x = vm_clamp_f32(x, -120, 120);
    vm_unscaled_f32 u = vm_exp_minus_unscaled_f32(fabsf(x));
    float e = u.e * u.f, q = 1 / (1 + e), w = 1 + x * (x < 0 ? q : e * q);
    return w * q * (x < 0 ? u.e : 1) * (x < 0 ? u.f : 1);
}
VM_INLINE double vm_silu_slope_f64(double x) {
    x = vm_clamp_f64(x, -800, 800);
    vm_unscaled u = vm_exp_unscaled(-fabs(x), 0);
    double e = vm_scale_f64(u.v, u.n), q = 1 / (1 + e), w = 1 + x * (x < 0 ? q : e * q);
    return x < 0 ? vm_scale_f64(w * q * u.v, u.n) : w * q;
}

/* With e = exp(x) below 0, w = e (e + 2) and s = w + 2, the derivative is e ((e + 2) s + 4 x (1 + e)) / s^2; above 0,
 * with e = exp(-x) and s = 1 + 2 e + 2 e^2, it is ((1 + 2 e) s + 4 x e^2 (1 + e)) / s^2. */
#define VM_SLOPE_f32_mish ~, vm_mish_slope_f32(x)
#define VM_SLOPE_f64_mish ~, vm_mish_slope_f64(x)
VM_INLINE float vm_mish_slope_f32(float x) {
    x = vm_clamp_f32(x, -120, 120);
    vm_unscaled_f32 u = vm_exp_minus_unscaled_f32(fabsf(x));
    float e = u.e * u.f, s = x < 0 ? e * (e + 2) + 2 : 1 + 2 * e * (1 + e);
    float top = (x < 0 ? e + 2 : 1 + 2 * e) * s + 4 * x * (x < 0 ? 1 + e : e * e * (1 + e));
    return top / (s * s) * (x < 0 ? u.e : 1) * (x < 0 ? u.f : 1);
}
VM_INLINE double vm_mish_slope_f64(double x) {
    x = vm_clamp_f64(x, -800, 800);
    vm_unscaled u = vm_exp_unscaled(-fabs(x), 0);
    double e = vm_scale_f64(u.v, u.n), s = x < 0 ? e * (e + 2) + 2 : 1 + 2 * e * (1 + e);
    double top = (x < 0 ? e + 2 : 1 + 2 * e) * s + 4 * x * (x < 0 ? 1 + e : e * e * (1 + e));
    double y = top / (s * s);
    return x < 0 ? vm_scale_f64(y * u.v, u.n) : y;
}

/* ---- gelu ----------------------------------------------------------------------------------------------- */
#define VM_ONE_OVER_SQRT_2PI 0x1.9884533d43651p-2

/* y / x is the normal distribution function: 1 long before y or x is infinite. In float32, which training leans on,
 * exp(-x^2 / 2) / sqrt(2 pi) is 2^u P(u - n) with n = u rounded and P to 2^-23, smaller by 2^63, by which the power of
 * two is larger, so that it stays normal. The rounding error of the square is carried along. */
#define VM_SLOPE_f32_gelu ~, vm_gelu_slope_f32(x, y)
#define VM_SLOPE_f64_gelu ~, vm_gelu_slope_f64(x, y)
VM_INLINE float vm_gelu_slope_f32(float x, float y) {
    const float u = (float)(-0.5 * VM_LOG2E), u_lo = (float)(-0.5 * VM_LOG2E - (double)(float)(-0.5 * VM_LOG2E));
    float w = x * x, biased = VM_ROUND_F32 + (127 + 63), t = w * u + biased;
    float r = (vm_product_less_f32(w, u, t - biased) + w * u_lo) + u * vm_product_rest_f32(x, x, w);
    float p = VM_P5(r, 0x1.988454p-65f, 0x1.1b298cp-65f, 0x1.88899ep-67f, 0x1.6ac95ep-69f, 0x1.f9f946p-72f,
                    0x1.1816dap-74f);
    float ratio = y / x;
    ratio = w == 0 ? 0.5f : ratio < 1 ? ratio : 1;
    return w > 256 ? ratio : ratio + x * vm_float_f32(vm_bits_f32(t) << 23) * p;
}
VM_INLINE double vm_gelu_slope_f64(double x, double y) {
    double c = vm_clamp_f64(x, -39.5, 39.5), ratio = x * x == 0 ? 0.5 : y / x;
    ratio = x > 39 ? 1 : ratio;
    return ratio + vm_gauss_f64(VM_ONE_OVER_SQRT_2PI * c, c, 0.5 * c);
}

/* sigmoid(v) (1 + x v' sigmoid(-v)) with v = 2 sqrt(2 / pi) (x + 0.044715 x^3) */
#define VM_GELU_TANH_1 0x1.9884533d43651p+0
#define VM_GELU_TANH_3 0x1.2444f2a4d8b4bp-4
#define VM_SLOPE_f32_gelu_tanh ~, vm_gelu_tanh_slope_f32(x)
#define VM_SLOPE_f64_gelu_tanh ~, vm_gelu_tanh_slope_f64(x)
VM_INLINE float vm_gelu_tanh_slope_f32(float x) {
    double c = vm_clamp_f64(x, -15, 15), z = c * c, v = c * (VM_GELU_TANH_1 + VM_GELU_TANH_3 * z);
    double e = vm_exp_short(-fabs(v)), q = 1 / (1 + e);
    double w = 1 + c * (VM_GELU_TANH_1 + 3 * VM_GELU_TANH_3 * z) * (x < 0 ? q : e * q);
    return (float)(w * q * (x < 0 ? e : 1));
}
VM_INLINE double vm_gelu_tanh_slope_f64(double x) {
    double c = vm_clamp_f64(x, -23, 23), z = c * c;
    vm_dd v = vm_gelu_tanh_argument(c);
    vm_unscaled u = vm_exp_unscaled(c < 0 ? v.hi : -v.hi, c < 0 ? v.lo : -v.lo);
    double e = vm_scale_f64(u.v, u.n), q = 1 / (1 + e);
    double w = 1 + c * (VM_GELU_TANH_1 + 3 * VM_GELU_TANH_3 * z) * (c < 0 ? q : e * q);
    return c < 0 ? vm_scale_f64(w * q * u.v, u.n) : w * q;
}

/* ---- powers --------------------------------------------------------------------------------------------- */
/* b |a|^(b - 1) and |a|^b log|a| by the same steps as the power itself. The factor is multiplied before the power of
 * two, because the power may be out of range where the product is not. Beyond an exponent of 1000 so is the product. */
#define VM_SLOPE_f32_power_da ~, vm_power_slope_a_f32(a, b)
#define VM_SLOPE_f64_power_da ~, vm_power_slope_a_f64(a, b)
#define VM_SLOPE_f32_power_db ~, vm_power_slope_b_f32(a, b)
#define VM_SLOPE_f64_power_db ~, vm_power_slope_b_f64(a, b)

/* The signs and exceptions of b a^(b - 1) around the value for |a|; b - 1 is odd where a whole b is even. */
VM_INLINE double vm_power_slope_edges(double a, double b, double y) {
    int whole = vm_whole(b) == b, even = whole & (vm_whole(0.5 * b) == 0.5 * b);
    y = a == 0 ? (b > 1 ? 0 : copysign(INFINITY, b)) : y;
    y = (even & (copysign(1, a) < 0)) ? -y : y;
    y = ((a < 0) & (a > -INFINITY) & !whole) ? NAN : y;
    y = ((a == 1) | (b == 1)) ? b : y;
    y = ((a != a) | (b != b)) ? a + b : y;
    return b == 0 ? 0 : y;
}

VM_INLINE double vm_scaled_product(double v, double factor, double n_rounded) {
    double half = (0.5 * (n_rounded - VM_ROUND_F64) + VM_ROUND_F64) - VM_ROUND_F64;
    return vm_scale_f64(vm_scale_f64(v, half + VM_ROUND_F64) * factor, n_rounded - half);
}

VM_INLINE double vm_power_slope_a_f64(double a, double b) {
    double m = fabs(a);
    vm_dd l = vm_log_dd(m), d = vm_two_sum(b, -1), p = vm_two_product(d.hi, l.hi);
    p.lo += d.hi * l.lo + d.lo * l.hi;
    double far = d.hi * vm_log_edges_f64(m, l.hi);
    int ok = fabs(far) < 1000;
    vm_unscaled e = vm_exp_unscaled(ok ? p.hi : 0, ok ? p.lo : 0);
    double y = ok ? vm_scaled_product(e.v, b, e.n) : far > 0 ? copysign(INFINITY, b) : copysign(0, b);
    return vm_power_slope_edges(a, b, y);
}

VM_INLINE double vm_power_slope_b_f64(double a, double b) {
    vm_dd l = vm_log_dd(a), p = vm_two_product(b, l.hi);
    p.lo += b * l.lo;
    double log_a = vm_log_edges_f64(a, l.hi), far = b * log_a;
    int ok = fabs(far) < 1000;
    vm_unscaled e = vm_exp_unscaled(ok ? p.hi : 0, ok ? p.lo : 0);
    double y = ok ? vm_scaled_product(e.v, log_a, e.n) : far > 0 ? copysign(INFINITY, log_a) : copysign(0, log_a);
    y = ((a != a) | (b != b)) ? a + b : a < 0 ? NAN : y;
    y = b == 0 ? log_a : y;
    return ((a == 0) | (a == 1)) ? 0 : y;
}

/* For float32, double has the range for the powers and the bits for b - 1. */
VM_INLINE float vm_power_slope_a_f32(float a, float b) {
    double p = vm_exp_f64(((double)b - 1) * vm_log_f64(fabs((double)a)));
    return (float)vm_power_slope_edges(a, b, p == 0 ? copysign(0, b) : b * p);
}

VM_INLINE float vm_power_slope_b_f32(float a, float b) {
    double l = vm_log_f64(a), p = vm_exp_f64(b * l), y = p == 0 ? copysign(0, l) : p * l;
    y = ((a != a) | (b != b)) ? a + b : a < 0 ? NAN : y;
    y = b == 0 ? l : y;
    return (float)(((a == 0) | (a == 1)) ? 0 : y);
}

/* ---- distances and angles --------------------------------------------------------------------------------- */
/* b / (a^2 + b^2), 0 where the denominator is infinite */
#define VM_SLOPE_f32_arctan2_da ~, vm_arctan2_slope_f32(b, a)
#define VM_SLOPE_f64_arctan2_da ~, vm_arctan2_slope_f64(b, a)
#define VM_SLOPE_f32_arctan2_db ~, -vm_arctan2_slope_f32(a, b)
#define VM_SLOPE_f64_arctan2_db ~, -vm_arctan2_slope_f64(a, b)
VM_INLINE float vm_arctan2_slope_f32(float top, float other) {
    double s = (double)top * top + (double)other * other;
    return (float)(s == INFINITY ? copysign(0, top) : top / s);
}
VM_INLINE double vm_arctan2_slope_f64(double top, double other) {
    double h = vm_hypot_f64(top, other);
    return h == INFINITY ? copysign(0, top) : top / h / h;
}

/* ---- logarithms of sums ------------------------------------------------------------------------------------ */
/* The logistic function of a - b, corrected by the rounding error of the difference; one half for equal infinities. */
#define VM_SLOPE_f32_logaddexp_da ~, vm_logaddexp_slope_f32(a, b, 1)
#define VM_SLOPE_f32_logaddexp_db ~, vm_logaddexp_slope_f32(b, a, 1)
#define VM_SLOPE_f32_logaddexp2_da ~, vm_logaddexp_slope_f32(a, b, VM_LN2)
#define VM_SLOPE_f32_logaddexp2_db ~, vm_logaddexp_slope_f32(b, a, VM_LN2)
#define VM_SLOPE_f64_logaddexp_da ~, vm_logaddexp_slope_f64(a, b)
#define VM_SLOPE_f64_logaddexp_db ~, vm_logaddexp_slope_f64(b, a)
#define VM_SLOPE_f64_logaddexp2_da ~, vm_logaddexp2_slope_f64(a, b)
#define VM_SLOPE_f64_logaddexp2_db ~, vm_logaddexp2_slope_f64(b, a)
VM_INLINE float vm_logaddexp_slope_f32(float a, float b, double unit) {
    double d = a == b ? 0 : ((double)a - b) * unit, e = vm_exp_short(-vm_clamp_f64(fabs(d), 0, 120));
    return (float)(d != d ? d : (d < 0 ? e : 1) / (1 + e));
}

VM_INLINE vm_dd vm_minus_distance(double a, double b, double far) {
    vm_dd d = vm_two_sum(a, -b);
    int left = d.hi < 0, near = fabs(d.hi) < far;
    d.hi = a == b ? 0 : left ? d.hi : -d.hi;
    return (vm_dd){d.hi < -far ? -far : d.hi, near ? left ? d.lo : -d.lo : 0};
}

VM_INLINE double vm_logistic(int left, vm_unscaled u) {
    double q = 1 / (1 + vm_scale_f64(u.v, u.n));
    return left ? vm_scale_f64(u.v * q, u.n) : q;
}

VM_INLINE double vm_logaddexp_slope_f64(double a, double b) {
    vm_dd d = vm_minus_distance(a, b, 800);
    return vm_logistic(a < b, vm_exp_unscaled(d.hi, d.lo));
}

VM_INLINE double vm_logaddexp2_slope_f64(double a, double b) {
    vm_dd d = vm_minus_distance(a, b, 1100);
    return vm_logistic(a < b, vm_exp2_unscaled(d.hi, d.lo));
}

/* ---- celu --------------------------------------------------------------------------------------------------- */
#define VM_SLOPE_f32_celu_da ~, vm_celu_slope_a_f32(a, b)
#define VM_SLOPE_f64_celu_da ~, vm_celu_slope_a_f64(a, b)
#define VM_SLOPE_f32_celu_db ~, (float)vm_celu_slope_b_f64(a, b)
#define VM_SLOPE_f64_celu_db ~, vm_celu_slope_b_f64(a, b)
VM_INLINE float vm_celu_slope_a_f32(float a, float b) {
    double u = (double)a / b, y = vm_exp_f64(u);
    return a > 0 ? 1 : (float)y;
}

/* exp(u) with u = a / b, corrected by the rounding error of the quotient */
VM_INLINE double vm_celu_slope_a_f64(double a, double b) {
    double k = fabs(b) < 0x1p-900 ? 0x1p110 : 1; /* so that the remainder does not underflow */
    double c = a * k, d = b * k, u = c / d, lo = -vm_product_rest_f64(u, d, c) / d;
    vm_unscaled e = vm_exp_unscaled(vm_clamp_f64(u, -800, 800), ((fabs(u) < 800) & (fabs(u) > 0x1p-10)) ? lo : 0);
    return a > 0 ? 1 : vm_scale_f64(e.v, e.n);
}

/* expm1(u) - u exp(u) with u = a / b, which is -u^2 (1/2 + u/3 + ...) near 0 */
VM_INLINE double vm_celu_slope_b_f64(double a, double b) {
    double u = vm_clamp_f64(a / b, -800, 800), t = u + 0.5, e = vm_exp_f64(u);
    /* -(expm1(u) - u exp(u)) / u^2 of u + 1/2 for -2 <= u <= 1: 2^-53 */
    double p = VM_P16(t, 0x1.7179c2ac4f788p-2, 0x1.d774972ab0bf0p-3, 0x1.58620cc859754p-4, 0x1.68f3e00eab8cbp-6,
                      0x1.290f6d9da4911p-8, 0x1.939c80b10810ep-11, 0x1.d37be477bdd61p-14, 0x1.d82b9134456a7p-17,
                      0x1.a6f49982d637bp-20, 0x1.54721d237a6bfp-23, 0x1.f1abd71766e23p-27, 0x1.4d289d86032bdp-30,
                      0x1.9b78ea48e20f0p-34, 0x1.d76790d4f1705p-38, 0x1.f82e713ec1a92p-42, 0x1.04ced30b1bdf0p-45,
                      0x1.ea4732fd08c46p-50);
    double y = ((u > -2) & (u < 1)) ? -u * (u * p) : (1 - u) * e - 1;
    return a > 0 ? 0 : y;
}
