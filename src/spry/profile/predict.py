"""The analytic memory model: the peak bytes of a step above the resident model, from the sizes of the architecture.

The unit is the hidden state of a micro-batch, ``h = b S D e`` bytes (b rows, S tokens, hidden size D, e bytes per
number). With the inner width f, the query width q and the key-value width g, all in units of D, and an activation
that holds t tensors of the inner width at once, saves s of them and needs u for its backward pass:

    inference               R = o + t f            o: what waits beside the MLP (input, residual, embeddings)
    fedmezo                 R
    saved by one layer      A = 3 + 2 q + 2 g + s f
    backprop                T A + u f              T: layers from the first trained one up
    backprop+checkpointing  T + A + u f + 1, and mesp: what it does not keep, r numbers a token, is not in A
    residual                max(R, (A + u f) n / b + 3), whatever the depth: one block for n examples at a time, its
                            input, its output and the guess; n = b for a language model, whose last block is whole
    residual-full           (m A + u f + 1) n / b for a tape of m blocks and n rows, and T - m + A more of one row
                            where blocks are below the tape
    forward-ad, eager       max(2 R + u f + 1, 19 + 4 H S / D), whatever K is: one direction after another
    spry                    (1 + K) min(R, o + 0.35 + 0.9 g / b) + the engine's workspace, but at least R below layer T,
                            and no more than that for a classifier's last layer, which runs for the pooled positions

A language-model head adds its phase: logits and their normalised copy for inference, a third for backpropagation;
spry keeps both within its workspace. A packed model adds a tile of a weight, unpacked, at most: not all of the rest is
at its peak while a linear layer runs. The counts come from reading which tensors autograd saves; ``spry``'s two
constants were fitted. ``tests/profile/test_predict.py`` bounds the error.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import nn

from spry.forward.chunking import CHUNKS, TILE, WORKSPACE, by_device, most_examples, most_taped
from spry.forward.tiled_loss import row_tiles
from spry.models.model_class import CLASSIFIER
from spry.profile.case import GUESSED, Case
from spry.profile.case_task import model_class_of, task_kind_of, texts_per_example
from spry.tasks.causal_lm.kind import LANGUAGE_MODEL

DUAL = 0.35
"""Hidden states that the engine holds at its peak beside what waits there anyway, for the value and each direction."""

TAPED = frozenset({"backprop", "backprop+checkpointing", "mesp"})

KEYS = 0.9
"""How many times the engine holds the keys of one row of the batch, for the value and for each direction."""


@dataclass(frozen=True, kw_only=True)
class MlpTensors:
    """Tensors of inner width in an MLP: held in inference, saved for the backward pass, and added within it."""

    held: int
    saved: int
    backward: int


FUSED = MlpTensors(held=2, saved=1, backward=2)
GATED = MlpTensors(held=3, saved=3, backward=3)
COMPOSED = MlpTensors(held=4, saved=4, backward=3)
"""GELU written out in several operations, as GPT-2 and ALBERT have it."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The sizes that decide the memory, widths in units of the hidden size.

    Args:
        layers: L.
        hidden: D, in numbers.
        inner: f.
        queries: q.
        groups: g.
        heads: H.
        vocabulary: V.
        outer: o, hidden states that wait beside the MLP.
        mlp: What the MLP holds.
    """

    layers: int
    hidden: int
    inner: float
    queries: float
    groups: float
    heads: int
    vocabulary: int
    outer: int
    mlp: MlpTensors


def model_sizes(model: nn.Module) -> Sizes:
    """Read the sizes off a transformers model, wrapped or not, on any device."""
    config = cast(Any, model).config

    def first_of(*names: str) -> int | None:
        return next((int(v) for name in names if (v := getattr(config, name, None))), None)

    hidden = first_of("hidden_size", "n_embd", "dim") or 1
    heads = first_of("num_attention_heads", "n_head", "n_heads") or 1
    width = first_of("head_dim") or hidden // heads
    names = [path for path, _ in model.named_modules()]
    kind = str(getattr(config, "activation_function", None) or getattr(config, "hidden_act", ""))
    gated = any(path.endswith("gate_proj") for path in names)
    prenorm = gated or not any("LayerNorm" in path or "sa_layer_norm" in path for path in names)
    return Sizes(
        layers=first_of("num_hidden_layers", "n_layer", "n_layers") or 1,
        hidden=hidden,
        inner=(first_of("intermediate_size", "ffn_dim", "n_inner", "hidden_dim") or 4 * hidden) / hidden,
        queries=heads * width / hidden,
        groups=(first_of("num_key_value_heads") or heads) * width / hidden,
        heads=heads,
        vocabulary=first_of("vocab_size") or 1,
        outer=4 if prenorm else 3,
        mlp=GATED if gated else COMPOSED if kind == "gelu_new" else FUSED,
    )


def has_formula(model: nn.Module) -> bool:
    """Tell whether the formulas are about such a model: a single stack of layers with fused attention."""
    config = cast(Any, model).config
    return config._attn_implementation == "sdpa" and not config.is_encoder_decoder


def predict_peak(case: Case, model: nn.Module) -> int:
    """Predict the peak of a case's step in bytes above the resident model; the model may be on ``meta``."""
    case = _by_texts(case)
    s = model_sizes(model)
    item = cast(torch.dtype, getattr(torch, case.dtype)).itemsize
    tokens = min(case.micro_batch or case.batch, case.batch) * case.length
    unit = tokens * s.hidden * item
    peak = max(_layers(case, s, unit), _head(case, s, unit, tokens, item))
    return round(peak + (by_device(TILE, torch.device(case.device)) if case.quantization else 0))


