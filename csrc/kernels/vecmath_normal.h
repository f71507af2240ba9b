/* vecmath_normal.h: the normal distribution function, its logarithm and its inverse, with the scaled error function and
 * the inverse error functions; a part of vecmath.h, and included by it alone. */

/* ---- exp(x^2) erfc(x) -------------------------------------------------------------------------------------- */
/* (1 + 2 a) exp(a^2) erfc(a) as a polynomial of t = (a - k) / (a + k), k = 4.25, as in vm_erfc_part, but for all
 * a >= 0: 2^-55. The rounding errors of its last sum, of 1/2 + a and of the quotient are added back. */
VM_INLINE double vm_erfcx_positive(double a) {
    double c = a > 0x1p1000 ? 0x1p1000 : a, t = 2 * c / (c + 4.25) - 1;
    double R = VM_P23(t, -0x1.1b69a46b170d8p-3, 0x1.9cc62dd8084a2p-6, 0x1.c388de44816acp-5,
                      -0x1.7ac1f577fc2e4p-4, 0x1.7c79a3548eeaap-4, -0x1.25f65dc058bb2p-4, 0x1.70b9cd83c4e52p-5,
                      -0x1.78d5f895257dep-6, 0x1.300b8c8177d2cp-7, -0x1.5ebca1077e489p-9, 0x1.70f78244c6d23p-12,
                      0x1.f64a88c38e842p-14, -0x1.505ff576e0a83p-14, 0x1.b5f8c6b6649e8p-17, 0x1.6d70fc6b23194p-18,
                      -0x1.91654005a2c66p-19, -0x1.17b8c3dd0ca3fp-28, 0x1.a344fedb6ede7p-22, -0x1.0d3ff5b62f9dap-24,
                      -0x1.7742340a5c2c2p-25, 0x1.8ba9024bbdf28p-27, 0x1.28e0d6ff64ffcp-28, -0x1.175f6fed21107p-30,
                      -0x1.3b316dab34deap-32);
    vm_dd F = vm_fast_two_sum(0x1.3a9155546e37dp+0, t * R), d = vm_two_sum(0.5, a);
    double y = 0.5 * F.hi / d.hi, lost = 0.5 * F.lo - vm_product_rest_f64(y, d.hi, 0.5 * F.hi) - y * d.lo;
    return a < 0x1p1000 ? y + lost / d.hi : y;
}

/* The derivative, times -(1 + 2 a)^2 sqrt(pi) / 2: 2^-54 */
VM_INLINE double vm_erfcx_slope_positive(double a) {
    a = a > 0x1p1000 ? 0x1p1000 : a;
    double t = 2 * a / (a + 4.25) - 1, d = 1 / (1 + 2 * a);
    double G = VM_P26(t, 0x1.2852bcb4d3e2cp+1, -0x1.4bd2b89ec42f9p-2, -0x1.bc13dd35a31cap-3, 0x1.136cf04fd8252p-1,
                      -0x1.24bd010c9016p-1, 0x1.985745483efbp-2, -0x1.53bfd4538013dp-3, -0x1.2695302a1a762p-7,
                      0x1.5a38598affd8p-4, -0x1.5617cd6d1eb6p-4, 0x1.a2f8e39e132abp-5, -0x1.56b56c8bbb46fp-6,
                      0x1.2b94bf3fee724p-8, 0x1.31c2fd770f919p-11, -0x1.b5b46347d9199p-11, 0x1.c6ff881a999cfp-13,
                      0x1.972840c24ff78p-15, -0x1.744a5d0e3f5a1p-15, 0x1.ce8d60fd3c6c5p-19, 0x1.91656a1cc5a4ep-18,
                      -0x1.a63abd6ba0df6p-20, -0x1.73ec3231d620bp-21, 0x1.5798b71ac2049p-22, 0x1.292790acebfb8p-24,
                      -0x1.9006a0ff6e48dp-25, -0x1.34bd89623072ep-28, 0x1.06bc7f1cb4a46p-28);
    return -VM_TWO_OVER_SQRT_PI * G * d * d;
}

