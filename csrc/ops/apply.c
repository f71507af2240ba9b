/* apply.c: the table of operations and how one is carried out.
 *
 * Every op goes through the same steps: shape and dtype of the result, an array for it, the kernel unless the op is
 * only recorded (trace.c), and a node on the tape if an input has one. Elementwise ops are driven from ops.def by the loops here, the
 * others by their own functions (structural.def). What the tape saves is read off the derivative's own text.
 */
#include "program.h"

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
static int recorded_binary_vjp(fg_node *, fg_tensor g, fg_tensor *gin);
static int vjp_by_rule(fg_node *, fg_tensor g, fg_tensor *gin);

#define STRUCTURAL(name, n, need0, need1, need2, doc)                                                         \
    int fg_##name##_shape(const fg_call *, fg_shape **, int *);                                               \
    int fg_##name##_run(const fg_call *, fg_array *);                                                         \
    int fg_##name##_vjp(fg_node *, fg_tensor, fg_tensor *);
#define KERNEL(name, n, doc)                                                                                  \
    int fg_##name##_shape(const fg_call *, fg_shape **, int *);                                               \
    int fg_##name##_run(const fg_call *, fg_array *);
#include "structural.def"
#undef STRUCTURAL
#undef KERNEL

fg_op_info fg_ops[FG_N_OPS] = {
#define STRUCTURAL(name, n, need0, need1, need2, doc)                                                         \
    [FG_OP_##name] = {#name, n, fg_##name##_shape, fg_##name##_run, fg_##name##_vjp, {need0, need1, need2}},
#define KERNEL(name, n, doc) [FG_OP_##name] = {#name, n, fg_##name##_shape, fg_##name##_run, NULL, {0}},
#include "structural.def"
#undef STRUCTURAL
#undef KERNEL
    [FG_OP_leaf] = {.name = "leaf"},
    [FG_OP_custom] = {.name = "custom", .n_in = -1, .vjp = fg_custom_vjp},
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

void fg_init(void)
{
    for (int op = 0; op < FG_N_ELEMENTWISE; op++) {
        const fg_op_text *text = &fg_texts[op];
        fg_op_info *info = &fg_ops[op];
        info->name = text->name;
        info->n_in = text->arity;
        info->vjp = text->arity == 1 ? unary_vjp : binary_vjp;
        info->recorded_vjp = text->arity == 1 ? vjp_by_rule : recorded_binary_vjp;
        for (int i = 0; i < text->arity; i++)
            info->needs[i] = (uint8_t)letters_named(text->derivative[i]);
    }
    for (int op = FG_N_ELEMENTWISE; op < FG_N_OPS; op++)
        fg_ops[op].recorded_vjp = fg_ops[op].vjp;
    static const int by_kernel[] = {FG_OP_max, FG_OP_min, FG_OP_softmax, FG_OP_log_softmax, FG_OP_logsumexp,
                                    FG_OP_cross_entropy};
    for (size_t i = 0; i < sizeof by_kernel / sizeof *by_kernel; i++)
        fg_ops[by_kernel[i]].recorded_vjp = vjp_by_rule;
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
    /* Axes from last to first into buffers 0, 1, ...; an axis joins the buffer before it where every operand
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

/* ---- comparisons, logic and where, which walk like elementwise ops ------------------------------------ */
static int run_compare(int which, const fg_call *c, fg_array *y)
{
    fg_array *a = c->in[0].array, *b = c->in[1].array;
    size_t itemsize = fg_itemsize(a->dtype);
    walk w;
    walk_start(&w, y->shape, 2, (fg_array *[]){a, b});
    for (int64_t r = 0; r < w.runs; r++, walk_next(&w))
        kernels(a->dtype)->compare[which](w.length, AT(a, w.at[0], itemsize), w.stride[0],
                                          AT(b, w.at[1], itemsize), w.stride[1],
                                          (uint8_t *)y->data + r * w.length);
    return FG_OK;
}

static int truth_shape(const fg_call *c, fg_shape **shape, int *dtype)
{
    *dtype = FG_BOOL;
    return fg_shape_made(fg_broadcast_shapes(fg_ops[c->op].name, c->in[0].array->shape, c->in[1].array->shape), shape);
}

#define COMPARE(name, which)                                                                                  \
    int fg_##name##_shape(const fg_call *c, fg_shape **y, int *dtype) { return truth_shape(c, y, dtype); }    \
    int fg_##name##_run(const fg_call *c, fg_array *y) { return run_compare(which, c, y); }
COMPARE(less, FG_LESS)
COMPARE(less_equal, FG_LESS_EQUAL)
COMPARE(greater, FG_GREATER)
COMPARE(greater_equal, FG_GREATER_EQUAL)
COMPARE(equal, FG_EQUAL)
COMPARE(not_equal, FG_NOT_EQUAL)

#define LOGIC(name, operation)                                                                                \
    int fg_##name##_shape(const fg_call *c, fg_shape **y, int *dtype) { return truth_shape(c, y, dtype); }    \
    int fg_##name##_run(const fg_call *c, fg_array *y)                                                        \
    {                                                                                                         \
        walk w;                                                                                               \
        uint8_t *to = y->data;                                                                                \
        walk_start(&w, y->shape, 2, (fg_array *[]){c->in[0].array, c->in[1].array});                          \
        for (int64_t r = 0; r < w.runs; r++, walk_next(&w)) {                                                 \
            const uint8_t *a = (const uint8_t *)c->in[0].array->data + w.at[0];                               \
            const uint8_t *b = (const uint8_t *)c->in[1].array->data + w.at[1];                               \
            for (int64_t i = 0; i < w.length; i++)                                                            \
                *to++ = a[i * w.stride[0]] operation b[i * w.stride[1]];                                      \
        }                                                                                                     \
        return FG_OK;                                                                                         \
    }
LOGIC(logical_and, &)
LOGIC(logical_or, |)
LOGIC(logical_xor, ^)

int fg_where_run(const fg_call *c, fg_array *y)
{
    fg_array *condition = c->in[0].array, *a = c->in[1].array, *b = c->in[2].array;
    size_t itemsize = fg_itemsize(y->dtype);
    walk w;
    walk_start(&w, y->shape, 3, (fg_array *[]){condition, a, b});
    for (int64_t r = 0; r < w.runs; r++, walk_next(&w))
        kernels(y->dtype)->where(w.length, (const uint8_t *)condition->data + w.at[0], w.stride[0],
                                 AT(a, w.at[1], itemsize), w.stride[1], AT(b, w.at[2], itemsize), w.stride[2],
                                 AT(y, r * w.length, itemsize));
    return FG_OK;
}

static int not_float(const char *name, const fg_array *x)
{
    return fg_fail(FG_BAD_TYPE, "%s: expected float32 or float64, got %s", name, fg_dtype_name(x->dtype));
}

/* Has the result of a call no values here, as it is only recorded? */
static inline int is_abstract(const fg_call *c) { return fg_tracing && fg_trace_is_abstract(c); }

static inline fg_array *new_result(fg_shape *shape, int dtype, int abstract)
{
    return abstract ? fg_array_abstract(shape, dtype) : fg_array_new(shape, dtype);
}

/* The last step of every op: hand out the result, on the tape if it belongs there. */
static int finish(const fg_call *call, fg_array *y, fg_tensor *out)
{
    fg_tensor result = {y, NULL};
    int status = call->op < FG_N_OPS && fg_ops[call->op].vjp ? fg_tape_record(call, &result) : FG_OK;
    if (!status && fg_tracing && (status = fg_trace_append(call, y)))
        fg_node_unref(result.node);
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
    int abstract = fg_tracing && fg_traced(x.array);
    fg_array *y = new_result(x.array->shape, x.array->dtype, abstract);
    if (!y)
        return FG_NO_MEMORY;
    if (!abstract)
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
    fg_shape *shape = fg_broadcast_shapes(fg_ops[op].name, a.array->shape, b.array->shape);
    int abstract = fg_tracing && (fg_traced(a.array) || fg_traced(b.array)), status;
    fg_array *y = shape ? new_result(shape, a.array->dtype, abstract) : NULL;
    fg_shape_unref(shape);
    if (y) {
        if (!abstract)
            run_binary(op, a.array, b.array, y);
        status = finish(&(fg_call){.op = op, .n_in = 2, .in = (fg_tensor[]){a, b}}, y, out);
    } else {
        status = fg_failed();
    }
    fg_tensor_unref(owned);
    return status;
}

static int overlap(const fg_array *x, const fg_array *y)
{
    const char *a = x->data, *b = y->data;
    return a < b + y->shape->size * (int64_t)fg_itemsize(y->dtype) &&
           b < a + x->shape->size * (int64_t)fg_itemsize(x->dtype);
}

int fg_binary_inplace(int op, fg_tensor *a, fg_tensor b)
{
    char sa[FG_SHAPE_TEXT], sb[FG_SHAPE_TEXT];
    const char *name = fg_ops[op].name;
    fg_array *x = a->array;
    if (a->node && (a->node->op == FG_OP_leaf || a->node->fixed) && fg_grad_enabled)
        return fg_fail(FG_BAD_TAPE, fg_transforms_running
                       ? "%s: an argument that is being differentiated is changed in place; make a new tensor, as in "
                         "x = x * 2 instead of x *= 2"
                       : "%s: a tensor made with requires_grad=True is changed in place while gradients are recorded; "
                         "do it under fg.no_grad(), or make a new tensor", name);
    if (!FG_IS_FLOAT(x->dtype))
        return not_float(name, x);
    if (!FG_IS_FLOAT(b.array->dtype))
        return not_float(name, b.array);
    fg_shape *shape = fg_broadcast_shapes(name, x->shape, b.array->shape);
    if (!shape)
        return fg_failed();
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
    int recorded = fg_tracing && (fg_trace_here() || fg_traced(x) || fg_traced(b.array));
    if (fg_array_is_private(x) && !recorded) {  /* a recording knows values, not memory */
        /* The node saves what it needs of x at its present version, then the change counts the version up: if
         * anybody's derivative names the old value, the backward pass finds out. */
        fg_tensor y = {x, NULL}, in[2] = {*a, b};
        fg_array *copy = NULL;
        if (overlap(x, b.array)) {              /* b is read while x is written */
            if (!(copy = fg_array_copy(b.array))) {
                fg_tensor_unref(owned);
                return FG_NO_MEMORY;
            }
            in[1].array = copy;
            if (b.array == x)
                in[0].array = copy;
        }
        fg_call call = {.op = op, .n_in = 2, .in = in};
        if (!(status = fg_tape_record(&call, &y))) {
            run_binary(op, x, in[1].array, x);
            fg_array_changed(x);
            if (y.node && y.node->saved == x)
                y.node->version = fg_array_version(x);
            else if (y.node && y.node->saved)   /* a copy of memory that others may write, made before the change */
                memcpy(y.node->saved->data, x->data, (size_t)x->shape->size * fg_itemsize(x->dtype));
            if (fg_grad_enabled) {
                fg_node_unref(a->node);
                a->node = y.node;
            }
        }
        fg_array_unref(copy);
    } else {
        fg_tensor y;
        if (!(status = fg_binary(op, *a, b, &y))) {
            a->array = y.array;
            if (fg_grad_enabled) {
                fg_node_unref(a->node);
                a->node = y.node;
            }
            fg_array_unref(x);                  /* last: it may run code of x's owner, which may look at a */
        }
    }
    fg_tensor_unref(owned);
    return status;
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
        kernel(w.length, a ? AT(a, w.at[0], itemsize) : NULL, a ? w.stride[0] : 1,
               b ? AT(b, w.at[1], itemsize) : NULL, b ? w.stride[1] : 1, y ? AT(y, at, itemsize) : NULL,
               AT(g, at, itemsize), AT(ga, at, itemsize));
    }
}

static const void *data_of(const fg_array *x) { return x ? x->data : NULL; }

int fg_run(const fg_call *c, fg_array *y)
{
    const fg_tensor *in = c->in;
    if (c->op < FG_N_UNARY) {
        kernels(y->dtype)->unary[c->op](y->shape->size, in[0].array->data, y->data);
    } else if (c->op < FG_N_ELEMENTWISE) {
        run_binary(c->op, in[0].array, in[1].array, y);
    } else if (c->op < FG_N_OPS) {
        return fg_ops[c->op].run(c, y);
    } else {
        int op = (c->op - FG_N_OPS) / 2, i = (c->op - FG_N_OPS) % 2;
        if (op < FG_N_UNARY)
            kernels(y->dtype)->unary_vjp[op](y->shape->size, data_of(in[0].array), data_of(in[1].array),
                                             in[2].array->data, y->data);
        else
            run_binary_vjp(op, i, in[0].array, in[1].array, in[2].array, in[3].array, y);
    }
    return FG_OK;
}

int fg_apply(int op, int n_in, const fg_tensor *in, int n_attr, const int64_t *attr, fg_tensor *out)
{
    if (op < FG_N_UNARY)
        return fg_unary(op, in[0], out);
    if (op < FG_N_ELEMENTWISE)
        return fg_binary(op, in[0], in[1], out);
    fg_call call = {.op = op, .n_in = n_in, .n_attr = n_attr, .in = in, .attr = attr};
    fg_shape *shape = NULL;
    int dtype, status;
    if (op < FG_N_OPS) {
        dtype = n_in ? in[0].array->dtype : 0;
        if ((status = fg_ops[op].shape(&call, &shape, &dtype)))
            return status;
    } else {                                    /* a vjp kernel: its result is like the cotangent */
        dtype = in[n_in - 1].array->dtype;
        shape = fg_shape_ref(in[n_in - 1].array->shape);
    }
    int abstract = is_abstract(&call);
    fg_array *y = FG_IS_VIEW(op) && !abstract ? fg_array_view(in[0].array, shape) : new_result(shape, dtype, abstract);
    fg_shape_unref(shape);
    if (!y)
        return FG_NO_MEMORY;
    if (!abstract && (status = fg_run(&call, y))) {
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
        gin[0] = fg_tensor_ref(g);
        return FG_OK;
    }
    const fg_tensor in[] = {{x.array, NULL}, {y.array, NULL}, {g.array, NULL}};
    return fg_apply(FG_VJP(n->op, 0), 3, in, 0, NULL, &gin[0]);
}

static int vjp_by_rule(fg_node *n, fg_tensor g, fg_tensor *gin)
{
    return fg_on_rule(n, 0, g, &gin[0]);
}

static inline int binary_rules(int recorded, fg_node *n, fg_tensor g, fg_tensor *gin)
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
            full = fg_tensor_ref(g);
        } else if (!strcmp(derivative, "-1") && !fg_shape_equal(parent->shape, n->shape)) {
            fg_tensor sum;                      /* cheaper to negate after the sum */
            if ((status = fg_sum_to(g, parent->shape, &sum)))
                return status;
            status = fg_unary(FG_OP_negative, sum, &gin[i]);
            fg_tensor_unref(sum);
            if (status)
                return status;
            continue;
        } else if (recorded) {
            if ((status = fg_on_rule(n, i, g, &full)))
                return status;
        } else {
            unsigned needs = fg_ops[n->op].needs[i];
            const fg_tensor in[] = {{needs & FG_IN(0) ? a.array : NULL, NULL},
                                    {needs & FG_IN(1) ? b.array : NULL, NULL},
                                    {needs & FG_OUT ? y.array : NULL, NULL}, {g.array, NULL}};
            if ((status = fg_apply(FG_VJP(n->op, i), 4, in, 0, NULL, &full)))
                return status;
        }
        status = fg_sum_to(full, parent->shape, &gin[i]);
        fg_tensor_unref(full);
        if (status)
            return status;
    }
    return FG_OK;
}

