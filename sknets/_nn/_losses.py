"""Losses of logits, one value a sample.

Conventions
-----------
- `logits` has shape (..., K) for K classes or K labels, (..., 1) for two classes in one logit.
- `target` has shape (...) of class numbers 0 .. K-1 for "multiclass" and "binary", and (..., K) of
  0 and 1 for "multilabel".
- The result has shape (...). The leading axes are the batch, (n_models, n_samples) or any other.
  A multilabel loss is the sum over the labels, as in scikit-learn.
- Half-precision logits are computed in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

Task = Literal["multiclass", "binary", "multilabel"]
TASKS: tuple[Task, ...] = ("multiclass", "binary", "multilabel")

Loss = Callable[[Tensor, Tensor], Tensor]


class TaskLoss(Protocol):
    """A loss that says what its logits and targets are."""

    @property
    def task(self) -> Task:
        """What logits and target are."""

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return one value a sample."""


@dataclass(frozen=True)
class LogLoss:
    """Cross-entropy, with label smoothing and focusing.

    With p the class probabilities and q the target's distribution, ``sum_k q_k (1 - p_k)^gamma
    (-log p_k)``. q is 1 - s for the sample's class plus s / K for every class, with s =
    `label_smoothing` (K = 2 for one logit and for each label); ``gamma=0`` is the plain
    cross-entropy.

    Parameters
    ----------
    task : {"multiclass", "binary", "multilabel"}
        What logits and target are.
    label_smoothing : float or Tensor of shape (n_models,), default=0.0
        The share s of the target spread over all classes, in [0, 1); a tensor has one a model, for
        logits (n_models, n_samples, K).
    gamma : float, default=0.0
        How much less the samples count that are classified well; at least 0.

    References
    ----------
    T.-Y. Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017 (gamma).
    C. Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016 (s).
    """

    task: Task
    label_smoothing: float | Tensor = 0.0
    gamma: float = 0.0

    def __post_init__(self) -> None:
        check_task(self.task)
        shares = self.label_smoothing
        if not (isinstance(shares, Tensor) or 0.0 <= shares < 1.0):
            raise ValueError(f"label_smoothing must be at least 0 and less than 1, got {shares!r}.")
        if not self.gamma >= 0.0:
            raise ValueError(f"gamma must be at least 0, got {self.gamma!r}.")

    @property
    def smooths(self) -> bool:
        """Whether any of the target is spread."""
        return isinstance(self.label_smoothing, Tensor) or self.label_smoothing > 0

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        logits = _full_precision(logits)
        if self.task == "multiclass":
            losses = self._focus(F.log_softmax(logits, dim=-1))  # (..., K): loss of each class
            loss = losses.gather(-1, target.unsqueeze(-1)).squeeze(-1)
            return self._smooth(loss, losses.mean(-1)) if self.smooths else loss
        if self.task == "binary":
            return self._one_logit(logits.squeeze(-1), target)
        return self._one_logit(logits, target).sum(-1)

    def _one_logit(self, logit: Tensor, target: Tensor) -> Tensor:
        """Loss of a target 0 or 1 whose probability of 1 is sigmoid(logit)."""
        sign = torch.where(target > 0, 1.0, -1.0).to(logit.dtype)
        loss = self._focus(F.logsigmoid(sign * logit))
        if not self.smooths:
            return loss
        return self._smooth(loss, (loss + self._focus(F.logsigmoid(-sign * logit))) / 2)

    def _smooth(self, loss: Tensor, mean: Tensor) -> Tensor:
        share = self.label_smoothing
        if isinstance(share, Tensor):
            share = share.reshape(-1, *[1] * (loss.ndim - 1))
        return (1.0 - share) * loss + share * mean

    def _focus(self, log_proba: Tensor) -> Tensor:
        """(1 - p)^gamma (-log p)."""
        if self.gamma == 0.0:
            return -log_proba
        # Below the clamp the gradient is 0: the power's would be infinite at p = 1 for gamma < 1.
        rest = (-torch.expm1(log_proba)).clamp_min(torch.finfo(log_proba.dtype).tiny)
        return rest.pow(self.gamma) * -log_proba


