"""Training steps by plain SGD, the loss as a Python float: the digits net, 64-128-10 with tanh and a batch of 64; and
word2vec, two tables of 200,000 x 64 of which a batch of 512 reads 7 rows for each of its words. Then, by Adam, the
update alone, epochs of the digits net and a character LSTM; what `descend` adds to a step, and what a column-major
table takes."""

import timeit
import warnings
from contextlib import nullcontext

import numpy as np
import pytest
from _compare import compare, limit, one_thread, peer

import fastgrad as fg

RATE = 0.1
torch, jax, sklearn = peer("torch"), peer("jax"), peer("sklearn.neural_network")


def initial():
    rng = np.random.default_rng(0)
    params = {
        "w1": rng.standard_normal((64, 128)) / 8,
        "b1": rng.standard_normal(128) / 8,
        "w2": rng.standard_normal((128, 10)) / 11,
        "b2": rng.standard_normal(10) / 11,
    }
    x, labels = rng.uniform(0, 1, (64, 64)), rng.integers(0, 10, 64)
    return {name: value.astype(np.float32) for name, value in params.items()}, x.astype(np.float32), labels


def first_steps(step, params, n=5):
    """The losses of n steps from the start, and the parameters after them: what all contenders must agree on."""
    losses = [step() for _ in range(n)]
    return [np.asarray(losses), *(np.array(params()[name]) for name in ("w1", "b1", "w2", "b2"))]


def by_fastgrad(compile=True):
    params, x, labels = initial()

    def loss(params, x, labels):
        hidden = fg.tanh(x @ params["w1"] + params["b1"])
        return fg.losses.softmax_cross_entropy(hidden @ params["w2"] + params["b2"], labels)

    step = fg.training_step(loss, params, fg.optim.SGD(learning_rate=RATE), compile=compile)
    return lambda: step(x, labels), lambda: step.params


def by_torch(**options):
    params, x, labels = initial()
    params = {name: torch.tensor(value, requires_grad=True) for name, value in params.items()}
    x, labels = torch.tensor(x), torch.tensor(labels)
    optimizer = torch.optim.SGD(params.values(), lr=RATE, **options)

    def step():
        optimizer.zero_grad()
        hidden = torch.tanh(torch.addmm(params["b1"], x, params["w1"]))
        loss = torch.nn.functional.cross_entropy(torch.addmm(params["b2"], hidden, params["w2"]), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step, lambda: {name: value.detach().numpy() for name, value in params.items()}


def by_jax():
    params, x, labels = initial()
    state = {"params": jax.tree.map(jax.numpy.asarray, params)}
    x, labels = jax.numpy.asarray(x), jax.numpy.asarray(labels)

    def loss(params, x, labels):
        hidden = jax.numpy.tanh(x @ params["w1"] + params["b1"])
        logits = jax.nn.log_softmax(hidden @ params["w2"] + params["b2"])
        return -jax.numpy.take_along_axis(logits, labels[:, None], axis=1).mean()

    @jax.jit
    def update(params, x, labels):
        value, gradient = jax.value_and_grad(loss)(params, x, labels)
        return value, jax.tree.map(lambda p, g: p - RATE * g, params, gradient)

    def step():
        value, state["params"] = jax.block_until_ready(update(state["params"], x, labels))
        return float(value)

    return step, lambda: state["params"]


def by_numpy():
    """The same gradients written out by hand."""
    params, x, labels = initial()
    w1, b1, w2, b2 = params.values()
    rows = np.arange(len(x))

    def step():
        hidden = np.tanh(x @ w1 + b1)
        logits = hidden @ w2 + b2
        logits -= logits.max(axis=1, keepdims=True)
        p = np.exp(logits)
        total = p.sum(axis=1, keepdims=True)
        loss = np.log(total).mean() - logits[rows, labels].mean()
        p /= total
        p[rows, labels] -= 1
        p /= np.float32(len(x))
        g = (p @ w2.T) * ((1 + hidden) * (1 - hidden))
        w2[...] -= RATE * (hidden.T @ p)
        b2[...] -= RATE * p.sum(axis=0)
        w1[...] -= RATE * (x.T @ g)
        b1[...] -= RATE * g.sum(axis=0)
        return float(loss)

    return step, lambda: params


@pytest.mark.parametrize("threads", ["one thread", "all threads"])
def test_training_step(benchmark, threads):
    with one_thread() if threads == "one thread" else nullcontext():
        contenders = {"fastgrad": by_fastgrad(), "NumPy by hand": by_numpy()}
        if torch:
            contenders |= {"PyTorch": by_torch(), "PyTorch, fused SGD": by_torch(fused=True)}
        if jax and threads == "all threads":  # its number of threads is fixed when it starts
            contenders["jax.jit"] = by_jax()
        expected = first_steps(*contenders["fastgrad"])
        for name, contender in contenders.items():
            if name != "fastgrad":
                for mine, theirs in zip(expected, first_steps(*contender), strict=True):
                    np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6, err_msg=name)
        steps = {name: step for name, (step, _) in contenders.items()}
        ours = steps.pop("fastgrad")
        compare(benchmark, f"digits net, batch 64, {threads}", ours, steps, {"PyTorch": 1 / 8})


