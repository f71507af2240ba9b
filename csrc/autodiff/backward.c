/* backward.c: the backward pass (reverse-mode differentiation), and searches of the tape.
 *
 * Nodes are visited in reverse topological order: a node's parents have smaller numbers than itself, so the pass takes
 * from a heap the largest number that it has met, which visits every node once, after all its users. Nothing recurses.
 * A pass writes its own number into the nodes that it works on, so that two threads that meet the same nodes find out.
 *
 * A cotangent is a tensor, array and node: the vjp rules are made of operations, and in a recorded pass (create_graph)
 * these are on the tape like any others, so that what the pass computes can be differentiated again.
 */
#include "core/debug.h"
#include "program.h"

#include <stdlib.h>

/* ---- lists and heaps of nodes ------------------------------------------------------------------------- */
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

static int push(node_list *heap, fg_node *n)
{
    int status = append(heap, n);
    if (status)
        return status;
    int64_t i = heap->n - 1;
    for (; i && heap->node[(i - 1) / 2]->number < n->number; i = (i - 1) / 2)
        heap->node[i] = heap->node[(i - 1) / 2];
    heap->node[i] = n;
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
    FG_ASSERT(!heap->n || heap->node[0]->number < top->number);     /* no node is met twice */
    return top;
}

/* ---- passes ------------------------------------------------------------------------------------------- */
/* A node's fields as an outer pass has set them: a rule may run a pass inside that ends at the same node. */
typedef struct {
    fg_tensor grad;
    uint16_t pass;
    uint8_t end;
} outer_state;

typedef struct {
    uint16_t number;
    int marked;             /* the nodes to visit are marked beforehand by this number; others are left out */
    uint64_t oldest;        /* older nodes are left out */
    node_list queue;        /* nodes to visit: a heap, the newest on top */
    node_list reached;      /* nodes that collect_ancestors has found */
    node_list leaves;       /* that have received a cotangent, if it is to become their .grad */
    int n;                  /* how many nodes the pass ends at; 0: at leaves */
    fg_node *const *wrt;    /* those nodes ... */
    outer_state *outer;     /* ... and what they are to an outer pass */
    fg_row_terms *rows;     /* of each: terms of its cotangent, as long as it has no other; NULL: they are added up */
    fg_thread_state *thread;
    int was_enabled;        /* the thread's grad_enabled before, which a pass sets to whether it is recorded */
} backward_pass;

static int begin(backward_pass *p, int n, fg_node *const *wrt)
{
    static uint16_t last;
    last += last == UINT16_MAX ? 2 : 1;
    *p = (backward_pass){.number = last, .oldest = n ? UINT64_MAX : 0, .n = n, .wrt = wrt, .thread = &fg_thread};
    p->was_enabled = p->thread->grad_enabled;
    if (n && !(p->outer = fg_alloc((size_t)n * sizeof *p->outer))) {
        p->n = 0;
        return FG_NO_MEMORY;
    }
    for (int i = 0; i < n; i++) {
        p->outer[i] = (outer_state){wrt[i]->grad, wrt[i]->pass, wrt[i]->end};
        wrt[i]->grad = (fg_tensor){0};
        wrt[i]->pass = p->number;
        wrt[i]->end = 1;
        if (wrt[i]->number < p->oldest)
            p->oldest = wrt[i]->number;
    }
    return FG_OK;
}

static void drop_cotangent(fg_node *n)
{
    fg_tensor g = n->grad;
    n->grad = (fg_tensor){0};
    n->pass = 0;
    fg_tensor_unref(g);
}

/* Undo what the pass has written into nodes; `reached` is left for the caller to free. */
static void end(backward_pass *p)
{
    for (int64_t i = 0; i < p->reached.n; i++)
        p->reached.node[i]->pass = 0;
    for (int64_t i = 0; i < p->queue.n; i++)
        drop_cotangent(p->queue.node[i]);
    for (int64_t i = 0; i < p->leaves.n; i++)
        drop_cotangent(p->leaves.node[i]);
    free(p->queue.node);
    free(p->leaves.node);
    for (int i = p->n - 1; i >= 0; i--) {
        drop_cotangent(p->wrt[i]);
        p->wrt[i]->grad = p->outer[i].grad;
        p->wrt[i]->pass = p->outer[i].pass;
        p->wrt[i]->end = p->outer[i].end;
    }
    if (p->n)
        fg_free(p->outer, (size_t)p->n * sizeof *p->outer);
    p->thread->grad_enabled = p->was_enabled;
}

