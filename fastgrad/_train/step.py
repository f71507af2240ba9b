"""A training step: the loss, its gradients and the optimizer's update.

A program does all three in one call of the core (csrc/program/training.c). Where the loss cannot be traced it runs on
the tape, and the gradients go to the optimizer. Structure and leaves of the parameters are found when the step is made,
so that a call costs little more than the loss itself. Nothing is changed before loss and gradients are known to be
finite: parameters and optimizer state are always those of whole steps.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .. import _core, optim, tree
from .._arguments import flag, integer
from .._compile.compiled import Compiled
from .._compile.replayed import Replayed
from .._core import Tensor
from .arrays import arguments_of, note_on_batch, parameters_of
from .parallel import Ranks

if TYPE_CHECKING:
    from .state import Named

__all__ = [
    "NonFinite", "TrainingStep", "TrainingStepWithAux", "TypePromotionWarning", "begin_on_ranks", "rows_of",
    "take_step",
]  # fmt: skip

NonFinite = Literal["raise", "skip", "ignore"]


class TypePromotionWarning(RuntimeWarning):
    """The loss of a model whose parameters are all float32 computes in float64, at the line that the warning names.

    There an array of float32 meets one of float64, or a NumPy number, or integers, and NumPy's rules make the result
    float64; what follows takes twice the memory and time, and the gradients are rounded to float32 all the same. It is
    said once by each `fastgrad.training_step` or `fastgrad.descend`, where the loss comes out as float64. Casts that
    are asked for, by ``astype`` or ``dtype=``, are no reason, nor are results without axes.

    >>> import warnings
    >>> import fastgrad as fg, numpy as np
    >>> with warnings.catch_warnings(record=True) as told:
    ...     warnings.simplefilter("always")
    ...     loss = lambda w: fg.sum((w * np.float64(0.5)) ** 2)
    ...     value = fg.training_step(loss, np.ones(3, np.float32), "sgd")()
    >>> told[0].category.__name__
    'TypePromotionWarning'
    """


_told: dict[Any, Any] = {}  # the registry of Python's warnings, which tells those that were given already


class TrainingStep:
    """What `training_step` returns: call it with a batch to take a step.

    `params` is the structure of live arrays, `optimizer` the optimizer; with nonfinite="skip" `skipped` is the number
    of steps that were left out.
    """

    def __init__(
        self,
        loss: Callable[..., Any],
        params: Any,
        optimizer: optim.Optimizer | str,
        nonfinite: NonFinite = "raise",
        compile: bool = True,
        maxsize: int = 64,
        *,
        clip_value: float | None = None,
        clip_norm: float | None = None,
        clip_each_norm: float | None = None,
        accumulate: int = 1,
        has_aux: bool = False,
        native: Any = None,
        _ranks: Ranks | None = None,
        _name: str = "training_step",
        _places: list[str] | None = None,  # the names of a batch's arrays, if not their places in it
    ) -> None:
        if not callable(loss):
            raise TypeError(f"{_name}: loss is of type {type(loss).__name__}, expected a function of params")
        if nonfinite not in ("raise", "skip", "ignore"):
            raise ValueError(f"{_name}: nonfinite is {nonfinite!r}, expected 'raise', 'skip' or 'ignore'")
        maxsize, compile = integer(_name, "maxsize", maxsize), flag(_name, "compile", compile)
        self._clip = optim.clip_of(_name, clip_value=clip_value, clip_norm=clip_norm, clip_each_norm=clip_each_norm)
        self._accumulate = integer(_name, "accumulate", accumulate)
        self._has_aux = flag(_name, "has_aux", has_aux)
        self._ranks = _ranks
        self._has_more = self._accumulate > 1 or self._has_aux or self._clip is not None or _ranks is not None
        self.params = params = parameters_of(params, _name)
        self.optimizer = optim.get(optimizer)
        self._searches = optim.takes_closure(self.optimizer)
        if self._searches and (self._clip is not None or self._accumulate > 1 or _ranks is not None):
            raise ValueError(
                f"{_name}: {type(self.optimizer).__name__} searches along the gradient of the whole batch: clipping, "
                "accumulate and comm do not go with it"
            )
        self._keeps_rows = not (self._searches or _ranks is not None)
        self._f = loss
        self._nonfinite = nonfinite
        self.skips, self.skipped = nonfinite == "skip", 0  # whether steps are left out, and how many were
        self._name, self._places = _name, _places
        self._leaves, self._structure = tree.flatten(params)
        self._known = self._structure.unflatten(self._leaves)  # the same leaves in containers of our own
        if not self._leaves:
            raise ValueError(f"{_name}: params hold no arrays: {params!r}")
        self._check_leaves(self._leaves)
        # Whether the next run of the loss looks for float64, and where it found some.
        self._looks_for_promotions = all(leaf.dtype == np.float32 for leaf in self._leaves)
        self._promotion: tuple[str, int, str] | None = None
        self._frozen = optim.frozen(self.optimizer, self._leaves, self._structure)
        if self._frozen is not None and all(self._frozen):
            frozen = self._structure.paths("params")
            raise ValueError(
                f"{_name}: the optimizer's groups freeze all of the parameters ({', '.join(frozen)}): there is nothing "
                "to train"
            )
        self._value_and_gradients = Replayed(
            self._traced, self._eagerly, f"{_name}: the loss", compile, maxsize=maxsize, native=native,
            n_gradients=len(self._leaves) if optim.updates_in_core(self.optimizer) and _ranks is None else 0,
        )  # fmt: skip

    def __call__(self, *batch: Any) -> float:
        """Take one step on a batch, the arguments of the loss after params, and return its loss before it.

        With has_aux the pair of that and of what else the loss returned.
        """
        value: float = take_step(self, batch, None)
        return value

    def _check_leaves(self, leaves: list[Any]) -> None:
        for i, leaf in enumerate(leaves):
            if isinstance(leaf, Tensor):
                path = self._structure.paths("params")[i]
                raise TypeError(f"{path} is a Tensor, expected an ndarray: use np.array({path}.detach())")
        optim.check_parameters(self.optimizer, leaves, self._structure)

    def _adopt(self) -> None:
        """Go on with the arrays that params holds, where some were put in the places of others."""
        leaves, structure = tree.flatten(self.params)
        if structure != self._structure:
            raise ValueError(
                f"{self._name}: params were {self._structure} and are {structure}; make a new step for another "
                "structure"
            )
        for i, (was, leaf) in enumerate(zip(self._leaves, leaves)):
            if isinstance(leaf, np.ndarray) and (leaf.shape, leaf.dtype) != (was.shape, was.dtype):
                raise ValueError(
                    f"{structure.paths('params')[i]} was {was.dtype} of shape {was.shape} and is {leaf.dtype} of shape "
                    f"{leaf.shape}; make a new step for other shapes"
                )
        self._check_leaves(leaves)
        self._leaves, self._known = leaves, self._structure.unflatten(leaves)

    def _take(self, batch: tuple[Any, ...], rows: np.ndarray | None) -> Any:
        """A step on a batch, or on these rows of its arrays."""
        if not _core.same_leaves(self.params, self._known):
            self._adopt()
        if self._searches:
            return self._take_by_search(batch, rows)
        if self._has_more:
            if self._ranks is not None:
                return self._take_on_ranks(self._ranks, batch, rows)
            if self._accumulate > 1:
                rule = optim.next_update(self.optimizer, self._leaves, self._structure, in_core=True)
                if rule is not None:
                    self._complete(rule)
                return self._update_eagerly(*self._gradients_in_parts(batch, rows), rule)
        optimizer, leaves, structure = self.optimizer, self._leaves, self._structure
        replayed = self._value_and_gradients
        if replayed.failed is not None:
            replayed.reconsider((leaves, *arguments_of(batch)))
        compiled = replayed.compiled if not _core.in_transform() else replayed.usable()
        rule = optim.next_update(optimizer, leaves, structure, in_core=compiled is not None)
        n_gradients = len(leaves) if rule is not None else 0
        if compiled is not None and compiled.n_gradients != n_gradients:
            compiled = self._compiled_with(compiled, n_gradients)
        args: tuple[Any, ...] | None = None
        if compiled is not None and rule is not None:
            if self._has_more:
                self._complete(rule)
            try:
                checked = self._nonfinite != "ignore"
                if rows is None:
                    found = compiled.try_train((leaves, *batch), rule, checked)
                else:
                    found = compiled.try_train_on_rows(leaves, batch, rows, rule, checked)
                if found is None:  # not of the last batch's shapes
                    args = (leaves, *rows_of(arguments_of(batch), rows))
                    found = compiled.train(args, rule, checked)
                    self._tell_of_promotion()
            except Exception as error:  # whatever the loss raises: eagerly it is right, or raises the same
                if rule.taken:  # only its loss cannot be told
                    raise
                unwritable = _core.first_not_writable(leaves)
                if unwritable >= 0:
                    raise optim.leaf_error(leaves[unwritable], structure.paths("params")[unwritable]) from None
                args = args or (leaves, *rows_of(arguments_of(batch), rows))
                value, aux, gradients = replayed.give_up(compiled, error, args)
            else:
                if found is not None:
                    value, bad, gradient, aux = found
                    if bad >= 0:
                        self._refuse(value, bad, gradient)
                    return (value, aux) if self._has_more and self._has_aux else value
                assert args is not None
                value, aux, gradients = replayed.eagerly(args)
        else:
            args = (leaves, *rows_of(arguments_of(batch), rows))
            value, aux, gradients = replayed.eagerly(args) if compiled is None else replayed(*args)
        return self._update_eagerly(float(value), aux, gradients, rule)

    def _complete(self, rule: _core.UpdateRule) -> None:
        """Tell a rule of the core how to clip, and of further values of the loss."""
        rule.has_aux = self._has_aux
        if self._clip is not None:
            rule.clip(*self._clip)

    def _update_eagerly(self, value: float, aux: Any, gradients: list[Any], rule: Any) -> Any:
        """Check the gradients, and update; what the step returns."""
        self._tell_of_promotion()
        found = (value, aux) if self._has_aux else value
        if self._nonfinite != "ignore":
            bad = _core.first_not_finite(gradients)
            if bad >= 0 or not math.isfinite(value):
                self._refuse(value, bad, gradients[bad] if bad >= 0 else None)
                return found
        optim.apply_gradients(self.optimizer, self.params, self._leaves, self._structure, gradients, rule, self._clip)
        return found

    def _take_on_ranks(self, ranks: Ranks, batch: tuple[Any, ...], rows: np.ndarray | None) -> Any:
        """A step on the batch that the parts of all ranks make together. The gradients that are summed over the ranks
        are those of the sum of the losses of all rows, of which the update takes the mean."""
        try:
            rule = optim.next_update(self.optimizer, self._leaves, self._structure, in_core=True)
            count = _count_rows(batch) if rows is None else len(rows)
            value, aux = self._gradients_of_part(ranks.gradients, batch, rows) if count else (0.0, None)
        except BaseException as error:
            ranks.fail(error)
            raise
        total, value = ranks.reduce(count, value)
        gradients = ranks.gradients
        if rule is None:
            gradients = [np.asarray(g * g.dtype.type(1 / total)) for g in gradients]
        else:
            rule.scale(1 / total)
            self._complete(rule)
        try:
            return self._update_eagerly(value, aux, gradients, rule)
        except FloatingPointError as error:
            ranks.mark(error)
            raise

    def _gradients_of_part(
        self, into: list[np.ndarray], batch: tuple[Any, ...], rows: np.ndarray | None
    ) -> tuple[float, Any]:
        """The mean loss of this rank's rows, and what else the loss returns; the gradients of the rows' sum of losses
        are written to the ndarrays ``into``, by the program itself where one is replayed."""
        if self._accumulate > 1:
            value, aux, gradients = self._gradients_in_parts(batch, rows)
        else:
            compiled, found = self._value_and_gradients.usable(), None
            args: tuple[Any, ...] = ()
            with contextlib.suppress(Exception):  # whatever the loss raises: below it is right, or raises the same
                if compiled is not None and rows is not None:
                    found = compiled.try_run_on_rows_into(self._leaves, batch, rows, into)
                elif compiled is not None:
                    found = compiled.try_run_into((self._leaves, *batch), into)
                if found is None:
                    args = (self._leaves, *rows_of(arguments_of(batch), rows))
                    found = compiled.run_into(args, into) if compiled is not None else None
            if found is not None:
                return float(found[0]), found[1]
            value, aux, gradients = self._value_and_gradients(
                *(args or (self._leaves, *rows_of(arguments_of(batch), rows)))
            )
        for to, gradient in zip(into, gradients):
            to[...] = gradient.detach().numpy() if isinstance(gradient, Tensor) else gradient
        return float(value), aux

    def _gradients_in_parts(
        self, batch: tuple[Any, ...], rows: np.ndarray | None
    ) -> tuple[float, list[Any], list[np.ndarray]]:
        """Loss and gradients of a batch, a part of its rows after the other, and what else the loss returns of each.
        They are means over all rows; on several ranks the gradients are those of the sum of the rows' losses."""
        arrays, structure = tree.flatten(arguments_of(batch))
        n = len(arrays[0]) if arrays and np.ndim(arrays[0]) else 0
        if not n or any(np.ndim(array) == 0 or len(array) != n for array in arrays):
            raise ValueError(
                f"{self._name}: accumulate needs a batch of arrays with one first axis, whose rows it splits"
            )
        parts = np.array_split(np.arange(n) if rows is None else rows, self._accumulate)
        n = sum(map(len, parts))
        if n < self._accumulate:
            raise ValueError(
                f"{self._name}: a batch of {n} rows cannot be split in accumulate={self._accumulate} parts"
            )
        value, aux = 0.0, []
        total: list[Any] = [None] * len(self._leaves)
        for part in parts:
            chosen = [
                array[part[0] : part[-1] + 1] if rows is None else _core.gather_rows(np.asarray(array), part)
                for array in arrays
            ]
            of_part, more, gradients = self._gradients_of((self._leaves, *structure.unflatten(chosen)))
            weight = len(part) / n
            value += weight * float(of_part)
            aux.append(more)
            for i, gradient in enumerate(gradients):
                total[i] = _plus(total[i], 1.0 if self._ranks is not None else weight, gradient)
        return value, aux, total

    def _gradients_of(self, args: tuple[Any, ...]) -> tuple[Any, Any, list[Any]]:
        """Loss, what else it returns, and gradients, of which those of tables may be RowSparse."""
        replayed = self._value_and_gradients
        replayed.reconsider(args)
        compiled = replayed.usable() if self._keeps_rows else None
        if compiled is None:
            return replayed(*args)  # type: ignore[no-any-return]
        if compiled.n_gradients != len(self._leaves):
            compiled = self._compiled_with(compiled, len(self._leaves))
        try:
            with _core.Outermost():
                found = compiled.try_differentiate(args) or compiled.differentiate(args)
        except Exception as error:  # whatever the loss raises: eagerly it is right, or raises the same
            return replayed.give_up(compiled, error, args)  # type: ignore[no-any-return]
        return found or replayed.eagerly(args)

    @property
    def named(self) -> Named:
        """The names of the parameters, and states by them."""
        from .state import Named

        return Named(self._structure)

    def state_dict(self) -> dict[str, Any]:
        """A copy of all that it takes to go on from here with the same bits: parameters and optimizer state by the
        names of the parameters, and the random generators that the loss reaches. `fastgrad.save` writes it.

        >>> import numpy as np
        >>> import fastgrad as fg
        >>> loss = lambda p: fg.sum(p["w"] ** 2)
        >>> step = fg.training_step(loss, {"w": np.ones(2)}, fg.optim.SGD(0.1, momentum=0.9))
        >>> state, value = step.state_dict(), step()
        >>> step.load_state_dict(state)
        >>> step() == value
        True
        """
        from .state import parts_of, states_of

        self._adopt()
        named = self.named
        return {
            "params": named.by_name(self._leaves),
            "optimizer": named.of_optimizer(self.optimizer),
            "generators": states_of(parts_of([self._f], named)),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave, in the live arrays. ValueError or TypeError if it is the state of other
        parameters, another optimizer, or a loss with other generators; then the parameters are as they were."""
        from .state import check_parts, load_parts, parts_of

        if not isinstance(state, Mapping) or state.keys() != {"params", "optimizer", "generators"}:
            raise TypeError(f"{self._name}: expected what state_dict() of a training step returned")
        self._adopt()
        named = self.named
        parts = parts_of([self._f], named)
        arrays = named.leaves(state["params"], "params", self._leaves)
        check_parts(parts, state["generators"], self._name)
        named.to_optimizer(self.optimizer, state["optimizer"])
        load_parts(parts, state["generators"], self._name)
        for leaf, array in zip(self._leaves, arrays):
            leaf[...] = array

    def _take_by_search(self, batch: tuple[Any, ...], rows: np.ndarray | None) -> Any:
        """A step of an optimizer that evaluates the loss at several points, which are copies of the parameters."""
        optimizer, leaves, structure = self.optimizer, self._leaves, self._structure
        optim.next_update(optimizer, leaves, structure, in_core=False)  # which checks the leaves
        unwritable = _core.first_not_writable(leaves)
        if unwritable >= 0:
            raise optim.leaf_error(leaves[unwritable], structure.paths("params")[unwritable])
        chosen = rows_of(arguments_of(batch), rows)
        first: list[Any] = []  # what else the loss returns at the parameters themselves

        def evaluate(arrays: list[Any]) -> tuple[Any, list[Any]]:
            value, aux, gradients = self._value_and_gradients(arrays, *chosen)
            if not first:
                first.append(aux)
            return value, gradients

        def check(value: float, gradients: list[Any]) -> bool:
            bad = -1 if self._nonfinite == "ignore" else _core.first_not_finite(gradients)
            if self._nonfinite == "ignore" or (bad < 0 and math.isfinite(value)):
                return True
            self._refuse(value, bad, gradients[bad] if bad >= 0 else None)
            return False

        value = optim.search(optimizer, leaves, structure, evaluate, check)
        return (value, first[0]) if self._has_aux else value

    def program(self, *batch: Any) -> Any:
        """The program that a step with this batch replays."""
        if self._compiled is None:
            raise RuntimeError(f"{self._name}: the loss runs eagerly, there is no program")
        return self._compiled.program(self._leaves, *arguments_of(batch))

    def __repr__(self) -> str:
        name = getattr(self._f, "__qualname__", None) or repr(self._f)
        how = "eager" if self._compiled is None else "compiled"
        return f"<{self._name} of {name} by {self.optimizer!r}, {self.optimizer.steps} steps taken, {how}>"

    def _compiled_with(self, compiled: Compiled, n_gradients: int) -> Compiled:
        """The compiled loss, whose last ``n_gradients`` results stay in the program for the core's update: all of the
        gradients, or none if the optimizer updates in Python."""
        maxsize = compiled.cache_info().maxsize
        native = self._value_and_gradients.native
        compiled = Compiled(self._traced, maxsize=maxsize, trace_twice=True, n_gradients=n_gradients, native=native)
        self._value_and_gradients.compiled = compiled
        return compiled

    @property
    def _compiled(self) -> Compiled | None:
        return self._value_and_gradients.compiled

    def _eagerly(self, leaves: list[Any], *batch: Any) -> tuple[Tensor, Any, list[Any]]:
        gradients_of = _core.gradients_by_rows if self._keeps_rows else _whole_gradients
        value, aux, gradients = self._differentiate(_core.watch, leaves, batch, gradients_of)
        return value.detach(), tree.map(_as_data, aux), gradients

    def _traced(self, leaves: list[Tensor], *batch: Tensor) -> tuple[Tensor, Any, list[Tensor]]:
        """The function that is traced: the loss, without axes, what else it returns, and its gradients in the order of
        the leaves."""
        value, aux, gradients = self._differentiate(_core.watch_tensor, leaves, batch, _whole_gradients)
        return _core.reshape(value.detach(), ()), tree.map(_detached, aux), gradients

    def _differentiate(
        self,
        watch: Callable[[Any], Tensor],
        leaves: list[Any],
        batch: tuple[Any, ...],
        gradients_of: Callable[[Tensor, list[Tensor]], list[Any]],
    ) -> tuple[Tensor, Any, list[Any]]:
        """The loss for these leaves, of which watch makes tensors on the tape, what else it returns, and its gradients
        by the leaves, as gradients_of gives them: 0 by those that are frozen."""
        mark = _core.last_node_id()
        tensors = [watch(leaf) for leaf in leaves]
        seen = tensors
        if self._frozen is not None:
            seen = [t.detach() if is_frozen else t for t, is_frozen in zip(tensors, self._frozen)]
        aux = None
        with _core.Recording():
            if self._looks_for_promotions:
                with _core.Promotions() as promotions:
                    value = self._f(self._structure.unflatten(seen), *batch)
                self._looks_for_promotions, self._promotion = False, promotions.first
            else:
                value = self._f(self._structure.unflatten(seen), *batch)
        if self._has_aux:
            if not isinstance(value, tuple) or len(value) != 2:
                raise TypeError(
                    f"{self._name}: with has_aux=True the loss returns a pair (loss, aux), got a {type(value).__name__}"
                )
            value, aux = value
        if not isinstance(value, Tensor) or value.size != 1 or not value.requires_grad:
            raise _loss_error(self._name, value)
        if value.dtype == np.float32:
            self._promotion = None  # what was float64 has become float32 again, as somebody wanted it
        if _core.in_any_transform() and _core.depends_on_outer([value], mark):
            raise TypeError(
                f"{self._name}: the loss reads a tensor that is being differentiated, but a step gives a number and "
                "changes arrays in place, through which no derivative leads; write the steps as operations, as in "
                "p = p - rate * grad(loss)(p), or say that a constant is meant with fastgrad.stop_gradient(x)"
            )
        whole = value
        if self._ranks is not None:
            with _core.Recording():
                whole = value * float(_count_rows(batch))
        return value, aux, gradients_of(whole, tensors)

    def _tell_of_promotion(self) -> None:
        """Warn, once, if the loss computes in float64 although all parameters are float32."""
        if self._promotion is None:
            return
        (file, line, what), self._promotion = self._promotion, None
        warnings.warn_explicit(
            f"{self._name}: all parameters are float32, but the loss computes in float64, because here {what}. Make "
            "that float32, by dtype=np.float32 or .astype(np.float32), or by fastgrad.set_default_dtype(np.float32); "
            "NumPy's numbers, such as np.float64(2), and integer arrays count as float64, Python's numbers do not",
            TypePromotionWarning, file, line, registry=_told,
        )  # fmt: skip

    def _refuse(self, value: float, bad: int, gradient: Any) -> None:
        """Leave a step out, or raise: the loss is not finite, or a gradient."""
        if self.skips:
            self.skipped += 1
            return
        what = [] if math.isfinite(value) else [f"the loss is {value}"]
        if gradient is not None:
            entries = np.isfinite(np.asarray(gradient))
            what.append(
                f"the gradient of {self._structure.paths('params')[bad]} has {entries.size - entries.sum()} "
                f"entries of {entries.size} that are not finite"
            )
        raise FloatingPointError(
            f"{self._name}: at step {self.optimizer.steps} {' and '.join(what)}; the parameters are as they were "
            "before this step. Lower the learning rate, or look for log(0), division by 0 or overflow in the loss"
        )


def _plus(total: Any, weight: float, gradient: Any) -> Any:
    """total, or zeros for None, and weight times a gradient: rows as long as all terms are."""
    if isinstance(gradient, _core.RowSparse):
        if total is None:
            return gradient.times(weight)
        if isinstance(total, _core.RowSparse):
            return total.plus(gradient, weight)
        gradient = np.asarray(gradient)
    array = gradient.detach().numpy() if isinstance(gradient, Tensor) else gradient
    scaled = array.dtype.type(weight) * array
    if total is None:
        return np.asarray(scaled)
    if isinstance(total, _core.RowSparse):
        total = np.asarray(total)
    total += scaled
    return total


def _whole_gradients(y: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    return _core.gradients(y, inputs, False)


def _detached(x: Any) -> Any:
    return x.detach() if isinstance(x, Tensor) else x


def _as_data(x: Any) -> Any:
    return _core.own(x.detach()) if isinstance(x, Tensor) else x


class TrainingStepWithAux(TrainingStep):
    """A training step of a loss that returns more: a call returns (loss, aux)."""

    def __call__(self, *batch: Any) -> tuple[float, Any]:  # type: ignore[override]
        found: tuple[float, Any] = take_step(self, batch, None)
        return found


def take_step(step: TrainingStep, batch: tuple[Any, ...], rows: np.ndarray | None) -> Any:
    """A training step on a batch, or on these rows of its arrays."""
    try:
        return step._take(batch, rows)
    except FloatingPointError as error:
        note_on_batch(error, step._name, batch, rows, step._places)
        raise


def begin_on_ranks(step: TrainingStep, ranks: Ranks, **facts: Any) -> None:
    """Before the first step that ranks take together: let all have what rank 0 has, and see that the facts are the
    same on all."""
    facts = {"params": str(step._structure), "nonfinite": step._nonfinite, "clipping": step._clip} | facts
    ranks.begin(step._leaves, step.optimizer, facts)


# arguments --------------------------------------------------------------------------------------------------


def _count_rows(batch: tuple[Any, ...]) -> int:
    """The rows of a batch: the length of its first array, 1 if there is no array with an axis."""
    for x in tree.flatten(arguments_of(batch))[0]:
        if shape := np.shape(x) if not isinstance(x, Tensor) else x.shape:
            return int(shape[0])
    return 1


def rows_of(arrays: tuple[Any, ...], rows: np.ndarray | None) -> tuple[Any, ...]:
    """These rows of arrays, all for None."""
    return arrays if rows is None else tuple([_core.gather_rows(array, rows) for array in arrays])


def _loss_error(name: str, value: Any) -> TypeError:
    if not isinstance(value, Tensor):
        cure = (
            "; return the loss alone" if isinstance(value, tuple) else
            "; was it taken out of a tensor by float(), .item() or .numpy()?"
        )  # fmt: skip
        return TypeError(f"{name}: the loss is of type {type(value).__name__}, expected a scalar tensor{cure}")
    if value.size != 1:
        return TypeError(f"{name}: the loss has shape {value.shape}, expected a scalar: take its mean or sum")
    return TypeError(f"{name}: the loss does not depend on params")
