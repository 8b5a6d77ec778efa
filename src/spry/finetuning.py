"""Fine-tuning in one call: from objects or names to a PEFT model, its history and its run folder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from spry.cli import screen
from spry.cli.folders import run_folder
from spry.cli.progress import Watch
from spry.core.errors import ConfigError
from spry.experiment.config import load_config
from spry.experiment.given import Given
from spry.experiment.log import read_rounds
from spry.experiment.run import Finished, Running, run
from spry.models.pretrained import read_tokenizer
from spry.models.sources import Source
from spry.room import check_room

if TYPE_CHECKING:
    from peft import PeftModel


class Finetuned(NamedTuple):
    """What fine-tuning gives: the model with its trained adapter, a dictionary a round, and the run folder."""

    model: PeftModel
    history: list[dict[str, Any]]
    folder: Path


def finetune(
    model: str | Path | nn.Module | None = None,
    tokenizer: Any = None,
    dataset: Any = None,
    *,
    test: Any = None,
    text: str | Sequence[str] | None = None,
    label: str | None = None,
    clients: int | str | None = None,
    rounds: int | None = None,
    seed: int | None = None,
    recipe: str | Path = "quickstart",
    settings: Mapping[str, Any] | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
) -> Finetuned:
    """Fine-tune a classifier across clients by a recipe, and write the run folder that ``spry run`` writes.

    Args:
        model: A name as ``model.name`` takes it (``minilm``, a folder, a name on the Hub), or a Hugging Face sequence
            classifier, which becomes the base of the returned model; None takes the recipe's.
        tokenizer: The model's tokenizer, or the name or folder of one; None takes the one beside a model that is named.
        dataset: A ``datasets.Dataset`` or ``DatasetDict``, a pandas frame, a list of dicts, a file, or the name of a
            built-in or Hub data set; None takes the recipe's.
        test: The test part, in any of these forms; None holds out a fifth where the data has none.
        text: The text column, ``text`` unless the recipe says another, or two of them for pairs.
        label: The label column, ``label`` unless the recipe says another.
        clients: How many clients the examples are dealt to, or the column that says whose each example is; None takes
            the recipe's number.
        rounds: Rounds; None takes the recipe's.
        seed: The root of every random draw; None takes the recipe's.
        recipe: ``quickstart``, ``paper``, or a TOML file.
        settings: Other settings by dotted key, such as ``{"client.lr": 1e-3}``; ``spry settings`` lists them.
        folder: The run folder; None takes one in ``runs/``, that of the very same run if it is there.
        resume: Whether to go on with the run that ``folder`` holds.
        progress: Whether progress is shown on standard error.

    Returns:
        The trained ``PeftModel`` in evaluation mode, its history with one dictionary a round, and the run folder, whose
        ``adapter`` can be loaded without Spry.

    Raises:
        ConfigError: If a setting is given twice, or cannot be used.
        SpryError: If the model or the data cannot be used; the message says what to do.
    """
    model, tokenizer, dataset, test = map(_as_text, (model, tokenizer, dataset, test))
    if isinstance(tokenizer, str):
        tokenizer = read_tokenizer(tokenizer, Source(path=tokenizer))
    given = Given(model=_object(model), tokenizer=tokenizer, data=_object(dataset), test=_object(test))
    asked = {
        "model.name": _name_of(model),
        "data.name": _name_of(dataset),
        "data.test": _name_of(test),
        "data.text": [text] if isinstance(text, str) else text and list(text),
        "data.label": label,
        "schedule.rounds": rounds,
        "seed": seed,
        **_dealing(clients),
    }
    said, more = {key: value for key, value in asked.items() if value is not None}, dict(settings or {})
    if twice := sorted(said.keys() & more.keys()):
        raise ConfigError(f"{', '.join(twice)}: given as an argument and in settings. Give it once.")
    config = load_config(recipe, said | more)
    place = Path(folder) if folder is not None else run_folder(config, new=bool(given.names))
    if given.model is None and (note := check_room(config)) and progress:
        screen.say(note)
    running = run(config, place, resume=resume or folder is None, given=given)
    finished = _watched(running, config.method.name) if progress else _end_of(running)
    return Finetuned(_loaded(finished), read_rounds(place), place)


def _as_text(given: Any) -> Any:
    return os.fspath(given) if isinstance(given, os.PathLike) else given


def _object(given: Any) -> Any:
    """What stands in for a name, if it is none."""
    return None if isinstance(given, str) else given


def _name_of(given: Any) -> str | None:
    """What the configuration says: a name as it is; of an object where it came from, or its kind."""
    if given is None or isinstance(given, str):
        return given
    return str(getattr(getattr(given, "config", None), "_name_or_path", "") or type(given).__name__)


def _dealing(clients: int | str | None) -> dict[str, Any]:
    if isinstance(clients, str):
        return {"data.partition": "column", "data.column": clients}
    return {"data.clients": clients}


def _watched(running: Running, name: str) -> Finished:
    with Watch() as watch:
        return _end_of(running, lambda event: watch.show(name, event))


def _end_of(running: Running, show: Any = lambda event: None) -> Finished:
    while True:
        try:
            show(next(running))
        except StopIteration as stop:
            return stop.value


@torch.no_grad()
def _loaded(finished: Finished) -> PeftModel:
    """Put the trained weights into the model that was trained, in place of those that it began with."""
    module = finished.task.module
    for name, weight in finished.weights.items():
        module.get_parameter(name).copy_(weight)
    return module