@dataclass(frozen=True)
class HingeLoss:
    """Hinge loss max(0, 1 - margin), that of linear support vector machines.

    The margin is the logit of the sample's class minus the largest of the others (Crammer and
    Singer); for one logit and for each label it is the logit, with the sign of the target.

    Parameters
    ----------
    task : {"multiclass", "binary", "multilabel"}
        What logits and target are.
    """

    task: Task

    def __post_init__(self) -> None:
        check_task(self.task)

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        logits = _full_precision(logits)
        if self.task == "multiclass":
            index = target.unsqueeze(-1)
            others = logits.scatter(-1, index, float("-inf")).amax(-1)
            return F.relu(1.0 + others - logits.gather(-1, index).squeeze(-1))
        if self.task == "binary":
            target = target.unsqueeze(-1)
        sign = torch.where(target > 0, 1.0, -1.0).to(logits.dtype)
        return F.relu(1.0 - sign * logits).sum(-1)


@dataclass(frozen=True)
class OwnLoss:
    """A function of the user's own.

    Parameters
    ----------
    task : {"multiclass", "binary", "multilabel"}
        What logits and target are.
    function : callable (logits, target) -> Tensor of shape (B,)
        Gets logits (B, K) with class numbers (B,), for two classes in one logit the logits (B,)
        with 0 and 1 (B,), or for many labels logits (B, K) with 0 and 1 (B, K).
    """

    task: Task
    function: Loss

    def __post_init__(self) -> None:
        check_task(self.task)

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        logits = _full_precision(logits)
        if self.task == "binary":
            logits = logits.squeeze(-1)
        if self.task != "multiclass":
            target = target.to(logits.dtype)
        losses = self.function(logits, target)
        shape = tuple(logits.shape[:1])
        if not isinstance(losses, Tensor) or tuple(losses.shape) != shape:
            got = tuple(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
            raise ValueError(
                f"loss must return one value a sample, here a tensor of shape {shape}, got {got}. "
                'torch\'s own do so with reduction="none".'
            )
        return losses


def _full_precision(logits: Tensor) -> Tensor:
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


def _make_focal_loss(task: Task, label_smoothing: float = 0.0, gamma: float = 2.0) -> LogLoss:
    return LogLoss(task, label_smoothing, gamma)


def _make_log_loss(task: Task, label_smoothing: float = 0.0) -> LogLoss:
    return LogLoss(task, label_smoothing)


LOSSES: Mapping[str, Callable[..., TaskLoss]] = MappingProxyType(
    {"log_loss": _make_log_loss, "focal_loss": _make_focal_loss, "hinge": HingeLoss}
)


def make_loss(name: str | Loss, task: Task, **options: Any) -> TaskLoss:
    """The loss of a name: a function of (logits, target) that gives one value a sample.

    Parameters
    ----------
    name : {"log_loss", "focal_loss", "hinge"} or callable
        Which loss; a callable as for `OwnLoss`.
    task : {"multiclass", "binary", "multilabel"}
        What logits and target are.
    **options
        ``label_smoothing`` for "log_loss" and "focal_loss", ``gamma`` (default 2) for "focal_loss".

    Returns
    -------
    TaskLoss
        Callable (logits, target) -> losses.

    Raises
    ------
    ValueError
        If the name or the task is unknown or an option is out of range.
    TypeError
        If the loss has no such option, or is a class and not an object of it.
    """
    if isinstance(name, type):
        raise TypeError(
            "loss must be a name, a function of logits and target, or an object that is called as "
            f"one, got the class {name.__name__}. Write {name.__name__}()."
        )
    if callable(name):
        return OwnLoss(task, name, **options)
    if name not in LOSSES:
        raise ValueError(f"loss must be one of {sorted(LOSSES)}, got {name!r}.")
    return LOSSES[name](task, **options)


def check_task(task: str) -> None:
    """Raise a ValueError unless `task` is one of `TASKS`."""
    if task not in TASKS:
        raise ValueError(f"task must be one of {list(TASKS)}, got {task!r}.")


def weighted_mean(losses: Tensor, sample_weight: Tensor | None = None) -> Tensor:
    """``sum(w * loss) / sum(w)`` over the last axis, and 0 where all weights are 0.

    Parameters
    ----------
    losses : Tensor of shape (..., n_samples)
        One loss a sample.
    sample_weight : Tensor that broadcasts with `losses`, default=None
        Weights; None is all ones.

    Returns
    -------
    Tensor of shape (...)
        A mean for each leading index: for (n_models, n_samples), one a model.
    """
    if sample_weight is None:
        return losses.mean(-1)
    total = sample_weight.expand(losses.shape).sum(-1)
    return (losses * sample_weight).sum(-1) / total.where(total > 0, 1.0)
