/* memory.c: a pool allocator for arrays and nodes.
 *
 * A freed block is kept and handed out again, while it may still be in a cache: a loop asks for the same sizes over and
 * over, and fresh pages, which the system zeroes, cost more than the work on them. Blocks of up to LARGEST_LISTED bytes
 * have a free list for each size class. Larger ones are in one array, in the order in which they were freed. Whenever
 * one is allocated or freed, those that have been kept for more than KEPT_SECONDS go back to the system, and so do the
 * oldest where there are too many. What is kept takes at most `limit` bytes, a quarter of that in the free lists,
 * and is given back before a request fails for lack of memory. Blocks are 64-byte aligned. Mutable globals: the pool,
 * its limit, and the counts.
 */
#define _DEFAULT_SOURCE         /* madvise */
#define _ISOC11_SOURCE
#include "core/debug.h"
#include "fastgrad.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(__GLIBC__)
#include <malloc.h>
#endif
#if defined(__linux__)
#include <sys/mman.h>
#endif

#ifdef __GNUC__
#define NOINLINE __attribute__((noinline))      /* so that the code for small blocks stays short */
#else
#define NOINLINE
#endif

#define ALIGNMENT 64
#define LARGEST_LISTED ((size_t)1 << 20)
#define LARGEST (SIZE_MAX / 4)          /* of a request: sizes that are rounded up do not overflow */
#define DEFAULT_LIMIT ((int64_t)512 << 20)
enum { KEPT_SECONDS = 3, MOST_LARGE = 256 };

typedef struct block { struct block *next; } block;

/* Size classes: up to 1 KiB one for each 64 bytes, above that four between powers of two. */
enum { SMALL_CLASSES = 16, N_CLASSES = SMALL_CLASSES + 4 * 10 };
static block *free_blocks[N_CLASSES];

/* The larger blocks, in the order in which they were freed. */
typedef struct {
    void *memory;
    size_t capacity;
    time_t freed;
} large_block;
static large_block large[MOST_LARGE];
static int n_large;
static int64_t large_bytes;

static int64_t limit = DEFAULT_LIMIT;
/* How many bytes may be kept when a small block is: a quarter of the limit, and the large blocks. */
static int64_t small_limit = DEFAULT_LIMIT / 4;
fg_counts fg_live;

