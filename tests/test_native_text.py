"""Native programs: which parts of their text are functions of their own, which spares compilers time."""

import re

import numpy as np
import pytest
from _native import ULPS, agree, native, needs_compiler, own_directory, rounds_as_compiled_now  # noqa: F401

import fastgrad as fg

RNG = np.random.default_rng(0)
SAME = 0 if rounds_as_compiled_now() else ULPS  # how far results may be apart that come from one order of arithmetic


def links(angles, lengths):
    """The sum of the places of links, each of which is turned against the one before it."""
    turned, place, total = np.eye(3), np.zeros(3), 0.0
    for k in range(len(lengths)):
        c, s = np.cos(angles[k]), np.sin(angles[k])
        turned = turned @ fg.stack([fg.stack([c, -s, 0 * c]), fg.stack([s, c, 0 * c]), np.array([0.0, 0.0, 1.0])])
        place = place + turned @ (lengths[k] * np.ones(3))
        total = total + np.sum(place * place)
    return total


@needs_compiler
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_recurs_is_written_once(dtype):
    f = fg.value_and_grad(links, (0, 1))
    lines = []
    for n in (6, 12):
        args = RNG.normal(size=n).astype(dtype), RNG.uniform(0.5, 1, n).astype(dtype)
        compiled = native(f, *args)
        agree(
            compiled(*args), fg.compile(f, native=False)(*args), f"{n} links", 0 if rounds_as_compiled_now() else ULPS
        )
        text = compiled.program(*args).c_source()
        functions = re.findall(r"\b(piece\d+)\([^)]*\)\n", text)
        assert functions and all(text.count(f" {name}(") > 2 for name in functions), text
        lines.append(text.count("FMA_"))
    assert lines[1] < 1.5 * lines[0], lines  # the products of a link are those of another one


@needs_compiler
def test_pieces_that_write_numbers_and_read_the_same_memory():
    """Sums of parts of one array, which are added to what the array has."""

    def f(x):
        total = 0.0
        for k in range(12):
            part = x[k : k + 12]
            total = total + np.sum(part * part * 0.5) * np.sum(part * 0.25 + part)
            x = x + np.concatenate([x[:18] * 0.5, x[:18]])
        return total, x

    x = RNG.normal(size=36)
    f = fg.value_and_grad(f, has_aux=True)
    compiled = native(f, x)
    assert "piece0(" in compiled.program(x).c_source()
    agree(compiled(x), fg.compile(f, native=False)(x), "parts", 4 + SAME)


@needs_compiler
def test_loops_with_long_functions_are_apart():
    """Very long ones of many elements are those of the kernels."""

    def f(x, y):
        return np.sum(np.tanh(x) * y + np.exp(-x)), fg.special.digamma(y[:5] * y[:5] + 1)

    args = RNG.normal(size=(2, 100))
    compiled = native(f, *args)
    agree(compiled(*args), fg.compile(f, native=False)(*args), "long functions")
    text = compiled.program(*args).c_source()
    program = text[text.index("int fg_native_program(const fg_frame *f, const fg_services *s)\n") :]
    assert re.search(r"tanh_f64\(", text) and re.search(r"digamma_f64\(", text)
    assert not re.search(r"(tanh|exp|digamma)_f64\(", program), program
    many = fg.compile(lambda x: fg.special.digamma(x * x + 1) * 2, native=True)
    many(args[0])
    assert "digamma" not in re.sub(r"/\*.*?\*/", "", many.program(args[0]).c_source())
    np.testing.assert_array_equal(many(args[0]), fg.compile(lambda x: fg.special.digamma(x * x + 1) * 2)(args[0]))


@needs_compiler
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_condition_keeps_both_of_its_branches(sign):
    """Whether the first, the second, or both have long functions; also where the condition itself recurs."""

    def short(x):
        return x - 0.5

    def long(x):
        return np.tanh(x) * 2 + np.exp(-x * x)

    def f(x):
        for first, second in [(long, short), (short, long), (long, np.exp), *[(short, np.tanh)] * 12]:
            x = fg.cond(np.sum(x) > 0, first, second, x)
        _, rows = fg.scan(lambda c, x: (fg.cond(x > 0, long, short, c), c), x, np.array([1.0, -1.0]))
        return np.sum(rows * rows), x

    x = sign * RNG.uniform(0.5, 1, 37)
    f = fg.value_and_grad(f, has_aux=True)
    compiled = native(f, x)
    text = compiled.program(x).c_source()
    assert re.search(r"^static .* piece\d+\(.*\n\{\n(    const uint64_t no_bits.*\n)?    if ", text, re.MULTILINE), text
    agree(compiled(x), fg.compile(f, native=False)(x), "conditions")


@needs_compiler
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_single_elements_take_a_number(dtype):
    """A number that a loop would take for each element, where a few elements are statements without a loop."""

    def f(x):
        y = x @ np.sin(x)
        return [np.maximum(y, np.stack([y, np.tanh(y), y][:n])) for n in (1, 2, 3)], np.minimum(x, y * y)

    x = RNG.normal(size=2).astype(dtype)
    compiled = native(f, x)
    assert re.search(r"\[1\] = \w+\(EACH_f\d\d\(\w+, 1\), ", compiled.program(x).c_source())
    agree(compiled(x), fg.compile(f, native=False)(x), "single elements")
