"""Nodes with files of their own: what they agree on, whom they refuse, and that weights are those of one process."""

from __future__ import annotations

import csv

import pytest
import torch
from safetensors.torch import load_file
from tests.runtime.test_remote import Loopback

from spry.core.errors import ConfigError, DataError, TrainingError
from spry.experiment.agreed import agreed
from spry.experiment.checkpoint import CHECKPOINT_FILE
from spry.experiment.config import parse_record, read_config
from spry.experiment.log import read_rounds
from spry.experiment.node import build_node, read_own
from spry.experiment.run import Started, run
from spry.experiment.warm import Passed, make_answering

SETTINGS = {
    "runtime.data": "nodes",
    "data.partition": "column",
    "data.column": "author",
    "data.clients": None,
}


@pytest.fixture
def config(tiny_model, tiny_csv, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(
        f'[model]\nname = "{tiny_model}"\n[data]\nname = "{tiny_csv}"\ntest = "{tiny_csv}"\nclients = 4\n'
        "[schedule]\nrounds = 3\nclients_per_round = 2\nevaluate_every = 1\ncheckpoint_every = 1\n"
        '[client]\nsteps = 2\nbatch_size = 4\n[runtime]\nname = "flower"\n'
    )
    return read_config(path)


@pytest.fixture
def files(tiny_csv, tmp_path):
    """The rows of each author, in the order in which authors come, in a file each."""
    rows = list(csv.DictReader(tiny_csv.open()))
    written = []
    for author in sorted({row["author"] for row in rows}):
        path = tmp_path / f"{author}.csv"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(row for row in rows if row["author"] == author)
        written.append(path)
    return written


class Federation(Loopback):
    """Nodes that answer as Flower's processes do: from the text of the configuration, and what is said of each; one
    warm process answers for all, or a new one each message (``cold``).
    """

    def __init__(self, config, facts, cold=False):
        warm, text = make_answering(), config.dump()

        def answer(passed):
            return (make_answering() if cold else warm)(passed)

        class Said:
            def __init__(self, place):
                self.facts = facts[place]

            def answer(self, client, message, known):
                found = answer(Passed(text, self.facts, client, message, known))
                return found.data, found.known

        super().__init__(Said, nodes=range(len(facts)))


def weights(folder):
    return load_file(folder / CHECKPOINT_FILE)


def equal(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[n], right[n]) for n in left)


def same_log(one, other):
    left, right = read_rounds(one), read_rounds(other)
    for ours, theirs in zip(left, right, strict=True):
        for name in ("loss", "test_accuracy", "generalized_accuracy", "personalized_accuracy", "bytes_up"):
            assert ours[name] == theirs[name], name


@pytest.mark.parametrize(
    "settings", [{}, {"method.name": "spry", "method.send": "slopes", "server.send": "slopes"}]
)
def test_dealt_data_gives_the_same_bits_and_the_same_log(settings, config, tmp_path):
    config = config.with_settings(settings)
    here = config.with_settings({"runtime.name": "simulate"})
    list(run(here, tmp_path / "here"))
    courier = Federation(config, [{}, {}])
    list(run(config, tmp_path / "there", courier=courier))
    assert equal(weights(tmp_path / "here"), weights(tmp_path / "there"))
    same_log(tmp_path / "here", tmp_path / "there")
    assert len(courier.sent) == 4 + 6  # sums of the head once, then one message a round and client


def test_a_run_that_learns_nothing_is_ended_early_over_messages_too(config, tmp_path):
    """As ``simulate`` ends it: after as many evaluations as patience bears."""
    rows = [f"text {number} is {'good,positive' if number % 2 else 'bad,negative'}" for number in range(80)]
    (tmp_path / "texts.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    config = config.with_settings({
        "schedule.rounds": 6,
        "schedule.patience": 1,
        "schedule.keep": "best",
        "schedule.evaluate_every": 1,
        "client.lr": 1e-12,
        "data.name": str(tmp_path / "texts.csv"),
        "data.validation": 0.3,
    })
    list(run(config.with_settings({"runtime.name": "simulate"}), tmp_path / "here"))
    list(run(config, tmp_path / "there", courier=Federation(config, [{}, {}])))
    assert len(read_rounds(tmp_path / "here")) < 6
    same_log(tmp_path / "here", tmp_path / "there")


def test_own_files_give_the_weights_of_one_process_with_the_same_rows(config, files, tmp_path):
    there = agreed(config.with_settings(SETTINGS))
    assert there.runtime.labels == ["negative", "positive"] and there.task.name == "classification"
    assert there.model.max_length is not None and there.head.start == "closed-form"
    facts = [{"data": str(path), "client": number} for number, path in enumerate(files)]
    list(run(there, tmp_path / "there", courier=Federation(there, facts)))
    here = there.with_settings({"runtime.name": "simulate", "runtime.data": "dealt"})
    list(run(here, tmp_path / "here"))
    assert equal(weights(tmp_path / "here"), weights(tmp_path / "there"))


def test_nodes_with_other_labels_or_none_are_told_and_the_others_go_on(config, files, tmp_path):
    there = agreed(config.with_settings(SETTINGS))
    other, unlabelled = tmp_path / "other.csv", tmp_path / "unlabelled.csv"
    other.write_text(files[0].read_text().replace("positive", "neutral"))
    unlabelled.write_text("text,author\na film,me\n")
    facts = [
        {"data": str(path), "client": number} for number, path in enumerate([*files[:2], other, unlabelled])
    ]
    started, *rounds = run(there, tmp_path / "run", courier=Federation(there, [*facts, {"client": 9}]))
    assert isinstance(started, Started) and started.clients == 2 and len(rounds) == 3
    told = " ".join(started.notes)
    assert "other.csv" in told and "its labels are" in told and "neutral" in told
    assert "This federation's are negative, positive" in told
    assert "unlabelled.csv" in told and "'label'" in told and "this node has no data of its own" in told


def test_a_federation_of_which_no_node_fits_says_why(config, tmp_path):
    there = agreed(config.with_settings(SETTINGS))
    with pytest.raises(TrainingError, match=r"no node can take part.*there is no such file"):
        next(run(there, tmp_path / "run", courier=Federation(there, [{"data": "nowhere", "client": 0}] * 2)))


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"client": 0}, "has no data of its own"),
        ({"data": "x.csv"}, "this node's client is None"),
        ({"data": "x.csv", "client": -1}, "this node's client is -1"),
        ({"data": "x.csv", "client": 1}, "x.csv: there is no such file"),
    ],
)
def test_what_a_node_lacks_is_said(facts, told, config):
    with pytest.raises(DataError, match=told):
        build_node(agreed(config.with_settings(SETTINGS)), facts)


def test_labels_are_checked_against_what_is_agreed(config, files):
    there = agreed(config.with_settings(SETTINGS))
    assert read_own(there, str(files[0])).label_names == ("negative", "positive")
    with pytest.raises(DataError, match="spry flower init"):
        read_own(config.with_settings({"runtime.data": "nodes"}), str(files[0]))


def test_settings_that_need_the_clients_data_are_refused(config, files, tmp_path):
    there = agreed(config.with_settings({**SETTINGS, "schedule.local_tuning": 2}))
    with pytest.raises(ConfigError, match=r"schedule\.local_tuning"):
        next(
            run(
                there, tmp_path / "run", courier=Federation(there, [{"data": str(files[0]), "client": 0}] * 2)
            )
        )


def test_the_text_of_a_configuration_is_read_back(config):
    assert parse_record(config.dump()).is_same_run(config)
