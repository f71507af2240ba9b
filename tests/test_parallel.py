"""`descend` and `training_step` on several ranks, which are threads here: tests/test_mpi.py has processes."""

import numpy as np
import pytest
from _ranks import World, results, run

import fastgrad as fg

RNG = np.random.default_rng(0)
X = RNG.normal(size=(103, 5))
Y = np.sin(X.sum(1))


def start():
    rng = np.random.default_rng(1)
    return {"w": rng.normal(size=(5, 8)) * 0.3, "b": np.zeros(8), "v": rng.normal(size=8) * 0.3, "c": np.array(0.1)}


def net(p, x, y):
    return fg.losses.mse(np.tanh(x @ p["w"] + p["b"]) @ p["v"] + p["c"], y)


def assert_close(found, expected, bound=1e-12):
    for key in expected:
        np.testing.assert_allclose(found[key], expected[key], rtol=0, atol=bound, err_msg=key)


class InPython(fg.optim.Optimizer):
    """Plain descent by a rule in Python."""

    def step(self, params, grads):
        for key in params:
            params[key] -= 0.1 * grads[key]
        self.steps += 1


@pytest.mark.parametrize(
    ("size", "options"),
    [
        (2, {"optimizer": "adam"}),
        (3, {"optimizer": "sgd", "clip_norm": 0.05, "shuffle": False}),
        (3, {"optimizer": "lamb", "clip_each_norm": 0.02, "batch_size": None}),
        (2, {"optimizer": "rmsprop", "clip_value": 0.01, "compile": False}),
        (2, {"optimizer": "adam", "accumulate": 3, "clip_norm": 0.05}),
        (2, {"optimizer": InPython, "clip_norm": 0.05}),
        (5, {"optimizer": "adam", "batch_size": 100}),  # the last batch has fewer rows than there are ranks
    ],
)
def test_ranks_descend_as_one(size, options):
    options = {"batch_size": 32, "epochs": 3, "seed": 4} | options
    make = options.pop("optimizer")

    def descend(comm):
        optimizer = make if isinstance(make, str) else make(0.1)
        return fg.descend(net, start(), (X, Y), optimizer=optimizer, comm=comm, **options)

    single = {key: value for key, value in options.items() if key != "accumulate"}
    expected = fg.descend(net, start(), (X, Y), optimizer=make if isinstance(make, str) else make(0.1), **single)
    found = results(size, descend)
    for result in found:
        assert_close(result.params, expected.params)
        np.testing.assert_allclose(result.history, expected.history, rtol=0, atol=1e-12)
        assert result.message == expected.message
        assert all(np.array_equal(result.params[k], found[0].params[k]) for k in result.params)


def test_parts_of_a_batch_count_by_their_rows():
    parts = [slice(0, 3), slice(3, 3), slice(3, 40)]  # the second rank has none

    def train(comm):
        step = fg.training_step(net, start(), "adam", comm=comm, has_aux=False)
        losses = [step(X[parts[comm.rank]], Y[parts[comm.rank]]) for _ in range(5)]
        return losses, step.params

    step = fg.training_step(net, start(), "adam")
    expected = [step(X[:40], Y[:40]) for _ in range(5)]
    for losses, params in results(3, train):
        np.testing.assert_allclose(losses, expected, rtol=0, atol=1e-12)
        assert_close(params, step.params)


def test_all_start_as_rank_0():
    def train(comm):
        optimizer = fg.optim.Adam(0.1)
        params = {"w": np.full(3, float(comm.rank))}
        if comm.rank == 0:
            optimizer.step(params, {"w": np.ones(3)})
        step = fg.training_step(lambda p: (p["w"] ** 2).sum(), params, optimizer, comm=comm)
        step()
        return step.params["w"], optimizer.steps, optimizer.state_dict()["state"]

    first, *others = results(3, train)
    assert first[1] == 2
    for w, steps, state in others:
        assert steps == 2
        assert np.array_equal(w, first[0])
        assert all(np.array_equal(state[slot]["w"], first[2][slot]["w"]) for slot in state)


