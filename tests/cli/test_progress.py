"""Evaluations stay, one line each; on a terminal the numbers are live besides."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from spry.cli import heartbeat, progress, screen
from spry.cli.evaluation_line import evaluation_line
from spry.cli.progress import Numbers, Watch
from spry.experiment.config import Config
from spry.experiment.run import Started
from spry.federated.algorithm import ServerState
from spry.runtime.records import ClientRecord, Round
from spry.tasks.metrics import ClassificationMetrics


def started(folder, done=0):
    known = {"clients": 100, "clients_per_round": 10, "units": 12, "trainable_weights": 10371}
    config = Config().with_settings({"schedule.rounds": 100})
    return Started(config=config, folder=folder, resumed_at=done, **known)


def round_of(number, failed=None, test=None):
    clients = [
        ClientRecord(client=k, units=("a",), examples=10, steps=2, loss=0.5, bytes_up=1, bytes_down=1, seconds=0.1,
                     failed=failed if k == 0 else None)
        for k in range(2)
    ]  # fmt: skip
    return Round(
        number=number,
        state=ServerState(round=number + 1, weights={}, optimizer={}),
        clients=tuple(clients),
        untrained_units=(),
        seconds=0.2,
        peak_bytes=31 << 20,
        score_name="accuracy",
        test=test,
    )


def shown(monkeypatch, tmp_path, *, terminal):
    console = Console(file=StringIO(), force_terminal=terminal, width=100)
    monkeypatch.setattr(screen, "err", lambda: console)
    stats = ClassificationMetrics(examples=100, loss_sum=80.0, correct=61)
    with Watch() as watch:
        watch.show("spry", started(tmp_path))
        watch.show("spry", round_of(0, test=stats))
        watch.show("spry", round_of(1, failed="loss is nan"))
    return console.file.getvalue()


def test_a_line_an_evaluation_and_nothing_else_without_a_terminal(monkeypatch, tmp_path):
    lines = shown(monkeypatch, tmp_path, terminal=False).splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("spry: minilm on tweets, 100 clients, 10 a round")
    assert lines[1] == "recipe plain, but schedule.rounds = 100 (30)"
    assert lines[2] == "round 1/100  loss 0.500  test 61.0 %  0:00"
    assert "1 reply was dropped" in lines[3]


def test_live_on_a_terminal_under_evaluations_that_stay(monkeypatch, tmp_path):
    text = shown(monkeypatch, tmp_path, terminal=True)
    assert "rounds, time left" in text
    assert "loss 0.500   test 61.0 %   peak 31 MiB" in text
    assert text.count("round 1/100  loss 0.500  test 61.0 %  0:00\n") == 1


def test_a_comparison_says_which_run_a_line_is_of(monkeypatch, tmp_path):
    console = Console(file=StringIO(), width=100)
    monkeypatch.setattr(screen, "err", lambda: console)
    with Watch(several=True, recipe=["recipe plain"]) as watch:
        watch.show("2/6 spry, seed 0", started(tmp_path))
        watch.show("2/6 spry, seed 0", round_of(0, test=HALF))
    assert (
        console.file.getvalue().splitlines()[2].startswith("2/6 spry, seed 0  round 1/100  loss 0.500  test")
    )


HALF = ClassificationMetrics(examples=100, loss_sum=80.0, correct=50)


def test_the_longest_line_of_an_evaluation_has_eighty_columns():
    full = replace(round_of(99, test=HALF), validation=HALF)
    full = replace(
        full, clients=tuple(replace(one, generalized=HALF, personalized=HALF) for one in full.clients)
    )
    line = evaluation_line("", full, 200, 7500)
    assert (
        line.startswith("round 100/200  loss 0.500  test 50.0  val. 50.0  gen. 50.0  pers. 50.0")
        and len(line) <= 80
    )
    named = evaluation_line("12/12 fedavg_checkpointing, seed 2", full, 200, 7500)
    assert len(named) <= 80 and "round 100/200  loss 0.500  test 50.0" in named


def test_silence_is_broken_now_and_then_where_nothing_moves(monkeypatch, tmp_path):
    console = Console(file=StringIO(), width=100)
    monkeypatch.setattr(screen, "err", lambda: console)
    monkeypatch.setattr(heartbeat, "INTERVAL", 0.1)
    with Watch() as watch:
        watch.show("spry", started(tmp_path))
        time.sleep(0.5)
    first, second, *_ = console.file.getvalue().splitlines()[2:]
    assert first == second == "spry: round 1/100 ...  0:00"


def test_where_a_run_began_has_a_line_of_its_own(monkeypatch, tmp_path):
    console = Console(file=StringIO(), width=100)
    monkeypatch.setattr(screen, "err", lambda: console)
    start = {"test": ClassificationMetrics(examples=100, loss_sum=80.0, correct=38)}
    with Watch(recipe=[]) as watch:
        watch.show("spry", started(tmp_path))
        watch.show("spry", replace(round_of(0), start=start))
    *_, line = console.file.getvalue().splitlines()
    assert line.startswith("round 0/100  test 38.0 %  0:0")


def test_numbers_keep_the_last_evaluation():
    numbers = Numbers()
    assert numbers.text().plain == ""
    numbers.take(round_of(0, test=ClassificationMetrics(examples=4, loss_sum=1.0, correct=3)))
    numbers.take(round_of(1))
    assert numbers.text().plain == "loss 0.500   test 75.0 %   peak 31 MiB"


def test_a_resumed_run_says_where_it_goes_on(tmp_path):
    assert progress.opening("spry", started(tmp_path, done=7)).endswith("(going on after round 7)")


def test_what_the_user_should_know_is_under_the_first_line(monkeypatch, tmp_path):
    console = Console(file=StringIO(), width=100)
    monkeypatch.setattr(screen, "err", lambda: console)
    with Watch() as watch:
        watch.show("spry", replace(started(tmp_path), notes=["torch was 1.0, is 2.0"]))
    assert console.file.getvalue().splitlines()[2:] == ["note: torch was 1.0, is 2.0"]


def test_numbers_that_are_not_finite_become_null(capsys):
    screen.document({"a": [math.nan, 1.0], "b": {"c": math.inf}})
    assert capsys.readouterr().out.split() == [
        "{",
        '"a":',
        "[",
        "null,",
        "1.0",
        "],",
        '"b":',
        "{",
        '"c":',
        "null",
        "}",
        "}",
    ]


@pytest.mark.parametrize("message", ["plain", "[bold]not markup[/bold]", "a" * 300])
def test_messages_are_printed_as_they_are(message, capsys):
    screen.complain(message)
    assert capsys.readouterr().err == f"Error: {message}\n"
