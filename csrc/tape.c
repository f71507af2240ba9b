/* tape.c: what reverse mode remembers, and the backward pass.
 *
 * The tape is not a list but the graph of nodes itself: a node holds its parents, a tensor holds its node, so
 * what no tensor can reach is freed at once. Nodes are numbered as they are made, and a node's parents have
 * smaller numbers: taking always the largest number that has received a cotangent visits every node once,
 * after all its users. Neither the pass nor the freeing of a graph recurses, however long the graph is.
 */
#include "fastgrad.h"

#include <stdlib.h>
#include <string.h>

_Thread_local int fg_grad_enabled = 1;
_Thread_local int fg_transforms_running;
static uint64_t last_number;

/* ---- nodes -------------------------------------------------------------------------------------------- */
static size_t node_bytes(int n_in, int n_attr)
{
    return sizeof(fg_node) + (size_t)n_in * sizeof(fg_edge) + (size_t)n_attr * sizeof(int64_t);
}

static fg_node *node_new(int op, fg_array *y, int n_in, int n_attr)
{
    fg_node *n = fg_alloc(node_bytes(n_in, n_attr));
    if (!n)
        return NULL;
    *n = (fg_node){.refs = 1, .op = (uint16_t)op, .dtype = y->dtype, .n_in = n_in, .n_attr = n_attr,
                   .number = ++last_number, .shape = fg_shape_ref(y->shape)};
    n->attr = (int64_t *)&n->in[n_in];
    fg_live.nodes++;
    return n;
}

fg_node *fg_leaf(fg_array *x)
{
    return node_new(FG_OP_leaf, x, 0, 0);
}

fg_node *fg_node_ref(fg_node *n)
{
    n->refs++;
    return n;
}

