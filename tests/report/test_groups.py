"""Runs are compared only with their like, and labels say in what they differ."""

from __future__ import annotations

from statistics import stdev

import pytest
from tests.report.made import MadeRun, comparison

from spry.report.groups import group_runs
from spry.report.read import read_runs


def written(tmp_path, *runs):
    return read_runs([run.write(tmp_path / str(place)) for place, run in enumerate(runs)])


def labels(tmp_path, *runs):
    found, _ = group_runs(written(tmp_path, *runs))
    return [group.label for section in found for group in section.groups]


def test_seeds_are_averaged(tmp_path):
    (section,), repeated = group_runs(read_runs([comparison(tmp_path / "all", seeds=3)]))
    assert not repeated
    assert [len(group.runs) for group in section.groups] == [3, 3, 3]
    accuracies = [run.summary["test_accuracy"] for run in section.groups[1].runs if run.summary]
    assert section.groups[1].mean("test_accuracy") == pytest.approx(sum(accuracies) / 3)
    assert section.groups[1].std("test_accuracy") == pytest.approx(stdev(accuracies))
    assert section.score.baseline == pytest.approx(0.424)


def test_one_seed_has_no_spread(tmp_path):
    (section,), _ = group_runs(written(tmp_path, MadeRun()))
    assert section.groups[0].std("test_accuracy") is None
    assert section.groups[0].mean("no such number") is None


def test_labels_name_the_settings_that_differ(tmp_path):
    many = MadeRun(settings={"method": {"num_directions": 8}, "client": {"lr": 0.1}})
    assert labels(tmp_path, MadeRun(), many, MadeRun(method="fedsgd")) == [
        "spry, client.lr=default, num_directions=1",
        "spry, client.lr=0.1, num_directions=8",
        "fedsgd + checkpointing",
    ]


def test_a_methods_variants_have_the_names_that_a_comparison_gave_them(tmp_path):
    made = {"head_only-s0": MadeRun(), "head_only_block-s0": MadeRun(settings={"client": {"lr": 0.5}})}
    (section,), _ = group_runs(read_runs([run.write(tmp_path / place) for place, run in made.items()]))
    assert [group.label for group in section.groups] == ["head_only", "head_only_block"]


def test_labels_tell_checkpointing_from_plain_backpropagation(tmp_path):
    plain = MadeRun(method="fedavg", settings={"method": {"checkpoint": False}})
    assert labels(tmp_path, plain, MadeRun(method="fedavg")) == ["fedavg", "fedavg + checkpointing"]


def test_a_list_may_differ(tmp_path):
    query = MadeRun(settings={"peft": {"targets": ["query"]}})
    assert len(set(labels(tmp_path, MadeRun(), query))) == 2


def test_data_sets_stay_apart(tmp_path):
    found, _ = group_runs(written(tmp_path, MadeRun(), MadeRun(dataset="bbc-news"), MadeRun(method="fedavg")))
    assert [(section.dataset, len(section.groups)) for section in found] == [("tweets", 2), ("bbc-news", 1)]


def test_the_same_run_counts_once(tmp_path):
    found, repeated = group_runs(written(tmp_path, MadeRun(), MadeRun()))
    assert len(found[0].runs) == 1
    assert [run.folder.name for run in repeated] == ["1"]


def test_without_a_test_split_the_generalized_accuracy_is_shown(tmp_path):
    (section,), _ = group_runs(written(tmp_path, MadeRun(tested=False)))
    assert section.key == "generalized_accuracy"
