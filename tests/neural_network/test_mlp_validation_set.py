"""MLPClassifier with a validation set of one's own."""

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn import config_context
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from tests.neural_network._small_mlp import make

# Few epochs on purpose in most tests.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def split(iris):
    return train_test_split(*iris, test_size=0.3, random_state=0)


def test_a_validation_set_is_measured_after_every_epoch(split):
    X, X_val, y, y_val = split
    weight = np.arange(len(X_val)) + 1.0
    clf = make().fit(X, y, X_val=X_val, y_val=y_val, sample_weight_val=weight)
    assert not np.isnan(clf.history_["validation_score"]).any()
    proba = clf.predict_proba(X_val)
    assert clf.history_["validation_loss"][-1] == pytest.approx(
        log_loss(y_val, proba, sample_weight=weight)
    )
    assert clf.history_["validation_score"][-1] == clf.score(X_val, y_val, weight)


def test_without_early_stopping_a_validation_set_only_tells(split):
    X, X_val, y, y_val = split
    plain, told = make().fit(X, y), make().fit(X, y, X_val=X_val, y_val=y_val)
    np.testing.assert_array_equal(plain.predict_proba(X), told.predict_proba(X))
    assert told.validation_scores_ is None
    assert told.best_loss_ == plain.best_loss_


def test_with_early_stopping_it_decides_and_no_row_is_set_aside(split):
    X, X_val, y, y_val = split
    settings = {"early_stopping": True, "learning_rate_init": 0.1, "max_iter": 40}
    clf = make(**settings, n_iter_no_change=3).fit(X, y, X_val=X_val, y_val=y_val)
    assert clf.n_iter_ < 40
    assert clf.t_ == clf.n_iter_ * len(X)
    assert clf.validation_scores_ == clf.history_["validation_score"]
    assert clf.best_validation_score_ == max(clf.validation_scores_) == clf.score(X_val, y_val)


def test_the_validation_set_follows_the_type_of_x(split):
    X, X_val, y, y_val = split
    expected = make().fit(X.astype(np.float32), y, X_val=X_val.astype(np.float32), y_val=y_val)
    for other in (X_val, X_val.tolist(), sparse.csr_array(X_val)):
        clf = make().fit(X.astype(np.float32), y, X_val=other, y_val=y_val)
        np.testing.assert_allclose(
            clf.history_["validation_loss"], expected.history_["validation_loss"], rtol=1e-6
        )


def test_a_pipeline_transforms_the_validation_set(split):
    X, X_val, y, y_val = split
    steps = [("scale", StandardScaler()), ("net", make())]
    with config_context(enable_metadata_routing=True):
        steps[1][1].set_fit_request(X_val=True, y_val=True)
        pipeline = Pipeline(steps, transform_input=["X_val"])
        pipeline.fit(10 * X + 3, y, X_val=10 * X_val + 3, y_val=y_val)
    scaler = StandardScaler().fit(10 * X + 3)
    direct = make().fit(
        scaler.transform(10 * X + 3), y, X_val=scaler.transform(10 * X_val + 3), y_val=y_val
    )
    assert pipeline["net"].history_["validation_loss"] == direct.history_["validation_loss"]


def test_nothing_held_out_is_no_validation_set(iris):
    with pytest.raises(ValueError, match=r"validation_fraction must be above 0 with early_stop"):
        make(early_stopping=True, validation_fraction=0.0).fit(*iris)


class Tempered(nn.Module):
    """A loss with a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.temperature = nn.Parameter(torch.tensor(2.0))

    def forward(self, logits, target):
        return nn.functional.cross_entropy(logits / self.temperature, target, reduction="none")


def test_a_loss_with_a_parameter_judges_without_a_graph(iris):
    losses = []
    loss = Tempered()
    loss.register_forward_hook(lambda module, given, out: losses.append(out.requires_grad))
    make(loss=loss, early_stopping=True, max_iter=1).fit(*iris)
    assert sorted(set(losses)) == [False, True]  # of the held-out rows, and of the others


def test_half_a_validation_set_is_an_error(split):
    X, X_val, y, y_val = split
    with pytest.raises(ValueError, match="X_val is provided, but y_val was not provided"):
        make().fit(X, y, X_val=X_val)
    with pytest.raises(ValueError, match="y_val is provided, but X_val was not provided"):
        make().fit(X, y, y_val=y_val)
    with pytest.raises(ValueError, match="sample_weight_val"):
        make().fit(X, y, sample_weight_val=np.ones(3))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        make().fit(X, y, X_val=X_val, y_val=y_val[:-1])
    with pytest.raises(ValueError, match="4 features"):
        make().fit(X, y, X_val=X_val[:, :3], y_val=y_val)
    with pytest.raises(ValueError, match="classes not in"):
        make().fit(X, y, X_val=X_val, y_val=y_val + 1)
