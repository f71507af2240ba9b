/* tape.c: the tape: operations recorded for derivatives.
 *
 * The tape is not a list but the graph of nodes itself: a node holds references to its parents, a tensor to its node,
 * so that what no tensor can reach is freed at once, by a loop, however long it is. Nodes are numbered as they are
 * made, so that a node's parents have smaller numbers: the order of numbers is a topological order.
 */
#include "core/debug.h"
#include "fastgrad.h"

#include <stdlib.h>
#include <string.h>

static uint64_t last_number;

/* ---- nodes -------------------------------------------------------------------------------------------- */
static size_t node_bytes(int n_in, int n_attr)
{
    return sizeof(fg_node) + (size_t)n_in * sizeof(fg_edge) + (size_t)n_attr * sizeof(int64_t);
}

static fg_node *node_new(int op, const fg_array *y, int n_in, int n_attr)
{
    fg_node *n = fg_alloc(node_bytes(n_in, n_attr));
    if (!n)
        return NULL;
    uint64_t number = ++last_number;
    *n = (fg_node){.refs = 1,
                   .op = (uint16_t)op,
                   .dtype = y->dtype,
                   .n_in = n_in,
                   .n_attr = n_attr,
                   .number = number,
                   .oldest_ancestor = number,
                   .shape = fg_shape_ref(y->shape)};
    n->attr = (int64_t *)&n->in[n_in];
    fg_live.nodes++;
    return n;
}

uint64_t fg_last_node_id(void) { return last_number; }

/* A leaf's one edge leads to the node of its .grad, whose array is `saved`. */
fg_node *fg_leaf(fg_array *x)
{
    fg_node *n = node_new(FG_OP_leaf, x, 1, 0);
    if (n)
        n->in[0] = (fg_edge){0};
    return n;
}

fg_node *fg_node_ref(fg_node *n)
{
    FG_ASSERT(n->refs > 0);
    n->refs++;
    return n;
}

static void unsave(fg_array **saved)
{
    if (*saved) {
        FG_ASSERT((*saved)->tape_refs > 0);
        (*saved)->tape_refs--;
        fg_array_unref(*saved);
        *saved = NULL;
    }
}

static void forget_values(fg_node *n)
{
    if (n->op == FG_OP_leaf)
        return;
    for (int i = 0; i < n->n_in; i++)
        unsave(&n->in[i].saved);
    unsave(&n->saved);
}

/* Release the caller's rule of a custom node, which may run any code. */
static void forget_rule(fg_node *n)
{
    void *rule = (void *)(intptr_t)n->attr[0];
    n->attr[0] = 0;
    if (rule)
        fg_on_release(rule);
}

void fg_node_spend(fg_node *n)
{
    n->spent = 1;
    forget_values(n);
    if (n->op == FG_OP_custom)
        forget_rule(n);
}

static void node_free(fg_node *n)
{
    FG_ASSERT(!n->grad.array);                  /* no pass has left a cotangent there */
    fg_shape_unref(n->shape);
    fg_free(n, node_bytes(n->n_in, n->n_attr));
    fg_live.nodes--;
}

/* Free dead custom nodes. A rule may hold the last references to other custom nodes, which its release adds to the
 * list: so graphs that are connected through rules are freed by this loop, too, without recursion. */
static void free_custom(fg_node *n)
{
    static _Thread_local fg_node *dead;
    static _Thread_local int freeing;
    n->next = dead;
    dead = n;
    if (freeing)
        return;
    freeing = 1;
    while ((n = dead)) {
        dead = n->next;
        forget_rule(n);
        node_free(n);
    }
    freeing = 0;
}

void fg_node_unref(fg_node *n)
{
    FG_ASSERT(!n || n->refs > 0);
    if (!n || --n->refs)
        return;
    fg_node *custom = NULL;
    n->next = NULL;
    for (fg_node *doomed = n; doomed;) {        /* a list, not recursion: graphs may be millions long */
        n = doomed;
        doomed = n->next;
        forget_values(n);
        fg_array_unref(n->saved);               /* a leaf's gradient */
        for (int i = 0; i < n->n_in; i++) {
            fg_node *parent = n->in[i].parent;
            if (parent && --parent->refs == 0) {
                parent->next = doomed;
                doomed = parent;
            }
        }
        if (n->op == FG_OP_custom) {            /* freed last, because its rule may run code */
            n->next = custom;
            custom = n;
        } else {
            node_free(n);
        }
    }
    while ((n = custom)) {
        custom = n->next;
        free_custom(n);
    }
}