static int binary_vjp(fg_node *n, fg_tensor g, fg_tensor *gin) { return binary_rules(0, n, g, gin); }
static int recorded_binary_vjp(fg_node *n, fg_tensor g, fg_tensor *gin) { return binary_rules(1, n, g, gin); }

/* The derivative itself, for the table: the vjp kernel with cotangent 1. a and b have one dtype. */
int fg_derivative(int op, int i, fg_array *a, fg_array *b, fg_array **out)
{
    fg_tensor y;
    int status = b ? fg_binary(op, (fg_tensor){a, NULL}, (fg_tensor){b, NULL}, &y)
                   : fg_unary(op, (fg_tensor){a, NULL}, &y);
    if (status)
        return status;
    fg_array *one = fg_array_new(y.array->shape, y.array->dtype);
    fg_tensor d;
    if (!one) {
        status = FG_NO_MEMORY;
    } else {
        const fg_tensor in[] = {{a, NULL}, {b ? b : y.array, NULL}, {b ? y.array : one, NULL}, {one, NULL}};
        fg_kernels[one->dtype].reduce->fill(one->shape->size, 1, one->data);
        if (!(status = fg_apply(FG_VJP(op, i), b ? 4 : 3, in, 0, NULL, &d)))
            *out = d.array;
    }
    fg_array_unref(one);
    fg_tensor_unref(y);
    return status;
}
