"""The meter's peaks against sizes known in advance and against the allocator's own count."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest
import torch

from spry.measure import gauge as module
from spry.measure.meter import Meter, release_promptly, release_unused, tensor_peak

MIB = 1 << 20


def blocks(mib: int) -> None:
    """Hold `mib` MiB of touched memory for a moment."""
    torch.ones(mib * MIB // 4)


@pytest.fixture(autouse=True)
def prompt():
    release_promptly()
    with Meter().phase("warm up"):
        blocks(40)  # the first call of anything maps its code, which is memory of the process too
    release_unused()


def test_peak_is_of_live_bytes_not_of_all_that_were_allocated():
    meter = Meter()
    with meter.phase("work"):
        for _ in range(10):
            blocks(40)
    assert meter.phases["work"].peak_bytes == pytest.approx(40 * MIB, abs=4 * MIB)


def test_phases_have_their_own_peaks_and_add_up_their_visits():
    meter = Meter()
    for size in (64, 16, 32):
        with meter.phase("big" if size == 64 else "small"):
            blocks(size)
    small = meter.phases["small"]
    assert small.visits == 2
    assert 28 * MIB < small.peak_bytes < 60 * MIB  # of the larger visit, and not of the phase of 64 MiB
    assert meter.peak_bytes == meter.phases["big"].peak_bytes
    assert meter.seconds == pytest.approx(small.seconds + meter.phases["big"].seconds)


def test_a_nested_phase_does_not_rob_the_outer_one():
    outer, inner = Meter(), Meter()
    with outer.phase("outer"):
        blocks(80)
        with inner.phase("inner"):
            blocks(16)
    assert outer.peak_bytes == pytest.approx(80 * MIB, abs=4 * MIB)
    assert inner.peak_bytes == pytest.approx(16 * MIB, abs=4 * MIB)


def test_the_peak_is_above_the_start():
    held = torch.ones(32 * MIB // 4)
    meter = Meter()
    with meter.phase("work"):
        blocks(8)
    assert meter.peak_bytes == pytest.approx(8 * MIB, abs=4 * MIB)
    del held


def test_a_phase_that_raises_is_still_booked():
    meter = Meter()
    with pytest.raises(KeyError), meter.phase("work"):
        blocks(24)
        raise KeyError
    assert meter.phases["work"].peak_bytes == pytest.approx(24 * MIB, abs=4 * MIB)


def test_threads_with_their_own_meters_do_not_disturb_each_other():
    meters = [Meter() for _ in range(8)]

    def work(meter: Meter) -> None:
        with meter.phase("work"):
            blocks(4)

    threads = [threading.Thread(target=work, args=(meter,)) for meter in meters]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(meter.phases["work"].visits == 1 for meter in meters)
    assert all(3 * MIB <= meter.peak_bytes <= 64 * MIB for meter in meters)


def test_tensor_peak_is_exact_to_the_byte():
    def step() -> torch.Tensor:
        first = torch.empty(1000)
        second = torch.empty(3000)
        del first
        return second + 1  # 3000 of second, 3000 of the sum, `first` already gone

    aligned = 64
    assert abs(tensor_peak(step) - 6000 * 4) <= 2 * aligned


class Ring:
    """What only Python's collector frees."""

    def __init__(self):
        self.itself, self.tensor = self, torch.empty(1000)


def test_within_a_count_the_collector_frees_only_what_was_made_within():
    def step() -> None:
        new = weakref.ref(Ring())
        gc.collect()
        assert new() is None
        assert old() is not None

    old = weakref.ref(Ring())
    tensor_peak(step)
    gc.collect()
    assert old() is None


@pytest.mark.parametrize("length", [64, 256])
def test_the_processs_mark_agrees_with_the_allocators_count(length: int):
    layer = torch.nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True).eval()
    inputs = torch.ones(8, length, 256)

    def step() -> torch.Tensor:
        return layer(inputs)  # with the tape, so that much is alive at once

    step()  # libraries load their scratch on first use
    release_unused()
    meter = Meter()
    with meter.phase("work"):
        kept = step()
    del kept
    assert meter.peak_bytes == pytest.approx(tensor_peak(step), rel=0.15, abs=4 * MIB)


def test_without_a_resettable_mark_the_peak_is_an_upper_bound_and_says_so(monkeypatch):
    monkeypatch.setattr(module, "CLEAR_REFS", module.Path("/proc/self/absent/clear_refs"))
    monkeypatch.setattr(module, "_gauges", {})
    meter = Meter()
    with meter.phase("work"):
        blocks(16)
    assert not meter.phases["work"].exact
    assert meter.start_bytes + meter.peak_bytes >= 16 * MIB


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_counts_allocated_bytes():
    meter = Meter("cuda")
    with meter.phase("work"):
        torch.empty(64 * MIB, dtype=torch.uint8, device="cuda")
    assert meter.peak_bytes == 64 * MIB
