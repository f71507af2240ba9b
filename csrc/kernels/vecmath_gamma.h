/* vecmath_gamma.h: the logarithm of the gamma function, its derivatives, and that of the beta function; a part of
 * vecmath.h, and included by it alone.
 *
 * All follow one plan. From 8 on, Stirling's series (NIST Digital Library of Mathematical Functions, DLMF, 5.11). Below
 * 8, the recurrence leads to an interval that holds the zeros, where a quotient of polynomials has them as factors. For
 * a negative x, the reflection formula (DLMF 5.5). The polynomials are interpolated at Chebyshev points in high
 * precision.
 */
#define VM_PI 0x1.921fb54442d18p+1 /* and what it leaves */
#define VM_PI_LO 0x1.1a62633145c07p-53

/* sin(pi r) / r and (1 - cos(pi r)) / r^2 as polynomials of z = r^2, |r| <= 1/2: relative 2^-54 */
VM_INLINE double vm_sinpi_tail(double z) {
    double p = VM_P7(z, -0x1.4abbce625be52p+2, 0x1.466bc6775aa7dp+1, -0x1.32d2cce627c86p-1, 0x1.5078348551854p-4,
                     -0x1.e3074dfaf87afp-8, 0x1.e8f3675ee37ddp-12, -0x1.6f7acdb8f658p-16, 0x1.9d462020fcc78p-21);
    return VM_PI + (z * p + VM_PI_LO);
}
VM_INLINE double vm_cospi_tail(double z) {
    return VM_P7(z, 0x1.3bd3cc9be45dep+2, -0x1.03c1f081b5a9fp+2, 0x1.55d3c7e3c9051p+0, -0x1.e1f5068620bcbp-3,
                 0x1.a6d1f12b0bef2p-6, -0x1.f9d2c1f3b2167p-10, 0x1.b6a6feabe52e9p-14, -0x1.179a329ef414p-18);
}

/* ---- log |gamma(x)| ------------------------------------------------------------------------------------- */
/* For 0.75 <= x <= 2.5: log gamma(x) = (x - 1) (x - 2) P / Q, 2^-54 */
VM_INLINE vm_dd vm_gammaln_near(double x) { /* P and Q */
    double v = x - 0.5;
    double P = VM_P8(v, 0x1.86bc0612ec3bbp-1, 0x1.026597ff5462bp+2, 0x1.03a575db8404bp+3, 0x1.f49958155f18p+2,
                     0x1.e397695b794f5p+1, 0x1.c078810fab266p-1, 0x1.5d5a5c02746c1p-4, 0x1.4a3ff2c68a5ccp-9,
                     0x1.47043f6ac604cp-18);
    double Q = VM_P8(v, 0x1p+0, 0x1.837a4bccb2381p+2, 0x1.ca1df94ed662dp+3, 0x1.0dd1b03c4ed22p+4,
                     0x1.50442a754a22fp+3, 0x1.b587979d221c9p+1, 0x1.14296c07cf9adp-1, 0x1.1f86a904dc1dap-5,
                     0x1.4dad013ab8084p-11);
    return (vm_dd){P, Q};
}

/* S in log gamma(x) = (x - 1/2) log x - x + log(2 pi) / 2 + S, for x = 1 / r >= 8: absolute 2^-60 */
VM_INLINE double vm_stirling_of(double r) {
    double w = r * r;
    return r * VM_P6(w, 0x1.5555555555555p-4, -0x1.6c16c16c149f4p-9, 0x1.a01a017dcf9e1p-11, -0x1.38134d4f88969p-11,
                     0x1.b92c33f944339p-11, -0x1.ef8d748ae6ca6p-10, 0x1.4bffc9d89f5aap-8);
}

VM_INLINE double vm_stirling(double x) { return vm_stirling_of(1 / x); }

/* Step j of the recurrence gamma(z) = (z - 1) (z - 2) ... gamma(z - steps), which ends where z - steps is below 2.5.
 * All steps compare the z at the beginning, and that is a sum, not a choice of values: else compilers conclude which
 * steps follow from a choice, and compute each case by itself. */
