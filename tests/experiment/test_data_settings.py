"""Settings of data reach the reader, those in vain are named, and what was found is written down."""

from __future__ import annotations

import json

import pytest

from spry.cli.progress import opening
from spry.core.errors import ConfigError, DataError, ModelError
from spry.experiment.build import _usual_clients, build
from spry.experiment.config import Config, read_config
from spry.experiment.folder import META, SUMMARY
from spry.experiment.run import run
from spry.experiment.without_effect import without_effect
from spry.report.details import setting
from spry.report.groups import group_runs
from spry.report.read import read_run


@pytest.fixture
def config(tiny_model, tiny_csv, tmp_path):
    lines = tiny_csv.read_text(encoding="utf-8").splitlines()
    # texts of their own, so that none is dropped as a duplicate of a test text
    rows = [
        f"{line.split(',', 1)[0]} {'a ' * number},{line.split(',', 1)[1]}"
        for number, line in enumerate(lines[1:])
    ]
    (tmp_path / "reviews.csv").write_text("\n".join([lines[0], *rows]) + "\n", encoding="utf-8")
    path = tmp_path / "config.toml"
    path.write_text(
        f'[model]\nname = "{tiny_model}"\n[data]\nname = "{tmp_path / "reviews.csv"}"\nclients = 6\n'
        "[schedule]\nrounds = 1\nclients_per_round = 3\nevaluate_every = 1\n[client]\nsteps = 1\nbatch_size = 4\n"
    )
    return read_config(path)


def test_how_a_file_is_written_can_be_set(config, tmp_path):
    rows = "".join(f"caf\xe9 {number}~{number % 2}\n" for number in range(40))
    (tmp_path / "a.csv").write_bytes(f"text~label\n{rows}~1\n".encode("cp1252"))
    settings = {"data.name": str(tmp_path / "a.csv"), "data.encoding": "cp1252", "data.separator": "~"}
    with pytest.raises(DataError, match=r"1 of 41 rows have an empty text.*data.blank=skip"):
        build(config.with_settings(settings))
    facts = build(config.with_settings({**settings, "data.blank": "skip"})).facts
    assert facts.readings[0].left_out[0].rows == 1
    assert facts.readings[0].format == "CSV with '~'"


def test_a_part_of_a_hub_name_can_be_set(config, monkeypatch):
    asked = {}
    monkeypatch.setattr("spry.data.hub.tables", lambda *given, **named: asked.update(named) or pytest.skip())
    try:
        build(
            config.with_settings({
                "data.name": "nyu-mll/glue",
                "data.subset": "mrpc",
                "data.test": "validation",
            })
        )
    except pytest.skip.Exception:
        assert asked == {"subset": "mrpc", "test": "validation"}


def test_the_length_is_found_once_and_the_same_for_all_methods(config):
    lengths = {
        build(config.for_method(name, seed)).facts.tokens.max_length
        for name, seed in (("spry", 0), ("fedavg", 1), ("head_only", 2))
    }
    assert len(lengths) == 1
    assert lengths != {64}
    with pytest.raises(ModelError, match=r"max_length is 33. Allowed: 1 to 32"):
        build(config.with_settings({"model.max_length": 33}))


@pytest.mark.parametrize(("clients", "asked"), [(4, 4), (12, 10)])
def test_ten_clients_are_asked_or_all_where_fewer_have_examples(config, tmp_path, clients, asked):
    own = config.with_settings({
        "data.clients": clients, "schedule.clients_per_round": None, "data.partition": "iid"
    })  # fmt: skip
    started, record = run(own, tmp_path / "run")
    assert opening("spry", started).split(", ")[1:3] == [f"{clients} clients", f"{asked} a round"]
    assert len(record.clients) == asked
    for file in (META, SUMMARY):
        known = json.loads((tmp_path / "run" / file).read_text())
        assert (known["data"] if file == META else known)["clients_per_round"] == asked
    (section,), _ = group_runs([read_run(tmp_path / "run")])
    assert f", {asked} a round, " in setting(section)


def test_a_number_of_clients_that_is_set_is_not_lessened(config):
    with pytest.raises(ConfigError, match=r"10 clients a round asked for; there are 4"):
        build(config.with_settings({"data.clients": 4, "schedule.clients_per_round": 10}))


def test_a_run_writes_down_what_was_and_its_report_says_it(config, tmp_path):
    settings = {
        "data.partition": "column",
        "data.column": "author",
        "data.test_examples": 9,
        "data.clients": 55,
    }
    started, *_ = run(config.with_settings(settings), tmp_path / "run")
    assert any(line.startswith("clients: 7 (by column 'author')") for line in started.data)
    assert "data.clients = 55 has no effect" in " ".join(started.notes)
    meta = json.loads((tmp_path / "run" / META).read_text())["data"]
    summary = json.loads((tmp_path / "run" / SUMMARY).read_text())
    for found in (meta, summary):
        assert (found["clients"], found["test_examples"], found["clients_without_examples"]) == (7, 9, 0)
        assert found["examples_per_client"]["least"] <= found["examples_per_client"]["most"]
        assert found["max_length"] == 32 < found["tokens"]["median"] < found["tokens"]["longest"]
        assert 0 < found["share_cut"] <= 1
    (section,), _ = group_runs([read_run(tmp_path / "run")])
    told = setting(section)
    assert told.startswith("7 clients of ")
    assert f"texts cut at {meta['max_length']} tokens" in told
    assert "9 test examples" in told


@pytest.mark.parametrize(
    ("settings", "vain"),
    [
        ({}, []),
        ({"data.column": "author"}, ["data.column"]),
        ({"data.partition": "iid", "data.alpha": 0.1, "data.clients": 5}, ["data.alpha"]),
        (
            {"data.partition": "column", "data.column": "author", "data.alpha": 0.1, "data.clients": 5},
            ["data.clients", "data.alpha"],
        ),
    ],
)
def test_settings_of_another_partition_are_in_vain(settings, vain):
    notes = without_effect(Config().with_settings(settings).data)
    assert [note.split(" = ")[0] for note in notes] == vain


def test_a_partition_by_column_needs_its_column(config):
    with pytest.raises(ConfigError, match=r"data.column is unset. Name the column"):
        build(config.with_settings({"data.partition": "column"}))


@pytest.mark.parametrize(("examples", "clients"), [(20_000, 100), (799, 99), (48, 6), (3, 1)])
def test_clients_that_nobody_numbered_have_about_a_batch_of_examples_each(examples, clients):
    assert _usual_clients(examples, 8) == clients
