/* halves.h: the parts of a long row, or of long columns, that are summed one by one, for native programs.
 *
 * A long row is summed as the sum of its first half plus the sum of the rest, and so on (FG_SUM_LEAF, FG_SUM_HALF and
 * FG_SUM_ROWS in kernels.h). Native programs, which compute what they sum part by part, go over the parts in order.
 */
#ifndef FG_KERNELS_HALVES_H
#define FG_KERNELS_HALVES_H

#include <stdint.h>

enum { FG_HALVES = 64 };    /* more than a row can be halved */

/* Elements from..to-1, the present part. It is within rows that are halved: number 0 is the whole one, number d + 1 a
 * half of number d, up to the part itself, which is number `depth`. */
typedef struct {
    int64_t from, to, leaf, unit;       /* rows longer than `leaf` are halved, at a multiple of `unit` */
    int depth;
    int64_t end[FG_HALVES];     /* of each */
    uint8_t upper[FG_HALVES];   /* is it the second half? */
} fg_halves;

/* Go to the first part of row number `depth`, which begins at `from`. */
static inline void first_part(fg_halves *h)
{
    for (int64_t n; (n = h->end[h->depth] - h->from) > h->leaf; h->upper[h->depth] = 0)
        h->end[++h->depth] = h->from + n / 2 / h->unit * h->unit;
    h->to = h->end[h->depth];
}

static inline fg_halves halves_of(int64_t n, int64_t leaf, int64_t unit)
{
    fg_halves h;
    h.leaf = leaf;
    h.unit = unit;
    h.from = h.depth = h.upper[0] = 0;
    h.end[0] = n;
    first_part(&h);
    return h;
}

/* Is row number `depth` a second half? Then it is summed with the first one, as the row number depth - 1. */
static inline int is_upper(const fg_halves *h) { return h->upper[h->depth]; }

/* After row number `depth`, which is no second half: go on in the half that follows. False if it is the whole row. */
static inline int next_half(fg_halves *h)
{
    if (!h->depth) return 0;
    h->from = h->end[h->depth];
    h->end[h->depth] = h->end[h->depth - 1];
    h->upper[h->depth] = 1;
    first_part(h);
    return 1;
}

#endif
