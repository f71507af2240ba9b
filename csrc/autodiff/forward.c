/* forward.c: forward mode, over the tape of reverse mode.
 *
 * The nodes between the arguments and the results are taken oldest first. What a node has saved for its vjp is what its
 * jvp needs, since both read the same derivatives: for an elementwise operation the kernel of the vjp is called with
 * the tangent for the cotangent. Rules of few other operations are here; the others are the caller's. A pass that is
 * to be differentiated again is the caller's work as a whole (_rules/jvp.py).
 *
 * A pass may push several directions together. Then each tangent has a first axis with a row for each of them, and what
 * a rule applies to tangents gets its shape and memory once, and runs row by row. So short arrays cost little more than
 * in one direction, and no operation needs a rule for stacks.
 */
#include "forward.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_INPUTS = 8 };       /* of a node whose tangents are on the stack */

typedef struct {
    int64_t directions;         /* rows of each tangent; 0: there is one direction, and tangents have no such axis */
    int n;                      /* arguments: their tangents are the first ones */
    fg_node *const *wrt;
    int64_t count;              /* nodes, oldest first, whose tangents follow */
    fg_node **nodes;
    fg_tensor *tangent;
    int64_t *last_read;         /* of each tangent: which node reads it last; `count`: it belongs to a result */
} forward_pass;

/* The place of a node's tangent; -1: it has none. */
static int64_t place_of(const forward_pass *p, const fg_node *node)
{
    int64_t low = 0, high = p->count;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (p->nodes[middle]->number < node->number)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < p->count && p->nodes[low] == node)
        return p->n + low;
    for (int i = 0; i < p->n; i++)
        if (p->wrt[i] == node)
            return i;
    return -1;
}

static void release(fg_tensor *t)
{
    fg_tensor_unref(*t);
    *t = (fg_tensor){NULL, NULL};
}

/* ---- operations on tangents ---- */
enum { ALL = -1 };              /* all operands are tangents */

/* The shape of a row, and that of a tangent with such rows. */
static fg_shape *row_shape(const fg_array *t) { return fg_shape_new(t->shape->ndim - 1, t->shape->dim + 1); }

static fg_shape *shape_of_rows(int64_t rows, const fg_shape *row)
{
    int64_t dim[FG_MAX_NDIM + 1] = {rows};
    memcpy(dim + 1, row->dim, (size_t)row->ndim * sizeof *dim);
    return fg_shape_new(row->ndim + 1, dim);
}

/* The shape and dtype of what a call gives. */
static int find_result(const fg_call *c, fg_shape **shape, int *dtype)
{
    const fg_array *first = c->in[0].array, *last = c->in[c->n_in - 1].array;
    if (c->op >= FG_N_ELEMENTWISE && c->op < FG_N_OPS) {
        *dtype = first->dtype;
        return fg_ops[c->op].shape(c, shape, dtype);
    }
    *dtype = last->dtype;
    return fg_shape_made(c->op >= FG_N_OPS ? fg_shape_ref(last->shape) /* of an elementwise derivative: the tangent's */
                                           : fg_broadcast_shapes(fg_ops[c->op].name, first->shape, last->shape),
                         shape);
}

/* Run a call for each row. An operand with a `step` has a header, which goes on by so many bytes to the next row; so
 * does y, by y_step. */
static int run_rows(fg_call *c, int64_t rows, fg_array *header, const size_t *step, fg_array *y, size_t y_step)
{
    int (*run)(const fg_call *, fg_array *) = fg_run_of(c->op);
    for (int64_t k = 0; k < rows; k++) {
        int status = run(c, y);
        if (status)
            return status;
        for (int i = 0; i < c->n_in; i++)
            if (step[i])
                header[i].data = (char *)header[i].data + step[i];
        y->data = (char *)y->data + y_step;
    }
    return FG_OK;
}

/* The result of a call on operands of which number `moving`, or all, are tangents with rows. A view of such tangents is
 * one view, whatever its rows: their elements are contiguous. */
