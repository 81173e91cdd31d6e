"""A race: every contender once a round, in rotating order, and the same quality in the end."""

from __future__ import annotations

import gc
import math
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sklearn.exceptions import ConvergenceWarning

OURS = "sknets"
NOT_COMPILED = "sknets, not compiled"
LIMIT = "limit"  # of any library; a contender whose name begins so is a run of it
TORCH_LIMIT = "limit, torch"


@dataclass(frozen=True)
class Contender:
    """One way to do the work.

    `run` is timed and does the work; `quality` says, untimed, how well its result did it. A fast
    `run` is called `calls` times in a row and its time divided by it. `scale`, a function of the
    results of all contenders, multiplies the time (a limit that runs one pass of many).
    """

    name: str
    run: Callable[[], Any]
    quality: Callable[[Any], float] | None = None
    calls: int = 1
    scale: Callable[[dict[str, Any]], float] | None = None


@dataclass(frozen=True)
class Agreement:
    """How close the contenders' qualities have to be: |a - b| <= max(rel * larger, abs)."""

    measure: str
    rel: float = 0.0
    abs: float = 0.0

    def check(self, qualities: dict[str, float]) -> None:
        """Raise if one contender did better or worse work than ours."""
        ours = qualities[OURS]
        for name, quality in qualities.items():
            if not math.isclose(quality, ours, rel_tol=self.rel, abs_tol=self.abs):
                raise AssertionError(
                    f"The {self.measure} of all contenders must agree within {self.rel:g} relative "
                    f"or {self.abs:g} absolute, got {ours:.6g} of {OURS} and {quality:.6g} of "
                    f"{name}: they have not done the same work."
                )


@dataclass
class Outcome:
    """What a race gave: seconds of every round and the quality, both by contender."""

    seconds: dict[str, list[float]]
    results: dict[str, Any]
    quality: dict[str, float] = field(default_factory=dict)

    def median(self, name: str) -> float:
        """Return a contender's median, in seconds."""
        return statistics.median(self.seconds[name])

    def ratios(self) -> dict[str, float]:
        """Return each contender's median over ours; for the limit, our share of it.

        Of several runs of the limit, the fastest is the limit; so it is of those by torch.
        """
        ratios: dict[str, float] = {}
        for name in self.seconds:
            keys = [key for key in (LIMIT, TORCH_LIMIT) if name.startswith(key)] or [name]
            ratio = self.median(name) / self.median(OURS)
            for key in keys if name != OURS else ():
                ratios[key] = min(ratio, ratios.get(key, math.inf))
        return ratios


class _Stopwatch:
    """Runs contenders and keeps their times, a list a round."""

    def __init__(self) -> None:
        self.rounds: list[dict[str, float]] = []
        self.results: dict[str, Any] = {}

    def run(self, contender: Contender) -> None:
        start = time.perf_counter()
        for _ in range(contender.calls):
            result = contender.run()
        self.rounds[-1][contender.name] = (time.perf_counter() - start) / contender.calls
        self.results[contender.name] = result


def race(
    benchmark: Any,
    contenders: Sequence[Contender],
    rounds: int,
    agreement: Agreement | None = None,
    *,
    warmup: bool = True,
) -> Outcome:
    """Run every contender once a round, and return their times.

    The order moves on by one each round. pytest-benchmark times the first contender; those whose
    turn comes before it run in its `setup`, the others in its `teardown`.
    """
    watch = _Stopwatch()
    first, n = contenders[0], len(contenders)

    def order() -> list[Contender]:
        shift = (len(watch.rounds) - 1) % n
        return [contenders[(i + shift) % n] for i in range(n)]

    def run_all(some: Sequence[Contender]) -> None:
        for contender in some:
            gc.collect()
            watch.run(contender)

    def before() -> None:
        watch.rounds.append({})
        turn = order()
        run_all(turn[: turn.index(first)])
        gc.collect()

    def after() -> None:
        turn = order()
        run_all(turn[turn.index(first) + 1 :])

    with warnings.catch_warnings():
        # A fixed number of epochs is what makes the work the same.
        warnings.simplefilter("ignore", ConvergenceWarning)
        benchmark.pedantic(
            lambda: watch.run(first),
            setup=before,
            teardown=after,
            rounds=rounds,
            warmup_rounds=int(warmup),
        )
        outcome = _outcome(watch, contenders, rounds)
    benchmark.extra_info["medians_s"] = {name: outcome.median(name) for name in outcome.seconds}
    if agreement is not None:
        benchmark.extra_info["quality"] = {"measure": agreement.measure, **outcome.quality}
        agreement.check(outcome.quality)
    return outcome


def _outcome(watch: _Stopwatch, contenders: Sequence[Contender], rounds: int) -> Outcome:
    """Return times (without the warm-up's) and qualities."""
    counted = watch.rounds[-rounds:]
    seconds = {}
    for contender in contenders:
        scale = contender.scale(watch.results) if contender.scale else 1.0
        seconds[contender.name] = [scale * times[contender.name] for times in counted]
    quality = {
        c.name: float(c.quality(watch.results[c.name])) for c in contenders if c.quality is not None
    }
    return Outcome(seconds, watch.results, quality)
