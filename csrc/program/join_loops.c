/* join_loops.c: where one while_loop computes all that another computes, and more, the other is not run. The jvp of a
 * loop is such a loop: it carries the tangents beside the values.
 *
 * Both are compared by their bodies: the same operations on the same operands, for the values that both carry.
 */
#include "program/passes.h"
#include "program/steps.h"

#include <stdlib.h>
#include <string.h>

enum { LARGEST = 1 << 20 }; /* pairs of instructions that are compared */

/* The attributes of while_loop: the condition, the body, the number of constants, which are its first operands. */
enum { CONDITION, STEP, CONSTANTS };

static int n_carried(const fg_program *p, const instruction *loop)
{
    return loop->n_in - (int)attrs_of(p, loop)[CONSTANTS];
}

/* Are these instructions of two bodies the same but for the names of their operands? same[v] is the value of q that
 * equals v of p, or -1. */
static int are_same(const fg_program *p, const instruction *a, const fg_program *q, const instruction *b,
                    const int *same)
{
    if (!fg_same_work(p, a, q, b))
        return 0;
    for (int i = 0; i < a->n_in; i++) {
        int v = operands_of(p, a)[i], w = operands_of(q, b)[i];
        if (v < 0 ? w >= 0 : w < 0 || same[v] != w)
            return 0;
    }
    return 1;
}

/* Fill in `same` for the constants and results of body p. */
static void match_values(const fg_program *p, const fg_program *q, int *same)
{
    for (int v = 0; v < p->values.n; v++)
        for (int w = 0; values_of(p)[v].from == CONSTANT && values_of(p)[v].array && w < q->values.n; w++)
            if (values_of(q)[w].from == CONSTANT && values_of(q)[w].array &&
                fg_same_array(values_of(p)[v].array, values_of(q)[w].array))
                same[v] = w;
    for (int k = 0; k < p->instructions.n; k++)
        for (int j = 0; j < q->instructions.n; j++)
            if (are_same(p, &instructions_of(p)[k], q, &instructions_of(q)[j], same)) {
                same[instructions_of(p)[k].y] = instructions_of(q)[j].y;
                break;
            }
}

/* Do the first results of body i of loop b equal all results of that of loop a, whenever their common operands are
 * equal? 1, 0, or -1: no memory. */
static int body_contains(const fg_program *p, const instruction *a, const instruction *b, int i)
{
    const fg_program *body = fg_body(attrs_of(p, a), i), *other = fg_body(attrs_of(p, b), i);
    const int *in = operands_of(p, a), *its = operands_of(p, b);
    int m = (int)attrs_of(p, a)[CONSTANTS], n = (int)attrs_of(p, b)[CONSTANTS], contains = 1;
    if ((int64_t)body->instructions.n * other->instructions.n > LARGEST)
        return 0;
    int *same = malloc((size_t)body->n_buffers * sizeof *same + 1);
    if (!same)
        return -1;
    for (int v = 0; v < body->n_buffers; v++)
        same[v] = -1;
    for (int v = 0; v < m; v++)
        for (int w = 0; w < n; w++)
            if (in[v] == its[w])
                same[v] = w;
    for (int k = 0; k < n_carried(p, a); k++)
        same[m + k] = n + k;
    match_values(body, other, same);
    for (int k = 0; k < body->n_out; k++)
        contains = contains && same[body->out[k]] == other->out[k];
    free(same);
    return contains;
}

/* Does loop b carry what loop a carries, from the same values on, and more? Then the results of a are at the same
 * places of b's block of results. 1, 0, or -1: no memory. */
