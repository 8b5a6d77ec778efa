"""The best round is kept, a run that does not get better ends, and neither depends on how often it was stopped."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file
from tests.conftest import WORDS

from spry.core.errors import CheckpointError
from spry.experiment import checkpoint, log
from spry.experiment.build import build
from spry.experiment.config import Config, read_config
from spry.experiment.folder import SUMMARY
from spry.experiment.kept import Keeping, Kept
from spry.experiment.run import run
from spry.experiment.schema import ScheduleSettings
from spry.federated.algorithm import ServerState
from spry.runtime.records import Round
from spry.tasks.metrics import ClassificationMetrics
from spry.tasks.score import Score

ACCURACY = Score(name="accuracy")


def round_of(number, right=None):
    validation = None if right is None else ClassificationMetrics(examples=10, correct=right)
    weights = {"w": torch.tensor(float(number))}
    state = ServerState(round=number + 1, weights=weights, optimizer={})
    plain = {"clients": (), "untrained_units": (), "seconds": 0.0, "peak_bytes": 0, "score_name": "accuracy"}
    return Round(number=number, state=state, validation=validation, **plain)


def follow(rights, score=ACCURACY, **schedule):
    """Follow a run through its rounds' scores; None is no evaluation."""
    keeping = Keeping(schedule=ScheduleSettings(rounds=len(rights), **schedule), score=score)
    kept = None
    for number, right in enumerate(rights):
        kept = keeping.follow(kept, round_of(number, right))
        if keeping.is_over(kept):
            break
    lines = [{"validation_accuracy": right and right / 10} for right in rights[: number + 1]]
    return keeping, kept, keeping.deliver(kept, round_of(number).state, lines)


@pytest.mark.parametrize(
    ("rights", "schedule", "after"),
    [
        ([3, 5, 4, 5], {"evaluate_every": 1, "keep": "best"}, 2),
        ([3, 5, 4, 6], {"evaluate_every": 1, "keep": "best"}, 4),
        ([3, 5, 4, 5], {"evaluate_every": 1, "keep": "last"}, 4),
        ([None, 5, None, 4, 6], {"evaluate_every": 2, "keep": "best"}, 5),  # the last, too, although out of turn
        ([None, 5, None, 4, 5], {"evaluate_every": 2, "keep": "best"}, 2),
        ([None, None, 4], {"evaluate_every": 5, "keep": "best"}, 3),
    ],
)  # fmt: skip
def test_the_best_evaluated_round_is_kept_and_of_equals_the_earlier(rights, schedule, after):
    _, _, (rounds, weights) = follow(rights, **schedule)
    assert rounds == after
    assert weights["w"] == after - 1


def test_a_score_may_be_better_if_it_is_lower():
    _, _, (after, _) = follow(
        [5, 3, 4], Score(name="accuracy", higher_is_better=False), keep="best", evaluate_every=1
    )
    assert after == 2


def test_an_evaluation_out_of_turn_is_not_followed():
    """A run that goes on for more rounds must not know it."""
    _, kept, _ = follow([None, 5, None, 4, 6], keep="best", evaluate_every=2, patience=2)
    assert (kept.round, kept.waited) == (1, 1)


@pytest.mark.parametrize(("patience", "ends", "after"), [(1, 4, 3), (2, 7, 5), (3, 8, 8), (None, 8, 8)])
def test_a_run_ends_after_as_many_evaluations_as_it_has_patience(patience, ends, after):
    keeping, kept, (kept_after, _) = follow(
        [3, 5, 6, 4, 7, 2, 6, 8], evaluate_every=1, patience=patience, keep="best"
    )
    assert kept.round + kept.waited + 1 == ends
    assert kept_after == after
    assert (keeping.why_over(kept) is not None) == (ends < 8)


def test_choosing_needs_a_validation_part_which_the_configuration_says():
    assert Config().data.validation == 0
    for settings in ({"schedule.keep": "best"}, {"schedule.patience": 2}):
        assert Config().with_settings(settings).data.validation == pytest.approx(0.1)
        told = Config().with_settings({**settings, "data.validation": 0.3})
        assert told.data.validation == pytest.approx(0.3)
    assert Config(schedule=ScheduleSettings(keep="best")).data.validation == pytest.approx(0.1)


@pytest.fixture(scope="module")
def config(tiny_model, tmp_path_factory):
    """A run whose validation accuracy goes up and down: the labels are drawn by lot."""
    folder, draw = tmp_path_factory.mktemp("noisy"), random.Random(0)
    lines = (f"{' '.join(draw.choices(WORDS, k=9))},{draw.choice(['yes', 'no'])}" for _ in range(300))
    (folder / "noisy.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    (folder / "config.toml").write_text(
        f'[model]\nname = "{tiny_model}"\nmax_length = 16\n[data]\nname = "{folder / "noisy.csv"}"\nclients = 6\n'
        '[method]\nname = "fedavg"\n[client]\noptimizer = "adamw"\nlr = 0.1\nsteps = 2\nbatch_size = 4\n'
        "[schedule]\nrounds = 10\nclients_per_round = 3\nevaluate_every = 1\ncheckpoint_every = 4\n"
        'keep = "best"\n'
    )
    return read_config(folder / "config.toml")


def saved(folder):
    return load_file(folder / "adapter" / "adapter_model.safetensors")


