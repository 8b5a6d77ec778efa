"""What an adapter's user must know beside its weights: ``spry.json`` in the adapter's folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from spry.core.errors import ModelError
from spry.core.wording import told
from spry.models.base import BaseRecord

INFO = "spry.json"
FORMAT = 1


class AdapterInfo(BaseModel):
    """How texts become answers with an adapter, and where it comes from; None or empty for what is not known.

    Args:
        task: What the Hub calls the task.
        task_name: What settings call it.
        task_options: Its options.
        kind: The adapter, as settings call it.
        labels: What the head's outputs are, such as classes, in the order of their numbers.
        text: The columns of the data that were read as text, in order.
        label: The column of the labels.
        pair: Whether an example is a pair of texts.
        max_length: Tokens after which a text is cut.
        dtype: What the model computes in.
        pad_token: What fills short texts.
        training: Such as data set, method, rounds and seed.
        scores: By part and measure, such as ``test_accuracy``.
    """

    model_config = ConfigDict(frozen=True)

    format: int = FORMAT
    spry: str
    task: str = "text-classification"
    task_name: str = "classification"
    task_options: Mapping[str, Any] = {}
    kind: str
    labels: tuple[str, ...]
    text: tuple[str, ...] | None = None
    label: str | None = None
    pair: bool | None = None
    max_length: int | None = None
    dtype: str
    pad_token: str
    base: BaseRecord
    training: Mapping[str, str | int | float] = {}
    scores: Mapping[str, float] = {}

    def write(self, folder: Path) -> None:
        (folder / INFO).write_text(self.model_dump_json(indent=2, exclude_none=True) + "\n", encoding="utf-8")


def read_info(folder: Path) -> AdapterInfo:
    """Read ``spry.json`` of an adapter's folder.

    Raises:
        ModelError: If it is missing, damaged or of a later format.
    """
    path = folder / INFO
    if not path.is_file():
        raise ModelError(
            f"{folder} has no {INFO}, which says what an adapter learnt and how its base is loaded. Give a run "
            "folder or an adapter folder of this version of Spry, or load the adapter with peft."
        )
    try:
        info = AdapterInfo.model_validate_json(path.read_bytes())
    except ValidationError as error:
        errors = error.errors()
        place = errors[0]["loc"]
        where = ".".join(map(str, place)) or "the file"
        raise ModelError(
            f"{path} is damaged (at {where}: {told(errors, len(place))}). Put the whole file back."
        ) from error
    if info.format > FORMAT:
        raise ModelError(
            f"{path} has format {info.format}; this Spry reads format {FORMAT}. Use Spry {info.spry} or later."
        )
    return info
