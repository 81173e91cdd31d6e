"""Scores that are accuracies: those of scikit-learn's search, whatever is given."""

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from sknets import LogisticRegression, MLPClassifier, Perceptron, VectorizedGridSearchCV
from sknets._engine._dense_forward import DenseForward
from tests.parity._same_results import assert_same_results, stacked_share

# Few iterations, so that the cases are quick.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

GRID = {"C": [1e-3, 1e-2, 1e-1, 1.0]}


def classifier():
    return LogisticRegression(device="cpu", max_iter=20)


@pytest.fixture(scope="module")
def data():
    X, y = load_digits(return_X_y=True)
    return X[:300] / 16, y[:300]


def both(estimator, grid, data, *, fit=None, **settings):
    settings = {"cv": 3, **settings}
    theirs = GridSearchCV(estimator, grid, **settings).fit(*data, **(fit or {}))
    ours = VectorizedGridSearchCV(estimator, grid, **settings).fit(*data, **(fit or {}))
    return ours, theirs


CASES = {
    "default": {},
    "accuracy": {"scoring": "accuracy", "return_train_score": True},
    "train scores": {"return_train_score": True},
    "two metrics": {"scoring": ["accuracy", "neg_log_loss"], "refit": "accuracy"},
    "test rows by mask": {
        "cv": [(np.arange(200), np.arange(300) >= 200), (np.arange(100, 300), np.arange(300) < 100)]
    },
}


@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
def test_scores(data, settings):
    ours, theirs = both(classifier(), GRID, data, **settings)
    assert_same_results(ours, theirs)
    assert ours.scorer_.__class__ is theirs.scorer_.__class__


@pytest.mark.parametrize(
    "kinds", [(str,), (str, object), (np.int8,), (float,)], ids=["str", "object", "int8", "float"]
)
def test_labels_of_every_kind(data, kinds):
    X, y = data
    for kind in kinds:
        y = y.astype(kind)
    ours, theirs = both(classifier(), GRID, (X, y))
    assert_same_results(ours, theirs)
    assert stacked_share(ours) == 1


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_weights_weigh_the_scores_too(data, dtype):
    weight = np.arange(300).astype(dtype) % 5
    ours, theirs = both(classifier(), GRID, data, fit={"sample_weight": weight})
    assert_same_results(ours, theirs)
    plain, _ = both(classifier(), GRID, data)
    assert (plain.cv_results_["mean_test_score"] != ours.cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize(
    ("estimator", "grid"),
    [
        (classifier(), GRID),
        (Perceptron(device="cpu", max_iter=20), {"eta0": [0.1, 1.0, 10.0]}),
        (MLPClassifier((8,), device="cpu", max_iter=3), {"alpha": [1e-4, 1e-3, 1e-2]}),
    ],
    ids=["logistic regression", "perceptron", "MLP"],
)
def test_candidates_are_scored_together(data, estimator, grid):
    """Each has its share of the time; the first one goes scikit-learn's way."""
    results = VectorizedGridSearchCV(estimator, grid, cv=3).fit(*data).cv_results_
    assert len(set(results["mean_score_time"][1:])) == 1


@pytest.fixture
def products(monkeypatch):
    """A list that gets an entry for every block of rows that is multiplied for predictions."""
    made, answer = [], DenseForward.__call__

    def counting(self, rows):
        made.append(len(rows))
        return answer(self, rows)

    monkeypatch.setattr(DenseForward, "__call__", counting)
    return made


@pytest.mark.parametrize(
    ("kind", "name"), [(LogisticRegression, "C"), (Perceptron, "eta0")], ids=["logistic", "rule"]
)
def test_linear_models_of_a_fold_are_one_product(data, products, kind, name):
    grids = [{name: np.linspace(0.1, 1.0, n)} for n in (3, 9)]
    for grid in grids:
        products.append("search")
        VectorizedGridSearchCV(kind(device="cpu", max_iter=5), grid, cv=3, refit=False).fit(*data)
    half = len(products) // 2
    assert half > 1
    assert products[:half] == products[half:]


def test_pipelines(data):
    estimator = make_pipeline(StandardScaler(), classifier())
    ours, theirs = both(estimator, {"logisticregression__C": [1e-3, 1.0]}, data)
    assert_same_results(ours, theirs)


def test_each_candidate_twice(data):
    ours, theirs = both(classifier(), [GRID, GRID], data)
    assert_same_results(ours, theirs)


@pytest.mark.parametrize("error_score", [np.nan, -1.0])
def test_rows_that_cannot_be_scored(data, error_score):
    X, y = data[0].copy(), data[1]
    X[299] = np.nan  # tested on, never trained on
    cv = [(np.arange(200), np.arange(250, 300)), (np.arange(250), np.arange(250, 299))]

    def search(kind):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            made = kind(classifier(), GRID, cv=cv, error_score=error_score).fit(X[:300], y)
        return made, sorted(str(w.message).splitlines()[0] for w in caught)

    with pytest.raises(ValueError, match="NaN"):  # refitting on all rows
        search(VectorizedGridSearchCV)
    ours, said = search(lambda *a, **k: VectorizedGridSearchCV(*a, refit=False, **k))
    theirs, expected = search(lambda *a, **k: GridSearchCV(*a, refit=False, **k))
    np.testing.assert_array_equal(
        ours.cv_results_["split0_test_score"], theirs.cv_results_["split0_test_score"]
    )
    np.testing.assert_allclose(
        ours.cv_results_["split1_test_score"], theirs.cv_results_["split1_test_score"]
    )
    assert said == expected
    assert any("Scoring failed" in line for line in said)


def test_a_pipeline_of_ones_own_is_asked(data):
    class Harsh(Pipeline):
        def score(self, X, y=None, sample_weight=None, **params):
            return super().score(X, y, sample_weight, **params) ** 2

    estimator = Harsh([("scale", StandardScaler()), ("net", classifier())])
    ours, theirs = both(estimator, {"net__C": [1e-3, 1e-2, 1.0]}, data)
    assert_same_results(ours, theirs)


def test_an_accuracy_of_ones_own_is_asked():
    class Harsh(LogisticRegression):
        def score(self, X, y, sample_weight=None):
            return super().score(X, y, sample_weight) ** 2

    X, y = load_digits(return_X_y=True)
    grid = {"C": [1e-3, 1e-2, 1.0]}
    ours, theirs = both(Harsh(device="cpu", max_iter=20), grid, (X[:300] / 16, y[:300]))
    assert_same_results(ours, theirs)
