/* vecmath_bessel.h: the Bessel functions of the first kind, modified and not, of orders 0 and 1; a part of vecmath.h,
 * and included by it alone. All polynomials are interpolated at Chebyshev points in high precision.
 *
 * Up to 18 the modified ones are polynomials of x^2; beyond, exp(x) / sqrt(x) times a polynomial of 1 / x. The terms
 * that this leaves out, of order exp(-2 x), are below an ULP there.
 */

/* A relative error of z = a^2 changes I0(a) and I1(a) / a by up to a / 2 times as much, half of that through w = z^2.
 * This is the relative change that adds the rounding errors of both back; the slope by log(z) is about
 * a^2 / (2 (k + a)). */
VM_INLINE double vm_bessel_rest(double a, double z, double w, double k) {
    double rest = vm_product_rest_f64(a, a, z) * z + 0.5 * vm_product_rest_f64(z, z, w);
    return rest / (2 * (k + a) * z + 0x1p-900);
}

/* (even + odd) (1 + rest). The even and odd parts are (I +- J) / 2 with J0 or J1, small beside I where odd > even. */
VM_INLINE vm_dd vm_bessel_sum(double even, double odd, double rest) {
    vm_dd y = vm_fast_two_sum(even, odd);
    return (vm_dd){y.hi, y.lo + y.hi * rest};
}

/* I0(a) and I1(a) / a for 0 <= a <= 18: 2^-54. Even and odd powers of z apart take half as many steps in turn, whose
 * rounding errors add up. */
VM_INLINE vm_dd vm_i0_near(double a) {
    double z = a * a, w = z * z;
    double even = VM_P12(w, 0x1p+0, 0x1.000000000000cp-6, 0x1.c71c71c71cdb7p-18, 0x1.02e85c08a8834p-31,
                         0x1.522a43fb17ad4p-47, 0x1.56018956357efp-64, 0x1.4197cfaa687a8p-82, 0x1.3e284a6f41da2p-101,
                         0x1.6aa15f01e0f2p-121, 0x1.0652d987d0ae9p-141, 0x1.486a73e09e6d9p-162,
                         0x1.f3e2f1c4d268bp-183, 0x1.2b53b0a27252ap-204);
    double odd = VM_P11(w, 0x1.ffffffffffffep-3, 0x1.c71c71c71c65ap-12, 0x1.23456789a999dp-24, 0x1.522a43f5b355p-39,
                        0x1.0b31326e3e5bdp-55, 0x1.69ca960840feep-73, 0x1.e723e85948134p-92, 0x1.69d63433441e9p-111,
                        0x1.3dec3fa291762p-131, 0x1.37d375798fcdcp-152, -0x1.631e55cf3190bp-176,
                        -0x1.a18dd5561b9ap-194);
    return vm_bessel_sum(even, z * odd, vm_bessel_rest(a, z, w, 2));
}
VM_INLINE vm_dd vm_i1_near(double a) {
    double z = a * a, w = z * z;
    double even = VM_P12(w, 0x1p-1, 0x1.5555555555557p-9, 0x1.6c16c16c16d0ep-21, 0x1.27e4fb778e925p-35,
                         0x1.2c9758dc59be7p-51, 0x1.f176985fdaa37p-69, 0x1.8bce6fc33ec5bp-87, 0x1.535b8c7fb5476p-106,
                         0x1.5510315b5f8afp-126, 0x1.b532f215231cbp-147, 0x1.d1e6422b8f3bep-168,
                         0x1.35440984b3d4ap-188, 0x1.693ed9c521d68p-210);
    double odd = VM_P11(w, 0x1p-4, 0x1.c71c71c71c7p-15, 0x1.845c8a0ce46dfp-28, 0x1.522a43f62577dp-43,
                        0x1.ab81ea65edcecp-60, 0x1.e26377e4d3175p-78, 0x1.165e105eafe69p-96, 0x1.69e42dae5ab4p-116,
                        0x1.1b6c116b5d951p-136, 0x1.03a0405114469p-157, 0x1.6a321670642f7p-183,
                        -0x1.d800f0e29feb2p-200);
    return vm_bessel_sum(even, z * odd, vm_bessel_rest(a, z, w, 4));
}

