"""``spry run`` and ``spry resume``, end to end on a tiny random model."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from spry.core.errors import DiskError, TrainingError

NUMBERS = {
    "method", "model", "dataset", "seed", "rounds", "test_accuracy", "generalized_accuracy",
    "personalized_accuracy", "score", "peak_bytes_above_model", "seconds_per_round",
    "bytes_up_per_client_round", "bytes_down_per_client_round", "failed_replies",
}  # fmt: skip


@pytest.fixture
def stopped(monkeypatch):
    """Stop runs with an error after their third round, as long as the fixture's context is open."""
    from spry.experiment import run

    whole = run.run

    def arm(error: BaseException):
        def part(*arguments, **options):
            for number, event in enumerate(whole(*arguments, **options)):
                yield event
                if number == 3:
                    raise error

        monkeypatch.setattr(run, "run", part)
        return lambda: monkeypatch.setattr(run, "run", whole)

    return arm


def weights(folder: Path):
    return {name: value.tolist() for name, value in load_file(folder / "checkpoint.safetensors").items()}


def test_run_prints_a_table_and_where_the_folder_is(spry, tiny_config):
    result = spry("run", tiny_config)
    assert result.code == 0, result.err
    assert re.search(r"commonest\s+answer", result.out)
    folder = Path("runs/reviews-residual-s0")
    assert {"config.toml", "meta.json", "rounds.jsonl", "summary.json", "adapter"} <= {
        path.name for path in folder.iterdir()
    }
    started, recipe, *_, ended = result.err.splitlines()
    assert recipe == "recipe quickstart, but"
    read = next(line for line in result.err.splitlines() if line.startswith("data: "))
    assert "reviews.csv (CSV, 60 rows)" in read
    assert "4 clients, 2 a round, 4 rounds" in started
    assert str(folder) in ended


def test_json_is_one_document_and_nothing_else(spry, tiny_config):
    result = spry("run", tiny_config, "--json", "--out", "here", "--set", "seed=3")
    assert result.code == 0, result.err
    assert result.document["folder"] == "here"
    assert result.document.keys() >= NUMBERS
    assert result.document["seed"] == 3


def test_the_same_run_again_shows_the_same_result(spry, tiny_config):
    first = spry("run", tiny_config, "--json")
    again = spry("run", tiny_config, "--json")
    assert again.document == first.document
    assert "is finished" in again.err


def test_another_configuration_gets_another_folder(spry, tiny_config):
    sizes = [f"client.batch_size={size}" for size in (2, 3, 2)]
    results = [
        spry("run", tiny_config, "--json", "--set", "schedule.rounds=0", "--set", size) for size in sizes
    ]
    folders = [result.document["folder"] for result in results]
    assert folders == ["runs/reviews-residual-s0", "runs/reviews-residual-s0-2", "runs/reviews-residual-s0"]


def test_the_quickstart_is_run_if_nothing_is_said(spry, tiny_model, tiny_csv):
    small = {"model.name": tiny_model, "data.name": tiny_csv, "data.clients": 10, "schedule.rounds": 0}
    settings = [part for key, value in small.items() for part in ("--set", f"{key}={value}")]
    unsaid, said = (spry("run", *config, *settings, "--json") for config in ([], ["quickstart"]))
    assert unsaid.code == 0, unsaid.err
    assert unsaid.document == said.document
    assert "is finished" in said.err


@pytest.mark.parametrize("command", [["resume", "half"], ["run", "--resume", "half"]])
def test_a_stopped_run_goes_on_to_the_same_weights(spry, tiny_config, stopped, command):
    mend = stopped(KeyboardInterrupt())
    result = spry("run", tiny_config, "--out", "half")
    assert result.code == 130
    assert "Go on with: spry resume half" in result.err
    assert "Traceback" not in result.err
    mend()
    result = spry(*command)
    assert result.code == 0, result.err
    assert (
        "going on after round 3" in result.err
    )  # the last one that was finished, not the last regular checkpoint
    assert spry("run", tiny_config, "--out", "whole").code == 0
    assert weights(Path("half")) == weights(Path("whole"))


def test_a_training_failure_comes_again_so_that_nobody_is_sent_back_to_it(spry, tiny_config, stopped):
    stopped(TrainingError("round 3: no client's reply could be used"))
    result = spry("run", tiny_config, "--out", "half")
    assert result.code == 1
    assert result.err.endswith("Error: round 3: no client's reply could be used\n")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (DiskError("cannot write the checkpoint"), "cannot write the checkpoint"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried\nmore"), "client.micro_batch_size"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "client.micro_batch_size"),
        (OSError(28, "No space left on device"), "Make room"),
    ],
)
def test_what_need_not_come_again_says_how_to_go_on(spry, tiny_config, stopped, error, says):
    stopped(error)
    result = spry("run", tiny_config, "--out", "half")
    assert result.code == 1
    assert says in result.err and "Traceback" not in result.err
    assert "Go on with: spry resume half" in result.err


