"""The activations as objects: call one, ask for its derivative, read its formula; and the table of them all.

Values come from the functions of fastgrad. Derivatives and formulas of elementwise activations come from
csrc/ops.def, the same text that the backward kernel was compiled from. The five functions that mix the
elements of a row have their formulas here, in index notation; their Jacobians are that text, evaluated.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np

from . import _core
from ._core import Tensor
from ._numpy import neural
from ._rules import formula
from ._transforms.custom_call import inside
from ._transforms.jacobian import elementwise_grad

__all__ = [
    "Activation", "Formula", "ParametricActivation", "RowActivation", "table",
    "celu", "elu", "erf", "erfc", "expit", "gelu", "glu", "hard_shrink", "hard_sigmoid", "hard_swish",
    "hard_tanh", "leaky_relu", "log_sigmoid", "log_softmax", "logsumexp", "mish", "prelu", "relu", "relu6",
    "selu", "sigmoid", "silu", "soft_shrink", "softmax", "softmin", "softplus", "softsign", "swish", "tanh",
    "tanh_shrink",
]  # fmt: skip


def __dir__() -> list[str]:
    return list(__all__)  # what completion shows


@cache
def _constants() -> dict[str, str]:
    return {name: tex for name, (_, tex) in _core.constants().items()}


class Formula(NamedTuple):
    """The text of a function y of x and of its derivative, which may name y. Valid Python; str() shows both."""

    value: str
    derivative: str

    @property
    def latex(self) -> str:
        """Both as one line of LaTeX."""
        value, derivative = self.latex_parts
        return rf"y = {value}, \qquad \frac{{\partial y}}{{\partial x}} = {derivative}"

    @property
    def latex_parts(self) -> tuple[str, str]:
        """Value and derivative as LaTeX, each by itself."""
        return formula.latex(self.value, _constants()), formula.latex(self.derivative, _constants())

    def __str__(self) -> str:
        return f"y = {self.value}; dy/dx = {self.derivative}"


class Activation:
    """An elementwise function with its derivative and formula.

    >>> import numpy as np
    >>> import fastgrad as fg
    >>> fg.activations.tanh.derivative(np.array([0.0, 100.0]))
    array([1., 0.])
    >>> print(fg.activations.tanh.formula)
    y = tanh(x); dy/dx = (1 + y) * (1 - y)
    """

    def __init__(self, name: str, function: Callable[..., Any], op: str | None = None) -> None:
        self.__name__ = name
        self._function = function
        self._op = op or name

    def __call__(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """The value, as by the function of this name in `fastgrad`, recorded on the tape."""
        return self._function(x, *args, **kwargs)

    def derivative(self, x: Any) -> Any:
        """dy/dx for each element of x, by the kernel of the table; float32 and float64 are kept. An ndarray; for a
        tensor that is differentiated, mapped or traced a tensor, which is so, too."""
        return _derivative(self._op, x)

    @property
    @cache  # noqa: B019  (the activations live as long as the module; a cached_property of Python 3.11 holds a lock)
    def formula(self) -> Formula:
        """Value and derivative as text, also as LaTeX."""
        row = _core.ROWS[self._op]
        return Formula(row["definition"], row["derivatives"][0])

    @property
    def domain(self) -> tuple[float, float]:
        """The interval over which the table's tests draw x."""
        lo, hi = _core.ROWS[self._op]["domain"][0]
        return lo, hi

    def __repr__(self) -> str:
        return f"<activation {self.__name__}>"


