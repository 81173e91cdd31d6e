"""Modules that ``torch.func.vmap`` cannot run, or runs otherwise than each runs alone.

They are fitted one by one in the same search, with the results of scikit-learn's.
"""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from torch import nn

from sknets.model_selection import VectorizedGridSearchCV
from sknets.neural_network import NetClassifier
from tests.parity._same_results import assert_same_results, stacked_share

# Few epochs on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def make_dense(n_features, n_classes):
    return nn.Sequential(nn.Linear(n_features, 12), nn.Tanh(), nn.Linear(12, n_classes))


class Deciding(nn.Module):
    """Looks at its values to decide what to do."""

    def __init__(self, n_features, n_classes):
        super().__init__()
        self.linear = nn.Linear(n_features, n_classes)

    def forward(self, x):
        z = self.linear(x)
        return z if float(z.detach().mean()) > 0 else 2 * z


class Drawing(nn.Module):
    """Draws random numbers in a way that has no version for many nets."""

    def __init__(self, n_features, n_classes):
        super().__init__()
        self.linear = nn.Linear(n_features, n_classes)

    def forward(self, x):
        noise = torch.rand(x.shape[1], dtype=x.dtype) if self.training else 0.5
        return self.linear(x * noise)


class Counting(nn.Module):
    """Keeps in a plain attribute what decides its later output."""

    def __init__(self, n_features, n_classes):
        super().__init__()
        self.linear = nn.Linear(n_features, n_classes)
        self.n_calls = 0

    def forward(self, x):
        self.n_calls += self.training
        return self.linear(x) / (1 + self.n_calls)


class Hidden(Counting):
    """Keeps it in an attribute with an underscore, and that in a dict."""

    def __init__(self, n_features, n_classes):
        super().__init__(n_features, n_classes)
        self._record = {"calls": 0}

    def forward(self, x):
        self._record["calls"] += self.training
        return self.linear(x) / (1 + self._record["calls"])


class Late(Counting):
    """Changes it in a batch that is not the first."""

    def forward(self, x):
        self.n_calls += self.training and len(x) != 32
        return self.linear(x) / (1 + self.n_calls)


class Validating(Counting):
    """Changes it while it is validated."""

    def forward(self, x):
        self.n_calls += not self.training
        return self.linear(x) / (1 + self.n_calls)


class InPlace(Counting):
    """Changes a tensor that is no buffer."""

    def __init__(self, n_features, n_classes):
        super().__init__(n_features, n_classes)
        self.total = torch.zeros((), dtype=torch.float64)

    def forward(self, x):
        self.total += self.training
        return self.linear(x) / (1 + self.total)


class Leaking(Counting):
    """Keeps what it has computed while it trained."""

    def forward(self, x):
        z = self.linear(x)
        if self.training:
            self.last = z.detach()
        return z


class Drawn(Counting):
    """Draws a tensor that is no buffer, other ones in other nets."""

    def __init__(self, n_features, n_classes):
        super().__init__(n_features, n_classes)
        self.mix = torch.randn(n_features, n_features, dtype=torch.float64)

    def forward(self, x):
        return self.linear(torch.tanh(x @ self.mix))


class Padded(nn.Module):
    """Has an embedding one of whose rows is not to learn."""

    def __init__(self, n_features, n_classes):
        super().__init__()
        self.embedding = nn.Embedding(10, 3, padding_idx=0)
        self.linear = nn.Linear(3 * n_features, n_classes)

    def forward(self, x):
        return self.linear(self.embedding(x.long().clamp(0, 9)).flatten(1))


class PaddedByFunction(Padded):
    """The same, seen by nothing but its gradient."""

    def __init__(self, n_features, n_classes):
        super().__init__(n_features, n_classes)
        self.embedding = nn.Embedding(10, 3)

    def forward(self, x):
        rows = x.long().clamp(0, 9)
        embedded = nn.functional.embedding(rows, self.embedding.weight, padding_idx=0)
        return self.linear(embedded.flatten(1))