#define VM_GAMMA_STEP(j) p *= z >= 1.5 + j ? z - j : 1, steps += z >= 1.5 + j ? 1 : 0;

/* For x > 0. The factors of the recurrence are exact; their product's logarithm and what is left are of one sign or do
 * not cancel. One division serves both intervals. */
VM_INLINE double vm_gammaln_positive(double x) {
    int far = x >= 8, small = x < 0.75;
    double z = x + small, steps = 0, p = 1;
    VM_GAMMA_STEP(1) VM_GAMMA_STEP(2) VM_GAMMA_STEP(3) VM_GAMMA_STEP(4) VM_GAMMA_STEP(5) VM_GAMMA_STEP(6)
    z -= steps;
    vm_dd near = vm_gammaln_near(z);
    double r = (far ? 1 : near.hi) / (far ? x : near.lo);
    vm_dd l = vm_log_dd((far | small) ? x : p), m = vm_fast_two_sum(far ? l.hi : 2, -1);
    vm_dd y = vm_two_product(x - 0.5, m.hi);
    double rest = y.lo + (x - 0.5) * (m.lo + l.lo) + (0x1.acfe390c97d69p-2 + vm_stirling_of(far ? r : 0.125));
    y.hi = far ? y.hi : small ? -l.hi : l.hi;
    double sum = y.hi + (far ? rest : (small ? -l.lo : l.lo) + (z - 1) * (z - 2) * r);
    sum = y.hi < INFINITY ? sum : INFINITY;
    return x == 0 ? INFINITY : sum;
}

VM_INLINE double vm_gammaln_usual(double x) { return vm_gammaln_positive(x); } /* for x > 2^-60 */

VM_INLINE double vm_gammaln_f64(double x) {
    double m = fabs(x), r = m - vm_whole(m), s = fabs(r) * vm_sinpi_tail(r * r);
    int left = x < -0x1p-60;
    double y = vm_gammaln_positive(left ? 1 + m : m);
    y = left ? (s == 0 ? INFINITY : vm_log_core_f64(VM_PI / s, 0) - y) : y;
    y = m == INFINITY ? INFINITY : y;
    return x != x ? x : y;
}

/* ---- what Stirling's x log x - x lacks of log gamma(1 + x) ------------------------------------------------ */
/* Step j of the recurrence gamma(1 + x) = x (x - 1) ... gamma(1 + x - steps), which ends below 2.5. The factors are
 * exact; see VM_GAMMA_STEP. */
#define VM_FACTORIAL_STEP(j) p *= x >= 0.5 + j ? x - (j - 1) : 1, steps += x >= 0.5 + j ? 1 : 0;

/* From 8 on, log(2 pi x) / 2 and Stirling's series. Below, the difference of the logarithms of the product and of x^x
 * is taken in two doubles, as most of both cancels. */
VM_INLINE double vm_stirling_error_f64(double x) {
    int far = x >= 8;
    double steps = 0, p = 1;
    VM_FACTORIAL_STEP(1) VM_FACTORIAL_STEP(2) VM_FACTORIAL_STEP(3) VM_FACTORIAL_STEP(4)
    VM_FACTORIAL_STEP(5) VM_FACTORIAL_STEP(6) VM_FACTORIAL_STEP(7)
    double u = far ? 1 : x - steps; /* what is left of x */
    vm_dd near = vm_gammaln_near(1 + u), l = vm_log_dd(x), m = vm_log_dd(far ? 1 : p), t = vm_two_product(x, l.hi);
    double r = (far ? 1 : near.hi) / (far ? x : near.lo);
    vm_dd first = vm_two_sum(m.hi, -t.hi), second = vm_two_sum(first.hi, x);
    double low = second.hi + (second.lo + first.lo + (m.lo - (t.lo + x * l.lo)) + u * (u - 1) * r);
    double high = 0.5 * l.hi + (0x1.d67f1c864beb5p-1 + (0.5 * l.lo + vm_stirling_of(far ? r : 0.125)));
    double y = far ? high : low;
    y = x == 0 ? 0 : y;
    y = x == INFINITY ? x : y;
    return x < 0 ? NAN : x != x ? x : y;
}