/* exp(-x) sqrt(x) I0(x) and I1(x) of u = 1 / x for x >= 18: 2^-53 */
VM_INLINE double vm_i0_far(double u) {
    return VM_P10(u, 0x1.9884533d43651p-2, 0x1.9884533d40e53p-5, 0x1.cb94ddb2c7f29p-6, 0x1.debb029ed0f3cp-6,
                  0x1.6e8b509fc9617p-5, 0x1.727669cc6b55fp-4, 0x1.e3dd875edb193p-3, 0x1.c5ac7c07d20b6p-2,
                  0x1.ccfa4e0b6b5e5p+2, -0x1.612967c4c9fefp+5, 0x1.4d48a9ee3f49bp+8);
}
VM_INLINE double vm_i1_far(double u) {
    return VM_P10(u, 0x1.9884533d4365p-2, -0x1.32633e6df1ep-3, -0x1.7efc0e10e059ap-5, -0x1.4f1c844458b99p-5,
                  -0x1.d7448a2d0b0f5p-5, -0x1.c4e218ea110d4p-4, -0x1.1d0f0724b7c86p-2, -0x1.0fa0a2a6eca12p-1,
                  -0x1.f8f17cbd176bfp+2, 0x1.7954a88e8289dp+5, -0x1.68f3d0942b419p+8);
}
/* x times the difference of the two, which would cancel: 2^-51 */
VM_INLINE double vm_i0_less_i1_far(double u) {
    return VM_P11(u, 0x1.9884533d4364fp-3, 0x1.32633e6df6051p-4, 0x1.1f3d0a7b89a2ap-4, 0x1.a2e3be3eee157p-4,
                  0x1.9c53348d9f189p-3, 0x1.ff39c8615898ep-2, 0x1.6d610ea556573p+0, 0x1.dd51032997a5cp+2,
                  -0x1.36114685392b9p+5, 0x1.0a6f9e27ca44ep+10, -0x1.14c83671ba683p+13, 0x1.5842a88861d90p+15);
}

VM_INLINE double vm_dd_rounded(vm_dd y) { return y.hi + y.lo; }

/* x y */
VM_INLINE vm_dd vm_x_times(double x, vm_dd y) {
    vm_dd p = vm_two_product(x, y.hi);
    return (vm_dd){p.hi, p.lo + x * y.lo};
}

/* y exp(-a) for 0 <= a <= 18 */
VM_INLINE double vm_decayed(vm_dd y, double a) {
    vm_scaled e = vm_exp_dd((vm_dd){-a, 0});
    return vm_scale_f64(e.hi * y.hi + (e.hi * y.lo + e.lo * y.hi), e.n);
}

/* v times exp(a + lo), where exp alone may overflow */
VM_INLINE double vm_times_exp(double v, double a, double lo) {
    vm_unscaled e = vm_exp_unscaled(a, lo);
    return vm_scale_f64(v * e.v, e.n);
}

/* near: a = |x| is at most 18. c = a there; beyond, u = 1 / a and s = sqrt(u), where 1 / sqrt(a) is s exp(lo) */
typedef struct { int near; double a, c, u, s, lo; } vm_bessel;
VM_INLINE vm_bessel vm_bessel_parts(double x) {
    double a = fabs(x);
    int near = a <= 18;
    double b = near ? 18 : a, u = 1 / b, s = vm_sqrt_f64(u);
    double lo = -0.5 * vm_product_rest_f64(b, u, 1);
    return (vm_bessel){near, a, near ? a : 18, u, s, b > 720 ? 0 : lo};
}

VM_INLINE double vm_i0_f64(double x) {
    vm_bessel p = vm_bessel_parts(x);
    vm_dd n = vm_i0_near(p.c);
    double y = p.near ? vm_dd_rounded(n) : vm_times_exp(vm_i0_far(p.u) * p.s, vm_clamp_f64(p.a, 18, 720), p.lo);
    y = p.a > 720 ? INFINITY : y;
    return x != x ? x : y;
}
VM_INLINE double vm_i0e_f64(double x) {
    vm_bessel p = vm_bessel_parts(x);
    double y = p.near ? vm_decayed(vm_i0_near(p.c), p.c) : vm_i0_far(p.u) * p.s;
    return x != x ? x : y;
}
VM_INLINE double vm_i1_f64(double x) {
    vm_bessel p = vm_bessel_parts(x);
    double near = vm_dd_rounded(vm_x_times(p.c, vm_i1_near(p.c)));
    double y = p.near ? near : vm_times_exp(vm_i1_far(p.u) * p.s, vm_clamp_f64(p.a, 18, 720), p.lo);
    y = p.a > 720 ? INFINITY : y;
    return x != x ? x : copysign(y, x);
}
VM_INLINE double vm_i1e_f64(double x) {
    vm_bessel p = vm_bessel_parts(x);
    double y = p.near ? vm_decayed(vm_x_times(p.c, vm_i1_near(p.c)), p.c) : vm_i1_far(p.u) * p.s;
    return x != x ? x : copysign(y, x);
}

