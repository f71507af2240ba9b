/* forward.c: forward mode, over the tape of reverse mode.
 *
 * The nodes between the arguments and the results are taken oldest first. What a node has saved for its vjp is what its
 * jvp needs, since both read the same derivatives: for an elementwise operation the kernel of the vjp is called with
 * the tangent for the cotangent. Rules of few other operations are here; the others are the caller's. A pass that is
 * to be differentiated again is the caller's work as a whole (_rules/jvp.py).
 */
#include "forward.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_INPUTS = 8 };       /* of a node whose tangents are on the stack */

typedef struct {
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

/* Give *t the shape of a node's result. Takes over the reference. */
static int stretch(fg_tensor *t, const fg_shape *shape)
{
    if (fg_shape_equal(t->array->shape, shape))
        return FG_OK;
    fg_tensor whole;
    int status = fg_apply(FG_OP_broadcast_to, 1, t, shape->ndim, shape->dim, &whole);
    release(t);
    if (!status)
        *t = whole;
    return status;
}

/* *total += term, of which *total may be missing. Takes over the references. */
static int add_term(fg_tensor *total, fg_tensor term)
{
    if (!total->array) {
        *total = term;
        return FG_OK;
    }
    fg_tensor sum;
    int status = fg_binary(FG_OP_add, *total, term, &sum);
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
static int elementwise_term(fg_node *node, int i, fg_tensor t, fg_tensor *term)
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
    int status = stretch(&whole, node->shape);
    if (status)
        return status;
    operands[node->n_in + 1] = whole;
    status = fg_apply(FG_VJP(node->op, i), node->n_in + 2, operands, 0, NULL, term);
    fg_tensor_unref(whole);
    return status;
}

static int push_elementwise(fg_node *node, const fg_tensor *t, fg_tensor *out)
{
    for (int i = 0; i < node->n_in; i++) {
        if (!t[i].array || !strcmp(fg_texts[node->op].derivative[i], "0"))
            continue;
        fg_tensor term;
        int status = elementwise_term(node, i, t[i], &term);
        if (!status)
            status = add_term(out, term);
        if (status)
            return status;
    }
    return out->array ? stretch(out, node->shape) : FG_OK;
}

/* The operation on the tangent of input i and the other inputs, of which there are few. */
static int linear_term(const fg_node *node, int i, fg_tensor t, fg_tensor *term)
{
    fg_tensor operands[MOST_INPUTS];
    for (int k = 0; k < node->n_in; k++) {
        int status = k != i ? constant(node, k, &operands[k]) : FG_OK;
        if (status)
            return status;
    }
    operands[i] = t;
    return fg_apply(node->op, node->n_in, operands, node->n_attr, node->attr, term);
}

static int push_linear(const fg_node *node, int n, const fg_tensor *t, fg_tensor *out)
{
    for (int i = 0; i < n; i++) {
        fg_tensor term;
        int status = t[i].array ? linear_term(node, i, t[i], &term) : FG_OK;
        if (!status && t[i].array)
            status = add_term(out, term);
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
        status = push_elementwise(node, t, out);
    else if (how[node->op] == FG_PUSH_LINEAR && node->n_in <= MOST_INPUTS)
        status = push_linear(node, 1, t, out);
    else if (how[node->op] == FG_PUSH_PRODUCT)
        status = push_linear(node, 2, t, out);
    else if (how[node->op] == FG_PUSH_TOGETHER && is_whole)
        status = fg_apply(node->op, node->n_in, t, node->n_attr, node->attr, out);
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

int fg_push(int n_y, const fg_tensor *y, int n, fg_node *const *wrt, const fg_tensor *tangents, const uint8_t *how,
            fg_push_rule *rule, void *context, fg_tensor *out)
{
    forward_pass p = {.n = n, .wrt = wrt};
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
