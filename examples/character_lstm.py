"""A character LSTM learns to write a short text: a recurrent net by `scan`, gradients clipped by their norm."""

import numpy as np

import fastgrad as fg

text = (
    "the derivative of a sum is the sum of the derivatives. the derivative of a product is the first times the "
    "derivative of the second plus the second times the derivative of the first. the chain rule multiplies the "
    "derivative of the outer function by the derivative of the inner one. "
)
letters = sorted(set(text))
codes = np.array([letters.index(letter) for letter in text])
hidden, length, batch = 64, 48, 16

rng = np.random.default_rng(0)
scale = 1 / np.sqrt(hidden)
params = {
    "embed": 0.5 * rng.normal(size=(len(letters), 4 * hidden)),
    "recur": rng.uniform(-scale, scale, (hidden, 4 * hidden)),
    "bias": np.repeat([0.0, 1.0, 0.0, 0.0], hidden),  # of the gates: in, forget, new, out; it forgets little at first
    "read": rng.uniform(-scale, scale, (hidden, len(letters))),
}
params = {name: value.astype(np.float32) for name, value in params.items()}


def cell(params, state, code):
    h, c = state
    gates = params["embed"][code] + h @ params["recur"] + params["bias"]
    enter, forget, new, out = fg.split(gates, 4, axis=-1)
    c = fg.sigmoid(forget) * c + fg.sigmoid(enter) * fg.tanh(new)
    h = fg.sigmoid(out) * fg.tanh(c)
    return (h, c), h


def loss(params, codes):
    """The mean cross entropy of each letter after those before it; codes: (length + 1, batch)."""
    zero = np.zeros((codes.shape[1], hidden), np.float32)
    _, h = fg.scan(lambda state, code: cell(params, state, code), (zero, zero), codes[:-1])
    return fg.losses.softmax_cross_entropy((h @ params["read"]).reshape(-1, len(letters)), codes[1:].reshape(-1))


step = fg.training_step(loss, params, fg.optim.Adam(0.01), clip_norm=1.0)
for number in range(401):
    starts = rng.integers(0, len(codes), batch)
    value = step(codes[(starts + np.arange(length + 1)[:, None]) % len(codes)])
    if number % 100 == 0:
        print(f"step {number:4d}  loss {value:.3f}")


advance = fg.compile(cell)


def continued(start, count):
    """The likeliest letter after each, after a beginning."""
    state, written = (np.zeros(hidden, np.float32),) * 2, list(start)
    for k in range(len(start) + count - 1):
        state, h = advance(step.params, state, letters.index(written[k]))
        if k >= len(start) - 1:
            written.append(letters[int(np.argmax(h @ step.params["read"]))])
    return "".join(written)


print(continued("the chain", 60))