static int other_pass_running(void)
{
    return fg_fail(FG_BAD_TAPE, "backward: another backward pass has not finished with this graph; let one thread "
                                "finish before the other begins");
}

/* Put a node into the queue, unless it was in it before, is a leaf, or is older than the ends. */
static int meet(backward_pass *p, fg_node *n)
{
    if (!n || n->pass == p->number || n->op == FG_OP_leaf || n->number < p->oldest)
        return FG_OK;
    if (n->pass)
        return other_pass_running();
    int status = push(&p->queue, n);
    if (!status)
        n->pass = p->number;
    return status;
}

/* List in `reached` the ancestors of all y that are no older than the ends, the newest first. */
static int collect_ancestors(backward_pass *p, int n_y, const fg_tensor *y)
{
    int status = FG_OK;
    for (int i = 0; !status && i < n_y; i++)
        status = meet(p, y[i].node);
    while (!status && p->queue.n) {
        fg_node *n = pop(&p->queue);
        if ((status = append(&p->reached, n)))
            n->pass = 0;
        for (int i = 0; !status && i < n->n_in; i++)
            status = meet(p, n->in[i].parent);
    }
    return status;
}

/* List and mark only the nodes on paths from the ends to any y, the oldest first. */
static int mark_between(backward_pass *p, int n_y, const fg_tensor *y)
{
    int status = collect_ancestors(p, n_y, y);
    node_list *list = &p->reached;
    for (int64_t i = 0, j = list->n - 1; i < j; i++, j--) {
        fg_node *n = list->node[i];
        list->node[i] = list->node[j];
        list->node[j] = n;
    }
    int64_t kept = 0;
    for (int64_t k = 0; k < list->n; k++) {
        fg_node *n = list->node[k];
        n->pass = 0;
        for (int i = 0; i < n->n_in; i++)
            if (n->in[i].parent && n->in[i].parent->pass == p->number)
                n->pass = p->number;
        if (n->pass)
            list->node[kept++] = n;
    }
    list->n = kept;
    p->marked = 1;
    return status;
}

/* Transforms have no retain_graph, so that they need other advice: usually the earlier pass was that of another
 * transform. */
static int used_up(int by_transform)
{
    return fg_fail(
        FG_BAD_TAPE,
        by_transform
            ? "this graph was already used by an earlier backward pass, that of a grad around it or of a "
              ".backward() within, and its values are freed; call what vjp or linearize returned before that, or "
              "make it anew"
            : "backward: this graph was already used by an earlier backward pass and its values are freed; "
              "pass retain_graph=True to the earlier call, or compute the result anew");
}

int fg_tape_between(int n_y, const fg_tensor *y, int n, fg_node *const *wrt, int64_t *count, fg_node ***out)
{
    backward_pass p;
    int status = begin(&p, n, wrt);
    if (!status)
        status = mark_between(&p, n_y, y);
    for (int64_t i = 0; !status && i < p.reached.n; i++)
        if (p.reached.node[i]->spent)
            status = used_up(1);
    end(&p);
    *count = p.reached.n;
    *out = p.reached.node;
    return status;
}

/* Append a node to the list if it is older than the ends. */
static int append_if_older(const backward_pass *p, fg_node *n, node_list *found)
{
    return n && n->number < p->oldest ? append(found, n) : FG_OK;
}

int fg_tape_closed_over(int n_y, const fg_tensor *y, int n, fg_node *const *wrt, int64_t *count, fg_node ***out)
{
    backward_pass p;
    node_list found = {0};
    int status = begin(&p, n, wrt);
    if (!status)
        status = collect_ancestors(&p, n_y, y);
    for (int i = 0; !status && i < n_y; i++)
        status = append_if_older(&p, y[i].node, &found);
    for (int64_t k = 0; k < p.reached.n; k++)
        for (int i = 0; !status && i < p.reached.node[k]->n_in; i++)
            status = append_if_older(&p, p.reached.node[k]->in[i].parent, &found);
    end(&p);
    free(p.reached.node);
    *count = found.n;
    *out = found.node;
    return status;
}

/* ---- the backward pass -------------------------------------------------------------------------------- */
/* sum += g, taking over the reference g. The first contribution is kept as it is; later ones are added, in place where
 * nobody else holds the sum, but not in a recorded pass, where a node may have saved it. */
