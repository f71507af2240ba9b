/* test_core.c: the C core alone, without Python: graphs, the backward pass, and what becomes of memory.
 *
 * test_c_core.py compiles it with the sanitizers and runs it. The linker puts the functions below in place of
 * the allocators, so that the n-th allocation can be made to fail, for every n.
 */
#include "fastgrad.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
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

static int64_t allocations_left = -1;           /* -1: no limit */

static int refuse(void)
{
    if (allocations_left > 0)
        allocations_left--;
    return allocations_left == 0;
}

#ifdef WRAP
void *__real_fg_alloc(size_t);
void *__real_realloc(void *, size_t);
void *__real_calloc(size_t, size_t);
void *__wrap_fg_alloc(size_t);
void *__wrap_realloc(void *, size_t);
void *__wrap_calloc(size_t, size_t);

void *__wrap_fg_alloc(size_t bytes)
{
    if (!refuse())
        return __real_fg_alloc(bytes);
    fg_fail(FG_NO_MEMORY, "refused");
    return NULL;
}
void *__wrap_realloc(void *block, size_t bytes) { return refuse() ? NULL : __real_realloc(block, bytes); }
void *__wrap_calloc(size_t n, size_t bytes) { return refuse() ? NULL : __real_calloc(n, bytes); }
#endif

/* ---- makers ------------------------------------------------------------------------------------------- */
static fg_array *array(int ndim, const int64_t *dim, const double *value)
{
    fg_shape *shape = fg_shape_new(ndim, dim);
    fg_array *a = fg_array_new(shape, FG_FLOAT64);
    fg_shape_unref(shape);
    memcpy(a->data, value, (size_t)a->shape->size * sizeof *value);
    return a;
}

static fg_tensor leaf(int ndim, const int64_t *dim, const double *value)
{
    fg_array *a = array(ndim, dim, value);
    return (fg_tensor){a, fg_leaf(a)};
}

static fg_tensor unary(int op, fg_tensor x)
{
    fg_tensor y = {0};
    CHECK(fg_unary(op, x, &y) == FG_OK);
    return y;
}

static fg_tensor binary(int op, fg_tensor a, fg_tensor b)
{
    fg_tensor y = {0};
    CHECK(fg_binary(op, a, b, &y) == FG_OK);
    return y;
}

/* t = op(t), giving up what t was */
static void apply(int op, fg_tensor *t)
{
    fg_tensor y = unary(op, *t);
    fg_tensor_unref(*t);
    *t = y;
}

static double at(const fg_array *a, int i) { return ((const double *)a->data)[i]; }
static fg_array *gradient(fg_tensor x) { return x.node->saved; }

static int backward(fg_tensor y, fg_array *cotangent, int retain_graph)
{
    return fg_backward(y, (fg_tensor){cotangent, NULL}, retain_graph, 0);
}

static int close_to(double a, double b) { return fabs(a - b) <= 1e-12 * (fabs(a) + fabs(b)); }

/* ---- the tests ---------------------------------------------------------------------------------------- */
static void test_chain(void)
{
    double value[] = {0.5, -1.25, 2};
    fg_tensor x = leaf(1, (int64_t[]){3}, value), y = fg_tensor_ref(x);
    for (int i = 0; i < 20; i++)
        apply(FG_OP_tanh, &y);
    fg_array *g = array(1, (int64_t[]){3}, (double[]){1, 2, -3});
    CHECK(backward(y, g, 0) == FG_OK);
    for (int i = 0; i < 3; i++) {
        double v = value[i], d = at(g, i);
        for (int k = 0; k < 20; k++) {
            v = tanh(v);
            d *= 1 - v * v;
        }
        CHECK(close_to(at(y.array, i), v));
        CHECK(close_to(at(gradient(x), i), d));
    }
    CHECK(backward(y, g, 0) == FG_BAD_TAPE);
    CHECK(strstr(fg_message(), "retain_graph"));
    fg_array_unref(g);
    fg_tensor_unref(y);
    fg_tensor_unref(x);
}

