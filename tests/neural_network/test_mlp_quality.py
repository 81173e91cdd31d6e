"""How well MLPClassifier learns real data."""

import warnings

import numpy as np
import pytest
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier as Reference
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sknets.neural_network import MLPClassifier

TABLES = ("adult", "bank", "credit_g", "letter", "phoneme", "satimage", "spambase", "vehicle")
N_SEEDS = 5


def test_three_hidden_layers_learn_digits():
    X, y = load_digits(return_X_y=True)
    scores = []
    for seed in range(4):  # the mean of some splits: a row in 450 is 0.2 %
        X_train, X_test, y_train, y_test = train_test_split(
            X, y, test_size=0.25, stratify=y, random_state=seed
        )
        net = MLPClassifier((64, 32, 16), random_state=seed, device="cpu")
        scores.append(
            make_pipeline(StandardScaler(), net).fit(X_train, y_train).score(X_test, y_test)
        )
    assert np.mean(scores) >= 0.97


def prepare(table):
    """Impute what is missing and give each category a column."""
    is_category = table.cat.astype(bool)
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    categories = make_pipeline(
        SimpleImputer(strategy="most_frequent"),
        OneHotEncoder(handle_unknown="ignore", sparse_output=False),
        StandardScaler(),
    )
    return make_column_transformer((numbers, ~is_category), (categories, is_category))


def compare(table, seeds=range(N_SEEDS)):
    """Return test accuracies (n_seeds, 2): ours and scikit-learn's, on the same splits."""
    scores = []
    for seed in seeds:
        X_train, X_test, y_train, y_test = train_test_split(
            table.X, table.y, test_size=0.25, stratify=table.y, random_state=seed
        )
        pair = (MLPClassifier(random_state=seed, device="cpu"), Reference(random_state=seed))
        row = []
        for clf in pair:
            pipeline = make_pipeline(prepare(table), clf)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # the default is 200 epochs
                row.append(pipeline.fit(X_train, y_train).score(X_test, y_test))
        scores.append(row)
    return np.array(scores)


@pytest.mark.slow
def test_the_default_is_no_worse_than_scikit_learns(tabular):
    means = {name: compare(tabular(name)).mean(0) for name in TABLES}
    for name, (ours, reference) in means.items():
        assert ours >= reference - 0.01, f"{name}: {ours:.4f} against {reference:.4f}"
    ours, reference = np.mean(list(means.values()), 0)
    assert ours >= reference, f"mean of all: {ours:.5f} against {reference:.5f}"
