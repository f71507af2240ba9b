"""Interrupts, or lack of memory, during all kinds of work (test_interrupts.py).

`python _storm.py interrupts N SEED`: N signals that raise KeyboardInterrupt come at random moments in each workload.
`python _storm.py memory N SEED`: one of Python's allocations fails, in each run of a workload about N further on.
`python _storm.py ctrl_c N SEED descend`: N times one or two real SIGINTs during a descent.

After each one no trace, transform or other context of the thread may be left open, and the parameters of training steps
must be those of whole steps; at the end the workload must give what it gave before.
"""

import random
import signal
import sys
import threading
import time
import timeit
import warnings

import numpy as np

import fastgrad as fg
from fastgrad import _core

X = np.linspace(0.1, 1.0, 4)
CLEAN = {"grad_enabled": True, "transform": 0, "tracing": False, "traces": 0, "drawing": False,
         "promotions": False, "running": False, "no_grad": 0}  # fmt: skip


def f(x):
    return fg.sum(fg.tanh(x) * x)


@fg.custom_vjp
def with_vjp(x):
    return x * 2.0


with_vjp.defvjp(lambda x: (x * 2.0, x), lambda x, g: (g * 2.0,))


@fg.custom_jvp
def with_jvp(x):
    return fg.exp(x)


with_jvp.defjvps(lambda t, y, x: t * y)

with_primitive = fg.primitive(np.flip)  # np.cumsum of NumPy 2.0 crashes where it finds no memory
with_primitive.defvjp(lambda g, y, x: with_primitive(g))
with_primitive.defjvp(lambda t, y, x: with_primitive(t))

rng = fg.random.default_rng(0)
dropped = fg.checkpoint(lambda x: fg.tanh(x) * rng.random(4))


def quiet():
    for _ in range(5):
        with fg.no_grad():
            f(X)


@fg.no_grad()
def decorated():
    return f(X).item()


def scan(x):
    return fg.scan(lambda c, r: (c * fg.sin(r), c + r), fg.sum(x), x)[0]


def cond(x):
    return fg.cond(fg.sum(x) > 1.0, lambda x: fg.sum(x**2), lambda x: fg.sum(x), x)


def while_loop(x):
    return fg.while_loop(lambda c: c < 50.0, lambda c: c * 1.5, fg.sum(x))


def drawing(x):
    return fg.sum(dropped(x))


def deferred():
    with _core.DeferredInterrupt() as interrupt:
        return interrupt.seen


def compiled(g):
    def work():
        made = fg.compile(g)
        return made(X), made(X)

    return work


def training():
    params = {"w": np.ones(4)}
    step = fg.training_step(lambda p, x: ((p["w"] - x) ** 2).sum(), params, fg.optim.Adam(0.1))
    return [step(X) for _ in range(4)]


def eager_training():
    params = {"w": np.ones(4)}
    step = fg.training_step(lambda p, x: ((p["w"] - x) ** 2).sum(), params, fg.optim.SGD(0.1), compile=False)
    return [step(X) for _ in range(4)]


def stepping(optimizer, compile):
    """A step, and whether the parameters are those of as many whole steps as the optimizer has counted."""
    params, after = {"w": np.ones(4)}, []

    def loss(p, x):
        return ((p["w"] - x) ** 4).sum()

    step = fg.training_step(loss, params, optimizer, compile=compile)
    reference = {"w": np.ones(4)}
    other = fg.training_step(loss, reference, type(optimizer)(0.01), compile=compile)

    def check():
        while len(after) <= optimizer.steps:
            after.append(reference["w"].copy())
            other(X)
        if not np.array_equal(params["w"], after[optimizer.steps]):
            near = [n for n, w in enumerate(after) if np.array_equal(params["w"], w)]
            sys.exit(f"training step: {optimizer.steps} steps were counted, but the parameters are those of {near}")

    return lambda: [None for _ in range(20) if step(X) is None], check


STEPS = {
    "SGD": stepping(fg.optim.SGD(0.01), True),
    "Adam": stepping(fg.optim.Adam(0.01), True),
    "Adam, eager": stepping(fg.optim.Adam(0.01), False),
}

