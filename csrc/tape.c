/* tape.c: what reverse mode remembers, and the backward pass.
 *
 * The tape is not a list but the graph of nodes itself: a node holds its parents, a tensor holds its node, so
 * what no tensor can reach is freed at once. Nodes are numbered as they are made, and a node's parents have
 * smaller numbers: taking always the largest number that has received a cotangent visits every node once,
 * after all its users. Neither the pass nor the freeing of a graph recurses, however long the graph is.
 *
 * A cotangent is a tensor, array and node: the rules are made of operations, and while a pass is recorded these go on
 * the tape like any others, so that what the pass computes can be differentiated again.
 */
#include "fastgrad.h"

#include <stdlib.h>
#include <string.h>

_Thread_local fg_switches fg_here = {.grad_enabled = 1};
int (*fg_on_rule)(fg_node *, int i, fg_tensor g, fg_tensor *gx);
static uint64_t last_number;

/* ---- nodes -------------------------------------------------------------------------------------------- */
static size_t node_bytes(int n_in, int n_attr)
{
    return sizeof(fg_node) + (size_t)n_in * sizeof(fg_edge) + (size_t)n_attr * sizeof(int64_t);
}

static fg_node *node_of(int op, fg_shape *shape, int dtype, int n_in, int n_attr)
{
    fg_node *n = fg_alloc(node_bytes(n_in, n_attr));
    if (!n)
        return NULL;
    *n = (fg_node){.refs = 1, .op = (uint16_t)op, .dtype = (uint8_t)dtype, .n_in = n_in, .n_attr = n_attr,
                   .number = ++last_number, .eldest = last_number, .shape = fg_shape_ref(shape)};
    n->attr = (int64_t *)&n->in[n_in];
    fg_live.nodes++;
    return n;
}

static fg_node *node_new(int op, fg_array *y, int n_in, int n_attr)
{
    return node_of(op, y->shape, y->dtype, n_in, n_attr);
}

static void connect(fg_node *n, int i, fg_node *parent)
{
    n->in[i] = (fg_edge){.parent = parent};
    if (!parent)
        return;
    fg_node_ref(parent);
    fg_read_outside |= parent->number <= fg_here.last_outside;
    if (parent->eldest < n->eldest)
        n->eldest = parent->eldest;
}

uint64_t fg_newest(void) { return last_number; }

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

/* The caller's rule of a custom operation, whose release may run any code. */
static void forget_rule(fg_node *n)
{
    void *rule = (void *)(intptr_t)n->attr[0];
    n->attr[0] = 0;
    if (rule)
        fg_on_release(rule);
}

static void node_free(fg_node *n)
{
    fg_shape_unref(n->shape);
    fg_free(n, node_bytes(n->n_in, n->n_attr));
    fg_live.nodes--;
}

