"""The state of a training: parameters, optimizer, and the random generators and averages that its functions reach.

Arrays are kept by the names of the parameters, so that a state is a tree of dicts, arrays and numbers whatever classes
the parameters are made of. What the functions reach is found as the watch of `fastgrad.compile` finds it: variables of
closures, globals and attributes that their code names, and the items of small containers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from .. import optim, tree
from .._compile.outside import reached

__all__ = ["Named", "Part", "check_parts", "global_generators", "load_parts", "parts_of", "states_of"]


class Named:
    """The names of the leaves of a structure, and what is done by them."""

    def __init__(self, structure: tree.Structure) -> None:
        self._structure = structure
        names = optim.parameter_names(structure)
        self.names = names if len({*names}) == len(names) else structure.paths("params")

    def by_name(self, leaves: Iterable[Any]) -> dict[str, Any]:
        """Copies of the leaves, which are arrays, by their names."""
        return {name: np.array(leaf, order="C") for name, leaf in zip(self.names, leaves)}

    def leaves(self, found: Any, what: str, like: Iterable[np.ndarray]) -> list[np.ndarray]:
        """The arrays by these names; ValueError if they are not of the names, shapes and dtypes of like."""
        if not isinstance(found, Mapping) or found.keys() != {*self.names}:
            was = ", ".join(map(str, found)) if isinstance(found, Mapping) else type(found).__name__
            raise ValueError(f"{what} are {was}, expected {', '.join(self.names)}")
        for name, leaf in zip(self.names, like):
            a = found[name]
            if not isinstance(a, np.ndarray) or (a.shape, a.dtype) != (leaf.shape, leaf.dtype):
                was = f"{a.dtype} of shape {a.shape}" if isinstance(a, np.ndarray) else f"of type {type(a).__name__}"
                raise ValueError(f"{what}: {name} is {was}, expected {leaf.dtype} of shape {leaf.shape}")
        return [found[name] for name in self.names]

    def of_tree(self, x: Any) -> Any:
        """A tree of this structure as its arrays by their names; another one as it is."""
        leaves, structure = tree.flatten(x)
        return {"by name": self.by_name(leaves)} if structure == self._structure else {"tree": x}

    def to_tree(self, found: Any) -> Any:
        """What `of_tree` was given."""
        if "tree" in found:
            return found["tree"]
        return self._structure.unflatten([found["by name"][name] for name in self.names])

    def of_optimizer(self, optimizer: optim.Optimizer) -> dict[str, Any]:
        """The optimizer's state_dict, with the arrays of each slot by the names of the parameters."""
        state = dict(optimizer.state_dict())
        slots = state.get("state")
        if isinstance(slots, dict):
            state["state"] = {slot: self.of_tree(x) for slot, x in slots.items()}
        return state

    def to_optimizer(self, optimizer: optim.Optimizer, found: Mapping[str, Any]) -> None:
        """Load what `of_optimizer` gave."""
        slots = found.get("state")
        if isinstance(slots, dict):
            found = {**found, "state": {slot: self.to_tree(x) for slot, x in slots.items()}}
        optimizer.load_state_dict(found)


class Part(NamedTuple):
    """Something with a state: how it is told and set."""

    state: Callable[[], Any]
    load: Callable[[Any], Any]


def parts_of(functions: Iterable[Callable[..., Any]], named: Named) -> dict[str, Part]:
    """The random generators, and the averages of weights, that functions reach, by the names found on the way."""
    from ..random import Generator  # not every loss draws

    found: dict[str, Part] = {}
    seen: dict[int, Any] = {}
    for f in functions:
        for x, name in reached(f):
            if id(x) in seen:
                continue
            seen[id(x)] = x
            if isinstance(x, Generator):
                part = _of_attribute(x, "state")
            elif isinstance(x, (optim.EMA, optim.SWA)):
                part = _of_average(x, named)
            else:
                generator = _generator(x)
                if generator is None:
                    continue
                part = generator
            found[_unused(name or type(x).__name__, found)] = part
    return found


def _unused(name: str, taken: Mapping[str, Any]) -> str:
    n = 1
    while (found := name if n == 1 else f"{name} #{n}") in taken:
        n += 1
    return found


def _of_average(average: Any, named: Named) -> Part:
    def state() -> dict[str, Any]:
        found = average.state_dict()
        return {**found, "params": named.of_tree(found["params"])}

    def load(found: dict[str, Any]) -> None:
        average.load_state_dict({**found, "params": named.to_tree(found["params"])})

    return Part(state, load)


def _generator(x: Any) -> Part | None:
    """A generator of NumPy's or Python's; None for all else."""
    type_ = type(x)
    if _is_of(type_, "numpy.random", "Generator"):
        return _of_attribute(x.bit_generator, "state")
    if _is_of(type_, "numpy.random", "BitGenerator"):
        return _of_attribute(x, "state")
    if _is_of(type_, "numpy.random", "RandomState"):
        return Part(lambda: x.get_state(legacy=False), x.set_state)
    if _is_of(type_, "random", "Random") and not _is_of(type_, "random", "SystemRandom"):
        return Part(x.getstate, x.setstate)
    return None


def _is_of(type_: type, module: str, name: str) -> bool:
    """Whether a type is a class of a module, or made from one, without the import of that module."""
    return any(
        c.__name__ == name and getattr(c, "__module__", None).__class__ is str and c.__module__.startswith(module)
        for c in type_.__mro__
    )


def _of_attribute(x: Any, name: str) -> Part:
    return Part(lambda: getattr(x, name), lambda state: setattr(x, name, state))


def global_generators() -> dict[str, Part]:
    """Those behind the functions of ``numpy.random`` and ``random``, where these modules are in use."""
    mtrand, random = sys.modules.get("numpy.random.mtrand"), sys.modules.get("random")
    generators = {"numpy.random": getattr(mtrand, "_rand", None), "random": getattr(random, "_inst", None)}
    parts = {name: _generator(x) for name, x in generators.items() if x is not None}
    return {name: part for name, part in parts.items() if part is not None}


def states_of(parts: Mapping[str, Part]) -> dict[str, Any]:
    """The states by the names of the parts."""
    return {name: part.state() for name, part in parts.items()}


def check_parts(parts: Mapping[str, Part], states: Any, subject: str) -> None:
    """ValueError unless there are states of just these parts."""
    if not isinstance(states, Mapping) or states.keys() != parts.keys():
        was, are = (", ".join(map(str, names)) or "none" for names in (states, parts))
        raise ValueError(
            f"{subject}: random generators and averages were {was}, and the functions given now reach {are}; give the "
            "functions that were given then"
        )


def load_parts(parts: Mapping[str, Part], states: Any, subject: str) -> None:
    """Set all parts to their states."""
    for name, part in parts.items():
        try:
            part.load(states[name])
        except (TypeError, ValueError, KeyError) as error:
            raise ValueError(f"{subject}: {name} cannot be set to the state that was saved: {error}") from error