/* c exp(x^2) for |x| <= 28 */
VM_INLINE double vm_exp_of_square(double c, double x) {
    vm_dd s = vm_two_product(x, x);
    vm_unscaled e = vm_exp_unscaled(s.hi, s.lo);
    return vm_scale_f64(c * e.v, e.n);
}

VM_INLINE double vm_erfcx_f64(double x) {
    double y = vm_erfcx_positive(fabs(x)), e = vm_exp_of_square(2, vm_clamp_f64(x, -28, 0));
    y = x < 0 ? e - y : y;
    return x != x ? x : y;
}

#define VM_SLOPE_f64_erfcx ~, vm_erfcx_slope_f64(x)
VM_INLINE double vm_erfcx_slope_f64(double x) {
    double y = vm_erfcx_slope_positive(fabs(x)), c = vm_clamp_f64(x, -28, 0), e = vm_exp_of_square(4 * c, c);
    y = x < 0 ? y + e : y;
    return x != x ? x : y;
}

/* ---- the normal distribution function ------------------------------------------------------------------------ */
/* erfc(-x / sqrt 2) / 2 */
VM_INLINE double vm_ndtr_f64(double x) {
    double c = vm_clamp_f64(fabs(x), 0, 39.5);
    vm_dd a = vm_dd_multiply((vm_dd){c, 0}, (vm_dd){VM_SQRT_HALF, VM_SQRT_HALF_REST});
    vm_dd s = vm_two_product(c, c);
    vm_scaled q = vm_erfc_part(a, (vm_dd){0.5 * s.hi, 0.5 * s.lo});
    double half = vm_scale_f64(0.5 * q.hi, q.n), near = copysign(0.5 * vm_erf_near_f64(a.hi), x);
    double y = c < 0.6 ? 0.5 + near : x < 0 ? half : 1 - half;
    return x != x ? x : y;
}

VM_INLINE float vm_ndtr_f32(float x) {
    double y = 0.5 * vm_erfc_short(VM_SQRT_HALF * vm_clamp_f64(fabs((double)x), 0, 14.8));
    return (float)(x < 0 ? y : 1 - y);
}

#define VM_SLOPE_f32_ndtr ~, vm_ndtr_slope_f32(x)
#define VM_SLOPE_f64_ndtr ~, vm_ndtr_slope_f64(x)
VM_INLINE float vm_ndtr_slope_f32(float x) {
    x = vm_clamp_f32(x, -15, 15);
    return vm_gauss_f32((float)VM_ONE_OVER_SQRT_2PI, x, 0.5f * x) * 0x1p-63f;
}
VM_INLINE double vm_ndtr_slope_f64(double x) {
    x = vm_clamp_f64(x, -39.5, 39.5);
    return vm_gauss_f64(VM_ONE_OVER_SQRT_2PI, x, 0.5 * x);
}

/* ---- its logarithm -------------------------------------------------------------------------------------------- */
/* With W = exp(a^2) erfc(a), a = |x| / sqrt 2: below 0 -x^2 / 2 + log(W / 2), above log1p(-exp(-x^2 / 2) W / 2) */
VM_INLINE double vm_log_ndtr_f64(double x) {
    double W = vm_erfcx_positive(VM_SQRT_HALF * fabs(x)), c = vm_clamp_f64(x, 0, 39.5);
    double u = vm_gauss_f64(0.5 * W, c, 0.5 * c), d = 1 - u;
    int left = x <= 0;
    double l = vm_log_core_f64(left ? 0.5 * W : d, left ? 0 : ((1 - d) - u) / d);
    l = u < 0x1p-54 ? left ? l : -u : l;
    double y = left ? l - 0.5 * x * x : l;
    return x != x ? x : y;
}

/* exp(-x^2 / 2) / sqrt(2 pi) / ndtr(x); below 0 the exponentials cancel */
#define VM_SLOPE_f64_log_ndtr ~, vm_log_ndtr_slope_f64(x)
VM_INLINE double vm_log_ndtr_slope_f64(double x) {
    double W = vm_erfcx_positive(VM_SQRT_HALF * fabs(x)), c = vm_clamp_f64(x, 0, 39.5);
    vm_dd s = vm_two_product(c, 0.5 * c);
    vm_unscaled e = vm_exp_unscaled(-s.hi, -s.lo);
    double right = e.v * (VM_ONE_OVER_SQRT_2PI / (1 - 0.5 * W * vm_scale_f64(e.v, e.n)));
    double y = x < 0 ? 2 * VM_ONE_OVER_SQRT_2PI / W : vm_scale_f64(right, e.n);
    y = x < -0x1p60 ? -x : y;
    return x != x ? x : y;
}

