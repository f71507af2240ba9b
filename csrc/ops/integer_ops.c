/* integer_ops.c: operations on integers and booleans: the elementwise ones of integers.def, and those on indices. */
#include "ops/broadcast.h"

/* The caller's NumPy computes y where a kernel refuses an element. */
static int refused(const fg_call *c, fg_array *y)
{
    return fg_on_refused ? fg_on_refused(c, y)
                         : fg_fail(FG_BAD_VALUE, "%s: a division by 0, a quotient that overflows, or a negative power",
                                   fg_ops[c->op].name);
}

int fg_integer_run(const fg_call *c, fg_array *y)
{
    fg_array *a = c->in[0].array, *b = c->n_in > 1 ? c->in[1].array : NULL;
    const fg_integer_kernel *k = fg_integer_kernel_of(c->op, a->dtype);
    if (k->unary) {
        k->unary(y->shape->size, a->data, y->data);
        return FG_OK;
    }
    if (k->checked && a->shape->size == 1 && b->shape->size == 1)
        return k->checked(1, a->data, 1, b->data, 1, y->data) ? refused(c, y) : FG_OK;
    size_t itemsize = fg_itemsize(a->dtype), result = fg_itemsize(y->dtype);
    broadcast_iterator it;
    broadcast_start(&it, y->shape, 2, (fg_array *[]){a, b});
    for (int64_t r = 0; r < it.runs; r++, broadcast_next(&it)) {
        const void *from = AT(a, it.at[0], itemsize), *other = AT(b, it.at[1], itemsize);
        void *to = AT(y, r * it.length, result);
        if (k->binary)
            k->binary(it.length, from, it.run_stride[0], other, it.run_stride[1], to);
        else if (k->checked(it.length, from, it.run_stride[0], other, it.run_stride[1], to))
            return refused(c, y);
    }
    return FG_OK;
}

static int integer_shape(const fg_call *c, fg_shape **shape, int *dtype)
{
    const fg_array *a = c->in[0].array, *b = c->in[c->n_in - 1].array;
    *dtype = a->dtype;
    if (a->dtype != b->dtype || !fg_integer_kernel_of(c->op, a->dtype))
        return fg_fail(FG_BAD_TYPE, "%s: expected integers of one dtype, got %s and %s", fg_ops[c->op].name,
                       fg_dtype_name(a->dtype), fg_dtype_name(b->dtype));
    return fg_shape_made(fg_broadcast_shapes(fg_ops[c->op].name, a->shape, b->shape), shape);
}

#define INTEGERS(name)                                                                                       \
    int fg_##name##_shape(const fg_call *c, fg_shape **y, int *dtype) { return integer_shape(c, y, dtype); } \
    int fg_##name##_run(const fg_call *c, fg_array *y) { return fg_integer_run(c, y); }
INTEGERS(invert)
INTEGERS(bitwise_and)
INTEGERS(bitwise_or)
INTEGERS(bitwise_xor)
INTEGERS(left_shift)
INTEGERS(right_shift)

/* ---- indices ----------------------------------------------------------------------------------------------------- */
/* An index into an axis, counted from its first element, or -1: it is outside. */
static int64_t place_of(int64_t i, int64_t length)
{
    i += i < 0 ? length : 0;
    return i < 0 || i >= length ? -1 : i;
}

FG_SHAPE_RULE(position, fg_same_shape)

int fg_position_run(const fg_call *c, fg_array *y)
{
    const int64_t *x = c->in[0].array->data;
    int64_t *to = y->data;
    for (int64_t i = 0; i < y->shape->size; i++)
        if ((to[i] = place_of(x[i], c->attr[0])) < 0)
            return fg_index_outside("indexing", x[i], -1, c->attr[0]);
    return FG_OK;
}

int fg_last_writer_shape(const fg_call *c, fg_shape **shape, int *dtype)
{
    const fg_shape *x = c->in[0].array->shape;
    int64_t dim[FG_MAX_NDIM];
    memcpy(dim, x->dim, (size_t)x->ndim * sizeof *dim);
    dim[x->ndim - 1] = c->attr[0];
    *dtype = FG_INT64;
    return fg_shape_made(fg_shape_new(x->ndim, dim), shape);
}

/* The message names what the user has called: the indices of other updates have been checked before. */
int fg_last_writer_run(const fg_call *c, fg_array *y)
{
    const fg_shape *s = c->in[0].array->shape;
    int64_t n = s->dim[s->ndim - 1], length = c->attr[0], rows = n ? s->size / n : 0;
    const int64_t *x = c->in[0].array->data;
    memset(y->data, -1, (size_t)y->shape->size * sizeof *x);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < n; i++) {
            int64_t place = place_of(x[r * n + i], length);
            if (place < 0)
                return fg_index_outside("put_along_axis", x[r * n + i], -1, length);
            ((int64_t *)y->data)[r * length + place] = i;
        }
    return FG_OK;
}
