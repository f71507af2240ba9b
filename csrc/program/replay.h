/* replay.h: what a run of a program writes, an fg_replay. bind.c makes it, replay.c runs the program on it, and
 * native_services.c lets native programs do so.
 */
#ifndef FG_REPLAY_H
#define FG_REPLAY_H

#include "core/debug.h"
#include "program/steps.h"

/* A step bound to its memory: a kernel and its pointers. One cache line, because small programs do little else than
 * read these. */
typedef struct {
    uint8_t kind, stride[3];
    /* whole: it runs at once, not in blocks; in_runs: it reads operands in runs; is_spread: that, or it loads an
     * operand, or has one element for each row of its group; shared: by several threads, with its group. */
    uint32_t whole : 1, in_runs : 1, is_spread : 1, shared : 1, group : 28;
    void *kernel;
    int64_t n;
    char *at[FG_RESULT + 1];    /* of a RUN step: its fg_call and its result's fg_array */
} bound_step;
_Static_assert(sizeof(bound_step) <= FG_BOUND_BYTES, "share.c plans the memory of threads by it");

/* *at is the address of input `source`, or of output `source` - n_in, plus `shift` bytes. */
typedef struct {
    int source;
    int64_t shift;
    char **at;
} patch;

struct fg_replay {
    fg_replay *next;
    char *arena;
    void **address, **owner;
    void **input;               /* memory of its own for inputs, where asked for */
    bound_step *bound_step;
    fg_replay **body_replays;   /* of the bodies of its steps, step by step */
    int n_patches;
    patch *patch;               /* in the order of their sources */
    fg_array *array;            /* one for each buffer */
    char *team;                 /* memory for the threads beside the caller's, `team_size` at most, or NULL */
    int team_size;
};

/* The index in the address array whose memory a value has, or -1: it is in the arena or a constant. */
static inline int source_of(const fg_program *p, int v)
{
    int root = p->buffer[v].root;
    if (p->buffer[root].offset >= 0)
        return -1;
    return root < p->n_in ? root : p->buffer[root].output < 0 ? -1 : p->n_in + p->buffer[root].output;
}

static inline char *address_of(const fg_program *p, const fg_replay *r, int v)
{
    const buffer *root = &p->buffer[p->buffer[v].root];
    FG_ASSERT(root->offset < 0 || root->blockwise || root->panel ||
              root->offset + p->buffer[v].shift + bytes_at(p, v) <= p->arena_bytes);
    return (root->offset >= 0 ? r->arena + root->offset : (char *)root->array.data) + p->buffer[v].shift;
}

/* Set the pointers that depend on the addresses of the inputs from `from` on, and of the outputs. */
static inline void bind_addresses(fg_replay *r, int from)
{
    for (const patch *x = r->patch + r->n_patches; x-- > r->patch && x->source >= from;)
        *x->at = (char *)r->address[x->source] + x->shift;
}

int fg_replay_run_step(const fg_program *, fg_replay *, int k);    /* and its group */

/* What native programs call: native_services.c fills it in before one is set. */
extern fg_services fg_native_services;

#endif
