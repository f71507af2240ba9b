"""Optimizers: the rules that turn a gradient into a step, over any nested structure of arrays.

An optimizer keeps its state (momentum, moments) per leaf, in the order of the leaves of the first parameters
it saw. `step` checks everything before it changes anything. The arithmetic is one C kernel for each row of
csrc/optim.def; a class here names its row and computes the row's numbers at each step. To add an optimizer, add both;
docs/adding-an-operation.md shows how.
"""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from . import _core, tree
from ._core import Tensor, UpdateRule
from ._transforms.arguments import tracked_error

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "get"]

_INFINITE = math.inf
_DTYPES = (np.dtype(np.float32), np.dtype(np.float64))


def _checked(name: str, below: float = math.inf) -> Any:
    """An attribute that is a number in [0, below), also when it is set anew."""

    def put(self: Optimizer, value: Any) -> None:
        setattr(self, f"_{name}", self._number(name, value, below))

    return property(operator.attrgetter(f"_{name}"), put)


class Optimizer:
    """What the optimizers share. Use `SGD`, `Adam` or `AdamW`.

    `learning_rate` is a number or a callable that is given the number of steps taken so far (0 at the first)
    and returns one; `steps` is that number. They may be set between steps, and so may the other arguments.
    Where a subclass overrides `step`, training steps and descents call it with the parameters and their gradients.
    """

    _slots: ClassVar[tuple[str, ...]] = ()  # the names of the state arrays kept for each leaf
    _row: ClassVar[str] = ""  # its row of csrc/optim.def
    _in_core: ClassVar[bool] = False  # whether `_row` and `_numbers` say all of an update's arithmetic
    _own_step: ClassVar[bool] = False  # whether `step` is overridden, so that each update must go through it

    def __init_subclass__(cls) -> None:
        """Where a class of the user's, or one that is mixed in, overrides how to update, the core does not know it.

        `step` is a matter of its own: what it passes on to the `step` that it overrides is updated by the core.
        """
        cls._own_step = cls.step is not Optimizer.step
        cls._in_core = cls._numbers is not Optimizer._numbers and not (
            cls._update is not Optimizer._update
            or cls._apply is not Optimizer._apply
            or cls._rate is not Optimizer._rate
        )

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if "lr" in kwargs:
            raise TypeError(f"{cls.__name__}: lr is called learning_rate here")
        return super().__new__(cls)

    def __init__(self, learning_rate: float | Callable[[int], float]) -> None:
        self.learning_rate = learning_rate
        self.steps = 0
        self._structure: tree.Structure | None = None
        self._state: dict[str, list[np.ndarray]] = {}

    def step(self, params: Any, grads: Any) -> None:
        """Change the arrays of `params` in place by one step along `grads`.

        `params` is a nested structure of float32 or float64 arrays, writable and C-contiguous, or of leaf
        tensors; `grads` has the same structure, shapes and dtypes. The first call fixes the structure.
        Raises TypeError or ValueError naming the place, and then has changed nothing.

        >>> import numpy as np
        >>> import fastgrad as fg
        >>> params = {"w": np.array([1.0, 2.0])}
        >>> fg.optim.SGD(learning_rate=0.5).step(params, {"w": np.array([1.0, -1.0])})
        >>> params
        {'w': array([0.5, 2.5])}
        """
        leaves, structure = tree.flatten(params)
        gradients = structure.flatten_up_to(grads, "grads")
        self._check(leaves, structure)
        for i, (p, g) in enumerate(zip(leaves, gradients)):
            if getattr(g, "shape", None) != p.shape or getattr(g, "dtype", None) != p.dtype:
                raise _gradient_error(structure, i, p, g)
            if isinstance(g, Tensor) and g.requires_grad and _core.in_transform():
                raise tracked_error(structure.paths("grads")[i])
        self._apply(leaves, structure, gradients)

    def state_dict(self) -> dict[str, Any]:
        """A copy of the state: {"optimizer": name, "steps": int, "state": {slot: structure of arrays}}."""
        state = {}
        if self._structure is not None:
            state = {
                slot: self._structure.unflatten([array.copy() for array in arrays])
                for slot, arrays in self._state.items()
            }
        return {"optimizer": type(self).__name__, "steps": self.steps, "state": state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a copy of what `state_dict` gave; ValueError or TypeError if it is not of this optimizer."""
        name = type(self).__name__
        if not isinstance(state, Mapping) or not {"optimizer", "steps", "state"} <= state.keys():
            raise TypeError(f"{name}.load_state_dict: expected what {name}.state_dict() returned")
        if state["optimizer"] != name:
            raise ValueError(f"{name}.load_state_dict: this is the state of {state['optimizer']}")
        slots = dict(state["state"])
        try:
            steps = -1 if isinstance(state["steps"], (bool, np.bool)) else operator.index(state["steps"])
        except TypeError:
            steps = -1
        if steps < 0:
            raise ValueError(f"{name}.load_state_dict: steps is {state['steps']!r}, expected an integer of at least 0")
        expected = set(self._slots) if steps else set()
        if set(slots) not in (expected, set(self._slots)):
            raise ValueError(
                f"{name}.load_state_dict: state has {sorted(slots)}, expected {sorted(expected)}; "
                f"was it saved with other arguments of {name}?"
            )
        structure: tree.Structure | None = None
        arrays: dict[str, list[np.ndarray]] = {}
        for slot, nested in slots.items():
            leaves, found = tree.flatten(nested)
            copies = [np.array(leaf, order="C") for leaf in leaves]
            _check_leaves(copies, found, f"state[{slot!r}]")
            if structure is not None and found != structure:
                raise ValueError(f"{name}.load_state_dict: {slot} is built as {found}, not as {structure}")
            for i, (a, b) in enumerate(zip(copies, next(iter(arrays.values()), copies))):
                if a.shape != b.shape or a.dtype != b.dtype:
                    path = found.paths(f"state[{slot!r}]")[i]
                    raise ValueError(f"{name}.load_state_dict: {path} is {_describe(a)}, not {_describe(b)}")
            structure, arrays[slot] = found, copies
        state = {slot: arrays[slot] for slot in self._slots if slot in arrays}
        self.steps, self._structure, self._state = steps, structure, state

    # what training steps use, by the functions below --------------------------------------------------------

    def _check(self, leaves: Sequence[Any], structure: tree.Structure) -> None:
        """Refuse parameters that cannot be updated, or that the state is not for."""
        _check_leaves(leaves, structure, "params")
        check_distinct(leaves, structure, "params")
        if self._structure is None or not self._slots:
            return
        if structure != self._structure:
            raise ValueError(
                f"params is built as {structure}, but this optimizer keeps state for {self._structure}; "
                "use a new optimizer for new parameters"
            )
        for i, (p, s) in enumerate(zip(leaves, self._state[self._slots[0]])):
            if p.shape != s.shape or p.dtype != s.dtype:
                raise ValueError(
                    f"{structure.paths('params')[i]} is {_describe(p)}, but this optimizer keeps state for "
                    f"{_describe(s)}; use a new optimizer for new parameters"
                )

    def _apply(
        self,
        leaves: Sequence[Any],
        structure: tree.Structure,
        gradients: Sequence[Any],
        rule: UpdateRule | None = None,
    ) -> None:
        """Step along gradients that are known to fit the leaves, which were checked, but may since be read-only."""
        rate = self._rate() if rule is None else 0.0
        bad = _core.first_not_writable(leaves)
        if bad >= 0:
            raise leaf_error(leaves[bad], structure.paths("params")[bad])
        if rule is not None:
            rule.update(leaves, gradients)
            return
        self._states(leaves)
        if self._in_core:
            self._update_rule(leaves, rate, structure).update(leaves, gradients)
        else:
            self._structure = structure
            self._update(leaves, gradients, rate)
            self.steps += 1

    def _update(self, leaves: Sequence[Any], gradients: Sequence[Any], rate: float) -> None:
        self._update_rule(leaves, rate).update(leaves, gradients)

    def _numbers(self, rate: float) -> tuple[float, ...]:
        """The numbers of the row at the next step, in the row's order."""
        raise NotImplementedError

    def _update_rule(self, leaves: Sequence[Any], rate: float, structure: tree.Structure | None = None) -> UpdateRule:
        """What the core is told of the next update of these leaves; with their structure it counts as a step."""
        return UpdateRule(self._row, self._states(leaves), self._numbers(rate), self, structure)

    def _states(self, leaves: Sequence[Any]) -> tuple[list[np.ndarray], ...]:
        """The state arrays in the order of slots, made if there are none."""
        if self._structure is None:
            self._state = {slot: [np.zeros(p.shape, p.dtype) for p in leaves] for slot in self._slots}
        return tuple(self._state.values())

    def _set_learning_rate(self, value: float | Callable[[int], float]) -> None:
        self._learning_rate = value if callable(value) else self._number("learning_rate", value)

    learning_rate: Any = property(operator.attrgetter("_learning_rate"), _set_learning_rate)

    def _rate(self) -> float:
        rate = self.learning_rate  # which a subclass may compute
        if type(rate) is float and 0 <= rate < _INFINITE:
            return rate
        if callable(rate):
            return self._number(f"learning_rate({self.steps})", rate(self.steps))
        return self._number("learning_rate", rate)

    # arguments ----------------------------------------------------------------------------------------------

    def _number(self, name: str, value: Any, below: float = math.inf) -> float:
        """A float in [0, below), or an error that names the argument."""
        try:
            number = math.nan if isinstance(value, str) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        except OverflowError:  # of an integer
            number = math.inf
        if not 0 <= number < below:
            limit = "a finite number of at least 0" if below == math.inf else f"a number in [0, {below:g})"
            error = ValueError if isinstance(value, (int, float, np.number)) else TypeError
            too_long = isinstance(value, int) and value.bit_length() > 1024
            shown = f"an integer of {value.bit_length()} bits" if too_long else repr(value)
            raise error(f"{type(self).__name__}: {name} is {shown}, expected {limit}")
        return number

    def __repr__(self) -> str:
        names = list(inspect.signature(type(self)).parameters)
        return f"{type(self).__name__}({', '.join(f'{k}={getattr(self, k)!r}' for k in names if hasattr(self, k))})"


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if asked.

    With g' = g + weight_decay p:  buf = momentum buf + (1 - dampening) g' (at the first step buf = g'),
    p -= learning_rate d, where d is g' without momentum, buf with it, g' + momentum buf with nesterov.

    The formulas are PyTorch's; momentum is from Polyak (1964), the Nesterov form from Sutskever, Martens, Dahl
    and Hinton, "On the importance of initialization and momentum in deep learning" (2013).
    Raises TypeError or ValueError for an argument out of range.

    >>> import numpy as np
    >>> import fastgrad as fg
    >>> x, gradient = np.array([1.0]), np.array([2.0])
    >>> optimizer = fg.optim.SGD(learning_rate=0.1, momentum=0.5)
    >>> optimizer.step(x, gradient)
    >>> optimizer.step(x, gradient)
    >>> x
    array([0.5])
    """

    _row = "sgd"
    momentum, dampening, weight_decay = _checked("momentum", 1), _checked("dampening"), _checked("weight_decay")

    def __init__(
        self,
        learning_rate: float | Callable[[int], float] = 1e-2,
        momentum: float = 0.0,
        dampening: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(learning_rate)
        self.momentum, self.dampening, self.weight_decay = momentum, dampening, weight_decay
        self.nesterov = bool(nesterov)
        if nesterov and (momentum == 0 or dampening != 0):
            raise ValueError(
                f"SGD: nesterov=True needs momentum above 0 and dampening=0, got momentum={momentum!r}, "
                f"dampening={dampening!r}"
            )
        if momentum:
            self._slots = ("momentum",)  # type: ignore[misc]

    def _numbers(self, rate: float) -> tuple[float, ...]:
        if self.momentum != 0 and not self._slots:
            raise ValueError("SGD: it lacks the state that momentum needs; give momentum when the optimizer is made")
        return rate, self.weight_decay, self.momentum, self.dampening, self.nesterov, self.steps == 0


class Adam(Optimizer):
    """Adam: steps scaled by running means of the gradient and of its square.

    With g' = g + weight_decay p and t counting from 1:  m = beta1 m + (1 - beta1) g',
    v = beta2 v + (1 - beta2) g'^2,  p -= learning_rate (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps).

    Source: Kingma and Ba, "Adam: a method for stochastic optimization" (2015), algorithm 1.
    Raises TypeError or ValueError for an argument out of range.

    >>> import numpy as np
    >>> import fastgrad as fg
    >>> x = np.array([1.0, -1.0])
    >>> fg.optim.Adam(learning_rate=0.1).step(x, np.array([5.0, -0.01]))
    >>> x.round(6)
    array([ 0.9, -0.9])
    """

    _row = "adam"
    _slots = ("m", "v")
    _decoupled: ClassVar[bool] = False
    eps, weight_decay = _checked("eps"), _checked("weight_decay")

    def __init__(
        self,
        learning_rate: float | Callable[[int], float] = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(learning_rate)
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay

    def _set_betas(self, value: Any) -> None:
        if not isinstance(value, (tuple, list)) or len(value) != 2:
            raise TypeError(f"{type(self).__name__}: betas is {value!r}, expected two numbers in [0, 1)")
        self._betas = self._number("betas[0]", value[0], below=1), self._number("betas[1]", value[1], below=1)

    betas: Any = property(operator.attrgetter("_betas"), _set_betas)

    def _numbers(self, rate: float) -> tuple[float, ...]:
        (beta1, beta2), t = self.betas, self.steps + 1
        return rate, self.weight_decay, beta1, beta2, self.eps, self._decoupled, 1 - beta1**t, 1 - beta2**t


class AdamW(Adam):
    """Adam with decoupled weight decay: p *= 1 - learning_rate weight_decay, then Adam's step without decay.

    Source: Loshchilov and Hutter, "Decoupled weight decay regularization" (2019), algorithm 2.
    Raises TypeError or ValueError for an argument out of range.

    >>> import fastgrad as fg
    >>> fg.optim.AdamW(learning_rate=1e-3)
    AdamW(learning_rate=0.001, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.01)
    """

    _decoupled = True

    def __init__(
        self,
        learning_rate: float | Callable[[int], float] = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(learning_rate, betas, eps, weight_decay)


_KNOWN: dict[str, type[Optimizer]] = {
    cls.__name__.lower(): cls
    for cls in list(globals().values())
    if isinstance(cls, type) and issubclass(cls, Optimizer) and cls is not Optimizer
}


def get(optimizer: str | Optimizer, **arguments: Any) -> Optimizer:
    """An optimizer by its name, in any case of letters; an optimizer is returned as it is.

    Raises ValueError listing the known names, TypeError for anything that is neither.

    >>> import fastgrad as fg
    >>> fg.optim.get("adam", learning_rate=0.01)
    Adam(learning_rate=0.01, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.0)
    """
    if isinstance(optimizer, str):
        if optimizer.lower() not in _KNOWN:
            known = ", ".join(map(repr, sorted(_KNOWN)))
            raise ValueError(f"unknown optimizer {optimizer!r}: the known ones are {known}")
        return _KNOWN[optimizer.lower()](**arguments)
    if isinstance(optimizer, type) and issubclass(optimizer, Optimizer):
        raise TypeError(f"optimizer is the class {optimizer.__name__}: pass an object, {optimizer.__name__}()")
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"optimizer is of type {type(optimizer).__name__}, expected a name or an object of fg.optim, "
            "as fg.optim.Adam(learning_rate=1e-3)"
        )
    if arguments:
        raise TypeError(f"get: arguments {sorted(arguments)} with an optimizer that is made already")
    return optimizer


# what training steps use, so that private members stay in this module ---------------------------------------


def next_update(
    optimizer: Optimizer, leaves: Sequence[Any], structure: tree.Structure, in_core: bool
) -> UpdateRule | None:
    """The next update of these leaves for the core to make; None if ``in_core`` is false, or only Python can make it.

    The leaves are checked first, unless they belong to the structure of the last step. The update counts as a step.
    """
    if optimizer._structure is not structure:  # at the first step, or when its state was loaded
        optimizer._check(leaves, structure)
    if not (in_core and optimizer._in_core) or optimizer._own_step:
        return None
    numbers = optimizer._numbers(optimizer._rate())
    return UpdateRule(optimizer._row, optimizer._states(leaves), numbers, optimizer, structure)


def check_parameters(optimizer: Optimizer, leaves: Sequence[Any], structure: tree.Structure) -> None:
    """Raise TypeError or ValueError where the optimizer cannot update these leaves."""
    optimizer._check(leaves, structure)


def apply_gradients(
    optimizer: Optimizer,
    params: Any,
    leaves: Sequence[Any],
    structure: tree.Structure,
    gradients: Sequence[Any],
    rule: UpdateRule | None = None,
) -> None:
    """A step in Python along gradients that fit the leaves of params, which were checked; by ``rule`` if
    ``next_update`` has made one. Where the optimizer overrides `step`, it is handed what a loop over `fastgrad.grad`
    would hand it: params, and gradients as ndarrays of their own, which it may write to."""
    if optimizer._own_step:
        arrays = [_core.own(g) if isinstance(g, Tensor) else g for g in gradients]  # a program's results are ndarrays
        optimizer.step(params, structure.unflatten(arrays))
    else:
        optimizer._apply(leaves, structure, gradients, rule)


# checks -----------------------------------------------------------------------------------------------------


def _describe(x: Any) -> str:
    if isinstance(x, (np.ndarray, Tensor)):
        return f"{x.dtype} of shape {x.shape}"
    return "None" if x is None else f"of type {type(x).__name__}"


def _check_leaves(leaves: Sequence[Any], structure: tree.Structure, name: str) -> None:
    """TypeError or ValueError, naming the place, for the first leaf that cannot be updated in place."""
    for i, p in enumerate(leaves):
        if isinstance(p, np.ndarray) and not _core.is_masked(p):
            if p.dtype in _DTYPES and p.flags.carray:  # C-contiguous, aligned and writable
                continue
        elif isinstance(p, Tensor) and p.dtype in _DTYPES and p.is_leaf:
            continue
        raise leaf_error(p, structure.paths(name)[i])


def check_distinct(leaves: Sequence[Any], structure: tree.Structure, name: str) -> None:
    """ValueError if one array stands in two places, or two share memory: it would be updated twice."""
    shared = _core.first_shared(leaves)
    if shared is None:
        return
    (i, k), paths = shared, structure.paths(name)
    if leaves[i] is leaves[k]:
        raise ValueError(f"{paths[i]} and {paths[k]} are the same array: keep it under one name")
    raise ValueError(f"{paths[i]} and {paths[k]} share memory, which would be updated twice: use .copy() of one")


def leaf_error(p: Any, path: str) -> Exception:
    if _core.is_masked(p):
        return TypeError(f"{path} is a masked array, whose mask would be ignored: use {path}.filled()")
    if not isinstance(p, (np.ndarray, Tensor)):
        cure = f"np.array({p!r})" if isinstance(p, float) else "an array"
        return TypeError(f"{path} is {_describe(p)}, expected a float32 or float64 array: use {cure}")
    if p.dtype not in _DTYPES:
        return TypeError(f"{path} has dtype {p.dtype}, expected float32 or float64: use {path}.astype(np.float64)")
    if isinstance(p, Tensor):
        return TypeError(f"{path} is the result of an operation and cannot be updated: use {path}.detach().copy()")
    if not p.flags.writeable:
        return ValueError(f"{path} is read-only and cannot be updated in place: use {path}.copy()")
    if not p.flags.aligned:
        return ValueError(f"{path} is misaligned and cannot be updated in place: use {path}.copy()")
    return ValueError(f"{path} is not C-contiguous and cannot be updated in place: use np.ascontiguousarray({path})")


def _gradient_error(structure: tree.Structure, i: int, p: Any, g: Any) -> Exception:
    path, where = structure.paths("grads")[i], structure.paths("params")[i]
    error = ValueError if isinstance(g, (np.ndarray, Tensor)) and g.dtype == p.dtype else TypeError
    return error(f"{path} is {_describe(g)}, but {where} is {_describe(p)}")
