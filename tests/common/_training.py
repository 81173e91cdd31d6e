"""Nets that draw random numbers or fail, and how two trainings are compared."""

import numpy as np
from torch import nn


def net_with_dropout(n_features, n_classes):
    return nn.Sequential(
        nn.Linear(n_features, 16),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(16, n_classes),
    )


class Failing(nn.Module):
    """A net that raises `error` in its `n`-th forward pass, counted over all copies."""

    def __init__(self, n_features, n_classes, error, n, calls, training_only=True):
        super().__init__()
        self.layers = net_with_dropout(n_features, n_classes)
        self.error, self.n, self.calls = error, n, calls
        self.training_only = training_only

    def forward(self, x):
        if self.training or not self.training_only:
            self.calls.append(len(x))
            if len(self.calls) == self.n:
                raise self.error
        return self.layers(x)


def failing_net(error, n, **options):
    """Return a factory of nets that fail in the n-th forward pass."""
    calls = []
    return lambda n_features, n_classes: Failing(n_features, n_classes, error, n, calls, **options)


def same_course(a, b):
    """Whether two histories agree in everything but the clock."""
    return all(
        np.array_equal(a[column], b[column], equal_nan=True)
        for column in a.keys() | b.keys()
        if column != "seconds"
    )
