"""Whole runs on a tiny model: the folder, resuming after SIGKILL, failures, comparisons."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file
from tests.laws.test_methods import BUILT_IN

from spry.compare.compare import compare_methods
from spry.core.errors import CheckpointError, ConfigError, DataError, ModelError, TrainingError
from spry.experiment import build as build_module
from spry.experiment import checkpoint, log
from spry.experiment.build import build, check_settings
from spry.experiment.config import read_config
from spry.experiment.folder import SUMMARY, how_to_go_on, is_finished, matches
from spry.experiment.run import Started, resume, run
from spry.federated.ema import delivered
from spry.federated.methods import METHODS
from spry.tasks.model_task import ModelTask


@pytest.fixture
def config(tiny_model, tiny_csv, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(
        f'[model]\nname = "{tiny_model}"\nmax_length = 16\n[data]\nname = "{tiny_csv}"\nclients = 6\n'
        "[schedule]\nrounds = 4\nclients_per_round = 3\nevaluate_every = 2\ncheckpoint_every = 1\n"
        '[client]\nsteps = 2\nbatch_size = 4\n[head]\nstart = "drawn"\n'
    )
    return read_config(path)


def weights(folder):
    return load_file(folder / checkpoint.CHECKPOINT_FILE)


def equal(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[n], right[n]) for n in left)


NUMBERS = {"method", "model", "dataset", "seed", "rounds", "test_accuracy", "generalized_accuracy"} | {
    "personalized_accuracy", "score", "peak_bytes_above_model", "seconds_per_round", "client_cpu_seconds",
    "operations", "operations_per_client_round",
    "bytes_up_per_client_round", "bytes_down_per_client_round", "failed_replies",
}  # fmt: skip


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_method_runs_and_fills_its_folder(name, config, tmp_path):
    folder = tmp_path / "run"
    started, *rounds = run(config.for_method(name, 0), folder)
    assert isinstance(started, Started)
    assert [r.number for r in rounds] == [0, 1, 2, 3]
    summary = json.loads((folder / "summary.json").read_text())
    assert summary.keys() >= NUMBERS
    assert 0 <= summary["test_accuracy"] <= 1
    assert summary["rounds"] == 4
    rounds = log.read_rounds(folder)
    assert [entry["test_accuracy"] is None for entry in rounds] == [True, False, True, False]
    for entry in rounds:
        for client in entry["clients"]:
            assert (client["bytes_up"] > 0) == (name != "local")  # which sends nothing
            assert client["units"]
            assert client["operations"] > 0 and client["cpu_seconds"] > 0
        assert entry["operations"] == sum(client["operations"] for client in entry["clients"])
    confusion = summary["test_details"]["confusion"]
    assert sum(confusion[k][k] for k in range(2)) / sum(map(sum, confusion)) == summary["test_accuracy"]
    assert confusion == rounds[3]["test_details"]["confusion"] and "test_details" not in rounds[2]
    assert summary["labels"] == ["negative", "positive"]
    assert summary["operations"] == sum(entry["operations"] for entry in rounds)
    assert (folder / "adapter" / "adapter_config.json").is_file()
    assert json.loads((folder / "meta.json").read_text())["versions"]["torch"]


def test_the_mean_of_the_servers_weights_is_evaluated_and_kept(config, tmp_path):
    stepping = config.with_settings({"server.optimizer": "sgd", "server.lr": 1.0})
    *_, plain = run(stepping, tmp_path / "plain")
    *_, last = run(stepping.with_settings({"server.ema": 0.5}), tmp_path / "run")
    assert equal(plain.state.weights, last.state.weights)  # clients train as without it
    kept = delivered(last.state)
    assert not equal(kept, last.state.weights)
    task = build(config).task
    for weights, folder in ((kept, "by hand"), (last.state.weights, "last")):
        task.save_adapter(weights, tmp_path / folder)
    saved, by_hand, raw = (
        load_file(tmp_path / folder / "adapter_model.safetensors")
        for folder in ("run/adapter", "by hand", "last")
    )
    assert equal(saved, by_hand) and not equal(saved, raw)
    assert (
        last.test.loss_sum == task.evaluate(kept, build(config).clients.test).loss_sum != plain.test.loss_sum
    )


def test_the_adapter_gives_the_logits_of_the_run(config, tmp_path, tiny_model):
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    folder = tmp_path / "run"
    *_, last = run(config.with_settings({"server.lr": 0.1, "server.optimizer": "yogi"}), folder)
    experiment = build(config)
    batch = next(iter(experiment.clients.test))
    ours = experiment.task.logits(last.state.weights, batch)
    base = AutoModelForSequenceClassification.from_pretrained(tiny_model, num_labels=2)
    theirs = PeftModel.from_pretrained(base, folder / "adapter").eval()
    with torch.no_grad():
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        torch.testing.assert_close(theirs(**inputs).logits, ours.detach(), rtol=1e-5, atol=1e-6)


def test_two_runs_agree_bit_for_bit(config, tmp_path):
    for name in ("a", "b"):
        list(run(config, tmp_path / name))
    assert equal(weights(tmp_path / "a"), weights(tmp_path / "b"))


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_stopped_run_resumes_to_the_same_bits(stop, config, tmp_path):
    config = config.with_settings({"schedule.checkpoint_every": 2})
    list(run(config, tmp_path / "whole"))
    going = run(config, tmp_path / "cut")
    for _ in range(stop + 1):
        next(going)
    going.close()
    list(resume(tmp_path / "cut"))
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    losses = [[entry["loss"] for entry in log.read_rounds(tmp_path / name)] for name in ("whole", "cut")]
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    "steps", [{}, {"schedule.decay": "linear", "step_factors.head": 0.5}], ids=["", "decay"]
)
def test_sigkill_at_any_moment_then_resume_gives_the_same_bits(steps, config, tmp_path):
    config = config.with_settings({"schedule.rounds": 14, **steps})
    list(run(config, tmp_path / "whole"))
    folder = tmp_path / "killed"
    script = (
        "import sys, torch; torch.set_num_threads(1); from pathlib import Path\n"
        "from spry.experiment.config import read_config; from spry.experiment.run import run\n"
        "list(run(read_config(sys.argv[1]), Path(sys.argv[2]), resume=True))"
    )
    (tmp_path / "killed.toml").write_text(config.dump())
    process = subprocess.Popen([sys.executable, "-c", script, tmp_path / "killed.toml", folder])
    deadline = time.monotonic() + 60
    while process.poll() is None and len(log.read_rounds(folder)) < 3 and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGSTOP)
    with pytest.raises(CheckpointError, match=f"written by process {process.pid} on"):
        next(resume(folder))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert 3 <= len(log.read_rounds(folder)) < 14
    list(resume(folder))
    assert [entry["round"] for entry in log.read_rounds(folder)] == list(range(14))
    assert equal(weights(tmp_path / "whole"), weights(folder))


def test_resuming_with_a_changed_configuration_is_refused(config, tmp_path):
    list(run(config, tmp_path / "run"))
    with pytest.raises(CheckpointError, match=r"client\.steps was 2, is 5"):
        list(run(config.with_settings({"client.steps": 5}), tmp_path / "run", resume=True))
    with pytest.raises(CheckpointError, match="already holds this run"):
        list(run(config, tmp_path / "run"))
    with pytest.raises(CheckpointError, match="no run folder"):
        list(resume(tmp_path / "nowhere"))


@pytest.mark.parametrize("name", ["spry", "fedyogi", "fedmezo"])
def test_a_run_may_go_on_for_more_rounds_as_if_it_had_never_ended(name, config, tmp_path):
    config = config.for_method(name, 0)
    list(run(config, tmp_path / "whole"))
    list(run(config.with_settings({"schedule.rounds": 2}), tmp_path / "more"))
    started, *rounds = run(config, tmp_path / "more", resume=True)
    assert (started.resumed_at, len(rounds)) == (2, 2)
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "more"))
    assert json.loads((tmp_path / "more" / SUMMARY).read_text())["rounds"] == 4
    assert is_finished(config, tmp_path / "more")


def test_a_longer_run_is_not_finished_until_it_is(config, tmp_path):
    list(run(config.with_settings({"schedule.rounds": 1}), tmp_path / "run"))
    going = run(config, tmp_path / "run", resume=True)
    next(going), next(going)
    going.close()
    assert matches(config, tmp_path / "run") and not is_finished(config, tmp_path / "run")


def test_fewer_rounds_and_steps_that_were_planned_are_refused(config, tmp_path):
    list(run(config, tmp_path / "spry"))
    with pytest.raises(
        CheckpointError, match=r"a run of 4 rounds, and schedule\.rounds is 3: rounds only grow"
    ):
        next(run(config.with_settings({"schedule.rounds": 3}), tmp_path / "spry", resume=True))
    paced = config.for_method("fwdllm", 0)
    list(run(paced.with_settings({"schedule.rounds": 1}), tmp_path / "fwdllm"))
    with pytest.raises(CheckpointError, match=r"The steps of fwdllm depend on how many rounds"):
        next(run(paced, tmp_path / "fwdllm", resume=True))
    decayed = config.with_settings({"schedule.decay": "linear"})
    list(run(decayed.with_settings({"schedule.rounds": 1}), tmp_path / "decayed"))
    assert how_to_go_on(decayed, tmp_path / "decayed") is None
    with pytest.raises(
        CheckpointError, match=r"steps of a run with schedule\.decay = 'linear' depend on how many rounds"
    ):
        next(run(decayed, tmp_path / "decayed", resume=True))


def test_a_group_with_factor_0_stays_at_its_start_and_takes_no_bytes(config, tmp_path):
    config = config.with_settings({"method.name": "fedavg", "peft.exact": "last_block"})
    start = build(config).task.init()
    up = {}
    for frozen in (None, "head", "exact", "body"):
        factors = {f"step_factors.{frozen}": 0} if frozen else {}
        now = config.with_settings(factors)
        started, *rounds = run(now, tmp_path / str(frozen))
        units = build(now).task.units
        for unit in units:
            moved = [not torch.equal(rounds[-1].weights[n], start[n]) for n in unit.names]
            assert any(moved) == (unit.group != frozen)
        up[frozen] = rounds[0].clients[0].bytes_up
        still = {unit.name for unit in units if unit.group == frozen}
        assert not still & {name for client in rounds[0].clients for name in client.units}
        assert not rounds[0].untrained_units
        assert started.trainable_weights == sum(u.size for u in units if u.group != frozen)
        if frozen:
            values = 4 * sum(unit.size for unit in units if unit.group == frozen)
            assert up[None] - up[frozen] >= values


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            {"method.name": "fedavg", "step_factors.exact": 0.5},
            "step_factors.exact = 0.5 has no effect: no adapters of the last block join",
        ),
        (
            {"method.name": "head_only", "step_factors.body": 0.5},
            "step_factors.body = 0.5 has no effect: head_only",
        ),
        ({"method.name": "fedavg", "step_factors.body": 0.5}, None),
        (
            {"method.name": "fedavg", "step_factors.body": 0.5, "server.optimizer": "adam", "server.lr": 0.1},
            "step_factors.body may change little: the clients' steps are scaled, and the server's adam evens out",
        ),
        (
            {"method.name": "fedsgd", "step_factors.body": 0.5, "server.optimizer": "adam", "server.lr": 0.1},
            None,
        ),
        ({"method.name": "head_only", "step_factors.body": 0}, None),
    ],
)
def test_factors_without_effect_are_said(settings, says, config):
    told = [note for note in build(config.with_settings(settings)).notes if "step_factors" in note]
    assert [says] == [note[: len(says)] for note in told] if says else not told


def test_a_folder_has_one_writer(config, tmp_path):
    going = run(config, tmp_path / "run")
    next(going), next(going)
    for again in (True, False):
        with pytest.raises(CheckpointError, match=f"written by process {os.getpid()}"):
            next(run(config, tmp_path / "run", resume=again))
    assert [record.number for record in going] == [1, 2, 3]
    assert [entry["round"] for entry in log.read_rounds(tmp_path / "run")] == [0, 1, 2, 3]


def test_nothing_is_written_until_all_is_known_to_fit(config, tmp_path, monkeypatch):
    for settings, error in (
        ({"data.name": "nowhere.csv"}, DataError),
        ({"model.name": "./nowhere"}, ModelError),
        ({"data.column": "nobody", "data.partition": "column"}, DataError),
        ({"schedule.clients_per_round": 7}, ConfigError),
        ({"peft.targets": ["nothing"]}, ModelError),
    ):
        with pytest.raises(error):
            next(run(config.with_settings(settings), tmp_path / "run"))
    monkeypatch.setattr(build_module, "ModelTask", lambda *_, **__: pytest.fail("the model is loaded"))
    for settings, says in (
        ({"schedule.clients_per_round": 7}, "7 clients a round asked for"),
        ({"data.label": "nobody"}, "nobody"),
        ({"data.clients": 1000}, "clients"),
    ):
        with pytest.raises((ConfigError, DataError), match=says):
            next(run(config.with_settings(settings), tmp_path / "run"))
    monkeypatch.setattr(build_module, "read_splits", lambda *_, **__: pytest.fail("data is loaded"))
    for settings, says in (
        ({"client.optimizer": "adam_w", "client.lr": 0.1}, "Did you mean 'adamw'"),
        ({"client.optimizer": "adam_w"}, "Did you mean 'adamw'"),
        ({"model.device": "gpu"}, "model.device is 'gpu'"),
        ({"model.name": "./nowhere"}, "no such folder"),
        ({"peft.kind": "lorra"}, "Did you mean 'lora'"),
        ({"method.name": "fedavg", "server.send": "slopes"}, "needs replies of slopes"),
        ({"method.name": "fwdllm", "method.threshold": 0}, "greater than 0"),
    ):
        with pytest.raises((ConfigError, ModelError), match=says):
            next(run(config.with_settings(settings), tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", METHODS)
def test_settings_of_every_method_can_be_checked_without_a_model(name, config):
    check_settings(config.for_method(name, 0))


def test_one_nan_client_is_dropped_and_reported(config, tmp_path, monkeypatch):
    poison(monkeypatch, every=False)
    _, *rounds = run(config, tmp_path / "run")
    assert [len(r.clients) - len(r.survivors) for r in rounds] == [1, 1, 1, 1]
    assert "NaN" in next(c.failed for c in rounds[0].clients if c.failed)
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["failed_replies"] == 4


def test_all_nan_stops_with_the_last_good_checkpoint(config, tmp_path, monkeypatch):
    going = run(config, tmp_path / "run")
    next(going), next(going)
    good = weights(tmp_path / "run")
    poison(monkeypatch, every=True)
    with pytest.raises(TrainingError, match="round 1: no client"):
        list(going)
    assert equal(weights(tmp_path / "run"), good)


def poison(monkeypatch, *, every):
    """Make the loss of one client a round, or of all, NaN."""

    real, hit = ModelTask.loss, set()

    def loss(self, batch, key, base):
        made = real(self, batch, key, base)
        at = dict(zip(key.path[::2], key.path[1::2], strict=False))
        hit.add((at["round"], at["client"])) if every or at["round"] not in {r for r, _ in hit} else None
        if (at["round"], at["client"]) not in hit:
            return made
        batch = {**batch, "attention_mask": batch["attention_mask"]}
        broken = real(self, batch, key, base)

        class Broken:
            def __call__(self, params, *, checkpoint=False):
                return broken(params, checkpoint=checkpoint) * float("nan")

            def microbatches(self):
                return [(1.0, self)]

            @property
            def blocks(self):
                return broken.blocks

        return Broken()

    monkeypatch.setattr(ModelTask, "loss", loss)


def test_compare_resumes_and_writes_rows(config, tmp_path):
    config = config.with_settings({"schedule.rounds": 2})
    first = [
        e for *_, e in compare_methods(config, ["spry", "fedavg"], [0, 1], tmp_path) if isinstance(e, Started)
    ]
    again = [
        e for *_, e in compare_methods(config, ["spry", "fedavg"], [0, 1], tmp_path) if isinstance(e, Started)
    ]
    assert (len(first), len(again)) == (4, 0)
    rows = json.loads((tmp_path / "comparison.json").read_text())["rows"]
    assert [row["method"] for row in rows] == ["spry", "fedavg"]
    assert rows[0]["seeds"] == [0, 1]
