"""``checkpoint``: rematerialization of a function, which is computed again in the backward pass instead of saved.

Its call and its node are those of functions with rules (custom_call.py, custom_node.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from .. import _core, tree
from .._core import Tensor
from .custom_call import Call, CallRule, inside
from .custom_node import pull_back
from .transformed import transformed

__all__ = ["checkpoint"]


def checkpoint(f: Callable[..., Any]) -> Callable[..., Any]:
    """f, but no value inside of it is kept for the backward pass, which runs f again: time for memory.

    Takes f's arguments, arrays or nested structures of them, and returns what f returns; ndarrays reach f as tensors.
    Only the arguments are kept, and the random numbers that f draws from ``fastgrad.random``, which are the same when
    it runs again. Whatever else f does must be the same too: tensors that it reads from outside, such as parameters,
    have their gradients, but must not be changed before the backward pass. In a compiled function the second
    computation is not merged with the first. Where f is called within a ``vmap`` and differentiated from outside of
    that, its values are kept as usual; so they are where it draws in a function that it maps, or in a loop or branch
    that is one instruction.

    Raises RuntimeError in the backward pass where f, run again, draws other random numbers, returns another structure,
    shapes or dtypes, or reads other tensors that require gradients.

    >>> import fastgrad as fg, numpy as np
    >>> layer = fg.checkpoint(lambda w, x: np.tanh(w * x))
    >>> fg.grad(lambda w: layer(w, layer(w, 1.0)))(0.5).round(4)
    np.float64(0.8113)
    """
    if not callable(f):
        raise TypeError(f"checkpoint: expected a function, got {f!r}")
    name = f"checkpoint {getattr(f, '__name__', type(f).__name__)}"

    @transformed(f, checkpoint)
    def checkpointed(*args: Any, **kwargs: Any) -> Any:
        call = Call(name, ["args", "kwargs"], [args, kwargs])
        if not call.tracked:
            args, kwargs = call.on_tensors()
            return f(*args, **kwargs)
        rule = _Rematerialized(call, f)
        own = [_core.alias(x) for x in call.inputs]
        return rule.attach(rule.run(call.with_inputs(own)), own)

    return checkpointed


class _Rematerialized(CallRule):
    """Runs the function again, and a backward pass through it."""

    is_derivative = True

    def __init__(self, call: Call, f: Callable[..., Any]) -> None:
        super().__init__(call)
        self.f, self.draws = f, _core.Draws()

    def run(self, arguments: Sequence[Any]) -> Any:
        args, kwargs = arguments
        with _core.Drawing(self.draws):
            return inside(lambda: self.f(*args, **kwargs), ())

    def attach(self, result: Any, own: list[Tensor]) -> Any:
        return super().attach(result, own) if self.draws.can_be_repeated else result

    def closed_over_inputs(self, found: dict[int, Tensor]) -> Iterable[Tensor]:
        self.closed_over = found
        return found.values()

    def vjp(self, g: Tensor) -> list[Tensor | None]:
        call, recorded = self.call, _core.grad_enabled()
        leaves = [_core.barrier(x) if isinstance(x, Tensor) else x for x in call.leaves]
        own = [_core.watch_tensor(leaves[k], recorded) for k in call.tracked]
        for k, x in zip(call.tracked, own):
            leaves[k] = x
        results, structure = tree.flatten(self.run(call.with_leaves(leaves)))
        if structure != self.structure:
            raise RuntimeError(f"{call.name}: run again, the function returned {structure} instead of {self.structure}")
        recomputed = [results[i] for i in self.places]
        if [(np.shape(y), getattr(y, "dtype", np.float64)) for y in recomputed] != self.kinds:
            raise RuntimeError(f"{call.name}: run again, the function returned other shapes or dtypes than before")
        read = _core.closed_over([y for y in recomputed if isinstance(y, Tensor)], own)
        if not self.closed_over.keys() >= read.keys():
            raise RuntimeError(
                f"{call.name}: run again, the function reads other tensors that require gradients than before"
            )
        return pull_back(recomputed, self.parts(g), own, recorded, [*self.closed_over.values()])

    def jvp(self, tangents: list[Tensor | None]) -> Tensor:
        """The transpose of the vjp: J^T u is linear in u, and the gradient by u of its product with t is J t."""
        recorded = _core.grad_enabled()
        with _core.Grads(True):
            shape = self.kinds[0][0] if len(self.kinds) == 1 else sum(int(np.prod(shape)) for shape, _ in self.kinds)
            u = _core.watch(np.zeros(shape, np.result_type(*[dtype for _, dtype in self.kinds])))
            pairs = [(c, t) for c, t in zip(self.vjp(u), tangents) if c is not None and t is not None]
        found = pull_back([c for c, _ in pairs], [t for _, t in pairs], [u], recorded)[0]
        return u.detach() if found is None else found
