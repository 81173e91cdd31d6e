"""Search the settings of a network on the workers of a Dask cluster, one stack a worker.

Run with ``python examples/distributed_search.py``. The cluster here is of this machine's cores;
for one of many machines, give `Client` the address of its scheduler.
"""

import joblib
from dask.distributed import Client, LocalCluster
from sklearn.datasets import load_digits

from sknets import MLPClassifier, VectorizedGridSearchCV


def search_on(client, n_workers):
    """Fit a search whose stacks are the tasks of a cluster."""
    X, y = load_digits(return_X_y=True)
    net = MLPClassifier((32,), max_iter=100, tol=0.05, n_iter_no_change=2, random_state=0)
    settings = {"learning_rate_init": [1e-3, 3e-3, 1e-2], "alpha": [1e-4, 1e-2, 1.0]}
    search = VectorizedGridSearchCV(net, settings, cv=5)
    # Whatever joblib spreads in this block goes to the cluster.
    with client, joblib.parallel_config(backend="dask", n_jobs=n_workers):
        return search.fit(X / 16, y)


if __name__ == "__main__":
    n_workers = 2
    with LocalCluster(n_workers=n_workers, threads_per_worker=1, dashboard_address=None) as cluster:
        search = search_on(Client(cluster), n_workers)
    stacks = sorted({place for row in search.vectorization_ for place in row})
    print(
        f"{sum(len(row) for row in search.vectorization_)} nets in {len(stacks)} stacks: {stacks}"
    )
    print(f"best: {search.best_params_}, accuracy {search.best_score_:.3f}")