def test_dtypes_numbers_and_shared_gradients():
    """Parameters of two dtypes, one without axes, and two whose gradients are one value."""

    def loss(p, x):
        return ((p["a"] + p["b"]) * x).sum() / len(x) + (p["n"] ** 2 + (p["single"] ** 2).sum())

    def params():
        return {"a": np.ones(3), "b": np.ones(3), "n": np.array(2.0), "single": np.ones(2, np.float32)}

    def train(comm):
        step = fg.training_step(loss, params(), "sgd", comm=comm)
        for _ in range(4):
            step(X[comm.rank :: 2, :3])
        return step.params, comm.bytes

    step = fg.training_step(loss, params(), "sgd")
    for _ in range(4):
        step(X[:, :3])
    for found, sent in results(2, train):
        assert_close(found, step.params, 1e-6)
        assert_close({k: found[k] for k in "abn"}, {k: step.params[k] for k in "abn"})
        assert sent[3:] == [2 * 4, (3 + 3 + 1 + 3) * 8] * 4


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bytes_of_a_step(dtype):
    """One all-reduce of the gradients and three numbers, and nothing else."""

    def descend(comm):
        params = {key: value.astype(dtype) for key, value in start().items()}
        data = X.astype(dtype), Y.astype(dtype)
        fg.descend(net, params, data, optimizer="adam", comm=comm, batch_size=32, epochs=2)
        return comm.bytes

    n = sum(value.size for value in start().values())
    for sent in results(2, descend):
        assert sent == 4 * [8] + (8 + 1) * [(n + 3) * np.dtype(dtype).itemsize]  # votes, 8 steps, the end


def test_a_program_writes_gradients_where_they_are_summed():
    into = [np.full(3, np.nan), np.array(np.nan)]
    compiled = fg.compile(lambda w, c, x: (w * 2, w * x + c, c + 1))
    args = np.ones(3), np.array(1.0), np.full(3, 2.0)
    assert compiled.try_run_into(args, into) is None
    compiled(*args)
    found = compiled.try_run_into(args, into)
    assert found[1] is into[0]
    assert into[0].tolist() == [3, 3, 3]
    assert into[1] == 2
    wrong = [np.zeros((2, 3))[:, :1], np.zeros(())]  # of another shape
    with pytest.raises(ValueError, match="broadcast"):
        compiled.try_run_into(args, wrong)
    strided = [np.zeros(6)[::2], np.zeros(())]
    compiled.try_run_into(args, strided)
    assert strided[0].tolist() == [3, 3, 3]


@pytest.mark.parametrize("seed", [None, 5, "generator"])
def test_ranks_draw_the_same_batches(seed):

    def descend(comm):
        rows, rng = [], np.random.default_rng(7 + comm.rank) if seed == "generator" else seed

        def loss(p, i):
            rows.append(np.asarray(i).tolist())
            return (p["w"] * i).mean()

        fg.descend(loss, {"w": np.ones(1)}, np.arange(103.0), optimizer="sgd", batch_size=10, epochs=2, seed=rng,
                   comm=comm, compile=False)  # fmt: skip
        return rows

    batches = list(zip(*results(2, descend)))
    epochs = [[row for batch in part for rows in batch for row in rows] for part in (batches[:11], batches[11:])]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(103))  # each row once in each epoch
    assert epochs[0] != epochs[1]


def test_another_number_of_ranks_goes_on():
    """An epoch on two ranks and the next on three, from what rank 0 of the first has, is as two epochs alone."""

    def epoch(comm, params, state, random):
        optimizer, rng = fg.optim.Adam(0.01), np.random.default_rng(99)
        if state is not None and comm.rank == 0:
            optimizer.load_state_dict(state)
            rng.bit_generator.state = random
        result = fg.descend(net, params, (X, Y), optimizer=optimizer, batch_size=32, epochs=1, seed=rng, comm=comm)
        return result.params, optimizer.state_dict(), rng.bit_generator.state

    first = results(2, lambda comm: epoch(comm, start(), None, None))[0]
    found = results(3, lambda comm: epoch(comm, *first))
    expected = fg.descend(net, start(), (X, Y), optimizer=fg.optim.Adam(0.01), batch_size=32, epochs=2,
                          seed=np.random.default_rng(99))  # fmt: skip
    for params, state, random in found:
        assert_close(params, expected.params)
        assert state["steps"] == 8
        assert random == found[0][2]


