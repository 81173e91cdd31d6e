"""Rosenblatt's perceptron."""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import Any

import torch
from sklearn.exceptions import ConvergenceWarning

from sknets._base import DEVICE_CONSTRAINTS, BaseClassifier, TrainingData
from sknets._base._hooks import fit_hooks
from sknets._core import make_random_state
from sknets._core._sklearn import Interval, StrOptions, check_partial_fit_first_call, fit_context
from sknets._engine._perceptron import PerceptronLoop
from sknets._engine._perceptron_task import PerceptronResult
from sknets.linear_model._linear_prediction import LinearPredictionMixin
from sknets.linear_model._perceptron_fit import make_settings, split_rows, start_from
from sknets.linear_model._perceptron_stacking import PerceptronStacker


class Perceptron(LinearPredictionMixin, BaseClassifier):
    r"""Rosenblatt's perceptron, one class against the rest.

    Looks at one row after another and, where a row is on the wrong side or on the plane
    (:math:`y\,(w^\top x + b) \le 0` with y of -1 or +1), moves the plane by
    :math:`w \leftarrow w + \eta\, y\, x`, :math:`b \leftarrow b + \eta\, y`. That this ends if some
    plane separates the classes is Rosenblatt's theorem.

    Parameters
    ----------
    penalty : {"l2", "l1", "elasticnet"} or None, default=None
        Penalty on the weights. "l1" and "elasticnet" leave weights at zero; they run on the CPU
        and take several times as long as the others, and as scikit-learn's.
    alpha : float, default=0.0001
        Strength of the penalty.
    l1_ratio : float, default=0.15
        Share of L1, from 0 to 1, in penalty "elasticnet".
    fit_intercept : bool, default=True
        Whether there is an intercept.
    max_iter : int, default=1000
        Epochs of `fit` at most.
    tol : float or None, default=1e-3
        An epoch counts as better if a class's mean loss (and penalty) is below its best so far by
        at least this; None trains all epochs.
    shuffle : bool, default=True
        Whether to permute the order of the rows in every epoch.
    verbose : int, default=0
        Whether to print a line an epoch.
    eta0 : float, default=1.0
        Learning rate. From weights of zero and without a penalty it scales the weights and the
        loss: after as many epochs, predictions are the same up to rounding. `tol` is not scaled, so
        that training may stop at another epoch.
    n_jobs : int or None, default=None
        Without effect: all classes are trained together.
    random_state : int, RandomState instance or None, default=0
        Shuffles the rows and splits off validation rows.
    early_stopping : bool, default=False
        Whether to stop when the accuracy on a stratified share of the rows, which is then not
        trained on, rises by less than `tol`.
    validation_fraction : float, default=0.1
        Share of validation rows with `early_stopping`.
    n_iter_no_change : int, default=5
        Epochs in a row that are no better, after which a class stops.
    class_weight : dict, "balanced" or None, default=None
        Factor of the steps at rows of each class. As in scikit-learn, with more than two classes it
        applies to the class's own rows only, not to the rest's.
    warm_start : bool, default=False
        Whether `fit` starts from the weights of the last one.
    device : str or torch.device, default="auto"
        Where to fit: "cpu", "cuda", "cuda:1", "mps"; "auto" takes a GPU if there is one.
    precision : {"auto", "float32", "float64"}, default="auto"
        "auto" is X's precision on the CPU and float32 on a GPU.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted.
    coef_ : ndarray or CSR array of shape (1, n_features) or (n_classes, n_features)
        Weights; one row for two classes.
    intercept_ : ndarray of shape (1,) or (n_classes,)
        Intercepts; zeros without `fit_intercept`.
    n_iter_ : int
        Epochs of the class that took most.
    t_ : int
        One more than the rows seen, ``n_iter_ * n_samples + 1`` after `fit`.
    n_features_in_ : int
        Number of features of X.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, where X had names that are all strings.
    module_ : torch.nn.Linear
        The model as a module over the memory of ``coef_`` and ``intercept_``.
    history_ : dict of lists
        A row an epoch. ``train_loss`` is the mean over classes of the mean of ``max(0, -y score)``,
        each row's score taken when the row was seen; a class that has stopped counts with its last
        epoch. ``validation_score`` is the mean over classes of the accuracy against the rest.
        ``n_mistakes`` counts the mistakes of the ``n_learning`` classes that were still learning.
        ``pandas.DataFrame(clf.history_)`` makes a table of it.

    See Also
    --------
    sklearn.linear_model.Perceptron : The same in scikit-learn.
    sknets.linear_model.LogisticRegression : A linear classifier with probabilities.

    Notes
    -----
    Rows of few numbers that are not zero pass through scikit-learn's compiled loop, where neither
    rows nor classes are weighted and there is no penalty. Other rows are taken in blocks: the
    scores of a block are one product, and a mistake then shifts the scores of the rows behind it by
    a row of the block's Gram matrix. Few weighted rows are followed from mistake to mistake. With
    ``shuffle=False`` the weights are scikit-learn's up to rounding, but of CSR rows with a penalty;
    with ``shuffle=True`` all classes see the same order, where scikit-learn draws one for each, by
    a generator of its own: the weights are others, with two classes too.

    With `early_stopping` and an L2 part in the penalty, the validation score is that of the weights
    as they are; scikit-learn's leaves out how much they have shrunk.

    References
    ----------
    Rosenblatt, F., "The perceptron: a probabilistic model for information storage and organization
    in the brain", Psychological Review 65(6), 1958.

    `sklearn.linear_model.Perceptron
    <https://scikit-learn.org/stable/modules/generated/sklearn.linear_model.Perceptron.html>`_

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sknets.linear_model import Perceptron
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = Perceptron(device="cpu").fit(X, y)
    >>> clf.score(X, y) > 0.9
    True
    """

    _stacker = PerceptronStacker()
    t_: int

    _parameter_constraints: dict = {
        "penalty": [StrOptions({"l2", "l1", "elasticnet"}), None],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "l1_ratio": [Interval(Real, 0, 1, closed="both")],
        "fit_intercept": ["boolean"],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left"), None],
        "shuffle": ["boolean"],
        "verbose": ["verbose"],
        "eta0": [Interval(Real, 0, None, closed="neither")],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "class_weight": [StrOptions({"balanced"}), dict, None],
        "warm_start": ["boolean"],
        **DEVICE_CONSTRAINTS,
        # A perceptron's sums need more digits than bfloat16 has.
        "precision": [StrOptions({"auto", "float32", "float64"})],
    }

    def __init__(
        self,
        *,
        penalty: str | None = None,
        alpha: float = 0.0001,
        l1_ratio: float = 0.15,
        fit_intercept: bool = True,
        max_iter: int = 1000,
        tol: float | None = 1e-3,
        shuffle: bool = True,
        verbose: int = 0,
        eta0: float = 1.0,
        n_jobs: int | None = None,
        random_state: Any = 0,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        class_weight: Any = None,
        warm_start: bool = False,
        device: Any = "auto",
        precision: str = "auto",
    ) -> None:
        self.penalty = penalty
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol
        self.shuffle = shuffle
        self.verbose = verbose
        self.eta0 = eta0
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.class_weight = class_weight
        self.warm_start = warm_start
        self.device = device
        self.precision = precision

    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: Any,
        coef_init: Any = None,
        intercept_init: Any = None,
        sample_weight: Any = None,
    ) -> Any:
        """Fit the weights to X and y.

        Parameters
        ----------
        X : {array-like, CSR matrix, torch.Tensor} of shape (n_samples, n_features)
            Training rows. CSR is densified a block at a time; as in scikit-learn its intercept
            then learns at a hundredth of the rate.
        y : array-like of shape (n_samples,)
            Labels of any kind, of at least two classes.
        coef_init : array-like of shape (1, n_features) or (n_classes, n_features), default=None
            Weights to start from; None is zeros, or those of the last fit with `warm_start`.
        intercept_init : array-like of shape (1,) or (n_classes,), default=None
            Intercepts to start from.
        sample_weight : array-like of shape (n_samples,), default=None
            Factor of each row's step, not negative; None is 1 for all.

        Returns
        -------
        object
            The fitted estimator itself.

        Raises
        ------
        ValueError
            If a parameter or an input breaks its rule, y has one class, or the weights turn NaN or
            infinite; the estimator is then as it was before.
        """
        with self._all_or_nothing():
            data = self._check_rows(X, y, sample_weight)
            if self.warm_start and hasattr(self, "coef_"):
                coef_init = self.coef_ if coef_init is None else coef_init
                intercept_init = self.intercept_ if intercept_init is None else intercept_init
            start = start_from(data, coef_init, intercept_init)
            result = self._train(data, start, (X, y, sample_weight), self.max_iter)
            self._set_fitted(data, result, len(result.epochs))
        return self

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Any:
        """Pass once over X and y, going on from the weights so far.

        Parameters
        ----------
        X : {array-like, CSR matrix, torch.Tensor} of shape (n_samples, n_features)
            Training rows.
        y : array-like of shape (n_samples,)
            Labels; not every class need occur.
        classes : array-like of shape (n_classes,), default=None
            All labels that will ever occur; needed in the first call.
        sample_weight : array-like of shape (n_samples,), default=None
            Factor of each row's step, not negative; None is 1 for all.

        Returns
        -------
        object
            The estimator itself.

        Raises
        ------
        ValueError
            If `classes` is missing in the first call or differs later, if y has a label that is not
            among them, if ``early_stopping=True`` or ``class_weight="balanced"``, or as in `fit`.
        """
        if self.early_stopping:
            raise ValueError("early_stopping must be False with partial_fit, got True.")
        if isinstance(self.class_weight, str):
            raise ValueError(
                f"class_weight must not be {self.class_weight!r} with partial_fit, which does not "
                "see all of y. Use a dict of sklearn.utils.class_weight.compute_class_weight's "
                "weights."
            )
        with self._all_or_nothing():
            fitted = hasattr(self, "coef_")
            if not check_partial_fit_first_call(self, classes):
                classes = self.classes_
            # Somebody may have set coef_, intercept_ and classes_ by hand, and no more.
            reset = not hasattr(self, "n_features_in_")
            data = self._check_rows(X, y, sample_weight, classes=classes, reset=reset)
            if fitted:
                history = getattr(self, "history_", None)
                start = start_from(data, self.coef_, self.intercept_, history)
            else:
                start = start_from(data, None, None)
            seen = getattr(self, "t_", 1)
            result = self._train(data, start, (X, y, sample_weight), 1)
            self._set_result(data, result, len(result.epochs) - len(start.epochs))
            self.t_ = seen + data.rows.n
        return self

    # -- the steps of a fit ----------------------------------------------------------------------

    def _check_rows(
        self, X: Any, y: Any, sample_weight: Any, *, classes: Any = None, reset: bool = True
    ) -> TrainingData:
        """Check and encode X, y and weights; class weights are not part of them."""
        data = self._check_training_data(X, y, sample_weight, classes=classes, reset=reset)
        if len(data.codec.classes) < 2:
            raise ValueError(
                f"y must hold more than one class, got 1 class: {data.codec.classes.tolist()[0]!r}."
            )
        return data

    def _train(
        self, data: TrainingData, start: PerceptronResult, given: tuple, max_epochs: int
    ) -> PerceptronResult:
        """Run the rule."""
        self._remember(data)
        random_state = make_random_state(self.random_state)
        task, held = split_rows(self, data, random_state)
        X, y, sample_weight = given
        settings = make_settings(self, data, task, max_epochs)
        loop = PerceptronLoop(task, settings, start, random_state, validation=held)
        loop.hooks = fit_hooks(self, X, y, sample_weight, lambda: self._exported(data, loop.result))
        return loop.run()

    def _set_result(self, data: TrainingData, result: PerceptronResult, n_epochs: int) -> None:
        """Set what `n_epochs` more epochs leave."""
        for name, value in self._exported(data, result).items():
            setattr(self, name, value)
        self.history_ = result.history
        self.n_iter_ = n_epochs

    def _set_fitted(self, data: TrainingData, result: PerceptronResult, n_epochs: int) -> None:
        """Set what ``fit`` leaves, and warn if the epochs were used up."""
        self._set_result(data, result, n_epochs)
        self.t_ = 1 + n_epochs * data.rows.n
        if self.tol is not None and n_epochs == self.max_iter:
            warnings.warn(
                f"max_iter={self.max_iter} epochs are done and training has not converged yet. "
                "Raise max_iter, or tol if the loss is good enough.",
                ConvergenceWarning,
                stacklevel=3,
            )

    def _exported(self, data: TrainingData, result: PerceptronResult) -> dict[str, Any]:
        """Return ``coef_`` and ``intercept_`` in X's library, and what else prediction needs."""
        return {
            "coef_": data.namespace.export(result.coef),
            "intercept_": data.namespace.export(torch.from_numpy(result.intercept)),
            "classes_": self.classes_,
        }