/* ---- gamma(x) and its reciprocal ----------------------------------------------------------------------------- */
/* A step gamma(z) = (z - 1) gamma(z - 1) in two doubles: lo gets the rounding errors of the products */
#define VM_GAMMA_STEP_DD(z, hi, lo)                                                                            \
    f = z >= 2.5 ? z - 1 : 1, y = hi * f, lo = lo * f + vm_product_rest_f64(hi, f, y), hi = y, z -= z >= 2.5 ? 1 : 0;

/* gamma(x) = v 2^n for -0.5 < x <= 200, n as in vm_unscaled. Below 8 by the recurrence from 1.5 <= z < 2.5, above the
 * exponential of Stirling's series in two doubles. */
VM_INLINE vm_unscaled vm_gamma_positive(double x) {
    int far = x >= 8;
    double bottom = x < 0.5 ? x + x * x : x < 1.5 ? x : 1;
    double z = x < 0.5 ? x + 2 : x < 1.5 ? x + 1 : far ? 2 : x, hi = 1, lo = 0, f, y;
    VM_GAMMA_STEP_DD(z, hi, lo) VM_GAMMA_STEP_DD(z, hi, lo) VM_GAMMA_STEP_DD(z, hi, lo)
    VM_GAMMA_STEP_DD(z, hi, lo) VM_GAMMA_STEP_DD(z, hi, lo) VM_GAMMA_STEP_DD(z, hi, lo)
    double v = z - 1.5, c = far ? x : 8;
    /* gamma(1.5 + v) = gamma(1.5) + v P / Q for 0 <= v <= 1: 2^-56 */
    double P = VM_P7(v, 0x1.08ea88ee561b3p-5, 0x1.bbe2cc90f3f17p-2, 0x1.0313217556c4bp-3, 0x1.12ca6cf6bb086p-7,
                     0x1.7efe48be52d55p-8, 0x1.de47f59cef444p-11, 0x1.834aad367b7fdp-14, 0x1.f9275abac2342p-17);
    double Q = VM_P5(v, 0x1p+0, 0x1.2793a66a24beep-1, -0x1.676609ae0526cp-3, -0x1.81fb3a758587dp-5,
                     0x1.2584cc59e9be7p-6, -0x1.806796625dfc5p-10);
    double near = 0x1.c5bf891b4ef6bp-1 + (v * (P / Q) - 0x1.618f13eb7ca89p-55);
    vm_dd l = vm_dd_multiply((vm_dd){c - 0.5, 0}, vm_log_dd(c)), t = vm_two_sum(l.hi, -c);
    t.lo += l.lo;
    t = vm_dd_add(t, (vm_dd){0x1.d67f1c864beb5p-1, -0x1.65b5a1b7ff5dfp-55 + vm_stirling(c)});
    vm_scaled e = vm_exp_dd(t);
    return (vm_unscaled){far ? e.hi : (hi * near + lo * near) / bottom, far ? e.n : VM_ROUND_F64};
}

/* With m = -x > 0, gamma(x) = -pi / (m sin(pi m) gamma(m)). This is -m sin(pi m) g. The sign of sin(pi m) is that
 * of r, changed if the whole number next to m is odd. */
VM_INLINE vm_dd vm_minus_m_sinpi(double m, double g) {
    double w = vm_whole(m), r = m - w, half = 0.5 * w, h = 0.5 - fabs(r), t = vm_whole(half) == half ? -r : r;
    double cosine = 1 - h * h * vm_cospi_tail(h * h); /* of pi h, more accurate than the sine for large r */
    vm_dd a = vm_two_product(t, vm_sinpi_tail(r * r));
    double sine = h < 0.25 ? copysign(1, t) * cosine : a.hi, rest = h < 0.25 ? 0 : a.lo;
    vm_dd b = vm_two_product(m, sine), y = vm_two_product(b.hi, g);
    return (vm_dd){y.hi, y.lo + (b.lo + m * rest) * g};
}

/* Beyond 200, where both results are 0 or infinite, any number near an integer of the same parity will do. */
VM_INLINE double vm_gamma_period(double m) { return m > 200 ? m - 2 * vm_whole(0.5 * m) + 2 : m; }

