import pandas as pd
import pytest

from sknets._engine import HISTORY_COLUMNS, Progress, make_history


def row(**values):
    return {name: values.get(name, 0.5) for name in HISTORY_COLUMNS if name != "epoch"}


def test_a_new_history_has_every_column_and_no_row():
    assert list(make_history()) == list(HISTORY_COLUMNS)
    assert len(pd.DataFrame(make_history())) == 0


def test_rows_are_numbered_from_one():
    progress = Progress()
    for loss in (3.0, 2.0):
        progress.record(**row(train_loss=loss))
    table = pd.DataFrame(progress.history)
    assert table["epoch"].tolist() == [1, 2]
    assert table["train_loss"].tolist() == [3.0, 2.0]


def test_a_row_without_a_column_is_refused():
    with pytest.raises(KeyError, match="seconds"):
        Progress().record(
            train_loss=1.0, validation_loss=1.0, validation_score=1.0, learning_rate=1
        )


@pytest.mark.parametrize(
    ("losses", "tol", "stale"),
    [
        ([3.0, 2.0, 1.0], 0.0, 0),
        ([3.0, 2.95, 2.93], 0.1, 2),
        ([3.0, 2.95, 2.87], 0.1, 2),  # each is compared with the smallest so far
        ([3.0, 4.0, 2.0], 0.1, 0),
        ([3.0, 3.0], 0.0, 0),  # no worse, with a tolerance of nothing
        ([3.0, 3.1, 3.2, 3.3], 0.0, 3),
    ],
)
def test_stale_losses(losses, tol, stale):
    progress = Progress()
    for loss in losses:
        progress.note_loss(loss, tol)
    assert progress.n_stale == stale
    assert progress.best_loss == min(losses)


@pytest.mark.parametrize(
    ("scores", "tol", "stale", "bests"),
    [
        ([0.1, 0.5, 0.9], 0.0, 0, [True, True, True]),
        ([0.5, 0.5, 0.4], 0.0, 1, [True, False, False]),
        ([0.5, 0.51, 0.52], 0.1, 2, [True, True, True]),
        ([0.5, 0.2, 0.7], 0.1, 0, [True, False, True]),
    ],
)
def test_stale_scores(scores, tol, stale, bests):
    progress = Progress()
    assert [progress.note_score(score, tol) for score in scores] == bests
    assert progress.n_stale == stale
    assert progress.best_score == max(scores)


def test_a_copy_goes_on_alone():
    progress = Progress()
    progress.record(**row())
    progress.loss_curve.append(1.0)
    other = progress.copy()
    assert other == progress
    other.record(**row())
    other.loss_curve.append(0.5)
    other.validation_scores.append(0.1)
    other.note_loss(0.1, 0.0)
    assert len(progress.history["epoch"]) == len(progress.loss_curve) == 1
    assert progress.validation_scores == []
    assert progress.best_loss == float("inf")
