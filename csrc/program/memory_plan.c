/* memory_plan.c: liveness analysis, and memory planning: the offset in one arena of each intermediate of a program.
 *
 * The planner goes over the steps in order with a list of gaps: free stretches of the arena. A buffer takes the
 * smallest gap that fits when it is first written, and becomes a gap when it was last read. The result of an
 * elementwise step takes over the buffer of an operand that dies there. Buffers that exist within a group only are one
 * block large.
 */
#include "core/debug.h"
#include "program/passes.h"
#include "program/steps.h"

#include <stdlib.h>

/* ---- liveness ---------------------------------------------------------------------------------------------------- */
int fg_pass_liveness(fg_program *p)
{
    for (int v = 0; v < p->n_buffers; v++)
        p->buffer[v].first = p->buffer[v].last = p->buffer[v].reader = -1;
    for (int k = 0, group_end = -1, group_start = 0; k < p->n_steps; k++) {
        step *s = &p->step[k];
        if (k > group_end) {
            group_start = k;
            group_end = k + s->group - 1;
        }
        /* A buffer lives for the whole of a group: the last step runs on the first block before the first step runs on
         * the last block. */
        buffer *y = &p->buffer[p->buffer[s->y].root];
        if (y->first < 0)
            y->first = group_start;
        if (y->last < group_end)
            y->last = group_end;
        for (int i = 0; i < s->n_in; i++) {
            if (s->in[i] < 0)
                continue;
            buffer *x = &p->buffer[p->buffer[s->in[i]].root];
            x->last = k < p->n_steps - p->n_late ? group_end : p->n_steps;     /* late steps may run more than once */
            x->reader = k;
        }
    }
    for (int v = 0; v < p->n_buffers; v++)
        if (p->buffer[v].kept) {
            p->buffer[v].last = p->n_steps;
            p->buffer[v].reader = -1;
        }
    return FG_OK;
}

/* Find the values that only their own group reads. */
static void find_blockwise(fg_program *p)
{
    for (int k = 0; k < p->n_steps; k += p->step[k].group) {
        int end = k + p->step[k].group;
        if (end - k < 2)
            continue;
        for (int j = k; j < end; j++) {
            const step *s = &p->step[j];
            buffer *y = &p->buffer[s->y];
            int by_row = s->by_row || s->kind == ROWS_STEP;
            if (y->root == s->y && y->output < 0 && y->last == end - 1)
                y->blockwise = (int)(by_row ? p->step[k].block / p->step[k].width : p->step[k].block);
        }
    }
    for (int k = 0; k < p->n_steps; k++)        /* an element of it may come from another block */
        for (int i = 0; p->step[k].kind == JOIN_STEP && i < p->step[k].n_in; i++)
            p->buffer[p->buffer[p->step[k].in[i]].root].blockwise = 0;
    /* What has views is read as a whole, unless they are the same elements in another shape. */
    for (int v = 0; v < p->n_buffers; v++)
        if (p->buffer[v].root != v && (p->buffer[v].shift || bytes_at(p, v) != bytes_at(p, p->buffer[v].root)))
            p->buffer[p->buffer[v].root].blockwise = 0;
}

/* ---- gaps between buffers ---------------------------------------------------------------------------------------- */
typedef struct { int64_t offset, bytes; } gap;

static int64_t aligned(int64_t bytes) { return (bytes + FG_ALIGN - 1) / FG_ALIGN * FG_ALIGN; }

/* Of n elements and the zeros around them; of at least one element, so that each buffer has an address of its own. */
static int64_t bytes_for(const buffer *s, int64_t n)
{
    return aligned(s->before) + aligned((n ? n : 1) * (int64_t)fg_itemsize(s->array.dtype) + s->after);
}

static int64_t whole_bytes(const buffer *s) { return bytes_for(s, s->array.shape->size); }

/* No two neighbours are a little less than a page apart: a load waits for an earlier store whose address overlaps its
 * own modulo the page size (4K aliasing), which made small programs up to 1.7 times slower. */