VM_INLINE double vm_gamma_f64(double x) {
    double m = fabs(x);
    vm_unscaled g = vm_gamma_positive(m < 200 ? x > -0.5 ? x : m : 200);
    vm_dd s = vm_minus_m_sinpi(vm_gamma_period(m), g.v);
    double q = VM_PI / s.hi, left = q + q * (VM_PI_LO / VM_PI - s.lo * q * (1 / VM_PI));
    double y = x > -0.5 ? vm_scale_f64(g.v, g.n) : vm_scale_f64(left, 2 * VM_ROUND_F64 - g.n);
    y = ((x < 0) & (s.hi == 0)) ? NAN : y;
    y = fabs(x) < 0x1p-60 ? 1 / x : y;
    y = x == -INFINITY ? NAN : y;
    return x != x ? x : y;
}

VM_INLINE double vm_rgamma_f64(double x) {
    double m = fabs(x);
    vm_unscaled g = vm_gamma_positive(m < 200 ? x > -0.5 ? x : m : 200);
    vm_dd s = vm_minus_m_sinpi(vm_gamma_period(m), g.v);
    double left = s.hi * 0x1.45f306dc9c883p-2 + (s.lo * 0x1.45f306dc9c883p-2 - s.hi * 0x1.6b01ec5417056p-56);
    double y = x > -0.5 ? vm_scale_f64(1 / g.v, 2 * VM_ROUND_F64 - g.n) : vm_scale_f64(left, g.n);
    y = ((x < 0) & (s.hi == 0)) ? 0 : y;
    y = fabs(x) < 0x1p-60 ? x : y;
    y = x == -INFINITY ? 0 : y;
    return x != x ? x : y;
}

/* ---- the first and second derivative of log |gamma(x)| --------------------------------------------------- */
/* For 0.5 <= x <= 3: (x - x0) P / Q with the zero x0 in two parts, 2^-54 */
VM_INLINE double vm_digamma_near(double x) {
    double v = x - 0.5;
    double P = VM_P8(v, 0x1.055b63b9ebebbp+1, 0x1.1b0195c376dafp+2, 0x1.b031d5d42aee1p+1, 0x1.2d35cd5797b0fp+0,
                     0x1.9256010e750f5p-3, 0x1.e0ad8bf4af82p-7, 0x1.8e679da73942cp-12, 0x1.c6a0532f22579p-21,
                     -0x1.197642693f6cdp-28);
    double Q = VM_P7(v, 0x1p+0, 0x1.d1cb8d25c9b0fp+1, 0x1.10c47f6adc3a3p+2, 0x1.1ef156ef1a63ap+1,
                     0x1.2b16995f84c7p-1, 0x1.33506c3259de1p-4, 0x1.184d12a32fb78p-8, 0x1.4a4d4b205c3c8p-14);
    return ((x - 0x1.762d86356be3fp+0) - 0x1.b86a722197829p-54) * (P / Q);
}

/* (log x - 1 / (2 x) - digamma(x)) x^2 as a polynomial of w = 1 / x^2 for x >= 8: 2^-54 */
VM_INLINE double vm_digamma_tail(double w) {
    return VM_P7(w, 0x1.5555555555555p-4, -0x1.1111111110d4fp-7, 0x1.0410410195bbfp-8, -0x1.11110c0ff8838p-8,
                 0x1.f077209c32635p-8, -0x1.58e68c895a207p-6, 0x1.47c69710d73ep-4, -0x1.329c90799cd87p-2);
}

/* Below 8 the sum of 1 / z over the steps of the recurrence is kept as a quotient. */
VM_INLINE double vm_digamma_positive(double x) {
    int far = x >= 8, small = x < 0.5;
    double z = small ? x + 1 : far ? 2 : x, top = small ? -1 : 0, bottom = small ? x : 1;
    for (int k = 0; k < 5; k++) {
        int above = z >= 3;
        z -= above ? 1 : 0;
        top = above ? top * z + bottom : top;
        bottom *= above ? z : 1;
    }
    double r = 1 / (far ? x : 8), w = r * r, l = vm_log_f64(far ? x : 8);
    return far ? l - (0.5 * r + w * vm_digamma_tail(w)) : vm_digamma_near(z) + top / bottom;
}

