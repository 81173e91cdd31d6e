"""``LogisticRegression(compile="numba")`` gives the same models, or says what it does not cover."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.exceptions import FitFailedWarning

from sknets import VectorizedGridSearchCV
from sknets._base import check_numba_linear
from sknets._engine import _numba_logistic
from sknets.linear_model import LogisticRegression
from tests.parity._data import breast_cancer, first_digits, rare_columns

# Few iterations on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def pair(**settings):
    settings = {"device": "cpu", **settings}
    return LogisticRegression(**settings), LogisticRegression(**settings, compile="numba")


def assert_same(compiled, plain, atol=1e-8):
    assert compiled.n_iter_ == plain.n_iter_
    for name in ("coef_", "intercept_"):
        ours, theirs = getattr(compiled, name), getattr(plain, name)
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, atol=atol, err_msg=name)
    losses = plain.history_["train_loss"]
    np.testing.assert_allclose(compiled.history_["train_loss"], losses, rtol=atol)


@pytest.fixture
def calls(monkeypatch):
    """Names of the compiled functions that were called."""
    names = set()

    def watch(name):
        compiled = getattr(_numba_logistic, name)

        def call(*args):
            names.add(name)
            return compiled(*args)

        monkeypatch.setattr(_numba_logistic, name, call)

    for name in ("add_losses_gradients", "directions", "add_penalties"):
        watch(name)
    return names


DATA = {
    "many classes": lambda: first_digits(450),
    "less than a block": lambda: first_digits(50),
    "two classes": breast_cancer,
}


def test_compiled_code_runs_where_it_is_said_to(calls):
    X, y = first_digits(450)
    pair()[0].fit(X, y)
    VectorizedGridSearchCV(pair()[0], {"C": [0.1, 1.0]}, cv=2).fit(X, y)
    assert calls == set()
    pair()[1].fit(X, y)
    assert calls == {"add_losses_gradients"}
    for data in (first_digits(450), breast_cancer()):
        calls.clear()
        VectorizedGridSearchCV(pair()[1], {"C": [0.1, 1.0]}, cv=2, refit=False).fit(*data)
        assert calls == {"add_losses_gradients", "directions", "add_penalties"}


def test_what_is_computed_as_without_it(calls):
    X, y = first_digits(450)
    pair()[1].fit(sparse.csr_array(X), y)
    search = VectorizedGridSearchCV(pair()[1], {"C": [0.1, 1.0]}, cv=2)
    search.fit(sparse.csr_array(X), y)
    pair()[1].fit(*breast_cancer())
    pair(max_iter=2)[1].fit(*rare_columns(3))
    assert calls == set()


@pytest.mark.parametrize("settings", [{}, {"fit_intercept": False}, {"C": 1e-3}, {"C": np.inf}])
@pytest.mark.parametrize("data", DATA.values(), ids=DATA)
def test_the_steps_are_those_of_the_other_way(data, settings):
    X, y = data()
    plain, compiled = pair(max_iter=30, **settings)
    assert_same(compiled.fit(X, y), plain.fit(X, y))


@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 3.0}])
@pytest.mark.parametrize("data", DATA.values(), ids=DATA)
def test_weights(data, class_weight):
    X, y = data()
    weight = np.arange(len(y)) % 4 / 2
    plain, compiled = pair(class_weight=class_weight, max_iter=30)
    assert_same(compiled.fit(X, y, weight), plain.fit(X, y, weight))


@pytest.mark.parametrize("data", DATA.values(), ids=DATA)
def test_float32(data):
    X, y = data()
    plain, compiled = pair(max_iter=8)
    X = X.astype(np.float32)
    assert_same(compiled.fit(X, y), plain.fit(X, y), atol=1e-3)


def test_going_on_from_the_last_fit():
    X, y = breast_cancer()
    plain, compiled = pair(warm_start=True, max_iter=4)
    for _ in range(3):
        assert_same(compiled.fit(X, y), plain.fit(X, y))


def test_logits_beyond_exp():
    for X, y in (breast_cancer(), first_digits(450)):
        plain, compiled = pair(max_iter=10)
        compiled.fit(1e4 * X, y)
        plain.fit(1e4 * X, y)
        np.testing.assert_allclose(compiled.coef_, plain.coef_, rtol=1e-6, atol=1e-9)


def test_values_that_overflow():
    X, y = breast_cancer()
    for clf in pair():
        with pytest.raises(ValueError, match="must stay finite"):
            clf.fit(1e200 * X, y)
        assert not hasattr(clf, "coef_")


def test_more_rows_than_are_compiled():
    X, y = rare_columns(3)
    plain, compiled = pair(max_iter=3)
    compiled.fit(X, y)
    np.testing.assert_array_equal(compiled.coef_, plain.fit(X, y).coef_)


@pytest.mark.parametrize("search", [False, True])
def test_sparse_rows_are_computed_as_without_it(search):
    X, y = first_digits(450)
    X = sparse.csr_array(X)
    plain, compiled = pair(max_iter=20)
    if search:
        searches = [VectorizedGridSearchCV(each, {"C": [0.1, 1.0]}, cv=2) for each in pair()]
        plain, compiled = (each.fit(X, y).best_estimator_ for each in searches)
    np.testing.assert_array_equal(compiled.fit(X, y).coef_, plain.fit(X, y).coef_)


# -- what it does not cover ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "solver", ["newton-cg", "newton-cholesky", "proximal-newton", "adam", "sgd"]
)
def test_other_solvers(solver):
    clf = LogisticRegression(solver=solver, compile="numba", device="cpu")
    with pytest.raises(ValueError, match=rf'solver must be "lbfgs" with .*, got \'{solver}\''):
        clf.fit(*breast_cancer())


@pytest.mark.parametrize("value", [True, None, "torch"])
def test_other_compilers(value):
    with pytest.raises(ValueError, match="The 'compile' parameter of LogisticRegression must be"):
        LogisticRegression(compile=value).fit(*breast_cancer())


def test_another_device():
    check_numba_linear(pair()[0], torch.device("cuda"))
    check_numba_linear(pair()[1], torch.device("cpu"))
    with pytest.raises(ValueError, match=r'device must be "cpu" .*, got .cuda:1'):
        check_numba_linear(pair()[1], torch.device("cuda:1"))


@pytest.mark.gpu
def test_a_gpu_is_refused():
    with pytest.raises(ValueError, match=r'device must be "cpu" .*, got .cuda'):
        pair(device="cuda")[1].fit(*breast_cancer())


def test_a_candidate_that_is_not_covered_leaves_the_others_alone():
    grid = {"solver": ["lbfgs", "newton-cg"]}
    search = VectorizedGridSearchCV(pair()[1], grid, cv=2, error_score=-1.0)
    with pytest.warns(FitFailedWarning, match='solver must be "lbfgs"'):
        search.fit(*breast_cancer())
    scores = search.cv_results_["mean_test_score"]
    assert scores[1] == -1 < scores[0]


def test_both_ways_in_one_search():
    grid = {"compile": [False, "numba"], "C": [0.1, 1.0]}
    search = VectorizedGridSearchCV(pair()[0], grid, cv=3).fit(*first_digits(450))
    assert len({place for row in search.vectorization_ for place in row}) == 2
    scores = search.cv_results_["mean_test_score"]
    np.testing.assert_allclose(scores[::2], scores[1::2], atol=1e-9)


def test_numba_is_not_imported_where_it_is_not_asked_for():
    code = """
import sys
from sklearn.datasets import load_iris
from sknets.linear_model import LogisticRegression
LogisticRegression(device="cpu", max_iter=1000).fit(*load_iris(return_X_y=True))
assert "sknets._engine._numba_logistic_stack" in sys.modules
assert "numba" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_numba_an_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    message = r'compile="numba" needs numba, .*sknets\[numba\]'
    with pytest.raises(ImportError, match=message):
        pair()[1].fit(*breast_cancer())
    with pytest.raises(ValueError, match=message):  # as scikit-learn's, where all fits fail
        VectorizedGridSearchCV(pair()[1], {"C": [1.0]}, cv=2).fit(*breast_cancer())
