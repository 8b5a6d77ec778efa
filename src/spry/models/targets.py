"""Finds the modules to adapt in any transformer: query and value projections, whatever the model's name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from torch import nn

from spry.core.errors import ModelError

_QUERY_OR_VALUE = re.compile(
    r"(query|value|[qv])(_?(proj|projection|lin|linear|layer))?|w[qv]", re.IGNORECASE
)
_KEY_OR_VALUE = re.compile(r"(key|value|[kv])(_?(proj|projection|lin|linear|layer))?|w[kv]", re.IGNORECASE)
_BACK = re.compile(
    r"(.*\.)?((?<!attention\.)output\.dense|ffn_output|fc2|fc_out|lin2|linear_2|layer_2|down_proj|dense_4h_to_h|w2|mlp\.(c_proj|Wo))",
    re.IGNORECASE,
)
_FUSED = re.compile(r"c_attn|query_key_value|w?qkv(_?(proj|lin|linear))?|in_proj|att_proj", re.IGNORECASE)
_UNUSUAL = re.compile(r"[qv]_head|q_b_proj|kv_b_proj", re.IGNORECASE)
"""Funnel's, and DeepSeek's, which compute keys and values together from a narrow state."""
_UNUSUAL_KEYS = re.compile(r"[kv]_head|kv_b_proj", re.IGNORECASE)


def linear_names(model: nn.Module) -> dict[str, nn.Module]:
    """List the modules that hold one weight matrix: linear layers and GPT-2's transposed ones."""
    from transformers.pytorch_utils import Conv1D

    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
        and not _is_router(module)
        and not _is_read_by_a_kernel(model, name)
    }


def _is_router(module: nn.Module) -> bool:
    """Tell a kind of ``nn.Linear`` that gives experts' weights and choices as a pair, as Phi's does."""
    return type(module).__name__.endswith("Router")


def _is_read_by_a_kernel(model: nn.Module, name: str) -> bool:
    """Tell the last map of Mamba's mixers, whose weight its kernels read themselves; so peft refuses to adapt it."""
    owner, _, last = name.rpartition(".")
    kind = type(model.get_submodule(owner)).__name__
    return last == "out_proj" and "Mamba" in kind and kind.endswith("Mixer")


def adaptable_names(model: nn.Module) -> dict[str, nn.Module]:
    """List what LoRA can be put on: modules with one weight matrix, and embeddings, which look its rows up."""
    linears = linear_names(model)
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding) or name in linears
    }


def find_targets(
    model: nn.Module, wanted: Sequence[str] | None = None, *, embeddings: bool = False
) -> list[str]:
    """Find which modules to adapt, by names or endings of names such as ``q_proj``, in model order; at least one.

    None takes what ``peft`` knows of the model's type, else query and value projections, else projections that compute
    query, key and value at once, else those back from the feed-forward's inner width. Only what is ``wanted`` may be
    embeddings, if they are allowed.
    """
    names = list(linear_names(model))
    if wanted is not None:
        names = list(adaptable_names(model)) if embeddings else names
        for ending in wanted:
            if not any(_ends(name, ending) for name in names):
                raise ModelError(f"PEFT target {ending!r} fits no linear module. {_candidates(names)}")
        found = [name for name in names if any(_ends(name, ending) for ending in wanted)]
    else:
        patterns = (_QUERY_OR_VALUE, _FUSED, _UNUSUAL)
        found = _known(model, names) or next(filter(None, (_matching(names, p) for p in patterns)), [])
        found = found or feed_forward(model)
    if not found:
        raise ModelError(f"No PEFT targets were given or found. {_candidates(names)}")
    return found


def keys_and_values(model: nn.Module) -> list[str]:
    """Find key and value projections, else those that compute query, key and value at once, in model order.

    There are none in a model without attention, or whose attention holds its weights in no linear layers.
    """
    names = list(linear_names(model))
    patterns = (_KEY_OR_VALUE, _FUSED, _UNUSUAL_KEYS)
    return next(filter(None, (_matching(names, pattern) for pattern in patterns)), [])


def feed_forward(model: nn.Module) -> list[str]:
    """Find the projections back from the inner width of feed-forward blocks; none if their names are unusual."""
    return [name for name in linear_names(model) if _BACK.fullmatch(name)]


def norms(model: nn.Module, wanted: Sequence[str] | None = None) -> list[str]:
    """Find the modules that have weights and are called norms, in model order; None takes all."""
    names = [
        name
        for name, module in model.named_modules()
        if "norm" in type(module).__name__.lower() and any(True for _ in module.parameters(recurse=False))
    ]
    missing = [ending for ending in wanted or () if not any(_ends(name, ending) for name in names)]
    if missing or not names:
        listed = ", ".join(sorted({name.rpartition(".")[2] for name in names})) or "none"
        raise ModelError(f"No norm fits {missing or 'this kind'}. Norms here end in: {listed}.")
    return names if wanted is None else [n for n in names if any(_ends(n, ending) for ending in wanted)]


def endings(found: Sequence[str], every: Iterable[str]) -> list[str]:
    """Shorten module names to last parts such as ``query``, unless these would mean other modules of ``every``, too."""
    short = sorted({name.rpartition(".")[2] for name in found})
    meant = {name for name in every if any(_ends(name, ending) for ending in short)}
    return short if meant == set(found) else list(found)


def _known(model: nn.Module, names: Sequence[str]) -> list[str]:
    """What ``peft`` lists for a model's type: its table for VeRA, which is LoRA's but for Phi's feed-forward."""
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_VERA_TARGET_MODULES_MAPPING as TABLE

    listed = TABLE.get(getattr(getattr(model, "config", None), "model_type", ""), ())
    if isinstance(listed, str):  # a pattern
        return [name for name in names if re.fullmatch(listed, name)]
    return [name for name in names if any(_ends(name, ending) for ending in listed)]


def _ends(name: str, ending: str) -> bool:
    return name == ending or name.endswith(f".{ending}")


def _matching(names: Iterable[str], pattern: re.Pattern[str]) -> list[str]:
    return [name for name in names if pattern.fullmatch(name.rpartition(".")[2])]


def _candidates(names: Iterable[str]) -> str:
    listed = sorted({name.rpartition(".")[2] for name in names})
    if not listed:
        return (
            "The model has no linear modules that peft can adapt: choose another model, or peft.kind = 'norm' or "
            "'bitfit'."
        )
    return (
        f"Linear modules end in: {', '.join(listed)}. Name some of them as peft.targets, or with --targets; or choose "
        "peft.kind = 'norm' or 'bitfit'."
    )
