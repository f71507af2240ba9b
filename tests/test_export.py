"""``export``: the C file stands alone, compiles without a warning, and computes what the replay does."""

import re
import shutil
import subprocess
import threading

import numpy as np
import pytest
from _exported import COMPILERS, STRICT, Exported, compiled, library
from _oracles import ADDRESS_SANITIZER
from test_compile_graphs import draw_inputs
from test_native import PROGRAMS, random_program

import fastgrad as fg

pytestmark = [
    pytest.mark.skipif(not COMPILERS, reason="there is no C compiler"),
    pytest.mark.skipif(ADDRESS_SANITIZER, reason="libraries that are not sanitized are loaded"),
]
RNG = np.random.default_rng(0)


def agree(found, expected, what, single):
    """Within what sums in another order may differ by; `single`: there are float32 numbers in it."""
    for x, y in zip(fg.tree.leaves(found), fg.tree.leaves(expected)):
        y = np.asarray(y)
        tolerance = 0 if y.dtype.kind != "f" else 2e-3 if single else 1e-10
        scale = np.max(np.abs(y), initial=0, where=np.isfinite(y)) if y.dtype.kind == "f" else 0
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance * scale, err_msg=what)


# ---- what is computed --------------------------------------------------------------------------------------------
def loss(p, x, y):
    return np.mean((np.tanh(x @ p["w"] + p["b"]) @ p["v"] - y) ** 2)


def training_step(p, momentum, x, y, rate):
    """A whole step: the loss, and parameters and momentum after it."""
    value, g = fg.value_and_grad(loss)(p, x, y)
    momentum = fg.tree.map(lambda m, g: 0.9 * m + g, momentum, g)
    return value, fg.tree.map(lambda p, m: p - rate * m, p, momentum), momentum


def systems(a, b):
    """Cholesky factors, equations of stacks of matrices, triangles, determinants."""
    c = np.matmul(a, np.swapaxes(a, -1, -2)) + 3 * np.eye(4)
    lower = np.linalg.cholesky(c)
    y = fg.linalg.solve_triangular(lower, b, lower=True)
    sign, log = np.linalg.slogdet(a)
    return np.sum(np.linalg.solve(a, b) ** 2) + np.sum(y) + np.sum(sign * log) + np.sum(np.linalg.inv(c[0]))


def ordered(x):
    p = fg.activations.softmax(x, axis=-1)
    largest = np.sum(np.max(x, axis=(0, 2)) * np.min(x)) + np.sum(fg.cummax(x, axis=1) * p)
    return np.sum(np.sort(x, axis=1) * np.arange(3.0)[:, None]) + np.median(x) + largest + np.sum(np.prod(x, axis=0))


def labelled(x, k):
    return np.sum(fg.losses.softmax_cross_entropy(x, k)) + np.sum(fg.logsumexp(x, axis=0)) + np.var(x)


def whole_numbers(a, b):
    c = a // b + a % b - (a << 2) + np.abs(a) ** 2
    return c, (a < b) & (c != 3), c.astype(np.int8), np.sum(c), (a * 1.5).astype(np.int32), np.argmin(a * 0.5)


def long_loop(x):
    """Values of a body that do not fit in local variables."""
    return fg.scan(lambda c, row: (np.tanh(c[::-1] + row), c * row), np.zeros(300), x)


