"""Parts of one computation, each on a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from sknets._core import limit_threads, quick_switching

# Called after every tick; whether to end early.
Tick = Callable[[], bool]


class Watch:
    """Counts the ticks of a part, passes them on, and says whether to end.

    Parameters
    ----------
    most : int
        Ticks that are passed on at most.
    after_tick : callable () -> None, default=None
        To whom.
    """

    def __init__(self, most: int, after_tick: Callable[[], None] | None = None) -> None:
        self.most = most
        self.after_tick = after_tick
        self.n_ticks = 0
        self.ends = False

    def __call__(self) -> bool:
        if self.n_ticks < self.most:
            self.n_ticks += 1
            if self.after_tick is not None:
                self.after_tick()
        return self.ends


def run_parts(
    parts: Sequence[Callable[[Tick], None]],
    most: int,
    after_tick: Callable[[], None],
    *,
    n_threads: int = 1,
) -> None:
    """Run all parts at once.

    Parameters
    ----------
    parts : sequence of callable (tick) -> None
        Each calls `tick` now and then, and ends soon if that returns True: where another part has
        failed, or an interrupt came.
    most : int
        Ticks of a part that are told of at most.
    after_tick : callable () -> None
        Told of the ticks of the part that is ahead, from the calling thread.
    n_threads : int, default=1
        Of each part, for its kernels and products.
    """
    watches = [Watch(most) for _ in parts]

    def run(part: Callable[[Tick], None], watch: Watch) -> None:
        with limit_threads(n_threads):
            part(watch)

    with limit_threads(n_threads), quick_switching(), ThreadPoolExecutor(len(parts)) as pool:
        running = [pool.submit(run, *each) for each in zip(parts, watches, strict=True)]
        try:
            _follow(running, watches, after_tick)
        finally:
            for watch in watches:
                watch.ends = True  # an interrupt waits for one tick, not for all


def _follow(
    running: list[Future[None]], watches: list[Watch], after_tick: Callable[[], None]
) -> None:
    """Wait for the threads, and tell of their ticks from this one."""
    told = 0
    while running:
        done, waiting = wait(running, timeout=0.1, return_when=FIRST_COMPLETED)
        for part in done:
            part.result()
        running = list(waiting)
        n_ticks = max(watch.n_ticks for watch in watches)
        while told < n_ticks:
            told += 1
            after_tick()
