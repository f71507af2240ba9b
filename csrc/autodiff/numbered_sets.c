/* numbered_sets.c: sets of small integers, of which equal ones have one number.
 *
 * The pattern of a Jacobian says for each element of each intermediate value on which results it depends. Mostly few
 * different sets occur, and what moves or combines elements moves numbers of sets. So a set is stored once: its
 * elements in ascending order, and its number in a hash table by them. Sets of one element are not in the table, since
 * their numbers are known.
 */
#include "core/debug.h"
#include "fastgrad.h"
#include "sparsity.h"

#include <stdlib.h>
#include <string.h>

#define PAUSE_AFTER (1 << 20)   /* elements looked at, about a millisecond */

struct fg_sets {
    int32_t n, count;           /* the numbers in them are below n; how many sets there are */
    int64_t room, *start;       /* set i has the elements from start[i] to start[i + 1]; start has room + 1 places */
    uint32_t *hash;             /* of each set */
    int64_t capacity;
    int32_t *elements;
    int64_t slots;              /* of the hash table, a power of two; 0: a free one */
    int32_t *table;
    int32_t *scratch;           /* n elements */
    int32_t *seen, mark;        /* seen[k] == mark: k is in the union being made */
    int32_t last;               /* the number of the union made last */
    int64_t work;               /* elements looked at since the last pause */
};

static int no_memory(void) { return fg_fail(FG_NO_MEMORY, "no memory for the pattern of a sparse Jacobian"); }

/* Make room for `wanted` items, at least twice as many as there are. */
static int grow(void **items, int64_t *room, int64_t wanted, size_t itemsize)
{
    if (wanted <= *room)
        return FG_OK;
    int64_t more = wanted > 2 * *room ? wanted : 2 * *room;
    void *larger = realloc(*items, ((size_t)more + 1) * itemsize);
    if (!larger)
        return no_memory();
    *items = larger;
    *room = more;
    return FG_OK;
}

fg_sets *fg_sets_new(int32_t n)
{
    fg_sets *s = calloc(1, sizeof *s);
    size_t places = (size_t)n + 1;
    if (s) {
        s->n = n;
        s->count = n + 1;
        s->room = s->count;
        s->capacity = n;
        for (s->slots = 1024; s->slots < n;)
            s->slots *= 2;      /* no page of it is in memory before a set gets there */
        s->start = malloc((places + 1) * sizeof *s->start);
        s->hash = malloc((places + 1) * sizeof *s->hash);
        s->elements = malloc(places * sizeof *s->elements);
        s->table = calloc((size_t)s->slots, sizeof *s->table);
        s->scratch = malloc(places * sizeof *s->scratch);
        s->seen = calloc(places, sizeof *s->seen);
    }
    if (!s || !s->start || !s->hash || !s->elements || !s->table || !s->scratch || !s->seen) {
        fg_sets_free(s);
        no_memory();
        return NULL;
    }
    s->start[0] = 0;
    for (int32_t i = 0; i < n; i++) {
        s->start[i + 1] = i;
        s->elements[i] = i;
    }
    s->start[n + 1] = n;
    return s;
}

void fg_sets_free(fg_sets *s)
{
    if (!s)
        return;
    free(s->start);
    free(s->hash);
    free(s->elements);
    free(s->table);
    free(s->scratch);
    free(s->seen);
    free(s);
}

static int64_t size_of(const fg_sets *s, int32_t i) { return s->start[i + 1] - s->start[i]; }

/* Let the caller in if it is time: `more` elements are about to be looked at. */
static int pause_after(fg_sets *s, int64_t more)
{
    s->work += more;
    if (s->work < PAUSE_AFTER || !fg_on_pause)
        return FG_OK;
    s->work = 0;
    return fg_on_pause();
}

static uint32_t hash_of(int64_t n, const int32_t *elements)
{
    uint64_t hash = (uint64_t)n;
    for (int64_t i = 0; i < n; i++)
        hash = (hash ^ (uint32_t)elements[i]) * 0x9E3779B97F4A7C15u + (hash >> 29);
    return (uint32_t)(hash >> 32);
}

/* Twice as many slots. */
static int widen_table(fg_sets *s)
{
    int64_t slots = 2 * s->slots;
    int32_t *table = calloc((size_t)slots, sizeof *table);
    if (!table)
        return no_memory();
    for (int32_t i = s->n + 1; i < s->count; i++) {
        int64_t slot = s->hash[i] & (slots - 1);
        while (table[slot])
            slot = (slot + 1) & (slots - 1);
        table[slot] = i;
    }
    free(s->table);
    s->table = table;
    s->slots = slots;
    return FG_OK;
}

