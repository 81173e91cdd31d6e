"""Stacks on several devices and on the workers of a joblib backend."""

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

from sknets import MLPClassifier, VectorizedGridSearchCV

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

GRID = {"alpha": [1e-4, 1.0], "hidden_layer_sizes": [(8,), (5,)]}


@pytest.fixture(scope="module")
def data():
    X, y = load_digits(return_X_y=True)
    return X[:200] / 16, y[:200]


@pytest.fixture(scope="module")
def expected(data):
    return GridSearchCV(net(), GRID, cv=3).fit(*data)


def net(**settings):
    return MLPClassifier(**{"random_state": 0, "max_iter": 4, "device": "cpu", **settings})


def search(**settings):
    return VectorizedGridSearchCV(net(), GRID, cv=3, **settings)


def assert_same(ours, theirs):
    np.testing.assert_allclose(
        ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"], atol=1e-9
    )
    assert ours.best_params_ == theirs.best_params_


def places(fitted):
    return {place for row in fitted.vectorization_ for place in row}


def test_devices_share_the_stacks(data, expected):
    ours = search(devices=["cpu", "cpu"]).fit(*data)
    assert_same(ours, expected)
    assert places(ours) == {"stack 1 (6 nets)", "stack 2 (6 nets)"}
    ours = search(devices=["cpu"] * 4).fit(*data)
    assert_same(ours, expected)
    assert places(ours) == {f"stack {i} (3 nets)" for i in (1, 2, 3, 4)}


def test_devices_are_of_one_type(data):
    with pytest.raises(ValueError, match="device must be present"):
        search(devices=["cpu", "cuda:7"]).fit(*data)
    with pytest.raises(ValueError, match="one or more devices of one type"):
        search(devices=[]).fit(*data)


@pytest.mark.gpu
def test_a_gpu_gives_the_same(data):
    X, y = data
    ours = search(devices=["cuda:0", "cuda:0"]).fit(X.astype(np.float32), y)
    theirs = GridSearchCV(net(device="cuda"), GRID, cv=3).fit(X.astype(np.float32), y)
    np.testing.assert_allclose(
        ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"], atol=1 / 60
    )


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_stacks_are_the_tasks_of_a_backend(data, expected, backend):
    with joblib.parallel_config(backend=backend, n_jobs=2):
        ours = search().fit(*data)
    assert_same(ours, expected)
    assert places(ours) == {"stack 1 (6 nets)", "stack 2 (6 nets)"}
    np.testing.assert_allclose(
        ours.best_estimator_.predict_proba(data[0]),
        expected.best_estimator_.predict_proba(data[0]),
        atol=1e-9,
    )


def test_one_stack_is_cut_for_the_workers(data):
    with joblib.parallel_config(backend="threading", n_jobs=3):
        ours = VectorizedGridSearchCV(net(), {"alpha": [1e-4, 1.0]}, cv=3).fit(*data)
    assert places(ours) == {f"stack {i} (2 nets)" for i in (1, 2, 3)}


def test_n_jobs_alone_leaves_stacks_together(data, expected):
    ours = search(n_jobs=2).fit(*data)
    assert_same(ours, expected)
    assert places(ours) == {"stack 1 (6 nets)", "stack 2 (6 nets)"}
    ours = VectorizedGridSearchCV(net(), {"alpha": [1e-4, 1.0]}, cv=3, n_jobs=2).fit(*data)
    assert places(ours) == {"stack 1 (6 nets)"}


def test_a_failure_on_a_worker_is_told(data):
    grid = {"learning_rate_init": [1e-3, 1e300], "solver": ["sgd"]}
    failing = VectorizedGridSearchCV(net(), grid, cv=3, error_score="raise")
    with (
        joblib.parallel_config(backend="loky", n_jobs=2),
        pytest.raises(ValueError, match="must stay finite"),
    ):
        failing.fit(*data)


def test_devices_and_a_backend_exclude_each_other(data):
    with (
        joblib.parallel_config(backend="threading", n_jobs=2),
        pytest.raises(ValueError, match="devices must be None where a joblib backend"),
    ):
        search(devices=["cpu", "cpu"]).fit(*data)


def test_fits_one_by_one_use_the_backend_too(data):
    grid = {"solver": ["adam", "lbfgs"]}
    theirs = GridSearchCV(net(), grid, cv=3).fit(*data)
    with joblib.parallel_config(backend="threading", n_jobs=2):
        ours = VectorizedGridSearchCV(net(), grid, cv=3).fit(*data)
    assert_same(ours, theirs)


def test_an_estimator_of_others_uses_the_backend(data):
    with joblib.parallel_config(backend="threading", n_jobs=2):
        ours = VectorizedGridSearchCV(LogisticRegression(max_iter=20), {"C": [1.0]}, cv=2)
        ours.fit(*data)
    assert places(ours) == {"LogisticRegression is not fitted in stacks"}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"early_stopping": True, "n_iter_no_change": 1, "max_iter": 12},
        {"dropout": 0.3, "solver": "sgd"},
        {"shuffle": False, "class_weight": "balanced"},
        {"hidden_layer_sizes": ()},
    ],
    ids=lambda settings: "-".join(settings) or "defaults",
)
def test_a_stack_in_parts_gives_the_same(data, settings, monkeypatch):
    monkeypatch.setattr("sknets._base._stacked_networks.useful_parts", lambda *args: 3)
    grid = {"alpha": [1e-4, 1.0], "random_state": [0, 1], "learning_rate_init": [1e-3, 1e-1]}
    small = net(**{"hidden_layer_sizes": (8,), **settings})
    ours = VectorizedGridSearchCV(small, grid, cv=3, return_train_score=True).fit(*data)
    theirs = GridSearchCV(small, grid, cv=3, return_train_score=True).fit(*data)
    for name, expected in theirs.cv_results_.items():
        if name.startswith("split"):
            np.testing.assert_allclose(ours.cv_results_[name], expected, atol=1e-9)
    assert places(ours) == {"stack 1 (24 nets)"}


def test_a_net_that_fails_in_a_part_fails_alone(data, monkeypatch):
    monkeypatch.setattr("sknets._base._stacked_networks.useful_parts", lambda *args: 2)
    grid = {"learning_rate_init": [1e-3, 1e300, 1e-2], "alpha": [1e-4, 1.0]}
    with pytest.warns(FitFailedWarning, match="must stay finite"):
        ours = VectorizedGridSearchCV(net(solver="sgd"), grid, cv=3, error_score=-1.0).fit(*data)
    scores = ours.cv_results_["mean_test_score"]
    rates = np.asarray(ours.cv_results_["param_learning_rate_init"], float)
    assert (scores[rates == 1e300] == -1.0).all()
    assert (scores[rates < 1] > 0).all()


def test_large_stacks_are_cut_to_what_the_caches_hold(data):
    grid = {"alpha": np.geomspace(1e-6, 1.0, 40)}
    wide = net(hidden_layer_sizes=(200, 200), max_iter=1)
    fitted = VectorizedGridSearchCV(wide, grid, cv=5, refit=False).fit(*data)
    assert 1 < len(places(fitted)) <= 17  # of 12 nets or more
    whole = VectorizedGridSearchCV(wide, grid, cv=5, refit=False, max_stack_bytes=2**40)
    assert places(whole.fit(*data)) == {"stack 1 (200 nets)"}
