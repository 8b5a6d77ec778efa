"""One call of a layer, remembered so that it can be made again: with its weights, its mode and its dropout masks.

A plain second call would run with the module's own weights, in its mode of then, and with other masks.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from spry.core.params import Params
from spry.forward.dropout import Masks, current_masks
from spry.forward.dual import primal


@contextmanager
def training(module: nn.Module, on: bool = True) -> Generator[None]:
    """Put a module and all modules in it in training mode, and each back in its own mode afterwards."""
    changed = [child for child in module.modules() if child.training != on]
    for child in changed:
        child.training = on
    try:
        yield
    finally:
        for child in changed:
            child.training = not on


@contextmanager
def forwards(given: Mapping[nn.Module, Callable[..., Any]]) -> Generator[None]:
    """Let modules compute something else while the context is open."""
    before = {module: module.__dict__.get("forward") for module in given}
    try:
        for module, forward in given.items():
            module.forward = forward
        yield
    finally:
        for module, forward in before.items():
            if forward is None:
                del module.forward
            else:
                module.forward = forward


@dataclass(frozen=True, kw_only=True, eq=False)
class Recall:
    """What a layer was called with.

    Args:
        weights: Those of the call, replaced or the layer's own, by their names in the layer.
        masks: Where the call's dropout masks come from; None without dropout.
        drawn: Masks that were drawn before the call.
    """

    layer: nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    weights: Params
    mode: bool
    masks: Masks | None
    drawn: int

    @classmethod
    def of(cls, layer: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Recall:
        """Remember a call that is about to be made; to be used while weights are replaced."""
        masks = current_masks()
        return cls(
            layer=layer,
            args=args,
            kwargs=kwargs,
            weights=dict(layer.named_parameters()),
            mode=layer.training,
            masks=masks,
            drawn=0 if masks is None else masks.count,
        )

    def settled(self) -> Recall:
        """The same call with weights that are values alone."""
        return replace(self, weights={name: primal(weight).detach() for name, weight in self.weights.items()})

    def again(self, *args: Any, weights: Params | None = None, **kwargs: Any) -> Any:
        """Make the call again, with other arguments and some other weights."""
        with training(self.layer, self.mode):
            return functional_call(self.layer, {**self.weights, **(weights or {})}, args, kwargs)

    def masked(self) -> AbstractContextManager[Any]:
        """Draw the masks of the call again while the context is open."""
        return nullcontext() if self.masks is None else Masks(self.masks.key, self.drawn)


def hidden_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
    """Find the hidden state among the arguments of a layer: the first one, or the one of that name."""
    found = args[0] if args else kwargs.get("hidden_states")
    return found if isinstance(found, Tensor) else None


def hidden_from(output: Any) -> Any:
    """Find the hidden state in what a layer gave: all of it, or the first of several things."""
    return output[0] if isinstance(output, tuple) else output


def with_hidden(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], hidden: Any
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Put another hidden state in the place of the one that a layer was called with."""
    return ((hidden, *args[1:]), dict(kwargs)) if args else ((), {**kwargs, "hidden_states": hidden})
