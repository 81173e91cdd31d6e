"""Logistic regression."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from numbers import Integral, Real
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import torch
from scipy import sparse

from sknets._base import (
    DEVICE_CONSTRAINTS,
    BaseClassifier,
    ProbabilisticMixin,
    TrainingData,
    check_numba_linear,
    uses_numba,
)
from sknets._base._hooks import fit_hooks
from sknets._core._sklearn import Hidden, Interval, Options, StrOptions, fit_context
from sknets._data import LabelCodec, as_numpy
from sknets._engine import Progress
from sknets.linear_model._linear_prediction import LinearPredictionMixin
from sknets.linear_model._logistic_fit import balanced_weights, fit_full_batch, fit_mini_batch
from sknets.linear_model._logistic_stacking import LogisticStacker

_FULL_BATCH = ("lbfgs", "newton-cg", "newton-cholesky", "proximal-newton")
_MINI_BATCH = ("adam", "sgd")
_WITH_L1 = ("proximal-newton", *_MINI_BATCH)

_ELSEWHERE: Mapping[str, str] = MappingProxyType(
    {
        "liblinear": '"newton-cholesky", or "proximal-newton" for an L1 penalty',
        "sag": '"lbfgs", or "adam" for data that outgrows full batches',
        "saga": '"proximal-newton", or "adam" for data that outgrows full batches',
    }
)
"""scikit-learn's solvers that are not here, and what to use."""

_MINI_BATCH_ONLY: Mapping[str, Any] = MappingProxyType(
    {
        "batch_size": "auto",
        "learning_rate": "constant",
        "learning_rate_init": 0.01,
        "shuffle": True,
    }
)
"""Parameters without effect under full-batch solvers, and their defaults."""


