/* broadcast.h: broadcasting as NumPy does it: the loops over operands of unequal shapes. They are inline, because an
 * operation on small arrays takes no longer than a function call or two.
 */
#ifndef FG_BROADCAST_H
#define FG_BROADCAST_H

#include "fastgrad.h"

#include <string.h>

/* An iterator over a result in runs: a run is a stretch of consecutive elements of the result in which each operand
 * advances by stride 0 or 1, so that one kernel call computes it. */
typedef struct {
    int ndim, n;                                /* axes left after merging, the last axis first; operands */
    int64_t length, runs;                       /* elements of a run; how many runs there are */
    int run_stride[3];                          /* of each operand along a run */
    int64_t at[3];                              /* where the present run begins in each operand, in elements */
    int64_t dim[FG_MAX_NDIM], strides[3][FG_MAX_NDIM], index[FG_MAX_NDIM];
} broadcast_iterator;

static inline void broadcast_start(broadcast_iterator *it, const fg_shape *out, int n, fg_array *const *in)
{
    int64_t extent[3] = {1, 1, 1};
    it->n = n;
    it->ndim = 0;
    /* Take the result's axes from last to first as axes 0, 1, ... of the iterator. An axis merges with the one before
     * where a single stride describes both in every operand. Axis 0 is the run. */
    for (int i = 1; i <= out->ndim; i++) {
        int64_t length = out->dim[out->ndim - i], stride[3];
        if (length == 1)
            continue;
        int merges = it->ndim > 0;
        for (int k = 0; k < n; k++) {
            const fg_shape *s = in[k]->shape;
            int64_t own = i <= s->ndim ? s->dim[s->ndim - i] : 1;
            stride[k] = own == 1 ? 0 : extent[k];
            extent[k] *= own;
            merges = merges && stride[k] == it->strides[k][it->ndim - 1] * it->dim[it->ndim - 1];
        }
        if (merges) {
            it->dim[it->ndim - 1] *= length;
            continue;
        }
        it->dim[it->ndim] = length;
        for (int k = 0; k < n; k++)
            it->strides[k][it->ndim] = stride[k];
        it->ndim++;
    }
    if (it->ndim == 0) {
        it->dim[0] = 1;
        for (int k = 0; k < n; k++)
            it->strides[k][0] = 0;
        it->ndim = 1;
    }
    it->length = it->dim[0];
    it->runs = it->length ? out->size / it->length : 0;
    for (int k = 0; k < n; k++) {
        it->run_stride[k] = (int)it->strides[k][0];
        it->at[k] = 0;
    }
    memset(it->index, 0, (size_t)it->ndim * sizeof *it->index);
}

static inline void broadcast_next(broadcast_iterator *it)
{
    for (int i = 1; i < it->ndim; i++) {
        int done = ++it->index[i] == it->dim[i];
        for (int k = 0; k < it->n; k++)
            it->at[k] += done ? -(it->dim[i] - 1) * it->strides[k][i] : it->strides[k][i];
        if (!done)
            return;
        it->index[i] = 0;
    }
}

#define AT(array, offset, itemsize) ((char *)(array)->data + (offset) * (int64_t)(itemsize))

static inline const fg_elementwise_kernels *kernels(int dtype) { return fg_kernels[dtype].elementwise; }

/* Kernels of float operations on FG_SHARED_FROM elements or more, on several threads: shared.c. */
void fg_unary_shared(int op, int dtype, int64_t n, const void *x, void *y);
void fg_binary_shared(int op, int dtype, int64_t n, const void *a, int sa, const void *b, int sb, void *y);
void fg_unary_vjp_shared(int op, int dtype, int64_t n, const void *x, const void *y, const void *g, void *gx);
void fg_binary_vjp_shared(int op, int i, int dtype, int64_t n, const void *a, int sa, const void *b, int sb,
                          const void *y, const void *g, void *ga);

/* y = op(x), elementwise; of one dtype and size */
static inline void run_unary(int op, const fg_array *x, fg_array *y)
{
    if (y->shape->size < FG_SHARED_FROM)
        kernels(y->dtype)->unary[op](y->shape->size, x->data, y->data);
    else
        fg_unary_shared(op, y->dtype, y->shape->size, x->data, y->data);
}

/* y = op(a, b), elementwise; a, b and y have one dtype, y has the broadcast shape. */
static inline void run_binary(int op, fg_array *a, fg_array *b, fg_array *y)
{
    void (*kernel)(int64_t, const void *, int, const void *, int, void *) =
        kernels(y->dtype)->binary[op - FG_N_UNARY];
    if (fg_shape_equal(a->shape, b->shape)) {
        if (y->shape->size < FG_SHARED_FROM)
            kernel(y->shape->size, a->data, 1, b->data, 1, y->data);
        else
            fg_binary_shared(op, y->dtype, y->shape->size, a->data, 1, b->data, 1, y->data);
        return;
    }
    broadcast_iterator it;
    broadcast_start(&it, y->shape, 2, (fg_array *[]){a, b});
    size_t itemsize = fg_itemsize(y->dtype);
    for (int64_t r = 0; r < it.runs; r++, broadcast_next(&it)) {
        const void *x = AT(a, it.at[0], itemsize), *z = AT(b, it.at[1], itemsize);
        if (it.length < FG_SHARED_FROM)
            kernel(it.length, x, it.run_stride[0], z, it.run_stride[1], AT(y, r * it.length, itemsize));
        else
            fg_binary_shared(op, y->dtype, it.length, x, it.run_stride[0], z, it.run_stride[1],
                             AT(y, r * it.length, itemsize));
    }
}

#endif
