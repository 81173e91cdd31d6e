"""What the networks share: fit and partial_fit by epochs or L-BFGS, from settings to weights."""

from __future__ import annotations

import copy
import warnings
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from sklearn.base import _fit_context
from sklearn.model_selection import train_test_split
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted
from torch import nn

from sknets._base._classifier import (
    DEVICE_CONSTRAINTS,
    BaseClassifier,
    ProbabilisticMixin,
    TrainingData,
)
from sknets._base._hooks import fit_hooks
from sknets._core import is_present, make_generator, make_random_state
from sknets._core._sklearn import check_partial_fit_first_call
from sknets._data import Batches, LabelCodec, SubsetRows, make_rows
from sknets._engine import (
    AutogradStep,
    EpochLoop,
    FlatParameters,
    FullBatch,
    Progress,
    Step,
    Training,
    Validation,
    logits_in_blocks,
    make_dense_step,
    train_lbfgs,
    useful_threads,
)
from sknets._nn import OPTIMISERS, LogLoss, make_optimiser, make_schedule

TRAINING_CONSTRAINTS: dict[str, list] = {
    "solver": [StrOptions({"lbfgs", *OPTIMISERS})],
    "alpha": [Interval(Real, 0, None, closed="left")],
    "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
    "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
    "power_t": [Interval(Real, 0, None, closed="left")],
    "max_iter": [Interval(Integral, 1, None, closed="left")],
    "shuffle": ["boolean"],
    "random_state": ["random_state"],
    "tol": [Interval(Real, 0, None, closed="left")],
    "verbose": ["verbose"],
    "warm_start": ["boolean"],
    "momentum": [Interval(Real, 0, 1, closed="both")],
    "nesterovs_momentum": ["boolean"],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="left")],
    "beta_1": [Interval(Real, 0, 1, closed="left")],
    "beta_2": [Interval(Real, 0, 1, closed="left")],
    "epsilon": [Interval(Real, 0, None, closed="neither")],
    "n_iter_no_change": [
        Interval(Integral, 1, None, closed="left"),
        Options(Real, {np.inf}),
    ],
    "max_fun": [Interval(Integral, 1, None, closed="left")],
    "class_weight": [dict, list, StrOptions({"balanced"}), None],
    "callbacks": ["array-like", None],
    **DEVICE_CONSTRAINTS,
}
"""The part of ``_parameter_constraints`` that all networks share."""


def _has_epochs(estimator: Any) -> bool:
    if estimator.solver not in OPTIMISERS:
        raise AttributeError(
            f"partial_fit is only available for solvers that train by mini-batches, "
            f"{sorted(OPTIMISERS)}, got solver={estimator.solver!r}."
        )
    return True


