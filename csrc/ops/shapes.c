/* shapes.c: operations that move elements without computing: casts, views, slices.
 *
 * All are linear, and the adjoint of each is another operation: of slice it is unslice, of broadcast_to a sum.
 * So the vjp rules below are calls of operations, and differentiable in turn. Tensors are always contiguous: a
 * transpose or a slice copies, once, by fg_copy_strided.
 */
#include "fastgrad.h"

#include <string.h>

static const char *name_of(const fg_call *c) { return fg_ops[c->op].name; }

static void contiguous_strides(const fg_shape *s, int64_t *stride)
{
    int64_t extent = 1;
    for (int i = s->ndim - 1; i >= 0; i--) {
        stride[i] = extent;
        extent *= s->dim[i];
    }
}

/* ---- cast --------------------------------------------------------------------------------------------- */
int fg_cast_shape(const fg_call *c, fg_shape **shape, int *dtype)
{
    int status = fg_same_shape(c, shape, dtype);
    *dtype = (int)c->attr[0];
    return status;
}

#define EACH(T, ...)                \
    for (int64_t i = 0; i < n; i++) \
        ((T *)y)[i] = __VA_ARGS__;  \
    break;

enum { PART = 256 };    /* elements that are converted at a time */

/* Integers and booleans are converted by way of int64, which holds the bits of all of them. */
static void to_int64(int dtype, int64_t n, const void *x, int64_t *y)
{
    switch (dtype) {
    case FG_INT8:
        EACH(int64_t, ((const int8_t *)x)[i])
    case FG_INT16:
        EACH(int64_t, ((const int16_t *)x)[i])
    case FG_INT32:
        EACH(int64_t, ((const int32_t *)x)[i])
    case FG_UINT16:
        EACH(int64_t, ((const uint16_t *)x)[i])
    case FG_UINT32:
        EACH(int64_t, ((const uint32_t *)x)[i])
    case FG_INT64:
    case FG_UINT64:
        EACH(int64_t, ((const int64_t *)x)[i])
    default:
        EACH(int64_t, ((const uint8_t *)x)[i])
    }
}

static void from_int64(int dtype, int64_t n, const int64_t *x, int from_uint64, void *y)
{
    switch (dtype) {
    case FG_FLOAT32:
        EACH(float, from_uint64 ? (float)(uint64_t)x[i] : (float)x[i])
    case FG_FLOAT64:
        EACH(double, from_uint64 ? (double)(uint64_t)x[i] : (double)x[i])
    case FG_BOOL:
        EACH(uint8_t, x[i] != 0)
    case FG_INT8:
    case FG_UINT8:
        EACH(uint8_t, (uint8_t)x[i])
    case FG_INT16:
    case FG_UINT16:
        EACH(uint16_t, (uint16_t)x[i])
    case FG_INT32:
    case FG_UINT32:
        EACH(uint32_t, (uint32_t)x[i])
    default:
        EACH(int64_t, x[i])
    }
}
#undef EACH

/* The bounds between which a truncated float is an integer of each dtype: low < x < high. */
/* clang-format off */
static const struct { double low, high; } bounds[FG_N_DTYPES] = {
    [FG_INT8] = {-0x1p7 - 1, 0x1p7},       [FG_UINT8] = {-1, 0x1p8},
    [FG_INT16] = {-0x1p15 - 1, 0x1p15},    [FG_UINT16] = {-1, 0x1p16},
    [FG_INT32] = {-0x1p31 - 1, 0x1p31},    [FG_UINT32] = {-1, 0x1p32},
    [FG_INT64] = {-0x1.0000000000001p63, 0x1p63}, [FG_UINT64] = {-1, 0x1p64},
};
/* clang-format on */

/* Truncate at most PART floats to integers; to booleans, y is whether they are not 0. Returns 0 where one is nan or out
 * of bounds. */