/* y = x * w + w, then y * y: w is broadcast and used twice, y reached twice. */
static fg_tensor diamond(fg_tensor x, fg_tensor w)
{
    fg_tensor product = binary(FG_OP_multiply, x, w);
    fg_tensor y = binary(FG_OP_add, product, w);
    fg_tensor z = binary(FG_OP_multiply, y, y);
    fg_tensor_unref(product);
    fg_tensor_unref(y);
    return z;
}

static const double x_values[] = {1, 2, 3, 4, 5, 6}, w_values[] = {-1, 0.5, 2};

static void check_diamond(fg_tensor x, fg_tensor w, double times)
{
    double dw[3] = {0};
    for (int i = 0; i < 6; i++) {
        double xi = x_values[i], wi = w_values[i % 3], y = xi * wi + wi;
        CHECK(close_to(at(gradient(x), i), times * 2 * y * wi));
        dw[i % 3] += times * 2 * y * (xi + 1);
    }
    for (int i = 0; i < 3; i++)
        CHECK(close_to(at(gradient(w), i), dw[i]));
}

static fg_array *ones(fg_tensor like)
{
    fg_array *g = fg_array_copy(like.array);
    for (int64_t i = 0; i < g->shape->size; i++)
        ((double *)g->data)[i] = 1;
    return g;
}

static void test_diamond_and_accumulation(void)
{
    fg_tensor x = leaf(2, (int64_t[]){2, 3}, x_values), w = leaf(1, (int64_t[]){3}, w_values);
    fg_tensor z = diamond(x, w);
    fg_array *g = ones(z);
    CHECK(backward(z, g, 1) == FG_OK);
    check_diamond(x, w, 1);
    CHECK(backward(z, g, 0) == FG_OK);
    check_diamond(x, w, 2);
    fg_array_unref(g);
    fg_tensor_unref(z);
    fg_tensor_unref(x);
    fg_tensor_unref(w);
}

static void test_change_in_place(void)
{
    fg_tensor x = leaf(1, (int64_t[]){3}, w_values), y = unary(FG_OP_exp, x), z = unary(FG_OP_tanh, y);
    fg_array *before = y.array;
    CHECK(fg_binary_inplace(FG_OP_add, &y, x) == FG_OK);        /* the tape holds what y was: y has a new array */
    CHECK(y.array != before);
    fg_tensor sum = binary(FG_OP_add, y, z);
    fg_array *g = ones(sum);
    CHECK(backward(sum, g, 0) == FG_OK);
    for (int i = 0; i < 3; i++) {
        double e = exp(w_values[i]), t = tanh(e);
        CHECK(close_to(at(gradient(x), i), e + 1 + (1 - t * t) * e));
    }
    fg_array_unref(g);
    fg_tensor_unref(sum);
    fg_tensor_unref(z);
    fg_tensor_unref(y);
    fg_tensor_unref(x);
}

static void test_change_in_place_behind_the_tape(void)
{
    fg_tensor x = leaf(1, (int64_t[]){3}, w_values), y = unary(FG_OP_exp, x), z = unary(FG_OP_tanh, y);
    fg_grad_enabled = 0;
    CHECK(fg_binary_inplace(FG_OP_add, &y, x) == FG_OK);        /* in the memory that exp's derivative needs */
    fg_grad_enabled = 1;
    fg_array *g = ones(z);
    CHECK(backward(z, g, 0) == FG_BAD_TAPE);
    CHECK(strstr(fg_message(), "changed in place"));
    CHECK(!gradient(x));
    fg_array_unref(g);
    fg_tensor_unref(z);
    fg_tensor_unref(y);
    fg_tensor_unref(x);
}

