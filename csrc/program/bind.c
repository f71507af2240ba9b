/* bind.c: replays are made here, and kept for later runs: steps are bound to memory.
 *
 * A program makes a replay for each thread that runs it at the same time. Pointers into the arena and to constants are
 * set when a replay is made; the few that depend on the addresses of inputs and outputs are listed as patches, and set
 * by each run.
 */
#include "program/replay.h"

#include <stdlib.h>
#include <string.h>

static void set_pointer(const fg_program *p, fg_replay *r, int v, char **at)
{
    int source = source_of(p, v);
    FG_ASSERT(source < p->n_in + p->n_out);
    if (source >= 0)
        r->patch[r->n_patches++] = (patch){source, p->buffer[v].shift, at};
    else
        *at = address_of(p, r, v);
}

static void bind_call(const fg_program *p, fg_replay *r, const step *s, bound_step *to, fg_call *call,
                      fg_tensor *operand, fg_replay **bodies)
{
    for (int i = 0; i < s->n_in; i++)
        operand[i].array = s->in[i] < 0 ? NULL : &r->array[s->in[i]];
    *call =
        (fg_call){.op = s->op, .n_in = s->n_in, .n_attr = s->n_attr, .in = operand, .attr = s->attr, .replay = bodies};
    for (int i = 0; i <= s->n_in; i++) {
        int v = i < s->n_in ? s->in[i] : s->y;
        if (v >= 0)
            set_pointer(p, r, v, (char **)&r->array[v].data);
    }
    to->at[0] = (char *)call;
    to->at[1] = (char *)&r->array[s->y];
    if (s->kind != RUN)
        set_pointer(p, r, s->y, &to->at[FG_RESULT]);
}

/* The operands of an fg_loop: the result stands in for those that are missing. A product passes its fg_product as y; a
 * third operand of it is in the memory of its result already. */
static void bind_loop(const fg_program *p, fg_replay *r, const step *s, bound_step *to)
{
    int is_product = s->op == FG_OP_matmul, is_unary_vjp = s->op >= FG_N_OPS && (s->op - FG_N_OPS) / 2 < FG_N_UNARY;
    for (int i = 0; i < FG_RESULT; i++)
        to->at[i] = address_of(p, r, s->y);
    for (int i = 0; i < (is_product ? 2 : s->n_in); i++)
        if (s->in[i] >= 0)
            set_pointer(p, r, s->in[i], &to->at[i && is_unary_vjp ? i + 1 : i]);    /* there is no b */
    if (is_product)
        to->at[2] = (char *)&s->product;
    set_pointer(p, r, s->y, &to->at[FG_RESULT]);
}

static void bind_flat(const fg_program *p, fg_replay *r, const step *s, bound_step *to)
{
    for (int i = 0; i < s->n_in; i++) {
        if (i < 3)                              /* the stride of a missing operand is 1 */
            to->stride[i] = s->in[i] < 0 || p->buffer[s->in[i]].period || run_at(s, i) == FG_ROW ||
                            shape_at(p, s->in[i])->size == shape_at(p, s->y)->size;
        if (s->in[i] >= 0)
            set_pointer(p, r, s->in[i], &to->at[i]);
    }
    set_pointer(p, r, s->y, &to->at[FG_RESULT]);
}

static void free_replay(const fg_program *p, fg_replay *r)
{
    fg_replay **body = r->body_replays;
    for (int i = 0; i < p->n_in; i++)
        if (r->input[i])
            fg_free(r->input[i], (size_t)bytes_at(p, i));
    for (int k = 0; k < p->n_steps; k++)
        for (int i = 0; i < fg_n_bodies(p->step[k].op); i++)
            if (*body)                          /* NULL after the one for which there was no memory */
                fg_replay_give(fg_body(p->step[k].attr, i), *body++);
    if (r->arena)
        fg_free_lasting(r->arena, (size_t)p->arena_bytes);
    free(r->team);
    free(r);
}

/* Clear what steps read of the arena beyond the elements of a value: the rest of its last vector (fill_vectors in
 * specialize.c). What is computed there is never used, but it must not take long: the leftovers of other programs would
 * decay to subnormal numbers, on which a processor may take a hundred times as long, in a recurrence that runs again
 * and again. The rest behaves like an element whose data are 0, or holds what other steps of the same run have left. A
 * recurrence that decays keeps a 0, and infinities and nan, as 1/0 and 0/0 give, cost no time. */
static void clear_rests(const fg_program *p, const fg_replay *r)
{
    for (int v = 0; v < p->n_buffers; v++) {
        const buffer *root = &p->buffer[p->buffer[v].root];
        if (root->offset < 0 || p->buffer[v].shift || root->blockwise || root->panel)
            continue;
        int64_t end = root->offset + bytes_at(p, v);
        if (end % FG_ALIGN)
            memset(r->arena + end / FG_ALIGN * FG_ALIGN, 0, FG_ALIGN);
    }
}

/* A replay with all its parts in one block of memory, and its arena, as yet without pointers; NULL: no memory. *call:
 * an fg_call for each step; *operand: the operands of all. */