def _by_texts(case: Case) -> Case:
    """Count texts in place of examples, which may have several."""
    kind = task_kind_of(case)
    texts = 1 if kind is None else texts_per_example(kind)
    return replace(case, batch=case.batch * texts, micro_batch=case.micro_batch and case.micro_batch * texts)


def _is_pooled(case: Case) -> bool:
    """Whether the head reads one position of each text, for which alone the last layer then runs."""
    return model_class_of(case).auto == CLASSIFIER.auto


def _layers(case: Case, s: Sizes, unit: int) -> float:
    stock = s.outer + s.mlp.held * s.inner
    backward = s.mlp.backward * s.inner
    trained = s.layers if case.slice == "all" else 1
    if case.method == "spry":
        rows = min(case.micro_batch or case.batch, case.batch)
        lean = (s.outer + DUAL + KEYS * s.groups / rows) * (1 + case.directions) * unit
        lean += _workspace(case, (1 + case.directions) * s.inner * unit)
        dual = min((1 + case.directions) * stock * unit, lean)
        if trained == s.layers:
            return dual
        return stock * unit if _is_pooled(case) else max(dual, stock * unit)
    counts = {
        "inference": stock,
        "fedmezo": stock,
        "residual": _guessed(case, s, unit),
        "residual-2-blocks": max(stock, _guessed(case, s, unit)) + 2,
        "residual-full": max(stock, _exact(case, s, unit, trained)),
        "backprop": _saved(case, s) + backward,
        "backprop+checkpointing": _saved(case, s) + _layer(s) + backward + 1,
        "mesp": _saved(case, s) + _layer(s) + backward + 1,
        "forward-ad": max(2 * stock + backward + 1, 19 + 4 * s.heads * case.length / s.hidden),
    }
    return max(stock, counts[case.method]) * unit


def _workspace(case: Case, widened: float) -> float:
    """Bytes of a chunk of rows: of the widened ones, of which a pass is cut into a few chunks at least."""
    kind = torch.device(case.device).type
    if kind not in WORKSPACE:
        return 0.0
    share = widened / CHUNKS[kind] if CHUNKS[kind] > 1 else WORKSPACE[kind]
    return min(WORKSPACE[kind], share)


def _layer(s: Sizes) -> float:
    """Hidden states that autograd saves of one layer."""
    return 3 + 2 * s.queries + 2 * s.groups + s.mlp.saved * s.inner


def _guessed(case: Case, s: Sizes, unit: int) -> float:
    """Hidden states while one block's product is taken; a pooled last block alone keeps next to nothing."""
    backward = s.mlp.backward * s.inner
    if not _is_pooled(case):
        return _layer(s) + backward + 3
    rows = min(case.micro_batch or case.batch, case.batch)
    most = min(rows, most_examples(rows, case.length, unit, torch.device(case.device)))
    return 0.0 if case.slice == "last" else (_layer(s) + backward) * most / rows + 3


def _exact(case: Case, s: Sizes, unit: int, trained: int) -> float:
    """Hidden states of a few rows' tape, and of the inputs of the blocks below it."""
    if trained == 1:
        return _guessed(case, s, unit)
    rows, below = min(case.micro_batch or case.batch, case.batch), trained - 1
    most, deep = most_taped(rows, unit // rows, below, torch.device(case.device))
    on_tape = deep if _is_pooled(case) else deep + 1
    below_tape = 0 if deep == below else below - deep + _layer(s)
    return (on_tape * _layer(s) + below_tape + s.mlp.backward * s.inner + 1) * most / rows


def _saved(case: Case, s: Sizes) -> float:
    """Hidden states that wait for the backward pass when the last layer is done."""
    trained = s.layers if case.slice == "all" else 1
    return trained * {"backprop": _layer(s), "backprop+checkpointing": 1.0, "mesp": 1.0}.get(case.method, 0.0)


def _head(case: Case, s: Sizes, unit: int, tokens: int, item: int) -> float:
    """Bytes while a language-model head and its loss run; nothing for a classifier."""
    if model_class_of(case).auto != LANGUAGE_MODEL.auto or case.method in {"spry", *GUESSED}:
        return 0
    if case.task is not None:  # the logits of a tile, and what is computed of them
        tile = next(row_tiles(tokens, s.vocabulary, torch.device(case.device))).stop
        return tile * 4 * s.vocabulary * (3 if case.method in TAPED else 2) + (2 + _saved(case, s)) * unit
    upcast = 0 if item >= 4 else 4
    copies = item + upcast + max(item, 4) * (2 if case.method in TAPED else 1)
    return tokens * s.vocabulary * copies + (2 + _saved(case, s)) * unit
