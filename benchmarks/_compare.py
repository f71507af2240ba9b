"""How every benchmark here measures: the same work by fastgrad and by its peers, in one process, in turns.

A contender is a function, or a pair (expression, names) where even a call of a function would blur the result.
`compare` first checks that all contenders give the same result. Then it times short batches of each in turn, so
that whatever else the machine does hits all of them alike, and keeps for each peer the ratio ours / theirs of
every round. What is reported is the ratio of the medians, and the quartiles of the rounds' ratios as its spread.
A peer that is not installed is left out, and the report says so.
"""

import importlib
import statistics
import time
import timeit
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

import fastgrad as fg

ROUNDS = 25
BATCH_SECONDS = 0.01  # long against the clock's resolution, short against the noise

Contender = Callable[[], Any] | tuple[str, dict[str, Any]]


@dataclass
class Report:
    """What the table at the end of the run is made of."""

    rows: list[tuple[str, ...]] = field(default_factory=list)
    missing: set[str] = field(default_factory=set)


REPORT = Report()


def peer(module: str) -> ModuleType | None:
    """The imported module, or None (noted in the report) if it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except ImportError:
        REPORT.missing.add(module)
        return None


def slopes_by_both(
    ours: Callable[..., Any], theirs: Callable[..., Any] | None, arguments: tuple[Any, ...], wrt: int | tuple[int, ...]
) -> tuple[Contender, dict[str, Contender]]:
    """Compiled values and gradients by fastgrad, and by jax.jit if it is there: ours and peers for `compare`."""
    replay, jax = fg.compile(fg.value_and_grad(ours, wrt)), peer("jax")
    peers: dict[str, Contender] = {}
    if jax:
        compiled = jax.jit(jax.value_and_grad(theirs, wrt))
        peers["jax.jit"] = lambda: _flat(jax.block_until_ready(compiled(*arguments)))
    return lambda: _flat(replay(*arguments)), peers


def _flat(result: tuple[Any, Any]) -> list[Any]:
    value, gradients = result
    return [value, *(gradients if isinstance(gradients, tuple) else (gradients,))]


@contextmanager
def one_thread() -> Iterator[None]:
    """fastgrad, PyTorch and the BLAS of NumPy on one thread."""
    torch, threadpoolctl = peer("torch"), peer("threadpoolctl")
    before, ours = torch.get_num_threads() if torch else 1, fg.get_num_threads()
    with threadpoolctl.threadpool_limits(1) if threadpoolctl else nullcontext():
        if torch:
            torch.set_num_threads(1)
        fg.set_num_threads(1)
        try:
            yield
        finally:
            fg.set_num_threads(ours)
            if torch:
                torch.set_num_threads(before)


def compare(
    benchmark: Any,
    work: str,
    ours: Contender,
    peers: Mapping[str, Contender],
    targets: Mapping[str, float],
    *,
    operations: int = 1,
    rtol: float = 1e-4,
    atol: float = 1e-6,
) -> None:
    """Check, time and report `ours` against each of `peers`; targets[name] is the ratio to stay below.

    Each contender returns an array or a sequence of arrays. Times are reported per operation.
    """
    expected = _arrays(_evaluate(ours))
    for name, contender in peers.items():
        results = _arrays(_evaluate(contender))
        assert len(results) == len(expected), f"{work}: {name} returns {len(results)} arrays"
        for mine, theirs in zip(expected, results, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol, atol, err_msg=f"{work}: {name}")

    timers = {name: _timer(contender) for name, contender in peers.items()}
    calls = {name: _calls(timer) for name, timer in timers.items()}
    our_timer = _timer(ours)
    our_calls = _calls(our_timer)
    times: dict[str, list[float]] = {name: [] for name in timers}

    def peers_turn() -> None:
        for name, timer in timers.items():
            timer.timeit(1)  # brings its data back into the caches
            times[name].append(timer.timeit(calls[name]) / calls[name])
        our_timer.timeit(1)

    # pytest-benchmark times our batch, for its files and comparisons; the peers' turn is each round's setup.
    benchmark.extra_info["calls"] = our_calls
    benchmark.pedantic(our_timer.timeit, args=(our_calls,), setup=peers_turn, rounds=ROUNDS)
    mine = [seconds / our_calls for seconds in benchmark.stats.stats.data]

    for name, theirs in times.items():
        ratio = statistics.median(mine) / statistics.median(theirs)
        low, _, high = statistics.quantiles((m / t for m, t in zip(mine, theirs, strict=True)), n=4)
        benchmark.extra_info[f"ratio to {name}"] = ratio
        target = targets.get(name)
        REPORT.rows.append((
            work,
            _seconds(statistics.median(mine) / operations),
            name,
            _seconds(statistics.median(theirs) / operations),
            f"{ratio:.3f}",
            f"{low:.3f}..{high:.3f}",
            "" if target is None else f"{target:.3g}",
            "" if target is None else ("yes" if ratio <= target else "NO"),
        ))  # fmt: skip


def limit(work: str, value: float, most: float, unit: str) -> None:
    """Report a plain figure that has an upper limit and no peer."""
    reached = "yes" if value <= most else "NO"
    REPORT.rows.append((work, f"{value:.3g} {unit}", "", "", "", "", f"{most:g} {unit}", reached))


def _evaluate(contender: Contender) -> Any:
    return contender() if callable(contender) else eval(*contender)


def _timer(contender: Contender) -> timeit.Timer:
    if callable(contender):
        return timeit.Timer(contender)
    return timeit.Timer(contender[0], globals=contender[1])


def _arrays(result: Any) -> list[np.ndarray]:
    results = result if isinstance(result, (tuple, list)) else (result,)
    return [np.array(a.detach().numpy() if hasattr(a, "detach") else a) for a in results]


def _calls(timer: timeit.Timer) -> int:
    """How many calls fill a batch, found after a tenth of a second of warming up."""
    end = time.perf_counter() + 0.1
    timer.timeit(1)
    calls = 1
    while (seconds := timer.timeit(calls)) < BATCH_SECONDS or time.perf_counter() < end:
        if seconds < BATCH_SECONDS:
            calls *= 2
    return calls


def _seconds(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"
