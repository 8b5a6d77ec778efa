"""Run folders are read as far as they are written, and nothing else passes for one."""

from __future__ import annotations

import json

import pytest
from tests.report.made import MadeRun, comparison

from spry.core.errors import DataError
from spry.report.read import read_run, read_runs
from spry.tasks.score import Score


def test_a_finished_run_is_its_summary(tmp_path):
    run = read_run(MadeRun().write(tmp_path / "run"))
    assert run.method == "spry"
    assert run.config["data.alpha"] == pytest.approx(1.0)
    assert not any(key.startswith("methods.") for key in run.config)
    assert len(run.rounds) == 20
    assert run.score == Score(name="accuracy", baseline=0.424)


def test_what_is_unset_and_the_recipe_are_no_settings_so_that_old_and_new_runs_are_alike(tmp_path):
    """Before, unset settings were left out, and there was no recipe."""
    old, new = (MadeRun().write(tmp_path / name) for name in ("old", "new"))
    text = (new / "config.toml").read_text()
    (new / "config.toml").write_text(f'base = "quickstart"\n{text}\n[server]\nlr = "none"\n')
    assert read_run(new).config == read_run(old).config


def test_a_run_in_progress_tells_what_it_knows(tmp_path):
    finished = read_run(MadeRun(rounds=10, failing=True).write(tmp_path / "finished"))
    going = read_run(MadeRun(rounds=10, failing=True, finished=False).write(tmp_path / "going"))
    assert going.summary is None
    told = {key: value for key, value in finished.outcome.items() if key in going.outcome}
    assert going.outcome == pytest.approx(told)
    assert {"test_accuracy", "peak_bytes_above_model", "bytes_up_per_client_round"} <= told.keys()


@pytest.mark.parametrize("end", ["", '{"round": 20, "lo', '{"round": 20}'])
def test_a_last_line_without_its_end_is_left_out(tmp_path, end):
    folder = MadeRun(finished=False).write(tmp_path / "run")
    with (folder / "rounds.jsonl").open("a") as file:
        file.write(end)
    assert [round["round"] for round in read_run(folder).rounds] == list(range(20))


def test_a_run_that_has_only_begun_has_no_rounds(tmp_path):
    folder = MadeRun(finished=False).write(tmp_path / "run")
    (folder / "rounds.jsonl").unlink()
    (folder / "meta.json").unlink()
    run = read_run(folder)
    assert run.rounds == ()
    assert run.outcome["test_accuracy"] is None


def test_a_comparison_keeps_its_order_of_methods(tmp_path):
    folder = comparison(tmp_path / "all", seeds=2)
    (folder / "report").mkdir()
    runs = read_runs([folder, folder / "spry-s0"])
    assert [(run.method, run.config["seed"]) for run in runs] == [
        (method, seed) for method in ("head_only", "spry", "fedavg") for seed in (0, 1)
    ]


def test_a_comparison_in_progress_is_read_by_name(tmp_path):
    folder = comparison(tmp_path / "all")
    (folder / "comparison.json").unlink()
    assert [run.method for run in read_runs([folder])] == ["fedavg", "head_only", "spry"]


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"is no folder.*spry run"):
        read_runs([tmp_path / "nowhere"])
    with pytest.raises(DataError, match="holds no run"):
        read_runs([tmp_path])
    with pytest.raises(DataError, match=r"has no config\.toml"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("rounds.jsonl", '{"round": 0\n', "line 1 is damaged"),
        ("summary.json", "{", "summary.json is damaged"),
        ("config.toml", "= 3", "is not TOML"),
        ("config.toml", "seed = 3", "no setting 'method.name'"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, file, content, message):
    folder = MadeRun().write(tmp_path / "run")
    (folder / file).write_text(content)
    with pytest.raises(DataError, match=message):
        read_run(folder)


def test_made_runs_have_the_keys_of_real_ones(tmp_path):
    """``MadeRun`` stands in for the real thing here; tests/cli runs the real thing."""
    from spry.experiment.log import to_json
    from spry.federated.algorithm import ServerState
    from spry.runtime.records import ClientRecord, Round

    client = ClientRecord(
        client=0, units=(), examples=1, steps=1, loss=1.0, bytes_up=1, bytes_down=1, seconds=0.1
    )
    state = ServerState(round=1, weights={}, optimizer={})
    real = to_json(
        Round(
            number=0, state=state, clients=(client,), untrained_units=(), seconds=0.1, peak_bytes=1,
            score_name="accuracy",
        )
    )  # fmt: skip
    line = (MadeRun().write(tmp_path / "run") / "rounds.jsonl").read_text().splitlines()[0]
    made = json.loads(line)
    assert made.keys() == real.keys()
    assert made["clients"][0].keys() == real["clients"][0].keys()
