"""The comparison's page is what its results say; what is missing is named, targets are met or missed by the numbers."""

from __future__ import annotations

import pytest
from benchmarks.comparison import TRIED
from benchmarks.comparison_cells import cells
from benchmarks.comparison_page import PAGE, page, pages, read, short
from benchmarks.comparison_pictures import draw, picture
from benchmarks.comparison_rows import ROWS as ROWS_OF_THE_COMPARISON
from benchmarks.comparison_targets import undecided, verdicts
from tests.benchmarks.comparison_stage import run, trial

ROWS = {"last_block": 0.78, "identity": 0.826, "fedavg": 0.83}
"""Accuracies at the end; all begin at 0.75."""


def made(**costs):
    """Three rows with two seeds on SST-2, half of FedAvg's costs but for FedAvg; two trials."""
    half = {"operations_per_client_round": 5e8, "client_cpu_seconds": 5.0, "peak_bytes_above_model": 1 << 19}
    runs = [
        run(row, [[0, 0.75 + seed / 100], [32, end - 0.02], [64, end + seed / 100]], seed, **(half | costs))
        if row != "fedavg"
        else run(row, [[0, 0.75 + seed / 100], [32, end - 0.02], [64, end + seed / 100]], seed)
        for row, end in ROWS.items()
        for seed in (0, 1)
    ]
    return {"runs": runs, "trials": [trial("identity", 0.001, 0.5), trial("identity", 0.01, 0.4, 0.81)]}


def line(text, start):
    """The first line that starts so, as cells."""
    found = next(one for one in text.splitlines() if one.startswith(f"| {start} |"))
    return [part.strip() for part in found.strip("|").split("|")]


def test_the_committed_page_and_readme_are_written_from_the_results():
    for path, text in pages(read()).items():
        assert path.read_text(encoding="utf-8") == text, f"run python -m benchmarks.comparison_page: {path}"


def test_every_committed_picture_that_the_page_shows_is_there():
    for name in {entry["set"] for entry in read()["runs"]}:
        assert picture(name).is_file()


def test_without_results_the_page_says_so():
    text = page({"runs": [], "trials": []})
    assert "nothing at all on SST-2, alpha 1; SST-2, alpha 0.1; AG News, alpha 1;" in text
    assert "|" not in text
    assert "says what has been run" in short({"runs": [], "trials": []})


def test_the_main_table_has_accuracies_gap_and_relative_costs():
    text = page(made())
    assert line(text, "head alone")[1:5] == ["75.5 ± 0.7", "75.5 ± 0.7", "2", "0"]
    wanted = [
        "75.5 ± 0.7",
        "83.1 ± 0.7",
        "2",
        "64",
        "-0.4 ± 0.0",
        "0.50 x",
        "0.50 x",
        "0.50 x",
        "6.4 kB",
        "19.2 kB",
    ]
    assert line(text, "identity")[1:] == wanted
    assert line(text, "FedAvg + checkpointing")[6:9] == ["1.00 x"] * 3
    assert line(text, "FedAvg + checkpointing")[5] == "–"
    assert "takes 1 GFLOP a client and round, 10 s of all" in text


def test_costs_to_the_target_are_those_of_the_crossing():
    text = page(made()).partition("Cost to 97 %")[2]
    assert text.startswith(" of FedAvg's best accuracy: 81.0 %.**")
    # From 75.5 to 81 after 32 rounds FedAvg crosses 80.995 at 31.97; identity at 37.06, on its way from 80.6 to 83.1.
    assert line(text, "FedAvg + checkpointing")[1:] == [
        "32", "0.32 TFLOP", "1.00 x", "5 s", "1.00 x", "0.0128 MB", "1.00 x",
    ]  # fmt: skip
    assert line(text, "identity")[1:5] == ["37", "0.185 TFLOP", "0.58 x", "2.9 s"]
    assert line(text, "last block")[1] == "not reached, best 78.5"