OWN = {
    "training_step": (
        training_step,
        ({"w": RNG.normal(size=(3, 4)), "b": np.zeros(4), "v": RNG.normal(size=4)},
         {"w": np.zeros((3, 4)), "b": np.zeros(4), "v": np.zeros(4)},
         RNG.normal(size=(30, 3)), RNG.normal(size=30), 0.1),
    ),
    "systems": (fg.value_and_grad(systems, (0, 1)), (RNG.normal(size=(3, 4, 4)), RNG.normal(size=(4, 2)))),
    "ordered": (fg.value_and_grad(ordered), (RNG.normal(size=(2, 3, 4)),)),
    "labelled": (fg.value_and_grad(labelled), (RNG.normal(size=(3, 5)).astype(np.float32), np.array([1, 4, 0]))),
    "whole_numbers": (whole_numbers, (np.arange(-5, 5), np.array([3, -2, 1, 4, 5, 7, -1, 2, 2, 3]))),
    "long_loop": (fg.grad(lambda x: np.sum(long_loop(x)[1])), (RNG.normal(size=(4, 300)),)),
    "long_vector": (fg.value_and_grad(lambda x: np.sum(np.tanh(x) * np.cumsum(x))), (RNG.normal(size=3000),)),
    "backwards_without_rows": (fg.grad(lambda x: fg.fori_loop(0, 3, lambda i, c: c * 0.5 + x, x)), (0.3,)),
    "special": (fg.jacobian(lambda x: fg.special.gammaln(x) + fg.j0(x) + fg.special.polygamma(2, x) + x**x),
                (np.array([0.5, 3.0]),)),
}  # fmt: skip


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    both = {name.replace(" ", "_"): program for name, program in {**PROGRAMS, **OWN}.items()}
    return [Exported(folder, f"f_{name}", f, args) for name, (f, args) in both.items()]


def test_values_are_those_of_the_replay(exported):
    lib = library(exported[0].source.parent, exported, COMPILERS[0])
    for e in exported:
        found = e.call(lib, *e.args)
        assert e.status == 0, e.name
        single = any(np.asarray(x).dtype == np.float32 for x in fg.tree.leaves(e.args))
        agree(found, fg.tree.unflatten(e.structure, e.expected), e.name, single)


@pytest.mark.parametrize("wide", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["own", "all"])
@pytest.mark.parametrize("cc", COMPILERS[1:])
def test_no_other_compiler_warns(exported, cc, wide):
    """The first compiler is as strict where the values are compared."""
    sources = [e.source for e in exported if wide or e.name.removeprefix("f_") in ("systems", "whole_numbers")]
    compiled(cc, *STRICT, "-fsyntax-only", *sources)


@pytest.mark.skipif(shutil.which("nm") is None, reason="there is no nm")
def test_nothing_but_the_mathematical_library_is_called(exported, tmp_path):
    allowed = {"memcpy", "memset", "memmove", "__stack_chk_fail", "_GLOBAL_OFFSET_TABLE_"}
    compiled(COMPILERS[0], *STRICT, "-O1", "-c", exported[0].source, "-o", tmp_path / "f.o")
    names = subprocess.run(["nm", "-u", tmp_path / "f.o"], capture_output=True, text=True, check=True).stdout
    left = {line.split()[-1] for line in names.splitlines()} - allowed
    assert left <= {"fabs", "copysign", "exp", "log", "floor", "fma", "sqrt", "rint"}, left


@pytest.mark.parametrize("count", [4, pytest.param(150, marks=pytest.mark.slow)])
def test_random_programs(count, tmp_path):
    rng = np.random.default_rng(count)
    made = []
    for k in range(count):
        f, shapes = random_program(rng)
        args = draw_inputs(shapes, [np.float32, np.float64][rng.integers(2)], rng)
        with np.errstate(all="ignore"):
            made.append(Exported(tmp_path, f"random{k}", f, args))
    lib = library(tmp_path, made, COMPILERS[0])
    for e in made:
        found = e.call(lib, *e.args)
        if all(np.isfinite(x).all() for x in map(np.asarray, e.expected)):
            what = f"{e.name}: {fg.compile(e.f).program(*e.args)}"
            single = "float32" in what  # anywhere: a cast to float32 rounds as float32 does, whatever comes out
            agree(found, fg.tree.unflatten(e.structure, e.expected), what, single)


def test_draws_are_those_of_the_generator(tmp_path):
    rng = fg.random.default_rng(3)

    def f(x):
        noise = fg.scan(lambda c, _: (c + rng.normal(), c), 0.0, None, length=3)[1]
        return x + rng.normal(size=5), noise, rng.integers(0, 10, size=7), rng.random(size=9, dtype=np.float32)

    x = np.ones(5)
    source, header = fg.export(f, x, path=tmp_path / "draws.c")
    words = re.search(r"#define DRAWS_STATE0 \{(.*)\}", header.read_text()).group(1)
    state = np.array([int(w.strip()[9:-1]) for w in words.split(",")], np.uint64)
    e = Exported(tmp_path, "draws", f, (x,))
    rng = fg.random.default_rng(3)
    compiled_f, lib = fg.compile(f), e.loaded(COMPILERS[0])
    for _ in range(2):
        agree(e.call(lib, x, states=[state]), compiled_f(x), "draws", True)