static int truncated(int from, int to, int64_t n, const void *x, int64_t *y)
{
    const double low = bounds[to].low, high = bounds[to].high;
    double v[PART];
    int fit = 1;
    for (int64_t i = 0; i < n; i++) {
        v[i] = from == FG_FLOAT32 ? ((const float *)x)[i] : ((const double *)x)[i];
        fit &= (low < v[i]) & (v[i] < high);
    }
    if (to == FG_BOOL)
        for (int64_t i = 0; i < n; i++)
            y[i] = v[i] != 0;
    else if (!fit)
        return 0;
    else if (to == FG_UINT64)
        for (int64_t i = 0; i < n; i++)
            y[i] = (int64_t)(uint64_t)v[i];
    else
        for (int64_t i = 0; i < n; i++)
            y[i] = (int64_t)v[i];
    return 1;
}

/* Do integers of one dtype, as int64 or the bits of uint64, all have the same value in another? */
static int all_fit(int from, int to, int64_t n, const int64_t *x)
{
    for (int64_t i = 0; i < n; i++)
        if (x[i] < 0 && (from == FG_UINT64 || to >= FG_UINT8))
            return 0;
        else if (fg_itemsize(to) < sizeof *x && !(bounds[to].low < (double)x[i] && (double)x[i] < bounds[to].high))
            return 0;
    return 1;
}

static int refuse_cast(const fg_call *c, fg_array *y)
{
    return fg_on_refused ? fg_on_refused(c, y)
                         : fg_fail(FG_BAD_VALUE, "cast: a number is out of bounds for %s", fg_dtype_name(y->dtype));
}

int fg_cast_run(const fg_call *c, fg_array *y)
{
    const fg_array *x = c->in[0].array;
    int64_t n = y->shape->size, wide[PART];
    if (x->dtype == y->dtype)
        memcpy(y->data, x->data, (size_t)n * fg_itemsize(y->dtype));
    else if (FG_IS_FLOAT(x->dtype) && !FG_IS_FLOAT(y->dtype))
        for (int64_t i = 0; i < n; i += PART) {
            int64_t part = n - i < PART ? n - i : PART;
            if (!truncated(x->dtype, y->dtype, part, (const char *)x->data + i * (int64_t)fg_itemsize(x->dtype), wide))
                return refuse_cast(c, y);
            from_int64(y->dtype, part, wide, 0, (char *)y->data + i * (int64_t)fg_itemsize(y->dtype));
        }
    else if (!FG_IS_FLOAT(x->dtype) && (y->dtype == FG_INT64 || y->dtype == FG_UINT64) && c->n_attr == 1)
        to_int64(x->dtype, n, x->data, y->data);
    else if (!FG_IS_FLOAT(x->dtype))
        for (int64_t i = 0; i < n; i += PART) {
            int64_t part = n - i < PART ? n - i : PART;
            to_int64(x->dtype, part, (const char *)x->data + i * (int64_t)fg_itemsize(x->dtype), wide);
            if (c->n_attr > 1 && !all_fit(x->dtype, y->dtype, part, wide))
                return refuse_cast(c, y);
            from_int64(y->dtype, part, wide, x->dtype == FG_UINT64,
                       (char *)y->data + i * (int64_t)fg_itemsize(y->dtype));
        }
    else
        fg_kernels[x->dtype].elementwise->cast(y->shape->size, x->data, y->data);
    return FG_OK;
}

int fg_cast_vjp(fg_node *n, fg_tensor g, fg_tensor *gin)
{
    int64_t dtype = n->in[0].parent->dtype;
    return fg_apply(FG_OP_cast, 1, &g, 1, &dtype, &gin[0]);
}

/* ---- reshape ------------------------------------------------------------------------------------------ */
int fg_reshape_shape(const fg_call *c, fg_shape **shape, int *dtype)
{
    (void)dtype;
    int status = fg_shape_made(fg_shape_new(c->n_attr, c->attr), shape);
    if (!status && (*shape)->size != c->in[0].array->shape->size) {
        char from[FG_SHAPE_TEXT], to[FG_SHAPE_TEXT];
        status = fg_fail(FG_BAD_VALUE, "reshape: shape %s has %lld elements, %s would have %lld",
                         fg_shape_text(c->in[0].array->shape, from), (long long)c->in[0].array->shape->size,
                         fg_shape_text(*shape, to), (long long)(*shape)->size);
        fg_shape_unref(*shape);
    }
    return status;
}

FG_NOTHING_TO_RUN(reshape)

