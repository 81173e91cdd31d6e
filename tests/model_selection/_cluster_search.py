"""Searches on a local Ray or Spark, named by the first argument, and prints what came out."""

import json
import os
import sys
import warnings

import joblib
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

from sknets import MLPClassifier, VectorizedGridSearchCV


def register_ray():
    import ray
    from ray.util.joblib import register_ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    register_ray()


def register_spark():
    from joblibspark import register_spark
    from pyspark.sql import SparkSession

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    SparkSession.builder.master("local[2]").getOrCreate()
    register_spark()


def main():
    """Print the largest difference to the scores of one process, and the stacks."""
    warnings.simplefilter("ignore")  # few epochs, and what the clusters say of themselves
    backend = sys.argv[1]
    {"ray": register_ray, "spark": register_spark}[backend]()
    X, y = load_digits(return_X_y=True)
    X, y = X[:200] / 16, y[:200]
    net = MLPClassifier((8,), random_state=0, max_iter=4, device="cpu")
    grid = {"alpha": [1e-4, 1.0], "learning_rate_init": [1e-3, 1e-2]}
    theirs = GridSearchCV(net, grid, cv=3).fit(X, y)
    with joblib.parallel_config(backend=backend, n_jobs=2):
        ours = VectorizedGridSearchCV(net, grid, cv=3).fit(X, y)
    scores = "mean_test_score"
    found = {
        "difference": abs(ours.cv_results_[scores] - theirs.cv_results_[scores]).max(),
        "stacks": sorted({place for row in ours.vectorization_ for place in row}),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