static void unsave(fg_array **saved)
{
    if (*saved) {
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

void fg_node_unref(fg_node *n)
{
    if (!n || --n->refs)
        return;
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
        fg_array_unref(n->grad.array);
        fg_shape_unref(n->shape);
        fg_free(n, node_bytes(n->n_in, n->n_attr));
        fg_live.nodes--;
    }
}

void fg_tensor_unref(fg_tensor t)
{
    fg_array_unref(t.array);
    fg_node_unref(t.node);
}

/* ---- recording ---------------------------------------------------------------------------------------- */
/* Keep a value for the backward pass: a copy where somebody outside may still write it. */
static int save(fg_array *x, fg_array **saved, uint32_t *version)
{
    if (fg_array_root(x)->unstable) {
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

int fg_record(const fg_call *call, fg_tensor *y)
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
        if (edge->parent)
            fg_node_ref(edge->parent);
        if (!status && i < 3 && (needs & FG_IN(i)))
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

int fg_saved_out(const fg_node *n, fg_tensor *y)
{
    if (n->saved && n->version != fg_array_version(n->saved))
        return changed(n, n->saved, "result");
    *y = (fg_tensor){n->saved, NULL};
    return FG_OK;
}

/* ---- the backward pass -------------------------------------------------------------------------------- */
typedef struct {
    fg_node **node;
    int64_t n, capacity;
} node_list;

static int append(node_list *list, fg_node *n)
{
    if (list->n == list->capacity) {
        int64_t capacity = list->capacity ? 2 * list->capacity : 64;
        fg_node **grown = realloc(list->node, (size_t)capacity * sizeof *grown);
        if (!grown)
            return fg_fail(FG_NO_MEMORY, "no memory for the backward pass");
        list->node = grown;
        list->capacity = capacity;
    }
    list->node[list->n++] = n;
    return FG_OK;
}

/* A binary heap, the newest node on top. */
static int push(node_list *heap, fg_node *n)
{
    int status = append(heap, n);
    if (status)
        return status;
    int64_t i = heap->n - 1;
    for (; i && heap->node[(i - 1) / 2]->number < n->number; i = (i - 1) / 2)
        heap->node[i] = heap->node[(i - 1) / 2];
    heap->node[i] = n;
    n->queued = 1;
    return FG_OK;
}

static fg_node *pop(node_list *heap)
{
    fg_node *top = heap->node[0], *last = heap->node[--heap->n];
    int64_t i = 0, child;
    while ((child = 2 * i + 1) < heap->n) {
        if (child + 1 < heap->n && heap->node[child + 1]->number > heap->node[child]->number)
            child++;
        if (heap->node[child]->number <= last->number)
            break;
        heap->node[i] = heap->node[child];
        i = child;
    }
    if (heap->n)
        heap->node[i] = last;
    top->queued = 0;
    return top;
}

/* sum += g, taking over the reference g. The first contribution is kept as it is, later ones are added, in
 * place where nobody else looks at the sum. */
static int accumulate(fg_array **sum, fg_array *g)
{
    if (!*sum) {
        *sum = g;
        return FG_OK;
    }
    fg_tensor total = {*sum, NULL};
    int status = fg_binary_inplace(FG_OP_add, &total, (fg_tensor){g, NULL});
    *sum = total.array;
    fg_array_unref(g);
    return status;
}

static void drop_cotangent(fg_node *n)
{
    fg_array_unref(n->grad.array);
    n->grad.array = NULL;
    n->queued = 0;
}

static int send(node_list *heap, fg_node *to, fg_array *g)
{
    int status = accumulate(&to->grad.array, g);
    if (!status && !to->queued && (status = push(heap, to)))
        drop_cotangent(to);
    return status;
}

/* What an older node would have received is of no use to the caller, unless an outer transform waits for it. */
static int dropped(void)
{
    if (fg_transforms_running < 2)
        return FG_OK;
    return fg_fail(FG_NOT_IMPLEMENTED,
                   "grad: the function reads a tensor that an outer grad is differentiating (a gradient of a "
                   "gradient), which is not here yet; pass it through fastgrad.stop_gradient if it is meant as a "
                   "constant");
}

/* Hand the cotangent of n on to its parents. */
static int step(node_list *heap, fg_node *n, uint64_t oldest)
{
    if (n->spent)
        return fg_fail(FG_BAD_TAPE,
                       "backward: this graph was already used by an earlier backward pass and its values are freed; "
                       "pass retain_graph=True to the earlier call, or compute the result anew");
    fg_tensor few[3] = {{0}}, *gin = few;
    if (n->n_in > 3 && !(gin = calloc((size_t)n->n_in, sizeof *gin)))
        return fg_fail(FG_NO_MEMORY, "no memory for the backward pass");
    int status = fg_ops[n->op].vjp(n, n->grad, gin);
    for (int i = 0; i < n->n_in; i++) {
        fg_array *g = gin[i].array;
        if (!g)
            continue;
        if (status || n->in[i].parent->number < oldest) {
            fg_array_unref(g);
            if (!status)
                status = dropped();
        } else {
            status = send(heap, n->in[i].parent, g);
        }
    }
    if (gin != few)
        free(gin);
    return status;
}

int fg_backward(fg_tensor y, fg_array *cotangent, int retain_graph, uint64_t oldest)
{
    node_list heap = {0}, leaves = {0};
    int enabled = fg_grad_enabled;
    if (y.node->number < oldest)
        return dropped();
    fg_grad_enabled = 0;
    int status = send(&heap, y.node, fg_array_ref(cotangent));
    while (!status && heap.n) {
        fg_node *n = pop(&heap);
        if (n->op == FG_OP_leaf) {              /* kept apart until nothing can fail but the sum itself */
            status = append(&leaves, n);
            if (status)
                drop_cotangent(n);
            continue;
        }
        status = step(&heap, n, oldest);
        drop_cotangent(n);
        if (!retain_graph) {
            n->spent = 1;
            forget_values(n);
        }
    }
    for (int64_t i = 0; i < heap.n; i++)
        drop_cotangent(heap.node[i]);
    for (int64_t i = 0; i < leaves.n; i++) {
        fg_node *leaf = leaves.node[i];
        if (!status) {
            status = accumulate(&leaf->saved, leaf->grad.array);
            leaf->grad.array = NULL;
        }
        drop_cotangent(leaf);
    }
    free(heap.node);
    free(leaves.node);
    fg_grad_enabled = enabled;
    return status;
}