static int apply_to_rows(int64_t rows, fg_call c, int moving, fg_tensor *out)
{
    enum { FEW = MOST_INPUTS + 2 };
    struct {
        fg_array header[FEW];
        fg_tensor in[FEW];
        size_t step[FEW];
    } few;
    fg_array *header = few.header, first;
    fg_tensor *in = few.in;
    size_t *step = few.step;
    fg_shape *row = NULL, *whole = NULL;
    int dtype, status = FG_OK, made = 0;
    void *many = c.n_in > FEW ? malloc((size_t)c.n_in * (sizeof *header + sizeof *in + sizeof *step)) : NULL;
    if (c.n_in > FEW) {
        if (!many)
            return fg_fail(FG_NO_MEMORY, "no memory for the tangents of %d inputs", c.n_in);
        header = many;
        in = (fg_tensor *)(header + c.n_in);
        step = (size_t *)(in + c.n_in);
    }
    for (; made < c.n_in && !status; made++) {
        fg_array *x = c.in[made].array;
        in[made] = (fg_tensor){x, NULL};
        step[made] = 0;
        if (moving != ALL && made != moving)
            continue;
        header[made] = *x;
        in[made].array = &header[made];
        if (!(header[made].shape = row_shape(x)))
            status = fg_failed();
        else
            step[made] = (size_t)header[made].shape->size * fg_itemsize(x->dtype);
    }
    const fg_tensor *given = c.in;
    c.in = in;
    if (!status)
        status = find_result(&c, &row, &dtype);
    if (!status && !(whole = shape_of_rows(rows, row)))
        status = fg_failed();
    if (!status) {
        int is_view = fg_flags(c.op) & FG_IS_VIEW;
        fg_array *y = is_view ? fg_array_view(given[0].array, whole) : fg_array_new(whole, dtype);
        if (!y) {
            status = fg_failed();
        } else if (!is_view) {
            first = *y;
            first.shape = row;
            status = run_rows(&c, rows, header, step, &first, (size_t)row->size * fg_itemsize(dtype));
        }
        *out = (fg_tensor){y, NULL};
        if (status)
            release(out);
    }
    for (int i = 0; i < made; i++)
        if (in[i].array == &header[i])
            fg_shape_unref(header[i].shape);
    fg_shape_unref(row);
    fg_shape_unref(whole);
    free(many);
    return status;
}

/* A product of which one operand is a tangent whose rows are vectors: all rows times the other operand are one product.
 * *is_one: whether the call was of that kind. */
static int multiply_rows(int64_t rows, const fg_call *c, int moving, fg_tensor *out, int *is_one)
{
    const fg_array *t = c->in[moving].array, *other = c->in[1 - moving].array;
    const int64_t *dim = t->shape->dim, entered = c->attr[moving];
    *is_one = c->n_attr == 2 && t->shape->ndim == 3 && other->shape->ndim == 2 && dim[moving == entered ? 1 : 2] == 1;
    if (!*is_one)
        return FG_OK;
    fg_tensor vectors, product;
    int status = fg_apply(FG_OP_reshape, 1, &c->in[moving], 2, (int64_t[]){rows, dim[1] * dim[2]}, &vectors);
    if (status)
        return status;
    /* x^T B as it is; for A x its transpose, x^T A^T */
    status = fg_apply(FG_OP_matmul, 2, (fg_tensor[]){vectors, {c->in[1 - moving].array, NULL}}, 2,
                      (int64_t[]){0, moving ? !c->attr[0] : c->attr[1]}, &product);
    fg_tensor_unref(vectors);
    if (status)
        return status;
    int64_t n = product.array->shape->dim[1];
    status = fg_apply(FG_OP_reshape, 1, &product, 3, (int64_t[]){rows, moving ? n : 1, moving ? 1 : n}, out);
    fg_tensor_unref(product);
    return status;
}

/* Apply an operation to operands of which number `moving`, or all, are tangents. */
static int apply(const forward_pass *p, int op, int n_in, const fg_tensor *in, int moving, int n_attr,
                 const int64_t *attr, fg_tensor *out)
{
    if (!p->directions)
        return fg_apply(op, n_in, in, n_attr, attr, out);
    fg_call c = {.op = op, .n_in = n_in, .n_attr = n_attr, .in = in, .attr = attr};
    int is_one = 0, status = FG_OK;
    if (op == FG_OP_matmul && moving != ALL)
        status = multiply_rows(p->directions, &c, moving, out, &is_one);
    return status || is_one ? status : apply_to_rows(p->directions, c, moving, out);
}

