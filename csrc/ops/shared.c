/* shared.c: elementwise kernels on long operands, which several threads share.
 *
 * The result of an element depends on its operands alone (kernels.h), so that the parts may be any.
 */
#include "ops/broadcast.h"

enum { OPERANDS = 4 };
typedef struct {
    void (*unary)(int64_t, const void *, void *);
    void (*binary)(int64_t, const void *, int, const void *, int, void *);
    void (*unary_vjp)(int64_t, const void *, const void *, const void *, void *);
    void (*binary_vjp)(int64_t, const void *, int, const void *, int, const void *, const void *, void *);
    int64_t itemsize;
    const char *in[OPERANDS];   /* or NULL: a missing one */
    int stride[OPERANDS];
    char *y;
} shared_call;

static void run_range(void *context, int64_t from, int64_t to)
{
    const shared_call *c = context;
    const char *in[OPERANDS];
    int64_t n = to - from;
    char *y = c->y + from * c->itemsize;
    for (int i = 0; i < OPERANDS; i++)
        in[i] = c->in[i] ? c->in[i] + from * c->stride[i] * c->itemsize : NULL;
    if (c->unary)
        c->unary(n, in[0], y);
    else if (c->binary)
        c->binary(n, in[0], c->stride[0], in[1], c->stride[1], y);
    else if (c->unary_vjp)
        c->unary_vjp(n, in[0], in[1], in[2], y);
    else
        c->binary_vjp(n, in[0], c->stride[0], in[1], c->stride[1], in[2], in[3], y);
}

static void share(int64_t n, shared_call *c) { fg_threads_range(n, FG_SHARED_PART, run_range, c); }

void fg_unary_shared(int op, int dtype, int64_t n, const void *x, void *y)
{
    share(n, &(shared_call){.unary = kernels(dtype)->unary[op],
                            .itemsize = (int64_t)fg_itemsize(dtype),
                            .in = {x},
                            .stride = {1},
                            .y = y});
}

void fg_binary_shared(int op, int dtype, int64_t n, const void *a, int sa, const void *b, int sb, void *y)
{
    share(n, &(shared_call){.binary = kernels(dtype)->binary[op - FG_N_UNARY],
                            .itemsize = (int64_t)fg_itemsize(dtype),
                            .in = {a, b},
                            .stride = {sa, sb},
                            .y = y});
}

void fg_unary_vjp_shared(int op, int dtype, int64_t n, const void *x, const void *y, const void *g, void *gx)
{
    share(n, &(shared_call){.unary_vjp = kernels(dtype)->unary_vjp[op],
                            .itemsize = (int64_t)fg_itemsize(dtype),
                            .in = {x, y, g},
                            .stride = {1, 1, 1},
                            .y = gx});
}

void fg_binary_vjp_shared(int op, int i, int dtype, int64_t n, const void *a, int sa, const void *b, int sb,
                          const void *y, const void *g, void *ga)
{
    share(n, &(shared_call){.binary_vjp = kernels(dtype)->binary_vjp[op - FG_N_UNARY][i],
                            .itemsize = (int64_t)fg_itemsize(dtype),
                            .in = {a, b, y, g},
                            .stride = {sa, sb, 1, 1},
                            .y = ga});
}
