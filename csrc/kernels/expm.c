/* expm.c: the exponential of a matrix by scaling and squaring.
 *
 * Higham, "The scaling and squaring method for the matrix exponential revisited" (2005): a diagonal Pade approximant,
 * of the lowest degree whose error is below the rounding at the matrix's norm; of a larger matrix that of A / 2^s, s
 * times squared. The thresholds for float64 are those of table 2.3 there, for float32 those of Higham, "Functions of
 * Matrices" (2008), section 10.3.
 */
#include "kernels/decompositions.h"
#include "kernels/gemm_dispatch.h"
#include "kernels/lapack_dispatch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double pade[][14] = {
    {120, 60, 12, 1},
    {30240, 15120, 3360, 420, 30, 1},
    {17297280, 8648640, 1995840, 277200, 25200, 1512, 56, 1},
    {17643225600, 8821612800, 2075673600, 302702400, 30270240, 2162160, 110880, 3960, 90, 1},
    {64764752532480000, 32382376266240000, 7771770303897600, 1187353796428800, 129060195264000, 10559470521600,
     670442572800, 33522128640, 1323241920, 40840800, 960960, 16380, 182, 1},
};
static const int degree[] = {3, 5, 7, 9, 13};
static const struct {
    int n;
    double theta[5];            /* the largest norm for each degree */
} limits[2] = {
    [FG_FLOAT32] = {3, {4.258730016922831e-1, 1.880152677804762, 3.925724783138660}},
    [FG_FLOAT64] = {5,
                    {1.495585217958292e-2, 2.539398330063230e-1, 9.504178996162932e-1, 2.097847961257068,
                     5.371920351148152}},
};

/* Loops over the elements of both dtypes. */
#define EACH(body)                             \
    do {                                       \
        if (dtype == FG_FLOAT32)               \
            for (int64_t i = 0; i < size; i++) \
                body(float);                   \
        else                                   \
            for (int64_t i = 0; i < size; i++) \
                body(double);                  \
    } while (0)
#define PLUS_SCALED(real) ((real *)y)[i] += (real)c * ((const real *)x)[i]
static void add_scaled(int dtype, int64_t size, double c, const void *x, void *y) { EACH(PLUS_SCALED); }

#define SCALED(real) ((real *)y)[i] = (real)(c * (double)((const real *)x)[i])
static void scale(int dtype, int64_t size, double c, const void *x, void *y) { EACH(SCALED); }

#define ON_DIAGONAL(real) ((real *)y)[i * (n + 1)] += (real)c
static void add_to_diagonal(int dtype, int64_t n, double c, void *y)
{
    int64_t size = n;
    EACH(ON_DIAGONAL);
}

/* The largest sum of absolute values of a column; nan if there is one. */
static double norm_1(int dtype, int64_t n, const void *x)
{
    double largest = 0;
    for (int64_t j = 0; j < n; j++) {
        double sum = 0;
        for (int64_t i = 0; i < n; i++)
            sum += fabs(dtype == FG_FLOAT32 ? (double)((const float *)x)[i * n + j] : ((const double *)x)[i * n + j]);
        largest = sum > largest || sum != sum ? sum : largest;
        if (sum != sum)
            break;
    }
    return largest;
}

static void product(int dtype, int64_t n, const void *a, const void *b, void *y)
{
    fg_gemm(dtype, fg_choose_gemm_backend(dtype, 0, 0, n, n, n), 0, 0, n, n, n, a, n, b, 0, y);
}

/* One matrix; `room` holds eight of them and a factor. */
static int expm(int dtype, int64_t n, const void *a, void *y, char *room)
{
    int64_t size = n * n, bytes = size * (int64_t)fg_itemsize(dtype);
    char *x = room, *power[5] = {NULL, x + bytes, x + 2 * bytes, x + 3 * bytes, x + 4 * bytes};  /* x^2, ^4, ^6, ^8 */
    char *u = x + 5 * bytes, *v = x + 6 * bytes, *t = x + 7 * bytes, *factor = x + 8 * bytes;
    double norm = norm_1(dtype, n, a);
    int which = 0, squarings = 0, last = limits[dtype].n - 1;
    if (!(norm <= 1e308)) {
        scale(dtype, size, NAN, a, y);
        return FG_OK;
    }
    while (which < last && norm > limits[dtype].theta[which])
        which++;
    if (norm > limits[dtype].theta[last]) {
        frexp(norm / limits[dtype].theta[last], &squarings);
        norm = ldexp(1, -squarings);
    } else
        norm = 1;
    scale(dtype, size, norm, a, x);
    const double *b = pade[which];
    int m = degree[which], powers = m == 13 ? 3 : m / 2;
    product(dtype, n, x, x, power[1]);
    for (int k = 2; k <= powers; k++)
        product(dtype, n, power[k - 1], power[1], power[k]);
    for (int odd = 1; odd >= 0; odd--) {        /* the odd powers divided by A, then the even ones */
        char *sum = odd ? u : v;
        if (m == 13) {
            scale(dtype, size, b[8 + odd], power[1], t);
            add_scaled(dtype, size, b[10 + odd], power[2], t);
            add_scaled(dtype, size, b[12 + odd], power[3], t);
            product(dtype, n, power[3], t, sum);
        } else
            memset(sum, 0, (size_t)bytes);
        for (int k = 1; k <= powers; k++)
            add_scaled(dtype, size, b[2 * k + odd], power[k], sum);
        add_to_diagonal(dtype, n, b[odd], sum);
    }
    product(dtype, n, x, u, t);
    scale(dtype, size, 1, v, u);
    add_scaled(dtype, size, 1, t, u);           /* (V - U) Y = V + U */
    add_scaled(dtype, size, -1, t, v);
    int status = fg_linalg_lu(dtype, 1, n, v, factor);
    if (status)
        return status;
    fg_linalg_solve(dtype, 1, n, n, FG_BY_LU, factor, 0, u, 0, squarings % 2 ? t : (char *)y);
    for (; squarings > 0; squarings--)
        product(dtype, n, squarings % 2 ? t : (char *)y, squarings % 2 ? t : (char *)y, squarings % 2 ? (char *)y : t);
    return FG_OK;
}

int fg_linalg_expm(int dtype, int64_t count, int64_t n, const void *a, void *y)
{
    int64_t bytes = n * n * (int64_t)fg_itemsize(dtype), of_factor = (n + 1) * n * (int64_t)fg_itemsize(dtype);
    if (n == 0 || count == 0)
        return FG_OK;
    char *room = malloc((size_t)(8 * bytes + of_factor));
    if (!room)
        return fg_fail(FG_NO_MEMORY, "no memory for a matrix exponential");
    int status = FG_OK;
    for (int64_t m = 0; !status && m < count; m++)
        status = expm(dtype, n, (const char *)a + m * bytes, (char *)y + m * bytes, room);
    free(room);
    return status;
}
