"""A task with one Hugging Face model that all clients share, and trainable PEFT weights beside it."""

from __future__ import annotations

import functools
import threading
from collections.abc import Generator, Iterable, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.core.params import Params, without_own
from spry.core.units import Unit, names_of
from spry.data.dataset import Dataset
from spry.data.encoded import Batch, Encoded
from spry.estimators.blocks import Blocks
from spry.forward.dropout import Masks, dropout
from spry.forward.recall import training
from spry.models.adapt import Exact, adapt
from spry.models.adapters import Adapter, FromConfig, Lora
from spry.models.checkpointing import prepare
from spry.models.load import load_model
from spry.models.offload import Offload
from spry.models.quantized.kinds import Quantization
from spry.models.refusal import refused_as
from spry.models.residual_blocks import find_blocks
from spry.tasks.adapter_folder import complete_folder
from spry.tasks.kind import TaskKind
from spry.tasks.linear_head import LinearHead, read_linear_head
from spry.tasks.model_call import HALF, ModelCall
from spry.tasks.model_loss import ModelLoss
from spry.tasks.start import start_labels, start_weights
from spry.tasks.task import Metrics, Score

_LORA = Lora()


class ModelTask:
    """One model with trainable PEFT weights, and its head where it has one; its own weights never change."""

    usual_kind: ClassVar[TaskKind | None] = None
    """What is learnt where the caller does not say."""

    def __init__(
        self,
        model: str | nn.Module,
        kind: TaskKind | None = None,
        *,
        labels: int | Sequence[str],
        key: Key = Key(0),
        adapter: Adapter | Any = _LORA,
        exact: Exact = "head",
        micro_batch_size: int | None = None,
        dropout: bool = False,
        tokenizer: Any = None,
        dtype: torch.dtype | None = None,
        device: str | torch.device = "cpu",
        baseline: float | None = None,
        start: Path | None = None,
        quantization: Quantization | None = None,
        offload: Offload | None = None,
    ) -> None:
        """Load a model and adapt it.

        Args:
            model: ``minilm``, ``smollm2``, ``package:NAME``, a folder, or a name on the Hub; or a Hugging Face model of
                the kind's class, which is the task's own from then on.
            kind: What is learnt; None for what the class itself is for, as ``ClassificationTask``.
            labels: The names of the head's outputs, such as classes, or their number. A trained head that has the same
                names keeps its own numbers.
            key: Where the initial head and PEFT weights come from.
            adapter: Which PEFT weights are added: one of spry's adapters, or a ``peft.PeftConfig``.
            exact: What gets exact gradients from methods that measure slopes: ``head``, ``last_block``, ``auto`` (the
                last block if the model has one of which one position is read, and the adapter can adapt it) or
                ``nothing``.
            micro_batch_size: Most rows in one pass; None passes each batch whole. Memory depends on it, the loss does
                not.
            dropout: Whether losses are taken with the model's own dropout and LoRA's; evaluation never is.
            tokenizer: In place of the one beside the model.
            dtype: What the model computes in; None for float32, or for a given model's own. Trained weights are kept in
                float32 at least.
            device: Where the model lives; batches are moved there.
            baseline: The score of an answer that needs no training.
            start: The folder of an adapter whose weights training begins with, and whose order the classes have.
            quantization: How the frozen layers are packed: ``nf4``, ``int8`` or ``int4``; None leaves them as they are.
            offload: Where the frozen weights stay: ``disk`` reads them block by block; None keeps them in memory.

        Raises:
            ModelError: If the model cannot be loaded or a PEFT target is not found.
        """
        kind = kind or self.usual_kind
        if kind is None:
            raise TypeError(f"{type(self).__name__} has no kind of its own: give one, such as Regression()")
        if micro_batch_size is not None and micro_batch_size < 1:
            raise ModelError(f"micro_batch_size is {micro_batch_size}. Allowed: at least 1.")
        labels = labels if start is None else start_labels(start, labels, kind.name)
        backbone = load_model(
            model,
            labels=labels,
            key=key.fold("head"),
            tokenizer=tokenizer,
            dtype=dtype,
            device=device,
            kind=kind.model_class,
            quantization=quantization,
            offload=offload,
        )
        if not isinstance(adapter, Adapter):
            adapter = FromConfig(config=adapter, task=kind.model_class.peft_task)
        self._adapted = adapted = adapt(backbone, adapter, key.fold("peft"), exact=exact)
        prepare(adapted.module)
        self.kind = kind
        self.backbone = backbone
        self.module = adapted.module
        self.units: tuple[Unit, ...] = adapted.units
        self._start = {} if start is None else start_weights(adapted, backbone, start)
        self._types = {name: self.module.get_parameter(name).dtype for name in names_of(self.units)}
        self.micro_batch_size = micro_batch_size
        self.dropout = dropout
        self.device = torch.device(device)
        self._max_length: int | None = None
        self._pair: bool | None = None
        self._one_mode = threading.RLock()
        self._has_run = False
        self.score = Score(name=kind.score, higher_is_better=kind.higher_is_better, baseline=baseline)

    @functools.cached_property
    def blocks(self) -> Blocks:
        """The model's residual blocks; ModelError if it has none that a guess could be carried through."""
        return find_blocks(self.backbone, self.module)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of how the model was loaded and adapted, as sentences."""
        return (*self.backbone.notes, *self._adapted.notes)

    @property
    def max_length(self) -> int:
        """The most tokens that the model takes."""
        return self.backbone.max_length

    def encode(self, dataset: Dataset, *, max_length: int | None = None) -> Encoded:
        """Tokenise a data set for this model, and number its classes as the model does if they have the same names.

        Args:
            dataset: Examples of the task's kind.
            max_length: Tokens kept of a row, from 1 to what the model takes; None keeps what 95 % of the texts
                do not exceed, as far as the model takes as many.

        Returns:
            The tokens of all examples.

        Raises:
            ModelError: If ``max_length``, the tokens kept of a row, is not from 1 to what the model takes.
        """
        most = self.backbone.max_length
        if max_length is not None and not 1 <= max_length <= most:
            raise ModelError(
                f"max_length is {max_length}. Allowed: 1 to {most}, the most that {self.backbone.name} takes; unset, "
                "it is what the texts need."
            )
        own = self.backbone.label_names
        if dataset.label_names != own and set(dataset.label_names) <= set(own):
            dataset = dataset.relabelled(own)
        encoded = self._encoded(dataset, max_length)
        self._max_length = encoded.max_length
        self._pair = any(isinstance(text, tuple) for text in dataset.texts[:1])
        return encoded

    def _encoded(self, dataset: Dataset, max_length: int | None) -> Encoded:
        words, most = self.backbone.tokenizer, self.backbone.max_length
        return self.kind.encode(dataset, words, max_length=max_length, most=most, pad=words.pad_token_id)

    def init(self) -> Params:
        """Copy the trainable weights at the start, in model order, the head last, in float32 or wider."""
        return {
            name: _master(self._start.get(name, self.module.get_parameter(name)))
            for name in names_of(self.units)
        }

    def calling(self, params: Params) -> ModelCall:
        """The model with some or all trainable weights."""
        return ModelCall(
            module=self.module,
            device=self.device,
            params=self._computed_with(without_own(params)),
            unread=self.kind.unread,
            guard=self._first_pass,
        )

    def logits(self, params: Params, batch: Batch) -> Tensor:
        """Run the model; scores, shape (B, C)."""
        return self.calling(params).logits(batch)

    @torch.no_grad()
    def try_out(self, batch: Batch) -> None:
        """Run the model on the batch's first rows.

        Raises:
            ModelError: If it cannot read them, or its loss is no number.
        """
        some = {name: value[:2] for name, value in batch.items()}
        if torch.isfinite(self.kind.loss(self.calling(self.init()), some, "mean")):
            return
        half = self.module.dtype == torch.float16
        remedy = "Set model.dtype=bfloat16, which reaches further" if half else "Are its weights whole?"
        raise ModelError(f"{self.backbone.name}: untrained, it answers with what is no number. {remedy}")

    @contextmanager
    def _first_pass(self) -> Generator[None]:
        with nullcontext() if self._has_run else self._refusing():
            yield
        self._has_run = True

    def _refusing(self) -> AbstractContextManager[None]:
        return refused_as(
            f"{self.backbone.name}: the model cannot read the texts",
            "Choose another model, or one that `spry check` passes.",
        )

    def _computed_with(self, params: Params) -> Params:
        """Cast weights to the types that the model computes in: small steps would round away if they were kept so."""
        types = {name: self._types.get(name, w.dtype) for name, w in params.items()}
        return {name: w if w.dtype == types[name] else w.to(types[name]) for name, w in params.items()}

    def alone(self) -> AbstractContextManager[object]:
        """Keep other threads from the model's mode and hooks while the context is open."""
        return self._one_mode

    @contextmanager
    def dropping(self, key: Key, *, on: bool = True) -> Generator[Masks | None]:
        """Turn dropout on, if this task has it, while the context is open; yields the masks' source, None if off."""
        with self._one_mode:
            if self.dropout and on:
                with training(self.module), dropout(key) as masks:
                    yield masks
            else:
                yield None

    def loss(self, batch: Batch, key: Key, base: Params = MappingProxyType({})) -> ModelLoss:
        """Bind the mean loss to one batch; ``base`` has the trainable weights that calls will not give."""
        return ModelLoss(task=self, batch=batch, key=key, base=base, at_once=self.micro_batch_size)

    def probe(self, key: Key, *, examples: int = 16, tokens: int = 16) -> Batch:
        """Make a batch of random words with random labels, to look at the model with before there is data.

        The longest text has ``tokens`` words, the shortest half of them.
        """
        draw = key.generator("probe")
        words = self.backbone.tokenizer
        lengths = draw.integers(max(1, tokens // 2), tokens + 1, size=examples)
        texts = [
            words.decode(draw.integers(len(words), size=n).tolist(), skip_special_tokens=True)
            for n in lengths
        ]
        texts = [text if text.strip() else "a" for text in texts]
        dataset = self.kind.probe(texts, len(self.backbone.label_names), draw)
        encoded = self._encoded(dataset, min(2 * tokens, self.backbone.max_length))
        return encoded.batch(range(min(examples, len(encoded))))  # texts may be packed into fewer rows

    @torch.inference_mode()
    def evaluate(self, params: Params, batches: Iterable[Batch]) -> Any:
        total: Metrics = self.kind.nothing()
        data = getattr(batches, "data", None)
        for batch in batches:
            with self._one_mode:
                total += self.kind.measure(self.calling(params), batch, data)
        return total

    @torch.inference_mode()
    def linear_head(self) -> LinearHead:
        """Find the last map of the head, whose features can be summed up for a closed form.

        Raises:
            ModelError: If the scores do not end in a linear map, or what is learnt has no closed form.
        """
        if self.kind.head_fit is None:
            raise ModelError(
                f"{self.backbone.name}: the task {self.kind.name} learns no classes, labels or numbers of a text, so "
                "its head has no closed form"
            )
        with self.alone():
            return read_linear_head(self, self.kind.head_fit, own=bool(self._start))

    def features(self, batch: Batch) -> Tensor:
        """What the head's last map reads of each row before training, shape (B, D); it never changes.

        Raises:
            ModelError: See ``linear_head``.
        """
        return self._last_map.read(self._start, batch)

    @functools.cached_property
    def _last_map(self) -> LinearHead:
        return self.linear_head()

    def save_adapter(self, params: Params, folder: Path) -> None:
        """Write weights in peft's format, and beside them the classes, the tokenizer, the base and a card.

        For weights that ``params`` lacks, the initial values are written. The folder can be moved; it names nothing
        of this machine. How texts are cut is what data was last encoded with.
        """
        self._adapted.save({**self.init(), **without_own(params)}, folder)
        complete_folder(
            self.backbone,
            self._adapted,
            folder,
            self.kind,
            max_length=self._max_length,
            pair=self._pair,
        )


def _master(weight: Tensor) -> Tensor:
    """A copy that is wide enough for small steps."""
    return weight.detach().to(torch.float32 if weight.dtype in HALF else weight.dtype, copy=True)
