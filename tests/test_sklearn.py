"""fastgrad.sklearn: scikit-learn's own checks, its nets and models as the oracle, and what fits may be told."""

import copy
import pickle
import warnings

import numpy as np
import pytest

import fastgrad as fg

sklearn = pytest.importorskip("sklearn", minversion="1.6")
from sklearn import linear_model, neural_network  # noqa: E402
from sklearn.datasets import load_digits  # noqa: E402
from sklearn.exceptions import ConvergenceWarning  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.utils.estimator_checks import check_estimator  # noqa: E402

DIGITS, LABELS = load_digits(return_X_y=True)
DIGITS = DIGITS[:400] / 16
LABELS = LABELS[:400]


def fitted(estimator, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(*args, **kwargs)


@pytest.mark.parametrize(
    "make",
    [
        lambda: fg.sklearn.MLPClassifier(max_iter=60),
        lambda: fg.sklearn.MLPRegressor(max_iter=60),
        pytest.param(lambda: fg.sklearn.GLM(), marks=pytest.mark.slow),
        pytest.param(lambda: fg.sklearn.GLM("poisson"), marks=pytest.mark.slow),
        pytest.param(lambda: fg.sklearn.GLM("gamma", solver="newton-cholesky"), marks=pytest.mark.slow),
        pytest.param(lambda: fg.sklearn.MLPRegressor(solver="lbfgs"), marks=pytest.mark.slow),
    ],
    ids=["classifier", "regressor", "glm", "poisson", "gamma", "lbfgs"],
)
def test_the_checks_of_scikit_learn(make):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(make(), on_fail=None)
    failed = [(r["check_name"], r["exception"]) for r in results if r["status"] not in ("passed", "skipped")]
    assert len(results) > 50 and not failed, failed


# ---- nets ------------------------------------------------------------------------------------------------------------
NET = dict(hidden_layer_sizes=(12, 7), batch_size=64, max_iter=3, random_state=3, learning_rate_init=0.05)
SGD = dict(solver="sgd", momentum=0.8)


@pytest.mark.parametrize(
    ("options", "rtol"),
    [
        (SGD | {"activation": "logistic"}, 1e-11),
        (SGD | {"activation": "tanh", "nesterovs_momentum": False, "alpha": 0.3}, 1e-11),
        (SGD | {"shuffle": False, "momentum": 0, "activation": "identity", "learning_rate_init": 0.01}, 1e-11),
        ({"solver": "adam", "activation": "tanh", "alpha": 1, "epsilon": 1e-13}, 1e-5),  # eps stands in another place
    ],
)
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_a_net_takes_the_steps_of_scikit_learn(options, rtol, weighted):
    weight = np.random.default_rng(0).uniform(0.5, 2, len(LABELS)) if weighted else None
    for ours, theirs, y in (
        (fg.sklearn.MLPClassifier, neural_network.MLPClassifier, LABELS),
        (fg.sklearn.MLPClassifier, neural_network.MLPClassifier, np.where(LABELS > 4, "high", "low")),
        (fg.sklearn.MLPRegressor, neural_network.MLPRegressor, LABELS / 9),
    ):
        mine, other = (fitted(net(**NET | options), DIGITS, y, weight) for net in (ours, theirs))
        for a, b in zip(mine.coefs_ + mine.intercepts_, other.coefs_ + other.intercepts_, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=rtol)
        np.testing.assert_allclose(mine.loss_curve_, other.loss_curve_, rtol=rtol)
        np.testing.assert_allclose(mine.predict_proba(DIGITS) if hasattr(mine, "classes_") else mine.predict(DIGITS),
                                   other.predict_proba(DIGITS) if hasattr(mine, "classes_") else other.predict(DIGITS),
                                   atol=10 * rtol)  # fmt: skip
        assert (mine.n_iter_, mine.t_, mine.out_activation_) == (other.n_iter_, other.t_, other.out_activation_)
        assert (mine.n_layers_, mine.n_outputs_) == (other.n_layers_, other.n_outputs_)
        assert (mine.predict(DIGITS) == other.predict(DIGITS)).mean() > 0.99 or not hasattr(mine, "classes_")


@pytest.mark.parametrize("rate", ["adaptive", "invscaling"])
def test_schedules_of_the_rate_and_the_end(rate):
    options = dict(hidden_layer_sizes=(5,), solver="sgd", learning_rate=rate, momentum=0, learning_rate_init=0.2,
                   batch_size=100, tol=1e-2, n_iter_no_change=2, max_iter=60, random_state=0)  # fmt: skip
    mine, other = (
        fitted(net(**options), DIGITS, LABELS) for net in (fg.sklearn.MLPClassifier, neural_network.MLPClassifier)
    )
    assert mine.n_iter_ == other.n_iter_
    np.testing.assert_allclose(mine.loss_curve_, other.loss_curve_, rtol=1e-9)


def test_counts_and_labels_of_several_kinds():
    counts = np.random.default_rng(0).poisson(np.exp(DIGITS[:, 10])).astype(float)
    options = dict(loss="poisson", hidden_layer_sizes=(6,), activation="tanh", solver="sgd", max_iter=2, random_state=1)
    if "loss" in neural_network.MLPRegressor().get_params():
        mine, other = (
            fitted(net(**options), DIGITS, counts) for net in (fg.sklearn.MLPRegressor, neural_network.MLPRegressor)
        )
        np.testing.assert_allclose(mine.predict(DIGITS), other.predict(DIGITS), rtol=1e-11)
        np.testing.assert_allclose(mine.loss_curve_, other.loss_curve_, rtol=1e-10)
    with pytest.raises(ValueError, match="y has negative entries, expected counts"):
        fg.sklearn.MLPRegressor(**options).fit(DIGITS, -counts)
    labels = np.stack([LABELS > 4, LABELS % 2 == 0], axis=1).astype(int)
    options = dict(hidden_layer_sizes=(6,), solver="sgd", max_iter=2, random_state=1)
    mine, other = (
        fitted(net(**options), DIGITS, labels) for net in (fg.sklearn.MLPClassifier, neural_network.MLPClassifier)
    )
    np.testing.assert_allclose(mine.predict_proba(DIGITS), other.predict_proba(DIGITS), rtol=1e-11)
    np.testing.assert_array_equal(mine.predict(DIGITS), other.predict(DIGITS))


def test_lbfgs_reaches_what_scikit_learn_reaches():
    options = dict(hidden_layer_sizes=(4,), activation="tanh", solver="lbfgs", random_state=0, max_iter=25, alpha=1)
    mine, other = (
        fitted(net(**options), DIGITS, LABELS) for net in (fg.sklearn.MLPClassifier, neural_network.MLPClassifier)
    )
    np.testing.assert_allclose(mine.loss_, other.loss_, rtol=1e-4)
    with pytest.warns(ConvergenceWarning, match="lbfgs did not converge"):
        fg.sklearn.MLPClassifier(**options).fit(DIGITS, LABELS)


def test_early_stopping_returns_the_best_weights():
    net = fg.sklearn.MLPClassifier(
        (16,), early_stopping=True, random_state=0, learning_rate_init=0.03, n_iter_no_change=3, max_iter=100
    ).fit(DIGITS, LABELS)
    scores = net.validation_scores_
    assert net.best_validation_score_ == max(scores) > 0.8 and net.best_loss_ is None
    assert len(scores) == net.n_iter_ < 100
    one_more = fitted(
        fg.sklearn.MLPClassifier(**net.get_params() | {"max_iter": int(np.argmax(scores)) + 1}), DIGITS, LABELS
    )
    for a, b in zip(net.coefs_, one_more.coefs_):
        np.testing.assert_array_equal(a, b)


def test_partial_fit_and_warm_start_go_on():
    options = dict(hidden_layer_sizes=(8,), solver="sgd", random_state=0, batch_size=50)
    whole = fitted(fg.sklearn.MLPClassifier(max_iter=4, **options), DIGITS, LABELS)
    parts = fg.sklearn.MLPClassifier(**options)
    for number in range(4):
        parts.partial_fit(DIGITS, LABELS, classes=np.arange(10))
        if number == 1:
            parts = pickle.loads(pickle.dumps(parts))  # the optimizer's state, too
    warm = fitted(fg.sklearn.MLPClassifier(max_iter=2, warm_start=True, **options | {"momentum": 0}), DIGITS, LABELS)
    again = fitted(copy.deepcopy(warm), DIGITS, LABELS)
    assert len(warm.loss_curve_) == 2 and len(again.loss_curve_) == 4 and again.loss_ < warm.loss_
    assert parts.loss_curve_ == pytest.approx(whole.loss_curve_, rel=1e-3)  # other orders of the rows
    assert parts.t_ == whole.t_ == 1600
    with pytest.raises(ValueError, match="classes must be given"):
        fg.sklearn.MLPClassifier().partial_fit(DIGITS, LABELS)
    with pytest.raises(ValueError, match=r"y has the classes \[11\], expected some of those"):
        parts.partial_fit(DIGITS[:1], [11])
    assert not hasattr(fg.sklearn.MLPClassifier(solver="lbfgs"), "partial_fit")


def test_float32_and_an_optimizer_of_ones_own():
    net = fitted(
        fg.sklearn.MLPClassifier((8,), solver=fg.optim.Lion(0.03), max_iter=30, random_state=0),
        DIGITS.astype(np.float32), LABELS,
    )  # fmt: skip
    assert {a.dtype for a in net.coefs_ + net.intercepts_ + [net.predict_proba(DIGITS)]} == {np.dtype(np.float32)}
    assert net.score(DIGITS, LABELS) > 0.9 and net.solver.steps == 0
    np.testing.assert_allclose(np.exp(net.predict_log_proba(DIGITS)), net.predict_proba(DIGITS), rtol=1e-4, atol=1e-7)
    pipe = make_pipeline(StandardScaler(), fg.sklearn.MLPRegressor(solver="lbfgs", random_state=0, max_iter=50))
    assert fitted(pipe, DIGITS, LABELS).score(DIGITS, LABELS) > 0.7


def test_a_loss_that_is_not_finite_is_told():
    with pytest.raises(ValueError, match=r"MLPRegressor: .*at step .*bring the columns of X to one scale"):
        fg.sklearn.MLPRegressor(solver="sgd", learning_rate_init=1e3, activation="identity", random_state=0).fit(
            DIGITS, LABELS
        )


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"activation": "gelu"}, ValueError, "activation is 'gelu', expected one of 'identity', 'logistic'"),
        ({"solver": 3}, ValueError, "solver is 3, expected one of 'lbfgs'"),
        ({"alpha": -1}, ValueError, "alpha is -1, expected a number of at least 0"),
        ({"learning_rate_init": 0}, ValueError, "learning_rate_init is 0, expected a number above 0"),
        ({"beta_2": 1.0}, ValueError, "beta_2 is 1.0, expected a number of at least 0 and below 1"),
        ({"max_iter": 2.5}, TypeError, "max_iter is 2.5, expected an integer of at least 1"),
        ({"batch_size": 0}, ValueError, "batch_size is 0, expected an integer of at least 1"),
        ({"hidden_layer_sizes": (3, 0)}, ValueError, "hidden_layer_sizes is .3, 0., expected integers"),
        ({"shuffle": "yes"}, TypeError, "shuffle is 'yes', expected True or False"),
    ],
)
def test_parameters_out_of_range(parameters, error, message):
    with pytest.raises(error, match=f"^MLPClassifier: {message}"):
        fg.sklearn.MLPClassifier(**parameters).fit(DIGITS, LABELS)