class ParametricActivation(Activation):
    """An elementwise function with one parameter, which may have a default.

    >>> import numpy as np
    >>> import fastgrad as fg
    >>> fg.activations.elu.derivative(np.array([-1.0, 1.0]), alpha=2.0).round(3)
    array([0.736, 1.   ])
    """

    def __init__(
        self, name: str, function: Callable[..., Any], op: str, parameter: str, default: float | None = None
    ) -> None:
        super().__init__(name, function, op)
        self._parameter, self._default = parameter, default

    def derivative(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """dy/dx for each element of x, as by other activations; the parameter is given as in the call."""
        return _derivative(self._op, x, self._bind(args, kwargs))

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = [*args, *(value for key, value in kwargs.items() if key == self._parameter)]
        if not given and self._default is not None:
            given = [self._default]
        if len(given) != 1 or not kwargs.keys() <= {self._parameter}:
            raise TypeError(
                f"{self.__name__}.derivative takes x and {self._parameter}, "
                f"got {len(args)} more arguments and the names {sorted(kwargs)}"
            )
        return given[0]

    @property
    @cache  # noqa: B019  (the activations live as long as the module; a cached_property of Python 3.11 holds a lock)
    def formula(self) -> Formula:
        row = _core.ROWS[self._op]
        names = {"a": "x", "b": self._parameter}  # ops.def calls the two arguments a and b
        return Formula(formula.rename(row["definition"], names), formula.rename(row["derivatives"][0], names))


class _Gelu(Activation):
    """gelu is two rows of the table: `approximate` chooses."""

    def derivative(self, x: Any, approximate: Literal["none", "tanh"] = "none") -> Any:
        """dy/dx for each element of x, as by other activations; `approximate` as in the call."""
        if approximate not in ("none", "tanh"):
            raise ValueError(f"gelu: approximate is {approximate!r}, expected 'none' or 'tanh'")
        return _derivative("gelu" if approximate == "none" else "gelu_tanh", x)


def _derivative(op: str, *operands: Any) -> Any:
    """The derivative of an operation by its first operand, for each element."""
    tracked = _core.tracked_among([*operands])
    if not tracked and not any(isinstance(x, Tensor) and _core.traced(x) for x in operands):
        return _core.elementwise_derivative(op, 0, *operands)
    x, *parameter = map(_core.asarray, operands)
    if x.dtype.kind != "f":
        x = x.astype(np.float64)
    x = _core.broadcast_to(x, np.broadcast_shapes(x.shape, *[p.shape for p in parameter]))
    derivative = elementwise_grad(_core.functions[op])
    # Within a transform a gradient is recorded.
    return inside(derivative, (x, *parameter)) if tracked else derivative(x, *parameter)


class RowActivation:
    """A function of the rows along the last axis: every y of a row depends on every x of it.

    The formula is in index notation: x_i and y_i are elements of a row, delta_ij is 1 where i = j, else 0.

    >>> import fastgrad as fg
    >>> print(fg.activations.softmax.formula)
    y = exp(x_i) / sum_k(exp(x_k)); dy/dx = y_i * (delta_ij - y_j)
    >>> fg.activations.softmax.jacobian([0.0, 0.0])
    array([[ 0.25, -0.25],
           [-0.25,  0.25]])
    """

    domain = (-3.0, 3.0)

    def __init__(self, name: str, function: Callable[..., Any], value: str, derivative: str) -> None:
        self.__name__ = name
        self._function = function
        self.formula = Formula(value, derivative)

    def __call__(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """The value, as by the function of this name in `fastgrad`, recorded on the tape."""
        return self._function(x, *args, **kwargs)

    def jacobian(self, x: Any) -> np.ndarray:
        """dy_i/dx_j along the last axis: of shape (..., n, n) for an x of shape (..., n), or (..., n) for
        logsumexp, which has one value a row. float32 and float64 are kept. Raises ValueError for a 0-d x."""
        x = _rows(self.__name__, x)
        y = np.asarray(self(x))
        delta = np.eye(x.shape[-1], dtype=x.dtype)
        return np.asarray(self._evaluate(delta_ij=delta, y_i=y[..., :, None], y_j=y[..., None, :]))

    def derivative(self, x: Any) -> np.ndarray:
        """Not defined: TypeError."""
        raise TypeError(f"{self.__name__} mixes the elements of a row: use {self.__name__}.jacobian(x)")

    def _evaluate(self, **names: Any) -> Any:
        return formula.evaluate(self.formula.derivative, {"exp": np.exp, **names})

    def __repr__(self) -> str:
        return f"<activation {self.__name__}>"


class _LogSumExp(RowActivation):
    def jacobian(self, x: Any) -> np.ndarray:
        """dy/dx_j along the last axis, of the shape of x. Raises ValueError for a 0-d x."""
        x = _rows(self.__name__, x)
        return np.asarray(self._evaluate(x_j=x, y=np.asarray(self(x, axis=-1))[..., None]))


class _Glu(RowActivation):
    """In its formula a and b are the halves of a row, and the two derivatives are by a and by b."""

    def jacobian(self, x: Any) -> np.ndarray:
        """dy_i/dx_j along the last axis: of shape (..., n / 2, n) for an x of shape (..., n)."""
        x = _rows(self.__name__, x)
        y = np.asarray(self(x))
        half = y.shape[-1]
        by_a, by_b = self._evaluate(b=x[..., half:], y=y, sigmoid=lambda v: np.asarray(_core.sigmoid(v)))
        eye = np.eye(half, dtype=x.dtype)
        blocks = [np.asarray(part)[..., None] * eye for part in (by_a, by_b)]
        return np.concatenate(blocks, axis=-1)


def _rows(name: str, x: Any) -> np.ndarray:
    rows = np.asarray(x)
    if rows.ndim == 0:
        raise ValueError(f"{name}.jacobian: x is 0-d, expected rows along a last axis")
    return rows if rows.dtype.kind == "f" else rows.astype(np.float64)


sigmoid = expit = Activation("sigmoid", _core.sigmoid)
log_sigmoid = Activation("log_sigmoid", _core.log_sigmoid)
tanh = Activation("tanh", _core.tanh)
tanh_shrink = Activation("tanh_shrink", _core.tanh_shrink)
relu = Activation("relu", _core.relu)
relu6 = Activation("relu6", _core.relu6)
leaky_relu = ParametricActivation("leaky_relu", neural.leaky_relu, "prelu", "negative_slope", 0.01)
prelu = ParametricActivation("prelu", _core.prelu, "prelu", "slope")
elu = ParametricActivation("elu", neural.elu, "elu", "alpha", 1.0)
celu = ParametricActivation("celu", neural.celu, "celu", "alpha", 1.0)
selu = Activation("selu", _core.selu)
gelu = _Gelu("gelu", neural.gelu)
silu = swish = Activation("silu", _core.silu)
mish = Activation("mish", _core.mish)
softplus = Activation("softplus", _core.softplus)
softsign = Activation("softsign", _core.softsign)
hard_tanh = Activation("hard_tanh", _core.hard_tanh)
hard_sigmoid = Activation("hard_sigmoid", _core.hard_sigmoid)
hard_swish = Activation("hard_swish", _core.hard_swish)
hard_shrink = ParametricActivation("hard_shrink", neural.hard_shrink, "hard_shrink", "lambd", 0.5)
soft_shrink = ParametricActivation("soft_shrink", neural.soft_shrink, "soft_shrink", "lambd", 0.5)
erf = Activation("erf", _core.erf)
erfc = Activation("erfc", _core.erfc)
softmax = RowActivation("softmax", neural.softmax, "exp(x_i) / sum_k(exp(x_k))", "y_i * (delta_ij - y_j)")
softmin = RowActivation("softmin", neural.softmin, "exp(-x_i) / sum_k(exp(-x_k))", "y_i * (y_j - delta_ij)")
log_softmax = RowActivation("log_softmax", neural.log_softmax, "x_i - log(sum_k(exp(x_k)))", "delta_ij - exp(y_j)")
logsumexp = _LogSumExp("logsumexp", neural.logsumexp, "log(sum_k(exp(x_k)))", "exp(x_j - y)")
glu = _Glu("glu", neural.glu, "a * sigmoid(b)", "sigmoid(b), y * sigmoid(-b)")

_TEXTBOOK = (
    ParametricActivation("power", _core.power, "power", "n"),
    Activation("exp", _core.exp),
    Activation("log", _core.log),
    sigmoid, tanh, relu, softmax,
)  # fmt: skip
_OTHERS = (
    leaky_relu, prelu, relu6, elu, selu, celu, gelu,
    Activation("gelu_tanh", _core.gelu_tanh),
    silu, mish, softplus, softsign, log_sigmoid, hard_tanh, hard_sigmoid, hard_swish, hard_shrink, soft_shrink,
    tanh_shrink, erf, erfc, softmin, log_softmax, logsumexp, glu,
)  # fmt: skip

_WIDTHS = 12, 36, 40  # of the columns of the table in text, which with a mark fits a terminal of 100
_HEADER = "function", "value y", "derivative dy/dx"


def table(
    style: Literal["text", "markdown", "latex"] = "text",
    mark: Callable[[Activation | RowActivation], str] | None = None,
) -> str:
    """The derivative table: the functions of every textbook, then all the other activations.

    In the derivatives y is the value. "text" is Python syntax, aligned for a terminal of 100 columns;
    "markdown" and "latex" are tables with the formulas in LaTeX. `mark`, if given, is called with each
    activation and its text put into a last column. Raises ValueError for another style.

    >>> import fastgrad as fg
    >>> print("\\n".join(fg.activations.table().splitlines()[:7]))
    function      value y                               derivative dy/dx
    ------------  ------------------------------------  ----------------------------------------
    power         power(x, n)                           where(n == 0, 0, n * power(x, n - 1))
    exp           exp(x)                                y
    log           log(x)                                1 / x
    sigmoid       1 / (1 + exp(-x))                     sigmoid(x) * sigmoid(-x)
    tanh          tanh(x)                               (1 + y) * (1 - y)
    """
    if style not in ("text", "markdown", "latex"):
        raise ValueError(f"table: style is {style!r}, expected 'text', 'markdown' or 'latex'")
    rows = []
    for f in _TEXTBOOK + _OTHERS:
        formula = f.formula
        parts = (formula.value, formula.derivative) if style == "text" else formula.latex_parts
        rows.append((f.__name__, *parts, *((mark(f),) if mark else ())))
    header = (*_HEADER, *(("",) if mark else ()))
    return "\n".join(_RENDER[style](header, rows))


def _text(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterable[str]:
    widths = (*_WIDTHS, *(0 for _ in header[3:]))
    for row in (header, tuple("-" * width for width in widths), *rows):
        cells = [textwrap.wrap(cell, width) if width else [cell] for cell, width in zip(row, widths)]
        for line in itertools.zip_longest(*cells, fillvalue=""):
            yield "  ".join(f"{piece:<{width}}" for piece, width in zip(line, widths)).rstrip()


def _markdown(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterable[str]:
    yield "| " + " | ".join(header) + " |"
    yield "|" + " --- |" * len(header)
    for name, value, derivative, *rest in rows:
        formulas = [f"${tex}$".replace("|", r"\vert ") for tex in (value, derivative)]
        yield "| " + " | ".join([f"`{name}`", *formulas, *rest]) + " |"


def _latex(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterable[str]:
    yield rf"\begin{{array}}{{{'l' * len(header)}}}"
    for name, value, derivative, *rest in (("", "y", r"\partial y / \partial x"), *rows):
        text = [rf"\text{{{cell}}}".replace("_", r"\_") for cell in (name, *rest)]
        yield " & ".join([text[0], value, derivative, *text[1:]]) + r" \\"
    yield r"\end{array}"


_RENDER: dict[str, Callable[[tuple[str, ...], Iterable[tuple[str, ...]]], Iterable[str]]] = {
    "text": _text, "markdown": _markdown, "latex": _latex,
}  # fmt: skip