fg_tensor fg_tensor_ref(fg_tensor t) { return (fg_tensor){fg_array_ref(t.array), t.node ? fg_node_ref(t.node) : NULL}; }

void fg_tensor_unref(fg_tensor t)
{
    fg_array_unref(t.array);
    fg_node_unref(t.node);
}

fg_tensor fg_leaf_grad(const fg_node *leaf)
{
    FG_ASSERT(leaf->op == FG_OP_leaf);
    return (fg_tensor){leaf->saved, leaf->in[0].parent};
}

void fg_leaf_set_grad(fg_node *leaf, fg_tensor grad)
{
    fg_tensor old = fg_leaf_grad(leaf);
    leaf->saved = grad.array;
    leaf->in[0].parent = grad.node;
    fg_tensor_unref(old);
}

void fg_leaf_abandon(fg_node *leaf)
{
    leaf->spent = 1;
    fg_leaf_set_grad(leaf, (fg_tensor){0});
}

/* ---- recording an operation ---------------------------------------------------------------------------- */
/* Save a value for the backward pass: a copy, where others may write its memory. */
static int save(fg_array *x, fg_array **saved, uint32_t *version)
{
    if (fg_array_root(x)->externally_mutable && !x->live) {
        if (!(x = fg_array_copy(x)))
            return FG_NO_MEMORY;
    } else {
        fg_array_ref(x);
    }
    x->tape_refs++;
    *saved = x;
    *version = fg_array_version(x);
    return FG_OK;
}

int fg_tape_record(const fg_call *call, fg_tensor *y)
{
    const fg_op_info *op = &fg_ops[call->op];
    unsigned needs = 0;
    int tracked = 0;
    for (int i = 0; i < call->n_in; i++)
        if (call->in[i].node) {
            tracked = 1;
            needs |= op->needs[i < 2 ? i : 2];
        }
    y->node = NULL;
    if (!tracked || !fg_grad_enabled)
        return FG_OK;
    fg_node *n = node_new(call->op, y->array, call->n_in, call->n_attr);
    if (!n)
        return FG_NO_MEMORY;
    if (call->n_attr)
        memcpy(n->attr, call->attr, (size_t)call->n_attr * sizeof *call->attr);
    int status = FG_OK;
    for (int i = 0; i < call->n_in; i++) {
        fg_edge *edge = &n->in[i];
        *edge = (fg_edge){.parent = call->in[i].node};
        if (edge->parent) {
            FG_ASSERT(edge->parent->number < n->number);
            fg_node_ref(edge->parent);
            if (edge->parent->oldest_ancestor < n->oldest_ancestor)
                n->oldest_ancestor = edge->parent->oldest_ancestor;
        }
        if (!status && i < FG_SAVED_INPUTS && (needs & FG_IN(i)))
            status = save(call->in[i].array, &edge->saved, &edge->version);
    }
    if (!status && (needs & FG_OUT))
        status = save(y->array, &n->saved, &n->version);
    if (status) {
        fg_node_unref(n);
        return status;
    }
    y->node = n;
    return FG_OK;
}

static int changed(const fg_node *n, const fg_array *value, const char *which)
{
    char shape[FG_SHAPE_TEXT];
    return fg_fail(FG_BAD_TAPE,
                   "%s: its %s of shape %s was changed in place after it was recorded, and its gradient needs "
                   "the value it had; write y = y + x instead of y += x, or change a copy",
                   fg_ops[n->op].name, which, fg_shape_text(value->shape, shape));
}

int fg_saved(const fg_node *n, int i, fg_tensor *x)
{
    const fg_edge *edge = &n->in[i];
    if (edge->saved && edge->version != fg_array_version(edge->saved))
        return changed(n, edge->saved, "input");
    *x = (fg_tensor){edge->saved, edge->parent};
    return FG_OK;
}

int fg_saved_out(fg_node *n, fg_tensor *y)
{
    if (n->saved && n->version != fg_array_version(n->saved))
        return changed(n, n->saved, "result");
    *y = (fg_tensor){n->saved, n};
    return FG_OK;
}
