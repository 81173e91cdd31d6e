"""Fits and searches on a GPU: `python -m pytest benchmarks/gpu.py --report-to benchmarks/gpu`."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV, ShuffleSplit
from torch import Tensor

from benchmarks.contenders import (
    BATCH_SIZE,
    Job,
    accuracy_of,
    exact_epochs,
    fit_skorch,
    fit_tutorial_loop,
    log_loss_of,
    make_large_cnn,
    make_mlp,
    make_small_cnn,
    with_autocast,
)
from benchmarks.data import digits, mnist
from benchmarks.race import OURS, Agreement, Contender, race
from benchmarks.report import Curve
from benchmarks.test_cnn import LARGE, SMALL
from benchmarks.test_search import mean_score
from sknets.linear_model import LogisticRegression
from sknets.model_selection import VectorizedGridSearchCV
from sknets.neural_network import CNNClassifier, MLPClassifier

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

_HIDDEN = (256, 256)
_WIDTHS = (784, *_HIDDEN, 10)
_CNN_BATCH = 64
_BATCHES_OF_A_GRAPH = 64


def _finished(fit: Callable[[], Any]) -> Callable[[], Any]:
    """Have the GPU done with a fit before the clock is read."""

    def run() -> Any:
        model = fit()
        torch.cuda.synchronize()
        return model

    return run


def _contenders(ours: Any, job: Job, quality: Any) -> list[Contender]:
    """Return ours, skorch, the tutorial's loop, and a loop over rows that are on the GPU."""
    return [
        Contender(OURS, _finished(lambda: ours.fit(job.X, job.y)), quality),
        Contender("skorch", _finished(lambda: fit_skorch(job)), quality),
        Contender("tutorial loop", _finished(lambda: fit_tutorial_loop(job)), quality),
        Contender("loop on the device", _finished(lambda: _fit_loop_on_device(job)), quality),
    ]


def _fit_loop_on_device(job: Job) -> torch.nn.Module:
    """Fit with a loop over batches that are sliced from shuffled tensors on the device."""
    torch.manual_seed(0)
    module = job.make_module().to(job.device)
    rows, target = (torch.from_numpy(array).to(job.device) for array in (job.X, job.y))
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3, fused=True)
    loss_function = torch.nn.CrossEntropyLoss()
    module.train()
    for _ in range(job.epochs):
        order = torch.randperm(len(rows), device=job.device)
        for index in order.split(job.batch_size):
            optimizer.zero_grad()
            loss_function(module(rows[index]), target[index]).backward()
            optimizer.step()
    return module


def test_mlp_digits(run_race, size):
    X, y = digits()
    epochs = size(30, 3)
    ours = MLPClassifier(**exact_epochs((100,), epochs), device="cuda")
    job = Job(lambda: make_mlp(64, (100,), 10), X, y, epochs, BATCH_SIZE, "cuda")
    run_race(
        f"MLP digits, hidden (100,), {epochs} epochs, float32, GPU",
        _contenders(ours, job, log_loss_of(X, y)),
        rounds=5,
        agreement=Agreement("log loss", rel=0.1, abs=size(0.0, 2.0)),
        targets={},
    )


def test_mlp_mnist(run_race, size):
    n, epochs = size((60_000, 3), (600, 2))
    X, y = mnist(n)
    ours = MLPClassifier(**exact_epochs(_HIDDEN, epochs), device="cuda")
    job = Job(lambda: make_mlp(784, _HIDDEN, 10), X, y, epochs, BATCH_SIZE, "cuda")
    run_race(
        f"MLP {n} images of MNIST, hidden {_HIDDEN}, {epochs} epochs, float32, GPU",
        _contenders(ours, job, accuracy_of(X, y)),
        rounds=2,
        agreement=Agreement("training accuracy", abs=size(0.01, 0.5)),
        targets={},
    )


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize(
    ("name", "net", "make_net"),
    [("10 and 20", SMALL, make_small_cnn), ("32 and 64", LARGE, make_large_cnn)],
    ids=["small", "large"],
)
def test_cnn_mnist(run_race, size, name, net, make_net, precision):
    n, n_test, epochs = size((12_000, 2_000, 3), (256, 100, 2))
    images, labels = mnist(n + n_test)
    images = images.reshape(-1, 1, 28, 28)
    X, y, quality = images[:n], labels[:n], accuracy_of(images[n:], labels[n:])
    ours = CNNClassifier(
        **net,
        batch_size=_CNN_BATCH,
        max_iter=epochs,
        tol=0.0,
        n_iter_no_change=epochs + 1,
        random_state=0,
        precision=precision,
        device="cuda",
    )
    make_module = with_autocast(make_net) if precision == "bf16" else make_net
    job = Job(make_module, X, y, epochs, _CNN_BATCH, "cuda")
    run_race(
        f"CNN {name} channels, {n} images of MNIST, {epochs} epochs, {precision}, GPU",
        _contenders(ours, job, quality),
        rounds=2,
        agreement=Agreement("test accuracy", abs=size(0.02, 0.5)),
        targets={},
    )