# ---- how it is called --------------------------------------------------------------------------------------------
def test_names_and_the_header(tmp_path):
    def f(params, k, *rest, double=2.0):
        return {"sum": params["w"][0] * k * double, "rest": (rest[0] * 1.0, rest[1] + 1)}

    params = {"w": [np.ones((2, 3)), np.ones(2)], "w_0": np.float32(1)}
    e = Exported(tmp_path, "named", f, (params, 2, np.arange(3), True), self_test=True)
    text = e.header.read_text()
    assert re.sub(r"\s+", " ", re.search(r"int named\(.*?\);", text, re.DOTALL).group()) == (
        "int named(const double *params_w_0, const double *params_w_1, float params_w_0_2, int64_t k_, "
        "const int64_t *rest_0, uint8_t rest_1, double *result_rest_0, int64_t *result_rest_1, double *result_sum, "
        "named_workspace *workspace);"
    )
    for line in (
        "params_w_0: params['w'][0]: float64, shape (2, 3), in C order",
        "params_w_0_2: params['w_0']: float32, a number",
        "result_sum: result['sum']: float64, shape (2, 3), in C order",
    ):
        assert line in text
    agree(e.call(e.loaded(COMPILERS[0]), *e.args), fg.tree.unflatten(e.structure, e.expected), "named", False)
    if shutil.which("g++"):
        compiled("g++", "-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only", "-x", "c++", e.header)


def test_static_arguments_are_constants(tmp_path):
    f = fg.compile(lambda x, n, y: x**n + y, static_argnums=1)
    e = Exported(tmp_path, "power_of", f, (np.arange(3.0), 3, 1.0))
    assert "int power_of(const double *x, double y, double *result" in e.header.read_text()
    found = e.call(e.loaded(COMPILERS[0]), np.arange(4.0)[1:], 2.0)
    np.testing.assert_allclose(found, [3, 10, 29])


def test_workspaces_keep_calls_apart(tmp_path):
    f = fg.value_and_grad(lambda x: np.sum(fg.scan(lambda c, r: (np.tanh(c + r), c * c), np.zeros(200), x)[1]))
    inputs = [RNG.normal(size=(20, 200)) for _ in range(4)]
    e = Exported(tmp_path, "apart", f, inputs[:1])
    lib, wrong = e.loaded(COMPILERS[0]), []

    def work(x):
        expected = fg.compile(f)(x)
        own = Exported.__new__(Exported)
        own.__dict__ |= e.__dict__
        for _ in range(20):
            found = own.call(lib, x)
            if not np.allclose(found[1], expected[1], rtol=1e-9):
                wrong.append(found)

    threads = [threading.Thread(target=work, args=(x,)) for x in inputs]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def self_test(cc, e, *flags, emulator=()):
    target = e.source.with_suffix(".exe")
    compiled(cc, *STRICT, "-O1", f"-D{e.name.upper()}_MAIN", *flags, e.source, "-o", target, "-lm")
    return subprocess.run([*emulator, target], capture_output=True, text=True, timeout=60)


def test_the_self_test_finds_what_is_wrong(tmp_path):
    f, args = OWN["training_step"]
    e = Exported(tmp_path, "checked", f, args, self_test=True, workspace="static")
    assert "workspace *workspace" not in e.header.read_text()
    done = self_test(COMPILERS[0], e)
    assert (done.returncode, done.stdout) == (0, "checked: all results agree\n")
    text = e.source.read_text()
    expected = re.search(r"expected_result_0\[1\] = \{\s*(\S+?)\}", text)
    e.source.write_text(text.replace(expected.group(), expected.group().replace(expected.group(1), "77.0")))
    done = self_test(COMPILERS[0], e)
    assert done.returncode == 1 and "result_0[0] is" in done.stdout and "expected 77" in done.stdout


