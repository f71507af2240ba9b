"""Estimators for scikit-learn that are trained by fastgrad: nets and generalised linear models.

Parameters, attributes and methods are those of scikit-learn's MLPClassifier, MLPRegressor and its generalised linear
models, so that they work in pipelines, grid searches and cross-validation. scikit-learn is imported with this module:
``pip install 'fastgrad[sklearn]'``. docs/estimators.md tells what they do and how they differ.

>>> import numpy as np
>>> import fastgrad as fg
>>> x = np.linspace(-1, 1, 40).reshape(-1, 1)
>>> net = fg.sklearn.MLPClassifier((16,), solver="lbfgs", random_state=0).fit(x, np.abs(x[:, 0]) < 0.5)
>>> net.predict([[0.1], [0.9]])
array([ True, False])
"""

try:
    import sklearn as _scikit_learn  # noqa: F401
except ImportError:
    raise ImportError(
        "fastgrad.sklearn: scikit-learn is needed and not installed: pip install 'fastgrad[sklearn]'"
    ) from None

from ._glm import GLM
from ._mlp import MLPClassifier, MLPRegressor

__all__ = ["GLM", "MLPClassifier", "MLPRegressor"]


def __dir__() -> list[str]:
    return list(__all__)  # what completion shows
