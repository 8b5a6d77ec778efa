"""Means, gaps, costs to a target and accuracies within bytes, by hand-made runs."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from benchmarks.comparison_cells import CLIENTS, cells, crossing, gap, spent, value_at, within
from tests.benchmarks.comparison_stage import run

ROOT = Path(__file__).parents[2]
SST2 = ("sst2", 1.0)


def cell(*runs):
    """The one cell that these runs make."""
    [(_, rows)] = cells({"runs": list(runs)}).items()
    [found] = rows.values()
    return found


def test_the_mean_is_over_seeds_in_their_order_at_rounds_that_all_have():
    found = cell(
        run("identity", [[0, 0.6], [8, 0.9], [16, 0.9]], seed=1),
        run("identity", [[0, 0.4], [16, 0.7]], seed=0),
    )
    assert (found.seeds, found.rounds) == ([0, 1], [0, 16])
    assert found.points == [(0, [0.4, 0.6]), (16, [0.7, 0.9])]
    assert found.curve == [(0, pytest.approx(0.5)), (16, pytest.approx(0.8))]
    assert found.best == pytest.approx(0.8)


def test_a_place_and_seed_that_is_there_twice_counts_once():
    found = cell(run("identity", [[0, 0.5], [8, 0.6]]), run("identity", [[0, 0.5], [8, 0.7]]))
    assert found.seeds == [0]


def test_rows_are_in_the_order_of_the_tables_and_unknown_ones_come_last():
    start = [[0, 0.5], [8, 0.6]]
    found = cells({"runs": [run(row, start) for row in ("gone", "fedavg", "last_block")]})[SST2]
    assert list(found) == ["last_block", "fedavg", "gone"]
    assert found["gone"].title == "gone"


@pytest.mark.parametrize(
    ("target", "round"), [(0.5, 0), (0.4, 0), (0.6, 4), (0.7, 8), (0.75, None), (0.65, 6)]
)
def test_a_target_is_crossed_on_the_line_between_two_evaluations(target, round):
    found = crossing([(0, 0.5), (8, 0.7), (16, 0.6)], target)
    assert found == (None if round is None else pytest.approx(round))


def test_a_curve_that_falls_first_crosses_where_it_rises():
    assert crossing([(0, 0.5), (8, 0.3), (16, 0.7)], 0.6) == pytest.approx(14)


@pytest.mark.parametrize(
    ("rounds", "accuracy"), [(0, 0.5), (2, 0.55), (8, 0.7), (12, 0.65), (16, 0.6), (99, 0.6)]
)
def test_between_evaluations_an_accuracy_lies_on_the_line(rounds, accuracy):
    assert value_at([(0, 0.5), (8, 0.7), (16, 0.6)], rounds) == pytest.approx(accuracy)


def test_what_a_part_of_the_rounds_took_is_that_part():
    found = spent(cell(run("identity", [[0, 0.5], [16, 0.7]])), 4)
    assert found == {"operations": 4e10, "cpu_seconds": pytest.approx(2.5), "bytes": 1600.0}


def test_what_the_head_took_counts_whole_and_once():
    head = {"operations": 5e9, "cpu_seconds": 2.0, "bytes_up": 4000, "bytes_down": 1000, "clients": 100}
    found = spent(cell(run("identity", [[0, 0.5], [16, 0.7]], head=head)), 4)
    assert found == {"operations": 4.5e10, "cpu_seconds": pytest.approx(2 + 8 / 4), "bytes": 1650.0}
    free = spent(cell(run("identity", [[0, 0.5], [16, 0.7]], head=head)), 0)
    assert free == {"operations": 5e9, "cpu_seconds": 2.0, "bytes": 50.0}


def test_a_cost_that_a_seed_does_not_know_is_not_known():
    start = [[0, 0.5], [16, 0.7]]
    found = cell(run("identity", start), run("identity", start, 1, operations_per_client_round=None))
    assert spent(found, 4)["operations"] is None
    assert found.mean("client_cpu_seconds") == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("budget", "rounds", "accuracy"), [(400, 4, 0.6), (0, 0, 0.5), (1600, 16, 0.6), (10_000, 16, 0.6)]
)
def test_within_bytes_a_client_takes_the_rounds_that_it_can_afford(budget, rounds, accuracy):
    found = within(cell(run("identity", [[0, 0.5], [8, 0.7], [16, 0.6]])), budget)
    assert found == (pytest.approx(rounds), pytest.approx(accuracy))


def test_one_that_sends_nothing_can_afford_all():
    silent = run("identity", [[0, 0.5], [8, 0.7]], bytes_up_per_client_round=0.0)
    assert within(cell(silent), 10) == (8.0, 0.7)


def test_a_gap_is_of_the_same_seeds_after_the_same_round():
    ours = cell(
        *(
            run("identity", [[0, 0.5], [8, 0.6], [16, end]], seed)
            for seed, end in ((0, 0.7), (1, 0.8), (2, 0.1))
        )
    )
    theirs = cell(
        *(
            run("fedavg", [[0, 0.5], [16, end], [32, 0.99]], seed)
            for seed, end in ((1, 0.75), (0, 0.6), (7, 0.9))
        )
    )
    assert gap(ours, theirs) == (16, [pytest.approx(0.1), pytest.approx(0.05)])
    assert gap(ours, cell(run("fedavg", [[0, 0.5]], 9))) is None


def test_as_many_clients_are_asked_as_the_comparison_says():
    shared = tomllib.loads((ROOT / "benchmarks" / "comparison.toml").read_text(encoding="utf-8"))
    assert shared["schedule"]["clients_per_round"] == CLIENTS