/* I0(x) - I1(x) / x, and I0e - I1e (sign(x) + 1 / x) */
#define VM_SLOPE_f64_i1 ~, vm_i1_slope_f64(x)
VM_INLINE double vm_i1_slope_f64(double x) {
    vm_bessel p = vm_bessel_parts(x);
    double far = (vm_i0_far(p.u) - vm_i1_far(p.u) * p.u) * p.s;
    double near = vm_dd_rounded(vm_i0_near(p.c)) - vm_dd_rounded(vm_i1_near(p.c));
    double y = p.near ? near : vm_times_exp(far, vm_clamp_f64(p.a, 18, 720), p.lo);
    y = p.a > 720 ? INFINITY : y;
    return x != x ? x : y;
}
#define VM_SLOPE_f64_i1e ~, vm_i1e_slope_f64(x)
VM_INLINE double vm_i1e_slope_f64(double x) {
    vm_bessel p = vm_bessel_parts(x);
    double n0 = vm_dd_rounded(vm_i0_near(p.c)), n1 = vm_dd_rounded(vm_i1_near(p.c));
    double near = vm_times_exp(n0 - n1 - p.c * n1, -p.c, 0);
    double far = (vm_i0_less_i1_far(p.u) - vm_i1_far(p.u)) * p.u * p.s;
    return x != x ? x : p.near ? near : far;
}
#define VM_SLOPE_f64_i0e ~, vm_i0e_slope_f64(x)
VM_INLINE double vm_i0e_slope_f64(double x) {
    vm_bessel p = vm_bessel_parts(x);
    double n0 = vm_dd_rounded(vm_i0_near(p.c)), n1 = vm_dd_rounded(vm_i1_near(p.c));
    double near = vm_times_exp(p.c * n1 - n0, -p.c, 0);
    double y = p.near ? near : -vm_i0_less_i1_far(p.u) * p.u * p.s;
    return x != x ? x : x == 0 ? 0 : copysign(1, x) * y;
}

/* ---- J0 and J1 ------------------------------------------------------------------------------------------------- */
/* Up to 5 a polynomial of x^2 with the nearest zeros as factors; beyond, (P cos(t) - Q sin(t)) sqrt(2 / (pi x)) with
 * t = x - pi / 4 (of J1, 3 pi / 4), P and Q quotients of polynomials of 1 / x^2 (DLMF 10.17). s and c are the sine and
 * cosine of a = |x|. */