VM_INLINE double vm_digamma_f64(double x) {
    double m = fabs(x), r = m - vm_whole(m), z = r * r;
    double y = vm_digamma_positive(x < 0 ? 1 + m : x);
    double cot = VM_PI * (1 - z * vm_cospi_tail(z)) / (r * vm_sinpi_tail(z));
    y = x < 0 ? r == 0 ? NAN : y + cot : y;
    return x != x ? x : y;
}

/* digamma(1 + x) - log x */
#define VM_SLOPE_f64_stirling_error ~, vm_stirling_error_slope_f64(x)
VM_INLINE double vm_stirling_error_slope_f64(double x) {
    int far = x >= 8;
    double r = 1 / (far ? x : 8), low = vm_digamma_positive(1 + (far ? 1 : x)) - vm_log_f64(x);
    double y = far ? r * (0.5 - r * vm_digamma_tail(r * r)) : low;
    return x < 0 ? NAN : x != x ? x : y;
}

/* -digamma(x) / gamma(x); at 0 and the negative integers the limit, which has the size of gamma(1 - x) */
#define VM_SLOPE_f64_rgamma ~, vm_rgamma_slope_f64(x)
VM_INLINE double vm_rgamma_slope_f64(double x) {
    double w = vm_whole(x), half = 0.5 * w, y = -vm_rgamma_f64(x) * vm_digamma_f64(x), at = vm_gamma_f64(1 - x);
    y = ((x < 0) & (w == x)) ? vm_whole(half) == half ? at : -at : y;
    y = fabs(x) < 0x1p-60 ? 1 : y;
    return x == INFINITY ? 0 : x == -INFINITY ? NAN : y;
}

/* The sum of 1 / (x + k)^2 for 1 <= k <= 7 is kept as a quotient. */
VM_INLINE double vm_trigamma_positive(double x) {
    int far = x >= 8;
    double top = 0, bottom = 1, c = far ? 8 : x;
    for (int k = 1; k < 8; k++) {
        double z = (c + k) * (c + k);
        top = top * z + bottom;
        bottom *= z;
    }
    double r = 1 / (far ? x : x + 8), w = r * r, q = 1 / c;
    /* 2^-54 */
    double tail = VM_P7(w, 0x1.5555555555555p-3, -0x1.11111111100fbp-5, 0x1.8618617b7b459p-6, -0x1.1111065760bfep-5,
                        0x1.36483713ee31ap-4, -0x1.0273c0ace96cdp-2, 0x1.1bff07a3ad3f4p+0, -0x1.24d1c876c645p+2);
    double y = r + w * (0.5 + r * tail);
    return far ? y : q * q + (top / bottom + y);
}

/* VM_PI / sin(pi r), |r| <= 1/2; for large r by the cosine of the complement, which is more accurate there. It is too
 * small by the part VM_PI_LO / VM_PI. */
VM_INLINE double vm_cscpi(double r) {
    double h = 0.5 - fabs(r);
    return VM_PI / (h < 0.25 ? copysign(1 - h * h * vm_cospi_tail(h * h), r) : r * vm_sinpi_tail(r * r));
}

VM_INLINE double vm_trigamma_f64(double x) {
    double m = fabs(x), r = m - vm_whole(m), q = vm_cscpi(r);
    double y = vm_trigamma_positive(x < 0 ? 1 + m : x);
    y = x < 0 ? q * q - (y - q * q * (2 * VM_PI_LO / VM_PI)) : y;
    return x == -INFINITY ? INFINITY : y;
}

