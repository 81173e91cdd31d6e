"""The example of a search on a Dask cluster."""

import importlib.util
from pathlib import Path

import pytest
from distributed import Client, LocalCluster


@pytest.fixture(scope="module")
def example():
    path = Path(__file__).parents[2] / "examples" / "distributed_search.py"
    spec = importlib.util.spec_from_file_location("distributed_search", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_worker_has_a_stack(example):
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        search = example.search_on(Client(cluster), 2)
    places = {place for row in search.vectorization_ for place in row}
    assert places == {"stack 1 (23 nets)", "stack 2 (22 nets)"}
    assert search.best_score_ > 0.9


@pytest.mark.slow
def test_workers_that_are_processes(example):
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        search = example.search_on(Client(cluster), 2)
    assert search.best_score_ > 0.9