int fg_reshape_vjp(fg_node *n, fg_tensor g, fg_tensor *gin)
{
    const fg_shape *s = n->in[0].parent->shape;
    return fg_apply(FG_OP_reshape, 1, &g, s->ndim, s->dim, &gin[0]);
}

/* ---- barrier: the same value, which programs neither merge with another nor replace by its operand ---------- */
FG_SHAPE_RULE(barrier, fg_same_shape)
FG_NOTHING_TO_RUN(barrier)

int fg_barrier_vjp(fg_node *n, fg_tensor g, fg_tensor *gin)
{
    (void)n;
    gin[0] = fg_tensor_ref(g);
    return FG_OK;
}

/* ---- transpose ---------------------------------------------------------------------------------------- */
int fg_transpose_shape(const fg_call *c, fg_shape **shape, int *dtype)
{
    (void)dtype;
    int64_t dim[FG_MAX_NDIM];
    for (int i = 0; i < c->n_attr; i++)
        dim[i] = c->in[0].array->shape->dim[c->attr[i]];
    return fg_shape_made(fg_shape_new(c->n_attr, dim), shape);
}

int fg_transpose_run(const fg_call *c, fg_array *y)
{
    const fg_array *x = c->in[0].array;
    int64_t own[FG_MAX_NDIM], from[FG_MAX_NDIM], to[FG_MAX_NDIM];
    contiguous_strides(x->shape, own);
    contiguous_strides(y->shape, to);
    for (int i = 0; i < c->n_attr; i++)
        from[i] = own[c->attr[i]];
    fg_copy_strided(c->n_attr, y->shape->dim, fg_itemsize(y->dtype), y->data, to, x->data, from);
    return FG_OK;
}

int fg_transpose_vjp(fg_node *n, fg_tensor g, fg_tensor *gin)
{
    int64_t inverse[FG_MAX_NDIM];
    for (int i = 0; i < n->n_attr; i++)
        inverse[n->attr[i]] = i;
    return fg_apply(FG_OP_transpose, 1, &g, n->n_attr, inverse, &gin[0]);
}

/* ---- broadcast_to ------------------------------------------------------------------------------------- */
int fg_broadcast_to_shape(const fg_call *c, fg_shape **shape, int *dtype)
{
    (void)dtype;
    const fg_shape *from = c->in[0].array->shape;
    int status = fg_shape_made(fg_shape_new(c->n_attr, c->attr), shape);
    if (status)
        return status;
    int lead = (*shape)->ndim - from->ndim, fits = lead >= 0;
    for (int i = 0; fits && i < from->ndim; i++)
        fits = from->dim[i] == 1 || from->dim[i] == (*shape)->dim[lead + i];
    if (fits)
        return FG_OK;
    char a[FG_SHAPE_TEXT], b[FG_SHAPE_TEXT];
    fg_fail(FG_BAD_VALUE,
            "broadcast_to: shape %s does not stretch to %s: aligned at the last axis, each length must "
            "be 1 or that of the target",
            fg_shape_text(from, a), fg_shape_text(*shape, b));
    fg_shape_unref(*shape);
    return FG_BAD_VALUE;
}

int fg_broadcast_to_run(const fg_call *c, fg_array *y)
{
    const fg_array *x = c->in[0].array;
    int64_t own[FG_MAX_NDIM], from[FG_MAX_NDIM], to[FG_MAX_NDIM];
    int lead = y->shape->ndim - x->shape->ndim;
    contiguous_strides(x->shape, own);
    contiguous_strides(y->shape, to);
    for (int i = 0; i < y->shape->ndim; i++)
        from[i] = i < lead || x->shape->dim[i - lead] == 1 ? 0 : own[i - lead];
    fg_copy_strided(y->shape->ndim, y->shape->dim, fg_itemsize(y->dtype), y->data, to, x->data, from);
    return FG_OK;
}

int fg_broadcast_to_vjp(fg_node *n, fg_tensor g, fg_tensor *gin)
{
    return fg_sum_to(g, n->in[0].parent->shape, &gin[0]);
}