/* ---- the inverses ---------------------------------------------------------------------------------------------- */
/* `scale` times the x with ndtr(x) = p, from q = p - 1/2 and l = -log(min(p, 1 - p)), where scale is 1 or sqrt(1/2). Of
 * |q| <= 0.425 the result is sqrt(2 pi) q plus q^3 times a quotient of polynomials of q^2. Beyond, on two intervals, it
 * is sqrt(2 l) less a quotient of polynomials of sqrt(l). The first terms are carried in two parts. `usual` says that l
 * is below 42, so that sqrt(l) is on the first interval. The intervals are about those of M. J. Wichura, "Algorithm AS
 * 241: the percentage points of the normal distribution" (1988). */
VM_INLINE double vm_ndtri_core(double q, double l, int scaled, int usual) {
    vm_dd root = scaled ? (vm_dd){1, 0} : (vm_dd){2 * VM_SQRT_HALF, 2 * VM_SQRT_HALF_REST};
    vm_dd slope = scaled ? (vm_dd){0x1.c5bf891b4ef6bp+0, -0x1.618f13eb7ca89p-54}
                         : (vm_dd){0x1.40d931ff62706p+1, -0x1.a6a0d6f814637p-53};
    double r = vm_sqrt_f64(l), rest = -vm_product_rest_f64(r, r, l) * (double)(0.5f / (float)r);
    int mid = fabs(q) <= 0.425, near = usual ? 1 : r < 6.5;
    double z = q * q, w = z - 0x1.71eb851eb851fp-3, v = r - (near ? 0x1.9be878fabda0ep+0 : 6.5);
    /* 2^-53 */
    double mid_P = VM_P8(w, 0x1.37fc2a497deaap+2, -0x1.a4a3c990b14c4p+7, 0x1.b8b107be15dfp+11,
                         -0x1.c6e19a487cb3ep+14, 0x1.e5198d9520532p+16, -0x1.00b64078ec2a9p+18,
                         0x1.d7c91104436e1p+17, -0x1.0bed6cbcd951ep+16, 0x1.38885fab18d2ep+9);
    double mid_Q = VM_P8(w, 0x1p+0, -0x1.8959f92d20cbap+5, 0x1.e3f7056477b6fp+9, -0x1.31d8dedcbe0ecp+13,
                         0x1.a85ec8387a93dp+15, -0x1.40f28d7faaa92p+17, 0x1.ef8a0f10b3eccp+17,
                         -0x1.4fe77f90d0674p+17, 0x1.156aefcadce4ap+15);
    double P = VM_P9(v, near ? -0x1.ac5fc0d616a5p-1 : -0x1.613bb0718bdd5p-2,
                     near ? -0x1.9d6e150131d97p+0 : -0x1.2c4d7f2a19304p-3,
                     near ? -0x1.45bb414ff0fc2p+0 : -0x1.843985e79e2e1p-6,
                     near ? -0x1.116fc8533ce7ap-1 : -0x1.e28a4bc5cc2f3p-10,
                     near ? -0x1.08930ad46b58bp-3 : -0x1.2da1f0625fefbp-14,
                     near ? -0x1.233adfdd5442p-6 : -0x1.6b6a05abb376bp-20,
                     near ? -0x1.4e282d07ad91ap-10 : -0x1.6fbc1ff4d91a9p-27,
                     near ? -0x1.5082b37537622p-15 : -0x1.ba27592918599p-36,
                     near ? -0x1.9d32641ed90d9p-22 : -0x1.57103133fbaeap-49,
                     near ? -0x1.7740f96bde8cdp-33 : 0);
    double Q = VM_P9(v, 1,
                     near ? 0x1.23a3a18e0ae5bp+1 : 0x1.109faf6966502p-1,
                     near ? 0x1.159c581f4b6c2p+1 : 0x1.cdd17a6687729p-4,
                     near ? 0x1.20c82c8eecc9ep+0 : 0x1.8deda3fdee4aap-7,
                     near ? 0x1.66cc256c515e9p-2 : 0x1.735d6de0a2e86p-11,
                     near ? 0x1.0e6e9ae0dd7cdp-4 : 0x1.72e4671fa1259p-16,
                     near ? 0x1.da856dde06646p-8 : 0x1.70720c34f94c1p-22,
                     near ? 0x1.b622d8ba750fap-12 : 0x1.3525732923a83p-29,
                     near ? 0x1.610766f93364p-17 : 0x1.275c5b9acbe15p-38,
                     near ? 0x1.4917fc197d79cp-24 : 0);
    double y = (mid ? mid_P : P) / (mid ? mid_Q : Q) * (scaled ? VM_SQRT_HALF : 1);
    vm_dd p = vm_two_product(mid ? slope.hi : root.hi, mid ? q : r);
    y = p.hi + (p.lo + (mid ? slope.lo * q + q * z * y : root.lo * r + root.hi * rest + y));
    return mid ? y : copysign(y, q);
}

