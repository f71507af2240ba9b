/* vecmath_trig.h: sine, cosine and the inverse trigonometric functions; a part of vecmath.h, included by it alone. */

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
    double sine = r + r * z * VM_P3(z, -0x1.5555554caa3e3p-3, 0x1.1111088a5b053p-7, -0x1.a00f93c099fa1p-13,
                                    0x1.6cd5f00480435p-19);
    double cosine = 1 + (-0.5 * z + z * z * VM_P3(z, 0x1.5555554f42b12p-5, -0x1.6c16b88c10ac2p-10,
                                                  0x1.a011179c1d02ap-16, -0x1.24290b82a95c2p-22));
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
    double k = big > 0x1p1000 ? 0x1p-10 : big < 0x1p-900 ? 0x1p110 : 1; /* no overflow, and no bits lost */
    big *= k, small *= k;
    int mid = (small > VM_TAN_PI_8 * big) | (small == INFINITY);
    double z = (mid ? small - big : small) / (mid ? small + big : big);
    z = ((big == 0) | (small == INFINITY)) ? 0 : z;
    double t = z * (z * z) * vm_arctan_tail_f64(z * z);
    /* the angle is base + z + t within the first octant; then mirrored at pi/4, pi/2 and 0 */
    double sign = copysign(1, b) * (u > v ? -1 : 1);
    double quarters = (mid ? sign : 0) + (u > v ? 2 : copysign(1, b) < 0 ? 4 : 0);
    double y = quarters * (VM_PI_HALF / 2) + (sign * z + (sign * t + quarters * (VM_PI_HALF_LO / 2)));
    y = copysign(y, a);
    return ((a != a) | (b != b)) ? a + b : y;
}

/* (arcsin(x) - x) / x^3 of x^2 for |x| <= 1/2, relative to arcsin: 2^-60 */
VM_INLINE double vm_arcsin_tail_f64(double z) {
    return VM_P12(z, 0x1.5555555555578p-3, 0x1.333333332df7p-4, 0x1.6db6db7226f7bp-5, 0x1.f1c71a8d4f78dp-6,
                  0x1.6e8bdfb674833p-6, 0x1.1c49e15d03988p-6, 0x1.ca20f50060151p-7, 0x1.757a07b4b3d2p-7,
                  0x1.617d37ed01f3ap-7, 0x1.e220cb75c8123p-9, 0x1.64c81b1cd9051p-6, -0x1.59a7d2edda7fdp-6,
                  0x1.0bccd72b55266p-5);
}

/* arcsin(a) = s + t with s = a up to 1/2; beyond, it is pi/2 - 2 arcsin(s) with s = sqrt((1 - a) / 2), where lo is
 * the rounding error of s. */
typedef struct { double s, t, lo; } vm_arcsin_parts;
VM_INLINE vm_arcsin_parts vm_arcsin_core_f64(double a) {
    int far = a > 0.5;
    double z = far ? 0.5 * (1 - a) : a * a, root = sqrt(z), s = far ? root : a;
    vm_dd q = vm_two_product(s, s);
    double lo = (far & (s > 0)) ? ((z - q.hi) - q.lo) / (2 * s) : 0;
    return (vm_arcsin_parts){s, s * z * vm_arcsin_tail_f64(z), lo};
}

VM_INLINE double vm_arcsin_f64(double x) {
    double a = fabs(x);
    vm_arcsin_parts v = vm_arcsin_core_f64(a);
    double y = a > 0.5 ? VM_PI_HALF - (2 * v.s + (2 * (v.t + v.lo) - VM_PI_HALF_LO)) : v.s + v.t;
    y = a < 0x1p-27 ? a : y;
    return copysign(a > 1 ? NAN : y, x);
}

VM_INLINE double vm_arccos_f64(double x) {
    double a = fabs(x);
    vm_arcsin_parts v = vm_arcsin_core_f64(a);
    double twice = 2 * (v.t + v.lo), right = 2 * v.s + twice;
    double left = 2 * VM_PI_HALF - (2 * v.s + (twice - 2 * VM_PI_HALF_LO));
    double near = VM_PI_HALF - (x - (VM_PI_HALF_LO - copysign(v.t, x)));
    return a > 1 ? NAN : a > 0.5 ? x > 0 ? right : left : near;
}