@pytest.mark.skipif(
    not (shutil.which("aarch64-linux-gnu-gcc") and shutil.which("qemu-aarch64")), reason="no tools for aarch64"
)
def test_another_processor(tmp_path):
    for name in ("systems", "special"):
        f, args = OWN[name]
        e = Exported(tmp_path, name, f, args, self_test=True)
        done = self_test("aarch64-linux-gnu-gcc", e, "-static", emulator=["qemu-aarch64"])
        assert (done.returncode, done.stdout) == (0, f"{name}: all results agree\n"), done.stderr


def test_what_goes_wrong_is_told_by_the_status(tmp_path):
    rows = Exported(tmp_path, "rows", lambda x, i: fg.take(x, i, axis=0) * 2, (np.ones((3, 2)), np.array([0, -1])))
    roots = Exported(tmp_path, "roots", lambda a: np.linalg.cholesky(a), (np.eye(3),))
    lib = library(tmp_path, [rows, roots], COMPILERS[0])
    for index, status in (([2, -3], 0), ([0, 3], 1), ([-4, 0], 1)):
        rows.call(lib, np.ones((3, 2)), np.array(index))
        assert rows.status == status, index
    for sign, status in ((1, 0), (-1, 2)):
        roots.call(lib, sign * np.eye(3))
        assert roots.status == status


# ---- what cannot be exported -------------------------------------------------------------------------------------
def test_what_cannot_be_written_names_the_operation_and_the_line(tmp_path):
    def decomposed(x):
        y = x + x.T
        return np.sum(np.linalg.eigh(y)[0])

    def called_back(x):
        total = lambda: fg.pure_callback(np.sum, fg.ShapeDtypeStruct((), x.dtype), x)
        return fg.scan(lambda c, _: (c + total(), None), 0.0, None, 2)[0]

    first = decomposed.__code__.co_firstlineno
    with pytest.raises(NotImplementedError, match=rf"the operation eigh cannot .*test_export.py, line {first + 2}\)"):
        fg.export(decomposed, np.eye(3), path=tmp_path / "f.c")
    first = called_back.__code__.co_firstlineno
    with pytest.raises(NotImplementedError, match=rf"of the user's, .*test_export.py, line {first + 1}\)"):
        fg.export(called_back, np.eye(3), path=tmp_path / "f.c")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "options, said",
    [
        ({"path": "f.txt"}, "export: expected a path that ends in .c, got 'f.txt'"),
        ({"path": "f.c", "name": "double"}, "export: a C function cannot have the name 'double' here"),
        ({"path": "2f.c"}, "export: a C function cannot have the name '2f' here"),
        ({"path": "f.c", "workspace": "heap"}, "export: expected workspace 'caller' or 'static', got 'heap'"),
    ],
)
def test_bad_options(options, said):
    with pytest.raises(ValueError, match=said):
        fg.export(np.tanh, 1.0, **options)


def test_both_files_are_written_or_none(tmp_path):
    (tmp_path / "folder.c").mkdir()
    (tmp_path / "other.h").mkdir()
    for path in ("folder.c", "other.c"):
        with pytest.raises(IsADirectoryError, match="export: expected a path for a file, but .* is a folder"):
            fg.export(np.tanh, 1.0, path=tmp_path / path, name="slope")
    with pytest.raises(FileNotFoundError):
        fg.export(np.tanh, 1.0, path=tmp_path / "none" / "slope.c")
    with pytest.raises(ValueError, match="export: a line of C cannot include the header of"):
        fg.export(np.tanh, 1.0, path=tmp_path / 'a"b.c', name="slope")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder.c", "other.h"]


def test_a_file_name_outside_ascii(tmp_path):
    source, header = fg.export(np.tanh, 1.0, path=tmp_path / "größe.c", name="slope")
    compiled(COMPILERS[0], *STRICT, "-fsyntax-only", source)
    assert sorted(tmp_path.iterdir()) == sorted([source, header])


def test_no_function():
    with pytest.raises(TypeError, match="export: expected a function, got int"):
        fg.export(3, 1.0, path="f.c")