static int accumulate(fg_tensor *sum, fg_tensor g, int recorded)
{
    if (!sum->array) {
        *sum = g;
        return FG_OK;
    }
    FG_ASSERT(sum->array->dtype == g.array->dtype && fg_shape_equal(sum->array->shape, g.array->shape));
    fg_tensor total = *sum;
    int status = recorded ? fg_binary(FG_OP_add, *sum, g, &total) : fg_binary_inplace(FG_OP_add, &total, g);
    if (!status && recorded)
        fg_tensor_unref(*sum);
    *sum = total;
    fg_tensor_unref(g);
    return status;
}

void fg_row_terms_drop(fg_row_terms *rows)
{
    while (rows->n) {
        fg_array_unref(rows->term[--rows->n].values);
        fg_array_unref(rows->term[rows->n].index);
    }
}

static fg_row_terms *row_terms_of(const backward_pass *p, const fg_node *to)
{
    for (int i = 0; p->rows && to->end && i < p->n; i++)
        if (p->wrt[i] == to)
            return &p->rows[i];
    return NULL;
}

/* Keep the cotangent of n as a term, if n is a gather of few rows from an end that has no other cotangent. */
static int keep_rows(backward_pass *p, fg_node *n, int *kept)
{
    fg_node *to = n->in[0].parent;
    fg_row_terms *rows = n->attr[0] == 0 && n->attr[1] == 0 && to ? row_terms_of(p, to) : NULL;
    fg_tensor index;
    int status = fg_saved(n, 1, &index);
    *kept = 0;
    if (status || !rows || to->pass != p->number || to->grad.array || rows->n == FG_MAX_ROW_TERMS || !to->shape->size)
        return status;
    int64_t count = index.array->shape->size;
    for (int t = 0; t < rows->n; t++)
        count += rows->term[t].index->shape->size;
    if (count > to->shape->dim[0] / 2)
        return FG_OK;
    rows->term[rows->n].values = fg_array_ref(n->grad.array);
    rows->term[rows->n++].index = fg_array_ref(index.array);
    *kept = 1;
    return FG_OK;
}

/* Add up the terms of an end, which gets the cotangent g of another kind, and g, taking over the reference. */
static int add_beside_rows(fg_node *to, fg_row_terms *rows, fg_tensor g)
{
    int status = FG_OK;
    for (int t = 0; !status && t < rows->n; t++) {
        fg_tensor in[2] = {{rows->term[t].values, NULL}, {rows->term[t].index, NULL}}, sum;
        const int64_t attr[3] = {0, 0, to->shape->dim[0]};
        if (!(status = fg_apply(FG_OP_untake, 2, in, 3, attr, &sum)))
            status = accumulate(&to->grad, sum, 0);
    }
    fg_row_terms_drop(rows);
    if (!status)
        return accumulate(&to->grad, g, 0);
    fg_tensor_unref(g);
    return status;
}

/* Add the cotangent g to node `to`, taking over the reference, and put the node into the queue or among the leaves;
 * drop it where the pass leaves the node out. */
static inline int send(backward_pass *p, fg_node *to, fg_tensor g)
{
    if (to->pass == p->number && to->grad.array)
        return accumulate(&to->grad, g, p->thread->grad_enabled);
    int status = FG_OK;
    fg_row_terms *rows = p->rows ? row_terms_of(p, to) : NULL;
    if (rows && rows->n)
        return add_beside_rows(to, rows, g);
    if (to->pass != p->number) {
        int dropped = to->number < p->oldest || (p->n && to->op == FG_OP_leaf);
        if (to->pass && !dropped)
            status = other_pass_running();
        if (status || dropped || p->marked) {
            fg_tensor_unref(g);
            return status;
        }
    }
    to->pass = p->number;
    to->grad = g;
    if (to->end)
        return FG_OK;
    status = to->op == FG_OP_leaf ? append(&p->leaves, to) : push(&p->queue, to);
    if (status)
        drop_cotangent(to);
    return status;
}

/* Compute the cotangents of n's parents from that of n, and send them. */
static int propagate(backward_pass *p, fg_node *n)
{
    if (n->spent)
        return used_up(p->n > 0);
    FG_ASSERT(n->grad.array->dtype == n->dtype && fg_shape_equal(n->grad.array->shape, n->shape));
    fg_tensor few[3] = {{0}}, *gin = few;
    if (p->rows && n->op == FG_OP_take) {
        int kept, failed = keep_rows(p, n, &kept);
        if (failed || kept)
            return failed;
    }
    if (n->n_in > 3 && !(gin = calloc((size_t)n->n_in, sizeof *gin)))
        return fg_fail(FG_NO_MEMORY, "no memory for the backward pass");
    const fg_op_info *op = &fg_ops[n->op];
    int status = (p->thread->grad_enabled ? op->recorded_vjp : op->vjp)(n, n->grad, gin);
    for (int i = 0; i < n->n_in; i++) {
        if (!gin[i].array)
            continue;
        FG_ASSERT(status || n->in[i].parent);   /* rules skip constants */
        if (status)
            fg_tensor_unref(gin[i]);
        else
            status = send(p, n->in[i].parent, gin[i]);
    }
    if (gin != few)
        free(gin);
    return status;
}

