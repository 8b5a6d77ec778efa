"""A run whose head starts in closed form: what is chosen, what it costs, and that it resumes to the same bits."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from tests.experiment import test_run
from tests.experiment.test_run import equal, weights
from tests.models.conftest import make

from spry.compare.costs import trajectory
from spry.core.errors import ConfigError
from spry.experiment import head as head_module
from spry.experiment import log
from spry.experiment.build import build
from spry.experiment.config import Config, read_config, read_record
from spry.experiment.given import Given
from spry.experiment.head_choice import starts_in_closed_form
from spry.experiment.run import resume, run
from spry.experiment.schema import HeadSettings
from spry.federated.replay.catch_up import receive
from spry.report.details import head_start
from spry.report.read import read_run
from spry.runtime.head_start import closed_form_head
from spry.wire.frame import Kind, read_kind
from spry.wire.messages import Answer

drawn = test_run.config


@pytest.fixture
def config(drawn):
    return drawn.with_settings({"head.start": "auto"})


@pytest.fixture(autouse=True)
def _anew():
    head_module._KNOWN.clear()


def rounds_of(folder):
    return log.read_rounds(folder)


def test_recipes_say_it_and_what_says_nothing_draws():
    assert read_config("quickstart").head.start == "auto"
    assert {read_config(base).head.start for base in ("plain", "paper")} == {"drawn"} == {Config().head.start}


def test_the_start_is_the_closed_form_and_stands_in_log_summary_and_report(config, tmp_path):
    list(run(config, tmp_path / "run"))
    experiment = build(config)
    fitted = closed_form_head(experiment.task, experiment.clients, key=experiment.key)
    expected = experiment.task.evaluate({**experiment.task.init(), **fitted.weights}, experiment.clients.test)
    first, *later = rounds_of(tmp_path / "run")
    assert first["start"]["test_accuracy"] == expected.accuracy
    assert first["start"]["test_loss"] == expected.loss
    known = {
        name: first["head"][name] for name in ("examples", "clients", "bytes_up", "bytes_down", "operations")
    }
    assert known == {name: getattr(fitted.cost, name) for name in known}
    assert not any("head" in entry for entry in later)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["head"] == first["head"]
    assert summary["operations"] == first["head"]["operations"] + sum(
        entry["operations"] for entry in (first, *later)
    )
    done = read_run(tmp_path / "run")
    assert done.outcome["operations"] == summary["operations"]
    (line,) = head_start(done)
    assert line.startswith(
        f"Head: closed form from {fitted.cost.examples} examples of 6 clients before round 1; "
    )
    seen = trajectory(rounds_of(tmp_path / "run"), experiment.task.score)[-1]
    assert seen.operations == summary["operations"]
    without = [{k: v for k, v in entry.items() if k != "head"} for entry in (first, *later)]
    more = (first["head"]["bytes_up"] + first["head"]["bytes_down"]) / 6
    assert seen.bytes_per_client == pytest.approx(
        trajectory(without, experiment.task.score)[-1].bytes_per_client + more
    )


def test_drawn_is_as_it_was(config, tmp_path):
    list(run(config.with_settings({"head.start": "drawn"}), tmp_path / "run"))
    assert "head" not in rounds_of(tmp_path / "run")[0]
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["head"] is None
    assert head_start(read_run(tmp_path / "run")) == []


def test_runs_that_begin_alike_take_the_sums_once_and_each_counts_them(config, tmp_path, monkeypatch):
    taken = []
    monkeypatch.setattr(
        head_module, "closed_form_head", lambda *a, **k: taken.append(1) or closed_form_head(*a, **k)
    )
    own = config.with_settings({"schedule.rounds": 1})
    for name in ("fedavg", "fedsgd"):
        list(run(own.for_method(name, 0), tmp_path / name))
    assert len(taken) == 1
    costs = [rounds_of(tmp_path / name)[0]["head"] for name in ("fedavg", "fedsgd")]
    assert costs[0] == costs[1]
    last_block = own.with_settings({"peft.exact": "last_block", "peft.rank": 2}).for_method("residual", 0)
    list(run(last_block, tmp_path / "residual"))
    assert len(taken) == 1  # adapters that begin at zero change no feature
    list(run(own.for_method("fedavg", 1), tmp_path / "other"))
    assert len(taken) == 2


def test_the_same_twice_and_after_a_stop_is_the_same_bits(config, tmp_path):
    list(run(config, tmp_path / "whole"))
    head_module._KNOWN.clear()
    going = run(config, tmp_path / "cut")
    for _ in range(3):
        next(going)
    going.close()
    head_module._KNOWN.clear()
    list(resume(tmp_path / "cut"))
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    left, right = (rounds_of(tmp_path / name)[0]["head"] for name in ("whole", "cut"))
    timed = {"seconds", "cpu_seconds"}
    assert {n: v for n, v in left.items() if n not in timed} == {
        n: v for n, v in right.items() if n not in timed
    }


SCRIPT = """
import os, signal, sys, torch; torch.set_num_threads(1)
from pathlib import Path
from spry.experiment import {place} as module
from spry.experiment.config import read_config
from spry.experiment.run import run
real = module.{name}
def killing(*args, **given):
    {before}os.kill(os.getpid(), signal.SIGKILL)
