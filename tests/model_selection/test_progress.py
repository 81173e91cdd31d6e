"""What a search tells while it runs."""

import joblib
import pytest
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from sknets import MLPClassifier, VectorizedGridSearchCV

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def net(**settings):
    return MLPClassifier((4,), **{"random_state": 0, "max_iter": 20, "device": "cpu", **settings})


class Recording(ProgressBar):
    """A progress bar that notes the tasks it is told of, and those that wait for an epoch."""

    def __init__(self):
        super().__init__()
        self.begun, self.ended = [], []

    def on_fit_task_begin(self, estimator, context):
        self.begun.append(context.task_name)
        super().on_fit_task_begin(estimator, context)

    def on_fit_task_end(self, estimator, context):
        self.ended.append(context.task_name)
        super().on_fit_task_end(estimator, context)


def test_a_bar_over_stacks_epochs_and_fits():
    bar = Recording()
    search = VectorizedGridSearchCV(net(), {"solver": ["adam", "sgd", "lbfgs"]}, cv=3)
    search.set_callbacks(bar)
    search.fit(*load_iris(return_X_y=True))
    assert bar.begun.count("stack") == bar.ended.count("stack") == 2
    in_stacks = bar.begun.index("stack"), len(bar.begun) - bar.begun[::-1].index("stack")
    # The epochs of a stack are told one by one, before the next stack begins.
    assert bar.begun[slice(*in_stacks)].count("epoch") == 20
    assert bar.ended.index("epoch") < bar.ended.index("stack")
    for task in ("fit", "search", "stacks", "one by one", "scoring"):
        assert task in bar.ended


def test_a_bar_over_stacks_in_other_processes():
    bar = Recording()
    search = VectorizedGridSearchCV(net(), {"alpha": [1e-4, 1.0]}, cv=3).set_callbacks(bar)
    with joblib.parallel_config(backend="loky", n_jobs=2):
        search.fit(*load_iris(return_X_y=True))
    assert {place for row in search.vectorization_ for place in row} == {
        "stack 1 (3 nets)",
        "stack 2 (3 nets)",
    }
    assert bar.ended.count("stacks") == bar.ended.count("scoring") == 1


def test_a_bar_gives_the_same_results():
    X, y = load_iris(return_X_y=True)
    search = VectorizedGridSearchCV(net(), {"alpha": [1e-4, 1.0]}, cv=3)
    plain = search.fit(X, y).cv_results_["mean_test_score"]
    with_bar = search.set_callbacks(ProgressBar()).fit(X, y).cv_results_["mean_test_score"]
    assert plain.tolist() == with_bar.tolist()


class Local:
    """A callback of the user's that counts the fits it hears of, of the one that it is set on."""

    def __init__(self):
        self.heard = []

    def setup(self, estimator, context): ...

    def teardown(self, estimator, context): ...

    def on_fit_task_begin(self, estimator, context):
        self.heard.append(type(estimator).__name__)

    def on_fit_task_end(self, estimator, context): ...


class Listening(Local):
    """And of those inside."""

    max_propagation_depth = 1


def test_a_callback_of_the_user_sees_the_fits_themselves():
    X, y = load_iris(return_X_y=True)
    heard = []
    for kind in (GridSearchCV, VectorizedGridSearchCV):
        callback = Listening()
        search = kind(net(), {"alpha": [1e-4]}, cv=2).set_callbacks(callback).fit(X, y)
        heard.append(callback.heard.count("MLPClassifier"))
    assert heard[0] == heard[1] > 0
    assert "callbacks" in search.vectorization_[0][0]


@pytest.mark.parametrize("in_pipeline", [False, True])
def test_a_callback_of_the_estimator_belongs_to_the_search_it_is_in(in_pipeline):
    X, y = load_iris(return_X_y=True)
    for kind in (GridSearchCV, VectorizedGridSearchCV):
        monitor = ScoringMonitor(scoring="accuracy")
        estimator, name = net().set_callbacks(monitor), "alpha"
        if in_pipeline:
            estimator, name = make_pipeline(StandardScaler(), estimator), "mlpclassifier__alpha"
        search = kind(estimator, {name: [1e-4, 1.0]}, cv=2).fit(X, y)
        logs = monitor.get_logs(select="all")
        assert [log.estimator_name for log in logs] == [kind.__name__]
    assert search.vectorization_ == [["the estimator has callbacks"] * 2] * 2


def test_a_callback_of_a_value_of_the_grid_hears_of_every_fit():
    X, y = load_iris(return_X_y=True)
    pipeline = Pipeline([("scale", "passthrough"), ("net", net())])
    heard = []
    for kind in (GridSearchCV, VectorizedGridSearchCV):
        callback = Local()
        scaler = StandardScaler().set_callbacks(callback)
        kind(pipeline, {"scale": [scaler], "net__alpha": [0.1, 1.0]}, cv=2).fit(X, y)
        heard.append(len(callback.heard))
    assert heard[0] == heard[1] >= 5


def test_a_bar_that_is_not_the_searchs_own_is_refused():
    search = VectorizedGridSearchCV(net().set_callbacks(ProgressBar()), {"alpha": [1.0]}, cv=2)
    with pytest.raises(ValueError, match=r"meta-estimator \(VectorizedGridSearchCV\) can't have"):
        search.fit(*load_iris(return_X_y=True))


def test_verbose_prints_while_the_stack_runs(capsys):
    VectorizedGridSearchCV(net(), {"alpha": [1e-4, 1.0]}, cv=3, verbose=1).fit(
        *load_iris(return_X_y=True)
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Fitting 3 folds for each of 2 candidates, totalling 6 fits"
    assert lines[1] == "Stack 1 of 1, 6 nets: begins"
    assert lines[2] == "Stack 1 of 1, 6 nets: epoch 2 of at most 20"
    assert len(lines) == 12


def test_verbose_of_a_fit_speaks_as_scikit_learn_does(capsys):
    VectorizedGridSearchCV(net(), {"alpha": [1e-4, 1.0]}, cv=3, verbose=3).fit(
        *load_iris(return_X_y=True)
    )
    out = capsys.readouterr().out
    assert out.count("totalling 6 fits") == 1
    assert out.count("[CV 1/3] END") == 2
