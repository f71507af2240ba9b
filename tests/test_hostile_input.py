"""Input made to do harm must raise an error and never crash, hang or leave anything behind."""

import contextlib
import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest
from _oracles import ADDRESS_SANITIZER

import fastgrad as fg


def limit_memory():
    """For a child that asks for absurd amounts. The address sanitizer reserves terabytes and has a limit of its own."""
    import resource

    if not ADDRESS_SANITIZER:
        resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32))


def run(*arguments, timeout=120):
    """A child Python that imports the fastgrad under test. Its last line of output says what it was doing."""
    home = str(Path(fg.__file__).parent.parent)
    path = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))
    child = subprocess.run(
        [sys.executable, *map(str, arguments)], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True,
        timeout=timeout, preexec_fn=limit_memory,
    )  # fmt: skip
    doing = child.stdout.strip().splitlines()[-1:]
    assert child.returncode == 0, f"exit code {child.returncode} in {doing}\n{child.stderr[-2000:]}"


# Each of these once crashed, hung, or read outside of its array.
HARM = """
fg.Tensor.__new__(fg.Tensor).shape
fg.Tensor().shape
object.__new__(fg.Tensor)
copy.copy(fg.Tensor)([1.0]).shape
fg.Tensor.tolist(3)
fg.Tensor.__add__(3, 4)
fg.Tensor.shape.__get__(3)
fg.tensor(endless)
fg.tensor([endless, w])
fg.concatenate(endless)
w + endless
fg.zeros((2, 3000)).transpose((Answers(1, 0), Answers(0, 0)))[0] * 1
fg.zeros((5, 7))[Answers(0)] * 1
fg.zeros((5, 7))[Answers(0), Answers(9)] * 1
fg.zeros((5, 7)).reshape([Answers(5, 70), 7]) * 1
fg.sum(x, axis=Answers(0, 40))
fg.broadcast_to(1.0, (Answers(3, 2**40),)) * 1
fg.take(x, [Answers(0, 99)])
x[::2**70], x[2**70:], x[:-(2**70)], x[::-(2**63)]
fg.zeros((2**31, 2**31))
fg.ones(2**62)
fg.broadcast_to(w, (2**50, 2, 3))
fg.broadcast_to(1.0, (2**62,))
w.sum().backward(retain_graph=2**70)
w.sum().backward(1.0, Answers("a"))
fg.softmax(fg.zeros((0, 3))).sum() + fg.logsumexp(fg.zeros((3, 0)), axis=1).sum()
sys.setrecursionlimit(10**6) or fg.tensor(deep)
format(w, 3)
""".strip().splitlines()
PROGRAM = f"""
import copy, os, sys
import numpy as np, fastgrad as fg

class Answers:
    def __init__(self, *answers):
        self.answers = list(answers)
    def __index__(self):
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
    def __eq__(self, other):
        return True
    def __bool__(self):
        raise ValueError

endless = []
endless.append(endless)
deep = []
for _ in range(100_000):
    deep = [deep]
for code in {HARM!r}:
    os.write(1, code.encode() + b"\\n")
    x, w = fg.zeros((2, 3)), fg.ones((2, 3), requires_grad=True)
    try:
        eval(code)
    except (TypeError, ValueError, IndexError, RuntimeError, OverflowError, MemoryError):
        pass
"""
unix = pytest.mark.skipif(sys.platform == "win32", reason="limits the child's memory")


@unix
def test_harm_is_refused():
    run("-c", PROGRAM)


@unix
@pytest.mark.parametrize("seed", [1, 2, 3, *(pytest.param(n, marks=pytest.mark.slow) for n in range(4, 60))])
def test_random_wrong_calls(seed):
    run(Path(__file__).parent / "_fuzz.py", seed, 4000)


def test_objects_of_the_core_that_are_made_bare_are_refused_or_harmless():
    whole = set(
        "Tensor Program Node Guard Sight Here _Export Entry Grads Static Running Carry Results Counter "
        "Rows UpdateRule DeferZeros HostFunction Drawing".split()
    )
    classes = [c for c in vars(fg._core).values() if isinstance(c, type) and c.__module__ == "fastgrad._core"]
    assert whole <= {c.__name__ for c in classes}
    for c in classes:
        for make in (c, functools.partial(c.__new__, c), functools.partial(object.__new__, c)):
            try:
                made = make()
            except TypeError:
                continue
            assert c.__name__ not in whole, c
            repr(made), hash(made)
            leave = getattr(made, "__exit__", None)
            with contextlib.suppress(RuntimeError):
                if leave is not None:  # before it is entered
                    leave(None, None, None)