/* Propagate cotangents from all y until they have arrived at the ends. A recorded pass visits only nodes that lead to
 * the ends: its rules record nodes for the values that they compute with, which need no cotangents, and a rule that
 * calls its own function would otherwise never end. */
static int sweep(backward_pass *p, int n_y, const fg_tensor *y, const fg_tensor *cotangent, int retain, int recorded)
{
    int status = recorded && p->n ? mark_between(p, n_y, y) : FG_OK, within = p->thread->in_pass;
    p->thread->in_pass = 1;
    p->thread->grad_enabled = recorded;
    for (int i = 0; !status && i < n_y; i++)
        if (y[i].node)
            status = send(p, y[i].node, fg_tensor_ref(cotangent[i]));
    while (!status && p->queue.n) {
        fg_node *n = pop(&p->queue);
        status = propagate(p, n);
        drop_cotangent(n);
        if (!retain && !recorded)
            fg_node_spend(n);
    }
    p->thread->in_pass = within;
    return status;
}

int fg_backward(fg_tensor y, fg_tensor cotangent, int retain_graph, int create_graph)
{
    backward_pass p;
    fg_node *root = fg_node_ref(y.node);        /* rules may run any Python code */
    int status = begin(&p, 0, NULL);
    if (!status)
        status = sweep(&p, 1, &y, &cotangent, retain_graph, create_graph);
    for (int64_t i = 0; fg_tracing && !status && i < p.leaves.n; i++)
        if (!p.leaves.node[i]->spent && fg_trace_outside_node(p.leaves.node[i]))
            status = fg_fail(FG_SIDE_EFFECT,
                             "backward: this would add to the .grad of a tensor made before the function was "
                             "traced, once instead of at each call: return gradients, as fastgrad.grad makes them, "
                             "or call backward outside");
    for (int64_t i = 0; !status && i < p.leaves.n; i++) {   /* last, when nothing can fail but the sum itself */
        fg_node *leaf = p.leaves.node[i];
        if (leaf->spent)
            continue;
        fg_tensor sum = fg_leaf_grad(leaf), g = leaf->grad;
        leaf->grad = (fg_tensor){0};
        p.thread->grad_enabled = create_graph || sum.node;  /* a sum with an earlier recorded gradient is recorded */
        status = accumulate(&sum, g, p.thread->grad_enabled);
        leaf->saved = sum.array;
        leaf->in[0].parent = sum.node;
    }
    end(&p);
    fg_node_unref(root);
    return status;
}

static int gradients(int n_y, const fg_tensor *y, const fg_tensor *cotangent, int retain_graph, int create_graph, int n,
                     fg_node *const *wrt, fg_tensor *out, fg_row_terms *rows)
{
    backward_pass p;
    int status = begin(&p, n, wrt);
    p.rows = rows;
    if (!status)
        status = sweep(&p, n_y, y, cotangent, retain_graph, create_graph);
    for (int i = 0; i < n; i++) {
        out[i] = (fg_tensor){0};
        if (!status) {
            out[i] = wrt[i]->grad;
            wrt[i]->grad = (fg_tensor){0};
        } else if (rows) {
            fg_row_terms_drop(&rows[i]);
        }
    }
    end(&p);
    free(p.reached.node);
    return status;
}

int fg_gradients(int n_y, const fg_tensor *y, const fg_tensor *cotangent, int retain_graph, int create_graph, int n,
                 fg_node *const *wrt, fg_tensor *out)
{
    return gradients(n_y, y, cotangent, retain_graph, create_graph, n, wrt, out, NULL);
}

int fg_gradients_by_rows(int n_y, const fg_tensor *y, const fg_tensor *cotangent, int retain_graph, int n,
                         fg_node *const *wrt, fg_tensor *out, fg_row_terms *rows)
{
    return gradients(n_y, y, cotangent, retain_graph, 0, n, wrt, out, rows);
}
