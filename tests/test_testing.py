"""check_grads must find wrong gradients, and say where they are."""

import numpy as np
import pytest

import fastgrad as fg
from fastgrad import testing


def wrong(x):
    """x^3 with the gradient of a constant for its second entry."""
    return fg.concatenate([x[:1], fg.stop_gradient(x[1:2]), x[2:]]) ** 3


def test_it_is_public_in_both_places():
    assert fg.check_grads is testing.check_grads


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_right_gradients_pass(dtype, capsys):
    rng = np.random.default_rng(0)
    w, b = rng.standard_normal((3, 2)).astype(dtype), rng.standard_normal(2).astype(dtype)
    x, label = rng.standard_normal((4, 3)).astype(dtype), np.array([0, 1, 1, 0])

    def f(params, x, label):
        y = fg.tanh(x @ params["layer"][0] + params["layer"][1])
        return {"loss": fg.losses.softmax_cross_entropy(y, label), "y": (y, y[0, 0])}

    assert testing.check_grads(f, ({"layer": [w, b]}, x, label)) is None
    assert capsys.readouterr() == ("", "")


def test_any_shape_in_and_out():
    testing.check_grads(fg.exp, (0.5,))
    testing.check_grads(fg.exp, np.float32(0.5))
    testing.check_grads(fg.exp, np.zeros((0, 3)))
    testing.check_grads(fg.exp, np.ones((2, 1, 3))[::-1])
    testing.check_grads(lambda x: x.reshape((3, 2)).T, np.arange(6.0))
    testing.check_grads(lambda x, y: [x * y, None, x], (np.ones(2), 3.0))
    testing.check_grads(lambda x: np.tanh(x), np.ones(2))


def test_arguments_are_left_alone():
    x = np.array([1.0, 2.0])
    x.flags.writeable = False
    testing.check_grads(fg.square, (x,))
    np.testing.assert_array_equal(x, [1, 2])


def test_a_wrong_gradient_is_shown_at_its_worst_entry():
    with pytest.raises(AssertionError) as caught:
        testing.check_grads(lambda p: wrong(p["w"][0]).sum(), ({"w": [np.array([1.0, 2.0, 3.0])]},))
    text = str(caught.value)
    assert text.startswith("check_grads: 1 of 3 entries of the gradient are wrong, the worst at\n")
    assert "args[0]['w'][0][1]: reverse mode gives 0, central differences " in text
    assert "is allowed" in text


def test_the_gradient_of_another_function_fails():
    flipped = lambda x: 2 * fg.stop_gradient(x * x) - x * x
    with pytest.raises(AssertionError, match="args\\[0\\]: reverse mode gives -"):
        testing.check_grads(flipped, 3.0)
    nan = lambda x: fg.where(x > 0, x, x) * 0 / 0 * x
    with np.errstate(all="ignore"), pytest.raises(AssertionError, match="reverse mode gives nan"):
        testing.check_grads(nan, 3.0)


def test_small_errors_fail_and_tolerances_are_obeyed():
    nearly = lambda x: x * x + 1e-4 * fg.stop_gradient(x)
    with pytest.raises(AssertionError):
        testing.check_grads(nearly, 1.0)
    testing.check_grads(nearly, 1.0, atol=1e-3)
    testing.check_grads(nearly, 1.0, rtol=1e-3)
    testing.check_grads(lambda x: 1e6 * x + 0.1 * fg.stop_gradient(x), 1.0)
    with pytest.raises(AssertionError):
        testing.check_grads(fg.exp, 1.0, atol=0, rtol=0)
    with pytest.raises(AssertionError):
        testing.check_grads(fg.exp, 1.0, eps=0.1)


def test_differences_are_taken_in_float64():
    """With float32 differences a gradient of 1e-3 on a value of 1e4 would drown."""
    testing.check_grads(lambda x: 1e4 + 1e-3 * x, np.float32(1.0), atol=1e-7, rtol=1e-4)


def test_a_function_that_returns_float32_has_wider_differences():
    testing.check_grads(lambda x: fg.tanh(x.astype(np.float32)), np.array([0.3, -0.2]))


def test_what_it_cannot_do_yet_it_says():
    with pytest.raises(ValueError, match="^check_grads: expected modes of 'fwd' and 'rev', got .'forward',.$"):
        testing.check_grads(fg.exp, 1.0, modes=("forward",))


@pytest.mark.parametrize(
    "f, options, error, message",
    [
        (3, {}, TypeError, "expected a function, got 3"),
        (fg.exp, {"order": 0}, ValueError, "order is 0, expected an integer above 0"),
        (fg.exp, {"order": 1.5}, TypeError, "order is 1.5, expected an integer above 0"),
        (fg.exp, {"eps": 0.0}, ValueError, "eps is 0.0, expected a finite number above 0"),
        (fg.exp, {"atol": -1.0}, ValueError, "atol is -1.0, expected a finite number of at least 0"),
        (fg.exp, {"rtol": "1"}, TypeError, "rtol is '1', expected a finite number of at least 0"),
    ],
)
def test_arguments_are_checked(f, options, error, message):
    with pytest.raises(error) as raised:
        testing.check_grads(f, (1.0,), **options)
    assert str(raised.value) == f"check_grads: {message}"