/* ---- slice and unslice -------------------------------------------------------------------------------- */
/* attr holds three numbers for each axis: start, step, and the length of the result along it. The Python layer has
 * resolved negative and missing bounds, so that every index start + i step is within the axis. */
static void sliced_strides(const fg_shape *whole, const int64_t *attr, int64_t *stride, int64_t *offset)
{
    *offset = 0;
    contiguous_strides(whole, stride);
    for (int i = 0; i < whole->ndim; i++) {
        *offset += attr[3 * i] * stride[i];
        stride[i] *= attr[3 * i + 1];
    }
}

static int lengths_shape(const fg_call *c, fg_shape **shape, int *dtype)
{
    (void)dtype;
    int64_t dim[FG_MAX_NDIM];
    for (int i = 0; i < c->n_attr / 3; i++)
        dim[i] = c->attr[3 * i + 2];
    return fg_shape_made(fg_shape_new(c->n_attr / 3, dim), shape);
}

FG_SHAPE_RULE(slice, lengths_shape)
FG_SHAPE_RULE(unslice, lengths_shape)

int fg_slice_run(const fg_call *c, fg_array *y)
{
    const fg_array *x = c->in[0].array;
    int64_t from[FG_MAX_NDIM], to[FG_MAX_NDIM], offset;
    if (y->shape->size == 0)
        return FG_OK;
    sliced_strides(x->shape, c->attr, from, &offset);
    contiguous_strides(y->shape, to);
    size_t itemsize = fg_itemsize(y->dtype);
    fg_copy_strided(y->shape->ndim, y->shape->dim, itemsize, y->data, to,
                    (const char *)x->data + offset * (int64_t)itemsize, from);
    return FG_OK;
}

static int slice_adjoint(int op, fg_node *n, fg_tensor g, fg_tensor *gin)
{
    int64_t attr[3 * FG_MAX_NDIM];
    for (int i = 0; i < n->shape->ndim; i++) {
        attr[3 * i] = n->attr[3 * i];
        attr[3 * i + 1] = n->attr[3 * i + 1];
        attr[3 * i + 2] = n->in[0].parent->shape->dim[i];
    }
    return fg_apply(op, 1, &g, n->n_attr, attr, &gin[0]);
}

int fg_slice_vjp(fg_node *n, fg_tensor g, fg_tensor *gin) { return slice_adjoint(FG_OP_unslice, n, g, gin); }

/* In a program, the sum of several unslices, of which each has its own attributes, or a concatenation: so many elements
 * at a time that they stay in a cache until all pieces are there. Returns 0 where it has to be computed otherwise. */
static int join_pieces(const fg_call *c, fg_array *y)
{
    enum { AT_A_TIME = 4096 };
    const int64_t *part[FG_MAX_PIECES];
    const void *x[FG_MAX_PIECES];
    fg_joined joined;
    if (c->n_in > FG_MAX_PIECES)
        return 0;
    for (int k = 0; k < c->n_in; k++) {
        part[k] = c->in[k].array->shape->dim;
        x[k] = c->in[k].array->data;
    }
    if (!fg_joined_find(&joined, c->op == FG_OP_unslice, c->n_in, part, c->attr, y->shape->ndim, y->shape->dim))
        return 0;
    int64_t itemsize = (int64_t)fg_itemsize(y->dtype);
    for (int64_t from = 0; from < y->shape->size; from += AT_A_TIME) {
        int64_t n = y->shape->size - from < AT_A_TIME ? y->shape->size - from : AT_A_TIME;
        fg_joined_read(&joined, y->dtype, from, n, x, (char *)y->data + from * itemsize);
    }
    return 1;
}