def test_a_checkpoint_goes_on_with_another_number_of_ranks(tmp_path):
    """Rank 0 writes and reads. The others get all from it, even where they see no file."""

    def descend(comm, path, steps, resume):
        rank = comm.rank if comm is not None else 0
        path = path if rank == 0 else tmp_path / f"of rank {rank}"
        seen = []
        result = fg.descend(
            net, start(), (X, Y), optimizer=fg.optim.Adam(0.01), batch_size=32, steps=steps, seed=0, comm=comm,
            validation_data=(X[:9], Y[:9]), checkpoint=path, every=2, resume=resume,
            callback=lambda info: seen.append(info.step),
        )  # fmt: skip
        return result, seen

    path = tmp_path / "run.npz"
    results(2, lambda comm: descend(comm, path, 5, False))
    assert sorted(tmp_path.iterdir()) == [tmp_path / "run.npz", tmp_path / "run.previous.npz"]
    expected, _ = descend(None, tmp_path / "alone.npz", 9, False)
    for result, seen in results(3, lambda comm: descend(comm, path, 9, True)):
        assert seen == [5, 6, 7, 8]
        assert_close(result.params, expected.params)
        np.testing.assert_allclose(result.history, expected.history, rtol=1e-12)
        for name, curve in expected.curves.items():
            np.testing.assert_allclose(result.curves[name], curve, rtol=1e-12, err_msg=name)
    alone, _ = descend(None, path, 10, True)
    assert alone.steps == 10

    path.write_bytes(b"no checkpoint")
    (tmp_path / "run.previous.npz").unlink()
    found = run(3, lambda comm: descend(comm, path, 9, True))
    assert isinstance(found[0], ValueError)
    assert all(isinstance(error, fg._train.parallel.RankError) and error.rank == 0 for error in found[1:])


def test_a_checkpoint_that_cannot_be_written_ends_all(tmp_path, monkeypatch):
    from fastgrad._train import checkpoint

    save = checkpoint.save_tree

    def full_disk(path, state, *args, **kwargs):
        if state["steps"] == 4:
            raise OSError(28, "No space left on device")
        save(path, state, *args, **kwargs)

    monkeypatch.setattr(checkpoint, "save_tree", full_disk)
    found = run(2, lambda comm: descend_with(comm, checkpoint=tmp_path / "run.npz", every=2))
    assert isinstance(found[0], OSError) and found[0].result.steps == 4
    assert isinstance(found[1], fg._train.parallel.RankError) and found[1].rank == 0


# ends ---------------------------------------------------------------------------------------------------------


def descend_with(comm, loss=net, data=(X, Y), **options):
    options = {"optimizer": "sgd", "batch_size": 16, "epochs": 4, "seed": 0} | options
    return fg.descend(loss, start(), data, comm=comm, **options)


def check_failures(found, kind, match, bad=1):
    """One rank has raised its own error; the others say which that was, all after the same steps."""
    assert isinstance(found[bad], kind), found
    assert found[bad].__notes__ == [f"raised on rank {bad} of {len(found)}"]
    for rank, error in enumerate(found):
        if rank != bad:
            assert type(error) is fg._train.parallel.RankError, error
            assert str(error) == f"descend: rank {bad} of {len(found)} failed: {match}"
            assert error.rank == bad


def test_a_failing_loss_ends_all():
    def descend(comm):
        calls = []

        def loss(p, x, y):
            calls.append(0)
            if comm.rank == 1 and len(calls) == 4:
                raise OSError("no such file")
            return net(p, x, y)

        return descend_with(comm, loss, compile=False)

    found = run(3, descend)
    check_failures(found, OSError, "OSError: no such file")
    assert [error.result.steps for error in (found[0], found[2])] == [3, 3]


@pytest.mark.parametrize("at", [0, 3, 27])  # 27: after the last step of all
def test_a_failing_callback_ends_all(at):
    def descend(comm):
        def callback(info):
            if comm.rank == 1 and info.step == at:
                raise KeyError("x")

        return descend_with(comm, callback=callback)

    check_failures(run(2, descend), KeyError, "KeyError: 'x'")


def test_bad_arguments_of_one_rank_end_all():
    check_failures(run(2, lambda comm: descend_with(comm, batch_size=16 if comm.rank != 1 else 0)), ValueError,
                   "ValueError: descend: batch_size is 0, expected an integer above 0 or None")  # fmt: skip


def test_ranks_must_agree():
    found = run(2, lambda comm: descend_with(comm, data=(X[: 90 + comm.rank], Y[: 90 + comm.rank])))
    text = "descend: on rank 1 rows is 91, on rank 0 90; it must be the same on all ranks"
    check_failures(found, ValueError, "ValueError: " + text)
    assert str(found[1]) == text


