"""What a task is beside its model: its data, its loss, what it is judged by, and what its answers look like.

A kind is one frozen dataclass, whose fields are the options that ``[task]`` takes. ``ModelTask`` owns the model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import ConfigDict
from torch import Tensor

from spry.data.dataset import Dataset
from spry.data.encoded import Batch, Encoded
from spry.data.target import Target
from spry.data.tokens import Tokenizer
from spry.models.model_class import ModelClass
from spry.tasks.adapter_info import AdapterInfo
from spry.tasks.head_fit import HeadFit
from spry.tasks.model_call import ModelCall
from spry.tasks.task import Metrics

Reduction = Literal["mean", "none"]


@dataclass(frozen=True, kw_only=True)
class TaskKind(ABC):
    """One kind of task with its options."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: ClassVar[str]
    """What ``task.name`` calls it."""
    about: ClassVar[str]
    """What it learns, in a few words."""
    model_class: ClassVar[ModelClass]
    """The model that it takes."""
    pipeline: ClassVar[str]
    """What the Hugging Face Hub and ``transformers.pipeline`` call it."""
    score: ClassVar[str]
    """Which of its metrics it is judged by."""
    higher_is_better: ClassVar[bool] = True
    verb: ClassVar[str] = "classify"
    """What a model of the task is called in the lines of a card."""
    piped: ClassVar[bool] = True
    """Whether ``transformers.pipeline`` runs such models."""
    unread: ClassVar[frozenset[str]] = frozenset({"labels"})
    """What of a batch the model is not given."""
    head_fit: ClassVar[HeadFit | None] = None
    """What its labels are, if the last map of a head can be fitted to them in closed form."""

    @property
    @abstractmethod
    def target(self) -> Target:
        """What its examples are labelled with, and how rows of a table become examples."""

    @abstractmethod
    def outputs(self, dataset: Dataset) -> tuple[str, ...]:
        """Name the outputs of the head, such as the classes of a training part; none where they are not counted."""

    @abstractmethod
    def encode(
        self, dataset: Dataset, tokenizer: Tokenizer, *, max_length: int | None, most: int, pad: int
    ) -> Encoded:
        """Tokenise a data set, keeping ``max_length`` tokens of a row, or what the texts need, at most ``most``."""

    @abstractmethod
    def loss(self, call: ModelCall, batch: Batch, reduction: Reduction) -> Tensor:
        """Run the model and compute its loss.

        Args:
            call: The model; a loss may ask it for less than all scores.
            reduction: ``mean`` gives the mean over what ``size`` counts, a scalar; ``none`` each row's, shape (B,).
        """

    def size(self, batch: Batch) -> int:
        """Over how many the mean of a batch's loss is taken: its rows, unless tokens have losses of their own."""
        return len(batch["attention_mask"])

    @abstractmethod
    def nothing(self) -> Metrics:
        """The metrics of no example."""

    @abstractmethod
    def measure(self, call: ModelCall, batch: Batch, data: Encoded | None) -> Metrics:
        """Evaluate a batch; ``data`` is what it was taken from, where that is known."""

    @abstractmethod
    def baseline(self, train: Dataset, test: Dataset) -> float | None:
        """The score on a test part of an answer that needs no model; None if there is none."""

    @abstractmethod
    def unlabelled(self, texts: Sequence[Any], outputs: tuple[str, ...]) -> Dataset:
        """Make a data set of texts whose labels are not known, and do not matter."""

    @abstractmethod
    def probe(self, texts: Sequence[str], outputs: int, draw: np.random.Generator) -> Dataset:
        """Make a data set of texts with random labels, to look at a model with."""

    @abstractmethod
    def answer(self, call: ModelCall, batch: Batch, data: Encoded) -> Sequence[Any]:
        """What the model says of each row, such as its scores."""

    @abstractmethod
    def columns(
        self, rows: Sequence[Any], data: Encoded, outputs: tuple[str, ...], *, every: bool
    ) -> dict[str, Sequence[Any]]:
        """Turn what was said of all rows into columns of predictions, one cell an example.

        Args:
            rows: In the order of the data's rows.
            every: Whether all scores are wanted, too.
        """

    def document(self, metrics: Any, outputs: tuple[str, ...]) -> Mapping[str, Any]:
        """What an evaluation tells beside ``values()`` and the loss, for JSON."""
        return {}

    @abstractmethod
    def title(self, outputs: tuple[str, ...]) -> str:
        """The heading of an adapter's card."""

    def example(self, info: AdapterInfo) -> str:
        """A line of Python that uses ``verb``, as the task's pipeline is called."""
        text = '{"text": "a text", "text_pair": "its second text"}' if info.pair else '"a text"'
        cut = f", truncation=True, max_length={info.max_length}" if info.max_length else ", truncation=True"
        return f"{self.verb}({text}{cut})"

    def token_baseline(self, train: Iterable[Batch], test: Iterable[Batch], vocabulary: int) -> float | None:
        """The score on a test part of an answer that needs tokens, but no model; None if there is none.

        Args:
            train: The training part.
            test: The test part.
            vocabulary: How many tokens there are.
        """
        return None

    @property
    def options(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def options_to_keep(self) -> dict[str, Any]:
        """The options that an adapter's folder keeps: none that names a file outside it."""
        return self.options
