/* order.c: argsort, the order of the elements along the last axis, of which sorts, medians and quantiles are made.
 *
 * An element becomes a key, an unsigned integer of the same order: nan is last, and -0 and 0 are equal. Pairs of a key
 * and a position are sorted, stably: by insertion and merging where there are few, else digit by digit from the last
 * (radix sort), leaving out the digits in which no two keys differ. Where only some places of the order are wanted, as
 * for a median, the candidates are narrowed to those with the leading digits of the element at the place, which takes
 * time in proportion to their number.
 *
 * Scratch memory is on the stack for short rows, else from the system: programs run without the lock of the pool.
 */
#include "fastgrad.h"

#include <stdlib.h>
#include <string.h>

enum {
    INSERTION = 16,     /* pairs that are sorted by insertion */
    SHORT = 256,        /* the longest row with its pairs on the stack */
    MERGED = 1024,      /* more pairs than this are sorted by digits */
    DIGIT = 11,
    DIGITS = 1 << DIGIT, /* bits of a digit, and how many values it has */
    FEW_PLACES = 8,     /* more places than this are read off the whole order */
};

typedef struct {
    uint64_t key;
    int64_t position;
} pair;

static uint64_t key_of_bits(uint64_t bits, uint64_t sign) { return bits & sign ? ~bits & (2 * sign - 1) : bits | sign; }

/* The pairs of a row; `flip` is all ones for descending order, else 0. */
static void pairs_of(int dtype, int64_t n, const void *x, uint64_t flip, pair *to)
{
    for (int64_t i = 0; i < n; i++) {
        uint64_t key;
        if (dtype == FG_FLOAT64) {
            double value = ((const double *)x)[i] + 0.0; /* 0 for -0 */
            memcpy(&key, &value, sizeof key);
            key = value != value ? UINT64_MAX : key_of_bits(key, (uint64_t)1 << 63);
        } else {
            float value = ((const float *)x)[i] + 0.0f;
            uint32_t bits;
            memcpy(&bits, &value, sizeof bits);
            key = value != value ? UINT32_MAX : key_of_bits(bits, (uint64_t)1 << 31);
        }
        to[i] = (pair){key ^ flip, i};
    }
}

static void sort_by_insertion(int64_t n, pair *a)
{
    for (int64_t i = 1; i < n; i++) {
        pair moved = a[i];
        int64_t j = i;
        for (; j > 0 && a[j - 1].key > moved.key; j--)
            a[j] = a[j - 1];
        a[j] = moved;
    }
}

/* Merge a[0..half) and a[half..n) into `to`. */
static void merge(int64_t half, int64_t n, const pair *a, pair *to)
{
    const pair *left = a, *right = a + half, *middle = right, *end = a + n;
    while (left < middle && right < end) {
        int is_right = right->key < left->key;
        *to++ = is_right ? *right : *left;
        right += is_right;
        left += !is_right;
    }
    memcpy(to, left, (size_t)(middle - left) * sizeof *to);
    memcpy(to + (middle - left), right, (size_t)(end - right) * sizeof *to);
}

/* Sorted pairs, in a or in scratch. */
static pair *sort_by_merging(int64_t n, pair *a, pair *scratch)
{
    for (int64_t i = 0; i < n; i += INSERTION)
        sort_by_insertion(n - i < INSERTION ? n - i : INSERTION, a + i);
    for (int64_t half = INSERTION; half < n; half *= 2) {
        for (int64_t i = 0; i < n; i += 2 * half) {
            int64_t length = n - i < 2 * half ? n - i : 2 * half;
            merge(half < length ? half : length, length, a + i, scratch + i);
        }
        pair *sorted = scratch;
        scratch = a;
        a = sorted;
    }
    return a;
}

static pair *sort_by_digits(int64_t n, pair *a, pair *scratch)
{
    uint64_t differ = 0;
    for (int64_t i = 1; i < n; i++)
        differ |= a[i].key ^ a[0].key;
    for (int shift = 0; shift < 64 && differ >> shift; shift += DIGIT) {
        if (!(differ >> shift & (DIGITS - 1)))
            continue;
        int64_t at[DIGITS] = {0}, sum = 0;
        for (int64_t i = 0; i < n; i++)
            at[a[i].key >> shift & (DIGITS - 1)]++;
        for (int d = 0; d < DIGITS; d++) {
            int64_t count = at[d];
            at[d] = sum;
            sum += count;
        }
        for (int64_t i = 0; i < n; i++)
            scratch[at[a[i].key >> shift & (DIGITS - 1)]++] = a[i];
        pair *sorted = scratch;
        scratch = a;
        a = sorted;
    }
    return a;
}

