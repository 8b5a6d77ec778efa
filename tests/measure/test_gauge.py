"""A gauge's visits against a scripted high-water mark, where a race can be had at will."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from spry.measure.gauge import Gauge


class Mark:
    """A high-water mark whose process reaches `next_peak` for an instant, right after the mark is read."""

    def __init__(self) -> None:
        self.high = self.next_peak = 0

    def read(self) -> int:
        seen, self.high = self.high, max(self.high, self.next_peak)
        self.next_peak = 0
        return seen

    def reset(self) -> None:
        self.high = 0


@pytest.fixture
def mark():
    return Mark()


@pytest.fixture
def gauge(mark):
    return Gauge(now=int, mark=mark.read, reset=mark.reset)


@pytest.fixture
def elsewhere():
    with ThreadPoolExecutor(1) as pool:
        yield lambda work, *args: pool.submit(work, *args).result()


def test_a_visit_does_not_lose_the_peak_of_another_thread(mark, gauge, elsewhere):
    other = elsewhere(gauge.enter)
    mark.next_peak = 100
    gauge.leave(gauge.enter())
    elsewhere(gauge.leave, other)
    assert other.peak == 100


def test_a_visit_beside_another_thread_is_a_bound_and_says_so(mark, gauge, elsewhere):
    other = elsewhere(gauge.enter)
    mark.high = 70  # of the other thread, and over when this one begins
    own = gauge.enter()
    gauge.leave(own)
    elsewhere(gauge.leave, other)
    assert (own.peak, own.exact) == (70, False)
    assert other.exact


def test_a_visit_within_another_of_the_same_thread_begins_anew(mark, gauge):
    outer = gauge.enter()
    mark.high = 70
    inner = gauge.enter()
    mark.high = 20
    gauge.leave(inner)
    gauge.leave(outer)
    assert (inner.peak, inner.exact) == (20, True)
    assert (outer.peak, outer.exact) == (70, True)
