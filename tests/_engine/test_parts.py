"""Parts of a computation run at once, and end together when one of them fails."""

import sys
import threading

import pytest
import torch

from sknets._engine import run_parts, useful_parts
from sknets._nn import MLP


def test_all_parts_run_at_once_and_are_told_of():
    both_run = threading.Barrier(2)
    seen, told = [], []

    def part(number, n_ticks):
        def run(tick):
            both_run.wait(10)
            for _ in range(n_ticks):
                assert not tick()
            seen.append((number, torch.get_num_threads()))

        return run

    run_parts([part(0, 3), part(1, 5)], 4, lambda: told.append(threading.current_thread()))
    assert sorted(seen) == [(0, 1), (1, 1)]
    # Of the part that is ahead, at most 4; and by this thread, which callbacks belong to.
    assert told == [threading.current_thread()] * 4


def test_a_part_that_fails_ends_the_others():
    ended = []

    def fails(tick):
        raise ValueError("not finite")

    def goes_on(tick):
        for i in range(10_000_000):
            if tick():
                ended.append(i)
                return

    with pytest.raises(ValueError, match="not finite"):
        run_parts([goes_on, fails], 10, lambda: None)
    assert len(ended) == 1


def test_threads_take_turns_quickly_while_parts_run():
    before = sys.getswitchinterval()
    seen = []

    def nested(tick):
        run_parts([lambda tick: None] * 2, 1, lambda: None)

    run_parts([nested, lambda tick: seen.append(sys.getswitchinterval())], 1, lambda: None)
    assert seen[0] < before
    assert sys.getswitchinterval() == before


def test_an_interrupt_ends_all():
    ended = []

    def goes_on(tick):
        for i in range(10_000_000):
            if tick():
                ended.append(i)
                return

    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_parts([goes_on, goes_on], 10, interrupt)
    assert len(ended) == 2


def test_small_stacks_run_on_one_thread(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    net = MLP(64, (100,), 10)
    parts = [useful_parts(net, 200, n) for n in (1, 4, 12, 24, 48, 400)]
    assert parts[:2] == [1, 1]
    assert parts == sorted(parts)
    assert 2 <= parts[-2] < parts[-1] <= 8
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert useful_parts(net, 200, 400) == 1
    # Few large nets are better off with products on all threads.
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert useful_parts(MLP(784, (1000, 1000), 10), 200, 4) == 1
