/* own_decompositions.c: eigenvalues, singular values and QR factors without LAPACK, one matrix at a time, in float64.
 *
 * The methods are those with the shortest text that are accurate: Jacobi's rotations for symmetric matrices and, from
 * one side, for singular values (Golub and Van Loan, "Matrix Computations", 4th edition, sections 8.5 and 8.6),
 * Householder's reflections for QR (5.2), and for eigenvalues of other matrices the QR iteration with real shifts on a
 * Hessenberg matrix (7.5), which finds real eigenvalues only.
 */
#include "kernels/decompositions.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum { SWEEPS = 60, STEPS = 90 };   /* most sweeps of rotations, most steps for each eigenvalue */

static void set_identity(int64_t n, double *x)
{
    for (int64_t i = 0; i < n * n; i++)
        x[i] = i % (n + 1) == 0;
}

/* Rows p and q become c p - s q and s p + c q. */
static void rotate_rows(int64_t n, double *p, double *q, double c, double s)
{
    for (int64_t k = 0; k < n; k++) {
        double x = p[k], y = q[k];
        p[k] = c * x - s * y;
        q[k] = s * x + c * y;
    }
}

static void exchange_rows(int64_t n, double *p, double *q)
{
    for (int64_t k = 0; k < n; k++) {
        double x = p[k];
        p[k] = q[k];
        q[k] = x;
    }
}

/* Cosine and sine of the rotation that makes the element off the diagonal of [[a, b], [b, d]] zero. */
static void rotation(double a, double b, double d, double *c, double *s)
{
    double tau = (d - a) / (2 * b), t = 1 / (fabs(tau) + sqrt(1 + tau * tau));
    t = tau < 0 ? -t : t;
    *c = 1 / sqrt(1 + t * t);
    *s = *c * t;
}

static double largest_of(int64_t n, const double *x)
{
    double largest = 0;
    for (int64_t i = 0; i < n; i++)
        largest = fmax(largest, fabs(x[i]));
    return largest;
}

int fg_own_eigh(int64_t n, double *a, double *w, double *v)
{
    int rotated = 1, exponent;
    frexp(largest_of(n * n, a), &exponent);
    for (int64_t i = 0; i < n * n; i++)
        a[i] = ldexp(a[i], -exponent);  /* so that no difference overflows */
    double least = fmax(DBL_MIN, DBL_EPSILON / 8 * largest_of(n * n, a));     /* elements up to it count as zero */
    set_identity(n, v);
    for (int sweep = 0; rotated; sweep++) {
        if (sweep == SWEEPS)
            return 0;
        rotated = 0;
        for (int64_t p = 0; p < n; p++)
            for (int64_t q = p + 1; q < n; q++) {
                double b = a[p * n + q], c, s;
                if (fabs(b) <= least)
                    continue;
                rotated = 1;
                rotation(a[p * n + p], b, a[q * n + q], &c, &s);
                rotate_rows(n, a + p * n, a + q * n, c, s);
                for (int64_t k = 0; k < n; k++) {
                    double x = a[k * n + p], y = a[k * n + q];
                    a[k * n + p] = c * x - s * y;
                    a[k * n + q] = s * x + c * y;
                }
                a[p * n + q] = a[q * n + p] = 0;
                rotate_rows(n, v + p * n, v + q * n, c, s);
            }
    }
    for (int64_t i = 0; i < n; i++)
        w[i] = ldexp(a[i * n + i], exponent);
    for (int64_t i = 0; i < n; i++) {
        int64_t smallest = i;
        for (int64_t j = i + 1; j < n; j++)
            smallest = w[j] < w[smallest] ? j : smallest;
        exchange_rows(1, w + i, w + smallest);
        if (smallest != i)
            exchange_rows(n, v + i * n, v + smallest * n);
    }
    return 1;
}

static double dot(int64_t n, const double *x, const double *y)
{
    double sum = 0;
    for (int64_t k = 0; k < n; k++)
        sum += x[k] * y[k];
    return sum;
}

/* Row `have` of orthonormal rows of length m: the unit vector farthest from the others, made orthogonal to them. */
static void add_orthogonal_row(int64_t m, int64_t have, double *rows)
{
    double *x = rows + have * m, farthest = -1;
    int64_t best = 0;
    for (int64_t i = 0; i < m; i++) {
        double rest = 1;
        for (int64_t k = 0; k < have; k++)
            rest -= rows[k * m + i] * rows[k * m + i];
        if (rest > farthest) {
            farthest = rest;
            best = i;
        }
    }
    memset(x, 0, (size_t)m * sizeof *x);
    x[best] = 1;
    for (int twice = 0; twice < 2; twice++) {
        for (int64_t k = 0; k < have; k++) {
            double t = dot(m, x, rows + k * m);
            for (int64_t i = 0; i < m; i++)
                x[i] -= t * rows[k * m + i];
        }
        double length = sqrt(dot(m, x, x));
        for (int64_t i = 0; i < m; i++)
            x[i] /= length;
    }
}

