"""The nets as others train them: skorch, and the loop that a tutorial writes."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from skorch import NeuralNetClassifier  # noqa: TID251 - a contender
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

ModuleFactory = Callable[[], nn.Module]

BATCH_SIZE = 200  # of the dense nets


def exact_epochs(hidden: Sequence[int], epochs: int) -> dict[str, Any]:
    """Return the parameters of an MLPClassifier that trains for exactly so many epochs."""
    return {
        "hidden_layer_sizes": hidden,
        "batch_size": BATCH_SIZE,
        "max_iter": epochs,
        "tol": 0.0,
        "n_iter_no_change": epochs + 1,
        "random_state": 0,
    }


each_way = pytest.mark.parametrize("compile", [False, "numba"], ids=["", "numba"])


def way(compile: bool | str) -> str:
    """Return what a workload's name says of how ours are compiled."""
    return f", compile={compile!r}" if compile else ""


def make_mlp(
    n_features: int,
    hidden: Sequence[int],
    n_classes: int,
    dtype: torch.dtype = torch.float32,
    dropout: float = 0.0,
    batch_norm: bool = False,
) -> nn.Module:
    """Return the module that is equivalent to MLPClassifier, with its initial distribution."""
    layers: list[nn.Module] = []
    widths = [n_features, *hidden]
    for n_in, n_out in itertools.pairwise(widths):
        layers.append(nn.Linear(n_in, n_out))
        if batch_norm:
            layers.append(nn.BatchNorm1d(n_out))
        layers.append(nn.ReLU())
        if dropout:
            layers.append(nn.Dropout(dropout))
    layers.append(nn.Linear(widths[-1], n_classes))
    return _glorot(nn.Sequential(*layers)).to(dtype)


def make_small_cnn() -> nn.Module:
    """Return the net with convolutions of 10 and 20 channels, for images of 28 x 28."""
    return _glorot(
        nn.Sequential(
            *(nn.Conv2d(1, 10, 5), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(10, 20, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
            *(nn.Linear(320, 50), nn.ReLU(), nn.Dropout(0.5), nn.Linear(50, 10)),
        )
    )


def make_large_cnn() -> nn.Module:
    """Return the net with convolutions of 32 and 64 channels, for images of 28 x 28."""
    return _glorot(
        nn.Sequential(
            *(nn.Conv2d(1, 32, 3), nn.ReLU()),
            *(nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25), nn.Flatten()),
            *(nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10)),
        )
    )


def _glorot(module: nn.Module) -> nn.Module:
    """Draw the weights as scikit-learn does for relu, with the limit sqrt(6 / (n_in + n_out))."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return module


class _Autocast(nn.Module):
    """A module that runs in bfloat16, with float32 weights."""

    def __init__(self, make_module: ModuleFactory) -> None:
        super().__init__()
        self.module = make_module()

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        with torch.autocast(X.device.type, dtype=torch.bfloat16):
            logits = self.module(X)
        return logits.float()


def with_autocast(make_module: ModuleFactory) -> ModuleFactory:
    """Return a factory of the same module in mixed precision."""
    return functools.partial(_Autocast, make_module)


@dataclass(frozen=True)
class Job:
    """What a module is to be trained on, for how long and where."""

    make_module: ModuleFactory
    X: np.ndarray
    y: np.ndarray
    epochs: int
    batch_size: int
    device: str = "cpu"


def fit_skorch(job: Job) -> NeuralNetClassifier:
    """Fit with skorch's defaults, except for what makes it the same job.

    That is: Adam at 1e-3, the same batches and epochs, shuffled rows, all rows for training (by
    default a fifth is held out), and nothing printed.
    """
    torch.manual_seed(0)
    net = NeuralNetClassifier(
        job.make_module,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=1e-3,
        max_epochs=job.epochs,
        batch_size=job.batch_size,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
        device=job.device,
    )
    return net.fit(job.X, job.y)


def fit_tutorial_loop(job: Job) -> nn.Module:
    """Fit with the loop of the tutorials."""
    torch.manual_seed(0)
    module = job.make_module().to(job.device)
    rows = TensorDataset(torch.from_numpy(job.X), torch.from_numpy(job.y))
    loader = DataLoader(rows, batch_size=job.batch_size, shuffle=True)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
    loss_function = nn.CrossEntropyLoss()
    module.train()
    for _ in range(job.epochs):
        for X_batch, y_batch in loader:
            X_batch, y_batch = X_batch.to(job.device), y_batch.to(job.device)
            optimizer.zero_grad()
            loss = loss_function(module(X_batch), y_batch)
            loss.backward()
            optimizer.step()
    return module


@torch.inference_mode()
def module_proba(module: nn.Module, X: np.ndarray) -> np.ndarray:
    """Return a module's probabilities, in batches."""
    module.eval()
    device = next(module.parameters()).device
    batches = torch.from_numpy(X).split(2000)
    return torch.cat([module(batch.to(device)).softmax(1).cpu() for batch in batches]).numpy()


def proba(model: Any, X: np.ndarray) -> np.ndarray:
    """Return the probabilities of an estimator or a module."""
    return module_proba(model, X) if isinstance(model, nn.Module) else model.predict_proba(X)


def log_loss_of(X: np.ndarray, y: np.ndarray) -> Callable[[Any], float]:
    """Return a function from a model to its log loss on X and y, without penalty or dropout."""

    def quality(model: Any) -> float:
        p = proba(model, X).astype(np.float64)
        return log_loss(y, p / p.sum(axis=1, keepdims=True), labels=np.unique(y))

    return quality


def accuracy_of(X: np.ndarray, y: np.ndarray) -> Callable[[Any], float]:
    """Return a function from a net to its accuracy on X and y, whose labels are 0, 1, …"""
    return lambda model: float(np.mean(proba(model, X).argmax(axis=1) == y))