module.{name} = killing
list(run(read_config(sys.argv[1]), Path(sys.argv[2]), resume=True))
"""


@pytest.mark.parametrize("name", ["start_head", "evaluate_start", "write_checkpoint"])
def test_a_kill_before_or_after_the_head_then_resume_gives_the_same_bits(name, config, tmp_path):
    """Before the sums, after them and before round 1, and after the first checkpoint."""
    list(run(config, tmp_path / "whole"))
    (tmp_path / "killed.toml").write_text(config.dump())
    before = "real(*args, **given); " if name == "write_checkpoint" else ""
    place = "safekeeping" if name == "write_checkpoint" else "run"
    script = SCRIPT.format(name=name, place=place, before=before)
    folder = tmp_path / "killed"
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "killed.toml", folder], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(rounds_of(folder)) == (name == "write_checkpoint")
    head_module._KNOWN.clear()
    list(resume(folder))
    assert equal(weights(tmp_path / "whole"), weights(folder))


@pytest.mark.parametrize("factor", [0.0, "auto"])
def test_a_head_that_is_kept_there_stays_to_the_bit(config, tmp_path, factor):
    own = config.with_settings({"step_factors.head": factor, "peft.exact": "last_block"})
    *_, last = run(own, tmp_path / "run")
    experiment = build(own)
    fitted = closed_form_head(experiment.task, experiment.clients, key=experiment.key).weights
    assert all(torch.equal(last.state.weights[name], fitted[name]) for name in fitted)
    others = last.state.weights.keys() - fitted.keys()
    assert any(not torch.equal(last.state.weights[n], experiment.task.init()[n]) for n in others)


@pytest.mark.parametrize(
    "settings", [{"head.start": "drawn"}, {"method.name": "head_only", "peft.exact": "head"}]
)
def test_a_head_that_was_drawn_or_is_all_that_is_trained_moves(config, settings):
    """By itself, ``step_factors.head`` keeps only a head in closed form, and only beside other weights."""
    experiment = build(config.with_settings({"step_factors.head": "auto", **settings}))
    assert "head" in {unit.group for unit in experiment.algorithm.units}


def test_a_start_alone_is_the_probe(config, tmp_path):
    list(run(config.with_settings({"schedule.rounds": 0}), tmp_path / "run"))
    experiment = build(config)
    fitted = closed_form_head(experiment.task, experiment.clients, key=experiment.key).weights
    own = build(config.with_settings({"start": str(tmp_path / "run"), "head.start": "drawn"})).task.init()
    assert all(torch.equal(own[name], fitted[name]) for name in fitted)


def test_an_adapters_head_stays(config, tmp_path):
    list(run(config, tmp_path / "first"))
    further = config.with_settings({"start": str(tmp_path / "first")})
    assert not build(further).closed_form
    asked = build(further.with_settings({"head.start": "closed-form"}))
    assert (
        not asked.closed_form and "the head is the adapter's, not in closed form (head.start)." in asked.notes
    )


def test_a_class_that_no_client_has_is_told_by_its_name(config):
    experiment = build(config)
    positive = [client.data.labels[client.train] == 1 for client in experiment.clients.clients]
    few = [
        replace(client, train=client.train[own.numpy()])
        for client, own in zip(experiment.clients.clients, positive, strict=True)
    ]
    clients = replace(experiment.clients, clients=few)
    chosen, (note,) = starts_in_closed_form(
        config.head, experiment.task, clients, experiment.algorithm, adapter=False
    )
    assert not chosen and note.startswith("no client has a training example of negative, and")
    asked = HeadSettings(start="closed-form")
    with pytest.raises(ConfigError, match="no client has a training example of negative"):
        starts_in_closed_form(asked, experiment.task, clients, experiment.algorithm, adapter=False)


def test_local_training_shares_nothing(config):
    alone = build(config.for_method("local", 0))
    assert not alone.closed_form and any("local lets clients tell nothing" in note for note in alone.notes)
    with pytest.raises(ConfigError, match=r"head.start is 'closed-form'\. local lets clients tell nothing"):
        build(config.for_method("local", 0).with_settings({"head.start": "closed-form"}))


def test_a_model_with_a_head_of_its_own_keeps_it_unless_asked(config, tmp_path, tiny_tokenizer):
    def built(**settings):
        given = Given(model=make("bert", labels=2), tokenizer=tiny_tokenizer)
        return build(config.with_settings(settings), given)

    kept = built()
    assert not kept.closed_form and any("its trained head is kept" in note for note in kept.notes)
    assert built(**{"head.start": "closed-form"}).closed_form


@pytest.mark.parametrize(
    "mode",
    [
        {"method.name": "spry", "method.send": "slopes"},
        {"method.name": "fedmezo", "method.send": "slopes", "peft.exact": "nothing"},
        {"method.name": "spry_per_iteration"},
    ],
)
def test_clients_that_are_told_the_head_replay_from_it_bit_for_bit(mode, config, tmp_path, monkeypatch):
    """Whether the head is exact or moves along directions, under averaging and under Adam."""
    own = config.with_settings({**mode, "server.send": "slopes", "schedule.rounds": 5})
    experiment = build(own)
    fitted = head_module.start_head(own, experiment, {})
    assert fitted is not None
    algorithm, down = experiment.algorithm, experiment.downlink
    first = algorithm.init({**experiment.task.init(), **fitted.weights})
    state, known, kinds = first, {}, []
    for number in range(5):
        chosen = [(number + i) % 6 for i in range(3)]
        orders = algorithm.plan(state, chosen, experiment.key)
        message, answers = down.send(state, orders, experiment.key), []
        for client, order in orders.items():
            data = message(client)
            kinds.append(read_kind(data))
            got, known[client] = receive(data, algorithm, known.get(client, first))
            assert all(torch.equal(got.weights[n], order.weights[n]) for n in order.weights)
            batches = experiment.clients.batches(client, number, experiment.key)
            reply = algorithm.train(experiment.task.loss, got, batches, 5).reply
            answers.append((order, reply))
        state = down.absorb(state, orders, experiment.key, [Answer(*pair) for pair in answers])
    assert Kind.CATCH_UP in kinds
    told = sum(w.numel() * 4 for w in fitted.weights.values()) * 6
    assert fitted.cost.bytes_down > told


def test_what_an_earlier_version_wrote_draws(config, tmp_path):
    list(run(config.with_settings({"head.start": "drawn"}), tmp_path / "run"))
    text = (tmp_path / "run" / "config.toml").read_text()
    start = text.index("[head]")
    (tmp_path / "run" / "config.toml").write_text(text[:start] + text[text.index("[", start + 1) :])
    assert read_record(tmp_path / "run" / "config.toml").head.start == "drawn"