class HookedWeight(Counting):
    """Lets a weight learn nothing, by a hook."""

    def __init__(self, n_features, n_classes):
        super().__init__(n_features, n_classes)
        self.linear.weight.register_hook(torch.zeros_like)

    def forward(self, x):
        return self.linear(x)


class HookedLayer(nn.Sequential):
    """Makes the gradient of a layer smaller, by a hook."""

    def __init__(self, n_features, n_classes):
        super().__init__(nn.Linear(n_features, 12), nn.Tanh(), nn.Linear(12, n_classes))
        self[2].register_full_backward_hook(lambda layer, into, out: (0.1 * into[0],))


class Bounded(Counting):
    """Bounds its weights in the forward pass."""

    def forward(self, x):
        with torch.no_grad():
            self.linear.weight.clamp_(-0.1, 0.1)
        return self.linear(x)


def make_either(n_features, n_classes):
    """Return nets whose activations differ with the seed."""
    activation = nn.Tanh() if torch.rand(()) < 0.5 else nn.Sigmoid()
    return nn.Sequential(nn.Linear(n_features, 5), activation, nn.Linear(5, n_classes))


def make_half_frozen(n_features, n_classes):
    """Return nets of which one or another layer does not learn, with the seed."""
    net = nn.Sequential(
        *(nn.Linear(n_features, n_features), nn.Tanh(), nn.Linear(n_features, n_features)),
        *(nn.Tanh(), nn.Linear(n_features, n_classes)),
    )
    net[0 if torch.rand(()) < 0.5 else 2].requires_grad_(False)
    return net


def make_hooked(n_features, n_classes):
    """Return nets whose layer is multiplied by a number of its own."""
    net, factor = make_dense(n_features, n_classes), float(torch.rand(()))
    net[0].register_forward_hook(lambda layer, given, out: factor * out)
    return net


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (Deciding, "vmap cannot run its module"),
        (Drawing, "draws random numbers by rand"),
        (Counting, "its forward sets the attribute 'n_calls'"),
        (Hidden, "its forward sets the attribute '_record'"),
        (Late, "its forward sets the attribute 'n_calls'"),
        (Validating, "its forward sets the attribute 'n_calls'"),
        (InPlace, "its forward sets the attribute 'total'"),
        (Leaking, "its forward sets the attribute 'last'"),
        (Drawn, "have attributes that differ"),
        (Padded, "padding_idx"),
        (PaddedByFunction, "its gradient is another one there"),
        (HookedWeight, "hooks of gradients"),
        (HookedLayer, "hooks of gradients"),
        (Bounded, "its forward changes its weights"),
        (make_either, "have attributes that differ"),
        (make_half_frozen, "have attributes that differ"),
        (make_hooked, "have attributes that differ"),
    ],
)
def test_a_module_that_cannot_be_mapped_runs_one_by_one(module, reason):
    X, y = load_iris(return_X_y=True)
    estimator = NetClassifier(
        module,
        random_state=0,
        max_iter=4,
        batch_size=32,
        learning_rate_init=0.01,
        early_stopping=module is Validating,
        device="cpu",
    )
    grid = {"module": [module, make_dense], "random_state": [0, 2]}
    numbers = np.random.RandomState(0).permutation(150)
    cv = [(numbers[:-n], numbers[-n:]) for n in (50, 53)]  # of unequal last batches
    settings = {"cv": cv, "scoring": "neg_log_loss"}
    theirs = GridSearchCV(estimator, grid, **settings).fit(X, y)
    ours = VectorizedGridSearchCV(estimator, grid, **settings).fit(X, y)
    assert_same_results(ours, theirs)
    assert stacked_share(ours) == 0.5
    for params, row in zip(ours.cv_results_["params"], ours.vectorization_, strict=True):
        assert all((reason in place) == (params["module"] is module) for place in row)