def test_forward_mode_is_checked():
    with pytest.raises(AssertionError) as caught:
        testing.check_grads(lambda x: (x, wrong(x)), (np.array([1.0, 2.0, 3.0]),), modes=("fwd",))
    text = str(caught.value)
    assert text.startswith("check_grads: 1 of 6 entries of the tangent are wrong, the worst at\n")
    assert "result 1[1]: forward mode gives 0, central differences " in text


def test_nothing_to_check_is_an_error():
    with pytest.raises(TypeError, match="^check_grads: args hold no float32 or float64 arrays to differentiate$"):
        testing.check_grads(fg.exp, (np.arange(3),))
    with pytest.raises(TypeError, match="^check_grads: f returned no float32 or float64 array or tensor$"):
        testing.check_grads(lambda x: x > 0, 1.0)


@pytest.mark.parametrize("modes", [("rev",), ("fwd", "rev")])
def test_second_order_varies_cotangents_too(modes):
    """A rule that is right, made of a function whose own rule is wrong: only a derivative by the cotangent tells."""

    def rule(factor):
        bar = fg.primitive(np.copy)
        bar.defvjp(lambda g, y, x: g * factor)

        @fg.custom_vjp
        def f(x):
            return x * x

        f.defvjp(lambda x: (x * x, x), lambda x, g: (2 * x * bar(g),))
        return f

    x = np.array([1.0, 2.0])
    testing.check_grads(rule(1.0), (x,), order=2, modes=("rev",))
    testing.check_grads(rule(1.001), (x,), modes=("rev",))
    with pytest.raises(AssertionError, match="of the gradient of the gradient are wrong(.|\n)*cotangent"):
        testing.check_grads(rule(1.001), (x,), order=2, modes=("rev",))


def test_second_order_varies_directions_too():
    bar = fg.primitive(np.copy)
    bar.defjvp(lambda t, y, x: t * 1.001)

    @fg.custom_jvp
    def f(x):
        return x * x

    @f.defjvp
    def slope(primals, tangents):
        return primals[0] ** 2, 2 * primals[0] * bar(tangents[0])

    testing.check_grads(f, (np.array([1.0, 2.0]),), modes=("fwd",))
    with pytest.raises(AssertionError, match="of the tangent of the tangent are wrong"):
        testing.check_grads(f, (np.array([1.0, 2.0]),), order=2, modes=("fwd",))


# ---- many differences in one call -----------------------------------------------------------------------------------
def product(x):
    return fg.tanh(x[1:] * x[:-1])


@pytest.mark.parametrize("order", [1, 2])
def test_differences_are_taken_many_at_once(order):
    calls = []

    def f(x, k):
        calls.append(x.shape)
        return {"y": product(x), "sum": (x * k).sum()}

    testing.check_grads(f, (np.linspace(0.1, 1, 300), 2.0), order=order)
    assert len(calls) < (60 if order == 1 else 400), len(calls)  # one by one these are 600, and 3,000
    testing.check_grads(lambda x: product(x.reshape(-1)), np.linspace(0.1, 1, 60, dtype=np.float32).reshape(3, 20))


@pytest.mark.parametrize("order", [1, 2])
def test_a_wrong_entry_among_many_is_told_as_if_taken_alone(order, monkeypatch):
    texts = []
    for many in (testing._MANY, 10_000):
        monkeypatch.setattr(testing, "_MANY", many)
        with pytest.raises(AssertionError) as caught:
            testing.check_grads(lambda x: product(wrong(x)), np.linspace(0.5, 1, 40), order=order)
        texts.append(str(caught.value))
    assert texts[0] == texts[1]
    assert texts[0].startswith("check_grads: 1 of 40 entries of the gradient are wrong, the worst at\n  args[0][1]: ")


def test_a_function_that_cannot_be_mapped_is_checked_entry_by_entry():
    def branch(x, factor=1.0):
        assert float(fg.stop_gradient(x[0])) > 0
        return product(x) + (factor - 1) * fg.stop_gradient(x[1:])

    x = np.linspace(0.1, 1, 40)
    testing.check_grads(branch, x)
    with pytest.raises(AssertionError, match="check_grads: 39 of 40 entries of the gradient are wrong"):
        testing.check_grads(lambda x: branch(x, 2.0), x)


def test_what_batching_gets_wrong_is_not_blamed_on_the_gradient():
    @fg.custom_vjp
    def cube(x):
        return x**3 if not fg._core.tracing() else x**2

    cube.defvjp(lambda x: (x**3, x), lambda x, g: (3 * x**2 * g,))
    testing.check_grads(lambda x: cube(x).sum(), np.linspace(0.5, 1, 40), modes=["rev"])