static void test_two_million_operations(void)
{
    fg_tensor x = leaf(0, NULL, (double[]){0.25}), y = fg_tensor_ref(x);
    for (int i = 0; i < 2000000; i++)
        apply(FG_OP_negative, &y);
    fg_array *g = ones(y);
    CHECK(backward(y, g, 1) == FG_OK);
    CHECK(at(gradient(x), 0) == 1);
    fg_array_unref(g);
    fg_tensor_unref(y);
    CHECK(fg_live.nodes == 1);
    fg_tensor_unref(x);
}

static void test_forgotten_graphs_do_not_pile_up(void)
{
    fg_tensor x = leaf(0, NULL, (double[]){0.25}), last[10] = {{0}};
    fg_counts after_ten = {0};
    for (int i = 0; i < 100000; i++) {
        fg_tensor y = fg_tensor_ref(x);
        for (int k = 0; k < 5; k++)
            apply(FG_OP_tanh, &y);
        fg_tensor_unref(last[i % 10]);
        last[i % 10] = y;
        if (i == 10)
            after_ten = fg_live;
    }
    CHECK(fg_live.nodes == after_ten.nodes && fg_live.arrays == after_ten.arrays);
    CHECK(fg_live.bytes == after_ten.bytes && fg_live.cached_bytes == after_ten.cached_bytes);
    for (int i = 0; i < 10; i++)
        fg_tensor_unref(last[i]);
    fg_tensor_unref(x);
}

/* Sizes that no machine has: what is computed from them must not wrap around to something small. */
static void test_sizes_beyond_all_memory_are_refused(void)
{
    static const size_t bytes[] = {SIZE_MAX, SIZE_MAX - 62, SIZE_MAX - 63, SIZE_MAX / 2 + 1};
    for (size_t i = 0; i < sizeof bytes / sizeof *bytes; i++) {
        CHECK(!fg_alloc(bytes[i]) && fg_failed() == FG_NO_MEMORY);
        CHECK(!fg_alloc_lasting(bytes[i]) && fg_failed() == FG_NO_MEMORY);
    }
    int64_t length = (int64_t)(PTRDIFF_MAX / 16) + 1, squares[2] = {(int64_t)1 << 32, (int64_t)1 << 32};
    CHECK(!fg_shape_new(1, &length) && fg_failed() == FG_BAD_VALUE);
    CHECK(!fg_shape_new(2, squares) && fg_failed() == FG_BAD_VALUE);
}

/* Large blocks are kept up to the limit, the one that was freed last is the first to be used again, and what is kept is
 * given back when it is asked for. */
static void test_the_pool_keeps_what_its_limit_allows(void)
{
    enum { BLOCKS = 300, LARGE = 2 << 20 };
    int64_t limit = fg_pool_limit(), bytes = fg_live.bytes;
    void *block[BLOCKS];
    fg_pool_set_limit((int64_t)64 << 20);
    CHECK(fg_pool_limit() == (int64_t)64 << 20 && fg_live.cached_bytes == 0);
    for (int i = 0; i < BLOCKS; i++)
        CHECK((block[i] = fg_alloc(LARGE - i)));
    for (int i = 0; i < BLOCKS; i++)
        fg_free(block[i], (size_t)(LARGE - i));
    CHECK(fg_live.bytes == bytes && fg_live.cached_bytes == (int64_t)48 << 20);
    void *again = fg_alloc(LARGE);
    CHECK(again == block[BLOCKS - 1] && fg_live.cached_bytes == (int64_t)46 << 20);
    fg_free(again, LARGE);
    for (int i = 0; i < BLOCKS; i++)            /* a quarter of the limit for small ones, whatever large ones take */
        CHECK((block[i] = fg_alloc(1 << 20)));
    for (int i = 0; i < BLOCKS; i++)
        fg_free(block[i], 1 << 20);
    CHECK(fg_live.bytes == bytes && fg_live.cached_bytes == (int64_t)64 << 20);
    fg_memory_trim();
    CHECK(fg_live.cached_bytes == 0);
    fg_pool_set_limit(0);
    fg_free(fg_alloc(LARGE), LARGE);
    fg_free(fg_alloc(64), 64);
    CHECK(fg_live.cached_bytes == 0);
    fg_pool_set_limit(limit);
}

