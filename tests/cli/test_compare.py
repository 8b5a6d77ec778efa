"""``spry compare`` and ``spry report``, end to end on a tiny random model."""

from __future__ import annotations

from pathlib import Path

import pytest


def test_compare_prints_its_tables_and_writes_the_report(spry, tiny_config, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    command = ["compare", tiny_config, "--methods", "head_only,spry,fedavg", "--seeds", "0", "--out", "all"]
    result = spry(*command)
    assert result.code == 0, result.err
    rows = [line.split("  ")[0].strip() for line in result.out.splitlines()]
    methods = ["head_only", "spry", "fedavg + checkpointing"]
    wanted = ["commonest answer", *methods]
    assert [row for row in rows if row in wanted] == [*wanted, *methods, *methods, *methods]
    page = Path("all/report/index.html")
    assert result.err.splitlines()[-1] == f"Report: {page}"
    assert "After equal rounds, within equal budgets, to a target" in page.read_text(encoding="utf-8")
    assert "Best test accuracy (%) within equal budgets" in Path("all/comparison.md").read_text(
        encoding="utf-8"
    )
    again = spry(*command, "--json")
    assert [row["method"] for row in again.document["rows"]] == ["head_only", "spry", "fedavg"]
    assert again.document["tuning"] is None
    assert again.err == ""


def test_seeds_are_run_and_averaged(spry, tiny_config):
    command = ["compare", tiny_config, "--methods", "spry", "--set", "schedule.rounds=1", "--json"]
    result = spry(*command, "--no-backprop", "--seeds", "0,1")
    assert result.code == 0, result.err
    assert [row["method"] for row in result.document["rows"]] == ["spry"]
    assert result.document["rows"][0]["seeds"] == [0, 1]
    assert result.document["folder"] == "runs/reviews-compare"
    assert sorted(path.name for path in Path("runs/reviews-compare").glob("spry-*")) == ["spry-s0", "spry-s1"]


def test_by_default_three_seeds_and_backpropagation_with_checkpointing(spry, tiny_config):
    options = [
        "--set",
        "schedule.rounds=1",
        "--set",
        "client.steps=1",
        "--target",
        "0.01",
        "--budget-mib",
        "0.001",
    ]
    result = spry("compare", tiny_config, "--methods", "head_only", "--json", *options)
    assert result.code == 0, result.err
    assert result.err.startswith("Backpropagation with checkpointing is added (fedavg)")
    rows = result.document["rows"]
    assert [(row["method"], row["seeds"]) for row in rows] == [
        ("head_only", [0, 1, 2]),
        ("fedavg", [0, 1, 2]),
    ]
    assert result.document["views"]["target"]["target"] == pytest.approx(0.01)
    assert result.document["views"]["budget"]["budget"]["peak_bytes_above_model"] == pytest.approx(1048.576)


def test_a_tuned_comparison_says_what_it_chose(spry, tiny_config):
    options = ["--set", "schedule.rounds=1", "--set", "tune.grid.lr=[1e-3, 1e-2]", "--seeds", "0"]
    result = spry("compare", tiny_config, "--methods", "fedavg", *options)
    assert result.code == 0, result.err
    assert "at 2 points each, 1 rounds, seed 100" in result.out
    assert "1/3 fedavg, tuning 1" in result.err


def test_what_is_said_for_all_counts_for_all_and_the_recipe_is_named_once(spry, tiny_config):
    said = ["--set", "client.lr=0.25", "--set", "methods.fedavg.client.lr=0.125", "--set", "client.steps=1"]
    once = ["--set", "schedule.rounds=1", "--seeds", "0", "--no-backprop", "--out", "all"]
    result = spry("compare", tiny_config, "--methods", "spry,fedavg", *said, *once)
    assert result.code == 0, result.err
    lines = result.err.splitlines()
    assert [line for line in lines if line.startswith("recipe")] == [
        "recipe quickstart, but",
        "recipe of spry, but client.lr = 0.25 (0.001)",
        "recipe of fedavg, but client.lr = 0.125 (0.001)",
    ]
    assert "  schedule.rounds = 1 (16), " in result.err
    for method, lr in (("spry", "0.25"), ("fedavg", "0.125")):
        assert f"lr = {lr}\n" in Path(f"all/{method}-s0/config.toml").read_text(encoding="utf-8")


def test_stopping_a_comparison_says_how_to_go_on(spry, tiny_config, monkeypatch):
    from spry.cli import folders
    from spry.compare import compare

    def stopped(*arguments, **options):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(compare, "compare_methods", stopped)
    result = spry("compare", tiny_config, "--methods", "fedavg")
    assert (result.code, result.err) == (130, "Stopped before the run began.\n")
    record = Path("runs/reviews-compare/fedavg-s0/config.toml")
    record.parent.mkdir(parents=True)
    record.write_text("", encoding="utf-8")
    monkeypatch.setattr(folders, "choose_folder", lambda name, runs: Path("runs", name))
    result = spry("compare", tiny_config, "--methods", "fedavg")
    assert f"Go on with: spry compare {tiny_config} --methods fedavg" in result.err


def test_budgets_are_in_operations_bytes_and_processor_time(spry, tiny_config):
    options = ["--budget-operations", "5M", "--budget-cpu-seconds", "900", "--budget-bytes", "1e6"]
    once = ["--set", "schedule.rounds=1", "--seeds", "0", "--json"]
    result = spry("compare", tiny_config, "--methods", "fedavg", *options, *once)
    assert result.code == 0, result.err
    assert result.document["schema"] == 3
    view = result.document["views"]["budget"]
    assert view["budget"] == {
        "peak_bytes_above_model": None, "operations": 5e6, "bytes_per_client": 1e6, "cpu_seconds": 900.0
    }  # fmt: skip
    (row,) = view["rows"]
    assert row["within_cpu_seconds"] is not None and row["within_bytes_per_client"] is not None
    assert result.document["rows"][0]["operations"] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--budget-seconds", "3"], "--budget-cpu-seconds"),
        (["--budget-operations", "lots"], "such as 5e12"),
        (["--methods", "spry,fedavgg"], "Did you mean 'fedavg'?"),
        (["--methods", ","], "names no method"),
        (["--seeds", "0,one"], "whole numbers"),
    ],
)
def test_bad_lists_are_refused_before_anything_runs(spry, tiny_config, options, message):
    result = spry("compare", tiny_config, *options)
    assert result.code == 2
    assert message in result.err
    assert not Path("runs").exists()


