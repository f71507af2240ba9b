/* ops.c: the table of operations and how one is carried out.
 *
 * Every op goes through the same steps: shape and dtype of the result, an array for it, the kernel, and a
 * node on the tape if an input has one. Elementwise ops are driven from ops.def by the loops here, the
 * others by their own functions (structural.def). What the tape saves is read off the derivative's own text.
 */
#include "fastgrad.h"

#include <ctype.h>
#include <string.h>

fg_kernel_set fg_kernels[2];

const fg_op_text fg_texts[FG_N_ELEMENTWISE] = {
#define UNARY(name, def, dx, lo, hi, doc) {#name, #def, {#dx, NULL}, doc, 1, {lo, 0}, {hi, 0}},
#define BINARY(name, def, da, db, alo, ahi, blo, bhi, doc) {#name, #def, {#da, #db}, doc, 2, {alo, blo}, {ahi, bhi}},
#define UNARY_FN UNARY
#define BINARY_FN BINARY
#include "ops.def"
#undef UNARY
#undef BINARY
#undef UNARY_FN
#undef BINARY_FN
};

static int unary_vjp(fg_node *, fg_tensor g, fg_tensor *gin);
static int binary_vjp(fg_node *, fg_tensor g, fg_tensor *gin);

#define STRUCTURAL(name, n, need0, need1, need2, doc)                                                         \
    int name##_shape(const fg_call *, fg_shape **, int *);                                                    \
    int name##_run(const fg_call *, fg_array *);                                                              \
    int name##_vjp(fg_node *, fg_tensor, fg_tensor *);
#include "structural.def"
#undef STRUCTURAL