/* polygamma(2, x), the derivative of trigamma */
VM_INLINE double vm_tetragamma_positive(double x) {
    int far = x >= 8;
    double top = 0, bottom = 1, c = far ? 8 : x;
    for (int k = 1; k < 8; k++) {
        double z = (c + k) * (c + k) * (c + k);
        top = top * z + bottom;
        bottom *= z;
    }
    double r = 1 / (far ? x : x + 8), w = r * r, q = 1 / c;
    /* 2^-56 */
    double tail = VM_P8(w, 0x1p-1, -0x1.555555555523p-3, 0x1.5555555403e19p-3, -0x1.3333317d8e3f5p-2,
                        0x1.aaa98c743764fp-1, -0x1.a4f939b4426f7p+1, 0x1.150ea0c1c42cp+4, -0x1.afeea20cb4a65p+6,
                        0x1.0e4fac0edb01fp+9);
    double y = w * (1 + r + w * tail);
    return -(far ? y : 2 * (q * q * q + top / bottom) + y);
}

VM_INLINE double vm_tetragamma_f64(double x) {
    double m = fabs(x), r = m - vm_whole(m), z = r * r, q = vm_cscpi(r), h = 0.5 - fabs(r);
    double cosine = h < 0.25 ? h * vm_sinpi_tail(h * h) : 1 - z * vm_cospi_tail(z);
    double y = vm_tetragamma_positive(x < 0 ? 1 + m : x);
    double c = 2 * q * q * q * cosine;
    y = x < 0 ? r == 0 ? -INFINITY : c + (y + c * (3 * VM_PI_LO / VM_PI)) : y;
    return x != x ? x : y;
}
#define VM_SLOPE_f64_trigamma ~, vm_tetragamma_f64(x)

/* ---- the derivatives of higher order -------------------------------------------------------------------------- */
/* n! zeta(n + 1, x) for x > 0, zeta being Hurwitz's: the sum of n! / (x + k)^(n + 1) over all k >= 0, by Euler's and
 * Maclaurin's formula (DLMF 25.11.5) once x + k >= n + 9. Powers of quotients, and the factors of n! taken one by one
 * with a factor of x each, stay in range where the result does. */
static inline double vm_hurwitz(int64_t n, double x) {
    /* Bernoulli's numbers B(2 j) / (2 j)! for j = 1, 2 ... */
    static const double bernoulli[] = {0x1.5555555555555p-4, -0x1.6c16c16c16c17p-10, 0x1.1566abc011567p-15,
        -0x1.bbd779334ef0bp-21, 0x1.66a8f2bf70ebep-26, -0x1.22805d644267fp-31, 0x1.d6db2c4e09162p-37,
        -0x1.7da4e1f79955cp-42, 0x1.355871d652e9ep-47, -0x1.f57d968caacf1p-53, 0x1.967e1f09c376fp-58,
        -0x1.497d9033a2b5cp-63};
    double s = (double)n + 1, sum = 0, z = x, scale = 1 / x, power = 1;
    for (; z < s + 8; z += 1) {
        sum += power;
        power = pow(x / (z + 1), s);
    }
    double step = s / z, term = 0.5, tail = z / (s - 1);
    tail += term;
    for (int j = 0; j < 12; j++) {
        tail += bernoulli[j] * step;
        step *= (s + 2 * j + 1) / z * ((s + 2 * j + 2) / z);
    }
    for (int64_t j = 1; j <= n; j++) scale *= (double)j / x;
    return scale * (sum + power * tail);
}

/* The derivative of digamma of order n >= 1. For x < 0 the terms of the sum are those of x - floor(x), and the finitely
 * many below 0. At 0 and the negative integers it is infinite, as SciPy's, with the sign that it has for x > 0. */
static inline double vm_polygamma(int64_t n, double x) {
    double odd = n % 2 ? 1 : -1, r = x - vm_whole(x), y;
    if (x != x || x == -INFINITY) return NAN;
    if (x == INFINITY) return odd * 0.0;
    if (x <= 0 && r == 0) return odd * INFINITY;
    if (x > 0) return odd * vm_hurwitz(n, x);
    y = odd * vm_hurwitz(n, r < 0 ? 1 + r : r) + vm_hurwitz(n, r < 0 ? -r : 1 - r);
    return y - vm_hurwitz(n, 1 - x);
}

/* ---- log |beta(a, b)| ------------------------------------------------------------------------------------- */
/* With a <= b: where b and a + b are at least 8, the logarithms of Stirling's series are joined, so that they do not
 * cancel (after A. R. DiDonato and A. H. Morris, "Algorithm 708: significant digit computation of the incomplete beta
 * function ratios", 1992). log1p(a / b) stands for log(a + b) - log(b). */