/* Whether a tangent has the shape of a value. */
static int has_shape(const forward_pass *p, const fg_array *t, const fg_shape *shape)
{
    int axes = p->directions != 0;
    return t->shape->ndim == axes + shape->ndim &&
           !memcmp(t->shape->dim + axes, shape->dim, (size_t)shape->ndim * sizeof *shape->dim);
}

/* Give *t the shape of a node's result. Takes over the reference. */
static int stretch(const forward_pass *p, fg_tensor *t, const fg_shape *shape)
{
    if (has_shape(p, t->array, shape))
        return FG_OK;
    fg_tensor whole;
    int status = apply(p, FG_OP_broadcast_to, 1, t, 0, shape->ndim, shape->dim, &whole);
    release(t);
    if (!status)
        *t = whole;
    return status;
}

/* *total += term, of which *total may be missing. Takes over the references. */
static int add_term(const forward_pass *p, fg_tensor *total, fg_tensor term)
{
    if (!total->array) {
        *total = term;
        return FG_OK;
    }
    fg_tensor sum;
    int status = fg_shape_equal(total->array->shape, term.array->shape)
                     ? fg_binary(FG_OP_add, *total, term, &sum)
                     : apply(p, FG_OP_add, 2, (fg_tensor[]){*total, term}, ALL, 0, NULL, &sum);
    release(total);
    fg_tensor_unref(term);
    if (!status)
        *total = sum;
    return status;
}

/* Input i as a constant. */
static int constant(const fg_node *node, int i, fg_tensor *x)
{
    int status = fg_saved(node, i, x);
    x->node = NULL;
    return status;
}

/* The tangent t of input i times the derivative by it. */
static int elementwise_term(const forward_pass *p, fg_node *node, int i, fg_tensor t, fg_tensor *term)
{
    const fg_op_info *info = &fg_ops[node->op];
    fg_tensor operands[4] = {{NULL, NULL}};
    if (info->unit[i] == 1) {
        *term = fg_tensor_ref(t);
        return FG_OK;
    }
    if (info->unit[i] == -1)
        return fg_unary(FG_OP_negative, t, term);
    for (int k = 0; k < node->n_in; k++) {
        int status = info->needs[i] & FG_IN(k) ? constant(node, k, &operands[k]) : FG_OK;
        if (status)
            return status;
    }
    if (info->needs[i] & FG_OUT) {
        int status = fg_saved_out(node, &operands[node->n_in]);
        if (status)
            return status;
        operands[node->n_in].node = NULL;
    }
    fg_tensor whole = fg_tensor_ref(t);
    int status = stretch(p, &whole, node->shape);
    if (status)
        return status;
    operands[node->n_in + 1] = whole;
    status = apply(p, FG_VJP(node->op, i), node->n_in + 2, operands, node->n_in + 1, 0, NULL, term);
    fg_tensor_unref(whole);
    return status;
}

static int push_elementwise(const forward_pass *p, fg_node *node, const fg_tensor *t, fg_tensor *out)
{
    for (int i = 0; i < node->n_in; i++) {
        if (!t[i].array || !strcmp(fg_texts[node->op].derivative[i], "0"))
            continue;
        fg_tensor term;
        int status = elementwise_term(p, node, i, t[i], &term);
        if (!status)
            status = add_term(p, out, term);
        if (status)
            return status;
    }
    return out->array ? stretch(p, out, node->shape) : FG_OK;
}

/* The operation on the tangent of input i and the other inputs, of which there are few. */
static int linear_term(const forward_pass *p, const fg_node *node, int i, fg_tensor t, fg_tensor *term)
{
    fg_tensor operands[MOST_INPUTS];
    for (int k = 0; k < node->n_in; k++) {
        int status = k != i ? constant(node, k, &operands[k]) : FG_OK;
        if (status)
            return status;
    }
    operands[i] = t;
    return apply(p, node->op, node->n_in, operands, i, node->n_attr, node->attr, term);
}

static int push_linear(const forward_pass *p, const fg_node *node, int n, const fg_tensor *t, fg_tensor *out)
{
    for (int i = 0; i < n; i++) {
        fg_tensor term;
        int status = t[i].array ? linear_term(p, node, i, t[i], &term) : FG_OK;
        if (!status && t[i].array)
            status = add_term(p, out, term);
        if (status)
            return status;
    }
    return FG_OK;
}