static pair *sorted(int64_t n, pair *a, pair *scratch)
{
    int64_t in_order = 1;
    while (in_order < n && a[in_order - 1].key <= a[in_order].key)
        in_order++;
    if (in_order >= n)
        return a;
    return n <= MERGED ? sort_by_merging(n, a, scratch) : sort_by_digits(n, a, scratch);
}

/* The position of the element at a place of the order. The candidates are first all pairs of `a`; each round leaves
 * fewer, which are moved to the beginning of scratch, still in the order of their positions. */
static int64_t position_at(int64_t place, int64_t n, const pair *a, pair *scratch)
{
    for (;;) {
        uint64_t least = a[0].key, most = a[0].key;
        for (int64_t i = 1; i < n; i++) {
            least = a[i].key < least ? a[i].key : least;
            most = a[i].key > most ? a[i].key : most;
        }
        if (least == most)
            return a[place].position;
        if (n <= INSERTION) {
            if (a != scratch)
                memcpy(scratch, a, (size_t)n * sizeof *a);
            sort_by_insertion(n, scratch);
            return scratch[place].position;
        }
        uint64_t digit = 0;
        int shift = 0;
        while ((least ^ most) >> shift >= DIGITS) /* the leading digit in which candidates differ */
            shift++;
        if (place == 0 || place == n - 1) {
            digit = (place ? most : least) >> shift;
            place = place ? -1 : 0;
        } else {
            int64_t count[DIGITS] = {0};
            uint64_t lowest = least >> shift;
            for (int64_t i = 0; i < n; i++)
                count[(a[i].key >> shift) - lowest]++;
            while (place >= count[digit])
                place -= count[digit++];
            digit += lowest;
        }
        int64_t kept = 0;
        for (int64_t i = 0; i < n; i++) {
            scratch[kept] = a[i];
            kept += a[i].key >> shift == digit;
        }
        place = place < 0 ? kept - 1 : place;
        a = scratch;
        n = kept;
    }
}

/* attr: whether the order is descending, then the places of it that are wanted, or none for all. The result has the
 * position in its row of the element at each place. */
int fg_argsort_shape(const fg_call *c, fg_shape **shape, int *dtype)
{
    const fg_array *x = c->in[0].array;
    if (!FG_IS_FLOAT(x->dtype))
        return fg_not_float("argsort", x);
    int64_t dim[FG_MAX_NDIM];
    int ndim = x->shape->ndim;
    if (ndim == 0)
        return fg_fail(FG_BAD_VALUE, "argsort: expected at least one axis, got a single number");
    memcpy(dim, x->shape->dim, (size_t)ndim * sizeof *dim);
    for (int k = 1; k < c->n_attr; k++)
        if (c->attr[k] < 0 || c->attr[k] >= dim[ndim - 1])
            return fg_fail(FG_BAD_INDEX, "argsort: place %lld is outside an axis of length %lld", (long long)c->attr[k],
                           (long long)dim[ndim - 1]);
    if (c->n_attr > 1)
        dim[ndim - 1] = c->n_attr - 1;
    *dtype = FG_INT64;
    return fg_shape_made(fg_shape_new(ndim, dim), shape);
}

int fg_argsort_run(const fg_call *c, fg_array *y)
{
    const fg_array *x = c->in[0].array;
    int64_t n = x->shape->dim[x->shape->ndim - 1], places = c->n_attr - 1, *to = y->data;
    if (!y->shape->size)
        return FG_OK;
    pair stack[2 * SHORT], *a = stack;
    if (n > SHORT && (a = malloc(2 * (size_t)n * sizeof *a)) == NULL)
        return fg_fail(FG_NO_MEMORY, "argsort: no memory to order %lld elements", (long long)n);
    const char *row = x->data, *end = row + (size_t)x->shape->size * fg_itemsize(x->dtype);
    for (; row < end; row += (size_t)n * fg_itemsize(x->dtype)) {
        pairs_of(x->dtype, n, row, c->attr[0] ? UINT64_MAX : 0, a);
        if (places && places <= FEW_PLACES) {
            for (int64_t k = 0; k < places; k++)
                *to++ = position_at(c->attr[1 + k], n, a, a + n);
            continue;
        }
        const pair *order = sorted(n, a, a + n);
        for (int64_t k = 0; k < (places ? places : n); k++)
            *to++ = order[places ? c->attr[1 + k] : k].position;
    }
    if (a != stack)
        free(a);
    return FG_OK;
}
