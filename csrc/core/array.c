/* array.c: shapes and arrays, reference-counted values without Python.
 *
 * Data is always contiguous, so that every kernel is a plain loop. A view shares the memory of an array and holds a
 * reference to it; a view of a view holds the array itself, so that chains do not grow. An abstract array has no
 * data.
 */
#include "core/debug.h"
#include "fastgrad.h"

#include <stdio.h>
#include <string.h>

/* clang-format off */
static const struct { const char *name; size_t itemsize; } dtypes[FG_N_DTYPES] = {
    [FG_FLOAT32] = {"float32", 4}, [FG_FLOAT64] = {"float64", 8}, [FG_BOOL] = {"bool", 1},
    [FG_INT8] = {"int8", 1},       [FG_INT16] = {"int16", 2},     [FG_INT32] = {"int32", 4},
    [FG_INT64] = {"int64", 8},     [FG_UINT8] = {"uint8", 1},     [FG_UINT16] = {"uint16", 2},
    [FG_UINT32] = {"uint32", 4},   [FG_UINT64] = {"uint64", 8},
};
/* clang-format on */

size_t fg_itemsize(int dtype) { return dtypes[dtype].itemsize; }

static uint64_t hash_of_both(uint64_t h, uint64_t x)
{
    h = (h ^ x) * UINT64_C(0x9E3779B97F4A7C15);
    return h ^ (h >> 29);
}

/* Four chains side by side, so that none waits for another. */
uint64_t fg_hash(size_t n, const void *bytes)
{
    uint64_t h[4] = {1, 2, 3, 4}, words[4];
    for (size_t i = 0; i < n; i += sizeof words) {
        memcpy(words, (const char *)bytes + i, sizeof words);
        for (int k = 0; k < 4; k++)
            h[k] = hash_of_both(h[k], words[k]);
    }
    return hash_of_both(hash_of_both(hash_of_both(h[0], h[1]), h[2]), h[3]);
}
const char *fg_dtype_name(int dtype) { return dtypes[dtype].name; }

/* ---- shapes ------------------------------------------------------------------------------------------- */
static size_t shape_bytes(int ndim) { return sizeof(fg_shape) + (size_t)ndim * sizeof(int64_t); }

static const char *lengths_text(int ndim, const int64_t *dim, char *buffer);

/* The bytes of an array of any dtype, its header and padding included, fit a size_t, and offsets into it a ptrdiff_t.
 * So a size times an itemsize never overflows. */
#define MOST_ELEMENTS ((int64_t)(PTRDIFF_MAX / 16))

static fg_shape *too_large(int ndim, const int64_t *dim)
{
    char text[FG_SHAPE_TEXT];
    fg_fail(FG_BAD_VALUE, "shape %s has more elements than memory can hold", lengths_text(ndim, dim, text));
    return NULL;
}

fg_shape *fg_shape_new(int ndim, const int64_t *dim)
{
    if (ndim > FG_MAX_NDIM) {
        fg_fail(FG_BAD_VALUE, "a tensor has at most %d axes, this one would have %d", FG_MAX_NDIM, ndim);
        return NULL;
    }
    /* As NumPy, refuse lengths whose product overflows even where another length is 0. */
    int64_t size = 1, extent = 1;
    for (int i = 0; i < ndim; i++) {
        if (dim[i] < 0) {
            fg_fail(FG_BAD_VALUE, "negative length %lld of axis %d", (long long)dim[i], i);
            return NULL;
        }
        int64_t length = dim[i] ? dim[i] : 1;
        if (extent > MOST_ELEMENTS / length) {
            return too_large(ndim, dim);
        }
        extent *= length;
        size *= dim[i];                         /* at most the extent */
    }
    fg_shape *s = fg_alloc(shape_bytes(ndim));
    if (!s)
        return NULL;
    s->refs = 1;
    s->ndim = ndim;
    s->size = size;
    if (ndim)
        memcpy(s->dim, dim, (size_t)ndim * sizeof *dim);
    return s;
}

int fg_shape_made(fg_shape *s, fg_shape **out)
{
    *out = s;
    return s ? FG_OK : fg_failed();
}

fg_shape *fg_shape_ref(fg_shape *s)
{
    FG_ASSERT(s->refs > 0);
    s->refs++;
    return s;
}

void fg_shape_unref(fg_shape *s)
{
    FG_ASSERT(!s || s->refs > 0);
    if (s && --s->refs == 0)
        fg_free(s, shape_bytes(s->ndim));
}

int fg_shape_equal(const fg_shape *a, const fg_shape *b)
{
    return a == b || (a->ndim == b->ndim && !memcmp(a->dim, b->dim, (size_t)a->ndim * sizeof *a->dim));
}

const char *fg_shape_text(const fg_shape *s, char *buffer) { return lengths_text(s->ndim, s->dim, buffer); }

static const char *lengths_text(int ndim, const int64_t *dim, char *buffer)
{
    size_t at = 1;
    buffer[0] = '(';
    for (int i = 0; i < ndim; i++) {
        int wrote = snprintf(buffer + at, FG_SHAPE_TEXT - at, i ? ", %lld" : "%lld", (long long)dim[i]);
        if (at + (size_t)wrote > FG_SHAPE_TEXT - 8) {       /* too long to show: cut with dots */
            snprintf(buffer + at, FG_SHAPE_TEXT - at, ", ...");
            at = strlen(buffer);
            break;
        }
        at += (size_t)wrote;
    }
    snprintf(buffer + at, FG_SHAPE_TEXT - at, ndim == 1 ? ",)" : ")");
    return buffer;
}