static fg_replay *allocate_replay(const fg_program *p, fg_call **call, fg_tensor **operand)
{
    size_t n_bound = (size_t)p->n_steps + 1, n_io = (size_t)(p->n_in + p->n_out), n_buffers = (size_t)p->n_buffers;
    size_t n_operands = (size_t)p->operands.n, n_patches = n_buffers + n_operands + n_bound + n_io;
    size_t bytes = sizeof(fg_replay) + n_bound * (sizeof(bound_step) + sizeof(fg_call)) + n_buffers * sizeof(fg_array) +
                   n_operands * sizeof(fg_tensor) + n_patches * sizeof(patch) + 3 * n_io * sizeof(void *) +
                   (size_t)p->bodies.n * sizeof(void *) + 64;
    fg_replay *r = calloc(1, bytes);
    enum { LARGE_ARENA = 64 << 20 };    /* bytes; writing to them for the first time takes longer than a trim */
    if (!p->body)
        (p->arena_bytes < LARGE_ARENA ? fg_pool_empty : fg_memory_trim)();
    if (r && p->arena_bytes &&
        ((uint64_t)p->arena_bytes > SIZE_MAX / 2 || !(r->arena = fg_alloc_lasting((size_t)p->arena_bytes)))) {
        free(r);
        r = NULL;
    }
    if (!r) {
        fg_fail(FG_NO_MEMORY, "no memory for a program");
        return NULL;
    }
    r->bound_step = (bound_step *)(((uintptr_t)(r + 1) + 63) / 64 * 64);
    *call = (fg_call *)(r->bound_step + n_bound);
    r->array = (fg_array *)(*call + n_bound);
    *operand = (fg_tensor *)(r->array + n_buffers);
    r->patch = (patch *)(*operand + n_operands);
    r->address = (void **)(r->patch + n_patches);
    r->owner = r->address + n_io;
    r->input = r->owner + n_io;
    r->body_replays = (fg_replay **)(r->input + n_io);
    return r;
}

static void bind_step(const fg_program *p, fg_replay *r, const step *s, bound_step *to, fg_call *call,
                      fg_tensor *operand, fg_replay **bodies)
{
    *to = (bound_step){.kind = (uint8_t)s->kind,
                       .whole = !s->block,
                       .shared = s->parts > 1,
                       .group = (uint32_t)s->group,
                       .kernel = s->kernel,
                       .n = s->n};
    for (int i = 0; s->kind != RUN && i < FG_RESULT; i++)
        to->in_runs |= s->run[i] > 0;
    to->is_spread = to->in_runs || is_load(s) || s->by_row;
    if (s->kind == RUN || s->kind == PRODUCT_STEP || s->kind == JOIN_STEP)
        bind_call(p, r, s, to, call, operand, bodies);
    else
        (s->kind == LOOP_STEP ? bind_loop : bind_flat)(p, r, s, to);
}

static int by_source(const void *a, const void *b) { return ((const patch *)a)->source - ((const patch *)b)->source; }

/* The addresses of inputs and outputs that are the same in each run. */
static void set_own_addresses(const fg_program *p, fg_replay *r)
{
    for (int i = 0; p->body && i < p->n_in + p->n_out; i++)
        r->address[i] = r;                      /* native code sets only those that it needs, but binds all */
    for (int i = 0; i < p->n_in; i++)
        if (is_arena_resident(p, i))
            r->address[i] = address_of(p, r, i);
    for (int i = 0; i < p->n_out; i++)
        if (fg_program_keeps(p, i))
            r->address[p->n_in + i] = address_of(p, r, p->out[i]);
}

static fg_replay *new_replay(const fg_program *p)
{
    fg_call *call;
    fg_tensor *operand;
    fg_replay *r = allocate_replay(p, &call, &operand);
    if (!r)
        return NULL;
    clear_rests(p, r);
    for (int v = 0; v < p->n_buffers; v++)
        r->array[v] = p->buffer[v].array;
    fg_replay **body = r->body_replays;
    for (int k = 0; k < p->n_steps; k++) {
        const step *s = &p->step[k];
        int n_bodies = fg_n_bodies(s->op);
        bind_step(p, r, s, &r->bound_step[k], &call[k], operand, n_bodies ? body : NULL);
        operand += s->n_in;
        for (int i = 0; i < n_bodies; i++)
            if (!(*body++ = fg_replay_take(fg_body(s->attr, i)))) {
                free_replay(p, r);
                return NULL;
            }
    }
    FG_ASSERT(r->patch + r->n_patches <= (patch *)r->address && operand <= (fg_tensor *)r->patch);
    qsort(r->patch, (size_t)r->n_patches, sizeof *r->patch, by_source);
    set_own_addresses(p, r);
    return r;
}

fg_replay *fg_replay_take(fg_program *p)
{
    fg_replay *r = p->idle;
    if (!r)
        return new_replay(p);
    p->idle = r->next;
    return r;
}

void fg_replay_give(fg_program *p, fg_replay *r)
{
    FG_ASSERT(r != p->idle);                    /* given back once */
    r->next = p->idle;
    p->idle = r;
}

void fg_replays_free(fg_program *p)
{
    for (fg_replay *r; (r = p->idle);) {
        p->idle = r->next;
        free_replay(p, r);                      /* gives the replays of the bodies back to them */
    }
    for (int i = 0; i < p->bodies.n; i++)
        fg_replays_free(((fg_program **)p->bodies.item)[i]);
}

void **fg_replay_address(fg_replay *r) { return r->address; }
void **fg_replay_owner(fg_replay *r) { return r->owner; }

const fg_call *fg_replay_call(const fg_replay *r, int k) { return (const fg_call *)r->bound_step[k].at[0]; }

void *fg_replay_own_input(const fg_program *p, fg_replay *r, int i)
{
    if (!r->input[i])
        r->input[i] = fg_alloc((size_t)bytes_at(p, i));
    return r->address[i] = r->input[i];
}
