"""Runs are compared only with their like, and labels say in what they differ."""

from __future__ import annotations

import inspect
from statistics import stdev

import pytest
from tests.report.made import MadeRun, comparison

from spry.federated.methods import METHODS
from spry.federated.traits import BACKPROPAGATING
from spry.report.groups import sections
from spry.report.load import find


def written(tmp_path, *runs):
    return find([run.write(tmp_path / str(place)) for place, run in enumerate(runs)])


def labels(tmp_path, *runs):
    found, _ = sections(written(tmp_path, *runs))
    return [group.label for section in found for group in section.groups]


def test_seeds_are_averaged(tmp_path):
    (section,), repeated = sections(find([comparison(tmp_path / "all", seeds=3)]))
    assert not repeated
    assert [len(group.runs) for group in section.groups] == [3, 3, 3]
    accuracies = [run.summary["test_accuracy"] for run in section.groups[1].runs if run.summary]
    assert section.groups[1].mean("test_accuracy") == pytest.approx(sum(accuracies) / 3)
    assert section.groups[1].spread("test_accuracy") == pytest.approx(stdev(accuracies))
    assert section.majority == pytest.approx(0.424)


def test_one_seed_has_no_spread(tmp_path):
    (section,), _ = sections(written(tmp_path, MadeRun()))
    assert section.groups[0].spread("test_accuracy") is None
    assert section.groups[0].mean("no such number") is None


def test_labels_name_the_settings_that_differ(tmp_path):
    many = MadeRun(settings={"method": {"count": 8}, "client": {"lr": 0.1}})
    assert labels(tmp_path, MadeRun(), many, MadeRun(method="fedsgd")) == [
        "spry, client.lr=default, count=1",
        "spry, client.lr=0.1, count=8",
        "fedsgd + checkpointing",
    ]


def test_a_methods_variants_have_the_names_that_a_comparison_gave_them(tmp_path):
    made = {"head_only-s0": MadeRun(), "head_only_block-s0": MadeRun(settings={"client": {"lr": 0.5}})}
    (section,), _ = sections(find([run.write(tmp_path / place) for place, run in made.items()]))
    assert [group.label for group in section.groups] == ["head_only", "head_only_block"]


def test_labels_tell_checkpointing_from_plain_backpropagation(tmp_path):
    plain = MadeRun(method="fedavg", settings={"method": {"checkpoint": False}})
    assert labels(tmp_path, plain, MadeRun(method="fedavg")) == ["fedavg", "fedavg + checkpointing"]


def test_a_list_may_differ(tmp_path):
    query = MadeRun(settings={"peft": {"targets": ["query"]}})
    assert len(set(labels(tmp_path, MadeRun(), query))) == 2


def test_data_sets_stay_apart(tmp_path):
    found, _ = sections(written(tmp_path, MadeRun(), MadeRun(dataset="bbc-news"), MadeRun(method="fedavg")))
    assert [(section.dataset, len(section.groups)) for section in found] == [("tweets", 2), ("bbc-news", 1)]


def test_the_same_run_counts_once(tmp_path):
    found, repeated = sections(written(tmp_path, MadeRun(), MadeRun()))
    assert len(found[0].runs) == 1
    assert [run.folder.name for run in repeated] == ["1"]


def test_without_a_test_split_the_generalized_accuracy_is_shown(tmp_path):
    (section,), _ = sections(written(tmp_path, MadeRun(tested=False)))
    assert section.accuracy == "generalized_accuracy"


def test_every_method_that_may_recompute_activations_is_known():
    for name, method in METHODS.items():
        assert ("backprop(s.checkpoint)" in inspect.getsource(method)) == (name in BACKPROPAGATING), name