def summary_of(folder):
    return json.loads((folder / SUMMARY).read_text())


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[n], right[n]) for n in left)


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept") / "whole"
    _, *rounds = run(config, folder)
    return folder, rounds


def best_of(rounds):
    scores = [record.validation.accuracy for record in rounds]
    return scores.index(max(scores))


def test_the_adapter_and_the_summary_are_those_of_the_best_round(config, whole, tmp_path):
    folder, rounds = whole
    best = best_of(rounds)
    assert best < len(rounds) - 1  # or the test shows nothing
    found = summary_of(folder)
    assert (found["rounds"], found["kept_after_rounds"], found["stopped_early"]) == (10, best + 1, None)
    for part in ("test", "validation", "generalized"):
        assert found[f"{part}_accuracy"] == log.read_rounds(folder)[best][f"{part}_accuracy"]
    build(config).task.save_adapter(rounds[best].weights, tmp_path / "by hand")
    assert same(saved(folder), load_file(tmp_path / "by hand" / "adapter_model.safetensors"))


@pytest.mark.parametrize("stop", [2, 7, 10])
def test_a_stopped_run_keeps_the_same_round(stop, config, whole, tmp_path):
    going = run(config, tmp_path / "cut")
    for _ in range(stop + 1):
        next(going)
    going.close()
    list(run(config, tmp_path / "cut", resume=True))
    assert same(saved(tmp_path / "cut"), saved(whole[0]))
    assert summary_of(tmp_path / "cut")["kept_after_rounds"] == summary_of(whole[0])["kept_after_rounds"]


@pytest.mark.parametrize("settings", [
    {"schedule.evaluate_every": 3},
    {"schedule.evaluate_every": 3, "server.ema": 0.5},
])  # fmt: skip
def test_a_run_that_goes_on_keeps_what_a_longer_one_would_have_kept(settings, config, tmp_path):
    config = config.with_settings(settings)
    list(run(config, tmp_path / "whole"))
    for rounds in (4, 10):
        list(run(config.with_settings({"schedule.rounds": rounds}), tmp_path / "more", resume=True))
    assert same(saved(tmp_path / "whole"), saved(tmp_path / "more"))
    assert (
        summary_of(tmp_path / "whole")["kept_after_rounds"]
        == summary_of(tmp_path / "more")["kept_after_rounds"]
    )


def test_a_run_without_patience_left_ends_and_stays_ended(config, whole, tmp_path):
    impatient = config.with_settings({"schedule.patience": 2})
    _, *rounds = run(impatient, tmp_path / "run")
    _, every = whole
    scores = [record.validation.accuracy for record in every]
    ends = next(n for n in range(10) if n - scores[: n + 1].index(max(scores[: n + 1])) == 2)
    assert len(rounds) == ends + 1 < 10
    found = summary_of(tmp_path / "run")
    assert found["rounds"] == ends + 1
    assert found["stopped_early"].startswith("no better validation accuracy in 2 evaluations after round ")
    assert found["kept_after_rounds"] == ends - 1
    for again in (impatient, impatient.with_settings({"schedule.rounds": 12})):
        copy = tmp_path / f"of {again.schedule.rounds}"
        shutil.copytree(tmp_path / "run", copy)
        (started,) = run(again, copy, resume=True)
        assert started.resumed_at == ends + 1
        assert summary_of(copy) == found
    patient = impatient.with_settings({"schedule.patience": None})
    assert len(list(run(patient, tmp_path / "run", resume=True))) == 10 - ends
    assert same(saved(tmp_path / "run"), saved(whole[0]))


def test_what_is_kept_is_not_changed_on_the_way(config, tmp_path):
    list(run(config.with_settings({"schedule.rounds": 1}), tmp_path / "run"))
    with pytest.raises(CheckpointError, match=r"schedule\.keep was 'best', is 'last'"):
        next(run(config.with_settings({"schedule.keep": "last"}), tmp_path / "run", resume=True))


def test_a_checkpoint_has_the_best_round_beside_the_state(tmp_path):
    record = round_of(3)
    checkpoint.write_checkpoint(
        record.state, tmp_path, Kept(round=1, score=0.5, waited=2, weights=round_of(1).weights)
    )
    got = checkpoint.read_kept(tmp_path, record.state)
    assert (got.round, got.score, got.waited) == (1, 0.5, 2)
    assert got.weights["w"] == 1
    checkpoint.write_checkpoint(record.state, tmp_path)
    assert checkpoint.read_kept(tmp_path, record.state) is None


def test_sigkill_at_any_moment_keeps_the_same_round(config, whole, tmp_path):
    config = config.with_settings({"schedule.checkpoint_every": 1})
    script = (
        "import sys, torch; torch.set_num_threads(1); from pathlib import Path\n"
        "from spry.experiment.config import read_config; from spry.experiment.run import run\n"
        "list(run(read_config(sys.argv[1]), Path(sys.argv[2]), resume=True))"
    )
    (tmp_path / "killed.toml").write_text(config.dump())
    folder, best = tmp_path / "killed", best_of(whole[1])
    process = subprocess.Popen([sys.executable, "-c", script, tmp_path / "killed.toml", folder])
    deadline = time.monotonic() + 60
    while process.poll() is None and len(log.read_rounds(folder)) < best + 2 and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert best + 2 <= len(log.read_rounds(folder))
    list(run(config, folder, resume=True))
    assert same(saved(folder), saved(whole[0]))