/* For a and b above 2^-60. A b below 8 is raised by 8, which takes a quotient of factors out of the function: so one
 * logarithm of the gamma function is enough. The factors are 1 for another b; they are products and not choices, see
 * VM_GAMMA_STEP. */
VM_INLINE double vm_betaln_usual(double first, double second) {
    double a = first < second ? first : second, b = first < second ? second : first, sum = a + b;
    double near = b < 8 ? 1 : 0, d = b + 8 * near, s = sum + 8 * near, rest = 1 - near, top = 1, bottom = 1;
    double x = sum * near * (sum + 7), z = b * near * (b + 7); /* (z + k) (z + 7 - k) is z (z + 7) + k (7 - k) */
    for (int k = 0; k < 4; k++) {
        top *= x + (rest + k * (7 - k) * near);
        bottom *= z + (rest + k * (7 - k) * near);
    }
    double ga = vm_gammaln_positive(a), u = 1 / d, v = 1 / s, tails = vm_stirling_of(u) - vm_stirling_of(v);
    int both = a >= 8;
    double q = a * u, lq = vm_log1p_f64(q), l = vm_log_f64(both ? d : top / bottom);
    vm_dd lb = vm_log_dd(both ? q / (1 + q) : d), t = vm_two_product(a, lb.hi);
    double mixed = (ga + l + (a - (a + (d - 0.5)) * lq)) - t.hi + (tails - (t.lo + a * lb.lo));
    double large = (a - 0.5) * lb.hi - d * lq - 0.5 * l + (0x1.d67f1c864beb5p-1 + (vm_stirling(both ? a : 8) + tails));
    double y = both ? large : mixed;
    y = ((a == 1) & (b == 1)) ? 0 : y; /* exactly */
    return sum == INFINITY ? -sum : y;
}

VM_INLINE double vm_betaln_f64(double first, double second) {
    double a = first < second ? first : second, b = first < second ? second : first;
    int usual = a > 0x1p-60, far = b >= 8;
    double q = a / b, sum = a + b, d = far ? b : 8, lq = vm_log1p_f64(far ? q : 1);
    double ga = vm_gammaln_f64(a), gb = vm_gammaln_f64(b), gsum = vm_gammaln_f64(sum);
    double tails = vm_stirling(d) - vm_stirling(far ? sum : 16);
    double mixed = ga + (a - (a + (d - 0.5)) * lq - a * vm_log_f64(d) + tails);
    double y = (far & (sum >= 8)) ? mixed : ga + gb - gsum;
    y = a == 0 ? INFINITY : y;
    y = b == 0 ? INFINITY : y;
    y = sum == INFINITY ? a < 0 ? sum : -sum : y;
    double z = vm_betaln_usual(first, second);
    y = usual ? z : y;
    return sum != sum ? sum : y;
}

/* digamma(a) - digamma(a + b): from a = 8 on with the logarithms of both joined, and 1 / a - 1 / (a + b) */
#define VM_SLOPE_f64_betaln_da ~, vm_betaln_slope_f64(a, b)
#define VM_SLOPE_f64_betaln_db ~, vm_betaln_slope_f64(b, a)
VM_INLINE double vm_betaln_slope_f64(double a, double b) {
    int far = (a >= 8) & (b > 0);
    double c = far ? a : 8, s = far ? a + b : 8, u = 1 / c, v = 1 / s, d = far ? b * u * v : 0, w = v * v;
    double tail = d * (u + v) * vm_digamma_tail(u * u) + w * (vm_digamma_tail(u * u) - vm_digamma_tail(w));
    double joined = -(vm_log1p_f64(far ? b / a : 1) + 0.5 * d + tail);
    double apart = vm_digamma_f64(a) - vm_digamma_f64(a + b);
    double poles = -b / (a + b) / a; /* -1 / a + 1 / (a + b) */
    return ((a > 0) & (b > 0) & (a + b < 0x1p-60)) ? poles : far ? joined : apart;
}