static void count_range(void *context, int64_t from, int64_t to)
{
    for (int64_t i = from; i < to; i++)
        ((uint8_t *)context)[i]++;
}

static void test_threads_take_each_element_once(void)
{
    enum { PART = 7 };
    static const int64_t lengths[] = {0, 1, PART - 1, PART, PART + 1, 1000 * PART + 3};
    for (int threads = 1; threads <= 5; threads += 2) {
        fg_threads_set_limit(threads);
        CHECK(fg_threads_limit() == threads);
        for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
            uint8_t count[1000 * PART + 4] = {0};
            fg_threads_range(lengths[k], PART, count_range, count);
            for (int64_t i = 0; i < (int64_t)sizeof count; i++)
                CHECK(count[i] == (i < lengths[k]));
        }
    }
    fg_threads_set_limit(FG_MAX_THREADS + 1);
    CHECK(fg_threads_limit() == FG_MAX_THREADS);
    fg_threads_set_limit(-1);
    CHECK(fg_threads_limit() == 1);
}

static atomic_int goes_on;

static void *change_limit(void *unused)
{
    static const int limits[] = {3, 0, 2, 1 << 30, 1, -5};
    for (size_t k = 0; goes_on; k++) {
        fg_threads_set_limit(limits[k % (sizeof limits / sizeof *limits)]);
        if (k % 5 == 0) {
            fg_threads_enter_library();
            fg_threads_leave_library();
        }
    }
    return unused;
}

static void range_within(void *context, int64_t from, int64_t to)
{
    fg_threads_range(to - from, 1, count_range, (uint8_t *)context + from);
}

static void *count_again(void *unused)
{
    enum { N = 3000 };
    for (int turn = 0; turn < 100; turn++) {
        uint8_t count[N] = {0};
        fg_threads_range(N, 100, turn % 3 ? count_range : range_within, count);
        for (int i = 0; i < N; i++)
            CHECK(count[i] == 1);
    }
    return unused;
}

/* Several callers at once, work within work, and a limit that changes meanwhile. */
static void test_threads_of_several_callers(void)
{
    enum { CALLERS = 3 };
    pthread_t changer, caller[CALLERS];
    goes_on = 1;
    CHECK(!pthread_create(&changer, NULL, change_limit, NULL));
    for (int i = 0; i < CALLERS; i++)
        CHECK(!pthread_create(&caller[i], NULL, count_again, NULL));
    for (int i = 0; i < CALLERS; i++)
        CHECK(!pthread_join(caller[i], NULL));
    goes_on = 0;
    CHECK(!pthread_join(changer, NULL));
    fg_threads_set_limit(1);
}

static void test_orders(void)
{
    static const int64_t ascending[] = {2, 0, 3, 1}, places[] = {1, 2};     /* nan is the largest number */
    fg_tensor x = leaf(1, (int64_t[]){4}, (double[]){2, NAN, -1, 2}), order;
    CHECK(fg_apply(FG_OP_argsort, 1, &x, 1, (int64_t[]){0}, &order) == FG_OK);
    CHECK(!order.node && !memcmp(order.array->data, ascending, sizeof ascending));
    fg_tensor_unref(order);
    CHECK(fg_apply(FG_OP_argsort, 1, &x, 3, (int64_t[]){1, 0, 3}, &order) == FG_OK);
    CHECK(order.array->shape->size == 2 && !memcmp(order.array->data, places, sizeof places));
    fg_tensor_unref(order);
    CHECK(fg_apply(FG_OP_argsort, 1, &x, 2, (int64_t[]){0, 4}, &order) == FG_BAD_INDEX);
    fg_tensor_unref(x);
}

