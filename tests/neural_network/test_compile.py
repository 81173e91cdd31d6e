"""``compile=True`` hands the module to torch's compiler, or says what is missing."""

import numpy as np
import pytest
from sklearn.datasets import load_iris

from sknets import MLPClassifier, VectorizedGridSearchCV

SETTINGS = {"max_iter": 3, "tol": 1e3, "n_iter_no_change": 1, "random_state": 0, "device": "cpu"}


@pytest.fixture
def iris():
    return load_iris(return_X_y=True)


def test_a_missing_compiler_is_named(iris, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    clf = MLPClassifier((4,), compile=True, **SETTINGS)
    with pytest.raises(ValueError, match=r"no C\+\+ compiler .looked for no-such-compiler"):
        clf.fit(*iris)
    assert not hasattr(clf, "module_")


def test_random_numbers_are_refused(iris):
    clf = MLPClassifier((4,), compile=True, dropout=0.5, **SETTINGS)
    with pytest.raises(ValueError, match="compile must be False for a net that draws"):
        clf.fit(*iris)


def test_a_search_says_that_it_compiles_nets_one_by_one(iris, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    net = MLPClassifier((4,), compile=True, **SETTINGS)
    search = VectorizedGridSearchCV(net, {"alpha": [0.1]}, cv=2, error_score="raise", refit=False)
    with pytest.raises(ValueError, match="no C"):
        search.fit(*iris)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler's own making
def test_compiled_training_gives_the_same_weights(iris):
    plain = MLPClassifier((4,), **SETTINGS).fit(*iris)
    compiled = MLPClassifier((4,), compile=True, **SETTINGS).fit(*iris)
    assert compiled.engine_ == "autograd, compiled"
    assert plain.engine_ == "closed form"
    for ours, theirs in zip(compiled.coefs_, plain.coefs_, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-9)