def test_cost_a_net(benchmark, results, size, threads):
    """Time one net of a stack of 1 to 1000, and how near it comes to the bare products."""
    n, epochs, sizes = size((50_000, 3, [1, 10, 100, 1000]), (400, 2, [1, 2]))
    X, y = mnist(n + n // 5)
    fold = ShuffleSplit(1, test_size=n // 5, random_state=0)
    net = MLPClassifier(**exact_epochs(_HIDDEN, epochs), device="cuda")
    contenders = []
    for m in sizes:
        grid = {"learning_rate_init": np.geomspace(1e-4, 1e-3, m)}
        search = VectorizedGridSearchCV(net, grid, cv=fold, refit=False)
        contenders.append(Contender(str(m), lambda search=search: search.fit(X, y)))
    # The warm-up takes memory and loads kernels, of every size.
    outcome = race(benchmark, contenders, rounds=1)
    whole = {m: outcome.median(str(m)) for m in sizes}
    fits = {m: _seconds_of_fits(outcome.results[str(m)]) for m in sizes}
    bare = {m: epochs * (n // BATCH_SIZE) * _seconds_of_products(m) for m in sizes}
    peak = _peak_flops()
    # Forward, and two products backward; none gives a gradient by the rows.
    products = [3 * a * b for a, b in itertools.pairwise(_WIDTHS)]
    flops = 2 * (sum(products) - _WIDTHS[0] * _WIDTHS[1]) * n * epochs
    for m in sizes:
        results.add_claim(
            f"Search of {m} MLPs {_HIDDEN} on {n} images of MNIST, {epochs} epochs, GPU",
            f"{1e3 * whole[m] / m:.3g} ms a net in all, {1e3 * fits[m] / m:.3g} ms training; "
            f"{m * flops / fits[m] / 1e12:.2g} TFLOP/s, {100 * m * flops / fits[m] / peak:.0f} % "
            f"of what the largest product reaches ({peak / 1e12:.0f}), and "
            f"{100 * bare[m] / fits[m]:.0f} % of what its bare products do",
            "",
            None,
        )
    results.add_curve(
        Curve(
            f"Search of MLPs {_HIDDEN} on MNIST, a net, on a GPU",
            "nets in the stack",
            sizes,
            {
                "in all": [1e6 * whole[m] / m / n / epochs for m in sizes],
                "training": [1e6 * fits[m] / m / n / epochs for m in sizes],
                "bare products": [1e6 * bare[m] / m / n / epochs for m in sizes],
            },
        )
    )


def test_search_logistic(run_race, size):
    n, n_values, max_iter = size((12_000, 10, 50), (300, 2, 5))
    X, y = mnist(n)
    grid = {"C": np.logspace(-4, 0, n_values)}
    ours = LogisticRegression(max_iter=max_iter, device="cuda")
    searches = {OURS: VectorizedGridSearchCV, "one by one": GridSearchCV}
    run_race(
        f"Search, LogisticRegression {n} images of MNIST, {n_values} C × 3 folds, {max_iter} "
        "iterations at most, float32, GPU",
        [
            Contender(name, lambda kind=kind: kind(ours, grid, cv=3).fit(X, y), mean_score)
            for name, kind in searches.items()
        ],
        rounds=2,
        agreement=Agreement("mean test accuracy", abs=1e-3),
        targets={},
    )


def _seconds_of_fits(search: Any) -> float:
    """Return what the fits of a search took together: a net's share of its stack is its time."""
    return float(np.sum(search.cv_results_["mean_fit_time"]))


def _timed(call: Callable[[], Any], times: int) -> float:
    """Return the seconds of a call on the GPU, the mean of many."""
    for _ in range(3):
        call()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(times):
        call()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1e3 / times


def _seconds_of_products(n_nets: int) -> float:
    """Return what the bare products of a batch take for a stack of nets, in a graph of many."""

    def random(*shape: int) -> Tensor:
        return torch.randn(n_nets, *shape, device="cuda")

    calls = []
    rows = torch.randn(1, BATCH_SIZE, _WIDTHS[0], device="cuda").expand(n_nets, -1, -1)
    for i, (a, b) in enumerate(itertools.pairwise(_WIDTHS)):
        x = rows if i == 0 else random(BATCH_SIZE, a)
        weight, out, grad = random(b, a), random(BATCH_SIZE, b), random(b, a)
        calls += [(x, weight.mT, out), (out.mT, x, grad)]
        if i > 0:
            calls.append((out, weight, random(BATCH_SIZE, a)))

    def run() -> None:
        for left, right, out in calls:
            torch.bmm(left, right, out=out)

    run()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(_BATCHES_OF_A_GRAPH):
            run()
    return _timed(graph.replay, times=5) / _BATCHES_OF_A_GRAPH


def _peak_flops() -> float:
    """Return the floating-point operations a second of a large float32 product."""
    a, b, c = (torch.randn(8192, 8192, device="cuda") for _ in range(3))
    return 2 * 8192**3 / _timed(lambda: torch.mm(a, b, out=c), times=5)
