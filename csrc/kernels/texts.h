/* texts.h: what the texts of ops.def mean in C: their functions are those of vecmath.h, their constants those of
 * constants.def. Included by elementwise.c, which makes loops of the texts, and by rows.h, which makes functions of
 * them. Both include themselves once per dtype T, in which VM(name) is vm_<name>_f64 and FN(name) is <name>_f64.
 */
#include "vecmath.h"

/* A macro that is defined for some rows only, such as HUGE_forward_sin, expands to `~, first` or `~, first, second`.
 * PICK(macro, otherwise) is its first part where it is defined, and else `otherwise`; PICK_THIRD(macro, ~, otherwise)
 * the second part. */
#define PICK(...) PICK_SECOND(__VA_ARGS__, ~)
#define PICK_SECOND(ignored, chosen, ...) chosen
#define PICK_THIRD(...) PICK_THIRD_OF(__VA_ARGS__, ~)
#define PICK_THIRD_OF(ignored, first, chosen, ...) chosen

/* For sin, cos, j0 and j1: the function for huge arguments, which takes one at a time, and the loop for programs. There
 * is none, because such a loop cannot look for huge arguments. */
#define HUGE_forward_sin ~, FN(sin_huge), NO_LOOP
#define HUGE_forward_cos ~, FN(cos_huge), NO_LOOP
#define HUGE_backward_sin ~, FN(cos_huge), NO_LOOP
#define HUGE_backward_cos ~, FN(minus_sin_huge), NO_LOOP
#define HUGE_forward_j0 ~, FN(j0_huge), NO_LOOP
#define HUGE_forward_j1 ~, FN(j1_huge), NO_LOOP
#define HUGE_backward_j0 ~, FN(minus_j1_huge), NO_LOOP
#define HUGE_backward_j1 ~, FN(j1_slope_huge), NO_LOOP
/* Those functions, of one dtype. */
#define HUGE_FUNCTIONS                                                                                \
    static inline T FN(sin_huge)(T x) { return VM(sin_huge)(x); }                                     \
    static inline T FN(cos_huge)(T x) { return VM(cos_huge)(x); }                                     \
    static inline T FN(minus_sin_huge)(T x) { return -VM(sin_huge)(x); }                              \
    static inline T FN(j0_huge)(T x) { return (T)vm_j0_huge_f64(x); }                                 \
    static inline T FN(j1_huge)(T x) { return (T)vm_j1_huge_f64(x); }                                 \
    static inline T FN(minus_j1_huge)(T x) { return (T)-vm_j1_huge_f64(x); }                          \
    static inline T FN(j1_slope_huge)(T x) { return (T)(vm_j0_huge_f64(x) - vm_j1_huge_f64(x) / x); }

/* The functions that the texts of ops.def call, in the dtype T ... */
#define where(c, a, b) ((c) ? (T)(a) : (T)(b))
#define absolute(x) VM(absolute)(x)
#define sign(x) VM(sign)(x)
#define trunc(x) VM(trunc)(x)
#define sqrt(x) VM(sqrt)(x)
#define exp(x) VM(exp)(x)
#define exp2(x) VM(exp2)(x)
#define expm1(x) VM(expm1)(x)
#define log(x) VM(log)(x)
#define sin(x) VM(sin)(x)
#define cos(x) VM(cos)(x)
#define sinh(x) VM(sinh)(x)
#define cosh(x) VM(cosh)(x)
#define tanh(x) VM(tanh)(x)
#define erfc(x) VM(erfc)(x)
#define erfcx(x) VM(erfcx)(x)
#define digamma(x) VM(digamma)(x)
#define trigamma(x) VM(trigamma)(x)
#define j0(x) VM(j0)(x)
#define j1(x) VM(j1)(x)
#define i0(x) VM(i0)(x)
#define gamma(x) VM(gamma)(x)
#define floor(x) VM(floor)(x)
#define i0e(x) VM(i0e)(x)
#define i1(x) VM(i1)(x)
#define i1e(x) VM(i1e)(x)
#define log1p(x) VM(log1p)(x)
#define sigmoid(x) VM(sigmoid)(x)
#define softplus(x) VM(softplus)(x)
#define minimum(a, b) VM(minimum)(a, b)
#define power(a, b) VM(power)(a, b)
#define hypot(a, b) VM(hypot)(a, b)
#define copysign(a, b) VM(copysign)(a, b)
#define floor_divide(a, b) VM(floor_divide)(a, b)

/* ... and their constants. */
#define CONSTANT(name, value, latex)                               \
    static inline float name##_f32(void) { return (float)(value); } \
    static inline double name##_f64(void) { return value; }
#include "constants.def"
#define LN_2 FN(LN_2)()
#define LN_10 FN(LN_10)()
#define DEGREES_PER_RADIAN FN(DEGREES_PER_RADIAN)()
#define RADIANS_PER_DEGREE FN(RADIANS_PER_DEGREE)()
#define SQRT_HALF FN(SQRT_HALF)()
#define TWO_OVER_SQRT_PI FN(TWO_OVER_SQRT_PI)()
#define ONE_OVER_SQRT_2PI FN(ONE_OVER_SQRT_2PI)()
#define SQRT_2_OVER_PI FN(SQRT_2_OVER_PI)()
#define GELU_CUBIC FN(GELU_CUBIC)()
#define ONE_SIXTH FN(ONE_SIXTH)()
#define SELU_SCALE FN(SELU_SCALE)()
#define SELU_ALPHA FN(SELU_ALPHA)()