def test_within_bytes_stand_accuracy_and_rounds():
    text = page(made()).partition("| **Within bytes** |")[2]
    assert line(text, "identity")[1:] == ["83.1 (64)"] * 3
    dear = page(made(bytes_up_per_client_round=2500.0)).partition("| **Within bytes** |")[2]
    assert line(dear, "identity")[1:] == ["76.1 (4.0)", "81.2 (40)", "83.1 (64)"]
    assert "The runs do not say what these took." in dear
    known = page(made(head={"bytes_up": 30_000, "clients": 100})).partition("| **Within bytes** |")[2]
    assert "which took a client 0.3 kB, once." in known


def test_targets_are_met_and_missed_by_the_numbers():
    found = cells(made())
    told = {
        (asked[:20], place): (value, met)
        for asked, place, _, seeds, value, met in verdicts(found)
        if seeds == "2"
    }
    assert told["at most 0.6 points b", "SST-2, alpha 1"] == ("-0.4", "met")
    assert told["at least 2 points ab", "SST-2, alpha 1"] == ("+4.6", "met")
    assert told["operations to 97 % o", "SST-2, alpha 1"] == ("0.58 x", "met")
    assert len(told) == 4
    late = verdicts(cells(made(client_cpu_seconds=9.0)))
    slow = {place: met for asked, place, *_, met in late if "seconds" in asked}
    assert slow == {"SST-2, alpha 1": "**missed**"}
    assert any("few dimensions" in one for one in undecided(found))


def test_seeds_that_the_rival_lacks_decide_nothing():
    runs = [one for one in made()["runs"] if one["row"] != "last_block" or one["seed"] == 0]
    seeds = {
        asked[:20]: seeds for asked, _, row, seeds, *_ in verdicts(cells({"runs": runs})) if row == "identity"
    }
    assert (seeds["at most 0.6 points b"], seeds["at least 2 points ab"]) == ("2", "1")


def test_where_the_head_is_there_already_no_cost_is_compared():
    runs = [run(row, [[0, 0.85], [64, end]]) for row, end in (("identity", 0.86), ("fedavg", 0.86))]
    text = page({"runs": runs, "trials": []})
    assert "97 % of FedAvg's best accuracy: 83.4 %.** The head alone is there already." in text
    assert "Cost to 90 % of what FedAvg gains over the head alone: 85.9 %" in text
    assert not [asked for asked, *_ in verdicts(cells({"runs": runs})) if "to 97 %" in asked]


def test_a_row_that_never_gets_there_misses_the_target():
    runs = [run(row, [[0, 0.5], [64, end]]) for row, end in (("identity", 0.6), ("fedavg", 0.86))]
    costs = [(value, met) for asked, *_, value, met in verdicts(cells({"runs": runs})) if "to 97 %" in asked]
    assert costs == [("never there", "**missed**")] * 2


def test_without_the_rival_gaps_and_shares_are_dashes():
    text = page({"runs": [run("identity", [[0, 0.75], [64, 0.8]])], "trials": []})
    assert line(text, "identity")[5:9] == ["–"] * 4
    assert "Costs to a target need FedAvg + checkpointing." in text


def test_what_has_not_been_run_is_named():
    text = page(made())
    assert (
        "- SST-2, alpha 1: *last block, rank 1*, *identity, 2 blocks a step*, *mlp*, *full, on a tape*, "
        in text
    )
    assert "*FwdLLM*; seed 2 of *last block*, *identity*, *FedAvg + checkpointing*\n" in text
    assert "- nothing at all on SST-2, alpha 0.1;" in text


def test_what_all_rows_lack_is_said_once():
    runs = [run(row, [[0, 0.75], [64, 0.8]]) for row in ROWS_OF_THE_COMPARISON]
    assert "- SST-2, alpha 1: seeds 1, 2 of all rows\n" in page({"runs": runs, "trials": []})


