/* test_program.c: programs in the C core alone: replays compute what the operations compute at once, from memory that
 * was written only, and in several threads at a time.
 *
 * test_c_core.py compiles it with the address, the memory and the thread sanitizer. A mutex stands for the lock of the
 * caller, which is Python's GIL elsewhere: everything happens under it but replays.
 */
#include "program.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                                         \
    do {                                                                                                         \
        if (!(condition)) {                                                                                      \
            printf("%s:%d: %s does not hold; last message: %s\n", __func__, __LINE__, #condition, fg_message()); \
            exit(1);                                                                                             \
        }                                                                                                        \
    } while (0)

enum { LONGEST = 40, LENGTH = 30, MOST_VALUES = 64 };

/* ---- functions of tensors, for which a list holds what they make ------------------------------------------ */
typedef struct {
    int n, dtype;
    int64_t size; /* of the vectors */
    fg_array *constant; /* a vector */
    fg_array *state; /* of a generator */
    fg_program *step, *branch[2], *condition, *halving; /* bodies of scan, cond, while_loop */
    fg_tensor made[MOST_VALUES];
} scope;

static fg_tensor keep(scope *s, fg_tensor x)
{
    CHECK(s->n < MOST_VALUES);
    return s->made[s->n++] = x;
}

static void forget(scope *s)
{
    while (s->n)
        fg_tensor_unref(s->made[--s->n]);
}

static fg_tensor apply(scope *s, int op, int n_in, const fg_tensor *in, int n_attr, const int64_t *attr)
{
    fg_tensor y = {0};
    CHECK(fg_apply(op, n_in, in, n_attr, attr, &y) == FG_OK);
    return keep(s, y);
}

static fg_tensor unary(scope *s, int op, fg_tensor x)
{
    fg_tensor y = {0};
    CHECK(fg_unary(op, x, &y) == FG_OK);
    return keep(s, y);
}

static fg_tensor binary(scope *s, int op, fg_tensor a, fg_tensor b)
{
    fg_tensor y = {0};
    CHECK(fg_binary(op, a, b, &y) == FG_OK);
    return keep(s, y);
}

static fg_tensor number(scope *s, double x) { return keep(s, (fg_tensor){fg_array_scalar(s->dtype, x), NULL}); }

typedef fg_tensor (*function)(scope *, const fg_tensor *in);

/* Elementwise operations, on inputs, constants and single elements, and a comparison. */
static fg_tensor elementwise(scope *s, const fg_tensor *in)
{
    fg_tensor c = {s->constant, NULL};
    fg_tensor a = unary(s, FG_OP_tanh, binary(s, FG_OP_multiply, in[0], c));
    fg_tensor b = binary(s, FG_OP_subtract, binary(s, FG_OP_multiply, a, number(s, 0.5)), c);
    fg_tensor less = apply(s, FG_OP_less, 2, (fg_tensor[]){b, a}, 0, NULL);
    fg_tensor chosen = apply(s, FG_OP_where, 3, (fg_tensor[]){less, unary(s, FG_OP_exp, b), in[1]}, 0, NULL);
    return binary(s, FG_OP_divide, binary(s, FG_OP_multiply, chosen, chosen), unary(s, FG_OP_cosh, a));
}

/* A sum, and products of vectors with a matrix: the outer product of two vectors. */
static fg_tensor products(scope *s, const fg_tensor *in)
{
    const int64_t row[] = {1, s->size}, none[] = {0, 0}, right[] = {0, 1};
    fg_tensor x = apply(s, FG_OP_reshape, 1, in, 2, row), y = apply(s, FG_OP_reshape, 1, in + 1, 2, row);
    fg_tensor outer = apply(s, FG_OP_matmul, 2, (fg_tensor[]){x, y}, 2, (const int64_t[]){1, 0});
    fg_tensor left = apply(s, FG_OP_matmul, 2, (fg_tensor[]){unary(s, FG_OP_tanh, x), outer}, 2, none);
    fg_tensor back = apply(s, FG_OP_matmul, 2, (fg_tensor[]){left, unary(s, FG_OP_sin, outer)}, 2, right);
    fg_tensor sum =
        apply(s, FG_OP_sum, 1, (fg_tensor[]){binary(s, FG_OP_multiply, left, left)}, 2, (const int64_t[]){3, 0});
    return binary(s, FG_OP_add, binary(s, FG_OP_multiply, back, sum), y);
}

/* A step of a loop: constant, carry and row to the next carry, which decays, and a result. */
static fg_tensor step(scope *s, const fg_tensor *in)
{
    fg_tensor decayed = binary(s, FG_OP_multiply, in[1], number(s, 0.25));
    return binary(s, FG_OP_add, decayed, binary(s, FG_OP_multiply, unary(s, FG_OP_sin, in[0]), in[2]));
}

/* The last carry of a scan over rows, added to the first of what it stacked. */
static fg_tensor loop(scope *s, const fg_tensor *in)
{
    const int64_t attr[] = {(int64_t)(intptr_t)s->step, LENGTH, 0, 1, 1, 0};
    fg_tensor rows = apply(s, FG_OP_broadcast_to, 1, in + 1, 2, (const int64_t[]){LENGTH, s->size});
    fg_tensor block =
        apply(s, FG_OP_scan, 3, (fg_tensor[]){{s->constant, NULL}, unary(s, FG_OP_tanh, in[0]), rows}, 6, attr);
    const int64_t last[] = {fg_control_flow_offset(FG_OP_scan, attr, 0), s->dtype, s->size};
    const int64_t stacked[] = {fg_control_flow_offset(FG_OP_scan, attr, 1), s->dtype, LENGTH, s->size};
    fg_tensor stack = apply(s, FG_OP_part, 1, &block, 4, stacked);
    fg_tensor sum = apply(s, FG_OP_sum, 1, &stack, 2, (const int64_t[]){1, 0});
    fg_tensor carry = apply(s, FG_OP_part, 1, &block, 3, last);
    return binary(s, FG_OP_add, unary(s, FG_OP_exp, carry), sum);
}

static fg_tensor sum_of(scope *s, fg_tensor x) { return apply(s, FG_OP_sum, 1, &x, 2, (const int64_t[]){1, 0}); }

static fg_tensor first_part(scope *s, int op, fg_tensor block, const int64_t *attr)
{
    const int64_t part[] = {fg_control_flow_offset(op, attr, 0), s->dtype, s->size};
    return apply(s, FG_OP_part, 1, &block, 3, part);
}

static fg_tensor branches(scope *s, const fg_tensor *in)
{
    const int64_t attr[] = {(int64_t)(intptr_t)s->branch[0], (int64_t)(intptr_t)s->branch[1]};
    fg_tensor other = unary(s, FG_OP_cos, in[1]);
    fg_tensor holds = apply(s, FG_OP_less, 2, (fg_tensor[]){sum_of(s, in[0]), sum_of(s, other)}, 0, NULL);
    fg_tensor block = apply(s, FG_OP_cond, 3, (fg_tensor[]){holds, in[0], other}, 2, attr);
    return unary(s, FG_OP_exp, first_part(s, FG_OP_cond, block, attr));
}

/* Of a loop: is the sum of its carry large? */
static fg_tensor is_large(scope *s, const fg_tensor *in)
{
    return apply(s, FG_OP_less, 2, (fg_tensor[]){number(s, 0.01), sum_of(s, in[0])}, 0, NULL);
}

static fg_tensor halve(scope *s, const fg_tensor *in)
{
    return binary(s, FG_OP_multiply, unary(s, FG_OP_sin, in[0]), number(s, 0.5));
}

static fg_tensor unknown_length(scope *s, const fg_tensor *in)
{
    const int64_t attr[] = {(int64_t)(intptr_t)s->condition, (int64_t)(intptr_t)s->halving, 0};
    fg_tensor block = apply(s, FG_OP_while_loop, 1, (fg_tensor[]){unary(s, FG_OP_tanh, in[0])}, 3, attr);
    return unary(s, FG_OP_exp, first_part(s, FG_OP_while_loop, block, attr));
}

/* Concatenations, slices, a sum of paddings, and rows by index, of a matrix that is long for vectors of more than 25
 * elements. */
static fg_tensor pieces(scope *s, const fg_tensor *in)
{
    enum { ROWS = 80 };
    const int64_t n = s->size, shape[] = {ROWS, n}, half = n / 2;
    const int64_t left[] = {0, 1, ROWS, 0, 1, n}, right[] = {0, 1, ROWS, n, 1, n},
                  back[] = {ROWS - 1, -1, ROWS, 0, 2, n};
    const int64_t to_left[] = {0, 1, ROWS, 0, 1, 2 * n}, to_right[] = {0, 1, ROWS, n, 1, 2 * n};
    const int64_t to_middle[] = {0, 1, ROWS, half, 1, 2 * n}, to_back[] = {ROWS - 1, -1, ROWS, 0, 2, 2 * n};
    fg_shape *rows_of = fg_shape_new(1, (const int64_t[]){ROWS});
    fg_array *index = fg_array_new(rows_of, FG_INT64);
    fg_shape_unref(rows_of);
    CHECK(index);
    for (int64_t i = 0; i < ROWS; i++)
        ((int64_t *)index->data)[i] = i * i % ROWS - (i % 3 ? ROWS : 0);
    fg_tensor by = keep(s, (fg_tensor){index, NULL});
    fg_tensor a = unary(s, FG_OP_tanh, apply(s, FG_OP_broadcast_to, 1, in, 2, shape));
    fg_tensor b = unary(s, FG_OP_sin, apply(s, FG_OP_broadcast_to, 1, in + 1, 2, shape));
    fg_tensor c =
        binary(s, FG_OP_multiply, a, apply(s, FG_OP_take, 2, (fg_tensor[]){b, by}, 2, (const int64_t[]){0, 0}));
    fg_tensor wide = apply(s, FG_OP_concatenate, 2, (fg_tensor[]){c, b}, 3, (const int64_t[]){1, n, n});
    wide = unary(s, FG_OP_tanh, wide);
    fg_tensor part[] = {apply(s, FG_OP_slice, 1, &wide, 6, left), apply(s, FG_OP_slice, 1, &wide, 6, right),
                        apply(s, FG_OP_slice, 1, &wide, 6, back)};
    fg_tensor sum = apply(s, FG_OP_unslice, 1, (fg_tensor[]){binary(s, FG_OP_multiply, part[0], part[1])}, 6, to_left);
    const int64_t *to[] = {to_right, to_middle, to_back};
    for (int k = 0; k < 3; k++) {
        fg_tensor padded = apply(s, FG_OP_unslice, 1, (fg_tensor[]){unary(s, FG_OP_cos, part[k % 3])}, 6, to[k]);
        sum = binary(s, FG_OP_add, sum, padded);
    }
    sum = binary(s, FG_OP_multiply, unary(s, FG_OP_exp, sum), wide);
    fg_tensor column = apply(s, FG_OP_sum, 1, &sum, 2, (const int64_t[]){1, 0});
    return apply(s, FG_OP_slice, 1, &column, 3, (const int64_t[]){half, 1, n});
}

static fg_tensor draw(scope *s, const fg_tensor *in)
{
    const int64_t attr[] = {s->dtype, 0, 0, s->size};
    fg_tensor x = apply(s, FG_OP_random, 1, (fg_tensor[]){{s->state, NULL}}, 4, attr);
    return binary(s, FG_OP_add, x, in[0]);
}

/* ---- programs of them --------------------------------------------------------------------------------------- */
static fg_array *vector(int64_t n, int dtype, double first)
{
    fg_shape *shape = fg_shape_new(1, &n);
    fg_array *a = fg_array_new(shape, dtype);
    fg_shape_unref(shape);
    CHECK(a);
    for (int64_t i = 0; i < n; i++) {
        double x = first + 0.25 * (double)i / (double)n;
        if (dtype == FG_FLOAT32)
            ((float *)a->data)[i] = (float)x;
        else
            ((double *)a->data)[i] = x;
    }
    return a;
}

/* f of n_in vectors as a program, or as a body whose inputs from `carried` on, if that is not -1, are carried by its
 * first outputs. A body of a scan has a second output. */
typedef enum { WHOLE, SCANNED, BODY } role;

static fg_program *compiled(scope *s, function f, int n_in, role role, int carried)
{
    fg_tensor in[3];
    fg_shape *shape = fg_shape_new(1, &s->size);
    CHECK(fg_trace_begin(FG_PROGRAM) == FG_OK);
    if (role != WHOLE)
        CHECK(fg_trace_body(carried < 0 ? 0 : carried, carried >= 0, 0) == FG_OK);
    for (int i = 0; i < n_in; i++) {
        in[i] = keep(s, (fg_tensor){fg_array_abstract(shape, s->dtype), NULL});
        CHECK(in[i].array && fg_trace_input(in[i].array) == FG_OK);
    }
    fg_shape_unref(shape);
    fg_tensor y = f(s, in);
    fg_array *out[2] = {y.array, role == SCANNED ? unary(s, FG_OP_negative, y).array : NULL};
    fg_program *p = NULL;
    CHECK(fg_trace_end(1 + (role == SCANNED), out, 0, &p) == FG_OK);
    CHECK(fg_program_compile(p) == FG_OK);
    forget(s);
    return p;
}

static void make_scope(scope *s, int64_t size, int dtype)
{
    *s = (scope){.dtype = dtype, .size = size, .constant = vector(size, dtype, 0.5)};
    s->step = compiled(s, step, 3, SCANNED, 1);
    s->branch[0] = compiled(s, elementwise, 2, BODY, -1);
    s->branch[1] = compiled(s, products, 2, BODY, -1);
    s->condition = compiled(s, is_large, 1, BODY, -1);
    s->halving = compiled(s, halve, 1, BODY, 0);
    const int64_t words = FG_RANDOM_WORDS;
    fg_shape *shape = fg_shape_new(1, &words);
    s->state = fg_array_new(shape, FG_UINT64);
    fg_shape_unref(shape);
    memset(s->state->data, 0, FG_RANDOM_WORDS * sizeof(uint64_t));
    s->state->is_rng_state = 1;
}

static void free_scope(scope *s)
{
    fg_program_free(s->step);
    fg_program_free(s->branch[0]);
    fg_program_free(s->branch[1]);
    fg_program_free(s->condition);
    fg_program_free(s->halving);
    fg_array_unref(s->constant);
    fg_array_unref(s->state);
}

/* What f computes at once. */
static fg_array *evaluated(scope *s, function f, fg_array *const *x)
{
    fg_tensor y = f(s, (fg_tensor[]){{x[0], NULL}, {x[1], NULL}});
    fg_array *found = fg_array_ref(y.array);
    forget(s);
    return found;
}

static void run(const fg_program *p, fg_replay *r, fg_array *const *x, void *y)
{
    void **address = fg_replay_address(r);
    address[0] = x[0]->data;
    address[1] = x[1]->data;
    address[2] = y;
    CHECK(fg_replay_run(p, r) == FG_OK);
}

static const function functions[] = {elementwise, products, loop, branches, unknown_length, pieces};
enum { N_FUNCTIONS = sizeof functions / sizeof *functions };

/* A vector may be an operand whose last 64 bytes are not full: replays work on whole ones. */
static void test_replays_compute_what_operations_do(void)
{
    for (int64_t n = 1; n <= LONGEST; n++)
        for (int dtype = FG_FLOAT32; dtype <= FG_FLOAT64; dtype++) {
            scope s;
            make_scope(&s, n, dtype);
            fg_array *x[] = {vector(n, dtype, 1), vector(n, dtype, -2)};
            for (int k = 0; k < N_FUNCTIONS; k++) {
                fg_array *expected = evaluated(&s, functions[k], x);
                size_t bytes = (size_t)n * fg_itemsize(dtype);
                fg_program *p = compiled(&s, functions[k], 2, WHOLE, -1);
                char *y = malloc(bytes);
                for (int times = 0; times < 3; times++) {
                    fg_replay *r = fg_replay_take(p);
                    CHECK(r && y);
                    memset(y, 0xff, bytes);
                    run(p, r, x, y);
                    CHECK(!memcmp(y, expected->data, bytes));
                    fg_replay_give(p, r);
                }
                free(y);
                fg_program_free(p);
                fg_array_unref(expected);
            }
            fg_array_unref(x[0]);
            fg_array_unref(x[1]);
            free_scope(&s);
        }
}

/* ---- threads -------------------------------------------------------------------------------------------------- */
enum { N_THREADS = 4, RUNS = 50, SIZE = 14 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static scope shared;
static fg_program *program[N_FUNCTIONS + 1]; /* the last one draws */
static fg_array *input[2], *expected_of[N_FUNCTIONS];

/* Run programs that other threads run, too, and between the runs trace and compile, and let go of, one of its own. */
static void *work(void *unused)
{
    (void)unused;
    double y[SIZE];
    scope s;
    pthread_mutex_lock(&lock);
    make_scope(&s, SIZE, FG_FLOAT64);
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < RUNS; i++) {
        int k = i % (N_FUNCTIONS + 1);
        pthread_mutex_lock(&lock);
        fg_replay *r = fg_replay_take(program[k]);
        fg_program *own = compiled(&s, functions[i % N_FUNCTIONS], 2, WHOLE, -1);
        fg_replay *own_r = fg_replay_take(own);
        pthread_mutex_unlock(&lock);
        CHECK(r && own_r);
        run(program[k], r, input, y);
        CHECK(k == N_FUNCTIONS || !memcmp(y, expected_of[k]->data, sizeof y));
        run(own, own_r, input, y);
        CHECK(!memcmp(y, expected_of[i % N_FUNCTIONS]->data, sizeof y));
        pthread_mutex_lock(&lock);
        fg_replay_give(program[k], r);
        fg_replay_give(own, own_r);
        fg_program_free(own);
        fg_array *at_once = evaluated(&s, functions[i % N_FUNCTIONS], input);
        CHECK(!memcmp(at_once->data, expected_of[i % N_FUNCTIONS]->data, sizeof y));
        fg_array_unref(at_once);
        pthread_mutex_unlock(&lock);
    }
    pthread_mutex_lock(&lock);
    free_scope(&s);
    pthread_mutex_unlock(&lock);
    return NULL;
}

static void test_threads_run_the_same_programs(void)
{
    pthread_t thread[N_THREADS];
    make_scope(&shared, SIZE, FG_FLOAT64);
    for (int i = 0; i < 2; i++)
        input[i] = vector(SIZE, FG_FLOAT64, 1 - 3 * i);
    for (int k = 0; k < N_FUNCTIONS; k++)
        expected_of[k] = evaluated(&shared, functions[k], input);
    for (int k = 0; k <= N_FUNCTIONS; k++)
        program[k] = compiled(&shared, k < N_FUNCTIONS ? functions[k] : draw, 2, WHOLE, -1);
    for (int i = 0; i < N_THREADS; i++)
        CHECK(!pthread_create(&thread[i], NULL, work, NULL));
    for (int i = 0; i < N_THREADS; i++)
        CHECK(!pthread_join(thread[i], NULL));
    for (int k = 0; k <= N_FUNCTIONS; k++)
        fg_program_free(program[k]);
    for (int k = 0; k < N_FUNCTIONS; k++)
        fg_array_unref(expected_of[k]);
    for (int i = 0; i < 2; i++)
        fg_array_unref(input[i]);
    free_scope(&shared);
}

/* ---- work that the core's threads share ----------------------------------------------------------------------- */
enum { LONG = 300001, CALLERS = 3 };

/* A group with a sum, which a second group reads. */
static fg_tensor with_sum(scope *s, const fg_tensor *in)
{
    fg_tensor a = binary(s, FG_OP_multiply, unary(s, FG_OP_tanh, in[0]), in[1]);
    fg_tensor sum = apply(s, FG_OP_sum, 1, (fg_tensor[]){unary(s, FG_OP_exp, a)}, 2, (const int64_t[]){1, 1});
    return unary(s, FG_OP_sin, binary(s, FG_OP_multiply, sum, unary(s, FG_OP_negative, in[1])));
}

static const function long_functions[] = {elementwise, with_sum};
enum { N_LONG = sizeof long_functions / sizeof *long_functions };

static void *share_work(void *unused)
{
    (void)unused;
    double *y = malloc(LONG * sizeof *y);
    CHECK(y);
    for (int i = 0; i < 4 * N_LONG; i++) {
        int k = i % N_LONG;
        pthread_mutex_lock(&lock);
        fg_replay *r = fg_replay_take(program[k]);
        pthread_mutex_unlock(&lock);
        CHECK(r);
        memset(y, 0xff, LONG * sizeof *y);
        run(program[k], r, input, y);
        CHECK(!memcmp(y, expected_of[k]->data, LONG * sizeof *y));
        pthread_mutex_lock(&lock);
        fg_replay_give(program[k], r);
        pthread_mutex_unlock(&lock);
    }
    free(y);
    return NULL;
}

/* The results are those of operations one by one, on one thread. */
static void test_threads_share_long_work(void)
{
    pthread_t thread[CALLERS];
    make_scope(&shared, LONG, FG_FLOAT64);
    for (int i = 0; i < 2; i++)
        input[i] = vector(LONG, FG_FLOAT64, 1 - 3 * i);
    for (int k = 0; k < N_LONG; k++) {
        expected_of[k] = evaluated(&shared, long_functions[k], input);
        program[k] = compiled(&shared, long_functions[k], 2, WHOLE, -1);
    }
    fg_threads_set_limit(4);
    for (int k = 0; k < N_LONG; k++) {
        fg_array *at_once = evaluated(&shared, long_functions[k], input);
        CHECK(!memcmp(at_once->data, expected_of[k]->data, LONG * sizeof(double)));
        fg_array_unref(at_once);
    }
    share_work(NULL);
    for (int i = 0; i < CALLERS; i++)
        CHECK(!pthread_create(&thread[i], NULL, share_work, NULL));
    for (int i = 0; i < CALLERS; i++)
        CHECK(!pthread_join(thread[i], NULL));
    fg_threads_set_limit(1);
    for (int k = 0; k < N_LONG; k++) {
        fg_program_free(program[k]);
        fg_array_unref(expected_of[k]);
    }
    for (int i = 0; i < 2; i++)
        fg_array_unref(input[i]);
    free_scope(&shared);
}

int main(void)
{
    CHECK(fg_kernels_select(NULL) == FG_OK);
    fg_init();
    static const struct {
        const char *name;
        void (*run)(void);
    } tests[] = {
#define TEST(name) {#name, name}
        TEST(test_replays_compute_what_operations_do),
        TEST(test_threads_run_the_same_programs),
        TEST(test_threads_share_long_work),
    };
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        fg_counts before = fg_live;
        tests[i].run();
        CHECK(fg_live.nodes == before.nodes && fg_live.arrays == before.arrays && fg_live.bytes == before.bytes);
        printf("%s passed\n", tests[i].name);
    }
    return 0;
}