WORK = {
    "no_grad": quiet,
    "no_grad as a decorator": decorated,
    "grad": lambda: fg.grad(f)(X),
    "grad of grad": lambda: fg.grad(lambda x: fg.sum(fg.grad(f)(x)))(X),
    "backward": lambda: f(fg.tensor(X, requires_grad=True)).backward(),
    "vjp": lambda: fg.vjp(f, X)[1](1.0),
    "jvp": lambda: fg.jvp(f, (X,), (X,)),
    "jvp within grad": lambda: fg.grad(lambda x: fg.jvp(f, (x,), (X,))[1])(X),
    "linearize": lambda: fg.linearize(f, X)[1](X),
    "jacobian": lambda: fg.jacobian(fg.tanh)(X),
    "hessian": lambda: fg.hessian(f)(X),
    "hvp": lambda: fg.hvp(f, (X,), (X,)),
    "vmap": lambda: fg.vmap(fg.grad(fg.tanh))(X),
    "custom_vjp": lambda: fg.grad(lambda x: fg.sum(with_vjp(x) ** 2))(X),
    "custom_jvp": lambda: (fg.grad(lambda x: fg.sum(with_jvp(x)))(X), fg.jvp(with_jvp, (X,), (X,))),
    "primitive": lambda: fg.grad(lambda x: fg.sum(with_primitive(x) ** 2))(X),
    "checkpoint": lambda: fg.grad(lambda x: fg.sum(fg.checkpoint(fg.tanh)(x)))(X),
    "checkpoint that draws": lambda: fg.grad(drawing)(X) * 0,
    "scan": lambda: (scan(X), fg.grad(scan)(X), fg.jvp(scan, (X,), (X,))),
    "cond": lambda: (cond(X), fg.grad(cond)(X)),
    "while_loop": lambda: (while_loop(X), fg.jvp(while_loop, (X,), (X,))),
    "compile": compiled(f),
    "compiled gradient": compiled(fg.grad(f)),
    "compiled hessian": compiled(fg.hessian(f)),
    "compiled scan": compiled(fg.grad(scan)),
    "compiled cond": compiled(fg.grad(cond)),
    "compiled while_loop": compiled(while_loop),
    "compiled vmap": compiled(fg.vmap(fg.grad(fg.tanh))),
    "training step": training,
    "eager training step": eager_training,
    **{f"steps by {name}": work for name, (work, _) in STEPS.items()},
    "deferred interrupts": lambda: [None for _ in range(20) if deferred()],
    "descend": lambda: fg.descend(lambda p, x: ((p - x) ** 2).mean(), np.zeros(2), np.ones((8, 2)), optimizer="sgd",
                                  steps=4, batch_size=3, seed=0).history.tolist(),
    "sparse jacobian": lambda: fg.sparse.jacobian(lambda x: x[1:] * x[:-1])(X).toarray(),
    "minimize": lambda: fg.minimize(lambda x: fg.sum((x - 1) ** 2), X).x,
    "check_grads": lambda: fg.testing.check_grads(f, X),
}  # fmt: skip


def interrupt(number, frame):
    raise KeyboardInterrupt


def quietly(unraisable):
    """An interrupt or lack of memory within a finalizer is not reported."""
    if unraisable.exc_type not in (KeyboardInterrupt, MemoryError):
        sys.__unraisablehook__(unraisable)


def stop():
    """No further interrupt, also none that is under way."""
    while True:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0)
            return
        except KeyboardInterrupt:
            continue


def storm(name, work, interrupts, draw):
    """Interrupt work so many times."""
    expected = work()
    took = max(min(timeit.repeat(work, number=1, repeat=5)), 1e-4)  # the least: a busy machine only makes it longer
    seen = tries = 0
    while seen < interrupts and tries < 20 * interrupts:
        tries += 1
        try:
            signal.setitimer(signal.ITIMER_REAL, draw.uniform(1e-6, took))
            work()
            stop()
        except KeyboardInterrupt:
            stop()
            seen += 1
        check_thread(name, f"after interrupt {seen}")
    if seen < interrupts / 2:
        sys.exit(f"{name}: only {seen} interrupts came in {tries} runs of {took:.2g} s")
    found = work()
    np.testing.assert_equal(plain(found), plain(expected), name)


def lack_of_memory(name, work, stride, draw):
    """Let one allocation after the other fail, until the workload makes no more."""
    import _testcapi  # here, as not every Python has it

    expected = work()
    at, whole = 1, 0
    while whole < 3 and at < 4000:
        _testcapi.set_nomemory(at, at + 1)
        try:
            work()
            whole += 1
        except Exception:  # a MemoryError, or what somebody else's code makes of it
            whole = 0
        finally:
            _testcapi.remove_mem_hooks()
        check_thread(name, f"without memory from allocation {at} on")
        at += draw.randrange(1, 2 * stride)
    np.testing.assert_equal(plain(work()), plain(expected), name)


def ctrl_c(name, interrupts, draw):
    """Real SIGINTs, one or two, from another thread while a descent runs, which holds the first one back."""
    optimizer = fg.optim.Adam(0.01)
    steps = []

    def descent():
        steps.append(fg.descend(lambda p, x: ((p - x) ** 2).mean(), np.zeros(2), np.ones((8, 2)), optimizer=optimizer,
                                steps=50, batch_size=3, seed=0).steps)  # fmt: skip

    def send(delays):
        for delay in delays:
            time.sleep(delay)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    start = time.perf_counter()
    descent()
    took = time.perf_counter() - start
    for k in range(interrupts):
        sender = threading.Thread(target=send, args=([draw.uniform(0, took) for _ in range(1 + k % 2)],))
        try:
            sender.start()
            descent()
        except KeyboardInterrupt:
            pass
        while sender.is_alive():
            try:
                sender.join()
            except KeyboardInterrupt:
                pass
        check_thread(name, f"after interrupt {k}")


def check_thread(name, when):
    state = _core.thread_state()
    if state != CLEAN:
        sys.exit(f"{name}: {when} the thread has contexts that are still entered: {state}")
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        sys.exit(f"{name}: {when} Ctrl-C is handled by {signal.getsignal(signal.SIGINT)}")
    for _, check in STEPS.values():
        check()


def plain(x):
    return fg.tree.map(lambda leaf: leaf.numpy() if isinstance(leaf, fg.Tensor) else leaf, x)


if __name__ == "__main__":
    kind, number, seed, *wanted = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a process in the background ignores
    warnings.simplefilter("ignore")  # a loss that could not be traced runs eagerly, as it should
    for k, name in enumerate(wanted or WORK):
        WORK[name]()  # imports what it needs
        signal.signal(signal.SIGALRM, interrupt)
        sys.unraisablehook = quietly
        if kind == "ctrl_c":
            ctrl_c(name, int(number), random.Random(int(seed)))
            continue
        (storm if kind == "interrupts" else lack_of_memory)(name, WORK[name], int(number), random.Random(int(seed) + k))