static int64_t bytes_of(const buffer *s)
{
    enum { PAGE = 4096, NEAR = 512 };
    int64_t bytes = s->blockwise  ? bytes_for(s, s->blockwise)
                    : s->row_sums ? aligned(s->row_sums)
                    : s->panel    ? bytes_for(s, s->panel * s->array.shape->dim[1])
                                  : whole_bytes(s);
    return bytes % PAGE >= PAGE - NEAR ? bytes + 2 * NEAR : bytes;
}

/* Take the smallest gap that fits, or let the arena grow, from the gap at its end if there is one. */
static int64_t take_gap(list *gaps, int64_t bytes, int64_t *end)
{
    gap *g = gaps->item;
    int best = -1;
    for (int i = 0; i < gaps->n; i++)
        if (g[i].bytes >= bytes && (best < 0 || g[i].bytes < g[best].bytes))
            best = i;
    for (int i = 0; best < 0 && i < gaps->n; i++)
        if (g[i].offset + g[i].bytes == *end) {
            g[i].bytes = bytes;
            *end = g[i].offset + bytes;
            best = i;
        }
    if (best < 0) {
        int64_t offset = *end;
        *end += bytes;
        return offset;
    }
    int64_t offset = g[best].offset;
    FG_ASSERT(offset % FG_ALIGN == 0 && bytes <= g[best].bytes && offset + bytes <= *end);
    g[best].offset += bytes;
    g[best].bytes -= bytes;
    if (!g[best].bytes)
        g[best] = g[--gaps->n];
    return offset;
}

static int add_gap(list *gaps, int64_t offset, int64_t bytes)
{
    gap *new = fg_list_add(gaps, sizeof *new);
    if (!new)
        return FG_NO_MEMORY;
    *new = (gap){offset, bytes};
    return FG_OK;
}

static int release(list *gaps, int64_t offset, int64_t bytes)
{
    gap *g = gaps->item;
    for (int i = 0; i < gaps->n; i++)           /* what is given back was taken */
        FG_ASSERT(offset + bytes <= g[i].offset || g[i].offset + g[i].bytes <= offset);
    for (int i = 0; i < gaps->n; i++)           /* join neighbours */
        if (g[i].offset + g[i].bytes == offset || offset + bytes == g[i].offset) {
            offset = g[i].offset < offset ? g[i].offset : offset;
            bytes += g[i].bytes;
            g[i] = g[--gaps->n];
            i = -1;
        }
    return add_gap(gaps, offset, bytes);
}

/* ---- the plan ---------------------------------------------------------------------------------------------------- */
typedef struct {
    list gaps;
    list blocks, free_blocks;   /* of gap: all blocks of the present group's blockwise values, and those free again */
    list dead;                  /* of int: roots that the present group has read for the last time */
} arena;

static int in_arena(const buffer *s, int v) { return s->root == v && s->output < 0 && s->first >= 0; }

/* Does a step read a root element by element, each in its place, if at all? */
static int reads_in_step(const fg_program *p, const step *s, int root)
{
    for (int i = 0; i < s->n_in; i++)
        if (s->in[i] >= 0 && p->buffer[s->in[i]].root == root &&
            (s->kind == PRODUCT_STEP || is_load(s) || shape_at(p, s->in[i])->size != s->n ||
             shape_at(p, root)->size != s->n || p->buffer[s->in[i]].shift || p->buffer[root].period))
            return 0;
    return 1;
}

/* Is step k the last to read a root, and do all steps of its group up to k read the root element by element? */
static int dies_in_step(const fg_program *p, int start, int k, int root)
{
    int in_step = p->buffer[root].reader == k;
    for (int j = start; in_step && j <= k; j++)
        in_step = reads_in_step(p, &p->step[j], root);
    return in_step;
}

/* Store a product of a group as a whole where a later result of the group can take over its buffer; compute the other
 * products block by block, which needs no buffer. Results that can take over the buffer of a value that dies in the
 * group need none of a product, so that each of these lets one more product be computed block by block. */
