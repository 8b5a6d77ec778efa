"""What a run notes in its adapter's folder."""

from __future__ import annotations

import json

from tests.experiment.test_run import config as config

from spry.experiment.config import load_config
from spry.experiment.run import run
from spry.tasks.adapter_info import read_info


def test_columns_scores_and_the_run_stand_beside_the_adapter(config, tmp_path):
    list(run(config, tmp_path / "run"))
    info = read_info(tmp_path / "run" / "adapter")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (info.text, info.label, info.pair, info.max_length) == (
        ("text",),
        "label",
        False,
        config.model.max_length,
    )
    assert info.labels == ("negative", "positive")
    assert info.training == {
        "data": "reviews.csv",
        "method": config.method.name,
        "rounds": summary["rounds"],
        "seed": 0,
    }
    assert info.scores == {name: summary[name] for name in ("test_accuracy", "generalized_accuracy")}


def test_a_built_in_data_set_has_columns_of_its_own():
    from spry.experiment.adapter import columns_of

    columns = columns_of(load_config("quickstart"))
    assert (columns.text, columns.label) == (("text",), "sentiment")
