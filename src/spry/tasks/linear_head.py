"""The last map of a head, and the features that it reads."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.core.params import Params
from spry.core.units import Unit
from spry.data.encoded import Batch
from spry.forward.hooks import hooked
from spry.models.adapters.adapter import WRAPPER
from spry.tasks.head_fit import HeadFit
from spry.tasks.model_call import HALF

if TYPE_CHECKING:
    from spry.tasks.model_task import ModelTask

_COPY = ".modules_to_save.default"
"""What peft puts into the name of a layer of which it trains a copy."""
_WEIGHT = ".weight"


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearHead:
    """The map ``z = W x + b`` that a task's scores end in.

    Args:
        weight: The name of W, shape (C, D), among the trainable weights.
        bias: The name of b, shape (C,); None if there is none.
        own: Whether it holds something already: a checkpoint's or an adapter's trained head.
        read: ``(weights, batch) -> x``, shape (B, D), float32 or wider, without dropout.
        fit: What a batch's ``labels`` are.
    """

    weight: str
    bias: str | None
    classes: int
    features: int
    own: bool
    read: Callable[[Params, Batch], Tensor]
    fit: HeadFit = HeadFit.CLASSES


@runtime_checkable
class HasLinearHead(Protocol):
    """What a task may offer besides, so that its head can start in closed form."""

    def linear_head(self) -> LinearHead:
        """Find the last map; ModelError if the scores do not end in a linear one."""
        ...


def read_linear_head(task: ModelTask, fit: HeadFit, *, own: bool) -> LinearHead:
    """Find the last map of a task's head and what it reads, as many rows at once as training takes.

    Args:
        task: Owner of the model.
        fit: What the head is fitted to.
        own: Whether it holds something in any case.

    Raises:
        ModelError: If the scores do not end in a linear map.
    """
    params, batch, name = task.init(), task.probe(Key(0), examples=2), task.backbone.name
    classes = task.backbone.model.config.num_labels
    last = find_last_map(task.module, task.units, classes, lambda: task.logits(params, batch))
    if last is None:
        raise ModelError(
            f"{name}: its head does not end in a linear map that is trained, so that it has no closed form"
        )
    weight, bias = f"{last}.weight", f"{last}.bias"
    found = LinearHead(
        weight=weight,
        bias=bias if bias in params else None,
        classes=classes,
        features=params[weight].shape[1],
        own=own or name_in_base(weight) not in task.backbone.newly_initialized,
        read=lambda params, batch: _features(task, last, params, batch),
        fit=fit,
    )
    used = task.calling(params).params
    fixed = getattr(task.module.get_submodule(last), "bias", None)
    scores, features = task.logits(params, batch), found.read(params, batch)
    check_linear(scores, features, used[weight], used.get(bias, fixed), name)
    return found


@torch.inference_mode()
def _features(task: ModelTask, last: str, params: Params, batch: Batch) -> Tensor:
    """Read what a map of a task's model is given, shape (B, D)."""
    size = task.micro_batch_size or len(batch["labels"])
    starts = range(0, len(batch["labels"]), size)
    parts = [{name: value[at : at + size] for name, value in batch.items()} for at in starts]
    with task.alone(), passing_through(task.module.get_submodule(last)):
        return torch.cat([task.logits(params, part) for part in parts])


def find_last_map(
    module: nn.Module, units: Sequence[Unit], classes: int, run: Callable[[], object]
) -> str | None:
    """Name the linear map into the classes that is called last, of those in the head; None if there is none."""
    names = [name for unit in units if unit.head for name in unit.names]
    owners = [name.removesuffix(_WEIGHT) for name in names if name.endswith(_WEIGHT)]
    maps = {owner: module.get_submodule(owner) for owner in owners}
    linear = {
        owner: found
        for owner, found in maps.items()
        if isinstance(found, nn.Linear) and found.out_features == classes
    }
    called: list[str] = []
    with hooked(
        found.register_forward_hook(lambda *_, owner=owner: called.append(owner))
        for owner, found in linear.items()
    ):
        run()
    return called[-1] if called else None


@contextmanager
def passing_through(last: nn.Module) -> Generator[None]:
    """Let a map give what it is given, while the context is open: scores are then the features of the head."""

    def skip(_module: nn.Module, given: tuple[Any, ...], _output: Any) -> Any:
        return given[0]

    with last.register_forward_hook(skip):
        yield


def name_in_base(name: str) -> str:
    """The name that a trained weight of a ``PeftModel`` has in the base model."""
    return name.removeprefix(WRAPPER).replace(_COPY, "")


def check_linear(scores: Tensor, features: Tensor, weight: Tensor, bias: Tensor | None, model: str) -> None:
    """Refuse (ModelError) a model that changes what its last map gives: by a cap, a scale, a mean over places."""
    refused = f"{model}: its scores are not what its head's last map gives, so that it has no closed form"
    if features.shape != (len(scores), weight.shape[1]):
        raise ModelError(refused)
    expected = F.linear(features, weight.to(scores), None if bias is None else bias.to(scores))
    half = weight.dtype in HALF
    close = 5e-2 if half else 1e-3
    if (scores - expected).abs().max() > close * (1 + expected.abs().max()):
        raise ModelError(refused)
