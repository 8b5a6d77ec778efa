"""Whether a run's head starts in closed form, and what is to be said of that."""

from __future__ import annotations

import torch

from spry.core.errors import ConfigError, DataError, ModelError
from spry.data.federation import Federation
from spry.experiment.schema import HeadSettings
from spry.federated.algorithm import Algorithm
from spry.tasks.head_fit import HeadFit
from spry.tasks.model_task import ModelTask


def starts_in_closed_form(
    settings: HeadSettings,
    task: ModelTask,
    clients: Federation,
    algorithm: Algorithm,
    *,
    adapter: bool,
) -> tuple[bool, tuple[str, ...]]:
    """Choose, and say what a user would not expect of the choice.

    Args:
        adapter: Whether training begins with the weights of an adapter, which has a head.

    Raises:
        ConfigError: If a closed form is asked for, and the head or the data has none.
    """
    asked = settings.start == "closed-form"
    if settings.start == "drawn" or not (asked or task.kind.model_class.trains_head):
        return False, ()
    if adapter:
        return False, (("the head is the adapter's, not in closed form (head.start).",) if asked else ())
    try:
        own = task.linear_head().own
        _check(task, clients, algorithm)
    except (ModelError, DataError) as error:
        if asked:
            raise ConfigError(
                f"head.start is 'closed-form'. {error}. Set head.start=auto or drawn"
            ) from error
        return False, (f"{error}: the head starts as the model has it (head.start = 'auto').",)
    if own and not asked:
        told = "its trained head is kept; head.start=closed-form fits it anew."
        return False, (f"{task.backbone.name}: {told}",)
    return True, ()


def _check(task: ModelTask, clients: Federation, algorithm: Algorithm) -> None:
    if not algorithm.federated:
        raise ModelError(f"{algorithm.name} lets clients tell nothing, and a closed form takes sums of all")
    if (
        task.kind.head_fit is not HeadFit.CLASSES
    ):  # a label or a number that never varies has a closed form, too
        return
    names, there = task.backbone.label_names, torch.zeros(len(task.backbone.label_names), dtype=torch.bool)
    for client in clients.clients:
        assert client.data.labels is not None  # a closed form is for classes
        there[client.data.labels[client.train].long()] = True
    if not there.all():
        missing = [name for name, known in zip(names, there.tolist(), strict=True) if not known]
        raise DataError(
            f"no client has a training example of {', '.join(missing[:10])}, and a closed form takes some of each class"
        )