fg_op_info fg_ops[FG_N_OPS] = {
#define STRUCTURAL(name, n, need0, need1, need2, doc)                                                         \
    [FG_OP_##name] = {#name, n, name##_shape, name##_run, name##_vjp, {need0, need1, need2}},
#include "structural.def"
#undef STRUCTURAL
    [FG_OP_leaf] = {.name = "leaf"},
};

/* Which of the letters x, a, b, y stand alone in a derivative's text: those are what the tape must keep. */
static unsigned letters_named(const char *text)
{
    unsigned needs = 0;
    for (const char *c = text; *c;) {
        const char *word = c;
        while (isalnum((unsigned char)*c) || *c == '_')
            c++;
        if (c - word == 1)
            needs |= *word == 'x' || *word == 'a' ? FG_IN(0) : *word == 'b' ? FG_IN(1) : *word == 'y' ? FG_OUT : 0;
        if (c == word)
            c++;
    }
    return needs;
}

int fg_init(void)
{
    for (int op = 0; op < FG_N_ELEMENTWISE; op++) {
        const fg_op_text *text = &fg_texts[op];
        fg_op_info *info = &fg_ops[op];
        info->name = text->name;
        info->n_in = text->arity;
        info->vjp = text->arity == 1 ? unary_vjp : binary_vjp;
        for (int i = 0; i < text->arity; i++)
            info->needs[i] = (uint8_t)letters_named(text->derivative[i]);
    }
    return FG_OK;
}

/* ---- broadcasting ------------------------------------------------------------------------------------- */
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

/* A walk over a result in runs along its last axis, in which each operand moves by stride 0 or 1. */
typedef struct {
    int ndim, n;
    int64_t length, runs;
    int stride[3];                              /* along a run */
    int64_t at[3];                              /* element offset of each operand's run */
    int64_t dim[FG_MAX_NDIM], step[3][FG_MAX_NDIM], index[FG_MAX_NDIM];
} walk;

static void walk_start(walk *w, const fg_shape *out, int n, fg_array *const *in)
{
    int64_t extent[3] = {1, 1, 1};
    w->n = n;
    w->ndim = 0;
    /* Axes from last to first into slots 0, 1, ...; an axis joins the slot before it where every operand
     * keeps one pace across both. */
    for (int i = 1; i <= out->ndim; i++) {
        int64_t length = out->dim[out->ndim - i], step[3];
        if (length == 1)
            continue;
        int joins = w->ndim > 0;
        for (int k = 0; k < n; k++) {
            const fg_shape *s = in[k]->shape;
            int64_t own = i <= s->ndim ? s->dim[s->ndim - i] : 1;
            step[k] = own == 1 ? 0 : extent[k];
            extent[k] *= own;
            joins = joins && step[k] == w->step[k][w->ndim - 1] * w->dim[w->ndim - 1];
        }
        if (joins) {
            w->dim[w->ndim - 1] *= length;
            continue;
        }
        w->dim[w->ndim] = length;
        for (int k = 0; k < n; k++)
            w->step[k][w->ndim] = step[k];
        w->ndim++;
    }
    if (w->ndim == 0) {
        w->dim[0] = 1;
        for (int k = 0; k < n; k++)
            w->step[k][0] = 0;
        w->ndim = 1;
    }
    w->length = w->dim[0];
    w->runs = w->length ? out->size / w->length : 0;
    for (int k = 0; k < n; k++) {
        w->stride[k] = (int)w->step[k][0];
        w->at[k] = 0;
    }
    memset(w->index, 0, (size_t)w->ndim * sizeof *w->index);
}

static void walk_next(walk *w)
{
    for (int i = 1; i < w->ndim; i++) {
        int done = ++w->index[i] == w->dim[i];
        for (int k = 0; k < w->n; k++)
            w->at[k] += done ? -(w->dim[i] - 1) * w->step[k][i] : w->step[k][i];
        if (!done)
            return;
        w->index[i] = 0;
    }
}

#define AT(array, offset, itemsize) ((char *)(array)->data + (offset) * (int64_t)(itemsize))

/* ---- carrying out an elementwise op -------------------------------------------------------------------- */
static const fg_elementwise_kernels *kernels(int dtype) { return fg_kernels[dtype].elementwise; }

static void run_binary(int op, fg_array *a, fg_array *b, fg_array *y)
{
    void (*kernel)(int64_t, const void *, int, const void *, int, void *) =
        kernels(y->dtype)->binary[op - FG_N_UNARY];
    if (fg_shape_equal(a->shape, b->shape)) {
        kernel(y->shape->size, a->data, 1, b->data, 1, y->data);
        return;
    }
    walk w;
    walk_start(&w, y->shape, 2, (fg_array *[]){a, b});
    size_t itemsize = fg_itemsize(y->dtype);
    for (int64_t r = 0; r < w.runs; r++, walk_next(&w))
        kernel(w.length, AT(a, w.at[0], itemsize), w.stride[0], AT(b, w.at[1], itemsize), w.stride[1],
               AT(y, r * w.length, itemsize));
}

int fg_compare(int compare, fg_array *a, fg_array *b, fg_array **out)
{
    static const char *const names[] = {"less", "less_equal", "greater", "greater_equal", "equal", "not_equal"};
    fg_shape *shape = fg_broadcast_shapes(names[compare], a->shape, b->shape);
    fg_array *y = shape ? fg_array_new(shape, FG_BOOL) : NULL;
    fg_shape_unref(shape);
    if (!y)
        return shape ? FG_NO_MEMORY : FG_BAD_VALUE;
    walk w;
    walk_start(&w, y->shape, 2, (fg_array *[]){a, b});
    size_t itemsize = fg_itemsize(a->dtype);
    for (int64_t r = 0; r < w.runs; r++, walk_next(&w))
        kernels(a->dtype)->compare[compare](w.length, AT(a, w.at[0], itemsize), w.stride[0],
                                            AT(b, w.at[1], itemsize), w.stride[1],
                                            (uint8_t *)y->data + r * w.length);
    *out = y;
    return FG_OK;
}

int fg_where_run_arrays(fg_array *c, fg_array *a, fg_array *b, fg_array *y)
{
    walk w;
    walk_start(&w, y->shape, 3, (fg_array *[]){c, a, b});
    size_t itemsize = fg_itemsize(y->dtype);
    for (int64_t r = 0; r < w.runs; r++, walk_next(&w))
        kernels(y->dtype)->where(w.length, (const uint8_t *)c->data + w.at[0], w.stride[0],
                                 AT(a, w.at[1], itemsize), w.stride[1], AT(b, w.at[2], itemsize), w.stride[2],
                                 AT(y, r * w.length, itemsize));
    return FG_OK;
}

static int not_float(const char *name, const fg_array *x)
{
    return fg_fail(FG_BAD_TYPE, "%s: expected float32 or float64, got %s", name, fg_dtype_name(x->dtype));
}

/* The last step of every op: hand out the result, on the tape if it belongs there. */
static int finish(const fg_call *call, fg_array *y, fg_tensor *out)
{
    fg_tensor result = {y, NULL};
    int status = fg_record(call, &result);
    if (status) {
        fg_array_unref(y);
        return status;
    }
    *out = result;
    return FG_OK;
}

int fg_unary(int op, fg_tensor x, fg_tensor *out)
{
    if (!FG_IS_FLOAT(x.array->dtype))
        return not_float(fg_ops[op].name, x.array);
    fg_array *y = fg_array_new(x.array->shape, x.array->dtype);
    if (!y)
        return FG_NO_MEMORY;
    kernels(y->dtype)->unary[op](y->shape->size, x.array->data, y->data);
    return finish(&(fg_call){.op = op, .n_in = 1, .in = &x}, y, out);
}

/* Bring the narrower of two float operands to the other's dtype, on the tape. */
static int promote(const char *name, fg_tensor *a, fg_tensor *b, fg_tensor *owned)
{
    *owned = (fg_tensor){0};
    if (!FG_IS_FLOAT(a->array->dtype))
        return not_float(name, a->array);
    if (!FG_IS_FLOAT(b->array->dtype))
        return not_float(name, b->array);
    if (a->array->dtype == b->array->dtype)
        return FG_OK;
    fg_tensor *narrow = a->array->dtype == FG_FLOAT32 ? a : b;
    int64_t wide = FG_FLOAT64;
    int status = fg_apply(FG_OP_cast, 1, narrow, 1, &wide, owned);
    if (!status)
        *narrow = *owned;
    return status;
}

int fg_binary(int op, fg_tensor a, fg_tensor b, fg_tensor *out)
{
    fg_tensor owned = {0};
    if (a.array->dtype != b.array->dtype || !FG_IS_FLOAT(a.array->dtype)) {
        int status = promote(fg_ops[op].name, &a, &b, &owned);
        if (status)
            return status;
    }
    int status = FG_BAD_VALUE;
    fg_shape *shape = fg_broadcast_shapes(fg_ops[op].name, a.array->shape, b.array->shape);
    if (shape) {
        fg_array *y = fg_array_new(shape, a.array->dtype);
        fg_shape_unref(shape);
        status = FG_NO_MEMORY;
        if (y) {
            run_binary(op, a.array, b.array, y);
            status = finish(&(fg_call){.op = op, .n_in = 2, .in = (fg_tensor[]){a, b}}, y, out);
        }
    }
    fg_tensor_unref(owned);
    return status;
}

int fg_binary_inplace(int op, fg_tensor *a, fg_tensor b)
{
    char sa[FG_SHAPE_TEXT], sb[FG_SHAPE_TEXT];
    const char *name = fg_ops[op].name;
    fg_array *x = a->array;
    if (a->node && a->node->op == FG_OP_leaf && fg_grad_enabled)
        return fg_fail(FG_BAD_TAPE,
                       "%s: a tensor made with requires_grad=True is changed in place while gradients are recorded; "
                       "do it under fg.no_grad(), or make a new tensor", name);
    if (!FG_IS_FLOAT(x->dtype))
        return not_float(name, x);
    if (!FG_IS_FLOAT(b.array->dtype))
        return not_float(name, b.array);
    fg_shape *shape = fg_broadcast_shapes(name, x->shape, b.array->shape);
    if (!shape)
        return FG_BAD_VALUE;
    int fits = fg_shape_equal(shape, x->shape);
    fg_shape_unref(shape);
    if (!fits)
        return fg_fail(FG_BAD_VALUE, "%s: an in-place change cannot stretch shape %s to take in shape %s", name,
                       fg_shape_text(x->shape, sa), fg_shape_text(b.array->shape, sb));

    int status = FG_OK;
    fg_tensor owned = {0};
    if (b.array->dtype != x->dtype) {           /* as NumPy's "same_kind": the result keeps a's dtype */
        int64_t dtype = x->dtype;
        if ((status = fg_apply(FG_OP_cast, 1, &b, 1, &dtype, &owned)))
            return status;
        b = owned;
    }
    if (fg_array_is_private(x) && b.array->data != x->data) {
        /* The node saves what it needs of x at its present version, then the change counts the version up: if
         * anybody's derivative names the old value, the backward pass finds out. */
        fg_tensor y = {x, NULL};
        fg_call call = {.op = op, .n_in = 2, .in = (fg_tensor[]){*a, b}};
        if (!(status = fg_record(&call, &y))) {
            run_binary(op, x, b.array, x);
            fg_array_changed(x);
            if (y.node && y.node->saved)
                y.node->version = fg_array_version(x);
            if (fg_grad_enabled) {
                fg_node_unref(a->node);
                a->node = y.node;
            }
        }
    } else {
        fg_tensor y;
        if (!(status = fg_binary(op, *a, b, &y))) {
            fg_array_unref(x);
            a->array = y.array;
            if (fg_grad_enabled) {
                fg_node_unref(a->node);
                a->node = y.node;
            }
        }
    }
    fg_tensor_unref(owned);
    return status;
}

int fg_apply(int op, int n_in, const fg_tensor *in, int n_attr, const int64_t *attr, fg_tensor *out)
{
    if (op < FG_N_UNARY)
        return fg_unary(op, in[0], out);
    if (op < FG_N_ELEMENTWISE)
        return fg_binary(op, in[0], in[1], out);
    const fg_op_info *info = &fg_ops[op];
    fg_call call = {.op = op, .n_in = n_in, .n_attr = n_attr, .in = in, .attr = attr};
    fg_shape *shape = NULL;
    int dtype = in[0].array->dtype;
    int status = info->shape(&call, &shape, &dtype);
    if (status)
        return status;
    fg_array *y = op == FG_OP_reshape ? fg_array_view(in[0].array, shape) : fg_array_new(shape, dtype);
    fg_shape_unref(shape);
    if (!y)
        return FG_NO_MEMORY;
    if ((status = info->run(&call, y))) {
        fg_array_unref(y);
        return status;
    }
    return finish(&call, y, out);
}

/* ---- derivatives of elementwise ops --------------------------------------------------------------------- */
static int unary_vjp(fg_node *n, fg_tensor g, fg_tensor *gin)
{
    fg_tensor x, y;
    int status;
    if ((status = fg_saved(n, 0, &x)) || (status = fg_saved_out(n, &y)))
        return status;
    if (!strcmp(fg_texts[n->op].derivative[0], "1")) {
        gin[0].array = fg_array_ref(g.array);
        return FG_OK;
    }
    fg_array *gx = fg_array_new(n->shape, n->dtype);
    if (!gx)
        return FG_NO_MEMORY;
    kernels(n->dtype)->unary_vjp[n->op](n->shape->size, x.array ? x.array->data : NULL,
                                        y.array ? y.array->data : NULL, g.array->data, gx->data);
    gin[0].array = gx;
    return FG_OK;
}

/* ga = g * d/d(input i), full length. a, b, y are NULL where the derivative does not name them. */
static void run_binary_vjp(int op, int i, fg_array *a, fg_array *b, fg_array *y, fg_array *g, fg_array *ga)
{
    void (*kernel)(int64_t, const void *, int, const void *, int, const void *, const void *, void *) =
        kernels(ga->dtype)->binary_vjp[op - FG_N_UNARY][i];
    size_t itemsize = fg_itemsize(ga->dtype);
    walk w;
    walk_start(&w, ga->shape, 2, (fg_array *[]){a ? a : ga, b ? b : ga});
    for (int64_t r = 0; r < w.runs; r++, walk_next(&w)) {
        int64_t at = r * w.length;
        kernel(w.length, a ? AT(a, w.at[0], itemsize) : NULL, w.stride[0],
               b ? AT(b, w.at[1], itemsize) : NULL, w.stride[1], y ? AT(y, at, itemsize) : NULL,
               AT(g, at, itemsize), AT(ga, at, itemsize));
    }
}

static int binary_vjp(fg_node *n, fg_tensor g, fg_tensor *gin)
{
    fg_tensor a, b, y;
    int status;
    if ((status = fg_saved(n, 0, &a)) || (status = fg_saved(n, 1, &b)) || (status = fg_saved_out(n, &y)))
        return status;
    for (int i = 0; i < 2; i++) {
        const char *derivative = fg_texts[n->op].derivative[i];
        fg_node *parent = n->in[i].parent;
        if (!parent)
            continue;
        fg_tensor full = {0};
        if (!strcmp(derivative, "1")) {
            full.array = fg_array_ref(g.array);
        } else if (!strcmp(derivative, "-1") && !fg_shape_equal(parent->shape, n->shape)) {
            fg_tensor sum;                      /* cheaper to negate after the sum */
            if ((status = fg_sum_to(g, parent->shape, &sum)))
                return status;
            status = fg_unary(FG_OP_negative, sum, &gin[i]);
            fg_tensor_unref(sum);
            if (status)
                return status;
            continue;
        } else {
            if (!(full.array = fg_array_new(n->shape, n->dtype)))
                return FG_NO_MEMORY;
            unsigned needs = fg_ops[n->op].needs[i];
            run_binary_vjp(n->op, i, needs & FG_IN(0) ? a.array : NULL, needs & FG_IN(1) ? b.array : NULL,
                           needs & FG_OUT ? y.array : NULL, g.array, full.array);
        }
        status = fg_sum_to(full, parent->shape, &gin[i]);
        fg_tensor_unref(full);
        if (status)
            return status;
    }
    return FG_OK;
}

/* The derivative itself, for the table: the vjp kernel with cotangent 1. */
int fg_derivative(int op, int i, fg_array *a, fg_array *b, fg_array **out)
{
    fg_tensor y;
    int status = b ? fg_binary(op, (fg_tensor){a, NULL}, (fg_tensor){b, NULL}, &y)
                   : fg_unary(op, (fg_tensor){a, NULL}, &y);
    if (status)
        return status;
    fg_array *d = fg_array_new(y.array->shape, y.array->dtype);
    fg_array *one = d ? fg_array_new(y.array->shape, y.array->dtype) : NULL;
    if (!one || a->dtype != y.array->dtype || (b && b->dtype != a->dtype)) {
        status = one ? fg_fail(FG_BAD_TYPE, "%s: its arguments must have one dtype", fg_ops[op].name) : FG_NO_MEMORY;
        fg_array_unref(d);
    } else {
        fg_kernels[d->dtype].reduce->fill(d->shape->size, 1, one->data);
        if (b)
            run_binary_vjp(op, i, a, b, y.array, one, d);
        else
            kernels(d->dtype)->unary_vjp[op](d->shape->size, a->data, y.array->data, one->data, d->data);
        *out = d;
    }
    fg_array_unref(one);
    fg_tensor_unref(y);
    return status;
}
