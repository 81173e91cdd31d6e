"""The estimators inside scikit-learn: meta-estimators, pipelines, routing, persistence, display."""

import copy
import io
import os
import pickle
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_iris, make_multilabel_classification
from sklearn.ensemble import AdaBoostClassifier, BaggingClassifier, VotingClassifier
from sklearn.exceptions import NotFittedError, UnsetMetadataPassedError
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler, scale
from sklearn.utils import estimator_html_repr
from sklearn.utils.validation import check_is_fitted

from tests.common._estimators import each_estimator, fresh, public_estimators

each_network = pytest.mark.parametrize(
    "estimator",
    [
        pytest.param(estimator, id=name)
        for name, estimator in public_estimators()
        if hasattr(estimator, "module_") or "callbacks" in estimator.get_params()
        if estimator.solver != "lbfgs"
    ],
)


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(X))
    return scale(X)[order], np.array(["setosa", "versicolor", "virginica"])[y[order]]


def scores_of(estimator, X):
    """What the estimator says of X, in full precision."""
    return estimator.decision_function(X)


# -- parameters ----------------------------------------------------------------------------------


@each_estimator()
def test_clone_has_the_parameters_and_nothing_of_the_fit(estimator, iris):
    X, y = iris
    fitted = fresh(estimator).fit(X, y)
    copied = clone(fitted)
    with pytest.raises(NotFittedError):
        check_is_fitted(copied)
    assert copied.get_params() == fitted.get_params()
    assert_array_equal(scores_of(copied.fit(X, y), X), scores_of(fitted, X))


@each_estimator()
def test_constructor_and_set_params_store_what_they_are_given(estimator):
    sentinels = {name: object() for name in estimator.get_params()}
    built = type(estimator)(**sentinels)
    assert built.get_params() == sentinels
    set_later = fresh(estimator)
    assert set_later.set_params(**sentinels) is set_later
    assert set_later.get_params() == sentinels
    with pytest.raises(ValueError, match="Invalid parameter 'no_such'"):
        set_later.set_params(no_such=1)


@each_estimator()
def test_set_params_takes_effect_in_the_next_fit(estimator, iris):
    X, y = iris
    refitted = fresh(estimator).fit(X, y).set_params(random_state=7, class_weight={"setosa": 50})
    expected = fresh(estimator, random_state=7, class_weight={"setosa": 50}).fit(X, y)
    assert_array_equal(scores_of(refitted.fit(X, y), X), scores_of(expected, X))


# -- meta-estimators -----------------------------------------------------------------------------


@each_estimator()
def test_grid_search_in_two_processes(estimator, iris):
    X, y = iris
    strength = "C" if "C" in estimator.get_params() else "alpha"
    search = GridSearchCV(estimator, {strength: [1e-3, 1e-2]}, n_jobs=2, cv=2, error_score="raise")
    search.fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.score(X, y) > 0.8
    assert search.best_estimator_.get_params()[strength] == search.best_params_[strength]


@each_estimator()
def test_cross_val_score(estimator, iris):
    X, y = iris
    scores = cross_val_score(estimator, X, y, cv=3, error_score="raise")
    assert scores.shape == (3,)
    assert scores.mean() > 0.8


@each_estimator(having="predict_proba")
def test_cross_validate_with_scorers_of_probabilities(estimator, iris):
    X, y = iris
    scoring = ["neg_log_loss", "roc_auc_ovr", "balanced_accuracy"]
    results = cross_validate(estimator, X, y, cv=3, scoring=scoring, error_score="raise")
    assert results["test_roc_auc_ovr"].mean() > 0.8
    assert (results["test_neg_log_loss"] > -1.0).all()


@each_estimator()
def test_bagging(estimator, iris):
    X, y = iris
    bag = BaggingClassifier(estimator, n_estimators=3, max_features=3, random_state=0).fit(X, y)
    assert bag.score(X, y) > 0.8
    assert len({tuple(scores_of(e, X[:, :3]).ravel()) for e in bag.estimators_}) == 3


@pytest.mark.parametrize("voting", ["hard", "soft"])
def test_voting(voting, iris):
    X, y = iris
    voters = [
        (name, estimator)
        for name, estimator in public_estimators()
        if voting == "hard" or hasattr(estimator, "predict_proba")
    ]
    vote = VotingClassifier(voters, voting=voting).fit(X, y)
    assert vote.score(X, y) > 0.9
    if voting == "soft":
        mean = np.mean([e.predict_proba(X) for e in vote.estimators_], axis=0)
        assert_allclose(vote.predict_proba(X), mean)


@each_estimator()
def test_ada_boost(estimator, iris):
    X, y = iris
    boosted = AdaBoostClassifier(estimator, n_estimators=3, random_state=0).fit(X, y)
    assert boosted.score(X, y) > 0.7


