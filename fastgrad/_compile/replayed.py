"""A function of arrays that is traced and replayed where it can be, and else runs eagerly, after one warning.

So run the losses of training steps and the functions of solvers: what cannot be compiled is slower there, not an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import _core, _native, _user_frames, tree
from .._core import Tensor, TraceError
from .compiled import Compiled, NotWorthTracing

__all__ = ["Replayed"]

# Errors that do not come from the function that is traced, and may not occur the next time.
_PASSING = (MemoryError, RecursionError, OSError)
_LONGEST_PAUSE = 1023


class Replayed:
    """A function of arrays that is traced and replayed, or runs eagerly after one warning if it cannot be traced.

    `traced` is the function on tensors; `eager` computes the same on ndarrays, its results may be of any type. `name`
    is the subject of the warning. With native=True it is an error if it cannot be traced or compiled. Within another
    transform than it was made in, which may differentiate what the function reads from outside, it runs eagerly,
    without a warning. What fails for want of memory or the like is traced again at the next call; if it goes on
    failing, after 1, 3, 7, ... further calls.
    """

    def __init__(
        self,
        traced: Callable[..., Any],
        eager: Callable[..., Any],
        name: str,
        compile: bool = True,
        static_argnums: tuple[int, ...] = (),
        maxsize: int = 64,
        native: Any = None,
        n_gradients: int = 0,
    ) -> None:
        subject = name.partition(":")[0]
        _native.mode(native, subject)
        if native is True and not compile:
            raise ValueError(f"{subject}: native=True goes with compile=True")
        self.compiled = None
        if compile:
            self.compiled = Compiled(
                traced, static_argnums, maxsize=maxsize, trace_twice=True, n_gradients=n_gradients, native=native
            )
        self.native = native
        self._eager, self._name = eager, name
        self._transform = _core.innermost_transform()
        # After a failure: the kinds of the arguments that could not be traced, and the compiled function.
        self.failed: tuple[Any, Compiled] | None = None
        self._pause = 0  # how many calls run eagerly after a failure that may pass
        self._left: int | None = None  # how many of them are left; None: the failure will not pass

    def __call__(self, *args: Any) -> Any:
        self.reconsider(args)
        compiled = self.usable()
        if compiled is None:
            return self.eagerly(args)
        try:
            with _core.Outermost():
                return compiled(*args)
        except NotWorthTracing:
            return self.eagerly(args)
        except Exception as error:  # whatever the function raises: eagerly it is right, or raises the same
            return self.give_up(compiled, error, args)

    def usable(self) -> Compiled | None:
        """The compiled function, which another thread may give up meanwhile, if a call may replay it here."""
        return self.compiled if _core.innermost_transform() in (0, self._transform) else None

    def release_memory(self) -> None:
        """Free the memory of the programs' intermediates; the next call takes it again."""
        if self.compiled is not None:
            self.compiled.release_memory()

    def eagerly(self, args: tuple[Any, ...]) -> Any:
        with _core.Outermost():  # as a program: its results are numbers unless they depend on what is outside
            return self._eager(*args)

    def give_up(self, compiled: Compiled, error: Exception, args: tuple[Any, ...]) -> Any:
        """The result of an eager run, if that does not raise; from then on arguments of these kinds run eagerly. Warns
        and gives the error for which the program failed. Within a trace around this call nothing is given up: the error
        may come from tensors of that trace, which later calls do not have. An error of a signal's handler is raised
        again, as it says nothing of the function."""
        if not isinstance(error, TraceError) and _user_frames.is_from_signal(error):
            raise error
        if isinstance(error, _native.CompilerError):
            raise error
        found = self.eagerly(args)
        if _core.tracing():
            return found
        if self.native is True:
            raise RuntimeError(f"{self._name} cannot be traced, which native=True needs: {error}") from error
        first = self.compiled is compiled
        self.failed, self.compiled = (_kinds(args), compiled), None
        self._left = None
        if isinstance(error, _PASSING):
            self._left, self._pause = self._pause, min(2 * self._pause + 1, _LONGEST_PAUSE)
            first = self._left == 7  # by then it does not look like passing soon
        if first:
            place = "" if isinstance(error, TraceError) else _user_frames.line_of(error)
            _user_frames.warn(
                f"{self._name} cannot be traced and runs eagerly{place}: {error}. Give compile=False to run it so "
                "without this warning"
            )
        return found

    def reconsider(self, args: tuple[Any, ...]) -> None:
        """Try to trace again if these arguments are of other kinds than those that could not be traced, or if the
        reason may have passed."""
        failed, left = self.failed, self._left
        if failed is None:
            return
        if left is not None:
            self._left = left - 1
        if left == 0 or failed[0] != _kinds(args):
            self.compiled, self.failed = failed[1], None


def _kinds(args: tuple[Any, ...]) -> Any:
    leaves, structure = tree.flatten(args)
    return structure, [None if _is_traceable(x) else type(x) for x in leaves]


def _is_traceable(x: Any) -> bool:
    """Whether an argument may become an input of a program, as far as its type tells."""
    return not x.requires_grad if isinstance(x, Tensor) else isinstance(x, (np.ndarray, np.generic, float, int))
