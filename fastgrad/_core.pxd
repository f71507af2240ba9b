# _core.pxd: csrc/fastgrad.h as Cython sees it.
from libc.stdint cimport int32_t, int64_t, intptr_t, uint8_t, uint16_t, uint32_t, uint64_t

include "_binding/op_numbers.pxi"

cdef extern from "fastgrad.h":
    enum:
        FG_MAX_NDIM, FG_RAISED, FG_OK, FG_NO_MEMORY, FG_BAD_TYPE, FG_BAD_INDEX, FG_BAD_TAPE, FG_NOT_IMPLEMENTED
        FG_SIDE_EFFECT, FG_BAD_MATRIX, FG_N_LAPACK
        FG_OWNED, FG_VIEW, FG_FOREIGN, FG_ABSTRACT
        FG_FLOAT32, FG_FLOAT64, FG_BOOL, FG_INT64, FG_UINT64, FG_N_DTYPES
        FG_N_ELEMENTWISE, FG_N_OPS
        FG_IS_VIEW, FG_IS_DISTINCT, FG_RULE_IN_PYTHON, FG_ALLOCATES, FG_ALLOCATES_BY_AXES, FG_DRAWS, FG_BY_HOST
        FG_BODIES_SHIFT, FG_IS_CUBIC
        FG_LOWER, FG_TRANSPOSED, FG_UNIT, FG_BY_CHOLESKY, FG_BY_LU
        FG_RANDOM_WORDS

    ctypedef struct fg_shape:
        int32_t refs, ndim
        int64_t size
        int64_t *dim

    ctypedef struct fg_array:
        int32_t refs
        uint8_t dtype, storage, readonly, externally_mutable, is_rng_state, frozen, live, weak
        uint32_t tape_refs, exports
        fg_shape *shape
        void *data
        void *owner

    ctypedef struct fg_node

    ctypedef struct fg_edge:
        fg_node *parent
        fg_array *saved

    ctypedef struct fg_node:
        uint16_t op
        uint8_t dtype, fixed
        int32_t n_in, n_attr
        uint64_t number, oldest_ancestor
        fg_shape *shape
        int64_t *attr
        fg_array *saved
        fg_edge *in_ "in"

    ctypedef struct fg_tensor:
        fg_array *array
        fg_node *node

    ctypedef struct fg_call:
        int op, n_in, n_attr
        const fg_tensor *in_ "in"
        const int64_t *attr

    ctypedef struct fg_op_info:
        const char *name
        int (*vjp)(fg_node *, fg_tensor, fg_tensor *)
        int (*recorded_vjp)(fg_node *, fg_tensor, fg_tensor *)

    ctypedef struct fg_op_text:
        const char *name
        const char *definition
        const char **derivative
        const char *doc
        int arity
        double *lo
        double *hi

    ctypedef struct fg_counts:
        int64_t arrays, nodes, bytes, cached_bytes

    ctypedef struct fg_reduce_kernels:
        void (*fill)(int64_t, double, void *) noexcept

    ctypedef struct fg_optim_kernels:
        int (*all_finite)(int64_t, const void *) noexcept
        void (*clip)(int64_t, double scale, double limit, const void *, void *) noexcept

    ctypedef struct fg_kernel_set:
        const fg_reduce_kernels *reduce
        const fg_optim_kernels *optim

    fg_op_info fg_ops[]
    unsigned fg_flags(int op)
    const fg_op_text fg_texts[]
    fg_kernel_set fg_kernels[2]
    fg_counts fg_live
    int fg_grad_enabled
    int64_t fg_transform
    int fg_in_pass
    void (*fg_on_release)(void *) noexcept

    const char *fg_message()
    int fg_failed()
    size_t fg_itemsize(int dtype)
    uint64_t fg_hash(size_t n, const void *bytes)
    const char *fg_dtype_name(int dtype)
    fg_shape *fg_shape_new(int ndim, const int64_t *dim)
    fg_shape *fg_shape_ref(fg_shape *)
    void fg_shape_unref(fg_shape *)
    int fg_shape_equal(const fg_shape *, const fg_shape *)
    fg_array *fg_array_new(fg_shape *, int dtype)
    fg_array *fg_array_scalar(int dtype, double value)
    fg_array *fg_array_integer(int64_t value)
    fg_array *fg_array_abstract(fg_shape *, int dtype)
    fg_array *fg_array_foreign(fg_shape *, int dtype, void *data, void *owner, int readonly, int externally_mutable)
    fg_array *fg_array_copy(const fg_array *)
    fg_array *fg_array_ref(fg_array *)
    fg_array *fg_array_root(const fg_array *)
    void fg_array_unref(fg_array *)
    int fg_array_is_private(const fg_array *)
    int fg_array_is_sole(const fg_array *)
    void fg_array_changed(fg_array *)
    void fg_init()
    void fg_pool_empty()
    int fg_threads_limit()
    void fg_threads_set_limit(int n)
    int64_t fg_pool_limit()
    void fg_pool_set_limit(int64_t bytes)
    int fg_apply(int op, int n_in, const fg_tensor *, int n_attr, const int64_t *attr, fg_tensor *out)
    int fg_unary(int op, fg_tensor x, fg_tensor *out)
    int fg_binary(int op, fg_tensor a, fg_tensor b, fg_tensor *out)
    int fg_matmul(fg_tensor a, fg_tensor b, fg_tensor *out)
    int fg_matmul_check(const fg_shape *, const fg_shape *)
    int fg_binary_inplace(int op, fg_tensor *a, fg_tensor b)
    int fg_changes_in_place(const fg_array *)
    int fg_may_change(const char *name, const char *instead, const fg_tensor *a)
    const char *fg_caller_name(int64_t i)
    int fg_derivative(int op, int i, fg_array *a, fg_array *b, fg_array **out)
    fg_node *fg_leaf(fg_array *)
    fg_node *fg_node_ref(fg_node *)
    void fg_node_unref(fg_node *)
    uint64_t fg_last_node_id()
    fg_tensor fg_tensor_ref(fg_tensor)
    void fg_tensor_unref(fg_tensor)
    fg_tensor fg_leaf_grad(const fg_node *)
    void fg_leaf_set_grad(fg_node *, fg_tensor)
    void fg_leaf_abandon(fg_node *)
    int fg_tape_record(const fg_call *, fg_tensor *)
    int fg_saved(const fg_node *, int i, fg_tensor *)
    int fg_saved_out(fg_node *, fg_tensor *)
    int fg_backward(fg_tensor y, fg_tensor cotangent, int retain_graph, int create_graph)
    int fg_gradients(int n_y, const fg_tensor *y, const fg_tensor *cotangent, int retain_graph, int create_graph, int n,
                     fg_node **wrt, fg_tensor *out)
    ctypedef struct fg_row_term:
        fg_array *values
        fg_array *index
    ctypedef struct fg_row_terms:
        int n
        fg_row_term term[16]
    int fg_gradients_by_rows(int n_y, const fg_tensor *y, const fg_tensor *cotangent, int retain_graph, int n,
                             fg_node **wrt, fg_tensor *out, fg_row_terms *rows)
    void fg_row_terms_drop(fg_row_terms *)
    int fg_tape_between(int n_y, const fg_tensor *y, int n, fg_node **wrt, int64_t *count, fg_node ***out)
    int fg_tape_closed_over(int n_y, const fg_tensor *y, int n, fg_node **wrt, int64_t *count, fg_node ***out)
    int (*fg_on_rule)(fg_node *, int i, fg_tensor g, fg_tensor *gx) except -1
    int (*fg_on_numpy)(const fg_call *, fg_array *) except -1
    const char *(*fg_on_numpy_name)(int64_t) noexcept
    int (*fg_on_refused)(const fg_call *, fg_array *) except -1
    ctypedef struct fg_integer_kernel:
        pass
    const fg_integer_kernel *fg_integer_kernel_of(int op, int dtype)
    int (*fg_on_pause)() except -1 nogil
    int (*fg_on_promotion)(const fg_array *narrow, const fg_array *wide) except -1
    int fg_custom(int n_in, const fg_tensor *, void *rule, int n_out, fg_tensor *y)
    int (*fg_on_custom)(void *rule, fg_node *, fg_tensor g, fg_tensor *gin) except -1
    void fg_set_blas(void *sgemm, void *dgemm, int ilp64)
    void fg_set_lapack(int function, void *single, void *twice, int ilp64)
    int fg_kernels_select(const char *isa)
    const char *fg_isa()
    const char *fg_isa_available(int i)