int fg_own_svd(int64_t m, int64_t n, int64_t columns, double *a, double *s, double *u, double *v)
{
    int rotated = 1;
    double largest = largest_of(m * n, a), scale = largest > 0 ? largest : 1;
    for (int64_t i = 0; i < m * n; i++)
        a[i] /= scale;                  /* so that no square overflows */
    double least = DBL_EPSILON * sqrt(dot(m * n, a, a));       /* a column up to this length has no direction */
    set_identity(n, v);
    for (int sweep = 0; rotated; sweep++) {
        if (sweep == SWEEPS)
            return 0;
        rotated = 0;
        for (int64_t p = 0; p < n; p++)
            for (int64_t q = p + 1; q < n; q++) {
                double pp = dot(m, a + p * m, a + p * m), qq = dot(m, a + q * m, a + q * m);
                double pq = dot(m, a + p * m, a + q * m), cosine, sine;
                if (fabs(pq) <= DBL_EPSILON * sqrt((double)m) * sqrt(pp) * sqrt(qq) || sqrt(fmin(pp, qq)) <= least)
                    continue;
                rotated = 1;
                rotation(pp, pq, qq, &cosine, &sine);
                rotate_rows(m, a + p * m, a + q * m, cosine, sine);
                rotate_rows(n, v + p * n, v + q * n, cosine, sine);
            }
    }
    for (int64_t i = 0; i < n; i++)
        s[i] = sqrt(dot(m, a + i * m, a + i * m));
    for (int64_t i = 0; i < n; i++) {
        int64_t most = i;
        for (int64_t j = i + 1; j < n; j++)
            most = s[j] > s[most] ? j : most;
        exchange_rows(1, s + i, s + most);
        if (most != i) {
            exchange_rows(m, a + i * m, a + most * m);
            exchange_rows(n, v + i * n, v + most * n);
        }
    }
    int64_t rank = 0;
    for (; rank < n && s[rank] > least; rank++)
        for (int64_t k = 0; k < m; k++)
            u[rank * m + k] = a[rank * m + k] / s[rank];
    for (int64_t k = rank; k < columns; k++)
        add_orthogonal_row(m, k, u);
    for (int64_t i = 0; i < n; i++)
        s[i] *= scale;
    return 1;
}

/* x -= beta h (h^T x) for the columns of x, m by `width`, from `left` on. The vector h is 0 above row `from`, 1 in it,
 * and below it column `from` of a, m by n. */
static void reflect(int64_t m, int64_t n, int64_t from, double beta, const double *a, int64_t width, int64_t left,
                    double *x)
{
    for (int64_t j = left; j < width; j++) {
        double sum = x[from * width + j];
        for (int64_t i = from + 1; i < m; i++)
            sum += a[i * n + from] * x[i * width + j];
        sum *= beta;
        x[from * width + j] -= sum;
        for (int64_t i = from + 1; i < m; i++)
            x[i * width + j] -= sum * a[i * n + from];
    }
}

void fg_own_qr(int64_t m, int64_t n, int64_t columns, double *a, double *q, double *beta)
{
    for (int64_t k = 0; k < n; k++) {
        double below = 0, largest = 0;
        for (int64_t i = k; i < m; i++)
            largest = fmax(largest, fabs(a[i * n + k]));
        int exponent = 0;
        if (largest < DBL_MIN / DBL_EPSILON) {      /* so that no bits of its length are lost */
            frexp(largest, &exponent);
            for (int64_t i = k; i < m; i++)
                a[i * n + k] = ldexp(a[i * n + k], -exponent);
        }
        double alpha = a[k * n + k];
        for (int64_t i = k + 1; i < m; i++)
            below = hypot(below, a[i * n + k]);
        beta[k] = 0;
        if (below == 0) {
            a[k * n + k] = ldexp(alpha, exponent);
            continue;
        }
        double length = alpha > 0 ? -hypot(alpha, below) : hypot(alpha, below);    /* LAPACK's sign */
        beta[k] = (length - alpha) / length;
        for (int64_t i = k + 1; i < m; i++)
            a[i * n + k] /= alpha - length;
        reflect(m, n, k, beta[k], a, n, k + 1, a);
        a[k * n + k] = ldexp(length, exponent);
    }
    for (int64_t i = 0; i < m * columns; i++)
        q[i] = i / columns == i % columns;
    for (int64_t k = n - 1; k >= 0; k--)
        reflect(m, n, k, beta[k], a, columns, k, q);
}

/* Rotate, if `rows`, rows p and p + 1 of x from column `from` on; else columns p and p + 1 down to row `to`. */
static void rotate_both(int64_t n, double *x, int64_t p, int64_t from, int64_t to, double c, double s, int rows)
{
    if (rows)
        rotate_rows(n - from, x + p * n + from, x + (p + 1) * n + from, c, -s);
    else
        for (int64_t k = 0; k <= to; k++) {
            double *at = x + k * n + p, first = at[0];
            at[0] = c * first + s * at[1];
            at[1] = c * at[1] - s * first;
        }
}

