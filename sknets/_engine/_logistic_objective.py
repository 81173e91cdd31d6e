"""The objective of logistic regression in closed form: value, gradient, curvature.

Conventions
-----------
n samples, F features, D = F + 1 with an intercept and F without. K outputs: one for two classes,
one per class otherwise. Parameters are (K, D), the intercept in the last column, or the same
numbers flat (K * D,). Logits, residuals and probabilities are (K, n): a reduction over classes then
runs along the long, contiguous axis.

With weights s_i, S = sum(s_i), and the coefficients W without the intercepts::

    f(W, b) = sum_i (s_i / S) loss(y_i, W x_i + b) + l2 / 2 ||W||^2
    F(W, b) = f(W, b) + l1 ||W||_1

scikit-learn's ``C`` and ``l1_ratio`` are ``l2 = (1 - l1_ratio) / (C S)`` and ``l1 = l1_ratio / (C
S)``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from sknets._core import wide_dtype
from sknets._engine._centring import Centring
from sknets._engine._logistic_few_rows import FewRows, are_few
from sknets._engine._logistic_loss import against_overflow, encode_target
from sknets._engine._logistic_sums import affine, losses_gradients, on_host, split
from sknets._engine._numba_fold import NumbaRows
from sknets._engine._row_blocks import Blocks, RowBlocks

_CURVATURE_RULE = "The second derivatives of the loss must stay finite"

Vector = np.ndarray
"""A flat float64 parameter vector (K * D,)."""


class LogisticObjective:
    """Weighted mean logistic loss plus its penalty, over rows that may not fit in one tensor.

    One evaluation walks X once and brings one vector to the host.

    Parameters
    ----------
    blocks : RowBlocks
        X; its dtype is the one computed in, sums over samples are float64 where the device has it.
    target : Tensor of shape (n,), int64
        Encoded classes, 0 to ``n_classes - 1``, on the device of ``blocks``.
    sample_weight : Tensor of shape (n,) or None
        Non-negative weights with a positive sum, class weights included; None weighs all alike.
    n_classes : int
        Two gives one output, more give one output a class.
    fit_intercept : bool
        Whether the last column of the parameters is an intercept, which is never penalised.
    l2, l1 : float
        Strengths of the penalties, on the scale of the mean loss.
    by_numba : bool
        Whether compiled code takes rows of three classes or more that are one block in the CPU's
        memory.

    Raises
    ------
    ImportError
        If they are, and Numba is not installed.
    """

    def __init__(
        self,
        blocks: RowBlocks,
        target: Tensor,
        sample_weight: Tensor | None = None,
        *,
        n_classes: int,
        fit_intercept: bool = True,
        l2: float = 0.0,
        l1: float = 0.0,
        by_numba: bool = False,
    ) -> None:
        self.blocks = blocks
        self.fit_intercept = fit_intercept
        self.l2 = float(l2)
        self.l1 = float(l1)
        self.n_outputs = 1 if n_classes == 2 else n_classes
        self.shape = (self.n_outputs, blocks.n_features + int(fit_intercept))
        self._sum_dtype = wide_dtype(blocks.device)
        self._target = encode_target(target, blocks.dtype) if self.n_outputs == 1 else target
        penalised = np.ones(self.shape, dtype=bool)
        if fit_intercept:
            penalised[:, -1] = False
        self._penalised = penalised.ravel()
        self._weight = _normalised(sample_weight, blocks, self._sum_dtype)
        self._in_memory = self._in_fewer_calls(target, by_numba=by_numba)

    def _in_fewer_calls(self, classes: Tensor, *, by_numba: bool) -> FewRows | NumbaRows | None:
        """Return the objective of rows in memory in a form that costs fewer calls, if that pays."""
        rows, n_outputs = self.blocks.whole, self.n_outputs
        if rows is None:
            return None
        if by_numba and n_outputs > 1:
            return NumbaRows(rows, classes, self._weight, self.shape)
        if are_few(self.blocks.n, self.blocks.n_features, n_outputs):
            return FewRows(rows, self._target, self._weight, self.shape)
        return None

    @property
    def size(self) -> int:
        """Number of parameters, K * D."""
        return self.shape[0] * self.shape[1]

    @property
    def eps(self) -> float:
        """Rounding unit of the dtype computed in."""
        return torch.finfo(self.blocks.dtype).eps

    @property
    def penalised(self) -> np.ndarray:
        """The parameters that a penalty covers: bool (K * D,), False for intercepts."""
        return self._penalised

    def centred(self, params: Vector) -> Vector:
        """Take from each unpenalised column its mean over classes; no probability changes."""
        if self.n_outputs == 1:
            return params
        params = params.reshape(self.shape).copy()
        if self.l1 == 0 and self.l2 == 0:
            params -= params.mean(axis=0)
        elif self.fit_intercept:
            params[:, -1] -= params[:, -1].mean()
        return params.ravel()

    def loss(self, params: Vector) -> float:
        """Evaluate F at ``params``, the L1 term included."""
        value, _ = self.loss_gradient(params)
        return value + self.l1_penalty(params)

    def l1_penalty(self, params: Vector) -> float:
        """Evaluate ``l1 ||W||_1``."""
        if self.l1 == 0:
            return 0.0
        return self.l1 * float(np.abs(params[self.penalised]).sum())

    def loss_gradient(self, params: Vector) -> tuple[float, Vector]:
        """Evaluate the smooth part f and its gradient (K * D,), both float64, in one pass over X.

        Raises
        ------
        ValueError
            If either is not finite.
        """
        if self._in_memory is not None:
            with np.errstate(over="ignore", invalid="ignore"):
                loss, grad = self._in_memory(params)
        else:
            weights, bias = self._split(params)
            alike = self._weight.ndim == 0
            shares = None if alike else self._weight.unsqueeze(0)
            sums = self.blocks.walk(
                lambda blocks: losses_gradients(blocks, self._target, weights, bias, shares)
            )
            if alike:
                for total in sums:
                    total *= self._weight
            value, grad_weights, *rest = sums
            loss, grad = self._on_host(value, grad_weights, rest[0] if rest else None)
        if self.l2:
            coef = params * self._penalised
            loss += 0.5 * self.l2 * float(coef @ coef)
            grad += self.l2 * coef
        if not np.isfinite(loss + grad.sum()):  # rarely more than one sum has to be looked at
            rule = f"The training loss and its gradient must stay finite, got a loss of {loss}"
            _check_finite(np.append(grad, loss), rule, self.blocks)
        return loss, grad

    def _on_host(
        self, value: Tensor, weights: Tensor, bias: Tensor | None
    ) -> tuple[float, np.ndarray]:
        """Bring a number and parameters (K, F), (K, 1) to the host in one transfer."""
        both = on_host(value, weights, bias).numpy()
        return float(both[0]), both[1:]

    @np.errstate(over="ignore", invalid="ignore")  # what it gives is looked at
    def curvature(self, params: Vector) -> Curvature:
        """Return the Hessian of f at ``params``, as an operator (one pass over X to make)."""
        weights, bias = self._split(params)
        proba = torch.empty(
            (self.n_outputs, self.blocks.n), dtype=self.blocks.dtype, device=self.blocks.device
        )
        for rows, block in self.blocks:
            logits = affine(block, weights, bias)
            proba[:, rows] = logits.sigmoid_() if self.n_outputs == 1 else logits.softmax(dim=0)
        return Curvature(self, proba, self._weight)

    def centring(self) -> Centring:
        """Return the coordinates in which the weighted mean of the rows is zero."""
        if not self.fit_intercept:
            return Centring(None, self.n_outputs)

        def work(blocks: Blocks) -> tuple[Tensor, ...]:
            total = torch.zeros(
                (1, self.blocks.n_features), dtype=self.blocks.dtype, device=self.blocks.device
            )
            for rows, block in blocks:
                share = self._weight if self._weight.ndim == 0 else self._weight[rows]
                block.backward_(share.expand(1, rows.stop - rows.start).contiguous(), total)
            return (total,)

        (means,) = self.blocks.walk(work)
        return Centring(np.append(means[0].to("cpu", torch.float64).numpy(), 0.0), self.n_outputs)

    def _split(self, params: Vector) -> tuple[Tensor, Tensor | None]:
        """Bring flat parameters to the device: weights (K, F) and bias (K, 1)."""
        both = torch.from_numpy(np.ascontiguousarray(params, dtype=np.float64)).view(self.shape)
        both = both.to(self.blocks.dtype).to(self.blocks.device)
        return split(both, self.blocks.n_features)


class Curvature:
    """Hessian (K * D, K * D) of the smooth objective at one point, never formed unless asked for.

    Parameters
    ----------
    objective : LogisticObjective
        What it is the Hessian of.
    proba : Tensor of shape (K, n)
        Probabilities at the point; with two classes, those of class 1.
    share : Tensor of shape (n,) or ()
        Weights divided by their sum.
    """

    def __init__(self, objective: LogisticObjective, proba: Tensor, share: Tensor) -> None:
        self._objective = objective
        self._proba = proba
        self._share = share

    def product(self, vector: Vector) -> Vector:
        """Multiply the Hessian by a flat vector (K * D,), in one pass over X."""
        objective = self._objective
        weights, bias = objective._split(vector)

        def work(blocks: Blocks) -> tuple[Tensor, ...]:
            total = torch.zeros_like(weights)
            total_bias = None if bias is None else torch.zeros_like(bias)
            for rows, block in blocks:
                slope = affine(block, weights, bias)
                change = self._times_loss_hessian(slope, rows)
                block.backward_(change, total)
                if total_bias is not None:
                    total_bias += change.sum(dim=1, keepdim=True)
            return (total,) if total_bias is None else (total, total_bias)

        total, *rest = objective.blocks.walk(work)
        total_bias = rest[0] if rest else None
        _, flat = objective._on_host(self._zeros(1), total, total_bias)
        if objective.l2:
            flat += objective.l2 * (vector * objective.penalised)
        return flat

    def diagonal(self, centring: Centring | None = None) -> Vector:
        """Return the Hessian's diagonal (K * D,), if asked for that by centred parameters."""
        objective = self._objective
        means = None
        if centring is not None and centring.means is not None:
            means = torch.from_numpy(centring.means[0, :-1])
            means = means.to(objective.blocks.dtype).to(objective.blocks.device)
        n_features = objective.blocks.n_features
        total = self._zeros(*objective.shape)
        for rows, dense in objective.blocks.dense_blocks(n_features):
            proba = self._proba[:, rows]
            weight = proba * (1 - proba) * self._rows_share(rows)
            if means is not None:
                dense = dense - means
            total[:, :n_features] += weight @ dense.square()
            if objective.fit_intercept:
                total[:, -1] += weight.sum(dim=1)
        flat = total.to("cpu", torch.float64).numpy().ravel()
        _check_finite(flat, _CURVATURE_RULE, objective.blocks)
        return flat + objective.l2 * objective.penalised

    def matrix(self) -> Tensor:
        """Form the Hessian: (K * D, K * D), on the device, in the dtype of sums over samples."""
        objective = self._objective
        n_outputs, width = objective.shape
        total = self._zeros(objective.size, objective.size)
        for rows, dense in objective.blocks.dense_blocks(n_outputs * width):
            if objective.fit_intercept:
                dense = torch.cat([dense, dense.new_ones(dense.shape[0], 1)], dim=1)
            proba, share = self._proba[:, rows], self._rows_share(rows)
            if n_outputs == 1:
                weight = (proba[0] * (1 - proba[0]) * share).unsqueeze(1)
                total += dense.T @ (weight * dense)
                continue
            scaled = (proba.T.unsqueeze(2) * dense.unsqueeze(1)).flatten(1)  # (b, K * D)
            for k in range(n_outputs):
                at, end = k * width, (k + 1) * width
                left = (scaled[:, at:end] * share.unsqueeze(-1)).T
                total[at:end, at:end] += left @ dense
                total[at:end, at:] -= left @ scaled[:, at:]
        if n_outputs > 1:
            total = total.triu() + total.triu(1).T
        _check_finite(total.diagonal().cpu().numpy(), _CURVATURE_RULE, objective.blocks)
        penalty = torch.from_numpy(objective.l2 * objective.penalised)
        total.diagonal().add_(penalty.to(total.device, total.dtype))
        return total

    def _times_loss_hessian(self, slope: Tensor, rows: slice) -> Tensor:
        """Multiply each sample's Hessian by the logits (K, n) by ``slope`` (K, b), in place."""
        proba = self._proba[:, rows]
        if self._objective.n_outputs == 1:
            slope *= proba * (1 - proba)
        else:
            slope -= (slope * proba).sum(dim=0)
            slope *= proba
        return slope.mul_(self._rows_share(rows))

    def _rows_share(self, rows: slice) -> Tensor:
        """Return the weights of a range of rows."""
        return self._share if self._share.ndim == 0 else self._share[rows]

    def _zeros(self, *shape: int) -> Tensor:
        objective = self._objective
        return torch.zeros(shape, dtype=objective._sum_dtype, device=objective.blocks.device)


def _check_finite(values: np.ndarray, rule: str, blocks: RowBlocks) -> None:
    """Raise if a value that comes of these rows is not finite."""
    if not np.isfinite(values).all():
        advice = against_overflow(is_float64=blocks.dtype == torch.float64)
        raise ValueError(f"{rule}. {advice}")


def _normalised(sample_weight: Tensor | None, blocks: RowBlocks, sum_dtype: torch.dtype) -> Tensor:
    """Divide weights by their sum; without weights, one number for all samples."""
    if sample_weight is None:
        return torch.tensor(1.0 / blocks.n, dtype=blocks.dtype, device=blocks.device)
    weight = sample_weight.to(device=blocks.device, dtype=sum_dtype)
    return (weight / weight.sum()).to(blocks.dtype)


Progress = Callable[[Vector, float], None]
"""Told of each whole iteration: the parameters and the objective's value there."""
