/* kernel_values.c: prints what the kernels compute, for test_compilers.py to compare between compilers and machines.
 *
 * One line a result: the row, the dtype, the index, then the value as a hexadecimal float, which loses nothing. The
 * arguments are made of exact arithmetic, so that every program computes from the same bits.
 */
#include "fastgrad.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { N = 67, ROWS = 5, COLUMNS = 67 };

static double memory[2][8][ROWS * COLUMNS + 64];    /* arguments and results, large enough for whole vectors */

/* Points between lo and hi, multiples of a 128th of their distance: a's go up, b's jump about. */
static double point(double lo, double hi, int i, int which)
{
    return lo + (hi - lo) * (double)((which ? 37 * i + 11 : i + 30) % 128 + 0.5) / 128;
}

static void put(int dtype, void *to, int64_t i, double value)
{
    if (dtype == FG_FLOAT32)
        ((float *)to)[i] = (float)value;
    else
        ((double *)to)[i] = value;
}

static double get(int dtype, const void *from, int64_t i)
{
    return dtype == FG_FLOAT32 ? (double)((const float *)from)[i] : ((const double *)from)[i];
}

static void report(const char *kind, const char *name, int dtype, const void *y, int n)
{
    for (int i = 0; i < n; i++)
        printf("%s %s %s %d %a\n", kind, name, dtype == FG_FLOAT32 ? "float32" : "float64", i, get(dtype, y, i));
}

/* Values and derivatives of every row of ops.def, over the range that the row states. */
static void elementwise(int dtype)
{
    const fg_elementwise_kernels *k = fg_kernels[dtype].elementwise;
    void *a = memory[dtype][0], *b = memory[dtype][1], *y = memory[dtype][2], *g = memory[dtype][3],
         *gx = memory[dtype][4];
    for (int i = 0; i < N; i++)
        put(dtype, g, i, 1);
    for (int op = 0; op < FG_N_ELEMENTWISE; op++) {
        const fg_op_text *row = &fg_texts[op];
        int binary = op >= FG_N_UNARY;
        for (int i = 0; i < N; i++) {
            put(dtype, a, i, point(row->lo[0], row->hi[0], i, 0));
            if (binary)
                put(dtype, b, i, point(row->lo[1], row->hi[1], i, 1));
        }
        if (binary)
            k->binary[op - FG_N_UNARY](N, a, 1, b, 1, y);
        else
            k->unary[op](N, a, y);
        report("value", row->name, dtype, y, N);
        for (int i = 0; i <= binary; i++) {
            if (binary)
                k->binary_vjp[op - FG_N_UNARY][i](N, a, 1, b, 1, y, g, gx);
            else
                k->unary_vjp[op](N, a, y, g, gx);
            report(i ? "derivative_b" : "derivative", row->name, dtype, gx, N);
        }
    }
}

/* Sums, softmax, products, draws and updates. */
static void the_rest(int dtype)
{
    const fg_kernel_set *k = &fg_kernels[dtype];
    void *x = memory[dtype][0], *y = memory[dtype][1], *g = memory[dtype][2], *gx = memory[dtype][3];
    for (int i = 0; i < ROWS * COLUMNS; i++) {
        put(dtype, x, i, point(-3, 4, i, 1));
        put(dtype, g, i, point(-1, 1, i, 0));
    }
    k->reduce->sum_rows(ROWS, COLUMNS, x, y);
    report("sum", "rows", dtype, y, ROWS);
    k->reduce->sum_cols(ROWS, COLUMNS, x, y);
    report("sum", "columns", dtype, y, COLUMNS);
    k->reduce->cumsum(ROWS, COLUMNS, 1, 0, x, y);
    report("sum", "cumulative", dtype, y, ROWS * COLUMNS);
    k->reduce->max_rows(ROWS, COLUMNS, x, y);
    report("sum", "max", dtype, y, ROWS);
    k->reduce->softmax_rows(ROWS, COLUMNS, x, y);
    report("softmax", "softmax", dtype, y, ROWS * COLUMNS);
    k->reduce->logsumexp_rows(ROWS, COLUMNS, x, y);
    report("softmax", "logsumexp", dtype, y, ROWS);
    k->reduce->logsumexp_vjp_rows(ROWS, COLUMNS, x, g, gx);
    report("softmax", "logsumexp_vjp", dtype, gx, ROWS * COLUMNS);
    k->gemm->gemm(0, 1, ROWS, ROWS, COLUMNS, x, COLUMNS, x, COLUMNS, 0, y, ROWS);
    report("product", "gemm", dtype, y, ROWS * ROWS);
    uint64_t state[FG_RANDOM_WORDS] = {[FG_RANDOM_KEY] = 7, [FG_RANDOM_STREAM] = 3};
    k->random->uniform(N, state, 5, y);
    report("draws", "uniform", dtype, y, N);
    fg_adam_numbers numbers = {.learning_rate = 0.125,
                               .beta1 = 0.875,
                               .beta2 = 0.75,
                               .eps = 0.0625,
                               .correction1 = 0.125,
                               .correction2 = 0.25};
    void *moments[FG_MAX_STATES] = {memory[dtype][4], memory[dtype][5]};
    memset(moments[0], 0, sizeof memory[dtype][4]);
    memset(moments[1], 0, sizeof memory[dtype][5]);
    k->optim->update[FG_OPTIMIZER_adam](N, x, g, moments, &numbers);
    report("update", "adam", dtype, x, N);
}

int main(int n, char **isa)
{
    if (fg_kernels_select(n > 1 ? isa[1] : NULL)) {
        printf("%s\n", fg_message());
        return 1;
    }
    fg_init();
    for (int dtype = FG_FLOAT32; dtype <= FG_FLOAT64; dtype++) {
        elementwise(dtype);
        the_rest(dtype);
    }
    return 0;
}
