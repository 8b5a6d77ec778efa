"""What a model's name means: to ``spry check`` and ``spry memory`` the same as to ``spry run``, and beyond it a shape.

A shape is one of ``ARCHITECTURES`` with random weights. ``shape:NAME`` asks for it; a bare name, or a name of
``PUBLISHED``, means a shape only where no model of that name is on this machine, and then a note says so.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from spry.core.errors import ConfigError
from spry.models.sources import FRIENDLY, Source, find_source, is_here
from spry.profile.architectures import ARCHITECTURES, PUBLISHED, Architecture, find_architecture

SHAPE = "shape:"
MISSPELT = 0.85
"""From which likeness on a name is taken for a misspelt one; models on the Hub are called bert-base-uncased, too."""


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """A shape, or where a model's files are; the note is for the user."""

    architecture: Architecture | None = None
    source: Source | None = None
    note: str = ""


def resolve_model(model: str) -> Resolved:
    """Find what a name means.

    Raises:
        ConfigError: If there is no such shape.
        ModelError: If the model should be on this machine and is not.
    """
    if model.startswith(SHAPE):
        return Resolved(architecture=find_architecture(model.removeprefix(SHAPE)))
    if not is_here(model):
        shape = PUBLISHED.get(model, model)
        if shape in ARCHITECTURES:
            known = "the shape of that name" if shape == model else "a shape of its sizes"
            note = f"{model}: no such model is on this machine; {known} is taken ({SHAPE}{shape})."
            return Resolved(architecture=ARCHITECTURES[shape], note=note)
        meant = difflib.get_close_matches(model, [*FRIENDLY, *ARCHITECTURES], n=1, cutoff=MISSPELT)
        if meant and "/" not in model:
            raise ConfigError(f"there is no model or shape {model!r}. Did you mean {meant[0]!r}?")
    return Resolved(source=find_source(model))
