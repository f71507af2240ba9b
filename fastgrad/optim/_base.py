"""What the optimizers share: parameters, groups of them, state, and what training steps need to know.

An optimizer keeps its state (momentum, moments) per leaf, in the order of the leaves of the first parameters
it saw. `step` checks everything before it changes anything. The arithmetic is one C kernel for each row of
csrc/optim.def; a class of _rules.py or _moments.py names its row and computes the row's numbers at each step.
"""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from .. import _core, tree
from .._arguments import AT_LEAST_0, flag, number, shown
from .._core import Tensor, UpdateRule
from .._transforms.arguments import tracked_error

__all__ = ["Clip", "Groups", "Optimizer", "Rate"]

Groups = Sequence[Mapping[str, Any]] | None
Rate = float | Callable[[int], float]
Clip = tuple[int, float]  # how gradients are clipped before they are used: a kind of the core's, and the limit

_INFINITE = math.inf
_DTYPES = (np.dtype(np.float32), np.dtype(np.float64))


class _Argument:
    """An attribute that is checked when it is set: what a function of the optimizer and the value returns is kept.

    It has no ``__get__``, so that reading it, as each step does, finds the value among the object's own attributes. A
    class has only those arguments that its objects set, because one that was never set would be read as this object.
    """

    def __init__(self, check: Callable[[Any, Any], Any]) -> None:
        self._check, self.__doc__ = check, check.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __set__(self, optimizer: Any, value: Any) -> None:
        vars(optimizer)[self._name] = self._check(optimizer, value)


def argument(check: Callable[[Any, Any], Any]) -> Any:
    """A decorator: an attribute of this name whose value is what the function returns for the one that is set."""
    return _Argument(check)


def checked_flag(name: str) -> Any:
    """An attribute that is True or False, also when it is set anew."""
    return argument(lambda self, value: flag(type(self).__name__, name, value))


def checked(name: str, below: float = math.inf) -> Any:
    """An attribute that is a number in [0, below), also when it is set anew."""
    return argument(lambda self, value: self._number(name, value, below))


