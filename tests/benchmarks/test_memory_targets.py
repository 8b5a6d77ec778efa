"""The benchmark's verdicts follow from its rows."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from spry.profile import Case, CaseResult

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import gpu_headline
    import memory

    yield memory, gpu_headline
    for name in ("gpu_headline", "memory"):
        sys.modules.pop(name, None)


def row(case: Case, peak: int, ratio: float, **values) -> dict:
    error = values.pop("error", None)
    made = CaseResult(
        case=case, peak_bytes_above_model=peak, time_ratio=ratio, cpu_ratio=ratio, error=error, **values
    )
    return made.to_json()


SPRY = Case(model="bert-base", method="spry", batch=8, length=128)


def test_ratios_are_ours_over_the_rivals(benchmarks):
    memory, _ = benchmarks
    rows = [
        row(SPRY, 30, 2.0, slope_relative_error=1e-6),
        row(replace(SPRY, method="inference"), 40, 1.1),
        row(replace(SPRY, method="backprop"), 400, 2.5),
        row(replace(SPRY, method="backprop+checkpointing"), 60, 2.0),
    ]
    found = {
        entry["target"].partition(": ")[2]: (entry["measured"], entry["met"])
        for entry in memory.targets(rows)
    }
    assert found == {
        "slope error, float32": (1e-6, True),
        "peak / inference": (0.75, True),
        "peak / backprop": (0.075, True),
        "peak / backprop+checkpointing": (0.5, False),
        "time / inference": (2.0, True),
        "time / backprop": (0.8, True),
        "time / backprop+checkpointing": (1.0, False),
    }


def test_rows_without_times_tell_of_peaks_and_the_residual_guess_has_a_target(benchmarks):
    memory, _ = benchmarks
    guess = replace(SPRY, method="residual")
    rows = [
        row(SPRY, 30, None, slope_relative_error=1e-6),
        row(replace(SPRY, method="inference"), 40, None),
        row(guess, 40, None),
        row(replace(SPRY, method="backprop+checkpointing"), 100, None),
        row(replace(guess, layers=24), 105, None),
        row(replace(guess, layers=6), 100, None),
        row(replace(SPRY, method="residual-full"), 45, None),
    ]
    found = {entry["target"]: entry["measured"] for entry in memory.targets(rows)}
    assert found["bert-base 8x128: residual guess, peak / backprop+checkpointing"] == pytest.approx(0.4)
    assert found["bert-base 8x128: residual guess, peak of 24 layers / of 6"] == pytest.approx(1.05)
    assert found["bert-base 8x128: full, on a tape, peak / backprop+checkpointing"] == pytest.approx(0.45)
    assert not any("time" in target for target in found)


def test_a_failed_row_decides_nothing(benchmarks):
    memory, _ = benchmarks
    assert memory.targets([row(SPRY, 30, 2.0, error="out of memory")]) == []


def test_slices_directions_depth_and_dtype_have_their_own_targets(benchmarks):
    memory, _ = benchmarks
    rows = [
        row(replace(SPRY, slice="last"), 30, 1.1),
        row(replace(SPRY, directions=8), 60, 9.0),
        row(replace(SPRY, layers=24), 105, 2.0),
        row(replace(SPRY, layers=6), 100, 2.0),
        row(replace(SPRY, layers=2, dtype="float64"), 60, 2.0, slope_relative_error=1e-9),
        row(replace(SPRY, head="causal-lm", model="gpt2"), 100, 2.0),
    ]
    found = [(entry["target"].partition(": ")[2], entry["met"]) for entry in memory.targets(rows)]
    assert ("time / inference, last layer", True) in found
    assert ("time / inference, K=8", True) in found
    assert ("peak of 24 layers / of 6", True) in found
    assert ("slope error, float64", False) in found
    assert ("peak / logits alone", True) in found


def test_every_case_of_the_benchmark_is_distinct(benchmarks):
    memory, _ = benchmarks
    cases = [*memory.table(memory.SHAPES, memory.SIZES), *memory.slices(memory.SHAPES, memory.SIZES)]
    cases += [*memory.depth(), *memory.language(), *memory.numerics(memory.SHAPES)]
    assert len({memory.identity(row(case, 1, 1.0)) for case in cases}) == len(cases)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_headline_measures_both_shapes_by_every_method(benchmarks, device):
    _, headline = benchmarks
    cases = headline.cases(device)
    assert {(case.model, case.method) for case in cases} == {
        (m, n) for m in headline.HEADLINE for n in headline.METHODS
    }
    assert all(case.quantization == "nf4" and case.device == device for case in cases)


def test_the_headlines_total_is_the_sum_of_its_categories(benchmarks):
    _, headline = benchmarks
    case = next(case for case in headline.cases("cuda") if case.method == "spry")
    resident = {"body": 3_000_000_000, "embeddings": 200_000_000}
    made = CaseResult(
        case=case, peak_bytes_above_model=10**8, total_peak_bytes=3_340_000_000, resident_bytes=resident
    )
    sizes = headline.record(made)["gb"]
    assert sizes.pop("total") == pytest.approx(sum(sizes.values()))
    assert sizes["libraries"] == pytest.approx(0.04)
    assert headline.record(made)["met"]
