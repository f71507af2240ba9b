/* share.c: which groups, and which long steps outside of groups, several threads share, in which parts, and what memory
 * that takes.
 *
 * The parts depend on the program alone, never on how many threads there are, and an element on nothing but its
 * operands; sums are parted where they are halved anyway, or by columns. So the bits are the same with any number of
 * threads. What exists a block at a time has a place in the memory of each thread.
 */
#include "program/passes.h"
#include "program/steps.h"

/* In elements times steps, each of which takes a quarter of a nanosecond or more: what is worth sharing, and the least
 * part. MOST_DEPTH: there are about two to its power parts at most, so that threads end at nearly the same time.
 * PARTIALS: bytes that the partial sums of all parts may take. */
enum { WORTH = 1 << 18, LEAST_PART = 1 << 15, MOST_DEPTH = 6, PARTIALS = 1 << 20 };

static buffer *result_root(const fg_program *p, const step *s) { return &p->buffer[p->buffer[s->y].root]; }

static int64_t block_bytes(const buffer *y)
{
    return (y->blockwise * (int64_t)fg_itemsize(y->array.dtype) + 2 * FG_ALIGN - 1) / FG_ALIGN * FG_ALIGN;
}

/* Give each blockwise buffer of the group its place: those that share an offset share that, too, whose elements may
 * have different sizes. Returns the bytes that all take together. */
static int64_t place_blocks(fg_program *p, const step *first)
{
    int64_t bytes = 0;
    for (int j = 0; j < first->group; j++) {
        const buffer *y = result_root(p, &first[j]);
        int64_t size = 0;
        int is_placed = 0;
        for (int i = 0; y->blockwise && i < first->group; i++) {
            buffer *other = result_root(p, &first[i]);
            if (!other->blockwise || other->offset != y->offset)
                continue;
            is_placed = is_placed || i < j;
            size = block_bytes(other) > size ? block_bytes(other) : size;
            if (!is_placed)
                other->place = bytes;
        }
        bytes += is_placed ? 0 : size;
    }
    return bytes;
}

static void share(fg_program *p, step *first)
{
    int64_t sums = 0, work = first->n * first->group, unit = first->block ? first->block : FG_BLOCK;
    if (first->kind == RUN || work < WORTH || first->order)
        return;
    for (int j = 0; j < first->group; j++)
        sums += partial_bytes(first, &first[j]);
    if (first->strip) { /* its sums are those of its own columns */
        int64_t strips = (first->width + first->strip - 1) / first->strip, most = work / LEAST_PART;
        most = most > (int64_t)1 << MOST_DEPTH ? (int64_t)1 << MOST_DEPTH : most;
        first->part = (strips + most - 1) / most * first->strip;
        first->parts = (first->width + first->part - 1) / first->part;
    } else if (sums) {
        while (first->depth < MOST_DEPTH && work >> (first->depth + 1) >= LEAST_PART &&
               sums << (first->depth + 1) <= PARTIALS)
            first->depth++;
        first->parts = (int64_t)1 << first->depth;
        first->part = 0;
    } else {
        int64_t least = LEAST_PART / first->group, even = first->n >> MOST_DEPTH;
        first->part = ((least > even ? least : even) + unit - 1) / unit * unit;
        first->parts = (first->n + first->part - 1) / first->part;
    }
    if (first->parts < 2)
        return;
    first->thread_blocks = first->block ? place_blocks(p, first) : 0;
    int64_t bytes = first->thread_blocks + first->group * (int64_t)FG_BOUND_BYTES;
    for (int64_t n = elements_in_turn(first), half; sums && (half = sums_half(block_width(first), n)); n -= half)
        bytes += sums;
    bytes = (bytes + FG_ALIGN - 1) / FG_ALIGN * FG_ALIGN;
    p->thread_bytes = bytes > p->thread_bytes ? bytes : p->thread_bytes;
    sums = first->strip ? 0 : sums * first->parts;
    p->partials_bytes = sums > p->partials_bytes ? sums : p->partials_bytes;
}

int fg_pass_share(fg_program *p)
{
    for (int k = 0; k < p->n_steps - p->n_late; k += p->step[k].group)
        share(p, &p->step[k]);
    for (int v = 0; v < p->n_buffers; v++) /* of views, too */
        p->buffer[v].place = p->buffer[p->buffer[v].root].place;
    return FG_OK;
}