class BaseNetwork(ProbabilisticMixin, BaseClassifier):
    """Base of the networks.

    A child has the parameters of `TRAINING_CONSTRAINTS` and implements `_build_module`; one that
    takes images implements `_flatten` and `_engine_module` too.

    Attributes
    ----------
    module_ : nn.Module
        The net, in evaluation mode, giving logits.
    history_ : dict of lists
        A row an epoch.
    """

    # -- what children say -----------------------------------------------------------------------

    def _build_module(
        self, n_features: int, codec: LabelCodec, random_state: np.random.RandomState
    ) -> nn.Module:
        """Return a new module with initial weights; its dtype is float64."""
        raise NotImplementedError

    def _engine_module(self, module: nn.Module) -> nn.Module:
        """Return what the engine runs on flat rows; the module itself if it takes them."""
        return module

    def _flatten(self, X: Any, *, reset: bool) -> Any:
        """Return X with one row a sample; images are flattened here, without a copy."""
        return X

    def _n_logits(self, module: nn.Module, codec: LabelCodec) -> int:
        """Return the number of logits that the module gives."""
        return codec.n_outputs

    def _uses_random_numbers(self, module: nn.Module) -> bool:
        """Whether the module's forward pass draws random numbers in training."""
        dropouts = nn.modules.dropout._DropoutNd
        return any(isinstance(m, dropouts) and m.p > 0 for m in module.modules())

    # -- fit -------------------------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Any:
        """Fit the network to X and y.

        Parameters
        ----------
        X : {array-like, CSR matrix, torch.Tensor} of shape (n_samples, n_features)
            Training rows.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Labels of any kind, or a multilabel indicator matrix.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row in the loss, not negative; None is 1 for all.
        X_val : array-like of shape (n_val, n_features), default=None
            Rows to validate on after every epoch, in place of a share of X. With
            ``early_stopping=True`` they decide when to stop and which weights to keep; without,
            their loss and score are only recorded. In a `Pipeline`, X_val is transformed like X
            with ``Pipeline(..., transform_input=["X_val"])``.
        y_val : array-like of shape (n_val,) or (n_val, n_labels), default=None
            Labels of X_val.
        sample_weight_val : array-like of shape (n_val,), default=None
            Weights of X_val.

        Returns
        -------
        object
            The fitted estimator itself.

        Raises
        ------
        ValueError
            If a parameter or an input breaks its rule, or the loss turns NaN or infinite; the
            estimator is then as it was before.

        References
        ----------
        `sklearn.neural_network.MLPClassifier.fit
        <https://scikit-learn.org/stable/modules/generated/sklearn.neural_network.MLPClassifier.html>`_
        """
        validation = (X_val, y_val, sample_weight_val)
        with self._all_or_nothing():
            return self._fit(X, y, sample_weight, validation=validation)

    @available_if(_has_epochs)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Any:
        """Train for one epoch over X and y, going on from the weights so far.

        Parameters
        ----------
        X : {array-like, CSR matrix, torch.Tensor} of shape (n_samples, n_features)
            Training rows.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Labels; not every class need occur.
        classes : array-like of shape (n_classes,), default=None
            All labels that will ever occur; needed in the first call.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row in the loss, not negative; None is 1 for all.

        Returns
        -------
        object
            The estimator itself.

        Raises
        ------
        ValueError
            If `classes` is missing in the first call or differs later, if y has a label that is
            not among them, if ``early_stopping=True``, or as in `fit`.
        """
        if self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        with self._all_or_nothing():
            if not check_partial_fit_first_call(self, classes):
                classes = self.classes_
            return self._fit(X, y, sample_weight, classes=classes, incremental=True)

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        *,
        validation: tuple = (None, None, None),
        classes: Any = None,
        incremental: bool = False,
    ) -> Any:
        goes_on = hasattr(self, "module_") and (incremental or self.warm_start)
        self._check_settings(validation, incremental)
        rows = self._flatten(X, reset=not goes_on)
        data = self._check_training_data(
            rows,
            y,
            sample_weight,
            class_weight=self.class_weight,
            codec=self._codec if goes_on else None,
            classes=classes,
            multilabel=True,
            reset=not goes_on,
        )
        if goes_on and not incremental:
            self._check_same_classes(data)
        self._remember(data)
        random_state = make_random_state(self.random_state)
        module, progress = self._start(data, random_state, goes_on)
        if self.solver == "lbfgs":
            n_iter, loss = self._train_full_batch(module, data, progress)
        else:
            hooks = fit_hooks(self, X, y, sample_weight, lambda: self._fitted_state(module))
            n_iter, loss = self._train_epochs(
                module, data, progress, random_state, validation, hooks, incremental, goes_on
            )
        self._set_fitted(module, progress, n_iter, loss, data)
        return self

    def _check_settings(self, validation: tuple, incremental: bool) -> None:
        """Refuse parameters of ours that would have no effect under the solver."""
        X_val, y_val, weight_val = validation
        if (X_val is None) != (y_val is None):
            missing, given = ("y_val", "X_val") if y_val is None else ("X_val", "y_val")
            raise ValueError(f"{given} is provided, but {missing} was not provided.")
        if weight_val is not None and X_val is None:
            raise ValueError("sample_weight_val is provided, but X_val was not provided.")
        if incremental and isinstance(self.class_weight, str):
            raise ValueError(
                'class_weight must not be "balanced" in partial_fit, which sees a part of the '
                "data at a time. Pass the weights as a dict, or by sample_weight."
            )
        if self.solver != "lbfgs":
            return
        for name, value in (("X_val", X_val), ("callbacks", self.callbacks)):
            if value is not None:
                raise ValueError(
                    f'{name} must be None with solver="lbfgs", which has no epochs, got a '
                    f"{type(value).__name__}."
                )
        if np.any(np.asarray(getattr(self, "dropout", 0.0)) != 0):
            raise ValueError(
                'dropout must be 0 with solver="lbfgs", whose line search needs the same loss for '
                f"the same weights, got {self.dropout!r}."
            )

    def _check_same_classes(self, data: TrainingData) -> None:
        if data.codec.kind == "multilabel":
            return
        seen = data.codec.classes[np.unique(data.target.cpu().numpy())]
        if len(seen) != len(data.codec.classes):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous "
                f"call to fit. Previously got {data.codec.classes}, `y` has {seen}."
            )

    def _start(
        self, data: TrainingData, random_state: np.random.RandomState, goes_on: bool
    ) -> tuple[nn.Module, Progress]:
        """Return the module and progress to go on with, or new ones."""
        if goes_on:
            module, progress = copy.deepcopy(self.module_), self._progress.copy()
        else:
            module = self._build_module(data.rows.n_features, data.codec, random_state)
            progress = Progress()
        return module.to(data.device, data.precision.dtype), progress

    # -- ways of training ------------------------------------------------------------------------

    def _make_step(
        self,
        module: nn.Module,
        flat: FlatParameters,
        data: TrainingData,
        *,
        alpha: float,
        generator: torch.Generator | None,
    ) -> tuple[Step, LogLoss]:
        two_logits = self._n_logits(module, data.codec) == 2 and data.codec.kind == "binary"
        loss = LogLoss("multiclass" if two_logits else data.codec.kind)
        autocast = data.precision.autocast
        engine_module = self._engine_module(module)
        step: Step | None = None
        if autocast is None:
            step = make_dense_step(engine_module, loss, flat, alpha=alpha, generator=generator)
        if step is None:
            step = AutogradStep(
                engine_module, loss, flat, alpha=alpha, generator=generator, autocast=autocast
            )
        return step, loss

    def _train_epochs(
        self,
        module: nn.Module,
        data: TrainingData,
        progress: Progress,
        random_state: np.random.RandomState,
        validation: tuple,
        hooks: Any,
        incremental: bool,
        goes_on: bool,
    ) -> tuple[int, float]:
        flat = FlatParameters(module)
        optimiser = make_optimiser(self.solver, [flat.vector], self.get_params(deep=False))
        if incremental and goes_on and self._optimiser_state is not None:
            optimiser.load_state_dict(copy.deepcopy(self._optimiser_state))
        schedule = make_schedule(
            self.learning_rate if OPTIMISERS[self.solver].scheduled else "constant",
            optimiser,
            initial=self.learning_rate_init,
            power_t=self.power_t,
        )
        train_index, held_out = self._split(data, validation, random_state)
        generator = None
        if self._uses_random_numbers(module):
            generator = make_generator(random_state, data.device)
            generator.manual_seed(generator.initial_seed() + progress.n_samples_seen)
        step, loss = self._make_step(module, flat, data, alpha=self.alpha, generator=generator)
        batches = self._make_batches(data, train_index, random_state)
        training = Training(
            module=self._engine_module(module),
            flat=flat,
            step=step,
            optimiser=optimiser,
            schedule=schedule,
            batches=batches,
            progress=progress,
            max_epochs=self.max_iter,
            tol=self.tol,
            n_iter_no_change=self.n_iter_no_change,
            task=loss.task,
            validation=None if held_out is None else Validation(*held_out, loss, loss.task,
                                                                data.precision.autocast),
            early_stopping=self.early_stopping,
            single_epoch=incremental,
            verbose=bool(self.verbose),
            callbacks=self.callbacks,
            n_threads=useful_threads(module, data.rows.n_features, batches.batch_size),
        )
        loop = EpochLoop(training, hooks)
        loop.run()
        flat.release()
        self._optimiser_state = _to_cpu(optimiser.state_dict())
        self.engine_ = step.name
        return loop.n_epochs, progress.loss_curve[-1]

    def _make_batches(
        self, data: TrainingData, index: np.ndarray | None, random_state: np.random.RandomState
    ) -> Batches:
        rows, target, weight = _subset(data, index)
        if self.batch_size == "auto":
            batch_size = min(200, rows.n)
        else:
            if self.batch_size > rows.n:
                warnings.warn(
                    f"batch_size must be at most the number of training rows, {rows.n}, got "
                    f"{self.batch_size}. It is clipped.",
                    stacklevel=2,
                )
            batch_size = min(int(self.batch_size), rows.n)
        return Batches(
            rows,
            target,
            weight,
            batch_size=batch_size,
            random_state=random_state if self.shuffle else None,
        )

    def _split(
        self, data: TrainingData, validation: tuple, random_state: np.random.RandomState
    ) -> tuple[np.ndarray | None, tuple | None]:
        """Return the rows to train on (None: all), and rows, targets and weights held out."""
        X_val, y_val, weight_val = validation
        if X_val is not None:
            held = self._check_training_data(
                self._flatten(X_val, reset=False),
                y_val,
                weight_val,
                class_weight=None,
                codec=data.codec,
                multilabel=True,
                reset=False,
            )
            rows = held.rows
            if rows.dtype != data.rows.dtype or rows.device != data.device:
                raise ValueError(
                    f"X_val must have the dtype and device of X, {data.rows.dtype} on "
                    f"{data.device}, got {rows.dtype} on {rows.device}."
                )
            return None, (rows, held.target, held.sample_weight)
        if not self.early_stopping:
            return None, None
        # scikit-learn draws the split from the same source, stratified for two classes only.
        stratify = data.target.cpu().numpy() if data.codec.kind == "binary" else None
        train, held_index = train_test_split(
            np.arange(data.rows.n),
            random_state=random_state,
            test_size=self.validation_fraction,
            stratify=stratify,
        )
        if len(held_index) < 2:
            raise ValueError(
                "The validation set must have at least 2 rows, got "
                f"{len(held_index)} of {data.rows.n}. Increase validation_fraction "
                f"(now {self.validation_fraction}) or pass more data."
            )
        return train, _subset(data, held_index)

    def _train_full_batch(
        self, module: nn.Module, data: TrainingData, progress: Progress
    ) -> tuple[int, float]:
        flat = FlatParameters(module)
        module.train()
        step, _ = self._make_step(module, flat, data, alpha=0.0, generator=None)
        rows = data.rows
        block = min(rows.n, rows.block_rows)
        batches = Batches(
            rows, data.target, data.sample_weight, batch_size=block, random_state=None
        )
        n_iter = train_lbfgs(
            FullBatch(flat, step, batches, self.alpha),
            progress,
            tol=self.tol,
            max_iter=self.max_iter,
            max_fun=self.max_fun,
            verbose=bool(self.verbose),
            n_threads=useful_threads(module, rows.n_features, block),
        )
        flat.release()
        module.eval()
        self._optimiser_state = None
        self.engine_ = f"lbfgs, {step.name}"
        losses = progress.history["train_loss"]
        return n_iter, losses[-1] if losses else float("nan")

    # -- what a fit leaves -----------------------------------------------------------------------

    def _set_fitted(
        self, module: nn.Module, progress: Progress, n_iter: int, loss: float, data: TrainingData
    ) -> None:
        for name, value in self._fitted_state(module).items():
            setattr(self, name, value)
        self._progress = progress
        self.history_ = progress.history
        self.n_iter_ = n_iter
        self.t_ = progress.n_samples_seen
        self.loss_ = loss
        self.n_outputs_ = self._n_logits(module, data.codec)
        one_each = data.codec.kind == "multilabel" or self.n_outputs_ == 1
        self.out_activation_ = "logistic" if one_each else "softmax"
        if self.solver == "lbfgs":
            return
        self.loss_curve_ = progress.loss_curve
        self.best_loss_ = None if self.early_stopping else progress.best_loss
        self.validation_scores_ = progress.validation_scores if self.early_stopping else None
        self.best_validation_score_ = progress.best_score if self.early_stopping else None

    def _fitted_state(self, module: nn.Module) -> dict[str, Any]:
        """Return the attributes that prediction needs."""
        return {"module_": module, "classes_": self.classes_}

    def __sklearn_is_fitted__(self) -> bool:
        """Whether there is a module to predict with."""
        return hasattr(self, "module_")

    # -- prediction ------------------------------------------------------------------------------

    def _checked_logits(self, X: Any, method: str) -> Any:
        check_is_fitted(self)
        return super()._checked_logits(self._flatten(X, reset=False), method)

    def _logits(self, X: Any) -> torch.Tensor:
        parameter = next(self.module_.parameters())
        rows = make_rows(X, dtype=parameter.dtype, device=parameter.device)
        autocast = torch.bfloat16 if self.precision == "bf16" else None
        module = self._engine_module(self.module_)
        parts = [logits for *_, logits in logits_in_blocks(module, rows, autocast=autocast)]
        logits = parts[0] if len(parts) == 1 else torch.cat(parts)
        if self._codec.kind == "binary" and logits.shape[1] == 2:
            return logits[:, 1:] - logits[:, :1]
        return logits

    # -- persistence -----------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """Return the state with weights that need no accelerator to load."""
        state = super().__getstate__()
        if "module_" in state:
            parameter = next(state["module_"].parameters())
            if parameter.device.type != "cpu":
                state["module_"] = copy.deepcopy(state["module_"]).cpu()
                state["_trained_on"] = str(parameter.device)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Load the state; weights go back to their device where that is present."""
        super().__setstate__(state)
        device = self.__dict__.pop("_trained_on", None)
        if device is not None and is_present(torch.device(device)):
            self.module_.to(device)

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags: multilabel targets are taken too."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


def _subset(data: TrainingData, index: np.ndarray | None) -> tuple:
    """Return rows, targets and weights of the rows numbered `index` (None: all)."""
    if index is None:
        return data.rows, data.target, data.sample_weight
    where = torch.from_numpy(index).to(data.device)
    weight = data.sample_weight
    return (
        SubsetRows(data.rows, index),
        data.target[where],
        None if weight is None else weight[where],
    )


def _to_cpu(state: Any) -> Any:
    """Return a nested state with its tensors copied to the CPU."""
    if isinstance(state, torch.Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        return {key: _to_cpu(value) for key, value in state.items()}
    if isinstance(state, list):
        return [_to_cpu(value) for value in state]
    return state