/* Is set i that of the first n elements of scratch? */
static int is_scratch(const fg_sets *s, int32_t i, int64_t n)
{
    return size_of(s, i) == n && !memcmp(s->elements + s->start[i], s->scratch, (size_t)n * sizeof *s->scratch);
}

/* The number of the set of the first n >= 2 elements of scratch, which ascend. */
static int number_of_scratch(fg_sets *s, int64_t n, int32_t *number)
{
    FG_ASSERT(n >= 2);
    int32_t next = s->last + 1; /* an operation often makes the sets that another one made, in the same order */
    if (next > s->n && next < s->count && is_scratch(s, next, n)) {
        *number = s->last = next;
        return FG_OK;
    }
    uint32_t hash = hash_of(n, s->scratch);
    int64_t slot = hash & (s->slots - 1);
    for (; s->table[slot]; slot = (slot + 1) & (s->slots - 1)) {
        int32_t i = s->table[slot];
        if (s->hash[i] == hash && is_scratch(s, i, n)) {
            *number = s->last = i;
            return FG_OK;
        }
    }
    int64_t used = s->start[s->count], room = s->room;
    if (s->count == INT32_MAX || used > INT64_MAX / 8 - n)
        return no_memory();
    int status = grow((void **)&s->start, &room, (int64_t)s->count + 1, sizeof *s->start);
    if (!status)
        status = grow((void **)&s->hash, &s->room, (int64_t)s->count + 1, sizeof *s->hash);
    if (!status)
        status = grow((void **)&s->elements, &s->capacity, used + n, sizeof *s->elements);
    if (status)
        return status;
    memcpy(s->elements + used, s->scratch, (size_t)n * sizeof *s->scratch);
    s->hash[s->count] = hash;
    s->table[slot] = *number = s->last = s->count++;
    s->start[s->count] = used + n;
    return 2 * (int64_t)(s->count - s->n) > s->slots ? widen_table(s) : FG_OK;
}

/* Whether set b holds all elements of a much smaller set a. */
static int holds(const fg_sets *s, int32_t b, int32_t a)
{
    const int32_t *low = s->elements + s->start[b], *end = s->elements + s->start[b + 1];
    for (int64_t i = s->start[a]; i < s->start[a + 1]; i++) {
        const int32_t *high = end;
        while (low < high) {
            const int32_t *middle = low + (high - low) / 2;
            if (*middle < s->elements[i])
                low = middle + 1;
            else
                high = middle;
        }
        if (low == end || *low != s->elements[i])
            return 0;
    }
    return 1;
}

/* The union of two different sets that are not empty. */
static int union_of(fg_sets *s, int32_t a, int32_t b, int32_t *number)
{
    if (size_of(s, a) > size_of(s, b)) {
        int32_t larger = a;
        a = b;
        b = larger;
    }
    if (size_of(s, a) * 8 <= size_of(s, b) && holds(s, b, a)) {
        *number = b;
        return FG_OK;
    }
    const int32_t *x = s->elements + s->start[a], *x_end = s->elements + s->start[a + 1];
    const int32_t *y = s->elements + s->start[b], *y_end = s->elements + s->start[b + 1];
    int32_t *to = s->scratch;
    while (x < x_end && y < y_end) {
        int32_t smaller = *x < *y ? *x : *y;
        x += *x == smaller;
        y += *y == smaller;
        *to++ = smaller;
    }
    for (; x < x_end; x++)
        *to++ = *x;
    for (; y < y_end; y++)
        *to++ = *y;
    return number_of_scratch(s, to - s->scratch, number);
}

int fg_sets_union(fg_sets *s, int64_t n, const int32_t *a, const int32_t *b, int32_t *y)
{
    int32_t last_a = 0, last_b = 0, last = 0; /* equal pairs often follow each other */
    for (int64_t i = 0; i < n; i++) {
        if (a[i] == b[i] || !b[i]) {
            y[i] = a[i];
        } else if (!a[i]) {
            y[i] = b[i];
        } else {
            if (a[i] != last_a || b[i] != last_b) {
                int status = pause_after(s, size_of(s, a[i]) + size_of(s, b[i]));
                if (!status)
                    status = union_of(s, a[i], b[i], &last);
                if (status)
                    return status;
                last_a = a[i];
                last_b = b[i];
            }
            y[i] = last;
        }
    }
    return FG_OK;
}

