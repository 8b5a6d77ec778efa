"""What some models of transformers need before they can be used as all others are."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from spry.core.errors import ModelError


def settle(model: nn.Module) -> None:
    """Let a model name its pretrained part, and compute experts by means that its type of numbers has.

    Llama 4's language model says that its pretrained part is called as in the model of texts and images. PyTorch's
    grouped product, which experts are computed with, takes no float64; one product for each expert does.

    Raises:
        ModelError: If the pretrained part is in several modules, as T5's question answering has it: what is not the
            head would be trained as the head.
    """
    found: Any = model
    prefix = getattr(found, "base_model_prefix", None)
    if prefix and not hasattr(found, prefix):
        inner = [name for name, child in found.named_children() if hasattr(child, "base_model_prefix")]
        if len(inner) > 1:
            raise ModelError(
                f"{type(model).__name__}: its pretrained part is in several modules ({', '.join(inner)}), so that its "
                "head cannot be told from it. Choose a model of another type, such as bert."
            )
        found.base_model_prefix = inner[0] if inner else prefix
    experts = getattr(getattr(found, "config", None), "_experts_implementation", None)
    wide = any(weight.dtype == torch.float64 for weight in found.parameters())
    if wide and experts not in {None, "eager"} and hasattr(found, "set_experts_implementation"):
        found.set_experts_implementation("eager")
