"""Calls the public functions with random wrong arguments: ``python _fuzz.py SEED CALLS``. Run by test_hostile_input.py.

A call may return anything or raise one of ALLOWED. The last line of standard output is the call under way, in case the
process dies. At the end the core must hold what it held at the beginning.
"""

import gc
import os
import random
import sys
import warnings

import numpy as np

import fastgrad as fg
from fastgrad import _core

ALLOWED = (
    TypeError, ValueError, IndexError, RuntimeError, OverflowError, MemoryError, NotImplementedError, BufferError,
    ZeroDivisionError,
)  # fmt: skip
NAMES = sorted({*_core.__all__, *fg._numpy.functions.__all__, "take", "stop_gradient"} - {"Tensor"})
FUNCTIONS = {
    **{name: getattr(fg, name) for name in NAMES},
    **{f"losses.{name}": getattr(fg.losses, name) for name in fg.losses.__all__},
    **{f"Tensor.{name}": getattr(fg.Tensor, name) for name in dir(fg.Tensor) if callable(getattr(fg.Tensor, name))},
    **{
        f"np.{name}": getattr(np, name)
        for name in "tanh add sum concatenate where take clip stack cumsum matmul prod".split()
    },
    "grad": lambda f, *args, **kwargs: fg.grad(f, **kwargs)(*args),
    "set grad": lambda t, value: setattr(t, "grad", value) if isinstance(t, fg.Tensor) else None,
    "set requires_grad": lambda t, value: setattr(t, "requires_grad", value) if isinstance(t, fg.Tensor) else None,
}
# Billions of sections are made, as by NumPy, until memory ends after minutes.
FUNCTIONS["array_split"] = lambda x, n, *rest, **kwargs: fg.array_split(
    x, min(n, 1000) if isinstance(n, int) else n, *rest, **kwargs
)
NOT_CALLED = """__class__ __new__ __init__ __init_subclass__ __subclasshook__ __reduce__ __reduce_ex__ __getattribute__
__setattr__ __delattr__ __dir__ __sizeof__ __getstate__ __array_ufunc__ __array_function__ tofile""".split()
for name in NOT_CALLED:
    FUNCTIONS.pop(f"Tensor.{name}", None)


class Hostile(ValueError):
    """What the objects below raise."""


class Refuses:
    """Every conversion raises, after a call of ``spoil``, which a careless caller would not expect."""

    def __init__(self, spoil):
        self.spoil = spoil

    def refuse(self, *args, **kwargs):
        self.spoil()
        raise Hostile

    __index__ = __float__ = __int__ = __bool__ = __array__ = __iter__ = __len__ = refuse
    __eq__ = __hash__ = __dlpack__ = refuse


class Lies:
    """Every conversion gives another answer each time it is asked."""

    def __init__(self, rng, spoil):
        self.rng, self.spoil = rng, spoil

    def __index__(self):
        self.spoil()
        return self.rng.choice([0, 1, -1, 2, 2**31, -(2**63), 2**70])

    def __eq__(self, other):
        return self.rng.choice([True, False])

    def __array__(self, dtype=None, copy=None):
        self.spoil()
        return self.rng.choice([np.ones(2), np.ones((2, 3)), np.array("a"), np.array(None), np.ones(2, complex)])

    def __len__(self):
        return self.rng.choice([0, 2, 7])

    def __getitem__(self, i):
        if self.rng.random() < 0.5:
            raise IndexError
        return self.rng.choice([0, 1.5, "a", self])

    def __float__(self):
        return self.rng.choice([0.0, float("nan"), 1e308])

    __hash__ = object.__hash__