static void store_products(fg_program *p, int start, int end)
{
    int results = 0;
    for (int k = start; k < end; k++) {
        const step *s = &p->step[k];
        int y = p->buffer[s->y].root;
        if (s->kind >= SUM_STEP || s->by_row)
            continue;
        results += in_arena(&p->buffer[y], y) && !p->buffer[y].blockwise;
        for (int i = 0; i < s->n_in; i++) {
            int root = s->in[i] < 0 ? -1 : p->buffer[s->in[i]].root, again = 0;
            for (int j = 0; j < i; j++)
                again = again || (s->in[j] >= 0 && p->buffer[s->in[j]].root == root);
            if (root >= 0 && !again && in_arena(&p->buffer[root], root) && !p->buffer[root].blockwise &&
                dies_in_step(p, start, k, root))
                results--;
        }
    }
    for (int k = start; k < end && results > 0; k++)
        if (p->step[k].kind == PRODUCT_STEP && p->buffer[p->step[k].y].blockwise) {
            p->buffer[p->step[k].y].blockwise = 0;
            results--;
        }
}

/* List the operands of step k, in the group that starts at `start`, whose buffers its result or a later one of the
 * group can take over: no later step reads them, and no step of the group reads elements that an earlier block has
 * overwritten. */
static int find_dead(fg_program *p, arena *a, int start, int k)
{
    const step *s = &p->step[k];
    for (int i = 0; s->kind != RUN && i < s->n_in; i++) {
        int root = s->in[i] < 0 ? -1 : p->buffer[s->in[i]].root;
        buffer *x = root < 0 ? NULL : &p->buffer[root];
        if (!x || !in_arena(x, root) || x->reader != k || x->blockwise)
            continue;
        int in_step = dies_in_step(p, start, k, root);
        x->reader = -1;                         /* it may be an operand twice */
        int *dead = in_step ? fg_list_add(&a->dead, sizeof *dead) : NULL;
        if (dead)
            *dead = root;
        else if (in_step)
            return FG_NO_MEMORY;
    }
    return FG_OK;
}

/* Does y fit into the memory of x, each with the zeros around it, if it begins at the same offset? */
static int fits_into(const buffer *y, const buffer *x)
{
    int64_t before = aligned(y->before), room = aligned(x->before);
    return before <= room && bytes_of(y) - before <= bytes_of(x) - room;
}

/* One of those buffers with as many elements of y's dtype, into which it fits, or NULL. */
static buffer *take_dead(fg_program *p, arena *a, const buffer *y)
{
    int *dead = a->dead.item;
    for (int i = a->dead.n - 1; i >= 0; i--)
        if (p->buffer[dead[i]].array.dtype == y->array.dtype &&
            p->buffer[dead[i]].array.shape->size == y->array.shape->size && fits_into(y, &p->buffer[dead[i]])) {
            buffer *x = &p->buffer[dead[i]];
            dead[i] = dead[--a->dead.n];
            return x;
        }
    return NULL;
}

/* Can output v of a body, the result of step k, have the offset of the input that carries it into the next iteration?
 * It can if nothing reads that input any more, or if it is a product that is added to the input; but not with zeros
 * around it, for which the input's memory has no place. Returns the offset, or -1. */
static int64_t carried_offset(const fg_program *p, int start, int k, int v)
{
    const step *s = &p->step[k];
    int is_padded = p->buffer[v].before || p->buffer[v].after;
    for (int i = 0; i < p->n_carried && !is_padded; i++) {
        int input = p->first_carried + i;
        const buffer *x = &p->buffer[input];
        if (!is_arena_resident(p, input) || p->buffer[p->out[i]].root != v || bytes_at(p, p->out[i]) != bytes_at(p, v))
            continue;
        int flat = s->kind != RUN && s->group == 1 && start == k && x->array.shape->size == s->n;
        int added = s->op == FG_OP_matmul && s->n_in == 3 && s->in[2] == input;
        if (added || x->reader < start || (x->reader == k && flat))
            return x->offset;
    }
    return -1;
}

