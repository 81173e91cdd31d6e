"""Two convolutional nets on images of MNIST."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.contenders import (
    Job,
    accuracy_of,
    fit_skorch,
    fit_tutorial_loop,
    make_large_cnn,
    make_small_cnn,
    with_autocast,
)
from benchmarks.data import mnist
from benchmarks.limits import convolution_epoch
from benchmarks.race import LIMIT, OURS, Agreement, Contender
from sknets.neural_network import CNNClassifier

_BATCH = 64

SMALL: dict[str, Any] = {
    "conv_channels": (10, 20),
    "kernel_size": 5,
    "padding": "valid",
    "hidden_layer_sizes": (50,),
    "dropout": 0.5,
}
LARGE: dict[str, Any] = {
    "conv_channels": (32, 64),
    "kernel_size": 3,
    "padding": "valid",
    "pool": (None, "max"),
    "conv_dropout": (0.0, 0.25),
    "hidden_layer_sizes": (128,),
    "dropout": 0.5,
}


_BF16_UNITS = {"avx512_bf16", "amx_bf16", "bf16"}  # the last is ARM's


def _has_bf16_units() -> bool:
    """Whether the CPU says that it multiplies bfloat16; others emulate it, many times slower."""
    try:
        return bool(_BF16_UNITS & set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split()))
    except OSError:
        return False


@pytest.mark.parametrize(
    "precision",
    [
        "float32",
        pytest.param(
            "bf16",
            marks=pytest.mark.skipif(
                not _has_bf16_units(), reason="this CPU has no units for bfloat16"
            ),
        ),
    ],
)
@pytest.mark.parametrize(
    ("name", "net", "make_net"),
    [("10 and 20", SMALL, make_small_cnn), ("32 and 64", LARGE, make_large_cnn)],
    ids=["small", "large"],
)
def test_mnist(run_race, size, name, net, make_net, precision):
    n, n_test = size((12_000, 2_000), (128, 100))
    images, labels = mnist(n + n_test)
    images = images.reshape(-1, 1, 28, 28)
    X, y, quality = images[:n], labels[:n], accuracy_of(images[n:], labels[n:])
    ours = CNNClassifier(
        **net, batch_size=_BATCH, max_iter=1, random_state=0, precision=precision, device="cpu"
    )
    bf16 = precision == "bf16"
    job = Job(with_autocast(make_net) if bf16 else make_net, X, y, 1, _BATCH)
    limit = convolution_epoch(
        *(make_net().eval(), torch.from_numpy(X[:_BATCH]), math.ceil(n / _BATCH)),
        torch.bfloat16 if bf16 else torch.float32,
    )
    run_race(
        f"CNN {name} channels, {n} images of MNIST, {precision}",
        [
            Contender(OURS, lambda: ours.fit(X, y), quality),
            Contender("skorch", lambda: fit_skorch(job), quality),
            Contender("tutorial loop", lambda: fit_tutorial_loop(job), quality),
            Contender(LIMIT, limit),
        ],
        rounds=3,
        agreement=Agreement("test accuracy", abs=size(0.025, 0.4)),
        targets={"skorch": 2, "tutorial loop": 2.5, LIMIT: 0.6},
        warmup=False,
    )
