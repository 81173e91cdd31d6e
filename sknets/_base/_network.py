"""What the networks share: fit and partial_fit by epochs or L-BFGS, from settings to weights."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Iterator
from typing import Any

import numpy as np
import torch
from sklearn.utils.metaestimators import available_if
from torch import nn

from sknets._base._classifier import BaseClassifier, ProbabilisticMixin, TrainingData
from sknets._base._hooks import fit_hooks
from sknets._base._stacked_networks import NetworkStacker
from sknets._base._training import Trained, train_by_epochs, train_full_batch
from sknets._base._training_parameters import check_settings, has_epochs
from sknets._core import is_present, make_random_state
from sknets._core._sklearn import check_partial_fit_first_call, fit_context
from sknets._data import LabelCodec, make_rows
from sknets._engine import Progress, logits_in_blocks
from sknets._nn import init_glorot_uniform_

_OF_EPOCHS = ("loss_curve_", "best_loss_", "validation_scores_", "best_validation_score_")


class BaseNetwork(ProbabilisticMixin, BaseClassifier):
    """Base of the networks.

    A child has the parameters of `TRAINING_CONSTRAINTS` and implements `_make_module`, or
    `_build_module` and `_renew_module` where weights are begun otherwise than scikit-learn's; one
    that takes images implements `_flatten` and `_engine_module` too.

    Attributes
    ----------
    module_ : nn.Module
        The net, in evaluation mode, giving logits.
    history_ : dict of lists
        A row an epoch.
    """

    _stacker = NetworkStacker()

    # -- what children say -----------------------------------------------------------------------

    def _make_module(self, n_features: int, codec: LabelCodec) -> nn.Module:
        """Return a new module whose weights are still to be set; its dtype is float64."""
        raise NotImplementedError

    def _build_module(
        self, n_features: int, codec: LabelCodec, random_state: np.random.RandomState
    ) -> nn.Module:
        """Return a new module with initial weights; its dtype is float64."""
        module = self._make_module(n_features, codec)
        return init_glorot_uniform_(module, random_state, self.activation)

    def _renew_module(self, data: TrainingData) -> nn.Module:
        """Return a copy of the fitted module to go on with, as the parameters are now."""
        module = self._make_module(data.rows.n_features, data.codec)
        fitted = self.module_.state_dict()
        before, now = _shapes(fitted), _shapes(module.state_dict())
        for name in [*before, *now]:
            if before.get(name) != now.get(name):
                raise ValueError(
                    "The layers must have the sizes of the last fit to go on from its weights, got "
                    f"{now.get(name, 'none')} instead of {before.get(name, 'none')} for {name}. "
                    "fit with warm_start=False begins anew."
                )
        module.load_state_dict(fitted)
        return module

    def _check_module(self, module: nn.Module, codec: LabelCodec) -> None:
        """Raise if a module, in the dtype of its training, is not one that can be trained."""

    def _engine_module(self, module: nn.Module) -> nn.Module:
        """Return what the engine runs on flat rows; the module itself if it takes them."""
        return module

    def _lay_out(self, module: nn.Module, data: TrainingData) -> None:
        """Choose how the module's values lie in memory, for the device and precision of `data`."""

    def _n_logits(self, module: nn.Module, codec: LabelCodec) -> int:
        """Return the number of logits that the module gives."""
        return codec.n_outputs

    def _structure(self) -> Hashable:
        """Return what is equal in estimators whose modules differ in their weights alone.

        Rates of dropout may differ too, but not between 0 and others. Settings may be invalid.
        """
        raise NotImplementedError

    def _start_settings(self) -> Hashable:
        """Return what, beside the seed, estimators of one structure begin with; None: not known.

        Where it is equal, their modules and first weights are. Settings may be invalid.
        """
        return None

    def _uses_random_numbers(self, module: nn.Module) -> bool:
        """Whether the module's forward pass draws random numbers in training."""
        dropouts = nn.modules.dropout._DropoutNd
        return any(isinstance(m, dropouts) and m.p > 0 for m in module.modules())

    # -- fit -------------------------------------------------------------------------------------

    @fit_context(prefer_skip_nested_validation=True)
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

    @available_if(has_epochs)
    @fit_context(prefer_skip_nested_validation=True)
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
        hooks = fit_hooks(self, X, y, sample_weight, lambda: self._fitted_state(module))
        if self.solver == "lbfgs":
            trained = train_full_batch(self, module, data, progress, hooks=hooks)
        else:
            trained = train_by_epochs(
                self,
                module,
                data,
                progress,
                random_state,
                held_out=self._check_validation(validation, data),
                hooks=hooks,
                incremental=incremental,
                optimiser_state=self._optimiser_state if incremental and goes_on else None,
            )
        self._set_fitted(module, progress, trained, data)
        return self

    def _check_settings(self, validation: tuple, incremental: bool) -> None:
        """Refuse settings that exclude each other; children add their own."""
        check_settings(self, validation, incremental=incremental)

    def _check_validation(self, validation: tuple, data: TrainingData) -> tuple | None:
        """Return rows, targets and weights of the user's validation set, or None."""
        X_val, y_val, weight_val = validation
        if X_val is None:
            return None
        try:
            held_out = self._check_training_data(
                self._flatten(X_val, reset=False),
                y_val,
                weight_val,
                codec=data.codec,
                multilabel=True,
                reset=False,
                precision=data.precision,
                device=data.device,
            )
        except ValueError as error:
            raise ValueError(f"The validation set, X_val and y_val, is refused: {error}") from error
        return held_out.rows, held_out.target, held_out.sample_weight

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
            module, progress = self._renew_module(data), self._progress.copy()
        else:
            module = self._build_module(data.rows.n_features, data.codec, random_state)
            progress = Progress()
        module = module.to(data.device, data.precision.dtype)
        self._check_module(module, data.codec)
        self._lay_out(module, data)
        return module, progress

    # -- what a fit leaves -----------------------------------------------------------------------

    def _set_fitted(
        self, module: nn.Module, progress: Progress, trained: Trained, data: TrainingData
    ) -> None:
        for name, value in self._fitted_state(module).items():
            setattr(self, name, value)
        self._progress = progress
        self._optimiser_state = trained.optimiser_state
        self.history_ = progress.history
        self.n_iter_ = trained.n_iter
        self.t_ = progress.n_samples_seen
        self.loss_ = trained.loss
        self.engine_ = trained.engine
        self.n_outputs_ = self._n_logits(module, data.codec)
        one_each = data.codec.kind == "multilabel" or self.n_outputs_ == 1
        self.out_activation_ = "logistic" if one_each else "softmax"
        if self.solver == "lbfgs":
            for name in _OF_EPOCHS:  # of an earlier fit with another solver
                self.__dict__.pop(name, None)
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

    def _logits_in_blocks(self, X: Any) -> Iterator[tuple[int, int, torch.Tensor]]:
        parameter = _first_parameter(self.module_)
        rows = make_rows(X, dtype=parameter.dtype, device=parameter.device, once=True)
        autocast = torch.bfloat16 if self.precision == "bf16" else None
        module = self._engine_module(self.module_)
        for start, stop, logits in logits_in_blocks(module, rows, autocast=autocast):
            if self._codec.kind == "binary" and logits.shape[1] == 2:
                logits = logits[:, 1:] - logits[:, :1]
            yield start, stop, logits

    # -- persistence -----------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """Return the state with weights that need no accelerator to load."""
        state = dict(super().__getstate__())  # a copy: that is the estimator's own
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


def _shapes(state: dict[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _first_parameter(module: nn.Module) -> nn.Parameter:
    """Return the first of a module's parameters, without a walk through all of its layers."""
    parameter = _own_or_below(module)
    assert parameter is not None  # a net without weights is not fitted
    return parameter


def _own_or_below(module: nn.Module) -> nn.Parameter | None:
    for parameter in module._parameters.values():
        if parameter is not None:
            return parameter
    for part in module._modules.values():
        parameter = None if part is None else _own_or_below(part)
        if parameter is not None:
            return parameter
    return None