def test_training_step_on_the_tape(benchmark):
    """The same with compile=False: the loss runs as Python at each step."""
    with one_thread():
        contenders = {"fastgrad": by_fastgrad(compile=False)} | ({"PyTorch": by_torch()} if torch else {})
        first = {name: first_steps(*contender) for name, contender in contenders.items()}
        for name, found in first.items():
            for mine, theirs in zip(first["fastgrad"], found, strict=True):
                np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6, err_msg=name)
        steps = {name: step for name, (step, _) in contenders.items()}
        compare(benchmark, "digits net, batch 64, not compiled", steps.pop("fastgrad"), steps, {"PyTorch": 1 / 8})


# ---- word2vec: skip-gram with negative sampling --------------------------------------------------------------------
WORDS, WIDTH, BATCH, NEGATIVE = 200_000, 64, 512, 5


def tables():
    rng = np.random.default_rng(0)
    params = {name: (rng.standard_normal((WORDS, WIDTH)) / 8).astype(np.float32) for name in ("words", "contexts")}
    shapes = BATCH, BATCH, (BATCH, NEGATIVE)
    batches = [tuple(rng.integers(0, WORDS, shape) for shape in shapes) for _ in range(64)]
    return params, batches


def in_turn(step, batches):
    """A function that takes a step on the next of the batches, which read other rows."""
    count = iter(range(10**12))
    return lambda: step(*batches[next(count) % len(batches)])


def word2vec_by_fastgrad():
    params, batches = tables()

    def loss(params, centre, context, negative):
        v, vocabulary = params["words"][centre], params["contexts"]
        right = fg.sum(v * vocabulary[context], axis=1)
        wrong = fg.sum(v[:, None] * vocabulary[negative], axis=2)
        return fg.mean(fg.logaddexp(0.0, -right)) + fg.mean(fg.sum(fg.logaddexp(0.0, wrong), axis=1))

    step = fg.training_step(loss, params, fg.optim.SGD(learning_rate=RATE))
    return in_turn(step, batches), lambda: step.params


def word2vec_by_torch(sparse):
    params, batches = tables()
    params = {name: torch.tensor(value, requires_grad=True) for name, value in params.items()}
    batches = [tuple(map(torch.tensor, batch)) for batch in batches]
    optimizer = torch.optim.SGD(params.values(), lr=RATE)
    embedding, softplus = torch.nn.functional.embedding, torch.nn.functional.softplus

    def step(centre, context, negative):
        optimizer.zero_grad()
        v = embedding(centre, params["words"], sparse=sparse)
        right = (v * embedding(context, params["contexts"], sparse=sparse)).sum(1)
        wrong = (v[:, None] * embedding(negative, params["contexts"], sparse=sparse)).sum(2)
        loss = softplus(-right).mean() + softplus(wrong).sum(1).mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    return in_turn(step, batches), lambda: {name: value.detach().numpy() for name, value in params.items()}


