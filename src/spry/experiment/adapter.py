"""What a run adds to its adapter's folder: the columns it read, where it comes from, and what it scored."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from spry.core.errors import DiskError, ModelError, nearest
from spry.core.params import Params
from spry.data.builtin import BUILTINS
from spry.data.table import Columns
from spry.experiment.config import Config
from spry.experiment.folder import CONFIG
from spry.tasks.adapter_folder import ADAPTER, PEFT_CONFIG, adapter_within, add_facts
from spry.tasks.adapter_info import read_info
from spry.tasks.kinds import make_task
from spry.tasks.model_task import ModelTask
from spry.tasks.score import Score
from spry.tasks.score_text import score_name, score_with_unit

MEASURED = ("test", "validation", "generalized")
"""What the model itself is evaluated on; personalized scores are of other weights."""


def columns_of(config: Config) -> Columns:
    """Which columns of its data a run reads: those of the settings, unless the data set is built in."""
    data = config.data
    built_in = BUILTINS.get(data.name)
    return built_in.columns if built_in else Columns(text=tuple(data.text), label=data.label)


def write_adapter(task: ModelTask, weights: Params, folder: Path) -> None:
    """Save an adapter; if the disk refuses, the DiskError says that the run's checkpoint has it all the same."""
    try:
        task.save_adapter(weights, folder)
    except (OSError, SafetensorError) as error:
        raise DiskError(
            f"cannot write the adapter into {folder} ({error}); the last checkpoint has its weights. Make room, then "
            "resume the run."
        ) from error


def describe_adapter(config: Config, summary: Mapping[str, Any], folder: Path) -> None:
    score, info = Score.of_summary(summary), read_info(folder)
    measured = {score.key(part): summary.get(score.key(part)) for part in MEASURED}
    kind = make_task(info.task_name, info.task_options)
    columns = kind.target.columns(columns_of(config))
    add_facts(
        folder,
        kind,
        text=columns.text,
        label=columns.label,
        training={
            "data": Path(config.data.name).name,
            "method": config.method.name,
            "rounds": int(summary["kept_after_rounds"]),
            "seed": config.seed,
            **({} if config.start is None else {"began_with": _name_of(config.start)}),
        },
        scores={name: value for name, value in measured.items() if value is not None},
    )


def _name_of(start: str) -> str:
    """The name of a run or adapter folder, without the folders that it is in."""
    path = Path(start)
    return path.parent.name if path.name == ADAPTER and path.parent.name else path.name


def describe_start(folder: Path) -> str:
    """Say what training begins with."""
    info = read_info(folder)
    known = [(*Score.of_key(key), value) for key, value in info.scores.items()]
    scores = ", ".join(
        f"{score_name(score, part)} {score_with_unit(value, score)}" for part, score, value in known
    )
    return f"training begins with the weights of {folder}" + (f" (there: {scores})." if scores else ".")


def find_adapter_folder(given: Path) -> Path:
    """Find the adapter in a run folder, or in the folder itself.

    Raises:
        ModelError: If there is none; it says what is there instead.
    """
    found = adapter_within(given)
    if found is not None:
        return found
    if not given.is_dir():
        beside = (
            [path.name for path in given.parent.iterdir() if path.is_dir()] if given.parent.is_dir() else []
        )
        raise ModelError(f"{given}: there is no such folder. {nearest(given.name, beside)}")
    if (given / CONFIG).is_file():
        raise ModelError(
            f"{given} holds a run that is not finished, so it has no adapter yet: spry resume {given}"
        )
    within = sorted(path.parent.parent for path in given.rglob(f"{ADAPTER}/{PEFT_CONFIG}"))
    several = (
        f"It holds {len(within)} runs; name one, such as {within[0]}."
        if within
        else "Give the folder of a run."
    )
    raise ModelError(f"{given} is neither a run folder nor an adapter folder. {several}")
