"""Functions that PyTorch writes in Python over others: the same body, on duals, each function in it by its own rule."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from spry.core.errors import ModelError
from spry.forward.fallback import fallback
from spry.forward.registry import family, named, rule


def _on_duals(function: Any) -> Callable[..., Any]:
    """The function without its first question, whether an argument's class overrides it."""
    questions = {
        name: lambda *_: False for name in function.__globals__ if name.startswith("has_torch_function")
    }
    body = FunctionType(
        function.__code__,
        function.__globals__ | questions,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    body.__kwdefaults__ = function.__kwdefaults__
    return body


rule(F.multi_head_attention_forward)(_on_duals(F.multi_head_attention_forward))

if hasattr(F, "linear_cross_entropy"):  # PyTorch 2.13
    _fused = _on_duals(F.linear_cross_entropy)

    @rule(F.linear_cross_entropy)
    def _linear_cross_entropy(*args: Any, options: Any = None, **kwargs: Any) -> Any:
        return _fused(*args, **kwargs)  # the options choose a kernel that forward mode takes for a constant


@family(named("scatter_reduce"))
def _scatter_reduce(
    func: Callable[..., Tensor], input: Any, dim: int, index: Tensor, src: Any, reduce: str, **kwargs: Any
) -> Any:
    if reduce == "prod":
        raise ModelError("PyTorch's forward mode is wrong for 'scatter_reduce' with reduce='prod'")
    return fallback(func, (input, dim, index, src, reduce), kwargs)