int fg_unslice_run(const fg_call *c, fg_array *y)
{
    if (c->n_in > 1)                            /* made by fg_pass_join_paddings, which has found that it can be */
        return join_pieces(c, y) ? FG_OK : FG_BAD_VALUE;
    const fg_array *x = c->in[0].array;
    int64_t from[FG_MAX_NDIM], to[FG_MAX_NDIM], offset;
    size_t itemsize = fg_itemsize(y->dtype);
    sliced_strides(y->shape, c->attr, to, &offset);
    contiguous_strides(x->shape, from);
    char *start = (char *)y->data + offset * (int64_t)itemsize;
    char *end = (char *)y->data + y->shape->size * (int64_t)itemsize;
    if (x->data == start && x->shape->size) {   /* in a program: x was computed inside y, as one run (lower.c) */
        char *rest = start + x->shape->size * (int64_t)itemsize;
        memset(y->data, 0, (size_t)(start - (char *)y->data));
        memset(rest, 0, (size_t)(end - rest));
        return FG_OK;
    }
    memset(y->data, 0, (size_t)(end - (char *)y->data));
    if (x->shape->size)
        fg_copy_strided(x->shape->ndim, x->shape->dim, itemsize, start, to, x->data, from);
    return FG_OK;
}

int fg_unslice_vjp(fg_node *n, fg_tensor g, fg_tensor *gin) { return slice_adjoint(FG_OP_slice, n, g, gin); }

/* ---- concatenate -------------------------------------------------------------------------------------- */
int fg_concatenate_shape(const fg_call *c, fg_shape **shape, int *dtype)
{
    const fg_array *first = c->in[0].array;
    int axis = (int)c->attr[0];
    int64_t dim[FG_MAX_NDIM];
    memcpy(dim, first->shape->dim, (size_t)first->shape->ndim * sizeof *dim);
    dim[axis] = 0;
    for (int k = 0; k < c->n_in; k++) {
        const fg_array *x = c->in[k].array;
        int fits = x->shape->ndim == first->shape->ndim;
        for (int i = 0; fits && i < first->shape->ndim; i++)
            fits = i == axis || x->shape->dim[i] == dim[i];
        if (!fits) {
            char a[FG_SHAPE_TEXT], b[FG_SHAPE_TEXT];
            return fg_fail(FG_BAD_VALUE,
                           "%s: input 0 has shape %s, input %d has %s: all lengths but that of axis %d "
                           "must agree",
                           name_of(c), fg_shape_text(first->shape, a), k, fg_shape_text(x->shape, b), axis);
        }
        if (dim[axis] <= INT64_MAX / 16)        /* beyond that fg_shape_new refuses it, however much longer it is */
            dim[axis] += x->shape->dim[axis];
    }
    *dtype = first->dtype;
    return fg_shape_made(fg_shape_new(first->shape->ndim, dim), shape);
}

int fg_concatenate_run(const fg_call *c, fg_array *y)
{
    enum { SHORT_ROW = 512, MANY = 64 };        /* bytes; parts: so many short ones are not copied one by one */
    int axis = (int)c->attr[0];
    int64_t outer = 1, inner = (int64_t)fg_itemsize(y->dtype), at = 0;
    for (int i = 0; i < axis; i++)
        outer *= y->shape->dim[i];
    for (int i = axis + 1; i < y->shape->ndim; i++)
        inner *= y->shape->dim[i];
    int64_t row = inner * y->shape->dim[axis];
    if (row < SHORT_ROW && outer * c->n_in >= MANY && join_pieces(c, y))
        return FG_OK;
    for (int k = 0; k < c->n_in; k++) {
        const fg_array *x = c->in[k].array;
        int64_t part = inner * x->shape->dim[axis];
        for (int64_t i = 0; part && i < outer; i++)
            memcpy((char *)y->data + i * row + at, (const char *)x->data + i * part, (size_t)part);
        at += part;
    }
    return FG_OK;
}

int fg_concatenate_vjp(fg_node *n, fg_tensor g, fg_tensor *gin)
{
    int axis = (int)n->attr[0], ndim = n->shape->ndim;
    int64_t attr[3 * FG_MAX_NDIM], at = 0;
    for (int i = 0; i < ndim; i++) {
        attr[3 * i] = 0;
        attr[3 * i + 1] = 1;
        attr[3 * i + 2] = n->shape->dim[i];
    }
    for (int k = 0; k < n->n_in; k++) {
        int64_t part = n->attr[1 + k];
        attr[3 * axis] = at;
        attr[3 * axis + 2] = part;
        at += part;
        if (!n->in[k].parent)
            continue;
        int status = fg_apply(FG_OP_slice, 1, &g, 3 * ndim, attr, &gin[k]);
        if (status)
            return status;
    }
    return FG_OK;
}