static size_t aligned(size_t bytes) { return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

/* The size of a large block: there are eight between powers of two, so that at most an eighth is unused. */
static NOINLINE size_t large_capacity(size_t bytes)
{
    size_t eighth = LARGEST_LISTED / 8;
    if (bytes > LARGEST)
        return bytes;                           /* new_block refuses it */
    while (bytes > 16 * eighth)
        eighth *= 2;
    return (bytes + eighth - 1) / eighth * eighth;
}

/* The class of a request of `bytes`, and the size of its blocks; -1: it is a large one. */
static int size_class(size_t bytes, size_t *capacity)
{
    if (bytes <= SMALL_CLASSES * ALIGNMENT) {
        int c = bytes ? (int)((bytes - 1) / ALIGNMENT) : 0;
        *capacity = (size_t)(c + 1) * ALIGNMENT;
        return c;
    }
    if (bytes > LARGEST_LISTED) {
        *capacity = large_capacity(bytes);
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

static void *from_system(size_t capacity)
{
#if defined(_WIN32)
    void *memory = _aligned_malloc(capacity, ALIGNMENT);
#else
    void *memory = aligned_alloc(ALIGNMENT, capacity);
#endif
#if defined(__linux__)
    /* Pages of 2 MiB, where the system has them: fewer faults at the first use. It is advice, which may be refused. */
    enum { PAGE = 4096, LEAST = 4 << 20 };
    if (memory && capacity >= LEAST) {
        uintptr_t from = ((uintptr_t)memory + PAGE - 1) / PAGE * PAGE;
        (void)madvise((void *)from, ((uintptr_t)memory + capacity - from) / PAGE * PAGE, MADV_HUGEPAGE);
    }
#endif
    return memory;
}

/* A block of this capacity for a request of `bytes`, which an error tells. */
static void *new_block(size_t bytes, size_t capacity)
{
    if (bytes > LARGEST)
        return no_memory(bytes);
    void *memory = from_system(capacity);
    if (!memory && fg_live.cached_bytes) {
        fg_pool_empty();
        memory = from_system(capacity);
    }
    if (!memory)
        return no_memory(bytes);
    fg_live.bytes += (int64_t)capacity;
    return memory;
}

void *fg_alloc_lasting(size_t bytes) { return new_block(bytes, aligned(bytes)); }

void fg_free_lasting(void *memory, size_t bytes)
{
    FG_ASSERT((uintptr_t)memory % ALIGNMENT == 0);
    fg_live.bytes -= (int64_t)(aligned(bytes));
    FG_ASSERT(fg_live.bytes >= 0);
    to_system(memory);
}

/* ---- the larger blocks ------------------------------------------------------------------------------------------- */
static void take_out(int i)
{
    large_bytes -= (int64_t)large[i].capacity;
    small_limit -= (int64_t)large[i].capacity;
    fg_live.cached_bytes -= (int64_t)large[i].capacity;
    FG_ASSERT(large_bytes >= 0 && fg_live.cached_bytes >= large_bytes);
    n_large--;
    memmove(&large[i], &large[i + 1], (size_t)(n_large - i) * sizeof *large);
}

static void drop_oldest(void)
{
    to_system(large[0].memory);
    take_out(0);
}

/* Give back the blocks that have been kept for too long. Returns the time. */
static time_t drop_unused(void)
{
    time_t now = time(NULL);                    /* if it is set back, blocks are kept for longer */
    while (n_large && now - large[0].freed > KEPT_SECONDS)
        drop_oldest();
    return now;
}

static NOINLINE void *alloc_large(size_t bytes, size_t capacity)
{
    int i = n_large - 1;
    while (i >= 0 && large[i].capacity != capacity)
        i--;
    void *memory = i < 0 ? NULL : large[i].memory;
    if (memory) {
        take_out(i);
        fg_live.bytes += (int64_t)capacity;
    }
    drop_unused();
    return memory ? memory : new_block(bytes, capacity);
}

static NOINLINE void free_large(void *memory, size_t capacity)
{
    time_t now = drop_unused();
    int64_t most = limit - limit / 4;
    if ((int64_t)capacity > most) {
        fg_free_lasting(memory, capacity);
        return;
    }
    while (n_large == MOST_LARGE || large_bytes + (int64_t)capacity > most)
        drop_oldest();
    large[n_large++] = (large_block){memory, capacity, now};
    large_bytes += (int64_t)capacity;
    small_limit += (int64_t)capacity;
    fg_live.cached_bytes += (int64_t)capacity;
    fg_live.bytes -= (int64_t)capacity;
    FG_ASSERT(fg_live.bytes >= 0);
}

/* ---- all blocks -------------------------------------------------------------------------------------------------- */
void *fg_alloc(size_t bytes)
{
    size_t capacity;
    int c = size_class(bytes, &capacity);
    if (c < 0)
        return alloc_large(bytes, capacity);
    block *b = free_blocks[c];
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
    FG_ASSERT(b && (uintptr_t)b % ALIGNMENT == 0);
    if (c < 0) {
        free_large(b, capacity);
        return;
    }
    if (fg_live.cached_bytes + (int64_t)capacity > small_limit) {
        fg_free_lasting(b, capacity);
        return;
    }
    FG_ASSERT(b != free_blocks[c]);
    b->next = free_blocks[c];
    free_blocks[c] = b;
    fg_live.bytes -= (int64_t)capacity;
    fg_live.cached_bytes += (int64_t)capacity;
}

void fg_memory_trim(void)
{
    fg_pool_empty();
#if defined(__GLIBC__)
    malloc_trim(0);
#endif
}

void fg_pool_empty(void)
{
    while (n_large)
        drop_oldest();
    for (int c = 0; c < N_CLASSES; c++)
        for (block *b = free_blocks[c]; b; b = free_blocks[c]) {
            free_blocks[c] = b->next;
            to_system(b);
        }
    fg_live.cached_bytes = 0;
}

int64_t fg_pool_limit(void) { return limit; }

void fg_pool_set_limit(int64_t bytes)
{
    fg_pool_empty();
    limit = bytes;
    small_limit = limit / 4;
}
