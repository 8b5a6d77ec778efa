"""Settings typed as ``key=value``, whose values are read as the type of the setting says."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from spry.core.errors import ConfigError
from spry.experiment.retired import for_all
from spry.experiment.values import annotation_of, annotation_of_option, parse_value
from spry.federated.methods import METHODS
from spry.tasks.kinds import TASKS


def parse_override(override: str, model: type[BaseModel]) -> tuple[str, Any]:
    key, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"setting {override!r} has no '='. Write key=value, for example client.lr=1e-3")
    key = key.strip()
    try:
        return key, parse_value(text, _annotation(for_all(key), model))
    except ValueError as error:
        raise ConfigError(f"setting {key} is {text.strip()!r}: {error}") from error


def _annotation(key: str, model: type[BaseModel]) -> Any:
    table, _, option = key.partition(".")
    if table == "method" and option != "name":
        return annotation_of_option((info.options for info in METHODS.values()), option)
    if table == "task" and option != "name":
        return annotation_of_option(TASKS.values(), option)
    return annotation_of(model, key)