@pytest.mark.parametrize("method", ["sigmoid", "isotonic", "temperature"])
@each_estimator()
def test_calibration(estimator, method, iris):
    X, y = iris
    calibrated = CalibratedClassifierCV(estimator, method=method, cv=2, ensemble=False).fit(X, y)
    proba = calibrated.predict_proba(X)
    assert_allclose(proba.sum(axis=1), 1.0)
    assert calibrated.score(X, y) > 0.8
    if method == "temperature":
        base = fresh(estimator).fit(X, y)
        assert_array_equal(calibrated.predict(X), base.predict(X))


@each_estimator(having="predict_proba")
def test_temperature_scales_the_decision_function(estimator, iris):
    X, y = iris
    calibrated = CalibratedClassifierCV(estimator, method="temperature", cv=2, ensemble=False)
    log_proba = np.log(calibrated.fit(X, y).predict_proba(X))
    logits = fresh(estimator).fit(X, y).decision_function(X)
    differences = (logits - logits[:, :1])[:, 1:]
    ratio = (log_proba - log_proba[:, :1])[:, 1:] / differences
    assert_allclose(ratio, ratio.mean(), rtol=1e-3)


@each_estimator()
def test_one_against_the_rest(estimator, iris):
    X, y = iris
    ovr = OneVsRestClassifier(estimator).fit(X, y)
    assert ovr.score(X, y) > 0.75
    X_many, Y = make_multilabel_classification(60, n_classes=3, random_state=0)
    assert OneVsRestClassifier(estimator).fit(scale(X_many), Y).predict(X_many).shape == Y.shape


# -- pipelines -----------------------------------------------------------------------------------


@each_estimator()
def test_pipeline_is_its_steps(estimator, iris):
    X, y = iris
    X = 5 * X + 3
    pipe = make_pipeline(StandardScaler(), fresh(estimator)).fit(X, y)
    scaler = StandardScaler().fit(X)
    alone = fresh(estimator).fit(scaler.transform(X), y)
    assert_array_equal(scores_of(pipe, X), scores_of(alone, scaler.transform(X)))


@each_estimator()
def test_set_output_gives_the_estimator_names(estimator, iris):
    pd = pytest.importorskip("pandas")
    X, y = iris
    X = pd.DataFrame(X, columns=["a", "b", "c", "d"])
    pipe = make_pipeline(StandardScaler(), fresh(estimator)).set_output(transform="pandas")
    pipe.fit(X, y)
    assert list(pipe[-1].feature_names_in_) == ["a", "b", "c", "d"]
    assert pipe.score(X, y) > 0.8
    with pytest.raises(ValueError, match="feature names should match"):
        pipe[-1].predict(pd.DataFrame(X.to_numpy(), columns=["a", "b", "c", "e"]))


@each_network
def test_pipeline_transforms_the_validation_set(estimator, iris):
    X, y = 100 * iris[0] + 7, iris[1]
    X_val, y_val = X[:30], y[:30]
    with config_context(enable_metadata_routing=True):
        net = fresh(estimator).set_fit_request(X_val=True, y_val=True, sample_weight_val=True)
        pipe = Pipeline(
            [("scaler", StandardScaler()), ("net", net)],
            transform_input=["X_val"],
        )
        weight = np.linspace(1, 2, 30)
        pipe.fit(X[30:], y[30:], X_val=X_val, y_val=y_val, sample_weight_val=weight)
    scaler = StandardScaler().fit(X[30:])
    alone = fresh(estimator).fit(
        scaler.transform(X[30:]),
        y[30:],
        X_val=scaler.transform(X_val),
        y_val=y_val,
        sample_weight_val=weight,
    )
    history = pipe[-1].history_
    assert np.isfinite(history["validation_loss"]).all()
    assert history["validation_loss"] == alone.history_["validation_loss"]
    assert history["validation_score"] == alone.history_["validation_score"]


# -- metadata routing ----------------------------------------------------------------------------


@each_estimator()
def test_routed_sample_weight_reaches_fit_and_score(estimator, iris):
    X, y = iris
    weight = np.random.RandomState(0).uniform(0.1, 2, len(X))
    fold = [(np.arange(75), np.arange(75, 150))]
    with config_context(enable_metadata_routing=True):
        asked = fresh(estimator).set_fit_request(sample_weight=True)
        asked = asked.set_score_request(sample_weight=True)
        results = cross_validate(
            make_pipeline(StandardScaler().set_fit_request(sample_weight=False), asked),
            X,
            y,
            cv=fold,
            params={"sample_weight": weight},
            return_estimator=True,
            error_score="raise",
        )
        with pytest.raises(UnsetMetadataPassedError):
            cross_validate(fresh(estimator), X, y, cv=fold, params={"sample_weight": weight})
    scaler = StandardScaler().fit(X[:75])
    alone = fresh(estimator).fit(scaler.transform(X[:75]), y[:75], sample_weight=weight[:75])
    X_test = scaler.transform(X[75:])
    assert_array_equal(scores_of(results["estimator"][0][-1], X_test), scores_of(alone, X_test))
    assert results["test_score"][0] == alone.score(X_test, y[75:], sample_weight=weight[75:])


# -- copies and files ----------------------------------------------------------------------------


def pickle_round_trip(estimator, folder):
    return pickle.loads(pickle.dumps(estimator))