/* Assign the offset of what step k writes, unless that is blockwise. */
static int assign_whole(fg_program *p, arena *a, int start, int k)
{
    int v = p->buffer[p->step[k].y].root, status = find_dead(p, a, start, k);
    buffer *y = &p->buffer[v], *x;
    if (status || !in_arena(y, v) || y->blockwise || y->offset >= 0)
        return status;
    p->separate_bytes += y->row_sums ? bytes_of(y) : whole_bytes(y);
    if ((y->offset = carried_offset(p, start, k, v)) >= 0)
        return FG_OK;
    if (p->step[k].kind != RUN && p->step[k].kind < SUM_STEP && (x = take_dead(p, a, y))) {
        y->offset = x->offset;
        x->last = -1;                           /* so that release_dead does not make a gap of it */
    } else {
        y->offset = take_gap(&a->gaps, bytes_of(y), &p->arena_bytes) + aligned(y->before);
    }
    return FG_OK;
}

/* Free the blocks of those operands of step k that nothing reads any more, either those that it reads element by
 * element and whose elements have as many bytes as those of its result (`like`), or the others. */
static int free_operands(fg_program *p, arena *a, int k, int like)
{
    const step *s = &p->step[k];
    size_t itemsize = fg_itemsize(p->buffer[s->y].array.dtype);
    int status = FG_OK;
    for (int i = 0; !status && i < s->n_in; i++) {
        buffer *dead = s->in[i] < 0 ? NULL : &p->buffer[p->buffer[s->in[i]].root];
        int is_like = dead && fg_itemsize(dead->array.dtype) == itemsize && !run_at(s, i);
        if (!dead || !dead->blockwise || dead->reader != k || is_like != like)
            continue;
        dead->reader = -1;                      /* it may be an operand twice */
        FG_ASSERT(dead->offset >= 0);           /* its step is an earlier one of the group */
        status = add_gap(&a->free_blocks, dead->offset, bytes_of(dead));
    }
    return status;
}

/* Assign the offset of what step k writes, if that is blockwise: it lives from there to its last reader in the group.
 * It may have the block of an operand that dies here. The elements of that must have the same places, or else
 * the step would overwrite some before it reads them: blocks of a few flags and of a few numbers are rounded up to the
 * same number of bytes. */
static int assign_block(fg_program *p, arena *a, int k)
{
    buffer *y = &p->buffer[p->buffer[p->step[k].y].root];
    int status = free_operands(p, a, k, 1);
    if (!status && y->blockwise && y->offset < 0) {
        p->separate_bytes += whole_bytes(y);
        gap *block = a->free_blocks.item;
        for (int i = 0; y->offset < 0 && i < a->free_blocks.n; i++)
            if (block[i].bytes == bytes_of(y)) {
                y->offset = block[i].offset;
                block[i] = block[--a->free_blocks.n];
            }
        if (y->offset < 0) {
            y->offset = take_gap(&a->gaps, bytes_of(y), &p->arena_bytes);
            status = add_gap(&a->blocks, y->offset, bytes_of(y));
        }
    }
    return status ? status : free_operands(p, a, k, 0);
}

/* After a group: make gaps of the buffers that died in it, dying[j] being the first of those whose last step is j, and
 * of its blocks. */
static int release_dead(fg_program *p, arena *a, int start, int end, const int *dying, const int *next)
{
    int status = FG_OK;
    for (int j = start; j <= end; j++)
        for (int v = dying[j]; !status && v >= 0; v = next[v])
            if (p->buffer[v].last >= 0 && !p->buffer[v].blockwise)
                status = release(&a->gaps, p->buffer[v].offset - aligned(p->buffer[v].before), bytes_of(&p->buffer[v]));
    const gap *block = a->blocks.item;
    for (int i = 0; !status && i < a->blocks.n; i++)
        status = release(&a->gaps, block[i].offset, block[i].bytes);
    a->blocks.n = a->free_blocks.n = a->dead.n = 0;
    return status;
}