/* A becomes a Hessenberg matrix, by rotations whose product is Z. */
static void to_hessenberg(int64_t n, double *a, double *z)
{
    for (int64_t j = 0; j + 2 < n; j++)
        for (int64_t i = n - 1; i > j + 1; i--) {
            double x = a[(i - 1) * n + j], y = a[i * n + j], r = hypot(x, y);
            if (y == 0)
                continue;
            rotate_both(n, a, i - 1, j, 0, x / r, y / r, 1);
            rotate_both(n, a, i - 1, 0, n - 1, x / r, y / r, 0);
            rotate_both(n, z, i - 1, 0, n - 1, x / r, y / r, 0);
            a[i * n + j] = 0;
        }
}

/* *shift: of the 2 by 2 block of a that ends in row `last`, the eigenvalue that is closer to its last element, or the
 * real part of both if they are not real. Returns whether they are real. */
static int shift_of(int64_t n, const double *a, int64_t last, double *shift)
{
    double p = a[(last - 1) * n + last - 1], q = a[last * n + last], half = (p - q) / 2;
    double square = half * half + a[(last - 1) * n + last] * a[last * n + last - 1];
    *shift = q;
    if (square < 0) {
        *shift = (p + q) / 2;
        return square > -1e-14 * (p * p + q * q);       /* two equal eigenvalues, rounded */
    }
    double sum = half + (half < 0 ? -sqrt(square) : sqrt(square));
    if (sum != 0)
        *shift = q - a[(last - 1) * n + last] * a[last * n + last - 1] / sum;
    return 1;
}

/* One step of the QR iteration with a shift on the block of a in rows first..last. */
static void step_of_qr(int64_t n, double *a, double *z, int64_t first, int64_t last, double shift)
{
    double x = a[first * n + first] - shift, y = a[(first + 1) * n + first];
    for (int64_t k = first; k < last; k++) {
        double r = hypot(x, y), c = r > 0 ? x / r : 1, s = r > 0 ? y / r : 0;
        rotate_both(n, a, k, k > first ? k - 1 : first, 0, c, s, 1);
        rotate_both(n, a, k, 0, k + 2 < last ? k + 2 : last, c, s, 0);
        rotate_both(n, z, k, 0, n - 1, c, s, 0);
        if (k > first)
            a[(k + 1) * n + k - 1] = 0;
        if (k + 1 < last) {
            x = a[(k + 1) * n + k];
            y = a[(k + 2) * n + k];
        }
    }
}

/* Bring a, which is a Hessenberg matrix, to a triangle. */
static int to_triangle(int64_t n, double *a, double *z, double least)
{
    for (int64_t last = n - 1, steps = 0; last > 0;) {
        int64_t first = last;
        for (; first > 0; first--) {
            double *below = a + first * n + first - 1;
            if (fabs(*below) <= least) {
                *below = 0;
                break;
            }
        }
        if (first == last) {
            last--;
            steps = 0;
            continue;
        }
        double shift;
        if (!shift_of(n, a, last, &shift) && first == last - 1)
            return FG_NOT_IMPLEMENTED;
        if (++steps > STEPS)
            return FG_BAD_MATRIX;
        if (steps % 11 == 10)
            shift += fabs(a[last * n + last - 1]);      /* out of a cycle */
        step_of_qr(n, a, z, first, last, shift);
    }
    return FG_OK;
}

/* The eigenvalues and eigenvectors of a triangle, each vector from its last element up. */
static void vectors_of_triangle(int64_t n, const double *a, double *w, double *v, double least)
{
    for (int64_t j = 0; j < n; j++) {
        double value = w[j] = a[j * n + j], length = 0;
        for (int64_t i = 0; i < n; i++)
            v[i * n + j] = i == j;
        for (int64_t i = j - 1; i >= 0; i--) {
            double sum = 0, gap = a[i * n + i] - value;
            for (int64_t k = i + 1; k <= j; k++)
                sum += a[i * n + k] * v[k * n + j];
            v[i * n + j] = -sum / (fabs(gap) < least ? least : gap);
            double size = fabs(v[i * n + j]);
            for (int64_t k = i; size > 1e100 && k <= j; k++)
                v[k * n + j] /= size;           /* the column grows with each row of a Jordan block */
        }
        for (int64_t i = 0; i < n; i++)
            length = hypot(length, v[i * n + j]);
        for (int64_t i = 0; i < n; i++)
            v[i * n + j] /= length;
    }
}

int fg_own_eig(int64_t n, double *a, double *w, double *v, double *z)
{
    double least = DBL_EPSILON * largest_of(n * n, a);  /* what the iteration takes for zero */
    set_identity(n, z);
    to_hessenberg(n, a, z);
    int status = to_triangle(n, a, z, least);
    if (status)
        return status;
    vectors_of_triangle(n, a, w, v, fmax(DBL_MIN, least));
    for (int64_t i = 0; i < n; i++) {                   /* Z V, a row of a at a time */
        for (int64_t j = 0; j < n; j++) {
            double sum = 0;
            for (int64_t k = 0; k <= j; k++)
                sum += z[i * n + k] * v[k * n + j];
            a[i * n + j] = sum;
        }
    }
    memcpy(v, a, (size_t)(n * n) * sizeof *v);
    return FG_OK;
}
