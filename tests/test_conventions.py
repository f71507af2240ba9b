"""Every row of docs/conventions.md: derivatives at kinks and singular points, in every mode that computes them."""

import re
from pathlib import Path

import numpy as np
import pytest

import fastgrad as fg

PAGE = Path(__file__).parent.parent / "docs" / "conventions.md"
NUMBERS = {"inf": np.inf, "nan": np.nan}


def _rows():
    rows = []
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.split(" | ")]
        if line.startswith("| `"):
            assert len(cells) == 5, f"docs/conventions.md: a row of {len(cells)} cells: {line}"
            text, *values = [re.fullmatch(r"\|?\s*`(.*)`", cell).group(1) for cell in cells[:4]]
            rows.append(pytest.param(text, *values, id=f"{text} at {values[0]}"))
    return rows


ROWS = _rows()


def _function(text, x):
    names = {"fg": fg, "np": np, "zero": np.zeros_like(x), "one": np.ones_like(x)}
    return eval(f"lambda x: fg.sum({text})", names)


def _value(text, dtype):
    return np.array(eval(text, NUMBERS), dtype)


def _same(found, expected, what):
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-6, atol=1e-7, err_msg=what)


def test_the_page_has_rows_of_every_kind():
    text = PAGE.read_text()
    assert len(ROWS) > 80
    for name in (
        "relu max norm hypot std var absolute sign clip where logaddexp logsumexp softmax huber hard_swish hard_tanh "
        "hard_sigmoid hard_shrink soft_shrink relu6 leaky_relu elu celu selu prelu mae mse binary_cross_entropy "
        "binary_cross_entropy_with_logits softmax_cross_entropy"
    ).split():
        assert re.search(rf"^\| `fg\.(losses\.)?{name}\(", text, re.M), f"no row of {name}"


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("text", "at", "first", "second"), ROWS)
def test_derivatives_are_those_of_the_page(text, at, first, second, dtype):
    x = _value(at, dtype)
    f, first = _function(text, x), _value(first, dtype)
    grad = fg.grad(f)
    _same(grad(x), first, "grad")
    _same(fg.compile(grad)(x), first, "compiled grad")
    _same(fg.vmap(grad)(np.stack([x, x]))[1], first, "vmap of grad")
    units = np.eye(x.size, dtype=dtype).reshape(x.size, *x.shape)
    slopes = [np.asarray(fg.jvp(f, (x,), (unit,))[1]) for unit in units]
    finite = np.isfinite(first)
    if finite.all():
        _same(np.reshape(slopes, x.shape), first, "jvp")
    recorded = fg.grad(lambda x: fg.sum(grad(x) * np.zeros_like(x)))  # of a gradient that is differentiated again
    assert recorded(x).shape == x.shape
    if second == "-":
        return
    second = _value(second, dtype)
    _same(fg.hessian(f)(x).reshape(x.size, -1).sum(1).reshape(x.shape), second, "hessian")
    if np.isfinite(second).all():
        _same(fg.grad(lambda x: fg.sum(grad(x)))(x), second, "reverse over reverse")
        _same(fg.jvp(grad, (x,), (np.ones_like(x),))[1], second, "forward over reverse")
        _same(fg.compile(fg.hessian(f))(x).reshape(x.size, -1).sum(1).reshape(x.shape), second, "compiled hessian")
