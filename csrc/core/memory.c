/* memory.c: a pool allocator for arrays and nodes, with a free list for each size class.
 *
 * A freed block goes to the free list of its size class and is handed out again while it is still in a cache: a
 * training loop asks for the same sizes over and over, and fresh pages cost more than the work on them. Free lists hold
 * at most CACHE_LIMIT bytes; other blocks go back to the system. Blocks are 64-byte aligned. Mutable globals: the pool
 * and the counts.
 */
#define _ISOC11_SOURCE
#include "core/debug.h"
#include "fastgrad.h"

#include <stdlib.h>

#define ALIGNMENT 64
#define CACHE_LIMIT ((int64_t)128 << 20)
#define LARGEST_CACHED ((size_t)32 << 20)
#define LARGEST (SIZE_MAX / 2)          /* of a request: sizes that are rounded up do not overflow */

typedef struct block { struct block *next; } block;

/* Size classes: up to 1 KiB one for each 64 bytes, above that four between powers of two. */
enum { SMALL_CLASSES = 16, N_CLASSES = SMALL_CLASSES + 4 * 16 };
static block *free_blocks[N_CLASSES];

fg_counts fg_live;

static size_t aligned(size_t bytes) { return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

/* The class of a request of `bytes`, and the size of its blocks; -1 and `bytes`: too large for the pool. */
static int size_class(size_t bytes, size_t *capacity)
{
    if (bytes <= SMALL_CLASSES * ALIGNMENT) {
        int c = bytes ? (int)((bytes - 1) / ALIGNMENT) : 0;
        *capacity = (size_t)(c + 1) * ALIGNMENT;
        return c;
    }
    if (bytes > LARGEST_CACHED) {
        *capacity = bytes;                      /* fg_alloc_lasting rounds it up, or refuses it */
        return -1;
    }
    size_t base = SMALL_CLASSES * ALIGNMENT;
    int c = SMALL_CLASSES;
    while (bytes > 2 * base) {
        base *= 2;
        c += 4;
    }
    int quarter = (int)((bytes - base - 1) / (base / 4));
    *capacity = base + (size_t)(quarter + 1) * (base / 4);
    FG_ASSERT(c + quarter < N_CLASSES && *capacity >= bytes && *capacity % ALIGNMENT == 0);
    return c + quarter;
}

static void to_system(void *memory)
{
#if defined(_WIN32)
    _aligned_free(memory);
#else
    free(memory);
#endif
}

static void *no_memory(size_t bytes)
{
    fg_fail(FG_NO_MEMORY, "no memory for a block of %zu bytes", bytes);
    return NULL;
}

void *fg_alloc_lasting(size_t bytes)
{
    if (bytes > LARGEST)
        return no_memory(bytes);
    size_t capacity = aligned(bytes);
#if defined(_WIN32)
    void *memory = _aligned_malloc(capacity, ALIGNMENT);
#else
    void *memory = aligned_alloc(ALIGNMENT, capacity);
#endif
    if (!memory)
        return no_memory(bytes);
    fg_live.bytes += (int64_t)capacity;
    return memory;
}

void fg_free_lasting(void *memory, size_t bytes)
{
    FG_ASSERT((uintptr_t)memory % ALIGNMENT == 0);
    fg_live.bytes -= (int64_t)(aligned(bytes));
    FG_ASSERT(fg_live.bytes >= 0);
    to_system(memory);
}

void *fg_alloc(size_t bytes)
{
    size_t capacity;
    int c = size_class(bytes, &capacity);
    block *b = c < 0 ? NULL : free_blocks[c];
    if (!b)
        return fg_alloc_lasting(capacity);
    free_blocks[c] = b->next;
    fg_live.cached_bytes -= (int64_t)capacity;
    FG_ASSERT(fg_live.cached_bytes >= 0);
    fg_live.bytes += (int64_t)capacity;
    return b;
}

void fg_free(void *memory, size_t bytes)
{
    block *b = memory;
    size_t capacity;
    int c = size_class(bytes, &capacity);
    if (c < 0 || fg_live.cached_bytes + (int64_t)capacity > CACHE_LIMIT) {
        fg_free_lasting(b, capacity);
        return;
    }
    FG_ASSERT(b && (uintptr_t)b % ALIGNMENT == 0 && b != free_blocks[c]);
    b->next = free_blocks[c];
    free_blocks[c] = b;
    fg_live.bytes -= (int64_t)capacity;
    fg_live.cached_bytes += (int64_t)capacity;
}

void fg_pool_empty(void)
{
    for (int c = 0; c < N_CLASSES; c++)
        for (block *b = free_blocks[c]; b; b = free_blocks[c]) {
            free_blocks[c] = b->next;
            to_system(b);
        }
    fg_live.cached_bytes = 0;
}
