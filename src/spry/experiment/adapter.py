"""What a run adds to its adapter's folder: the columns it read, where it comes from, and what it scored."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spry.data.builtin import BUILTINS
from spry.data.table import Columns
from spry.experiment.config import Config
from spry.tasks.adapter_folder import add_facts
from spry.tasks.score import Score


def describe_adapter(config: Config, summary: Mapping[str, Any], folder: Path) -> None:
    data = config.data
    own = Columns(text=tuple(data.text), label=data.label)
    columns = BUILTINS[data.name].columns if data.name in BUILTINS else own
    score = Score.of_summary(summary)
    measured = {name: summary.get(name) for name in map(score.key, ("test", "validation", "generalized"))}
    add_facts(
        folder,
        text=columns.text,
        label=columns.label,
        training={
            "data": Path(data.name).name,
            "method": config.method.name,
            "rounds": int(summary["kept_after_rounds"]),
            "seed": config.seed,
        },
        scores={name: value for name, value in measured.items() if value is not None},
    )
