"""``spry memory`` asks for the right cases and shows the rows it gets; the measuring is tested elsewhere."""

from __future__ import annotations

import shutil

import pytest

from spry import profile as memory
from spry.profile import Case, CaseResult
from spry.profile.subprocess import exit_reason
from spry.tasks.kinds import TASKS


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
            operations={"inference": 100, "spry": 205}[case.method],
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
    assert rows["spry"] == ["spry", "98", "MiB", "–", "1.81", "2.05", "0.25", "s", "1.5", "2e-06"]
    assert "bert-base, 8 × 128 tokens, float32, model 440 MiB" in result.out
    assert "Error: backprop: ended by signal 9" in result.err


def test_json_has_a_row_each(spry, asked):
    result = spry(
        "memory",
        "--method",
        "spry",
        "--model",
        "shape:bert-large",
        "--json",
        "--directions",
        4,
        "--slice",
        "last",
    )
    (row,) = result.document["rows"]
    assert (row["shape"], row["method"], row["directions"], row["slice"]) == (
        "shape:bert-large",
        "spry",
        4,
        "last",
    )
    assert {"batch", "length", "peak_bytes_above_model", "predicted_bytes", "step_seconds"} <= row.keys()
    assert result.err == ""


@pytest.mark.parametrize("task", TASKS)
def test_each_task_is_measured_by_its_own_loss(spry, asked, task):
    model = "shape:llama-1k" if task == "causal-lm" else "shape:minilm"
    options = ["--task", task, "--micro-batch", 2]
    told = spry("memory", "--model", model, "--method", "inference,spry", *options)
    assert told.code == 0, told.err
    assert f"{model}, {task}, 8 × 512 tokens" in told.out
    assert [(case.task, case.micro_batch) for case in asked] == [(task, 2)] * 2


def test_nothing_measured_is_a_failure(spry, asked):
    assert spry("memory", "--method", "backprop").code == 1


def test_ones_own_model_is_measured_at_the_length_that_it_takes(spry, asked, tiny_model):
    result = spry("memory", "--model", tiny_model, "--method", "spry", "--targets", "key, query")
    assert result.code == 0, result.err
    assert (asked[0].model, asked[0].length) == (str(tiny_model), 32)
    assert asked[0].targets == ["key", "query"]
    result = spry("memory", "--model", tiny_model, "--method", "spry", "--length", "33")
    assert (result.code, len(asked)) == (2, 1)
    assert "Allowed: 1 to 32, the most that" in result.err


def test_a_name_means_the_folder_of_that_name_else_the_shape_which_is_said(spry, asked, tiny_model):
    shutil.copytree(tiny_model, "gpt2")
    assert spry("memory", "--model", "gpt2", "--method", "spry", "--length", "16").err == ""
    shutil.rmtree("gpt2")
    assert (
        "the shape of that name is taken (shape:gpt2)"
        in spry("memory", "--model", "gpt2", "--method", "spry").err
    )


def test_a_budget_that_nothing_fits_says_what_would_make_room(spry):
    options = ["--method", "spry", "--batch", "1", "--length", "8"]
    told = spry("memory", "--model", "shape:bert-base", "--budget", "50MB", *options).err
    assert "The weights alone take 418 MiB." in told
    assert "--dtype bfloat16 (209 MiB)" in told and "--quantization nf4 (" in told and "--length" not in told
    told = spry(
        "memory", "--model", "shape:bert-base", "--budget", "439MB", "--dtype", "bfloat16", *options
    ).err
    assert told == ""


def test_lack_of_memory_in_the_measuring_process_is_told_in_a_line():
    trace = (
        "Traceback\n  many lines\nRuntimeError: DefaultCPUAllocator: can't allocate memory: you tried to\n"
    )
    assert exit_reason(1, trace) == "out of memory"
    assert "out of memory" in exit_reason(-9, "")
    assert (
        exit_reason(1, "Traceback\n  lines\nspry.core.errors.ModelError: no such targets\n")
        == "no such targets"
    )
    assert exit_reason(3, "") == "ended with status 3"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "bert-bse"], "Did you mean 'bert-base'?"),
        (["--model", "shape:bert-bse"], "Did you mean 'bert-base'?"),
        (["--model", "./nowhere"], "there is no such folder"),
        (["--model", "shape:bert-base", "--head", "causal-lm"], "cannot be a causal language model"),
        (["--model", "shape:bert-base", "--task", "causal-lm"], "such as shape:llama-1k"),
        (["--task", "question-answer"], "Did you mean 'question-answering'?"),
        (["--model", "shape:bert-base", "--targets", "nothing"], "fits no linear module"),
        (["--device", "gpu"], "the device is 'gpu'"),
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