/* ---- arrays ------------------------------------------------------------------------------------------- */
/* Header and data of an owned array share one block, the data at its next cache line. */
enum { HEADER = 64 };
_Static_assert(sizeof(fg_array) <= HEADER, "an array's header fits one cache line");

static size_t array_bytes(const fg_shape *s, int dtype) { return HEADER + (size_t)s->size * dtypes[dtype].itemsize; }

static fg_array *array_init(fg_array *a, fg_shape *s, int dtype, fg_storage storage, void *data, void *owner)
{
    if (!a)
        return NULL;
    FG_ASSERT(storage != FG_VIEW || ((fg_array *)owner)->storage != FG_VIEW);
    *a = (fg_array){.refs = 1,
                    .dtype = (uint8_t)dtype,
                    .storage = (uint8_t)storage,
                    .traced_in = fg_tracing ? fg_thread.trace_number : 0,
                    .shape = fg_shape_ref(s),
                    .data = data,
                    .owner = owner};
    fg_live.arrays++;
    return a;
}

fg_array *fg_array_new(fg_shape *s, int dtype)
{
    fg_array *a = fg_alloc(array_bytes(s, dtype));
    return array_init(a, s, dtype, FG_OWNED, (char *)a + HEADER, NULL);
}

static fg_shape scalar_shape = {.refs = 1, .size = 1};      /* shared by all single numbers, and never freed */

fg_array *fg_array_scalar(int dtype, double value)
{
    fg_array *a = fg_array_new(&scalar_shape, dtype);
    if (a && dtype == FG_FLOAT32)
        *(float *)a->data = (float)value;
    else if (a)
        *(double *)a->data = value;
    return a;
}

fg_array *fg_array_integer(int64_t value)
{
    fg_array *a = fg_array_new(&scalar_shape, FG_INT64);
    if (a)
        *(int64_t *)a->data = value;
    return a;
}

fg_array *fg_array_foreign(fg_shape *s, int dtype, void *data, void *owner, int readonly, int externally_mutable)
{
    fg_array *a = array_init(fg_alloc(HEADER), s, dtype, FG_FOREIGN, data, owner);
    if (a) {
        a->readonly = (uint8_t)readonly;
        a->externally_mutable = (uint8_t)externally_mutable;
    }
    return a;
}

fg_array *fg_array_abstract(fg_shape *s, int dtype)
{
    fg_array *a = array_init(fg_alloc(HEADER), s, dtype, FG_ABSTRACT, NULL, NULL);
    fg_tracing += a != NULL;
    return a;
}

fg_array *fg_array_root(const fg_array *a) { return a->storage == FG_VIEW ? a->owner : (fg_array *)a; }

fg_array *fg_array_view(fg_array *a, fg_shape *s)
{
    FG_ASSERT(s->size == a->shape->size && a->storage != FG_ABSTRACT);
    fg_array *v = array_init(fg_alloc(HEADER), s, a->dtype, FG_VIEW, a->data, fg_array_root(a));
    if (v)
        fg_array_ref(v->owner);
    return v;
}

fg_array *fg_array_copy(const fg_array *a)
{
    FG_ASSERT(a->storage != FG_ABSTRACT);
    fg_array *copy = fg_array_new(a->shape, a->dtype);
    if (copy && a->shape->size)
        memcpy(copy->data, a->data, (size_t)a->shape->size * dtypes[a->dtype].itemsize);
    return copy;
}

fg_array *fg_array_ref(fg_array *a)
{
    FG_ASSERT(a->refs > 0);
    a->refs++;
    return a;
}

void fg_array_unref(fg_array *a)
{
    FG_ASSERT(!a || a->refs > 0);
    while (a && --a->refs == 0) {               /* at most twice: a view's owner is never a view */
        FG_ASSERT(!a->tape_refs && !a->exports);        /* each is one of refs */
        fg_array *next = a->storage == FG_VIEW ? a->owner : NULL;
        void *foreign = a->storage == FG_FOREIGN ? a->owner : NULL;
        size_t bytes = a->storage == FG_OWNED ? array_bytes(a->shape, a->dtype) : HEADER;
        fg_tracing -= a->storage == FG_ABSTRACT;
        fg_shape_unref(a->shape);
        fg_free(a, bytes);
        fg_live.arrays--;
        if (foreign)
            fg_on_release(foreign);
        a = next;
    }
}

int fg_array_is_private(const fg_array *a)
{
    FG_ASSERT((uint32_t)a->refs >= a->tape_refs + a->exports);
    return a->storage != FG_VIEW && a->storage != FG_ABSTRACT && !a->readonly &&
           (uint32_t)a->refs - a->tape_refs - a->exports == 1;
}

int fg_array_is_sole(const fg_array *a)
{
    if (a->storage != FG_VIEW)
        return fg_array_is_private(a);
    const fg_array *root = a->owner;
    return root->storage == FG_OWNED && !a->readonly && !root->readonly && a->refs == 1 && root->refs == 1;
}

uint32_t fg_array_version(const fg_array *a) { return fg_array_root(a)->version; }
void fg_array_changed(fg_array *a) { fg_array_root(a)->version++; }
