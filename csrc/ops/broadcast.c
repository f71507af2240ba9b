/* broadcast.c: the shape that two shapes broadcast to. */
#include "fastgrad.h"

fg_shape *fg_broadcast_shapes(const char *name, const fg_shape *a, const fg_shape *b)
{
    if (fg_shape_equal(a, b))
        return fg_shape_ref((fg_shape *)a);
    int64_t dim[FG_MAX_NDIM];
    int ndim = a->ndim > b->ndim ? a->ndim : b->ndim;
    for (int i = 1; i <= ndim; i++) {           /* from the last axis */
        int64_t m = i <= a->ndim ? a->dim[a->ndim - i] : 1, n = i <= b->ndim ? b->dim[b->ndim - i] : 1;
        if (m != n && m != 1 && n != 1) {
            char sa[FG_SHAPE_TEXT], sb[FG_SHAPE_TEXT];
            fg_fail(FG_BAD_VALUE,
                    "%s: shapes %s and %s do not broadcast: axis -%d has lengths %lld and %lld, which must be equal "
                    "or one of them 1. Use reshape or expand_dims to line the axes up",
                    name, fg_shape_text(a, sa), fg_shape_text(b, sb), i, (long long)m, (long long)n);
            return NULL;
        }
        dim[ndim - i] = m == 1 ? n : m;
    }
    return fg_shape_new(ndim, dim);
}

/* The shape rule of operations whose result is like their first operand. */
int fg_same_shape(const fg_call *c, fg_shape **shape, int *dtype)
{
    *dtype = c->in[0].array->dtype;
    *shape = fg_shape_ref(c->in[0].array->shape);
    return FG_OK;
}