class LogisticRegression(LinearPredictionMixin, ProbabilisticMixin, BaseClassifier):
    r"""Logistic regression, binary and multinomial, with L1, L2 or both penalties.

    Minimises scikit-learn's objective, for weights :math:`s_i` and coefficients :math:`W`

    .. math::

        C \sum_i s_i \, \ell(y_i, W x_i + b) + \rho \|W\|_1 + \frac{1 - \rho}{2} \|W\|_2^2,

    where :math:`\rho` is ``l1_ratio`` and the intercept :math:`b` is not penalised. Two classes
    share one row of coefficients; more have one each, under the softmax.

    Parameters
    ----------
    C : float, default=1.0
        Inverse strength of the penalty; ``np.inf`` fits without one.
    l1_ratio : float, default=0.0
        Share of the L1 penalty, from 0 (L2 alone) to 1 (L1 alone). Only "proximal-newton",
        "adam" and "sgd" take other values than 0.
    dual : bool, default=False
        There is no dual formulation; only False is taken.
    tol : float, default=1e-4
        A full-batch solver stops when no component of the gradient (the smallest subgradient, with
        an L1 penalty) of the objective divided by ``C * sum(s)`` exceeds it; "lbfgs" also where
        rounding keeps the objective from falling, of which a warning tells in float32 if that is
        far from `tol`. "adam" and "sgd" stop when the loss has not improved by it for more than
        `n_iter_no_change` epochs in a row.
    fit_intercept : bool, default=True
        Whether there is an intercept.
    intercept_scaling : float, default=1
        Without effect, as under all of scikit-learn's solvers but "liblinear".
    class_weight : dict, "balanced" or None, default=None
        Weight of each class by its label, which multiplies the sample weights. "balanced" gives
        every class the same total weight.
    random_state : int, RandomState instance or None, default=None
        Shuffles the rows under "adam" and "sgd"; without effect under the others.
    solver : str, default="lbfgs"
        =================== ============== =======================================================
        solver              penalty        good for
        =================== ============== =======================================================
        "lbfgs"             L2, none       most data
        "newton-cg"         L2, none       many features, exact solutions, features not scaled
        "newton-cholesky"   L2, none       many rows and few features times classes
        "proximal-newton"   L1, both, L2   zero coefficients; the only exact one with L1
        "adam", "sgd"       L1, both, L2   more rows than a pass a step can afford; approximate,
                                           and L1 leaves coefficients small but not zero
        =================== ============== =======================================================

    max_iter : int, default=100
        Iterations, or epochs of mini-batches, at most.
    verbose : int, default=0
        Whether to print a line an iteration, and why "adam" and "sgd" end before `max_iter`.
    warm_start : bool, default=False
        Whether to start from the coefficients of the last fit.
    device : str or torch.device, default="auto"
        Where to fit: "cpu", "cuda", "cuda:1", "mps"; "auto" takes a GPU if there is one.
    precision : {"auto", "float32", "float64", "bf16"}, default="auto"
        "auto" is X's precision on the CPU and float32 on a GPU. "bf16" is for "adam" and "sgd"; the
        other solvers raise ValueError.
    compile : False or "numba", default=False
        "numba" computes losses and gradients in compiled code, with results that are equal up to
        rounding (which a long way over features that are not scaled magnifies). It is meant for
        vectorised searches of dense X, and compiles fits by themselves, too, of three classes or
        more and about 2 MB of X at most; sparse X and other fits are computed as without it. Other
        solvers than "lbfgs", and other devices than a CPU, raise ValueError. It needs ``pip install
        "sknets[numba]"``, and takes some seconds to compile when it first runs on a machine.
    batch_size : int or "auto", default="auto"
        Rows of a mini-batch; "auto" is ``min(200, n_samples)``. Of "adam" and "sgd": under the
        other solvers, any value but the default raises ValueError.
    learning_rate : {"constant", "adaptive"}, default="constant"
        "adaptive" divides the rate by 5 where the loss stops falling, and ends below 1e-6. Of
        "adam" and "sgd": under the other solvers, any value but the default raises ValueError.
    learning_rate_init : float, default=0.01
        Learning rate of "adam" and "sgd" (with Nesterov's momentum 0.9); under the other solvers,
        any value but the default raises ValueError.
    shuffle : bool, default=True
        Whether to shuffle the rows before every epoch. Of "adam" and "sgd": under the other
        solvers, any value but the default raises ValueError.
    n_iter_no_change : int, default=10
        Epochs in a row without an improvement of `tol` that "adam" and "sgd" bear; training ends
        after one more. Without effect under the other solvers, as under "lbfgs" in
        :class:`~sklearn.neural_network.MLPClassifier`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted.
    coef_ : ndarray or CSR array of shape (1, n_features) or (n_classes, n_features)
        Coefficients; one row for two classes.
    intercept_ : ndarray of shape (1,) or (n_classes,)
        Intercepts; zeros without `fit_intercept`.
    n_iter_ : ndarray of shape (1,)
        Iterations or epochs done.
    n_features_in_ : int
        Number of features of X.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, where X had names that are all strings.
    module_ : torch.nn.Linear
        The model as a module over the memory of ``coef_`` and ``intercept_``.
    history_ : dict of lists
        A row an iteration: the objective divided by ``C * sum(s)``, seconds and learning rate.
        ``pandas.DataFrame(clf.history_)`` makes a table of it.

    See Also
    --------
    sklearn.linear_model.LogisticRegression : The same on scikit-learn's own solvers.
    sknets.neural_network.MLPClassifier : With hidden layers.

    Notes
    -----
    At a small `tol` and in float64 the solution is scikit-learn's. The default `tol` stops earlier:
    on the digits the coefficients are then about a tenth away from it, under either library.

    References
    ----------
    `sklearn.linear_model.LogisticRegression
    <https://scikit-learn.org/stable/modules/generated/sklearn.linear_model.LogisticRegression.html>`_

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sknets.linear_model import LogisticRegression
    >>> X, y = load_iris(return_X_y=True)
    >>> clf = LogisticRegression(solver="newton-cg").fit(X, y)
    >>> clf.predict(X[:2])
    array([0, 0])
    >>> round(clf.score(X, y), 2)
    0.97
    """

    _stacker = LogisticStacker()
    _keeps_objects = True
    _parameter_constraints: ClassVar[dict[str, list]] = {
        "C": [Interval(Real, 0, None, closed="right")],
        "l1_ratio": [Interval(Real, 0, 1, closed="both")],
        "dual": ["boolean"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "fit_intercept": ["boolean"],
        "intercept_scaling": [Interval(Real, 0, None, closed="neither")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "random_state": ["random_state"],
        "solver": [
            StrOptions({*_FULL_BATCH, *_MINI_BATCH}),
            Hidden(StrOptions(set(_ELSEWHERE))),
        ],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        **DEVICE_CONSTRAINTS,
        "compile": [Options(bool, {False}), StrOptions({"numba"})],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"constant", "adaptive"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "shuffle": ["boolean"],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        *,
        C: float = 1.0,
        l1_ratio: float = 0.0,
        dual: bool = False,
        tol: float = 1e-4,
        fit_intercept: bool = True,
        intercept_scaling: float = 1,
        class_weight: Any = None,
        random_state: Any = None,
        solver: str = "lbfgs",
        max_iter: int = 100,
        verbose: int = 0,
        warm_start: bool = False,
        device: Any = "auto",
        precision: str = "auto",
        compile: bool | str = False,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.01,
        shuffle: bool = True,
        n_iter_no_change: int = 10,
    ) -> None:
        self.C = C
        self.l1_ratio = l1_ratio
        self.dual = dual
        self.tol = tol
        self.fit_intercept = fit_intercept
        self.intercept_scaling = intercept_scaling
        self.class_weight = class_weight
        self.random_state = random_state
        self.solver = solver
        self.max_iter = max_iter
        self.verbose = verbose
        self.warm_start = warm_start
        self.device = device
        self.precision = precision
        self.compile = compile
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.shuffle = shuffle
        self.n_iter_no_change = n_iter_no_change

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Fit the coefficients to X and y.

        Parameters
        ----------
        X : {array-like, CSR matrix, torch.Tensor} of shape (n_samples, n_features)
            Training rows. CSR is not densified by full-batch solvers.
        y : array-like of shape (n_samples,)
            Labels of any kind, of at least two classes.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row in the loss, not negative; None is 1 for all.

        Returns
        -------
        object
            The fitted estimator itself.

        Raises
        ------
        ValueError
            If a parameter or an input breaks its rule, y has one class, or the loss turns NaN or
            infinite; the estimator is then as it was before.
        """
        self._check_settings()
        with self._all_or_nothing():
            data = self._check_logistic_data(X, y, sample_weight)
            start = self._start(data)
            self._remember(data)
            latest = start

            def keep(params: np.ndarray) -> None:
                nonlocal latest
                latest = params

            def fitted() -> dict[str, Any]:
                return {"classes_": self.classes_, **self._exported(data, latest)}

            hooks = fit_hooks(self, X, y, sample_weight, fitted)
            progress = Progress()
            fit = fit_mini_batch if self.solver in _MINI_BATCH else fit_full_batch
            n_iter = fit(self, data, start, progress, hooks, keep)
            self._set_fitted(fitted(), data, progress, n_iter)
        return self

    # -- before the fit --------------------------------------------------------------------------

    def _check_settings(self) -> None:
        """Refuse what no solver here can do, and what would have no effect."""
        if self.solver in _ELSEWHERE:
            raise ValueError(
                f"solver must be one of {[*_FULL_BATCH, *_MINI_BATCH]}, got {self.solver!r}. Use "
                f"{_ELSEWHERE[self.solver]}."
            )
        if self.dual:
            raise ValueError(f"dual must be False with solver={self.solver!r}, got {self.dual!r}.")
        if self.l1_ratio != 0 and np.isfinite(self.C) and self.solver not in _WITH_L1:
            raise ValueError(
                f"l1_ratio must be 0 with solver={self.solver!r}, which has no L1 penalty, got "
                f'{self.l1_ratio!r}. Use solver="proximal-newton".'
            )
        if uses_numba(self) and self.solver != "lbfgs":
            raise ValueError(f'solver must be "lbfgs" with compile="numba", got {self.solver!r}.')
        if self.solver in _MINI_BATCH:
            return
        if self.precision == "bf16":
            raise ValueError(
                'precision must not be "bf16" with a full-batch solver, whose line search needs '
                f'more digits, got it with solver={self.solver!r}. Use solver="adam".'
            )
        for name, default in _MINI_BATCH_ONLY.items():
            value = getattr(self, name)
            if value != default:
                raise ValueError(
                    f"{name} must be {default!r} with solver={self.solver!r}, which has no "
                    f'mini-batches, got {value!r}. Use solver="adam" or "sgd".'
                )

    def _check_logistic_data(self, X: Any, y: Any, sample_weight: Any) -> TrainingData:
        """Check and encode X, y and weights, the weights of classes included."""
        balanced = isinstance(self.class_weight, str)
        data = self._check_training_data(
            X, y, sample_weight, class_weight=None if balanced else self.class_weight
        )
        self._check_classes(data.codec)
        check_numba_linear(self, data.device)
        if balanced:
            weight = balanced_weights(
                data.sample_weight, data.target, len(data.codec.classes), data.rows.dtype
            )
            data = dataclasses.replace(data, sample_weight=weight)
        return data

    def _check_classes(self, codec: LabelCodec) -> None:
        if len(codec.classes) < 2:
            raise ValueError(
                f"y must hold at least two classes, got one class: {codec.classes.tolist()[0]!r}."
            )

    def _start(self, data: TrainingData) -> np.ndarray:
        """Return the parameters (K, D) to start from: zeros, or those of the last fit."""
        shape = (data.codec.n_outputs, data.rows.n_features + int(self.fit_intercept))
        if not (self.warm_start and hasattr(self, "coef_")):
            return np.zeros(shape)
        coef = self.coef_.toarray() if sparse.issparse(self.coef_) else as_numpy(self.coef_)
        parts = [np.asarray(coef, dtype=np.float64)]
        if self.fit_intercept:
            parts.append(np.asarray(as_numpy(self.intercept_), dtype=np.float64)[:, None])
        start = np.hstack(parts)
        if start.shape != shape:
            raise ValueError(
                "warm_start can only be used where X and y have as many features and classes as in "
                f"the previous call to fit: coef_ must have shape {(shape[0], parts[0].shape[1])}, "
                f"got {parts[0].shape}."
            )
        return start

    # -- after it ---------------------------------------------------------------------------------

    def _set_fitted(
        self, fitted: dict[str, Any], data: TrainingData, progress: Progress, n_iter: int
    ) -> None:
        for name, value in fitted.items():
            setattr(self, name, value)
        self.history_ = progress.history
        self.n_iter_ = data.namespace.export(torch.tensor([n_iter], dtype=torch.int32))

    def _exported(self, data: TrainingData, params: np.ndarray) -> dict[str, Any]:
        """Return ``coef_`` and ``intercept_`` of parameters (K, D), in X's library and dtype."""
        both = torch.from_numpy(np.array(params, dtype=np.float64)).to(data.rows.dtype)
        n_features = data.rows.n_features
        coef = both[:, :n_features].contiguous()
        bias = both[:, -1].clone() if self.fit_intercept else coef.new_zeros(len(coef))
        export = data.namespace.export
        return {"coef_": export(coef), "intercept_": export(bias)}
