"""Fits of many estimators as stacks: which may share one, and the estimators that come out.

Kinds of estimators are stacked in ways of their own: each class names its `Stacker`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn import get_config

from sknets._base._classifier import TrainingData
from sknets._core import free_bytes, is_out_of_memory, release_memory
from sknets._data import check_fits_dtype, check_sample_weight, combine_weights


class CannotStack(Exception):
    """Raised by `Stacker.run` where fits turn out not to stack; the message says why."""


@dataclass
class StackedFit:
    """One fit to make: an estimator, and the rows of the shared data that it trains on.

    Attributes
    ----------
    estimator : BaseClassifier
        Not fitted; with the candidate's parameters set and what its X told (``n_features_in_``,
        ``feature_names_in_``, the shape of a sample). Fitted by the stacker.
    rows : ndarray of shape (n_train,)
        Numbers of the training rows, in the order in which the estimator alone would get them.
    data : TrainingData
        Of all rows; fits with the same object share their X. Its codec knows the classes that
        the training rows show, and no other. Class weights are not in its weights.
    where : str
        Which stack the fit ran in, or why in none. Not set by the stacker.
    error : Exception or None
        What the fit raised. Set by the stacker.
    seconds : float
        This fit's share of its stack's time. Set by the stacker.
    is_done : bool
        Whether the fit was made, or failed. Set by `run_stack`.
    """

    estimator: Any
    rows: np.ndarray
    data: TrainingData
    where: str = ""
    error: Exception | None = None
    seconds: float = 0.0
    is_done: bool = False

    def weights(self, *, of_classes: bool = True) -> torch.Tensor | None:
        """Return the weights of the training rows, those of classes included if asked for.

        Raises
        ------
        ValueError
            If they are all zero, their sum has no place in the dtype, or the class weights name a
            class that the rows do not show.
        """
        data, index = self.data, torch.from_numpy(self.rows).to(self.data.device)
        class_weight = self.estimator.class_weight if of_classes else None
        if data.sample_weight is None and class_weight is None:
            return None
        weight = None if data.sample_weight is None else data.sample_weight[index].cpu().numpy()
        weight = check_sample_weight(weight, len(self.rows))
        target = data.target[index].cpu().numpy()
        many = data.codec.kind == "multilabel"
        labels = target.astype(np.int64) if many else data.codec.classes[target]
        weight = combine_weights(weight, class_weight, labels, data.codec.classes)
        if weight is None:
            return None
        check_fits_dtype(weight, data.precision.dtype)
        return torch.from_numpy(weight).to(data.device, data.precision.dtype)


class Stacker:
    """How estimators of one kind are fitted in stacks.

    An estimator class names its stacker in the class attribute ``_stacker``; None, the default,
    means that there is none. A stacker has no state.
    """

    def why_not(self, estimator: Any) -> str | None:
        """Return why an estimator's settings cannot be part of any stack; None if they can.

        Settings may be invalid: they are not checked yet.
        """
        raise NotImplementedError

    def check_data(self, estimator: Any, X: Any, y: Any, sample_weight: Any) -> TrainingData:
        """Check and encode all rows as the estimator's ``fit`` would, without class weights.

        What the estimator learns of X is set on it, and copied to the estimators of all fits.
        """
        return estimator._check_training_data(X, y, sample_weight)

    def key(self, fit: StackedFit) -> Hashable:
        """Return what the fits of one stack have in common, beside class and data."""
        raise NotImplementedError

    def bytes_of_a_fit(self, fit: StackedFit) -> int:
        """Estimate the memory that one fit takes in a stack."""
        raise NotImplementedError

    def useful_size(self, fit: StackedFit, n_bytes: int, n_threads: int) -> int | None:
        """Return how many fits, of `n_bytes`, make the fastest stack; None: the more the better."""
        return None

    def run(self, fits: Sequence[StackedFit], after_epoch: Callable[[], None]) -> None:
        """Fit the estimators of one stack, which have equal keys.

        Sets the fitted attributes, warns as ``fit`` alone would, and sets ``fit.seconds``. A fit
        that fails gets ``fit.error`` and does not touch the others. The estimators' parameters
        (a ``RandomState`` among them) are left as they are: after a lack of memory the same fits
        run again in smaller stacks.

        Parameters
        ----------
        fits : sequence of StackedFit
            At least one.
        after_epoch : callable () -> None
            To be called after every epoch or iteration of the stack, at most ``max_iter`` times.

        Raises
        ------
        CannotStack
            If the fits have to be made one by one after all.
        """
        raise NotImplementedError

    def predict_all(self, estimators: Sequence[Any], X: Any) -> list[Any]:
        """Return what ``predict`` of each of some fitted estimators gives for X."""
        return [estimator.predict(X) for estimator in estimators]


def stacker_of(estimator: Any) -> Stacker | None:
    """Return the stacker that an estimator's class names; None where it has a ``fit`` of its own.

    A subclass of the user's may do anything in it.
    """
    fit = getattr(type(estimator), "fit", None)
    is_ours = getattr(fit, "__module__", "").startswith("sknets.")
    return getattr(type(estimator), "_stacker", None) if is_ours else None


def why_not_stacked(estimator: Any) -> str | None:
    """Return why an estimator's fit cannot be part of a stack; None if it can."""
    stacker = stacker_of(estimator)
    if stacker is None:
        return f"{type(estimator).__name__} is not fitted in stacks"
    for name in ("callbacks", "warm_start", "verbose"):
        if getattr(estimator, name, None):
            return f"{name} is set"
    if getattr(estimator, "_skl_callbacks", None):
        return "it has callbacks"
    return stacker.why_not(estimator)