def test_report_of_runs_and_where_it_goes(spry, tiny_config):
    for seed in (0, 1):
        assert spry("run", tiny_config, "--set", "schedule.rounds=2", "--set", f"seed={seed}").code == 0
    folders = sorted(Path("runs").iterdir())
    alone = spry("report", folders[0], "--json")
    assert alone.document["page"] == str(folders[0] / "report/index.html")
    both = spry("report", *folders)
    assert "2 seeds" in both.out
    assert Path("runs/report/index.html").is_file()
    elsewhere = spry("report", "runs", "--out", "there")
    assert elsewhere.err == "Report: there/index.html\n"
    assert [path.name for path in Path("there").glob("*.png")] == ["curves.png"]


def test_report_of_no_run(spry):
    result = spry("report", "nowhere")
    assert result.code == 2
    assert result.err.startswith("Error: nowhere is no folder.")


def test_without_a_configuration_the_quickstart_is_compared(spry, tiny_csv, tiny_model):
    data = ["--set", f"data.name={tiny_csv}", "--set", f"model.name={tiny_model}"]
    result = spry(
        "compare", "--methods", "head_only", "--seeds", "0", *data, "--set", "schedule.rounds=1", "--json"
    )
    assert result.code == 0, result.err
    assert "recipe quickstart, but schedule.rounds = 1 (16)" in result.err