cdef extern from "forward.h":
    enum:
        FG_PUSH_BY_RULE, FG_PUSH_LINEAR, FG_PUSH_PRODUCT, FG_PUSH_TOGETHER
    ctypedef int fg_push_rule(void *context, fg_node *, const fg_tensor *tangents, fg_tensor *out) except -1
    int fg_push(int n_y, const fg_tensor *y, int n, fg_node **wrt, const fg_tensor *tangents,
                int64_t directions, const uint8_t *how, fg_push_rule *rule, void *context, fg_tensor *out)

cdef extern from "sparsity.h":
    ctypedef struct fg_sets:
        pass
    fg_sets *fg_sets_new(int32_t n)
    void fg_sets_free(fg_sets *)
    int fg_sets_union(fg_sets *, int64_t n, const int32_t *a, const int32_t *b, int32_t *y)
    int fg_sets_gather(fg_sets *, int64_t n, int64_t inner, const int32_t *x, const int64_t *to, int64_t n_y,
                       int32_t *y)
    void fg_sets_starts(const fg_sets *, int64_t n, const int32_t *x, int64_t *start)
    void fg_sets_columns(const fg_sets *, int64_t n, const int32_t *x, int32_t *columns)
    int fg_color_rows(int64_t n, int64_t n_columns, const int64_t *start, const int32_t *columns, int32_t most,
                      int32_t *colors, int32_t *count)
    void fg_entries_of_passes(int64_t n, const int64_t *start, const int32_t *columns, const int32_t *colors,
                              int of_columns, int n_parts, const int64_t *end, const double *const *parts,
                              double *entries)

