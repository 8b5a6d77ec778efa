"""What is said of the setting of several runs."""

from __future__ import annotations

import json

from tests.report.made import MadeRun

from spry.report.details import setting
from spry.report.groups import group_runs
from spry.report.read import read_runs


def told(tmp_path, *runs):
    """The setting of made runs, of which each has the settings and the facts of the data that are given."""
    folders = []
    for seed, (settings, data) in enumerate(runs):
        folder = MadeRun(seed=seed, settings=settings).write(tmp_path / str(seed))
        meta = json.loads((folder / "meta.json").read_text())
        (folder / "meta.json").write_text(json.dumps({**meta, "data": data}))
        folders.append(folder)
    (section,), _ = group_runs(read_runs(folders))
    return setting(section)


def sizes(least, most, **others):
    return {"clients": 100, "examples_per_client": {"least": least, "most": most}, **others}


def test_sizes_of_clients_are_over_all_seeds_and_what_differs_is_left_out(tmp_path):
    one = ({}, sizes(3, 20, max_length=41, share_cut=0.05))
    other = ({}, sizes(1, 9, max_length=43, share_cut=0.05))
    assert told(tmp_path / "two", one, other) == (
        "100 clients of 1 to 20 examples (Dirichlet 1.0), 10 a round, LoRA of rank 1; 20 rounds; seeds 0, 1"
    )
    assert ", LoRA of rank 1, texts cut at 41 tokens (5.0%); 20 rounds; seed 0" in told(tmp_path / "one", one)


def test_what_was_asked_is_said_where_nothing_was_set(tmp_path):
    unset = {"schedule": {"clients_per_round": "none"}}
    assert told(tmp_path, (unset, sizes(4, 4, clients_per_round=5))).startswith(
        "100 clients of 4 examples (Dirichlet 1.0), 5 a round, "
    )