@pytest.mark.parametrize("how", ["true", "iteration", "time"])
def test_one_rank_stops_all(how):
    def descend(comm):
        def callback(info):
            if comm.rank == 1 and info.step == 5:
                if how == "iteration":
                    raise StopIteration
                return how == "true"
            return False

        limit = 1e-9 if how == "time" and comm.rank == 1 else None
        return descend_with(comm, callback=callback, time_limit=limit)

    found = results(3, descend)
    steps = 1 if how == "time" else 6
    assert [result.steps for result in found] == [steps] * 3
    assert len({result.message for result in found}) == 1
    assert all(np.array_equal(result.params["w"], found[0].params["w"]) for result in found)


@pytest.mark.parametrize("stopper", [0, 1])
@pytest.mark.parametrize("at", [2, 3, 5])  # 3 ends an epoch
@pytest.mark.parametrize("of_known_length", [True, False])
def test_a_rank_that_stops_all_leaves_a_whole_state(tmp_path, stopper, at, of_known_length):
    """All have the same curves and best parameters, and a checkpoint goes on with the batch that was next."""
    batches = [(X[start::3], Y[start::3]) for start in range(3)]
    options = {"shuffle": False, "batch_size": 35} if of_known_length else {"batch_size": None}
    data = (X, Y) if of_known_length else lambda: iter(batches)
    options |= {"data": data, "validation_data": (X, Y), "restore_best": True, "prefetch": at // 5}
    expected = descend_with(None, **options)
    options["checkpoint"] = tmp_path / "run.npz"
    found = results(
        2, lambda comm: descend_with(comm, callback=lambda i: comm.rank == stopper and i.step + 1 == at, **options)
    )
    for result in found:
        assert result.steps == at
        assert len(result.curves.get("step", [])) == at // 3
        assert_close(result.params, found[0].params, 0)
    for result in results(2, lambda comm: descend_with(comm, resume=True, **options)):
        np.testing.assert_allclose(result.history, expected.history, rtol=1e-12)
        np.testing.assert_allclose(result.curves["step"], expected.curves["step"])


def test_a_gradient_that_is_not_finite_ends_all():
    bad = X.copy()
    bad[40] = np.nan
    found = run(2, lambda comm: descend_with(comm, data=(bad, Y), shuffle=False))
    assert {str(error) for error in found} == {str(found[0])}
    assert str(found[0]).startswith("descend: at step 2 the loss is nan and the gradient of params['b'] has 8 entries")
    assert all(type(error) is FloatingPointError and error.result.steps == 2 for error in found)

    skipped = results(2, lambda comm: descend_with(comm, data=(bad, Y), shuffle=False, nonfinite="skip"))
    assert all(result.steps == 28 and np.isfinite(result.params["w"]).all() for result in skipped)


def test_steps_go_on_after_an_error_that_all_ranks_raise():
    def train(comm):
        step = fg.training_step(net, start(), "adam", comm=comm)
        with pytest.raises(FloatingPointError):
            step(X[:4] * (np.inf if comm.rank else 1), Y[:4])
        with pytest.raises(ValueError, match="training_step: the batch has no rows on any rank"):
            step(X[:0], Y[:0])
        return step(X[:4], Y[:4]), step.optimizer.steps

    found = results(2, train)
    assert found[0] == found[1]
    assert found[0][1] == 1


def test_what_is_no_communicator():
    with pytest.raises(TypeError, match="descend: comm is of type int, which has no Allreduce and no bcast and"):
        descend_with(3)
    with pytest.raises(TypeError, match="training_step: comm is of type str, .* expected a communicator of mpi4py"):
        fg.training_step(net, start(), "adam", comm="world")


def test_one_rank_is_as_none():
    [comm] = World(1).ranks
    found, expected = descend_with(comm), descend_with(None)
    assert_close(found.params, expected.params)


def test_an_auxiliary_value_is_of_the_own_part():
    def train(comm):
        step = fg.training_step(
            lambda p, x: (((p["w"] * x) ** 2).mean(), len(x)), {"w": np.ones(1)}, "sgd", has_aux=True, comm=comm
        )
        return [step(X[: 3 + comm.rank, 0]) for _ in range(4)]

    for rank, found in enumerate(results(2, train)):
        assert [aux for _, aux in found] == [3 + rank] * 4
        assert len({type(value) for value, _ in found}) == 1