VM_INLINE double vm_j0_of(double a, double s, double c) {
    int near = a <= 5;
    double z = near ? a * a : 25, r = 1 / (near ? 5 : a), u = r * r, v = z - 12.5;
    double R = VM_P11(v, 0x1.a1c5e862f307cp-9, -0x1.424e0f6ce465ep-13, 0x1.a2ea905336924p-19, -0x1.393745cda6e68p-25,
                      0x1.34b83fa1eb7cp-32, -0x1.b2142b8a28bc5p-40, 0x1.cac0f49c93776p-48, -0x1.7a66ade7052f8p-56,
                      0x1.f54fe442cb1cfp-65, -0x1.10bb3d5ae133p-73, 0x1.f0d483f7ecefap-83, -0x1.7fc2dc178e25p-92);
    double zeros = ((a - 0x1.33d152e971b40p+1) + 0x1.0f539d7da258ep-53) * (a + 0x1.33d152e971b40p+1)
                   * (z - 0x1.e78a4a621dd6fp+4);
    double P = VM_P6(u, 0x1.fffffffffffffp-1, 0x1.e47a3f329707fp+6, 0x1.1d9b7965d3791p+12, 0x1.fdd84542bce64p+15,
                     0x1.4dd02c08ac975p+18, 0x1.0229ce7828dc6p+19, 0x1.d0468268b3724p+16);
    double D = VM_P6(u, 0x1p+0, 0x1.e4c23f3297049p+6, 0x1.1e2204a79a05ep+12, 0x1.002103fdc0f08p+16,
                     0x1.51e037b68e97cp+18, 0x1.0b6cd3dd7fe7dp+19, 0x1.0eb4d4da15b8p+17);
    double Q = VM_P7(u, -0x1.ffffffffffff8p-4, -0x1.40408c90e61cep+4, -0x1.0525c74f57f9ep+10, -0x1.574314b11d6p+14,
                     -0x1.6b426bd24e5bcp+17, -0x1.09314bb08ae3bp+19, -0x1.38b922e874e3fp+18, 0x1.ef9f3ac0b04f6p+14);
    double E = VM_P6(u, 0x1p+0, 0x1.416c8c90e609ap+7, 0x1.080894c8cdbc1p+13, 0x1.60634f5f70964p+17,
                     0x1.81d0e98870e41p+20, 0x1.332f4a6a0df8ap+22, 0x1.ee382145cf197p+21);
    double far = (P / D * (c + s) + r * (Q / E) * (c - s)) * vm_sqrt_f64(0x1.45f306dc9c883p-2 * r);
    return near ? zeros * R : a == INFINITY ? 0 : far;
}
VM_INLINE double vm_j1_of(double a, double s, double c) {
    int near = a <= 5;
    double z = near ? a * a : 25, r = 1 / (near ? 5 : a), u = r * r, v = z - 12.5;
    double R = VM_P10(v, 0x1.c55f67750a6b9p-12, -0x1.18f41d3355ed7p-16, 0x1.2fde56b641ecfp-22,
                      -0x1.841e50af1dc2bp-29, 0x1.4d56413236c7dp-36, -0x1.9eda23fd3ff52p-44, 0x1.88fd35f46404ap-52,
                      -0x1.2591d83912659p-60, 0x1.63452f7c1df34p-69, -0x1.6408d028e2886p-78, 0x1.2be43c431ebe6p-87);
    double zeros = ((a - 0x1.ea75575af6f09p+1) + 0x1.60155a9d1b256p-53) * (a + 0x1.ea75575af6f09p+1)
                   * (z - 0x1.89bf66072a432p+5);
    double P = VM_P7(u, 0x1p+0, 0x1.1c71de2435a76p+7, 0x1.9711651c6a18fp+12, 0x1.cf0e580faedf6p+16,
                     0x1.a2c31d84330b7p+19, 0x1.06d351b800956p+21, 0x1.3aae1619187cap+20, 0x1.3ceb2492a66d7p+15);
    double D = VM_P6(u, 0x1p+0, 0x1.1c35de2435a7cp+7, 0x1.9609413c280fap+12, 0x1.cc28d72e73811p+16,
                     0x1.9c6f74d1aba3ep+19, 0x1.f8c4938dff014p+20, 0x1.114efb7d06e56p+20);
    double Q = VM_P6(u, 0x1.7fffffffffff5p-2, 0x1.935fc27794e78p+5, 0x1.0b02145b9d66fp+11, 0x1.0fb93f5db9622p+15,
                     0x1.9e6a03e28f515p+17, 0x1.80dc28f38b7bcp+18, 0x1.b09217e33e3abp+16);
    double E = VM_P6(u, 0x1p+0, 0x1.0d7681a50dd0bp+7, 0x1.6644612b1b8b9p+12, 0x1.700d5600fd239p+16,
                     0x1.1f193311e7f68p+19, 0x1.1c3d8599b2899p+20, 0x1.a176109a3d6dbp+18);
    double far = (P / D * (s - c) + r * (Q / E) * (s + c)) * vm_sqrt_f64(0x1.45f306dc9c883p-2 * r);
    return near ? a * (zeros * R) : a == INFINITY ? 0 : far;
}

VM_INLINE double vm_j0_f64(double x) {
    double a = fabs(x);
    return vm_j0_of(a, vm_sin_f64(a), vm_cos_f64(a));
}
VM_INLINE double vm_j1_f64(double x) {
    double a = fabs(x);
    return copysign(1, x) * vm_j1_of(a, vm_sin_f64(a), vm_cos_f64(a));
}

#define VM_SLOPE_f64_j1 ~, vm_j1_slope_f64(x)
VM_INLINE double vm_j1_slope_f64(double x) {
    double a = fabs(x), s = vm_sin_f64(a), c = vm_cos_f64(a);
    return a < 0x1p-60 ? 0.5 : vm_j0_of(a, s, c) - (a == INFINITY ? 0 : vm_j1_of(a, s, c) / a);
}

/* Beyond VM_TRIG_LIMIT, one by one, as sin and cos */
static inline double vm_j0_huge_f64(double x) { return vm_j0_of(fabs(x), sin(fabs(x)), cos(x)); }
static inline double vm_j1_huge_f64(double x) { return copysign(1, x) * vm_j1_of(fabs(x), sin(fabs(x)), cos(x)); }