# ---- generalised linear models ---------------------------------------------------------------------------------------
ROWS = np.random.default_rng(1).standard_normal((80, 3))
MEAN = np.exp(ROWS @ [0.5, -0.3, 0.2] + 0.4)
WEIGHT = np.random.default_rng(2).integers(0, 3, 80).astype(float)
COUNTS = np.random.default_rng(3).poisson(MEAN).astype(float)


@pytest.mark.parametrize("solver", ["lbfgs", "newton-cholesky"])
@pytest.mark.parametrize(
    ("parameters", "theirs", "y"),
    [
        (dict(family="normal"), linear_model.TweedieRegressor(power=0), COUNTS),
        (dict(family="normal", link="log"), linear_model.TweedieRegressor(power=0, link="log"), MEAN),
        (dict(family="poisson"), linear_model.PoissonRegressor(), COUNTS),
        (dict(family="gamma"), linear_model.GammaRegressor(), COUNTS + 0.5),
        (dict(family="inverse_gaussian"), linear_model.TweedieRegressor(power=3, link="log"), COUNTS + 0.5),
        (dict(family="tweedie", power=1.7), linear_model.TweedieRegressor(power=1.7), COUNTS),
        (dict(family="poisson", fit_intercept=False), linear_model.PoissonRegressor(fit_intercept=False), COUNTS),
    ],
)
def test_a_linear_model_is_that_of_scikit_learn(parameters, theirs, y, solver):
    theirs.set_params(alpha=0.1, tol=1e-9, max_iter=1000)
    mine = fg.sklearn.GLM(**parameters, alpha=0.1, solver=solver, tol=1e-7).fit(ROWS, y, WEIGHT)
    theirs.fit(ROWS, y, WEIGHT)
    np.testing.assert_allclose(mine.coef_, theirs.coef_, atol=2e-6)
    np.testing.assert_allclose(mine.intercept_, theirs.intercept_, atol=2e-6)
    np.testing.assert_allclose(mine.predict(ROWS), theirs.predict(ROWS), rtol=1e-5)
    assert mine.score(ROWS, y, WEIGHT) == pytest.approx(theirs.score(ROWS, y, WEIGHT), rel=1e-6)
    assert mine.n_iter_ >= 1 and mine.n_features_in_ == 3


