"""Views over runs whose numbers are known by hand."""

from __future__ import annotations

from statistics import stdev

import pytest

from spry.compare.costs import Budget, course, equal_rounds, to_target, usual, within


def entries(accuracies, *, seconds=2.0, up=300, down=700, first=None):
    """Two clients a round; the first round was measured and took ``first`` seconds."""
    return [
        {
            "round": number,
            "test_accuracy": accuracy,
            "client_seconds": first if number == 0 and first else seconds,
            "bytes_up": up,
            "bytes_down": down,
            "clients": [{"peak_bytes_above_model": 7 if number == 0 and first else None}] * 2,
        }
        for number, accuracy in enumerate(accuracies)
    ]


def runs(**accuracies):
    return {name: [course(entries(each)) for each in seeds] for name, seeds in accuracies.items()}


def test_a_course_adds_up_costs_between_evaluations():
    looks = course(entries([None, 0.5, None, 0.7]))
    assert [(look.rounds, look.accuracy) for look in looks] == [(2, 0.5), (4, 0.7)]
    assert [look.client_seconds for look in looks] == [4.0, 8.0]
    assert [look.bytes_per_client for look in looks] == [1000.0, 2000.0]


def test_the_round_in_which_memory_was_measured_counts_as_an_ordinary_one():
    assert course(entries([0.5, 0.6], seconds=2.0, first=50.0))[-1].client_seconds == pytest.approx(4.0)
    assert course(entries([0.5], first=50.0))[-1].client_seconds == pytest.approx(
        50.0
    )  # nothing to take instead


def test_clients_of_a_round_share_its_bytes_and_no_client_is_no_division_by_zero():
    empty = [{**entry, "clients": [], "bytes_up": 0, "bytes_down": 0} for entry in entries([0.5])]
    assert course(empty)[0].bytes_per_client == pytest.approx(0.0)


def test_equal_rounds_are_those_that_all_runs_know():
    view = equal_rounds(runs(a=[[0.1, 0.2, 0.4], [0.3, 0.4, 0.8]], b=[[None, 0.5, 0.6], [None, 0.5, 0.6]]))
    assert view["rounds"] == [2, 3]
    assert view["rows"][0]["after"][1] == {
        "accuracy_mean": pytest.approx(0.6),
        "accuracy_std": pytest.approx(stdev([0.4, 0.8])),
    }
    assert view["rows"][1]["after"][0] == {"accuracy_mean": 0.5, "accuracy_std": 0.0}


def test_the_best_within_a_budget_counts_even_if_the_method_falls_off_later():
    found = runs(a=[[0.6, 0.9, 0.7, 0.95]])
    view = within(found, {"a": 100}, Budget(client_seconds=6.0, bytes_per_client=1000.0))
    (row,) = view["rows"]
    assert row["within_seconds"]["accuracy_mean"] == pytest.approx(0.9)
    assert row["within_bytes"]["accuracy_mean"] == pytest.approx(0.9)
    assert view["budget"]["client_seconds"] == pytest.approx(6.0)


@pytest.mark.parametrize(("limit", "fits"), [(None, True), (100, True), (99, False)])
def test_a_method_fits_up_to_the_very_byte(limit, fits):
    (row,) = within(runs(a=[[0.6]]), {"a": 100}, Budget(peak_bytes_above_model=limit))["rows"]
    assert row["fits"] == fits
    assert (row["within_all"] is not None) == fits
    assert row["within_seconds"] is not None


def test_a_seed_that_reaches_no_evaluation_in_time_leaves_no_mean():
    found = {"a": [course(entries([0.6])), course(entries([0.6], seconds=9.0))]}
    (row,) = within(found, {"a": 1}, Budget(client_seconds=5.0))["rows"]
    assert row["within_seconds"] is None
    assert row["within_bytes"]["accuracy_mean"] == pytest.approx(0.6)


def test_the_usual_budget_is_what_the_cheapest_spent_with_all_its_seeds():
    cheap = [course(entries([0.5, 0.6], seconds=s)) for s in (1.0, 1.5)]
    free = [course(entries([0.5, 0.6], up=0, down=0))]
    assert usual({"cheap": cheap, "free": free}) == Budget(client_seconds=3.0, bytes_per_client=1000.0)
    assert usual({}) == Budget()


def test_cost_to_a_target_is_that_of_the_first_evaluation_there():
    view = to_target(runs(a=[[0.5, 0.8, 0.7], [0.5, 0.7, 0.9]], b=[[0.1], [0.1]], c=[[0.9], [0.1]]), 0.8)
    a, b, c = view["rows"]
    assert (a["reached"], a["rounds"], a["client_seconds"], a["bytes_per_client"]) == (2, 2.5, 5.0, 1250.0)
    assert (b["reached"], b["rounds"], b["client_seconds"]) == (0, None, None)
    assert (c["reached"], c["seeds"], c["rounds"]) == (1, 2, 1.0)