static int by_size(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* The union of the sets x[order[k] * stride], or x[k * stride] if order is NULL, for the k from `from` to `end`. */
static int union_of_many(fg_sets *s, const int32_t *x, int64_t stride, const int64_t *order, int64_t from, int64_t end,
                         int32_t *number)
{
    int32_t first = 0, last = 0; /* the first set that is not empty, and the one looked at last */
    int64_t size = 0;
    int ascends = 1;
    *number = 0;
    for (int64_t k = from; k < end; k++) {
        int32_t set = x[(order ? order[k] : k) * stride];
        if (!set || set == last)
            continue;
        last = set;
        if (!first) {
            first = set;
            continue;
        }
        if (!size) { /* there is a second one: begin with the elements of the first */
            if (set == first)
                continue;
            if (s->mark == INT32_MAX) {
                memset(s->seen, 0, ((size_t)s->n + 1) * sizeof *s->seen);
                s->mark = 0;
            }
            s->mark++;
            for (int64_t i = s->start[first]; i < s->start[first + 1]; i++) {
                s->seen[s->elements[i]] = s->mark;
                s->scratch[size++] = s->elements[i];
            }
        }
        int status = pause_after(s, size_of(s, set));
        if (status)
            return status;
        for (int64_t i = s->start[set]; i < s->start[set + 1]; i++) {
            int32_t element = s->elements[i];
            if (s->seen[element] == s->mark)
                continue;
            s->seen[element] = s->mark;
            ascends &= element > s->scratch[size - 1];
            s->scratch[size++] = element;
        }
    }
    if (!size) {
        *number = first;
        return FG_OK;
    }
    if (!ascends && size > s->n / 16) { /* reading the marks is quicker than sorting */
        size = 0;
        for (int32_t element = 0; element < s->n; element++)
            if (s->seen[element] == s->mark)
                s->scratch[size++] = element;
    } else if (!ascends) {
        qsort(s->scratch, (size_t)size, sizeof *s->scratch, by_size);
    }
    return number_of_scratch(s, size, number);
}

/* Are two columns of rows of `inner` sets alike? */
static int are_alike(const int32_t *x, int64_t n, int64_t inner)
{
    for (int64_t k = 0; k < n; k++)
        if (x[k * inner] != x[k * inner + 1])
            return 0;
    return 1;
}

int fg_sets_gather(fg_sets *s, int64_t n, int64_t inner, const int32_t *x, const int64_t *to, int64_t n_y, int32_t *y)
{
    int64_t *start = calloc((size_t)n_y + 1, sizeof *start), *order = NULL;
    if (!start)
        return no_memory();
    int ascends = 1;
    for (int64_t k = 0; k < n; k++) {
        FG_ASSERT(to[k] >= 0 && to[k] < n_y);
        ascends &= !k || to[k] >= to[k - 1];
        start[to[k] + 1]++;
    }
    for (int64_t j = 0; j < n_y; j++)
        start[j + 1] += start[j];
    int status = FG_OK;
    if (!ascends) {
        order = malloc(((size_t)n + 1) * sizeof *order);
        if (!order) {
            free(start);
            return no_memory();
        }
        for (int64_t k = 0; k < n; k++)
            order[start[to[k]]++] = k; /* moves each start to the next one */
        memmove(start + 1, start, (size_t)n_y * sizeof *start);
        start[0] = 0;
    }
    for (int64_t c = 0; !status && c < inner; c++) {
        int is_like_last = c && are_alike(x + c - 1, n, inner);
        for (int64_t j = 0; !status && j < n_y; j++)
            if (is_like_last)
                y[j * inner + c] = y[j * inner + c - 1];
            else
                status = union_of_many(s, x + c, inner, order, start[j], start[j + 1], &y[j * inner + c]);
    }
    free(start);
    free(order);
    return status;
}

void fg_sets_starts(const fg_sets *s, int64_t n, const int32_t *x, int64_t *start)
{
    start[0] = 0;
    for (int64_t i = 0; i < n; i++)
        start[i + 1] = start[i] + size_of(s, x[i]);
}

void fg_sets_columns(const fg_sets *s, int64_t n, const int32_t *x, int32_t *columns)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = s->start[x[i]]; k < s->start[x[i] + 1]; k++)
            *columns++ = s->elements[k];
}