static int loop_contains(const fg_program *p, const instruction *a, const instruction *b)
{
    int m = (int)attrs_of(p, a)[CONSTANTS], n = (int)attrs_of(p, b)[CONSTANTS];
    if (n_carried(p, b) <= n_carried(p, a) || fg_draws(a->op, attrs_of(p, a)) || fg_draws(b->op, attrs_of(p, b)))
        return 0;
    for (int k = 0; k < n_carried(p, a); k++)
        if (operands_of(p, a)[m + k] != operands_of(p, b)[n + k])
            return 0;
    int found = body_contains(p, a, b, CONDITION);
    return found == 1 ? body_contains(p, a, b, STEP) : found;
}

/* Sort instructions so that each comes after those of its operands, in the old order where that is possible. 0: there
 * is no such order; -1: no memory. */
static int sort_instructions(fg_program *p)
{
    int n = p->instructions.n, placed = 0, before = -1;
    instruction *sorted = malloc((size_t)(n + 1) * sizeof *sorted);
    char *known = calloc((size_t)p->values.n + 1, 1), *taken = calloc((size_t)n + 1, 1);
    int status = sorted && known && taken ? 1 : -1;
    for (int v = 0; status > 0 && v < p->values.n; v++)
        known[v] = values_of(p)[v].from != RESULT;
    while (status > 0 && placed < n && placed > before) {
        before = placed;
        for (int k = 0; k < n; k++) {
            const instruction *a = &instructions_of(p)[k];
            int ready = !taken[k];
            for (int i = 0; ready && i < a->n_in; i++)
                ready = operands_of(p, a)[i] < 0 || known[operands_of(p, a)[i]];
            if (ready) {
                sorted[placed++] = *a;
                known[a->y] = taken[k] = 1;
            }
        }
    }
    if (status > 0 && placed == n)
        memcpy(p->instructions.item, sorted, (size_t)n * sizeof *sorted);
    else if (status > 0)
        status = 0;
    free(sorted);
    free(known);
    free(taken);
    return status;
}

/* Let what reads the results of loop a read those of loop b, unless b depends on a. */
static int join(fg_program *p, int a, int b)
{
    size_t bytes = (size_t)p->operands.n * sizeof(int);
    int *kept = malloc(bytes + 1), from = instructions_of(p)[a].y, to = instructions_of(p)[b].y;
    if (!kept)
        return -1;
    memcpy(kept, p->operands.item, bytes);
    for (int i = 0; i < p->operands.n; i++)
        if (kept[i] == from)
            ((int *)p->operands.item)[i] = to;
    int status = sort_instructions(p);
    if (status != 1)
        memcpy(p->operands.item, kept, bytes);
    free(kept);
    return status;
}

static int is_read(const fg_program *p, int v)
{
    for (int k = 0; k < p->instructions.n; k++)
        for (int i = 0; i < instructions_of(p)[k].n_in; i++)
            if (operands_of(p, &instructions_of(p)[k])[i] == v)
                return 1;
    return 0;
}

/* Join one pair: 1; 0: there is none; -1: no memory. */
static int join_a_pair(fg_program *p)
{
    for (int a = 0; a < p->instructions.n; a++)
        for (int b = 0; instructions_of(p)[a].op == FG_OP_while_loop && b < p->instructions.n; b++) {
            const instruction *one = &instructions_of(p)[a], *other = &instructions_of(p)[b];
            if (a == b || other->op != FG_OP_while_loop || !is_read(p, one->y))
                continue;
            int found = loop_contains(p, one, other);
            if (found == 1)
                found = join(p, a, b);
            if (found)
                return found;
        }
    return 0;
}

int fg_pass_join_loops(fg_program *p)
{
    int loops = 0, found = 1;
    for (int k = 0; k < p->instructions.n; k++) {
        const instruction *a = &instructions_of(p)[k];
        loops += a->op == FG_OP_while_loop;
        if (fg_draws(a->op, attrs_of(p, a))) /* draws keep their order */
            return FG_OK;
    }
    for (; loops > 1 && found == 1; loops--) /* each time one loop less is read */
        found = join_a_pair(p);
    return found < 0 ? fg_fail(FG_NO_MEMORY, "no memory for a program") : FG_OK;
}