/* Free dead custom nodes. A rule may hold other such nodes, which its release adds to the list: graphs that hang
 * together by their rules are freed by this loop too. */
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
        if (n->op == FG_OP_custom) {            /* when all else is done, for it may run code */
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

fg_tensor fg_tensor_ref(fg_tensor t)
{
    return (fg_tensor){fg_array_ref(t.array), t.node ? fg_node_ref(t.node) : NULL};
}

void fg_tensor_unref(fg_tensor t)
{
    fg_array_unref(t.array);
    fg_node_unref(t.node);
}

fg_tensor fg_leaf_grad(const fg_node *leaf)
{
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

void fg_enter_transform(int step)
{
    if (step > 0 && !fg_transforms_running) {
        fg_here.last_outside = last_number;
        fg_read_outside = 0;
    }
    fg_transforms_running += step;
    if (!fg_transforms_running)
        fg_here.last_outside = 0;
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
    fg_switches *here = &fg_here;
    unsigned needs = 0;
    int tracked = 0;
    for (int i = 0; i < call->n_in; i++)
        if (call->in[i].node) {
            tracked = 1;
            needs |= op->needs[i < 2 ? i : 2];
        }
    y->node = NULL;
    if (!tracked || !here->grad_enabled)
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
            fg_node_ref(edge->parent);
            if (edge->parent->eldest < n->eldest)
                n->eldest = edge->parent->eldest;
            here->read_outside |= edge->parent->number <= here->last_outside;
        }
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

/* ---- several results at once ------------------------------------------------------------------------------------ */
int (*fg_on_joint)(fg_node *, fg_tensor g, fg_tensor *gin);

int fg_joint(int n_in, const fg_tensor *in, fg_array *handle, fg_node **out)
{
    fg_node *n = node_new(FG_OP_joint, handle, n_in, 0);
    if (!n)
        return FG_NO_MEMORY;
    int status = save(handle, &n->saved, &n->version);
    for (int i = 0; i < n_in; i++) {
        connect(n, i, in[i].node);
        if (!status)
            status = save(in[i].array, &n->in[i].saved, &n->in[i].version);
    }
    if (status) {
        fg_node_unref(n);
        return status;
    }
    *out = n;
    return FG_OK;
}

/* The node of an operation on a single input whose rule reads no value. */
static fg_node *follow(fg_node *parent, int op, fg_shape *shape, int dtype, int n_attr, const int64_t *attr)
{
    fg_node *n = parent && shape ? node_of(op, shape, dtype, 1, n_attr) : NULL;
    if (n) {
        connect(n, 0, parent);
        if (n_attr)
            memcpy(n->attr, attr, (size_t)n_attr * sizeof *attr);
    }
    fg_node_unref(parent);
    return n;
}

int fg_joint_part(fg_node *joint, int64_t start, const fg_array *value, fg_node **out)
{
    const int64_t stretch[] = {start, 1, value->shape->size}, dtype = value->dtype;
    fg_shape *flat = fg_shape_new(1, &value->shape->size);
    fg_node *n = follow(fg_node_ref(joint), FG_OP_slice, flat, joint->dtype, 3, stretch);
    n = follow(n, FG_OP_reshape, value->shape, joint->dtype, value->shape->ndim, value->shape->dim);
    if (joint->dtype != value->dtype)
        n = follow(n, FG_OP_cast, value->shape, value->dtype, 1, &dtype);
    fg_shape_unref(flat);
    *out = n;
    return n ? FG_OK : FG_NO_MEMORY;
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

/* ---- the backward pass -------------------------------------------------------------------------------- */
typedef struct {
    fg_node **node;
    int64_t n, capacity;
} node_list;

typedef struct {
    node_list queue;        /* of nodes that have received a cotangent: a binary heap, the newest node on top */
    node_list ends;         /* leaves and wanted nodes that have received theirs */
    uint64_t oldest;        /* what an older node would receive is dropped */
    uint16_t number;
    int recorded, was_enabled;
    int marked;             /* visits the nodes that lead to a wanted one only */
} pass;

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
    return top;
}

/* sum += g, taking over the reference g. The first contribution is kept as it is, later ones are added: in place where
 * nobody else looks at the sum, unless passes are recorded, for then a node may have saved it. */
static int accumulate(fg_tensor *sum, fg_tensor g)
{
    if (!sum->array) {
        *sum = g;
        return FG_OK;
    }
    fg_tensor total = *sum;
    int status = fg_grad_enabled ? fg_binary(FG_OP_add, *sum, g, &total) : fg_binary_inplace(FG_OP_add, &total, g);
    if (!status && fg_grad_enabled)
        fg_tensor_unref(*sum);
    *sum = total;
    fg_tensor_unref(g);
    return status;
}

static void drop_cotangent(fg_node *n)
{
    fg_tensor g = n->grad;
    n->grad = (fg_tensor){0};
    n->pass = 0;
    fg_tensor_unref(g);
}

static inline int send(pass *p, fg_node *to, fg_tensor g)
{
    if (!to->pass) {
        to->grad = g;
        to->pass = p->number;
        int status = push(&p->queue, to);
        if (status)
            drop_cotangent(to);
        return status;
    }
    if (to->pass == p->number)
        return accumulate(&to->grad, g);
    fg_tensor_unref(g);
    return fg_fail(FG_BAD_TAPE, "backward: another backward pass has not finished with this graph; let one thread "
                   "finish before the other begins");
}

/* A transform names no call that could have retained the graph: the pass was that of another transform, mostly. */
static int used_up(int by_transform)
{
    return fg_fail(FG_BAD_TAPE, by_transform ?
                   "this graph was already used by an earlier backward pass, that of a grad around it or of a .backward() "
                   "within, and its values are freed; call what vjp or linearize returned before that, or make it anew" :
                   "backward: this graph was already used by an earlier backward pass and its values are freed; "
                   "pass retain_graph=True to the earlier call, or compute the result anew");
}

/* Hand the cotangent of n on to its parents. */
static int step(pass *p, fg_node *n)
{
    if (n->spent)
        return used_up(p->oldest != 0);
    fg_tensor few[3] = {{0}}, *gin = few;
    if (n->n_in > 3 && !(gin = calloc((size_t)n->n_in, sizeof *gin)))
        return fg_fail(FG_NO_MEMORY, "no memory for the backward pass");
    const fg_op_info *op = &fg_ops[n->op];
    int status = (p->recorded ? op->recorded_vjp : op->vjp)(n, n->grad, gin);
    for (int i = 0; i < n->n_in; i++) {
        if (!gin[i].array)
            continue;
        if (status || n->in[i].parent->number < p->oldest || (p->marked && !n->in[i].parent->leads))
            fg_tensor_unref(gin[i]);
        else
            status = send(p, n->in[i].parent, gin[i]);
    }
    if (gin != few)
        free(gin);
    return status;
}

/* Mark the nodes between all y and the wanted ones. The rules of a recorded pass compute with values that are recorded too,
 * and need no cotangents themselves: a rule that calls its own function would never end. */
static int mark_leading(pass *p, int n_y, const fg_tensor *y)
{
    node_list todo = {0}, order = {0};
    int status = FG_OK;
    for (int i = 0; !status && i < n_y; i++) {
        fg_node *n = y[i].node;
        if (n && !n->seen && n->number >= p->oldest && !(status = push(&todo, n)))
            n->seen = 1;
    }
    while (!status && todo.n) {                 /* the newest first */
        fg_node *n = pop(&todo);
        if ((status = append(&order, n)))
            n->seen = 0;
        for (int i = 0; !status && i < n->n_in && n->op != FG_OP_leaf; i++) {
            fg_node *parent = n->in[i].parent;
            if (parent && !parent->seen && parent->number >= p->oldest && !(status = push(&todo, parent)))
                parent->seen = 1;
        }
    }
    for (int64_t k = order.n - 1; k >= 0; k--) {
        fg_node *n = order.node[k];
        n->leads = n->wanted == p->number;
        for (int i = 0; i < n->n_in && n->op != FG_OP_leaf; i++)
            n->leads |= n->in[i].parent && n->in[i].parent->seen && n->in[i].parent->leads;
    }
    for (int64_t k = 0; k < order.n; k++)
        order.node[k]->seen = 0;
    for (int64_t k = 0; k < todo.n; k++)
        todo.node[k]->seen = 0;
    free(todo.node);
    free(order.node);
    p->marked = 1;
    return status;
}

static uint16_t new_pass(void)
{
    static uint16_t last;
    return ++last ? last : ++last;
}

/* Send cotangents down from all y until they have arrived at the ends, where they wait for the caller and end_pass. */
static int sweep(pass *p, int n_y, const fg_tensor *y, const fg_tensor *cotangent, int retain_graph, int create_graph)
{
    fg_grad_enabled = p->recorded = create_graph;
    int status = FG_OK;
    for (int i = 0; !status && i < n_y; i++)
        if (y[i].node && y[i].node->number >= p->oldest)
            status = send(p, y[i].node, fg_tensor_ref(cotangent[i]));
    while (!status && p->queue.n) {
        fg_node *n = pop(&p->queue);
        if (n->op == FG_OP_leaf || n->wanted == p->number) {
            if ((status = append(&p->ends, n)))
                drop_cotangent(n);
            continue;
        }
        status = step(p, n);
        drop_cotangent(n);
        if (!retain_graph) {
            n->spent = 1;
            forget_values(n);
            if (n->op == FG_OP_custom)
                forget_rule(n);
        }
    }
    return status;
}

static void end_pass(pass *p)
{
    for (int64_t i = 0; i < p->queue.n; i++)
        drop_cotangent(p->queue.node[i]);
    for (int64_t i = 0; i < p->ends.n; i++)
        drop_cotangent(p->ends.node[i]);
    free(p->queue.node);
    free(p->ends.node);
    fg_grad_enabled = p->was_enabled;
}

int fg_backward(fg_tensor y, fg_tensor cotangent, int retain_graph, int create_graph)
{
    pass p = {.number = new_pass(), .was_enabled = fg_grad_enabled};
    fg_node *root = fg_node_ref(y.node);        /* rules may run any Python code */
    int status = sweep(&p, 1, &y, &cotangent, retain_graph || create_graph, create_graph);
    for (int64_t i = 0; !status && i < p.ends.n; i++) {     /* only now, when nothing can fail but the sum itself */
        fg_node *leaf = p.ends.node[i];
        if (leaf->spent)
            continue;
        fg_tensor sum = fg_leaf_grad(leaf), g = leaf->grad;
        leaf->grad = (fg_tensor){0};
        fg_grad_enabled = create_graph || sum.node;         /* what is recorded of an earlier gradient remains so */
        status = accumulate(&sum, g);
        leaf->saved = sum.array;
        leaf->in[0].parent = sum.node;
    }
    end_pass(&p);
    fg_node_unref(root);
    return status;
}

int fg_gradients(int n_y, const fg_tensor *y, const fg_tensor *cotangent, int retain_graph, int create_graph, int n,
                 fg_node *const *wrt, fg_tensor *out)
{
    pass p = {.number = new_pass(), .was_enabled = fg_grad_enabled, .oldest = UINT64_MAX};
    for (int i = 0; i < n; i++) {
        out[i] = (fg_tensor){0};
        wrt[i]->wanted = p.number;
        if (wrt[i]->number < p.oldest)
            p.oldest = wrt[i]->number;
    }
    int status = create_graph ? mark_leading(&p, n_y, y) : FG_OK;
    if (!status)
        status = sweep(&p, n_y, y, cotangent, retain_graph || create_graph, create_graph);
    for (int i = 0; i < n; i++) {
        wrt[i]->wanted = 0;
        if (!status && wrt[i]->pass == p.number) {
            out[i] = wrt[i]->grad;
            wrt[i]->grad = (fg_tensor){0};
        }
    }
    end_pass(&p);
    return status;
}

/* Put a node into a queue if it is no leaf, not too old, and not marked: neither met before nor an end. */
static int meet(node_list *queue, fg_node *n, uint64_t oldest, uint16_t mark)
{
    if (!n || n->op == FG_OP_leaf || n->number < oldest || n->wanted == mark)
        return FG_OK;
    int status = push(queue, n);
    n->wanted = status ? 0 : mark;
    return status;
}

int fg_tape_between(int n_y, const fg_tensor *y, int n, fg_node *const *wrt, int64_t *count, fg_node ***out)
{
    node_list queue = {0}, found = {0};
    uint16_t mark = new_pass();
    uint64_t oldest = UINT64_MAX;
    int status = FG_OK;
    for (int i = 0; i < n; i++) {
        wrt[i]->wanted = mark;
        oldest = wrt[i]->number < oldest ? wrt[i]->number : oldest;
    }
    for (int i = 0; !status && i < n_y; i++)
        status = meet(&queue, y[i].node, oldest, mark);
    while (!status && queue.n) {
        fg_node *node = pop(&queue);
        if ((status = append(&found, node)))
            node->wanted = 0;
        else if (node->spent)
            status = used_up(1);
        for (int i = 0; !status && i < node->n_in; i++)
            status = meet(&queue, node->in[i].parent, oldest, mark);
    }
    for (int i = 0; i < n; i++)
        wrt[i]->wanted = 0;
    for (int64_t i = 0; i < queue.n; i++)
        queue.node[i]->wanted = 0;
    for (int64_t i = 0; i < found.n; i++)
        found.node[i]->wanted = 0;
    for (int64_t i = 0, j = found.n - 1; i < j; i++, j--) {
        fg_node *node = found.node[i];
        found.node[i] = found.node[j];
        found.node[j] = node;
    }
    free(queue.node);
    *count = found.n;
    *out = found.node;
    return status;
}