def test_debug_shows_the_trace(spry, tiny_config, stopped):
    stopped(torch.OutOfMemoryError("out of memory"))
    result = spry("--debug", "run", tiny_config, "--out", "half")
    assert result.code == 1
    assert "Traceback" in result.err and "client.micro_batch_size" in result.err


def test_an_unknown_failure_is_a_defect_that_says_how_to_go_on(spry, tiny_config, stopped):
    stopped(RuntimeError("shapes do not match"))
    result = spry("run", tiny_config)
    assert result.code == 1
    assert "defect of Spry" in result.err and "Go on with: spry resume" in result.err
    assert "Traceback" not in result.err


def test_what_is_stopped_while_it_loads_leaves_nothing_behind(spry, tiny_config, monkeypatch):
    from spry.experiment import run

    def interrupted(config, given):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "build", interrupted)
    result = spry("run", tiny_config)
    assert result.code == 130
    assert result.err == "Stopped before the run began.\n"
    assert not list(Path.cwd().iterdir())


def test_a_folder_with_another_run_is_left_alone(spry, tiny_config):
    other = ("--set", "schedule.rounds=1", "--set", "client.steps=1")
    assert spry("run", tiny_config, "--out", "here", *other).code == 0
    before = Path("here/config.toml").read_text(encoding="utf-8")
    for options in (["--out", "here"], ["--resume", "here"]):
        result = spry("run", tiny_config, *options)
        assert result.code == 1
        assert "client.steps was 1, is 2" in result.err
        assert "schedule.checkpoint_every, " in result.err and "may change when it is resumed" in result.err
        assert "Go on with" not in result.err
    assert Path("here/config.toml").read_text(encoding="utf-8") == before


@pytest.mark.parametrize(
    "command",
    [["resume", "here", "--rounds", "4"], ["run", "--resume", "here", "--set", "schedule.rounds=4"]],
)
def test_a_finished_run_goes_on_for_more_rounds(spry, tiny_config, command):
    assert spry("run", tiny_config, "--out", "here", "--set", "schedule.rounds=2").code == 0
    again = spry("resume", "here")
    assert "here is finished" in again.err
    assert again.err.endswith("For more rounds: spry resume here --rounds 4\n")
    result = spry(*command, "--json")
    assert result.code == 0, result.err
    assert "going on after round 2" in result.err
    assert result.document["rounds"] == 4


def test_rounds_only_grow_and_some_methods_keep_their_number(spry, tiny_config):
    assert spry("run", tiny_config, "--out", "here", "--set", "schedule.rounds=2").code == 0
    fewer = spry("resume", "here", "--rounds", "1")
    assert fewer.code == 1
    assert "a run of 2 rounds, and schedule.rounds is 1: rounds only grow" in fewer.err
    assert "spry resume" not in fewer.err  # it is finished: there is nothing to go on with
    own = ("--set", "method.name=fwdllm", "--set", "schedule.rounds=1")
    assert spry("run", tiny_config, "--out", "planned", *own).code == 0
    more = spry("resume", "planned", "--rounds", "2")
    assert more.code == 1
    assert "The steps of fwdllm depend on how many rounds there will be" in more.err
    assert "--rounds" not in spry("resume", "planned").err


def test_a_run_that_ended_early_says_how_to_go_on_all_the_same(spry, tiny_config):
    impatient = (
        "--set",
        "schedule.patience=1",
        "--set",
        "schedule.evaluate_every=1",
        "--set",
        "client.lr=1e-9",
    )
    result = spry("run", tiny_config, "--out", "here", *impatient, "--set", "client.optimizer=sgd")
    assert result.code == 0, result.err
    assert "Ended early: no better validation accuracy in 1 evaluation" in result.err
    again = spry("resume", "here")
    *_, last = again.err.splitlines()
    assert last == "To go on all the same: spry run --resume here --set schedule.patience=none"
    on = spry(*last.partition("spry ")[2].split(), "--json")
    assert on.document["rounds"] == 4


def test_changed_data_make_another_run(spry, tiny_config, tiny_csv):
    shutil.copy(tiny_csv, "data.csv")
    data = ("--json", "--set", "data.name=data.csv", "--set", "schedule.rounds=0")
    assert spry("run", tiny_config, *data).document["folder"] == "runs/data-residual-s0"
    with Path("data.csv").open("a", encoding="utf-8") as file:
        file.write("a good film,positive,author-1\n")
    assert spry("run", tiny_config, *data).document["folder"] == "runs/data-residual-s0-2"


def test_the_installed_command_runs(tiny_config, tmp_path):
    command = [
        Path(sys.executable).with_name("spry"),
        "run",
        tiny_config,
        "--json",
        "--set",
        "schedule.rounds=1",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rounds"] == 1
    opening, _, *data, start, evaluation = (
        line for line in done.stderr.splitlines() if not line.startswith(" ")
    )
    assert start.startswith("round 0/1  test ") and evaluation.startswith("round 1/1  loss ")
    assert "1 round" in opening and all(
        line.split(":")[0] in {"data", "classes", "tokens", "clients", "left out", "note", "head"}
        for line in data
    )