def word2vec_by_numpy():
    """The same gradients written out by hand, added to the rows."""
    params, batches = tables()
    words, contexts = params.values()

    def step(centre, context, negative):
        v, u, w = words[centre], contexts[context], contexts[negative]
        right, wrong = np.sum(v * u, axis=1), np.sum(v[:, None] * w, axis=2)
        loss = np.logaddexp(0, -right).mean() + np.logaddexp(0, wrong).sum(axis=1).mean()
        slope = (-RATE / BATCH / (1 + np.exp(right)))[:, None]
        slopes = (RATE / BATCH / (1 + np.exp(-wrong)))[:, :, None]
        np.subtract.at(words, centre, slope * u + np.sum(slopes * w, axis=1))
        np.subtract.at(contexts, context, slope * v)
        np.subtract.at(contexts, negative, slopes * v[:, None])
        return float(loss)

    return in_turn(step, batches), lambda: params


def test_word2vec(benchmark):
    with one_thread():
        contenders = {"fastgrad": word2vec_by_fastgrad(), "NumPy by hand": word2vec_by_numpy()}
        if torch:
            contenders |= {"PyTorch, sparse": word2vec_by_torch(True), "PyTorch, dense": word2vec_by_torch(False)}
        expected = None
        for name, (step, params) in contenders.items():
            found = [step() for _ in range(5)], *(params()[name].copy() for name in ("words", "contexts"))
            expected = expected or found
            for mine, theirs in zip(expected, found, strict=True):
                np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6, err_msg=name)
        steps = {name: step for name, (step, _) in contenders.items()}
        compare(benchmark, "word2vec, 200,000 x 64, batch 512 x (1 + 5)", steps.pop("fastgrad"), steps, {})


def agreeing(contenders, n=3, rtol=1e-4, atol=1e-6):
    """The steps of contenders {name: (step, params)}, of which n from the start gave the same losses and parameters."""
    expected = None
    for name, (step, params) in contenders.items():
        found = [np.asarray([step() for _ in range(n)]), *(np.array(a) for a in params())]
        expected = expected or found
        for mine, theirs in zip(expected, found, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=rtol, atol=atol, err_msg=name)
    return {name: step for name, (step, _) in contenders.items()}


# ---- Adam: the update alone ----------------------------------------------------------------------------------------
def adam_by_fastgrad(arrays, slopes):
    optimizer = fg.optim.Adam(1e-3)
    arrays = [a.copy() for a in arrays]
    return lambda: (optimizer.step(arrays, slopes), 0.0)[1], lambda: arrays


def adam_by_torch(arrays, slopes, **options):
    params = [torch.tensor(a, requires_grad=True) for a in arrays]
    for p, g in zip(params, slopes):
        p.grad = torch.tensor(g)
    optimizer = torch.optim.Adam(params, lr=1e-3, **options)
    return lambda: optimizer.step() or 0.0, lambda: [p.detach().numpy() for p in params]


def adam(arrays, slopes):
    contenders = {"fastgrad": adam_by_fastgrad(arrays, slopes)}
    if torch:
        contenders["PyTorch, fused Adam"] = adam_by_torch(arrays, slopes, fused=True)
        contenders["PyTorch, foreach"] = adam_by_torch(arrays, slopes, foreach=True)
    return agreeing(contenders)


def test_adam_of_many_small_parameters(benchmark):
    rng = np.random.default_rng(0)
    arrays, slopes = ([rng.standard_normal(10).astype(np.float32) for _ in range(1000)] for _ in range(2))
    with one_thread():
        steps = adam(arrays, slopes)
        compare(benchmark, "Adam, 1,000 x 10", steps.pop("fastgrad"), steps, {"PyTorch, fused Adam": 1 / 10})