def arguments(rng):
    """A function that draws an argument, from a pool made anew."""
    owner = [fg.tensor(np.ones((2, 3)), requires_grad=True)]
    array = np.arange(600.0).reshape(2, 300)
    endless = []
    endless.append(endless)

    def spoil():
        """Drop and change what the call may be using."""
        owner.clear()
        gc.collect() if rng.random() < 0.01 else None
        array[:] = -1
        if pool and rng.random() < 0.2:
            pool[rng.randrange(len(pool))] = None

    tracked = fg.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], requires_grad=True)
    pool = [
        tracked, tracked * 2, fg.exp(tracked), tracked.sum(), owner[0] * 3, fg.asarray(array), array, array.T,
        array[::-1, ::7],
        fg.tensor([1, 0, 1]), fg.tensor([True, False]), fg.ones((2, 3), dtype=np.float32),
        fg.ones(3, requires_grad=True),
        fg.zeros((0, 3)), fg.zeros((1,) * 32), fg.tensor(2.0, requires_grad=True), np.float32(1.5),
        np.ones(3, np.float16),
        np.ma.masked_array([1.0, 2.0], [True, False]), np.array(["a"]), np.array([None]), np.zeros(2, [("a", float)]),
        np.ones(3).view(type("Mine", (np.ndarray,), {})), np.array(3), np.array([0, 5, -9]), np.array([True, False]),
        0, 1, -1, 2, 3, 7, 2**31, 2**40, 2**62, 2**63, -(2**63), 2**70, 10**400, 0.0, -1.5, 1e308, float("nan"),
        float("inf"),
        1j, True, None, "a", "float32", b"a", object(), float, np.float32, np.int8, Ellipsis, slice(None),
        slice(None, None, -2),
        slice(2**70, None, 2**70), slice("a"), slice(0.5, None), [], [1.0, 2.0], [[1.0], [1.0, 2.0]], [tracked, 1.0],
        [tracked, tracked],
        endless, (), (0,), (1, 0), (2, 3), (-1,), (2**31, 2**31), (2**50,), (2**40, 0), (1,) * 33, (0, 0), ("a",),
        (slice(None), 0),
        (None, Ellipsis, 0), {"a": 1.0}, {1.0}, iter([1.0]), Refuses(spoil), Lies(rng, spoil), [Lies(rng, spoil)],
        (Lies(rng, spoil), 0),
        lambda x, *rest: (x * x).sum(), lambda *args: rng.choice(args), lambda x: spoil() or x, lambda x: 1 / 0,
    ]  # fmt: skip
    return lambda: rng.choice(pool)


KEYWORDS = """axis keepdims dtype shape axes requires_grad gradient retain_graph ord min max decimals argnums has_aux
ddof""".split()


def main(seed, calls):
    rng = random.Random(seed)
    names = list(FUNCTIONS)
    for i in range(calls):
        if i % 50 == 0:
            draw = arguments(rng)
        name = rng.choice(names)
        first = [draw() for _ in range(5)] if name.startswith("Tensor.") else []
        args = [t for t in first if isinstance(t, fg.Tensor)][:1]
        args += [draw() for _ in range(rng.choice([0, 1, 1, 2, 2, 3]))]
        kwargs = {rng.choice(KEYWORDS): draw() for _ in range(rng.choice([0, 0, 0, 1, 2]))}
        kinds = [type(a).__name__ + str(getattr(a, "shape", "")) for a in [*args, *kwargs.values()]]
        os.write(1, f"{i} {name} {kinds} {list(kwargs)}\n".encode())
        try:
            result = FUNCTIONS[name](*args, **kwargs)
            if isinstance(result, fg.Tensor) and result.size < 1000:
                repr(result)
                if result.requires_grad and rng.random() < 0.5:
                    result.backward(np.ones(result.shape))
        except ALLOWED:
            pass
        if not _core.grad_enabled():
            raise AssertionError("recording was left switched off")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    fg.ones(2) * 2
    main(0, 20)  # makes what is made only once
    gc.collect()
    before = _core.live()
    main(int(sys.argv[1]), int(sys.argv[2]))
    gc.collect()
    after = _core.live()
    for what in ("nodes", "arrays", "bytes"):
        if after[what] != before[what]:
            sys.exit(f"leaked {what}: {before[what]} before, {after[what]} after")