def cut_stacks(
    fits: Sequence[StackedFit], *, max_bytes: int | None = None, n_workers: int = 1
) -> list[list[StackedFit]]:
    """Return the fits in as few stacks as there are keys, memory allows and workers want.

    A fit with settings that break a rule is in no stack: its error is set.

    Parameters
    ----------
    fits : sequence of StackedFit
        Whose estimators `why_not_stacked` has nothing against.
    max_bytes : int or None, default=None
        How much memory a stack may take; None is its part of a quarter of what is free, and no more
        than makes it faster.
    n_workers : int, default=1
        How many stacks run at once. There are at least as many stacks, if there are as many fits.
    """
    groups: dict[tuple, list[StackedFit]] = {}
    checked = _Checked()
    for fit in fits:
        try:
            checked.check(fit.estimator)
            key = (type(fit.estimator), id(fit.data), _stacker(fit).key(fit))
        except Exception as error:  # a bad value
            fit.where, fit.error, fit.is_done = "its settings are not valid", error, True
            continue
        groups.setdefault(key, []).append(fit)
    n_fits = sum(map(len, groups.values()))
    stacks = []
    for group in groups.values():
        budget, useful, stacker = max_bytes, None, _stacker(group[0])
        n_bytes = max(1, stacker.bytes_of_a_fit(group[0]))
        if budget is None:
            at_once = min(n_workers, os.cpu_count() or 1)
            budget = free_bytes(group[0].data.device) // (4 * at_once)
            n_threads = max(1, torch.get_num_threads() // at_once)
            useful = stacker.useful_size(group[0], n_bytes, n_threads)
        size = min(max(1, budget // n_bytes), -(-n_fits // n_workers), useful or n_fits)
        size = -(-len(group) // -(-len(group) // size))  # stacks of equal size
        stacks += [group[start : start + size] for start in range(0, len(group), size)]
    return stacks


class _Checked:
    """Checks the settings of estimators, once where the folds have the very same ones."""

    def __init__(self) -> None:
        self._seen: dict[tuple, Any] = {}
        self._skips = get_config()["skip_parameter_validation"]

    def check(self, estimator: Any) -> None:
        """Raise if a parameter is not valid."""
        settings = vars(estimator)
        key = tuple(id(value) for value in settings.values())
        if not self._skips and key not in self._seen:
            estimator._validate_params()
            self._seen[key] = list(settings.values())  # an id is of an object that lives


def run_stack(
    fits: list[StackedFit], after_epoch: Callable[[], None] = lambda: None
) -> list[list[StackedFit]]:
    """Run fits of one key as one stack, or as smaller ones where memory runs out.

    Returns
    -------
    list of list of StackedFit
        The stacks that were run. Fits in none of them have to be made alone; their `where` says
        why.
    """
    stacks: list[list[StackedFit]] = []
    start, size = 0, len(fits)
    while start < len(fits):
        stack = fits[start : start + size]
        try:
            _stacker(fits[0]).run(stack, after_epoch)
        except CannotStack as reason:
            for fit in fits[start:]:
                fit.where = str(reason)
            return stacks
        except Exception as error:  # torch has several classes for a lack of memory
            if not is_out_of_memory(error):  # a value that nobody has checked, say: each fit tells
                for fit in fits[start:]:
                    fit.where = f"its stack failed: {error}"
                return stacks
            if len(stack) > 1:
                size = len(stack) // 2
                stack = []
            else:
                fits[start].error = error
        # Not before the error, which holds on to the tensors, is gone.
        if not stack:
            release_memory(fits[0].data.device)
            continue
        for fit in stack:
            fit.is_done = True
        stacks.append(stack)
        start += len(stack)
    return stacks


def _stacker(fit: StackedFit) -> Stacker:
    stacker = stacker_of(fit.estimator)
    assert stacker is not None
    return stacker