def test_adam_of_one_large_parameter(benchmark):
    """Beside it the 7 streams of memory alone: 4 arrays are read, and 3 of them written."""
    rng = np.random.default_rng(0)
    arrays, slopes = ([rng.standard_normal(10_000_000).astype(np.float32)] for _ in range(2))
    with one_thread():
        steps = adam(arrays, slopes)
        steps.pop("PyTorch, foreach", None)
        p, g, m, v = (np.ones(10_000_000, np.float32) for _ in range(4))

        def streams():
            np.add(p, g, out=p)  # 3 streams,
            np.negative(m, out=m)  # 2
            np.negative(v, out=v)  # and 2
            return 0.0

        steps["NumPy, the same streams"] = streams
        compare(benchmark, "Adam, 10,000,000", steps.pop("fastgrad"), steps,
                {"PyTorch, fused Adam": 0.8, "NumPy, the same streams": 1.15})  # fmt: skip


# ---- an epoch of the digits net ------------------------------------------------------------------------------------
EPOCHS, EPOCH_ROWS, EPOCH_BATCH = 10, 1797, 32


def digits():
    datasets = peer("sklearn.datasets")
    if datasets:
        x, labels = datasets.load_digits(return_X_y=True)
        return (x / 16).astype(np.float32), labels
    rng = np.random.default_rng(0)
    return rng.uniform(0, 1, (EPOCH_ROWS, 64)).astype(np.float32), rng.integers(0, 10, EPOCH_ROWS)


def digits_loss(params, x, labels):
    hidden = fg.tanh(x @ params["w1"] + params["b1"])
    return fg.losses.softmax_cross_entropy(hidden @ params["w2"] + params["b2"], labels)


def epoch_by_fastgrad():
    params, _, _ = initial()
    x, labels = digits()

    def epoch():
        result = fg.descend(digits_loss, params, (x, labels), optimizer=fg.optim.Adam(1e-3), epochs=EPOCHS,
                            batch_size=EPOCH_BATCH, shuffle=False, progress=False)  # fmt: skip
        return result.params["w2"]

    return epoch


def epoch_by_torch():
    start, _, _ = initial()
    x, labels = (torch.tensor(a) for a in digits())

    def epoch():
        params = {name: torch.tensor(value, requires_grad=True) for name, value in start.items()}
        optimizer = torch.optim.Adam(params.values(), lr=1e-3)
        for k in [*range(0, len(x), EPOCH_BATCH)] * EPOCHS:
            optimizer.zero_grad()
            hidden = torch.tanh(torch.addmm(params["b1"], x[k : k + EPOCH_BATCH], params["w1"]))
            logits = torch.addmm(params["b2"], hidden, params["w2"])
            loss = torch.nn.functional.cross_entropy(logits, labels[k : k + EPOCH_BATCH])
            loss.backward()
            optimizer.step()
            loss.item()
        return params["w2"]

    return epoch


def epoch_by_sklearn():
    x, labels = digits()
    net = sklearn.MLPClassifier(
        (128,), activation="tanh", alpha=0, batch_size=EPOCH_BATCH, shuffle=False, random_state=0,
        max_iter=EPOCHS, tol=0, n_iter_no_change=100,
    )  # fmt: skip
    return lambda: net.fit(x, labels)


def test_epoch_of_digits(benchmark):
    with one_thread():
        peers = {"PyTorch": epoch_by_torch()} if torch else {}
        name = "digits net, an epoch of batches of 32"
        compare(benchmark, name, epoch_by_fastgrad(), peers, {"PyTorch": 1 / 20}, operations=EPOCHS)


def test_epoch_of_digits_by_sklearn(benchmark):
    """scikit-learn begins from weights of its own: what is compared is the time."""
    ours, peers = epoch_by_fastgrad(), {}
    if sklearn:
        fit = epoch_by_sklearn()
        peers["scikit-learn"] = lambda: fit() is None
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # so few epochs have not converged
        name = "digits net, an epoch of batches of 32"
        compare(benchmark, name, lambda: ours() is None, peers, {"scikit-learn": 1 / 5}, operations=EPOCHS)