class Optimizer:
    """What the optimizers share. Use `SGD`, `Adam`, `AdamW` or another one.

    `learning_rate` is a number or a callable that is given the number of steps taken so far (0 at the first)
    and returns one, such as those of `fastgrad.schedules`; `steps` is that number, and `rate` the learning rate of the
    next step. They may be set between steps, and so may the other arguments.

    `groups` lists parameters that are treated otherwise, each as a dict: `"params"` says which, by a name with
    wildcards (`"*.bias"`; the names are those of PyTorch, "layers.0.weight" for params["layers"][0]["weight"]) or a
    function of name and array that tells whether it belongs to the group; the other entries are arguments that these
    parameters have instead, or `"frozen": True`, which leaves them as they are, or `"lazy_rows": True`: rows (along the
    first axis) whose gradient is 0 stay as they are at that step, and so does their state, as those of a table of
    embeddings that a batch does not read (see `SparseAdam`). A parameter belongs to the first group that fits.

    Where a subclass overrides `step`, training steps and descents call it with the parameters and their gradients.
    """

    _slots: ClassVar[tuple[str, ...]] = ()  # the names of the state arrays kept for each leaf
    _row: ClassVar[str] = ""  # its row of csrc/optim.def
    _other_row: ClassVar[str] = ""  # the row of the leaves of which `_is_other` is true, whose numbers are:
    _other_numbers: ClassVar[Callable[[Any, float], tuple[float, ...]]]
    _fixed: ClassVar[tuple[str, ...]] = ()  # arguments that decide which state there is, and so are those of all groups
    _alike: ClassVar[bool] = True  # whether all state arrays of a leaf have its shape
    _in_core: ClassVar[bool] = False  # whether `_row` and `_numbers` say all of an update's arithmetic
    _takes_lazy_rows: ClassVar[bool] = False  # whether the update of a row may be left out while its gradient is 0
    _lazy_rows: ClassVar[bool] = False  # whether that is so for all parameters
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

    def __init__(
        self, learning_rate: float | Callable[[int], float], groups: Sequence[Mapping[str, Any]] | None = None
    ) -> None:
        self.learning_rate = learning_rate
        self.steps = 0
        self._structure: tree.Structure | None = None
        self._keep_state({})
        self._groups = tuple(_Group(self, i, group) for i, group in enumerate(groups or ()))
        self._division: tuple[tree.Structure, list[int], np.ndarray] | None = None
        self._is_divided = bool(self._groups or self._other_row)  # whether parameters differ in how they are updated
        # Whether one rule of the core, and no Python of a subclass, updates all parameters.
        self._is_plain = self._in_core and not (self._own_step or self._is_divided or self._lazy_rows)

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
        if structure != self._structure or not _core.are_plain(leaves, gradients, self._state.values()):
            self._check_all(leaves, structure, gradients)
        self._apply(leaves, structure, gradients)

    def _check_all(self, leaves: list[Any], structure: tree.Structure, gradients: list[Any]) -> None:
        """Refuse parameters that cannot be updated, and gradients that are not for them."""
        self._check(leaves, structure)
        for i, (p, g) in enumerate(zip(leaves, gradients)):
            if getattr(g, "shape", None) != p.shape or getattr(g, "dtype", None) != p.dtype:
                raise _gradient_error(structure, i, p, g)
            if isinstance(g, Tensor) and g.requires_grad and _core.in_transform():
                raise tracked_error(structure.paths("grads")[i])

    def state_dict(self) -> dict[str, Any]:
        """A copy of the state: {"optimizer": name, "steps": int, "state": {slot: structure of arrays}}.

        With "schedule" where the learning rate is a schedule that has a state.
        """
        state = {}
        if self._structure is not None:
            state = {
                slot: self._structure.unflatten([array.copy() for array in arrays])
                for slot, arrays in self._state.items()
            }
        found = {"optimizer": type(self).__name__, "steps": self.steps, "state": state}
        if hasattr(self.learning_rate, "state_dict"):
            found["schedule"] = self.learning_rate.state_dict()
        return found

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
                if not self._alike:
                    break
                if a.shape != b.shape or a.dtype != b.dtype:
                    path = found.paths(f"state[{slot!r}]")[i]
                    raise ValueError(f"{name}.load_state_dict: {path} is {_describe(a)}, not {_describe(b)}")
            structure, arrays[slot] = found, copies
        if "schedule" in state and hasattr(self.learning_rate, "load_state_dict"):
            self.learning_rate.load_state_dict(state["schedule"])
        state = {slot: arrays[slot] for slot in self._slots if slot in arrays}
        self.steps, self._structure = steps, structure
        self._keep_state(state)

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
        for k, (slot, arrays) in enumerate(self._state.items()):
            shapes = self._state_shapes(leaves, structure, k)
            for i, (p, shape, s) in enumerate(zip(leaves, shapes, arrays)):
                if shape != s.shape or p.dtype != s.dtype:
                    of = f"its {slot} of " if shape != p.shape else ""
                    raise ValueError(
                        f"{structure.paths('params')[i]} is {_describe(p)}, but this optimizer keeps state for {of}"
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
        self._states(leaves, structure)
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
        within = structure or self._structure
        assert within is not None
        states, numbers = self._states(leaves, within), self._numbers(rate)
        if not self._is_divided:
            return UpdateRule(self._row, states, numbers, self, structure, lazy=self._lazy_rows)
        more: list[tuple[str, tuple[float, ...], bool] | None] = []
        if self._other_row:
            more.append((self._other_row, self._other_numbers(rate), False))
        for group in self._groups:
            member = group.member(self)
            if member is None:
                more += [None] * (2 if self._other_row else 1)
                continue
            own = member._rate() if group.has_rate else rate
            more.append((self._row, member._numbers(own), group.is_lazy))
            if self._other_row:
                more.append((self._other_row, member._other_numbers(own), False))
        which = self._divided(leaves, within)[1]
        return UpdateRule(self._row, states, numbers, self, structure, more, which, self._lazy_rows)

    def _is_other(self, leaf: Any) -> bool:
        """Whether a leaf is updated by `_other_row`."""
        return False

    def _divided(self, leaves: Sequence[Any], structure: tree.Structure) -> tuple[list[int], np.ndarray]:
        """For each leaf its group, 0 for none, and the number of its rule in `_update_rule`."""
        known = self._division
        if known is None or (known[0] is not structure and known[0] != structure):
            names, of = parameter_names(structure), [0] * len(leaves)
            for number, group in enumerate(self._groups, 1):
                found = [i for i in range(len(leaves)) if group.has(names[i], leaves[i])]
                if not found:
                    raise ValueError(
                        f"{type(self).__name__}: no parameter belongs to groups[{number - 1}]; the names are "
                        f"{', '.join(names)}"
                    )
                for i in found:
                    of[i] = of[i] or number
            rules = [2 * g + self._is_other(leaf) for g, leaf in zip(of, leaves)] if self._other_row else of
            self._division = known = structure, of, np.array(rules, np.int32)
        return known[1], known[2]

    def _state_shapes(self, leaves: Sequence[Any], structure: tree.Structure, k: int) -> list[tuple[int, ...]]:
        """The shape of state array k of each leaf."""
        if self._alike and not self._groups:
            return [leaf.shape for leaf in leaves]
        of, rules = self._divided(leaves, structure)
        shapes = []
        for leaf, group, rule in zip(leaves, of, rules):
            row = self._other_row if self._other_row and rule % 2 else self._row
            is_frozen = group > 0 and self._groups[group - 1].is_frozen
            shapes.append((0,) if is_frozen else _core.state_shape(row, k, leaf.shape))
        return shapes

    def _states(self, leaves: Sequence[Any], structure: tree.Structure) -> tuple[list[np.ndarray], ...]:
        """The state arrays in the order of slots, made if there are none."""
        if self._structure is None:
            self._keep_state(self._new_state(leaves, structure))
        return self._state_lists

    def _keep_state(self, state: dict[str, list[np.ndarray]]) -> None:
        self._state = state
        self._state_lists = tuple(state.values())

    def _new_state(self, leaves: Sequence[Any], structure: tree.Structure) -> dict[str, list[np.ndarray]]:
        """A function of its own because its closure would cost each step."""
        return {
            slot: [np.zeros(s, p.dtype) for p, s in zip(leaves, self._state_shapes(leaves, structure, k))]
            for k, slot in enumerate(self._slots)
        }

    @property
    def rate(self) -> float:
        """The learning rate of the next step, a number also where a schedule gives it."""
        return self._rate()

    @argument
    def learning_rate(self, value: float | Callable[[int], float]) -> Any:
        return value if callable(value) else self._number("learning_rate", value)

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
        if type(value) is float and 0 <= value < below:
            return value
        within = AT_LEAST_0 if below == math.inf else (f"a number in [0, {below:g})", lambda x: 0 <= x < below)
        return number(type(self).__name__, name, value, within)

    def _pair(self, name: str, value: Any, expected: str) -> tuple[Any, Any]:
        """An argument that is two values."""
        if not isinstance(value, (tuple, list)) or len(value) != 2:
            raise TypeError(f"{type(self).__name__}: {name} is {shown(value)}, expected {expected}")
        return value[0], value[1]

    def __repr__(self) -> str:
        shown = []
        for name, parameter in inspect.signature(type(self)).parameters.items():
            value = getattr(self, name, parameter.empty)
            if value is inspect.Parameter.empty or (
                parameter.kind is parameter.KEYWORD_ONLY and value == parameter.default
            ):
                continue
            shown.append(f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"


class _Group:
    """Parameters that an optimizer treats in its own way: which they are, and the arguments they have instead."""

    def __init__(self, optimizer: Optimizer, number: int, group: Mapping[str, Any]) -> None:
        name = f"{type(optimizer).__name__}: groups[{number}]"
        if not isinstance(group, Mapping) or "params" not in group:
            raise TypeError(f'{name} is {group!r}, expected a dict with "params", which says what belongs to it')
        self._chosen = group["params"]
        if not isinstance(self._chosen, str) and not callable(self._chosen):
            raise TypeError(
                f"{name}['params'] is {self._chosen!r}, expected a name such as \"*.bias\", or a function of name and "
                "array"
            )
        if not isinstance(self._chosen, str) and not _takes_two(self._chosen):
            raise TypeError(
                f"{name}['params'] is a function that cannot be called with two arguments; it is called with the name "
                "of a parameter and its array, as in lambda name, array: array.ndim == 1"
            )
        own = {key: value for key, value in group.items() if key not in ("params", "frozen", "lazy_rows")}
        self.is_frozen = flag(name, "frozen", group.get("frozen", False))
        self.is_lazy = flag(name, "lazy_rows", group.get("lazy_rows", optimizer._lazy_rows))
        if self.is_lazy and not optimizer._takes_lazy_rows:
            raise ValueError(
                f"{name} has lazy_rows, but {type(optimizer).__name__} cannot leave rows out: expected one of SGD, "
                "RMSprop, Adadelta, Lion, Adam and its variants"
            )
        self.has_rate = "learning_rate" in own
        known = [*inspect.signature(type(optimizer)).parameters]
        free = [key for key in known if key != "groups" and key not in optimizer._fixed]
        free += ["frozen", "lazy_rows"] if optimizer._takes_lazy_rows else ["frozen"]
        for key in own:
            if key not in free:
                raise ValueError(f"{name} has {key!r}, expected some of {', '.join(free)}")
        self._member: Optimizer = object.__new__(type(optimizer))
        for key, value in own.items():
            setattr(self._member, key, value)
        self._own = dict(vars(self._member))

    def has(self, name: str, leaf: Any) -> bool:
        if isinstance(self._chosen, str):
            import fnmatch  # here, as not every program has groups

            return fnmatch.fnmatchcase(name, self._chosen)
        return bool(self._chosen(name, leaf))

    def member(self, optimizer: Optimizer) -> Optimizer | None:
        """The optimizer with the arguments of this group as they are now; None if it is frozen."""
        if self.is_frozen:
            return None
        vars(self._member).update(vars(optimizer))
        vars(self._member).update(self._own)
        return self._member


def _takes_two(f: Callable[..., Any]) -> bool:
    try:
        signature = inspect.signature(f)
    except ValueError:  # as of some that are written in C, of which nothing is known
        return True
    try:
        signature.bind(None, None)
    except TypeError:
        return False
    return True


def parameter_names(structure: tree.Structure) -> list[str]:
    """The names of the leaves as PyTorch writes them: "layers.0.weight" for params["layers"][0]["weight"]."""
    import re

    return [re.sub(r"\[(?:'([^']*)'|([^\]]*))\]", r".\1\2", path).lstrip(".") for path in structure.paths()]


# what training steps use, so that private members stay in this module ---------------------------------------


def next_update(
    optimizer: Optimizer, leaves: Sequence[Any], structure: tree.Structure, in_core: bool
) -> UpdateRule | None:
    """The next update of these leaves for the core to make; None if ``in_core`` is false, or only Python can make it.

    The leaves are checked first, unless they belong to the structure of the last step. The update counts as a step.
    """
    if optimizer._structure is not structure:  # at the first step, or when its state was loaded
        optimizer._check(leaves, structure)
    if in_core and optimizer._is_plain:  # as at every step of most trainings
        rate = optimizer.learning_rate
        if type(rate) is not float or not 0 <= rate < _INFINITE:
            rate = optimizer._rate()
        states = optimizer._state_lists if optimizer._structure is structure else optimizer._states(leaves, structure)
        return UpdateRule(optimizer._row, states, optimizer._numbers(rate), optimizer, structure)
    if not (in_core and optimizer._in_core) or optimizer._own_step:
        return None
    return optimizer._update_rule(leaves, optimizer._rate(), structure)


def updates_in_core(optimizer: Optimizer) -> bool:
    """Whether `next_update` gives an update for the core to make."""
    return optimizer._in_core and not optimizer._own_step


def frozen(optimizer: Optimizer, leaves: Sequence[Any], structure: tree.Structure) -> tuple[bool, ...] | None:
    """Of each leaf, whether the optimizer leaves it as it is; None if it does so with none."""
    if not any(group.is_frozen for group in optimizer._groups):
        return None
    of, _ = optimizer._divided(leaves, structure)
    return tuple(g > 0 and optimizer._groups[g - 1].is_frozen for g in of)


def clipped(gradients: Sequence[Any], clip: Clip) -> list[np.ndarray]:
    """Copies of gradients, clipped."""
    copies = [np.zeros(g.shape, g.dtype) for g in gradients]
    rule = UpdateRule("average", (), (1.0,))  # 0 + 1 (g - 0)
    rule.clip(*clip)
    rule.update(copies, gradients)
    return copies


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
    clip: Clip | None = None,
) -> None:
    """A step in Python along gradients that fit the leaves of params, which were checked; by ``rule`` if
    ``next_update`` has made one, which clips them itself. Where the optimizer overrides `step`, it is handed what a
    loop over `fastgrad.grad` would hand it: params, and gradients as ndarrays of their own, which it may write to. A
    gradient may be a RowSparse, which the core takes as it is."""
    if rule is None and clip is not None:
        gradients = clipped(gradients, clip)
    if optimizer._own_step or not optimizer._in_core:
        gradients = [np.asarray(g) if isinstance(g, _core.RowSparse) else g for g in gradients]
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
