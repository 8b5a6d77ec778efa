"""Which of transformers' model classes a task loads, and what peft and a checkpoint's configuration call the task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class ModelClass:
    """A model class of ``transformers`` with its head.

    Args:
        auto: The class that loads it, such as ``AutoModelForSequenceClassification``.
        table: The name of transformers' table of configurations that have it.
        what: What messages call it.
        peft_task: What peft calls the task; None for a task that it has no class for.
        peft_heads: Layers that peft trains by itself for such a task.
        problem: What a configuration's ``problem_type`` is; None if it says nothing.
        counted: Whether its head has so many outputs as the task says, ``num_labels``.
        classes: Whether these outputs are classes, which a checkpoint may number in its own way.
        trains_head: Whether the layers outside the pretrained part are trained as a whole.
        usual: A model that messages name as one that fits.
    """

    auto: str
    table: str
    what: str
    peft_task: str | None = None
    peft_heads: frozenset[str] = frozenset()
    problem: str | None = None
    counted: bool = True
    classes: bool = True
    trains_head: bool = True
    usual: str = "minilm"

    @property
    def loader(self) -> Any:
        import transformers

        return getattr(transformers, self.auto)

    @property
    def known(self) -> Any:
        """The configurations that have such a model, and its class."""
        from transformers.models.auto import modeling_auto

        return getattr(modeling_auto, self.table)


CLASSIFIER = ModelClass(
    auto="AutoModelForSequenceClassification",
    table="MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING",
    what="sequence classifier",
    peft_task="SEQ_CLS",
    peft_heads=frozenset({"classifier", "score"}),
    problem="single_label_classification",
)
"""One class a text."""