VM_INLINE double vm_ndtri_usual(double x) { /* for 2^-60 < x < 1 */
    return vm_ndtri_core(x - 0.5, -vm_log_f64(x < 0.5 ? x : 1 - x), 0, 1);
}

VM_INLINE double vm_ndtri_f64(double x) {
    double p = x < 0.5 ? x : 1 - x, y = vm_ndtri_core(x - 0.5, -vm_log_f64(p), 0, 0);
    y = p == 0 ? x < 0.5 ? -INFINITY : INFINITY : y;
    return p >= 0 ? y : NAN;
}

VM_INLINE double vm_erfinv_f64(double x) {
    double p = 1 - fabs(x), y = vm_ndtri_core(0.5 * x, -vm_log_f64(0.5 * p), 1, 0);
    y = fabs(x) < 0x1p-1000 ? x * (1 / VM_TWO_OVER_SQRT_PI) : p == 0 ? copysign(INFINITY, x) : y;
    return p >= 0 ? y : NAN;
}

VM_INLINE double vm_erfcinv_f64(double x) {
    double p = x < 1 ? x : 2 - x, y = vm_ndtri_core(0.5 * (1 - x), VM_LN2 - vm_log_f64(p), 1, 0);
    y = p == 0 ? x < 1 ? INFINITY : -INFINITY : y;
    return p >= 0 ? y : NAN;
}

/* ---- logarithms of odds -------------------------------------------------------------------------------------- */
/* log(x / (1 - x)): near 1/2 as log(q) = 2 atanh(s) for the quotient q, where s = (q - 1) / (q + 1) = 2 x - 1 */
VM_INLINE double vm_logit_f64(double x) {
    double s = 2 * x - 1, z = s * s, d = 1 - x, q = x / d;
    double lost = -(vm_product_rest_f64(q, d, x) + q * ((1 - d) - x)) / x;
    int near = z < 0.029;
    double far = vm_log_core_f64(near ? 1 : q, ((x > 0x1p-900) & !near & (d > 0)) ? lost : 0);
    double y = near ? 2 * s + s * (z * vm_log_tail_f64(z)) : far;
    return ((x >= 0) & (x <= 1)) ? y : NAN;
}

/* log(1 - exp(-x)), after M. Maechler, "Accurately computing log(1 - exp(-|a|))" (2012) */
VM_INLINE double vm_log1mexp_f64(double x) {
    int near = x < VM_LN2;
    double c = vm_clamp_f64(x, 0, 800);
    vm_expm1_parts_f64 e = vm_expm1_core_f64(near ? -c : -0.5);
    double m = -(e.s * e.q + (e.s - 1)), u = vm_exp_f64(-c), d = 1 - u;
    m = x < 0x1p-54 ? x : m;
    double y = vm_log_core_f64(near ? m : d, near ? 0 : ((1 - d) - u) / d);
    y = u < 0x1p-54 ? -u : y;
    return x != x ? x : x < 0 ? NAN : y;
}
#define VM_SLOPE_f64_log1mexp ~, vm_log1mexp_slope_f64(x)
VM_INLINE double vm_log1mexp_slope_f64(double x) {
    double e = vm_exp_f64(-x);
    return x < 1 ? 1 / vm_expm1_f64(x) : e / (1 - e);
}

