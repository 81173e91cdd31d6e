"""Stacks as the tasks of clusters: Ray and Spark, each in a process of its own.

Dask is tested with the example that uses it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("_cluster_search.py")


@pytest.mark.parametrize(("backend", "package"), [("ray", "ray"), ("spark", "joblibspark")])
def test_stacks_are_the_tasks_of_a_cluster(backend, package):
    pytest.importorskip(package, reason=f"{package} is not installed: no cluster to search on")
    environment = {**os.environ, "SPARK_LOCAL_IP": "127.0.0.1"}
    done = subprocess.run(
        [sys.executable, SCRIPT, backend],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["difference"] < 1e-9
    assert found["stacks"] == ["stack 1 (6 nets)", "stack 2 (6 nets)"]
