"""What a federation's nodes agree on, in a configuration that leaves nothing to the data of one of them."""

from __future__ import annotations

from typing import Any

from spry.experiment.build import build
from spry.experiment.config import Config


def agreed(config: Config) -> Config:
    """Say in a configuration what nodes with data of their own cannot find out by themselves, each for all.

    That is the task, its labels in order, where texts are cut and whether the head starts in closed form, as they
    follow from the data that the configuration names.
    """
    if config.runtime.data == "dealt":
        return config.with_settings({"runtime.name": "flower"})
    experiment = build(config)
    facts = experiment.facts.summary()
    said: dict[str, Any] = {
        "runtime.name": "flower",
        "runtime.labels": list(experiment.task.backbone.label_names),
        "head.start": "closed-form" if experiment.closed_form else "drawn",
        "task.name": experiment.task.kind.name,
    }
    if facts.get("max_length"):
        said["model.max_length"] = facts["max_length"]
    return config.with_settings(said)