/* ---- entropies ------------------------------------------------------------------------------------------------ */
VM_INLINE double vm_entr_f64(double x) {
    double y = -x * vm_log_f64(x);
    return x < 0 ? -INFINITY : x == 0 ? 0 : y;
}

VM_INLINE double vm_xlogy_f64(double a, double b) {
    double y = a * vm_log_f64(b);
    return ((a == 0) & (b == b)) ? 0 : y;
}

VM_INLINE double vm_xlog1py_f64(double a, double b) {
    double y = a * vm_log1p_f64(b);
    return ((a == 0) & (b == b)) ? 0 : y;
}

/* (a - b) / (a + b) for a, b > 0, of which the sum may overflow */
VM_INLINE double vm_relative_difference(double a, double b) {
    double k = ((a > 0x1p1020) | (b > 0x1p1020)) ? 0x1p-4 : 1;
    return (k * a - k * b) / (k * a + k * b);
}

/* log(a / b) for a, b > 0: where the quotient is near 1, as 2 atanh(s) with s = (a - b) / (a + b) */
VM_INLINE double vm_log_quotient(double a, double b) {
    double s = vm_relative_difference(a, b), z = s * s, q = a / b;
    int near = z < 0.029, ordinary = (q > 0x1p-900) & (q < 0x1p900);
    double l = vm_log_f64(near ? 1 : ordinary ? q : a), m = vm_log_f64((near | ordinary) ? 1 : b);
    return near ? 2 * s + s * (z * vm_log_tail_f64(z)) : l - m;
}

/* a log(a / b), 0 where a is 0, inf where a or b is out of range, as SciPy's */
VM_INLINE double vm_rel_entr_f64(double a, double b) {
    double y = a * vm_log_quotient(a, b);
    y = ((a > 0) & (b > 0)) ? y : INFINITY;
    y = ((a == 0) & (b >= 0)) ? 0 : y;
    return ((a != a) | (b != b)) ? NAN : y;
}

/* a log(a / b) - a + b. With s = (a - b) / (a + b), |s| < 1/2, it is (a - b) s (1 + (1 + s) (atanh(s) - s) / s^2). */
VM_INLINE double vm_kl_div_f64(double a, double b) {
    double d = a - b, s = vm_relative_difference(a, b), z = s * s;
    int near = z < 0.25;
    /* (atanh(s) - s) / s^3 of s^2: 2^-54 */
    double tail = VM_P13(z, 0x1.5555555555555p-2, 0x1.9999999999ad1p-3, 0x1.249249247e911p-3, 0x1.c71c71d6cc5d1p-4,
                         0x1.745d1406b992ep-4, 0x1.3b1417e6e07dfp-4, 0x1.1108e26d64a6dp-4, 0x1.e2c342108eb1fp-5,
                         0x1.a6c53053bf30cp-5, 0x1.bdcd3cefa72cep-5, 0x1.92cc88a36f708p-7, 0x1.15aa7698edf42p-3,
                         -0x1.27f230f3831a3p-3, 0x1.b016cba23eee4p-3);
    double y = near ? d * s * (1 + (1 + s) * (s * tail)) : a * vm_log_quotient(a, b) - a + b;
    y = ((a > 0) & (b > 0)) ? y : INFINITY;
    y = ((a == 0) & (b >= 0)) ? b : y;
    return ((a != a) | (b != b)) ? NAN : y;
}

/* log(a / b) + 1, log(a / b) and 1 - a / b; 0 where the value is infinite */
#define VM_SLOPE_f64_rel_entr_da ~, vm_rel_entr_slope_f64(a, b, 1)
#define VM_SLOPE_f64_kl_div_da ~, vm_rel_entr_slope_f64(a, b, 0)
VM_INLINE double vm_rel_entr_slope_f64(double a, double b, double one) {
    double y = a == 0 ? -INFINITY : vm_log_quotient(a, b) + one;
    y = ((a < 0) | (b <= 0)) ? 0 : y;
    return ((a != a) | (b != b)) ? NAN : y;
}
