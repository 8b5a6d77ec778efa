"""The figures hold the numbers of the log, and survive logs of every length."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from tests.report.made import MadeRun, comparison

from spry.report import bars, curves, details, style, tradeoff
from spry.report.groups import group_runs
from spry.report.read import read_runs

HOSTILE = {
    "one run": [MadeRun()],
    "nothing yet": [MadeRun(rounds=0, finished=False)],
    "one round": [MadeRun(rounds=1, finished=False)],
    "no test split": [MadeRun(tested=False)],
    "many rounds": [MadeRun(rounds=200)],
    "uneven seeds": [MadeRun(), MadeRun(seed=1, rounds=3, finished=False)],
    "wide range of bytes": [MadeRun(up=8), MadeRun(method="fedavg", up=40_000_000)],
    "no bytes": [MadeRun(up=0)],
    "an older run": [MadeRun(), MadeRun(method="fedavg", operations=None)],
    "more groups than colours": [MadeRun(settings={"client": {"lr": 0.1 * k}}) for k in range(1, 10)],
}


def section_of(tmp_path, runs):
    (section,), _ = group_runs(
        read_runs([run.write(tmp_path / str(place)) for place, run in enumerate(runs)])
    )
    return section


def test_a_curve_is_the_mean_over_seeds_where_known(tmp_path):
    section = section_of(tmp_path, [MadeRun(seed=seed) for seed in range(3)])
    found = curves.average_curve(section.groups[0], curves.finished_rounds, "test_accuracy")
    values = [
        [round["test_accuracy"] for round in run.rounds if round["test_accuracy"]] for run in section.runs
    ]
    np.testing.assert_array_equal(found.x, [5, 10, 15, 20])
    np.testing.assert_allclose(found.mean, np.mean(values, axis=0))
    np.testing.assert_allclose(found.std, np.std(values, axis=0, ddof=1))


def test_places_on_the_x_axes_add_up(tmp_path):
    run = section_of(tmp_path, [MadeRun(up=1000, seconds=2.0)]).runs[0]
    assert curves.cumulative_bytes_up(run)[-1] == 20 * 10 * 1000
    assert curves.cumulative_seconds(run)[-1] == pytest.approx(20 * 0.97 * 2.0)


def test_a_round_in_which_memory_was_measured_counts_as_the_others(tmp_path):
    run = section_of(tmp_path, [MadeRun(seconds=2.0)]).runs[0]
    for client in (client for round in run.rounds[1:] for client in round["clients"]):
        client["slowed"] = False
    for client in run.rounds[0]["clients"]:
        client["slowed"] = True
    run.rounds[0]["client_seconds"] = 100.0
    np.testing.assert_allclose(np.diff(curves.cumulative_seconds(run), prepend=0.0), 0.97 * 2.0)


def test_a_trailing_mean_begins_short(tmp_path):
    group = section_of(tmp_path, [MadeRun()]).groups[0]
    losses = curves.average_curve(group, curves.finished_rounds, "loss").mean
    smooth = curves.average_curve(group, curves.finished_rounds, "loss", window=5).mean
    np.testing.assert_allclose(smooth, [losses[max(0, k - 4) : k + 1].mean() for k in range(20)])


@pytest.mark.parametrize(
    "draw", [curves.draw_curves, bars.draw_costs, tradeoff.draw_tradeoff], ids=["curves", "costs", "tradeoff"]
)
@pytest.mark.parametrize("runs", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("narrow", [False, True], ids=["wide", "narrow"])
@pytest.mark.filterwarnings("error")
def test_figures_survive_every_log(tmp_path, draw, runs, narrow):
    figure = draw(section_of(tmp_path, runs), narrow=narrow)
    figure.draw_without_rendering()


def test_legends_and_labels(tmp_path):
    section = group_runs(read_runs([comparison(tmp_path / "all")]))[0][0]
    figure = curves.draw_curves(section)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["head_only", "spry", "fedavg + checkpointing", "commonest answer"]
    covered = legend.get_window_extent()
    assert not any(covered.overlaps(axes.get_window_extent()) for axes in figure.axes)
    labels = [axes.get_xlabel() for axes in figure.axes[3:]]
    assert labels == ["rounds", "operations, all clients (GFLOP)", "sent up, all clients (MiB)"]


def test_where_a_run_has_not_counted_operations_the_axis_is_of_time(tmp_path):
    section = section_of(tmp_path, [MadeRun(), MadeRun(method="fedavg", operations=None)])
    assert curves.draw_curves(section).axes[4].get_xlabel() == "wall time, all clients (s)"
    assert [axes.get_title(loc="left") for axes in bars.draw_costs(section).axes] == [
        "peak memory above the model",
        "operations per client and round",
        "bytes up per client and round",
    ]


def test_a_narrow_figure_has_its_axes_below_each_other_and_type_that_can_be_read(tmp_path):
    section = group_runs(read_runs([comparison(tmp_path / "all")]))[0][0]
    for draw in (curves.draw_curves, bars.draw_costs, tradeoff.draw_tradeoff):
        figure = draw(section, narrow=True)
        figure.draw_without_rendering()
        assert len({round(axes.get_position().x0, 2) for axes in figure.axes}) == 1
        assert figure.get_size_inches()[0] == style.PHONE_WIDTH  # at 358 px, 9 pt are 12 px
    labels = [axes.get_xlabel() for axes in curves.draw_curves(section, narrow=True).axes]
    assert labels == ["rounds", "operations, all clients (GFLOP)", "sent up, all clients (MiB)", "rounds"]


def test_few_points_are_marked_and_a_share_ends_at_100_percent(tmp_path):
    section = section_of(
        tmp_path, [MadeRun(seed=seed, reaches=reaches) for seed, reaches in enumerate((0.9, 1.05))]
    )
    axes = curves.draw_curves(section).axes[0]
    assert axes.get_lines()[0].get_marker() == "o"
    assert axes.get_ylim()[1] <= 102 and axes.get_xlim()[0] < 0


def test_an_svg_is_the_same_each_time(tmp_path):
    section = section_of(tmp_path, [MadeRun()])
    assert style.svg(bars.draw_costs(section)) == style.svg(bars.draw_costs(section))


def test_marks_differ():
    looks = [(look["color"], look["linestyle"]) for look in map(style.mark, range(28))]
    assert len(set(looks)) == 28
    assert all(one[0] != other[0] and one[1] != other[1] for one, other in itertools.pairwise(looks))


def test_a_curve_begins_before_round_1_where_that_was_evaluated(tmp_path):
    seeds = [MadeRun(seed=seed, start=0.3 + 0.1 * seed).write(tmp_path / str(seed)) for seed in (0, 1)]
    (section,), _ = group_runs(read_runs(seeds))
    found = curves.average_curve(section.groups[0], curves.cumulative_seconds, "test_accuracy")
    begun = curves.from_start(section.groups[0], found, "test_accuracy")
    assert (begun.x[0], begun.mean[0], begun.std[0]) == (0, pytest.approx(0.35), pytest.approx(0.1 / 2**0.5))
    np.testing.assert_array_equal(begun.mean[1:], found.mean)
    first, *_ = details.evaluations(section.runs[0]).rows
    assert [cell.text for cell in first][:3] == ["0", "–", "30.0"]
    old = MadeRun().write(tmp_path / "old")
    (section,), _ = group_runs(read_runs([old]))
    assert curves.from_start(section.groups[0], found, "test_accuracy") is found
