"""A language model in two halves: the trunk that gives hidden states, and the head that makes logits of some of them.

Both are the model's own code. The head is the rest of its forward pass, run with a trunk that gives chosen rows: so its
caps, scales and adapters act as they do in the whole model, whatever they are.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spry.core.errors import ModelError
from spry.core.params import Params
from spry.forward.functional import call
from spry.forward.hooks import hooked
from spry.forward.recall import hidden_from, training

_REMEDY = "Choose another model, or one that `spry check --task causal-lm` passes."


class _EnoughError(Exception):
    """Ends a pass whose rest nobody reads."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LanguageHead:
    """The two halves of a causal language model.

    Args:
        module: The whole model, adapters included; it is called with token numbers and gives logits.
        trunk: The module in it whose output the head reads.
        output: What the trunk gives: a named output's type, ``tuple`` or ``Tensor``.
        vocabulary: V, the width of the logits.
    """

    module: nn.Module
    trunk: Any
    output: type
    vocabulary: int

    def hidden(self, params: Params, **inputs: Tensor) -> Tensor:
        """Run the trunk: hidden states, shape (B, S, d)."""
        found: list[Any] = []

        def stop(_module: nn.Module, _args: Any, output: Any) -> None:
            found.append(hidden_from_trunk(output))
            raise _EnoughError

        with self.trunk.register_forward_hook(stop), suppress(_EnoughError):
            call(self.module, params, **inputs)
        assert found, "the trunk was not called"
        return found[0]

    def logits(self, params: Params, rows: Tensor) -> Tensor:
        """Run the head on some rows of hidden states, shape (n, d): logits, shape (n, V)."""
        tokens = torch.zeros(1, len(rows), dtype=torch.int64, device=rows.device)
        with _giving(self.trunk, _wrapped(rows[None], self.output)):
            return call(self.module, params, input_ids=tokens).logits[0]


@contextmanager
def _giving(trunk: Any, output: Any) -> Generator[None]:
    """Let a trunk give something without computing anything, while the context is open."""
    before = vars(trunk).get("forward")
    trunk.forward = lambda *_, **__: output
    try:
        yield
    finally:
        if before is None:
            del trunk.forward
        else:
            trunk.forward = before


def _wrapped(hidden: Tensor, output: type) -> Any:
    if issubclass(output, Tensor):
        return hidden
    return (hidden,) if output is tuple else output(last_hidden_state=hidden)


def hidden_from_trunk(output: Any) -> Any:
    """The hidden state in what a trunk gave: of its named output, else the first of several things."""
    named = getattr(output, "last_hidden_state", None)
    return hidden_from(output) if named is None else named


_found: weakref.WeakKeyDictionary[nn.Module, tuple[str, type, int]] = weakref.WeakKeyDictionary()
"""The trunk's name, what it gives and the width of the logits; a head itself would keep its module alive."""


def language_head_of(module: Any, ids: Tensor) -> LanguageHead:
    """Find the halves of a model, once; ``find_language_head`` says how and what is refused."""
    if module not in _found:
        name = getattr(module.config, "_name_or_path", "") or type(module).__name__
        with training(module, on=False), _unhooked(module):  # dropout would make two passes differ
            head = find_language_head(module, ids, name)
        path = next(path for path, child in module.named_modules() if child is head.trunk)
        _found[module] = (path, head.output, head.vocabulary)
    path, output, vocabulary = _found[module]
    return LanguageHead(module=module, trunk=module.get_submodule(path), output=output, vocabulary=vocabulary)


@contextmanager
def _unhooked(module: nn.Module) -> Generator[None]:
    """Keep hooks from passes that are none of theirs: a method's may be in place when the head is looked for."""
    names = ("_forward_hooks", "_forward_pre_hooks")
    before = [(child, {name: getattr(child, name) for name in names}) for child in module.modules()]
    for child, hooks in before:
        for name in hooks:
            setattr(child, name, OrderedDict())
    try:
        yield
    finally:
        for child, hooks in before:
            for name, own in hooks.items():
                setattr(child, name, own)


def find_language_head(module: Any, ids: Tensor, name: str) -> LanguageHead:
    """Find the trunk of a model and make sure that its head reads each position by itself.

    Args:
        module: The model, adapters included.
        ids: Tokens that the model reads, shape (B, S).
        name: What to call the model in messages.

    Raises:
        ModelError: If the model has no such halves, or a token's score depends on those after it: it names the reason.
    """
    _check_causal(module, ids, name)
    refused = f"{name}: its head cannot be run on some positions by themselves"
    with torch.no_grad():
        found, logits = _find_trunk(module, ids)
        if found is None:
            raise ModelError(f"{refused}: no module gives it hidden states, shape (B, S, d). {_REMEDY}")
        trunk, output = found
        head = LanguageHead(module=module, trunk=trunk, output=output, vocabulary=logits.shape[-1])
        rows = head.hidden({}, input_ids=ids).flatten(0, 1).flip(0)
        try:
            own = head.logits({}, rows).flip(0).view_as(logits)
        except (RuntimeError, TypeError, AttributeError, IndexError) as error:
            raise ModelError(f"{refused} ({str(error).splitlines()[0]}). {_REMEDY}") from error
    if not _alike(own, logits):
        raise ModelError(f"{refused}: the logits of a position are others there. {_REMEDY}")
    return head


@torch.no_grad()
def _check_causal(module: Any, ids: Tensor, name: str) -> None:
    """Refuse a model that reads texts in both directions: what it is to predict, it would see."""
    other = ids.clone()
    other[:, -1] = (ids[:, -1] == 0).to(ids.dtype)  # another token than it was
    before, after = module(input_ids=ids).logits[:, :-1], module(input_ids=other).logits[:, :-1]
    if not _alike(before, after):
        raise ModelError(
            f"{name}: reads texts in both directions, as encoders do, so that it sees the tokens that it is to "
            "predict. Choose a decoder, such as smollm2."
        )


def _alike(found: Tensor, expected: Tensor) -> bool:
    """Whether logits differ by rounding only."""
    share = 1e-2 if expected.dtype in {torch.bfloat16, torch.float16} else 1e-4
    size = float(expected.abs().max()) if expected.numel() else 0.0
    return torch.allclose(found, expected, rtol=share, atol=share * size)


def _find_trunk(module: Any, ids: Tensor) -> tuple[tuple[nn.Module, type] | None, Tensor]:
    """The first of the outermost modules that give hidden states of all positions, with the type of what it gives.

    Also the model's logits.
    """
    model = module.get_base_model() if hasattr(module, "get_base_model") else module
    depth = 0
    found: list[tuple[nn.Module, type]] = []

    def enter(_child: nn.Module, _args: Any) -> None:
        nonlocal depth
        depth += 1

    def leave(child: nn.Module, _args: Any, output: Any) -> None:
        nonlocal depth
        depth -= 1
        hidden = hidden_from_trunk(output)
        if depth == 0 and isinstance(hidden, Tensor) and hidden.dim() == 3 and hidden.shape[:2] == ids.shape:
            found.append((child, type(output)))

    children = [child for child in model.modules() if child is not model]
    with (
        hooked(child.register_forward_pre_hook(enter) for child in children),
        hooked(child.register_forward_hook(leave) for child in children),
    ):
        logits = module(input_ids=ids).logits
    return (found[0] if found else None), logits
