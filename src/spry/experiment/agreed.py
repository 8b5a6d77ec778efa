"""What a federation's nodes agree on, in a configuration that leaves nothing to the data of one of them."""

from __future__ import annotations

from typing import Any

from spry.experiment.build import build
from spry.experiment.config import Config
from spry.experiment.privacy_budget import noise_for_all_rounds


def agreed(config: Config) -> Config:
    """Say in a configuration what nodes with data of their own cannot find out by themselves, each for all.

    That is the task, its labels in order, where texts are cut and whether the head starts in closed form, as they
    follow from the data that the configuration names; and how much noise each client adds, where clients do.
    """
    config = config.with_settings({"runtime.name": "flower", **noise_of_clients(config)})
    if config.runtime.data == "dealt":
        return config
    experiment = build(config)
    facts = experiment.facts.summary()
    said: dict[str, Any] = {
        "runtime.labels": list(experiment.task.backbone.label_names),
        "head.start": "closed-form" if experiment.closed_form else "drawn",
        "task.name": experiment.task.kind.name,
    }
    if facts.get("max_length"):
        said["model.max_length"] = facts["max_length"]
    return config.with_settings(said)


def noise_of_clients(config: Config) -> dict[str, float]:
    """Find the setting of the noise that clients add, if it follows from the budget: enough for all rounds of a run,
    where it is not known yet who will be asked in how many.
    """
    if config.privacy.mechanism != "local" or config.privacy.noise is not None:
        return {}
    if config.runtime.data == "nodes":
        return {"privacy.noise": noise_for_all_rounds(config)}
    found = build(config).parts.spending
    assert found is not None  # the mechanism counts
    return {"privacy.noise": found.noise}
