"""Costs of runs whose numbers are known by hand."""

from __future__ import annotations

from statistics import stdev

import pytest

from spry.compare.costs import (
    Budget,
    at_equal_rounds,
    best_within,
    cost_to_target,
    default_budget,
    parse_operations,
    trajectory,
)
from spry.core.errors import ConfigError
from spry.tasks.score import Score

ACCURACY, RMSE = Score(name="accuracy"), Score(name="rmse", higher_is_better=False)


def entries(accuracies, *, seconds=2.0, up=300, down=700, first=None):
    """Two clients a round; the first round was measured and took ``first`` seconds. Half of the time is of processors,
    and a second has ten operations.
    """
    return [
        {
            "round": number,
            "test_accuracy": accuracy,
            "client_seconds": first if number == 0 and first else seconds,
            "client_cpu_seconds": (first if number == 0 and first else seconds) / 2,
            "operations": 10 * seconds,
            "bytes_up": up,
            "bytes_down": down,
            "clients": [{"peak_bytes_above_model": 7 if number == 0 and first else None}] * 2,
        }
        for number, accuracy in enumerate(accuracies)
    ]


def runs(**accuracies):
    return {
        name: [trajectory(entries(each), ACCURACY) for each in seeds] for name, seeds in accuracies.items()
    }


def test_a_trajectory_adds_up_costs_between_evaluations():
    seen = trajectory(entries([None, 0.5, None, 0.7]), ACCURACY)
    assert [(each.rounds, each.score) for each in seen] == [(2, 0.5), (4, 0.7)]
    assert [each.client_seconds for each in seen] == [4.0, 8.0]
    assert [each.cpu_seconds for each in seen] == [2.0, 4.0]
    assert [each.operations for each in seen] == [40.0, 80.0]
    assert [each.bytes_per_client for each in seen] == [1000.0, 2000.0]


def test_what_an_older_log_has_not_counted_is_unknown_and_within_no_limit():
    rounds = entries([0.5, 0.6])
    del rounds[0]["operations"], rounds[1]["client_cpu_seconds"]
    first, second = trajectory(rounds, ACCURACY)
    assert (first.operations, second.operations) == (None, None)
    assert (first.cpu_seconds, second.cpu_seconds) == (1.0, None)
    (row,) = best_within({"a": [[first, second]]}, {"a": 1}, Budget(operations=1e9), ACCURACY)["rows"]
    assert row["within_operations"] is None and row["within_cpu_seconds"] == {
        "score_mean": 0.6,
        "score_std": 0.0,
    }
    (row,) = cost_to_target({"a": [[first, second]]}, 0.55, ACCURACY)["rows"]
    assert (row["rounds"], row["operations"], row["client_seconds"]) == (2.0, None, 4.0)


def test_a_round_in_which_operations_were_counted_counts_as_an_ordinary_one_too():
    rounds = entries([0.5, 0.6], first=50.0)
    rounds[0]["clients"] = [{"peak_bytes_above_model": None, "slowed": slowed} for slowed in (False, True)]
    assert trajectory(rounds, ACCURACY)[-1].cpu_seconds == pytest.approx(2.0)


def test_the_round_in_which_memory_was_measured_counts_as_an_ordinary_one():
    assert trajectory(entries([0.5, 0.6], seconds=2.0, first=50.0), ACCURACY)[
        -1
    ].client_seconds == pytest.approx(4.0)
    assert trajectory(entries([0.5], first=50.0), ACCURACY)[-1].client_seconds == pytest.approx(
        50.0
    )  # nothing to take instead


def test_clients_of_a_round_share_its_bytes_and_no_client_is_no_division_by_zero():
    empty = [{**entry, "clients": [], "bytes_up": 0, "bytes_down": 0} for entry in entries([0.5])]
    assert trajectory(empty, ACCURACY)[0].bytes_per_client == pytest.approx(0.0)


def test_equal_rounds_are_those_that_all_runs_know():
    view = at_equal_rounds(runs(a=[[0.1, 0.2, 0.4], [0.3, 0.4, 0.8]], b=[[None, 0.5, 0.6], [None, 0.5, 0.6]]))
    assert view["rounds"] == [2, 3]
    assert view["rows"][0]["after"][1] == {
        "score_mean": pytest.approx(0.6),
        "score_std": pytest.approx(stdev([0.4, 0.8])),
    }
    assert view["rows"][1]["after"][0] == {"score_mean": 0.5, "score_std": 0.0}


