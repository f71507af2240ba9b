"""Single operations: `a + b` of ten elements, where all is overhead, and 1000x1000, where all is arithmetic."""

import numpy as np
import pytest
from _compare import compare, one_thread, peer

import fastgrad as fg

torch = peer("torch")

# name: (ours, PyTorch's name, where the input is drawn from)
FUNCTIONS = {
    "tanh": (fg.tanh, "tanh", (-4, 4)),
    "exp": (fg.exp, "exp", (-4, 4)),
    "sigmoid": (fg.sigmoid, "sigmoid", (-6, 6)),
    "log": (fg.log, "log", (0.1, 10)),
    "gelu": (fg.gelu, "nn.functional.gelu", (-4, 4)),
    "softmax": (lambda x: fg.softmax(x, axis=1), "softmax", (-4, 4)),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_add_ten(benchmark, dtype):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 10)).astype(dtype)
    ours = "a + b", {"a": fg.tensor(a, requires_grad=True), "b": fg.tensor(b, requires_grad=True)}
    assert (ours[1]["a"] + ours[1]["b"]).requires_grad
    peers = {"NumPy, no tape": ("a + b", {"a": a, "b": b})}
    if torch:
        peers["PyTorch"] = "a + b", {n: torch.tensor(v, requires_grad=True) for n, v in (("a", a), ("b", b))}
    compare(benchmark, f"a + b, 10 of {dtype}", ours, peers, {"NumPy, no tape": 0.5})


@pytest.mark.parametrize("name", FUNCTIONS)
def test_forward_and_backward(benchmark, name):
    function, torch_name, (low, high) = FUNCTIONS[name]
    rng = np.random.default_rng(0)
    data = rng.uniform(low, high, (1000, 1000)).astype(np.float32)
    cotangent = rng.standard_normal((1000, 1000)).astype(np.float32)
    peers = {}

    x, g = fg.tensor(data, requires_grad=True), fg.tensor(cotangent)

    def ours():
        x.zero_grad()
        y = function(x)
        y.backward(g)
        return y.detach(), x.grad

    if torch:
        theirs = torch
        for part in torch_name.split("."):
            theirs = getattr(theirs, part)
        arguments = {"dim": 1} if name == "softmax" else {}
        torch_x, torch_g = torch.tensor(data, requires_grad=True), torch.tensor(cotangent)

        def in_torch():
            torch_x.grad = None
            y = theirs(torch_x, **arguments)
            y.backward(torch_g)
            return y.detach(), torch_x.grad

        peers["PyTorch"] = in_torch
    with one_thread():
        compare(benchmark, f"{name}, 1000x1000 float32", ours, peers, {"PyTorch": 0.7}, rtol=1e-4, atol=1e-5)