# ---- a character LSTM ----------------------------------------------------------------------------------------------
LETTERS, HIDDEN, LENGTH, SEQUENCES = 32, 64, 32, 16


def lstm_start():
    rng = np.random.default_rng(0)
    shapes = {"embed": (LETTERS, HIDDEN), "enter": (HIDDEN, 4 * HIDDEN), "recur": (HIDDEN, 4 * HIDDEN),
              "bias": (4 * HIDDEN,), "read": (HIDDEN, LETTERS), "read_bias": (LETTERS,)}  # fmt: skip
    params = {name: rng.uniform(-1 / 8, 1 / 8, shape).astype(np.float32) for name, shape in shapes.items()}
    return params, rng.integers(0, LETTERS, (LENGTH + 1, SEQUENCES))


def lstm_by_fastgrad():
    params, codes = lstm_start()
    zero = np.zeros((SEQUENCES, HIDDEN), np.float32)

    def loss(params, codes):
        def cell(state, entering):
            h, c = state
            enter, forget, new, out = fg.split(entering + h @ params["recur"], 4, axis=-1)
            c = fg.sigmoid(forget) * c + fg.sigmoid(enter) * fg.tanh(new)
            h = fg.sigmoid(out) * fg.tanh(c)
            return (h, c), h

        entering = params["embed"][codes[:-1]] @ params["enter"] + params["bias"]
        _, h = fg.scan(cell, (zero, zero), entering)
        logits = h @ params["read"] + params["read_bias"]
        return fg.losses.softmax_cross_entropy(logits.reshape(-1, LETTERS), codes[1:].reshape(-1))

    step = fg.training_step(loss, params, fg.optim.Adam(1e-3))
    return lambda: step(codes), lambda: [step.params[name] for name in params]


def lstm_by_torch():
    params, codes = lstm_start()
    net, embed = torch.nn.LSTM(HIDDEN, HIDDEN), torch.nn.Embedding(LETTERS, HIDDEN)
    read = torch.nn.Linear(HIDDEN, LETTERS)
    trained = [embed.weight, net.weight_ih_l0, net.weight_hh_l0, net.bias_ih_l0, read.weight, read.bias]
    with torch.no_grad():
        net.bias_hh_l0.zero_()  # it would be trained like the other bias
        for to, value in zip(trained, params.values()):
            to.copy_(torch.tensor(value if to is embed.weight else value.T))
    net.bias_hh_l0.requires_grad_(False)
    optimizer = torch.optim.Adam(trained, lr=1e-3, fused=True)
    codes = torch.tensor(codes)

    def step():
        optimizer.zero_grad()
        h, _ = net(embed(codes[:-1]))
        loss = torch.nn.functional.cross_entropy(read(h).reshape(-1, LETTERS), codes[1:].reshape(-1))
        loss.backward()
        optimizer.step()
        return loss.item()

    return step, lambda: [p.detach().numpy() if p is embed.weight else p.detach().numpy().T for p in trained]


def lstm_by_jax():
    params, codes = lstm_start()
    jnp = jax.numpy
    state = {"params": jax.tree.map(jnp.asarray, params), "t": 0.0}
    state |= {name: jax.tree.map(jnp.zeros_like, params) for name in "mv"}
    codes = jnp.asarray(codes)

    def loss(params, codes):
        def cell(state, entering):
            h, c = state
            enter, forget, new, out = jnp.split(entering + h @ params["recur"], 4, axis=-1)
            c = jax.nn.sigmoid(forget) * c + jax.nn.sigmoid(enter) * jnp.tanh(new)
            h = jax.nn.sigmoid(out) * jnp.tanh(c)
            return (h, c), h

        entering = params["embed"][codes[:-1]] @ params["enter"] + params["bias"]
        zero = jnp.zeros((SEQUENCES, HIDDEN), jnp.float32)
        _, h = jax.lax.scan(cell, (zero, zero), entering)
        logits = jax.nn.log_softmax((h @ params["read"] + params["read_bias"]).reshape(-1, LETTERS))
        return -jnp.take_along_axis(logits, codes[1:].reshape(-1, 1), axis=1).mean()

    def updated(params, m, v, t, codes):
        value, g = jax.value_and_grad(loss)(params, codes)
        t = t + 1
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        rate = 1e-3 * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        eps = 1e-8 * jnp.sqrt(1 - 0.999**t)
        params = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) + eps), params, m, v)
        return value, {"params": params, "m": m, "v": v, "t": t}

    update = jax.jit(updated, donate_argnums=(0, 1, 2))

    def step():
        value, found = jax.block_until_ready(update(**state, codes=codes))
        state.update(found)
        return float(value)

    return step, lambda: [state["params"][name] for name in params]


