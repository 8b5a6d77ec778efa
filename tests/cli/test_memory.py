"""``spry memory`` asks for the right cases and shows the rows it gets; the measuring is tested elsewhere."""

from __future__ import annotations

import pytest

from spry import profile as memory
from spry.profile import Case, CaseResult


@pytest.fixture
def asked(monkeypatch):
    """Answer every case with made-up rows, and remember the cases."""
    cases: list[Case] = []

    def measured(case: Case) -> CaseResult:
        cases.append(case)
        if case.method == "backprop":
            return CaseResult(case=case, error="ended by signal 9, as the system ends what is out of memory")
        return CaseResult(
            case=case,
            peak_bytes_above_model={"inference": 54, "spry": 98}[case.method] << 20,
            resident_bytes={"weights": 440 << 20},
            step_seconds=0.25,
            time_ratio=1.5,
            slope_relative_error=2e-6 if case.method == "spry" else None,
            timed=5,
        )

    monkeypatch.setattr(memory, "measure_all", lambda wanted: map(measured, wanted))
    return cases


def test_the_table_compares_with_inference(spry, asked):
    result = spry("memory", "--method", "inference,spry,backprop", "--batch", 8, "--length", 128)
    assert result.code == 0, result.err
    rows = {line.split()[0]: line.split() for line in result.out.splitlines() if line.strip()}
    assert rows["spry"] == ["spry", "98", "MiB", "–", "1.81", "0.25", "s", "1.5", "2e-06"]
    assert "bert-base, 8 × 128 tokens, float32, model 440 MiB" in result.out
    assert "Error: backprop: ended by signal 9" in result.err


def test_json_has_a_row_each(spry, asked):
    result = spry(
        "memory", "--method", "spry", "--model", "bert-large", "--json", "--directions", 4, "--slice", "last"
    )
    (row,) = result.document["rows"]
    assert (row["shape"], row["method"], row["directions"], row["slice"]) == ("bert-large", "spry", 4, "last")
    assert {"batch", "length", "peak_bytes_above_model", "predicted_bytes", "step_seconds"} <= row.keys()
    assert result.err == ""


def test_nothing_measured_is_a_failure(spry, asked):
    assert spry("memory", "--method", "backprop").code == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "bert-bse"], "Did you mean 'bert-base'?"),
        (["--method", "inference,sprry"], "Did you mean 'spry'?"),
        (["--method", ","], "names no method"),
        (["--batch", "0"], "--batch"),
    ],
)
def test_bad_input_measures_nothing(spry, asked, arguments, message):
    result = spry("memory", *arguments)
    assert result.code == 2
    assert message in result.err
    assert asked == []