def test_the_best_within_a_budget_counts_even_if_the_method_falls_off_later():
    found = runs(a=[[0.6, 0.9, 0.7, 0.95]])
    view = best_within(found, {"a": 100}, Budget(operations=60.0, bytes_per_client=500.0), ACCURACY)
    (row,) = view["rows"]
    assert row["within_operations"]["score_mean"] == pytest.approx(0.9)
    assert row["within_bytes_per_client"]["score_mean"] == pytest.approx(0.6)
    assert row["within_all"]["score_mean"] == pytest.approx(0.6)
    assert view["budget"]["operations"] == pytest.approx(60.0)


def test_wall_time_limits_nothing():
    assert not any("client_seconds" in name for name in vars(Budget()))
    slow, fast = entries([0.6, 0.9]), entries([0.6, 0.9])
    for entry in slow:
        entry["client_seconds"] *= 100.0  # the neighbour was noisy
    slow, fast = (
        best_within({"a": [trajectory(each, ACCURACY)]}, {"a": 1}, Budget(cpu_seconds=2.0), ACCURACY)
        for each in (slow, fast)
    )
    assert slow == fast


@pytest.mark.parametrize(("text", "number"), [("5T", 5e12), (" 1.5e3 mflops ", 1.5e9), ("7", 7.0)])
def test_operations_are_read_with_and_without_a_unit(text, number):
    assert parse_operations(text) == pytest.approx(number)


@pytest.mark.parametrize("text", ["", "0", "5X", "T", "-3", "many"])
def test_what_is_no_number_of_operations_is_refused(text):
    with pytest.raises(ConfigError, match="such as 5e12"):
        parse_operations(text)


@pytest.mark.parametrize(("limit", "fits"), [(None, True), (100, True), (99, False)])
def test_a_method_fits_up_to_the_very_byte(limit, fits):
    (row,) = best_within(runs(a=[[0.6]]), {"a": 100}, Budget(peak_bytes_above_model=limit), ACCURACY)["rows"]
    assert row["fits"] == fits
    assert (row["within_all"] is not None) == fits
    assert row["within_operations"] is not None


def test_a_seed_that_reaches_no_evaluation_in_time_leaves_no_mean():
    found = {"a": [trajectory(entries([0.6]), ACCURACY), trajectory(entries([0.6], seconds=9.0), ACCURACY)]}
    (row,) = best_within(found, {"a": 1}, Budget(operations=50.0), ACCURACY)["rows"]
    assert row["within_operations"] is None
    assert row["within_bytes_per_client"]["score_mean"] == pytest.approx(0.6)


def test_the_default_budget_is_what_the_cheapest_spent_with_all_its_seeds():
    cheap = [trajectory(entries([0.5, 0.6], seconds=s), ACCURACY) for s in (1.0, 1.5)]
    free = [trajectory(entries([0.5, 0.6], up=0, down=0), ACCURACY)]
    assert default_budget({"cheap": cheap, "free": free}) == Budget(
        operations=30.0, cpu_seconds=1.5, bytes_per_client=1000.0
    )
    assert default_budget({}) == Budget()


def test_cost_to_a_target_is_that_of_the_first_evaluation_there():
    view = cost_to_target(
        runs(a=[[0.5, 0.8, 0.7], [0.5, 0.7, 0.9]], b=[[0.1], [0.1]], c=[[0.9], [0.1]]), 0.8, ACCURACY
    )
    a, b, c = view["rows"]
    assert (a["reached"], a["rounds"], a["client_seconds"], a["bytes_per_client"]) == (2, 2.5, 5.0, 1250.0)
    assert (a["operations"], a["cpu_seconds"]) == (25.0 * 2, 2.5)
    assert (b["reached"], b["rounds"], b["client_seconds"]) == (0, None, None)
    assert (c["reached"], c["seeds"], c["rounds"]) == (1, 2, 1.0)


def errors(values):
    """A run that is judged by its rmse."""
    return [
        {**entry, "test_rmse": entry["test_accuracy"], "test_accuracy": None} for entry in entries(values)
    ]


def test_the_best_of_a_score_that_is_to_be_low_is_the_lowest():
    found = {"a": [trajectory(errors([0.6, 0.3, 0.5]), RMSE)]}
    (row,) = best_within(found, {"a": 1}, Budget(), RMSE)["rows"]
    assert row["within_all"]["score_mean"] == pytest.approx(0.3)
    (row,) = best_within(found, {"a": 1}, Budget(cpu_seconds=1.0), RMSE)["rows"]
    assert row["within_cpu_seconds"]["score_mean"] == pytest.approx(0.6)


def test_a_target_that_is_to_be_low_is_reached_from_above():
    found = {"a": [trajectory(errors([0.6, 0.3, 0.5]), RMSE)], "b": [trajectory(errors([0.6, 0.31]), RMSE)]}
    a, b = cost_to_target(found, 0.3, RMSE)["rows"]
    assert (a["reached"], a["rounds"], b["reached"]) == (1, 2.0, 0)