/* Rows of every length, so that each way of ordering them runs under the sanitizers. */
static void test_orders_of_long_rows(void)
{
    static double value[3000];
    for (int64_t n = 1; n <= 3000; n += 1 + n / 3) {
        for (int64_t i = 0; i < n; i++)
            value[i] = (double)(i * 7919 % 1009 - 500) / 4;
        fg_tensor x = leaf(1, &n, value), order, middle;
        CHECK(fg_apply(FG_OP_argsort, 1, &x, 1, (int64_t[]){0}, &order) == FG_OK);
        const int64_t *at = order.array->data;
        for (int64_t i = 1; i < n; i++)
            CHECK(value[at[i - 1]] < value[at[i]] || (value[at[i - 1]] == value[at[i]] && at[i - 1] < at[i]));
        CHECK(fg_apply(FG_OP_argsort, 1, &x, 4, (int64_t[]){0, n / 2, 0, n - 1}, &middle) == FG_OK);
        const int64_t *found = middle.array->data;
        CHECK(found[0] == at[n / 2] && found[1] == at[0] && found[2] == at[n - 1]);
        fg_tensor_unref(order);
        fg_tensor_unref(middle);
        fg_tensor_unref(x);
    }
}

#ifdef WRAP
/* As test_every_allocation_can_fail below, of a running product with an element that is 0. */
static void test_every_allocation_of_a_running_product_can_fail(void)
{
    for (int64_t n = 1, done = 0; !done; n++) {
        fg_tensor x = leaf(1, (int64_t[]){3}, (double[]){2, 0, 5}), y = {0};
        CHECK(n < 1000);
        CHECK(fg_apply(FG_OP_cumprod, 1, &x, 1, (int64_t[]){0}, &y) == FG_OK);
        fg_array *g = ones(y);
        fg_tensor first = {0}, second = {0};

        allocations_left = n;
        int status = fg_gradients(1, &y, &(fg_tensor){g, NULL}, 0, 1, 1, &x.node, &first);
        if (!status)
            status = fg_gradients(1, &first, &(fg_tensor){g, NULL}, 0, 0, 1, &x.node, &second);
        done = allocations_left > 0;
        allocations_left = -1;
        CHECK(status == (done ? FG_OK : FG_NO_MEMORY));
        if (done) {     /* a + ab + abc: 1 + b + bc, a + ac, ab; the sums of the rows of its second derivatives */
            CHECK(at(first.array, 0) == 1 && at(first.array, 1) == 12 && at(first.array, 2) == 0);
            CHECK(at(second.array, 0) == 6 && at(second.array, 1) == 8 && at(second.array, 2) == 2);
        }
        fg_tensor_unref(first);
        fg_tensor_unref(second);
        fg_array_unref(g);
        fg_tensor_unref(y);
        fg_tensor_unref(x);
        CHECK(fg_live.nodes == 0 && fg_live.arrays == 0);
    }
}

/* As test_every_allocation_can_fail below, for a recorded pass and then a pass through what it recorded. */
static void test_every_allocation_can_fail_twice(void)
{
    for (int64_t n = 1, done = 0; !done; n++) {
        fg_tensor x = leaf(2, (int64_t[]){2, 3}, x_values), sum = {0}, y = {0};
        int64_t all[2] = {3, 0};
        CHECK(n < 1000);
        CHECK(fg_apply(FG_OP_matmul, 2, (fg_tensor[]){x, x}, 2, (int64_t[]){0, 1}, &y) == FG_OK);
        CHECK(fg_apply(FG_OP_sum, 1, &y, 2, all, &sum) == FG_OK);
        fg_array *g = ones(sum), *h = ones(x);
        fg_tensor first = {0}, second = {0};

        allocations_left = n;
        int status = fg_gradients(1, &sum, &(fg_tensor){g, NULL}, 0, 1, 1, &x.node, &first);
        if (!status)
            status = fg_gradients(1, &first, &(fg_tensor){h, NULL}, 0, 0, 1, &x.node, &second);
        done = allocations_left > 0;
        allocations_left = -1;
        CHECK(status == (done ? FG_OK : FG_NO_MEMORY));
        CHECK(fg_grad_enabled);
        for (int i = 0; done && i < 6; i++) {   /* of the sum of (x x^T): 2 (column sums), whose sum has slope 4 */
            CHECK(close_to(at(first.array, i), 2 * (x_values[i % 3] + x_values[3 + i % 3])));
            CHECK(at(second.array, i) == 4);
        }
        fg_tensor_unref(first);
        fg_tensor_unref(second);
        fg_array_unref(g);
        fg_array_unref(h);
        fg_tensor_unref(sum);
        fg_tensor_unref(y);
        fg_tensor_unref(x);
        CHECK(fg_live.nodes == 0 && fg_live.arrays == 0);
    }
}

