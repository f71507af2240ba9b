/* rows.h: the rows of ops.def as functions of single elements, for programs that are written out as C.
 *
 * Of the row tanh, float64: tanh_f64(x), and tanh_vjp_f64(x, y, g), which is g times its derivative; of the row
 * multiply: multiply_f64(a, b), and multiply_da_f64(a, b, y, g) and multiply_db_f64(a, b, y, g). The kernels in
 * elementwise.c are loops over the same texts.
 *
 * The file includes itself once per dtype.
 */
#ifndef T
#include "texts.h"

/* A compiler may fuse a product with the sum that it goes into (fused multiply-add). Within one row it should, as it
 * does in the kernels, but not across rows: so a value that might be a product, and goes into a sum of another row, is
 * hidden from it, in a loop over elements by an operation on its bits, which does not keep the loop from becoming
 * vectors. Clang fuses within an expression only. */
#ifdef __clang__
#pragma clang fp contract(on)
#define SEPARATE(T, x) (x)
#elif defined __x86_64__
#define SEPARATE(T, x) ({ T separate_ = (x); __asm__("" : "+x"(separate_)); separate_; })
#elif defined __aarch64__
#define SEPARATE(T, x) ({ T separate_ = (x); __asm__("" : "+w"(separate_)); separate_; })
#else
#define SEPARATE(T, x) ({ T separate_ = (x); __asm__("" : "+m"(separate_)); separate_; })
#endif
#define SEPARATE_f64(x) SEPARATE(double, x)
#define SEPARATE_f32(x) SEPARATE(float, x)
#ifdef __clang__
#define SEPARATE_LANES_f64(x) (x)
#define SEPARATE_LANES_f32(x) (x)
#define NO_BITS 0
#define EACH_f64(x, i) (x)
#define EACH_f32(x, i) (x)
#else
#define SEPARATE_LANES_f64(x) vm_float_f64(vm_bits_f64(x) | no_bits)
#define SEPARATE_LANES_f32(x) vm_float_f32(vm_bits_f32(x) | (uint32_t)no_bits)
#define NO_BITS ({ uint64_t zero_ = 0; __asm__("" : "+r"(zero_)); zero_; })
/* A number that is the same for all elements of a loop over i, hidden as such: GCC computes a row's conditions on it
 * before the loop, and then cannot make the loop one of vectors. */
#define EACH_f64(x, i) vm_float_f64(vm_bits_f64(x) | ((uint64_t)(i) & no_bits))
#define EACH_f32(x, i) vm_float_f32(vm_bits_f32(x) | (uint32_t)((uint64_t)(i) & no_bits))
#endif
/* Makes GCC see an array, and not so many numbers: then it makes vectors of a short loop over it. */
#define IN_MEMORY(x) __asm__("" : "+m"(x))
#define ROW static inline __attribute__((always_inline))

/* a b + c, rounded as the kernels of products round it: once where the instruction set has such an instruction. */
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define FMA_f64(a, b, c) __builtin_fma(a, b, c)
#define FMA_f32(a, b, c) __builtin_fmaf(a, b, c)
#else
#define FMA_f64(a, b, c) ((c) + SEPARATE(double, (a) * (b)))
#define FMA_f32(a, b, c) ((c) + SEPARATE(float, (a) * (b)))
#endif

/* NumPy's quotient of integers, rounded down, and its remainder, which has the sign of b; b is neither 0 nor -1. */
static inline int64_t floor_divide_i64(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }
static inline int64_t remainder_i64(int64_t a, int64_t b) { return a - b * floor_divide_i64(a, b); }

/* float64 first: rows of float32 call its functions. */
#define T double
#define FN(name) name##_f64
#define VM(name) vm_##name##_f64
#define SLOPE(name, text) PICK(VM_SLOPE_f64_##name, text)
#define LONG_LOOP OWN_LOOP
#include "rows.h"
#define T float
#define FN(name) name##_f32
#define VM(name) vm_##name##_f32
#define SLOPE(name, text) PICK(VM_SLOPE_f32_##name, text)
#define LONG_LOOP BY_F64
#include "rows.h"