cdef extern from "program.h":
    ctypedef struct fg_program:
        pass
    ctypedef struct fg_program_facts:
        int n_in, n_out, n_instructions, n_traced
        int64_t arena_bytes, separate_bytes, constant_bytes
        int allocates
        double work
    ctypedef struct fg_replay:
        pass
    int fg_tracing
    ctypedef enum fg_trace_kind:
        FG_NOTHING, FG_PROGRAM, FG_MAPPED, FG_BODY
    int fg_trace_begin(fg_trace_kind)
    int fg_trace_input(fg_array *)
    int fg_trace_live_input(fg_array *)
    int fg_program_reads(const fg_program *, int v)
    int fg_trace_end(int n_out, fg_array *const *out, int n_gradients, fg_program **)
    int fg_program_compile(fg_program *)
    void fg_trace_abort()
    fg_trace_kind fg_trace_here()
    int fg_transforming()
    uint32_t fg_trace_number()
    int fg_trace_count(int)
    int fg_trace_is_program()
    int fg_trace_defer_zeros(int)
    int fg_trace_compiles()
    int fg_trace_body(int first, int n, int stack_carry)
    int fg_trace_outside(const fg_array *)
    int fg_trace_outside_node(const fg_node *)
    int fg_traced(const fg_array *)
    int fg_trace_check_leaked(const fg_array *)
    int fg_trace_append(const fg_call *, fg_array *)
    fg_replay *fg_replay_take(fg_program *)
    void fg_replay_give(fg_program *, fg_replay *)
    void fg_replays_free(fg_program *)
    void **fg_replay_address(fg_replay *)
    void **fg_replay_owner(fg_replay *)
    int fg_replay_run(const fg_program *, fg_replay *) nogil
    void *fg_replay_own_input(const fg_program *, fg_replay *, int i)
    enum:
        FG_N_ELEMENTWISE_OPTIMIZERS, FG_N_OPTIMIZERS, FG_FROZEN, FG_MAX_STATES, FG_MAX_NUMBERS
    ctypedef struct fg_update_rule:
        int optimizer, lazy_rows
        double *number
    ctypedef enum fg_clip_kind:
        FG_CLIP_NOTHING, FG_CLIP_VALUE, FG_CLIP_NORM, FG_CLIP_EACH_NORM
    ctypedef struct fg_clip:
        fg_clip_kind kind
        double limit, scale
    ctypedef struct fg_updates:
        const fg_update_rule *rule
        const int *rule_of
        fg_clip clip
    ctypedef struct fg_row_sums:
        int64_t n, width
        const int64_t *row
        char *values
    int fg_row_terms_sum(const fg_row_terms *, const fg_shape *, int dtype, fg_row_sums *)
    int fg_replay_gradient_rows(const fg_program *, fg_replay *, int i, fg_row_sums *)
    void fg_row_sums_write(const fg_row_sums *, size_t itemsize, int64_t size, void *to)
    ctypedef struct fg_parameter:
        int dtype, ndim
        const int64_t *dim
        int64_t n
        void *p
        const void *g
        void **state
        const fg_row_sums *rows
    int64_t fg_state_size(int optimizer, int k, int ndim, const int64_t *dim)
    int fg_update(const fg_updates *, int n, const fg_parameter *)
    int fg_replay_train(const fg_program *, fg_replay *, const fg_updates *, void *const *state, int checked,
                        int *bad) nogil
    double fg_replay_loss(const fg_program *, fg_replay *)
    void fg_replay_gradient(const fg_program *, fg_replay *, int i, void *to)
    int fg_replay_copy_aliased(const fg_program *, fg_replay *)
    void fg_gather_rows(int ndim, const int64_t *dim, const int64_t *stride, size_t itemsize, int64_t n,
                        const int64_t *row, const void *x, void *y) nogil
    void fg_program_free(fg_program *)
    ctypedef struct fg_instruction:
        int op, y, n_in, n_attr
        const int *in_ "in"
        const char *tracked
        const int64_t *attr
    ctypedef struct fg_instructions_size:
        int n_values, n_instructions
    int fg_trace_end_instructions(fg_program **)
    int fg_trace_value(const fg_array *)
    int fg_trace_find(const fg_array *, fg_program **)
    uint32_t fg_trace_number_of(const fg_program *)
    int fg_trace_keeps_instructions(int n_in, const fg_tensor *)
    int fg_trace_tracked(fg_tensor)
    fg_instructions_size fg_instructions_count(const fg_program *)
    fg_instruction fg_instructions_get(const fg_program *, int i)
    fg_tensor fg_instructions_constant(const fg_program *, int v)
    fg_program_facts fg_program_describe(const fg_program *)
    fg_shape *fg_program_input_shape(const fg_program *, int i)
    int fg_program_input_dtype(const fg_program *, int i)
    fg_shape *fg_program_output_shape(const fg_program *, int i)
    int fg_program_output_dtype(const fg_program *, int i)
    int fg_program_keeps(const fg_program *, int i)
    int fg_program_line(const fg_program *, int i, char *text, int size)
    int fg_program_name(const fg_program *, int i, char *text, int size)
    int fg_program_result_dtype(const fg_program *, int i)
    fg_shape *fg_program_result_shape(const fg_program *, int i)
    int fg_program_equal(const fg_program *, const fg_program *)
    fg_program *fg_program_ref(fg_program *)
    fg_program *fg_program_body(const fg_program *, int i, int k)
    int64_t fg_control_flow_offset(int op, const int64_t *attr, int k)
    int fg_program_group(const fg_program *, int i)
    const char *fg_program_gradient(const fg_program *, int i)
    int fg_program_operand(const fg_program *, int i, int k)
    int fg_program_operand_count(const fg_program *, int i)
    int fg_program_output(const fg_program *, int i)
    fg_array *fg_program_rng_state(const fg_program *, int i)
    ctypedef struct fg_buffer_facts:
        int dtype, root
        fg_shape *shape
        int64_t shift
        int output, kept, padded, blockwise
        int64_t period, offset
        const void *data
    ctypedef struct fg_step_facts:
        int op, y, n_in, n_attr, group, late
        const int *in_ "in"
        const int64_t *attr
    int fg_program_buffer_count(const fg_program *)
    fg_buffer_facts fg_program_buffer(const fg_program *, int v)
    fg_step_facts fg_program_step(const fg_program *, int i)
    int fg_program_out(const fg_program *, int i)
    ctypedef int fg_native_function(const void *, const void *)
    void fg_program_set_native(fg_program *, fg_native_function *)