def test_what_the_heads_sums_take_of_a_cost_is_told():
    text = page(made(head={"operations": 5e12, "clients": 100}))
    assert "The head's sums are 5 TFLOP of each row's operations." in text
    assert "of each row's operations" not in page(made())


def test_trials_and_origins_are_told():
    text = page(made())
    assert "| identity | 1 | `client.lr` 0.01, `step_factors.head` 0 | 81.0 | 0.4000 | **best** |" in text
    assert "| identity | 1 | `client.lr` 0.001, `step_factors.head` 0 | 80.0 | 0.5000 |  |" in text
    assert "- identity: `client.lr` 0.003, `server.lr` 1, `step_factors.head` 0" in text
    assert "Some CPU, 2 cores, 1 thread" in text
    for told in ("spry-fl 0.3.0, torch 2.13.0\n", "`abc1234`", "seeds: 0, 1\n", "dates: 2026-01-02\n"):
        assert told in text


def test_how_many_settings_each_row_tried_is_told():
    alike = page({"runs": [], "trials": [trial("identity", 0.1, 0.4), trial("mlp", 0.1, 0.4)]})
    assert (
        f"for 16 rounds, for each alpha, and were judged on {TRIED['data.test_examples']} training examples"
        in alike
    )
    assert "Tried 1 setting: all." in alike
    assert "commits: `abc1234`" in alike
    assert "Tried 2 settings: identity; 1 setting: mlp." in page({
        "runs": [],
        "trials": [*made()["trials"], trial("mlp", 0.1, 0.4)],
    })


def test_a_trial_that_broke_down_is_not_the_best():
    trials = [trial("identity", 0.1, None), trial("identity", 0.01, 0.4)]
    text = page({"runs": [], "trials": trials})
    assert "`client.lr` 0.1, `step_factors.head` 0 | 80.0 | – |  |" in text
    assert "0.4000 | **best**" in text


def test_the_readme_shows_main_rows_on_three_data_sets():
    text = short(made())
    assert line(text, "last block")[1:] == ["78.5 ± 0.7", "–", "–", "0.5 MiB", "0.5 GFLOP", "100 B"]
    assert "| identity |" not in text
    assert line(text, "the head in closed form, before round 1")[1:4] == ["75.5 ± 0.7", "–", "–"]
    assert "64 rounds of 4 steps" in text and "over 2 seeds" in text


@pytest.mark.parametrize("operations", [1e9, None])
def test_a_picture_is_drawn(operations, tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.comparison_pictures.PICTURES", tmp_path)
    draw(cells(made(operations_per_client_round=operations)))
    assert [path.name for path in tmp_path.iterdir()] == ["comparison-sst2.png"]


def test_the_page_is_where_the_results_folder_links_it():
    assert f"({PAGE.name})" in (PAGE.parent / "README.md").read_text(encoding="utf-8")


def test_reasons_are_told_of_what_the_recipe_and_its_rival_took():
    """A quarter of the way the recipe is at 97 % of the best, half of it the rival; sums cost as much as two rounds."""
    head = {"operations": 2e10, "cpu_seconds": 0.0, "bytes_up": 0, "bytes_down": 0, "clients": 100}
    own = [
        run("full", [[0, 0.5], [32, 0.97], [64, 0.99]], head=head, client_cpu_seconds=6.0),
        run("fedavg", [[0, 0.5], [64, 1.0]], head=head, operations_per_client_round=2e9),
    ]
    text = page({"runs": own, "trials": []})
    assert "a round of *full, on a tape* takes 0.50 x (SST-2) of FedAvg's" in text
    assert f"costs {32 / (64 * 0.47 / 0.5) / 2:.2f} x (SST-2) of FedAvg's" in text
    assert "seed by seed, 0.60 x (SST-2) of FedAvg's" in text
    assert "Why targets are missed" not in page({"runs": own[:1], "trials": []})
