"""Find the modules that the engine cannot run, by trying each one alone on dual numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor, nn

from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.core.params import Params
from spry.forward.functional import jvp
from spry.forward.hooks import hooked

REMEDIES = {
    "flash": 'load the model with attn_implementation="sdpa", which the engine runs in blocks itself',
    "flex_attention": 'load the model with attn_implementation="sdpa", which the engine runs in blocks itself',
    "custom autograd function": "replace it by ordinary operations, or switch the fused kernel that it wraps off",
    "'item'": "replace the Python number by a tensor, so that the derivative can follow",
    "'__float__'": "replace the Python number by a tensor, so that the derivative can follow",
}
RULE = (
    "register a rule for it with spry.forward.rule, or replace the module by one made of ordinary operations"
)


@dataclass(frozen=True, kw_only=True)
class Unsupported:
    """A module that the engine cannot run: its path in the model, its class, the failed operation, and what to do."""

    module: str
    kind: str
    reason: str
    remedy: str


def unsupported(
    module: nn.Module, run: Callable[[], Any], key: Key, error: Exception
) -> tuple[Unsupported, ...]:
    """Try every module of a model alone, with the inputs it had in a plain ``run`` and random tangents on them.

    Gives the innermost modules that fail, in model order; if each runs alone, the whole model with its ``error``.
    """
    inputs = _record(module, run)
    failed: dict[str, Unsupported] = {}
    for path, child in reversed(list(module.named_modules())):  # children come after their parents
        if child not in inputs or any(known.startswith(f"{path}." if path else "") for known in failed):
            continue
        try:
            _alone(child, *inputs[child], key)
        except Exception as problem:  # a module may fail in any way
            failed[path] = _entry(path, child, problem)
    return tuple(reversed(failed.values())) or (_entry("", module, error),)


def _record(module: nn.Module, run: Callable[[], Any]) -> dict[nn.Module, tuple[Any, Any]]:
    inputs: dict[nn.Module, tuple[Any, Any]] = {}

    def keep(child: nn.Module, args: Any, kwargs: Any) -> None:
        inputs.setdefault(child, (args, kwargs))

    hooks = (child.register_forward_pre_hook(keep, with_kwargs=True) for child in module.modules())
    with hooked(hooks), torch.no_grad():
        run()
    return inputs


def _alone(module: nn.Module, args: Any, kwargs: Any, key: Key) -> None:
    leaves, spec = pytree.tree_flatten((args, kwargs))
    moving = {
        str(i): x.detach() for i, x in enumerate(leaves) if isinstance(x, Tensor) and x.is_floating_point()
    }
    if not moving:
        return

    def total(params: Params) -> Tensor:
        given = [params.get(str(i), leaf) for i, leaf in enumerate(leaves)]
        a, k = pytree.tree_unflatten(given, spec)
        out = [leaf for leaf in pytree.tree_flatten(module(*a, **k))[0] if isinstance(leaf, Tensor)]
        sums = [leaf.sum() for leaf in out if leaf.is_floating_point()]
        return torch.stack(sums).sum() if sums else torch.zeros(())

    jvp(total, moving, [{name: key.normal(name, tuple(x.shape), x) for name, x in moving.items()}])


def _entry(path: str, module: nn.Module, problem: Exception) -> Unsupported:
    reason = (str(problem).strip() or type(problem).__name__).splitlines()[0]
    if not isinstance(problem, ModelError):
        reason = f"{type(problem).__name__}: {reason}"
    remedy = next((text for name, text in REMEDIES.items() if name in reason), RULE)
    return Unsupported(module=path or "(the model)", kind=type(module).__name__, reason=reason, remedy=remedy)