#else

HUGE_FUNCTIONS

/* A function of a row whose value is `value`, or g times a slope. Those marked VM_LONG exist in float64 only: of
 * float32 the value, or the slope, is that of float64 rounded. */
#define OWN_LOOP(name, parameters, in_f64, value) ROW T FN(name) parameters { return value; }
#define BY_F64(name, parameters, in_f64, value) ROW T FN(name) parameters { return in_f64; }

#define UNARY(name, definition, derivative, lo, hi, doc)                                                       \
    ROW T FN(name)(T x) { return (T)(definition); }                                                            \
    ROW T FN(name##_vjp)(T x, T y, T g) { return (void)x, (void)y, g * (T)(derivative); }
#define BINARY(name, definition, da, db, a_lo, a_hi, b_lo, b_hi, doc)                                          \
    ROW T FN(name)(T a, T b) { return (T)(definition); }                                                       \
    ROW T FN(name##_da)(T a, T b, T y, T g) { return (void)a, (void)b, (void)y, g * (T)(da); }                 \
    ROW T FN(name##_db)(T a, T b, T y, T g) { return (void)a, (void)b, (void)y, g * (T)(db); }

/* `value`, of rows with a function for huge arguments that function's value there */
#define WITH_HUGE(macro, x, value) WITH_HUGE_OF(PICK_THIRD(macro, ~, ANY_VALUE), PICK(macro, ~), x, value)
#define WITH_HUGE_OF(FORM, huge, x, value) FORM(huge, x, value)
#define ANY_VALUE(huge, x, value) (value)
#define NO_LOOP HUGE_VALUE
#define HUGE_VALUE(huge, x, value) (VM(absolute)(x) > (T)VM_TRIG_LIMIT ? huge(x) : (value))

#define UNARY_FN(name, ...) UNARY_FN_OF(PICK(VM_LONG_##name, OWN_LOOP), name, __VA_ARGS__)
#define UNARY_FN_OF(FORM, name, definition, derivative, lo, hi, doc)                                           \
    FORM(name, (T x), (T)name##_f64(x), WITH_HUGE(HUGE_forward_##name, x, VM(name)(x)))                        \
    FORM(name##_vjp, (T x, T y, T g), g * (T)name##_vjp_f64(x, y, 1),                                          \
         ((void)x, (void)y, g * WITH_HUGE(HUGE_backward_##name, x, (T)(SLOPE(name, derivative)))))
#define BINARY_FN(name, ...) BINARY_FN_OF(PICK(VM_LONG_##name, OWN_LOOP), name, __VA_ARGS__)
#define BINARY_FN_OF(FORM, name, definition, da, db, a_lo, a_hi, b_lo, b_hi, doc)                              \
    FORM(name, (T a, T b), (T)name##_f64(a, b), VM(name)(a, b))                                                \
    FORM(name##_da, (T a, T b, T y, T g), g * (T)name##_da_f64(a, b, y, 1),                                    \
         ((void)a, (void)b, (void)y, g * (T)(SLOPE(name##_da, da))))                                           \
    FORM(name##_db, (T a, T b, T y, T g), g * (T)name##_db_f64(a, b, y, 1),                                    \
         ((void)a, (void)b, (void)y, g * (T)(SLOPE(name##_db, db))))

#include "ops.def"
#undef UNARY
#undef UNARY_FN
#undef UNARY_FN_OF
#undef BINARY
#undef BINARY_FN
#undef BINARY_FN_OF
#undef OWN_LOOP
#undef BY_F64
#undef WITH_HUGE
#undef WITH_HUGE_OF
#undef ANY_VALUE
#undef NO_LOOP
#undef HUGE_VALUE
#undef T
#undef FN
#undef VM
#undef SLOPE
#undef LONG_LOOP
#endif