/* Push the tangents of its inputs through node k. */
static int push_node(forward_pass *p, int64_t k, const uint8_t *how, fg_push_rule *rule, void *context)
{
    fg_node *node = p->nodes[k];
    fg_tensor few[MOST_INPUTS], *t = few, *out = &p->tangent[p->n + k];
    int is_zero = 1, is_whole = 1, status = FG_OK;
    if (node->n_in > MOST_INPUTS && !(t = malloc((size_t)node->n_in * sizeof *t)))
        return fg_fail(FG_NO_MEMORY, "no memory for the tangents of %d inputs", node->n_in);
    for (int i = 0; i < node->n_in; i++) {
        int64_t place = node->in[i].parent ? place_of(p, node->in[i].parent) : -1;
        t[i] = place >= 0 ? p->tangent[place] : (fg_tensor){NULL, NULL};
        is_zero &= !t[i].array;
        is_whole &= !!t[i].array;
    }
    if (is_zero)
        status = FG_OK;
    else if (node->spent)
        status = fg_fail(FG_BAD_TAPE, "this graph was used up by a backward pass in a rule of forward mode, and its "
                                      "values are freed; differentiate in that rule by fastgrad.grad or vjp");
    else if (node->op < FG_N_ELEMENTWISE)
        status = push_elementwise(p, node, t, out);
    else if (how[node->op] == FG_PUSH_LINEAR && node->n_in <= MOST_INPUTS)
        status = push_linear(p, node, 1, t, out);
    else if (how[node->op] == FG_PUSH_PRODUCT)
        status = push_linear(p, node, 2, t, out);
    else if (how[node->op] == FG_PUSH_TOGETHER && is_whole)
        status = apply(p, node->op, node->n_in, t, ALL, node->n_attr, node->attr, out);
    else
        status = rule(context, node, t, out);
    if (t != few)
        free(t);
    for (int i = 0; i < node->n_in; i++) {
        int64_t place = node->in[i].parent ? place_of(p, node->in[i].parent) : -1;
        if (place >= 0 && p->last_read[place] == k)
            release(&p->tangent[place]); /* memory holds only the tangents that are still to be read */
    }
    return status;
}

int fg_push(int n_y, const fg_tensor *y, int n, fg_node *const *wrt, const fg_tensor *tangents, int64_t directions,
            const uint8_t *how, fg_push_rule *rule, void *context, fg_tensor *out)
{
    forward_pass p = {.directions = directions, .n = n, .wrt = wrt};
    int status = fg_tape_between(n_y, y, n, wrt, &p.count, &p.nodes);
    size_t places = (size_t)n + (size_t)p.count + 1;
    for (int i = 0; i < n_y; i++)
        out[i] = (fg_tensor){NULL, NULL};
    if (!status) {
        p.tangent = calloc(places, sizeof *p.tangent);
        p.last_read = calloc(places, sizeof *p.last_read);
        if (!p.tangent || !p.last_read)
            status = fg_fail(FG_NO_MEMORY, "no memory for the tangents of %lld operations", (long long)p.count);
    }
    for (int i = 0; !status && i < n; i++)
        if (tangents[i].array)
            p.tangent[i] = fg_tensor_ref(tangents[i]);
    for (int64_t k = 0; !status && k < p.count; k++)
        for (int i = 0; i < p.nodes[k]->n_in; i++) {
            int64_t place = p.nodes[k]->in[i].parent ? place_of(&p, p.nodes[k]->in[i].parent) : -1;
            if (place >= 0)
                p.last_read[place] = k;
        }
    for (int i = 0; !status && i < n_y; i++) {
        int64_t place = y[i].node ? place_of(&p, y[i].node) : -1;
        if (place >= 0)
            p.last_read[place] = p.count;
    }
    int within = fg_thread.in_pass;
    fg_thread.in_pass = 1;
    for (int64_t k = 0; !status && k < p.count; k++)
        status = push_node(&p, k, how, rule, context);
    fg_thread.in_pass = within;
    for (int i = 0; !status && i < n_y; i++) {
        int64_t place = y[i].node ? place_of(&p, y[i].node) : -1;
        if (place >= 0 && p.tangent[place].array)
            out[i] = fg_tensor_ref(p.tangent[place]);
    }
    for (size_t i = 0; p.tangent && i + 1 < places; i++)
        fg_tensor_unref(p.tangent[i]);
    free(p.nodes);
    free(p.tangent);
    free(p.last_read);
    return status;
}
