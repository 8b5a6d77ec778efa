"""What a routed model answers, and how often its local adapter did."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F

from spry.contrib.flow.policy import Policy, mixed, standardised
from spry.core.errors import ModelError
from spry.core.params import Params, without_own
from spry.data.encoded import Batch
from spry.tasks.classification import Classification
from spry.tasks.model_task import ModelTask
from spry.tasks.task import Metrics

Routing = Literal["soft", "hard"]
MOST_LOGGED = 1000
"""Up to so many instances a log has each one's gate."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RoutedMetrics:
    """The metrics of a routed model's answers, and what is of each instance, in the order of evaluation.

    Args:
        gates: The local adapter's say, in [0, 1].
        right: Whether the global adapter alone, as it was trained with the policy, answers rightly; and the local one.
    """

    answers: Metrics
    gates: tuple[float, ...] = ()
    right: tuple[tuple[bool, bool], ...] = ()

    @property
    def examples(self) -> int:
        return self.answers.examples

    @property
    def loss(self) -> float | None:
        return self.answers.loss

    @property
    def local_share(self) -> float | None:
        """The share of instances that the local adapter has the larger say in."""
        return sum(gate > 0.5 for gate in self.gates) / len(self.gates) if self.gates else None

    @property
    def either_right(self) -> float | None:
        """The share of instances that one of the two answers rightly: no routing does better."""
        return sum(map(any, self.right)) / len(self.right) if self.right else None

    def values(self) -> Mapping[str, float | None]:
        return {**self.answers.values(), "local_share": self.local_share}

    def details(self) -> Mapping[str, Any]:
        known = {"local_share": self.local_share, "either_right": self.either_right}
        if not 0 < len(self.gates) <= MOST_LOGGED:
            return known
        each = {
            f"{who}_right": [int(pair[at]) for pair in self.right]
            for at, who in enumerate(("global", "local"))
        }
        return {**known, "gates": [round(gate, 4) for gate in self.gates], **each}

    def __add__(self, other: RoutedMetrics) -> RoutedMetrics:
        return RoutedMetrics(
            answers=self.answers + other.answers,
            gates=self.gates + other.gates,
            right=self.right + other.right,
        )


def require_classes(task: Any) -> ModelTask:
    """Refuse (ModelError) a task whose answers are no probabilities of classes."""
    if not isinstance(task, ModelTask) or not isinstance(task.kind, Classification):
        name = task.kind.name if isinstance(task, ModelTask) else type(task).__name__
        raise ModelError(
            f"method flow mixes probabilities of classes, and the task {name} has none. Choose another method, such as "
            "fedavg with schedule.local_tuning."
        )
    return task


@torch.inference_mode()
def evaluate_routed(
    task: Any, weights: Params, local: Params, batches: Iterable[Batch], routing: Routing = "soft"
) -> RoutedMetrics:
    """Evaluate the mixture of two adapters.

    Args:
        weights: The global adapter, and the policy.
        local: The local adapter.
        routing: ``soft`` mixes both answers' probabilities; ``hard`` takes the answer with the larger say.
    """
    task = require_classes(task)
    total = RoutedMetrics(answers=task.kind.nothing())
    for batch in batches:
        with task.alone():
            whole, own = (
                -F.log_softmax(task.logits(each, batch), -1) for each in (without_own(weights), local)
            )
            z = Policy.of(weights).logits(standardised(task.features(batch)).to(whole))
        if routing == "hard":
            z = torch.where(z > 0, torch.inf, -torch.inf)
        scores = -mixed(z[:, None], whole, own).cpu()
        losses = F.nll_loss(scores, batch["labels"].long(), reduction="none")
        found = task.kind.count(losses.numpy(), batch["labels"].numpy(), scores.numpy())
        labels = batch["labels"].to(whole.device)
        right = zip(*((each.argmin(-1) == labels).tolist() for each in (whole, own)), strict=True)
        total += RoutedMetrics(answers=found, gates=tuple(torch.sigmoid(z).tolist()), right=tuple(right))
    return total