/* Bytes of a group's partial sums: one set for each time that its elements are halved. */
static int64_t partial_sums_bytes(const step *first)
{
    int64_t level = 0, bytes = 0;
    for (int j = 0; j < first->group; j++)
        level += partial_bytes(first, &first[j]);
    for (int64_t n = elements_in_turn(first), half; level && (half = sums_half(block_width(first), n)); n -= half)
        bytes += level;
    return aligned(bytes);
}

#ifdef FG_DEBUG
/* Do two buffers that are needed at the same time have a byte in common? Blockwise buffers of one group may take the
 * same block, one after the other. Programs of more than `most` buffers take too long for this. */
static int buffers_overlap(const fg_program *p)
{
    enum { most = 2000 };
    for (int v = 0; v < p->n_buffers && p->n_buffers <= most; v++)
        for (int w = 0; in_arena(&p->buffer[v], v) && w < v; w++) {
            const buffer *x = &p->buffer[v], *y = &p->buffer[w];
            int64_t from = x->offset - aligned(x->before), other = y->offset - aligned(y->before);
            int shared_block = x->blockwise && y->blockwise && x->first == y->first && x->offset == y->offset;
            if (in_arena(y, w) && x->first <= y->last && y->first <= x->last && !shared_block &&
                from < other + bytes_of(y) && other < from + bytes_of(x))
                return 1;
        }
    return 0;
}
#endif

int fg_pass_plan_memory(fg_program *p)
{
    arena a = {{0}, {0}, {0}, {0}};
    int status = FG_OK, n = p->n_buffers;
    for (int v = 0; v < p->n_in; v++)
        if (is_arena_resident(p, v)) {
            p->buffer[v].offset = p->arena_bytes;
            p->arena_bytes += FG_ALIGN;
        }
    find_blockwise(p);
    for (int k = 0; k < p->n_steps; k += p->step[k].group)
        if (p->step[k].kind == PRODUCT_STEP)
            store_products(p, k, k + p->step[k].group);
    for (int v = 0; v < n; v++)                 /* of views, too */
        p->buffer[v].blockwise = p->buffer[p->buffer[v].root].blockwise;
    /* Linked lists of roots by the step at which they die. */
    int *next = malloc((size_t)(n + 1) * sizeof *next), *dying = malloc((size_t)(p->n_steps + 1) * sizeof *dying);
    if (!next || !dying)
        status = fg_fail(FG_NO_MEMORY, "no memory for a program");
    for (int k = 0; !status && k <= p->n_steps; k++)
        dying[k] = -1;
    for (int v = 0; !status && v < n; v++)
        if (in_arena(&p->buffer[v], v)) {
            next[v] = dying[p->buffer[v].last];
            dying[p->buffer[v].last] = v;
        }
    for (int k = 0; !status && k < p->n_steps; k += p->step[k].group) {
        int end = k + p->step[k].group - 1;
        for (int j = k; !status && j <= end; j++)
            status = assign_whole(p, &a, k, j);
        for (int j = k; !status && j <= end; j++)       /* in the gaps that are left */
            status = assign_block(p, &a, j);
        if (!status)
            status = release_dead(p, &a, k, end, dying, next);
    }
#ifdef FG_DEBUG
    FG_ASSERT(status || !buffers_overlap(p));
#endif
    p->scratch = p->arena_bytes;                /* partial sums, of one group at a time, are after all else */
    for (int k = 0; k < p->n_steps; k += p->step[k].group) {
        int64_t end = p->scratch + partial_sums_bytes(&p->step[k]);
        p->arena_bytes = end > p->arena_bytes ? end : p->arena_bytes;
    }
    free(next);
    free(dying);
    free(a.gaps.item);
    free(a.blocks.item);
    free(a.free_blocks.item);
    free(a.dead.item);
    return status;
}
