"""Randomised search with all nets trained together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from sklearn.model_selection import ParameterSampler, RandomizedSearchCV

from sknets._core._documentation import DocumentedMixin
from sknets.model_selection._vectorized import STACK_CONSTRAINTS, Vectorized


class VectorizedRandomizedSearchCV(DocumentedMixin, Vectorized, RandomizedSearchCV):
    """Randomised search whose nets are trained together, behind scikit-learn's interface.

    See :class:`VectorizedGridSearchCV` for what is stacked and what is promised.

    Parameters
    ----------
    estimator : estimator
        An `MLPClassifier`, `CNNClassifier`, `NetClassifier`, `LogisticRegression` or
        `Perceptron`, a `Pipeline` that ends in one, or any other estimator.
    param_distributions : dict or list of dict
        Distributions or lists to sample settings from.
    n_iter : int, default=10
        Number of settings.
    scoring : str, callable, list, tuple or dict, default=None
        As in `RandomizedSearchCV`.
    n_jobs : int, default=None
        Processes for the fits that are not stacked. With a backend that
        :func:`joblib.parallel_config` has registered, its workers share the stacks too.
    refit : bool, str or callable, default=True
        As in `RandomizedSearchCV`.
    cv : int, cross-validation generator or iterable, default=None
        As in `RandomizedSearchCV`.
    verbose : int, default=0
        As in `RandomizedSearchCV`; above 0, stacks tell of their epochs too.
    pre_dispatch : int or str, default="2*n_jobs"
        As in `RandomizedSearchCV`; only for a search that cannot be stacked at all.
    random_state : int, RandomState instance or None, default=None
        Source of the settings.
    error_score : "raise" or numeric, default=np.nan
        As in `RandomizedSearchCV`.
    return_train_score : bool, default=False
        As in `RandomizedSearchCV`.
    max_stack_bytes : int or "auto", default="auto"
        Memory that a stack may take, in bytes; "auto" is a quarter of what is free on the device
        where it trains, and on a CPU no more than its caches make fast. A stack for which memory
        does not suffice is halved.
    devices : list of str or torch.device, default=None
        Devices of one type that share the stacks, such as ``["cuda:0", "cuda:1"]``; there are at
        least as many stacks as devices. None is the estimator's own `device`.

    Attributes
    ----------
    cv_results_ : dict of arrays
        As in `RandomizedSearchCV`; the fit time of a stacked net is its share of the stack's.
    best_estimator_ : estimator
        As in `RandomizedSearchCV`.
    best_score_ : float
        As in `RandomizedSearchCV`.
    best_params_ : dict
        As in `RandomizedSearchCV`.
    best_index_ : int
        As in `RandomizedSearchCV`.
    scorer_ : function or dict
        As in `RandomizedSearchCV`.
    n_splits_ : int
        Number of folds.
    refit_time_ : float
        Seconds of the last fit.
    multimetric_ : bool
        Whether there are several scorers.
    vectorization_ : list
        For every candidate a list with a line a fold: which stack it ran in, or why in none.

    See Also
    --------
    VectorizedGridSearchCV : Tries every setting of a grid.

    Notes
    -----
    How equal the results are to those of single fits, say the notes of
    :class:`VectorizedGridSearchCV`.

    References
    ----------
    `sklearn.model_selection.RandomizedSearchCV
    <https://scikit-learn.org/stable/modules/generated/sklearn.model_selection.RandomizedSearchCV.html>`_

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_iris
    >>> from sknets import MLPClassifier, VectorizedRandomizedSearchCV
    >>> X, y = load_iris(return_X_y=True)
    >>> net = MLPClassifier((16,), max_iter=60, tol=1.0, random_state=0, device="cpu")
    >>> settings = {"learning_rate_init": loguniform(1e-4, 1e-1)}
    >>> search = VectorizedRandomizedSearchCV(net, settings, n_iter=4, cv=3, random_state=0)
    >>> search.fit(X, y).n_splits_
    3
    """

    _parameter_constraints: dict = {
        **RandomizedSearchCV._parameter_constraints,
        **STACK_CONSTRAINTS,
    }

    def __init__(
        self,
        estimator: Any,
        param_distributions: Any,
        *,
        n_iter: int = 10,
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: Any = True,
        cv: Any = None,
        verbose: int = 0,
        pre_dispatch: Any = "2*n_jobs",
        random_state: Any = None,
        error_score: Any = np.nan,
        return_train_score: bool = False,
        max_stack_bytes: int | str = "auto",
        devices: Any = None,
    ) -> None:
        super().__init__(
            estimator,
            param_distributions,
            n_iter=n_iter,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            random_state=random_state,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.max_stack_bytes = max_stack_bytes
        self.devices = devices

    def _list_candidates(self) -> Iterable[dict]:
        return ParameterSampler(
            self.param_distributions, self.n_iter, random_state=self.random_state
        )