def test_a_binomial_model_is_logistic_regression():
    y = (ROWS[:, 0] + np.random.default_rng(0).standard_normal(80) > 0).astype(float)
    mine = fg.sklearn.GLM("binomial", alpha=0.05, solver="newton-cholesky", tol=1e-10).fit(ROWS, y)
    theirs = linear_model.LogisticRegression(C=1 / (0.05 * 80), tol=1e-12, max_iter=1000).fit(ROWS, y)
    np.testing.assert_allclose(mine.coef_, theirs.coef_[0], rtol=1e-5)
    np.testing.assert_allclose(mine.predict(ROWS), theirs.predict_proba(ROWS)[:, 1], rtol=1e-5)
    assert 0.1 < mine.score(ROWS, y) < 1
    probit = fg.sklearn.GLM("binomial", link="probit", alpha=0).fit(ROWS, y)
    np.testing.assert_allclose(probit.coef_ * 1.7, fg.sklearn.GLM("binomial", alpha=0).fit(ROWS, y).coef_, atol=0.4)
    warm = fg.sklearn.GLM("poisson", warm_start=True).fit(ROWS, COUNTS)
    assert warm.n_iter_ > warm.fit(ROWS, COUNTS).n_iter_ <= 1


@pytest.mark.parametrize(
    ("parameters", "y", "message"),
    [
        (dict(family="cauchy"), MEAN, "family is 'cauchy', expected one of 'normal', 'poisson'"),
        (dict(family="poisson", link="logit"), MEAN, "link='logit' does not go with family='poisson'"),
        (dict(family="binomial", link="log"), MEAN, "link='log' does not go .*expected logit or probit"),
        (dict(family="tweedie", power=0.5), MEAN, "power is 0.5, expected at most 0 or at least 1"),
        (dict(family="poisson"), -MEAN, "y has values from .* expected numbers of at least 0"),
        (dict(family="gamma"), COUNTS, "y has values from 0 .* expected numbers above 0"),
        (dict(family="binomial"), COUNTS, "y has values .* expected numbers from 0 to 1"),
    ],
)
def test_models_that_do_not_fit(parameters, y, message):
    with pytest.raises(ValueError, match=f"^GLM: {message}"):
        fg.sklearn.GLM(**parameters).fit(ROWS, y)


def test_tags_tell_which_targets_a_family_takes():
    for family, power, positive in [
        ("normal", 1.5, False), ("binomial", 1.5, False), ("poisson", 1.5, True), ("tweedie", 1.5, True),
        ("tweedie", 0, False), ("tweedie", -1.0, False),
    ]:  # fmt: skip
        tags = fg.sklearn.GLM(family, power=power).__sklearn_tags__()
        assert tags.target_tags.positive_only == positive, (family, power)