/* Whichever allocation fails, the status says so, nothing leaks, and a second try gives the right gradient. */
static void test_every_allocation_can_fail(void)
{
    for (int64_t n = 1, done = 0; !done; n++) {
        fg_tensor x = leaf(2, (int64_t[]){2, 3}, x_values), w = leaf(1, (int64_t[]){3}, w_values);
        fg_tensor z = diamond(x, w), y = {0};
        fg_array *g = ones(z);
        CHECK(n < 1000);

        allocations_left = n;
        int status = backward(z, g, 1);
        done = allocations_left > 0;
        allocations_left = -1;
        CHECK(status == (done ? FG_OK : FG_NO_MEMORY));
        if (status) {
            CHECK(!gradient(x) && !gradient(w));
            CHECK(backward(z, g, 1) == FG_OK);
        }
        check_diamond(x, w, 1);

        for (int product = 0; product < 2; product++) {     /* elementwise, and of the matrix x and the vector w */
            allocations_left = n;
            status = product ? fg_matmul(x, w, &y) : fg_binary(FG_OP_multiply, x, w, &y);
            int forward_done = allocations_left > 0;
            allocations_left = -1;
            CHECK(status == (forward_done ? FG_OK : FG_NO_MEMORY));
            done = done && forward_done;
            if (status)
                continue;
            CHECK(y.array->shape->ndim == 2 - product && at(y.array, 1) == (product ? 10.5 : 1));
            fg_tensor_unref(y);
        }
        fg_array_unref(g);
        fg_tensor_unref(z);
        fg_tensor_unref(x);
        fg_tensor_unref(w);
        CHECK(fg_live.nodes == 0 && fg_live.arrays == 0);
    }
}
#endif

int main(void)
{
    CHECK(fg_kernels_select(NULL) == FG_OK);
    fg_init();
    static const struct {
        const char *name;
        void (*run)(void);
    } tests[] = {
#define TEST(name) {#name, name}
        TEST(test_chain),
        TEST(test_diamond_and_accumulation),
        TEST(test_change_in_place),
        TEST(test_change_in_place_behind_the_tape),
        TEST(test_two_million_operations),
        TEST(test_forgotten_graphs_do_not_pile_up),
        TEST(test_sizes_beyond_all_memory_are_refused),
        TEST(test_the_pool_keeps_what_its_limit_allows),
        TEST(test_threads_take_each_element_once),
        TEST(test_threads_of_several_callers),
        TEST(test_orders),
        TEST(test_orders_of_long_rows),
#ifdef WRAP
        TEST(test_every_allocation_of_a_running_product_can_fail),
        TEST(test_every_allocation_can_fail),
        TEST(test_every_allocation_can_fail_twice),
#endif
    };
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        fg_counts before = fg_live;
        tests[i].run();
        CHECK(fg_live.nodes == before.nodes && fg_live.arrays == before.arrays && fg_live.bytes == before.bytes);
        printf("%s passed\n", tests[i].name);
    }
    return refuse();                            /* 0; also keeps refuse used where nothing is wrapped */
}