def joblib_round_trip(estimator, folder):
    joblib.dump(estimator, folder / "model.joblib")
    return joblib.load(folder / "model.joblib")


def deepcopy_round_trip(estimator, folder):
    return copy.deepcopy(estimator)


@pytest.mark.parametrize("round_trip", [pickle_round_trip, joblib_round_trip, deepcopy_round_trip])
@each_estimator()
def test_a_copy_of_a_fitted_estimator_is_whole_and_separate(estimator, round_trip, iris, tmp_path):
    X, y = iris
    fitted = fresh(estimator).fit(X, y)
    before = scores_of(fitted, X).copy()
    loaded = round_trip(fitted, tmp_path)
    assert loaded.get_params().keys() == fitted.get_params().keys()
    assert loaded.__dict__.keys() == fitted.__dict__.keys()
    assert_array_equal(scores_of(loaded, X), before)
    assert_array_equal(loaded.predict(X), fitted.predict(X))
    if hasattr(fitted, "partial_fit"):
        loaded.partial_fit(X, y)
        assert_array_equal(scores_of(fitted, X), before)
        assert_array_equal(scores_of(fitted.partial_fit(X, y), X), scores_of(loaded, X))
    else:
        assert_array_equal(scores_of(loaded.fit(X, y), X), before)


@each_estimator()
def test_a_state_for_pickles_is_no_part_of_the_estimator(estimator, iris):
    X, y = iris
    fitted = fresh(estimator).fit(X, y)
    before = scores_of(fitted, X)
    fitted.__getstate__().clear()
    assert_array_equal(scores_of(fitted, X), before)


class TensorWatcher(pickle.Pickler):
    """A pickler that notes where the tensors are that pass through it."""

    def __init__(self):
        self.file = io.BytesIO()
        super().__init__(self.file)
        self.n_tensors, self.devices = 0, set()

    def persistent_id(self, obj):
        if isinstance(obj, (torch.Tensor, torch.UntypedStorage)):
            self.n_tensors += 1
            self.devices.add(obj.device.type)


def tensors_in_pickle(estimator):
    watcher = TensorWatcher()
    watcher.dump(estimator)
    return watcher


@each_estimator()
def test_pickle_keeps_nothing_of_the_data(estimator, iris):
    X, y = iris
    sizes = []
    for n_times in (1, 3):
        fitted = fresh(estimator).fit(np.tile(X, (n_times, 1)), np.tile(y, n_times))
        watcher = tensors_in_pickle(fitted)
        assert watcher.devices <= {"cpu"}
        assert watcher.n_tensors > 0 or not hasattr(fitted, "_optimiser_state")
        sizes.append(len(watcher.file.getvalue()))
    assert sizes[1] - sizes[0] < X.nbytes


LOAD_AND_PREDICT = """
import sys
import joblib, numpy as np, torch
sys.path.insert(0, sys.argv[1])
assert not torch.cuda.is_available()
model = joblib.load(sys.argv[2])
X = np.load(sys.argv[3])
np.save(sys.argv[4], model.decision_function(X))
if hasattr(model, "partial_fit"):
    model.set_params(device="cpu").partial_fit(X, model.predict(X))
"""


@pytest.mark.gpu
@each_estimator()
def test_fitted_on_a_gpu_loads_without_one(estimator, iris, tmp_path):
    X, y = iris[0].astype(np.float32), iris[1]
    fitted = fresh(estimator, device="cuda").fit(X, y)
    before = scores_of(fitted, X)
    watcher = tensors_in_pickle(fitted)
    assert watcher.devices <= {"cpu"}
    assert_array_equal(scores_of(fitted, X), before)  # still by the GPU
    model, data, out = tmp_path / "model.joblib", tmp_path / "X.npy", tmp_path / "out.npy"
    joblib.dump(fitted, model)
    np.save(data, X)
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", LOAD_AND_PREDICT, root, *map(str, (model, data, out))]
    subprocess.run(command, check=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    assert_allclose(np.load(out), scores_of(fitted, X), rtol=1e-3, atol=1e-4)
    again = joblib.load(model)
    assert_array_equal(scores_of(again, X), scores_of(fitted, X))


# -- display -------------------------------------------------------------------------------------


@each_estimator()
def test_html_repr_shows_parameters_and_the_state_of_the_fit(estimator, iris):
    X, y = iris
    unfitted = fresh(estimator)
    before = estimator_html_repr(unfitted)
    after = estimator_html_repr(unfitted.fit(X, y))
    name = type(estimator).__name__
    for html in (before, after):
        assert name in html
        for parameter in estimator.get_params():
            assert parameter in html
    assert "Not fitted" in before
    assert "Not fitted" not in after
    assert "classes_" in after
    assert estimator_html_repr(make_pipeline(StandardScaler(), unfitted)).count(name)


@each_estimator()
def test_repr_shows_what_differs_from_the_defaults(estimator):
    assert repr(fresh(estimator)).startswith(f"{type(estimator).__name__}(")
    assert "device='cpu'" in repr(fresh(estimator))
    assert "verbose" not in repr(fresh(estimator))
