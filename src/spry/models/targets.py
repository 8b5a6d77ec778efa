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
    r"(.*\.)?((?<!attention\.)output\.dense|ffn_output|fc2|fc_out|lin2|down_proj|dense_4h_to_h|w2|mlp\.(c_proj|Wo))",
    re.IGNORECASE,
)
_FUSED = re.compile(r"c_attn|query_key_value|w?qkv(_?(proj|lin|linear))?|in_proj|att_proj", re.IGNORECASE)
_UNUSUAL = re.compile(r"[qv]_head|q_b_proj|kv_b_proj", re.IGNORECASE)
"""Funnel's, and DeepSeek's, which compute keys and values together from a narrow state."""


def linear_names(model: nn.Module) -> dict[str, nn.Module]:
    """List the modules that hold one weight matrix: linear layers and GPT-2's transposed ones.

    Args:
        model: Any module.

    Returns:
        The modules by name, in model order.
    """
    from transformers.pytorch_utils import Conv1D

    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)}


def find(model: nn.Module, wanted: Sequence[str] | None = None) -> list[str]:
    """Find which modules to adapt.

    Args:
        model: A transformer.
        wanted: Names or endings of names, such as ``q_proj`` or ``layer.0.attention.self.query``; None takes what
            ``peft`` knows of the model's type, else query and value projections, else projections that compute query,
            key and value at once.

    Returns:
        Full names of linear modules, in model order; at least one.

    Raises:
        ModelError: If a wanted name fits no linear module, or nothing is found.
    """
    names = list(linear_names(model))
    if wanted is not None:
        for ending in wanted:
            if not any(_ends(name, ending) for name in names):
                raise ModelError(f"PEFT target {ending!r} fits no linear module. {_candidates(names)}")
        found = [name for name in names if any(_ends(name, ending) for ending in wanted)]
    else:
        patterns = (_QUERY_OR_VALUE, _FUSED, _UNUSUAL)
        found = _known(model, names) or next(filter(None, (_matching(names, p) for p in patterns)), [])
    if not found:
        raise ModelError(f"No PEFT targets were given or found. {_candidates(names)}")
    return found


def keys_and_values(model: nn.Module) -> list[str]:
    """Find key and value projections, else projections that compute query, key and value at once.

    Args:
        model: A transformer.

    Returns:
        Full names of linear modules, in model order; at least one.

    Raises:
        ModelError: If nothing is found.
    """
    names = list(linear_names(model))
    found = _matching(names, _KEY_OR_VALUE) or _matching(names, _FUSED)
    if not found:
        raise ModelError(f"No key and value projections were found. {_candidates(names)}")
    return found


def feed_forward(model: nn.Module) -> list[str]:
    """Find the projections back from the inner width of feed-forward blocks.

    Args:
        model: A transformer.

    Returns:
        Full names of linear modules, in model order; none if they are called otherwise than usual.
    """
    return [name for name in linear_names(model) if _BACK.fullmatch(name)]


def norms(model: nn.Module, wanted: Sequence[str] | None = None) -> list[str]:
    """Find layer norms and their like.

    Args:
        model: A transformer.
        wanted: Names or endings of names; None takes all.

    Returns:
        Full names of modules that have weights and are called norms, in model order; at least one.

    Raises:
        ModelError: If a wanted name fits no norm, or there is none.
    """
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
    """Shorten module names to their last parts, if these mean the same modules.

    Args:
        found: Full names of the modules meant.
        every: Full names of all linear modules.

    Returns:
        Last parts such as ``query`` and ``value``, or ``found`` itself where those would mean others too.
    """
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
            "The model has no linear modules that peft can adapt: choose another model, or another peft.kind."
        )
    return f"Linear modules end in: {', '.join(listed)}. Name some of them as peft.targets."