def test_character_lstm(benchmark):
    with one_thread():
        contenders = {"fastgrad": lstm_by_fastgrad()}
        if torch:
            contenders["PyTorch, nn.LSTM"] = lstm_by_torch()
        if jax:
            contenders["jax.jit"] = lstm_by_jax()
        steps = agreeing(contenders, rtol=1e-3, atol=2e-5)
        compare(benchmark, f"LSTM of {HIDDEN}, sequence {LENGTH}, batch {SEQUENCES}", steps.pop("fastgrad"), steps,
                {"PyTorch, nn.LSTM": 0.5, "jax.jit": 0.5}, rtol=1e-2)  # fmt: skip


# ---- tables whose rows are scattered over memory ---------------------------------------------------------------------
@pytest.mark.parametrize(("rows", "width"), [(300_000, 20), (100_000, 200)])
def test_descent_on_a_column_major_table(benchmark, rows, width):
    """Three epochs on a column-major table, as of a DataFrame, beside those on a row-major one."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((rows, width)), rng.standard_normal(rows)
    columns = np.asfortranarray(x)

    def loss(w, x, y):
        return fg.mean((x @ w - y) ** 2)

    def descent(table, size):
        return lambda: fg.descend(loss, np.zeros(width), (table, y), optimizer=fg.optim.SGD(1e-3), epochs=3,
                                  batch_size=size, seed=0, progress=False)  # fmt: skip

    for size in (32, 128, 256):
        pairs = [(timeit.timeit(descent(columns, size), number=1), timeit.timeit(descent(x, size), number=1))
                 for _ in range(5)]  # fmt: skip
        ratio = float(np.median([slow / fast for slow, fast in pairs]))
        limit(f"column-major table of {rows} x {width}, batches of {size}", ratio, 1.5, "times the row-major one")
    benchmark.pedantic(descent(columns, 128), rounds=3)


# ---- what descend adds to a step -----------------------------------------------------------------------------------
def test_descend_beside_the_step(benchmark):
    """The same steps by a loop of the user's over batches that are ready, and by descend, which also picks the rows."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1000, 4))
    y, steps = x @ np.array([1.0, -2.0, 0.5, 1.0]), 5000
    batch = x[:20].copy(), y[:20].copy()

    def loss(w, x, y):
        return fg.mean((x @ w - y) ** 2)

    step = fg.training_step(loss, np.zeros(4), fg.optim.SGD(0.01))

    def bare():
        for _ in range(steps):
            step(*batch)

    def loop(**data):
        return lambda: fg.descend(loss, np.zeros(4), optimizer=fg.optim.SGD(0.01), steps=steps, progress=False, **data)

    def seconds(run):
        return min(timeit.repeat(run, number=1, repeat=5)) / steps

    shuffled = loop(data=(x, y), batch_size=20, seed=0)
    alone = seconds(bare)
    limit("descend beside the step, batches of 20", 1e6 * (seconds(shuffled) - alone), 2, "us")
    limit("descend beside the step, the whole data", 1e6 * (seconds(loop(data=batch)) - alone), 2, "us")
    benchmark.pedantic(shuffled, rounds=3)
