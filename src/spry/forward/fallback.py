"""The rule for everything without a rule: ``torch.func.jvp`` of the single function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from spry.core.errors import ModelError
from spry.forward.custom_ops import custom_rule
from spry.forward.diagnostics import count_fallback, name_of
from spry.forward.dual import Dual, Tangents, has_derivative, num_tangents, primal


def fallback(func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Compute a function's value and differentiate it along each direction by PyTorch's own forward mode.

    Duals may be nested in lists, tuples and dicts; ``func`` must not write to them. Integers, booleans, ``None`` and
    other results without a derivative are returned as they are. A function without a forward-mode derivative is a
    ModelError.
    """
    known = custom_rule(func)
    if known is not None:
        return known(*args, **kwargs)
    leaves, spec = tree_flatten((args, kwargs))
    duals = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Dual)]
    plain = [primal(leaf) for leaf in leaves]

    def run(*values: Tensor) -> tuple[list[Any], Any]:
        given = list(plain)
        for i, value in zip(duals, values, strict=True):
            given[i] = value
        a, k = tree_unflatten(given, spec)
        return tree_flatten(func(*a, **k))

    random = Replay(plain[duals[0]].device)
    out, out_spec = run(*(plain[i] for i in duals))
    moved = [j for j, leaf in enumerate(out) if has_derivative(leaf)]
    if not moved:
        return tree_unflatten(out, out_spec)
    count_fallback(func)

    def movable(*values: Tensor) -> tuple[Tensor, ...]:
        results, _ = run(*values)
        return tuple(results[j] for j in moved)

    columns = []
    for k in range(num_tangents(*leaves)):
        random.rewind()  # dropout and its kin: one draw for the value and all derivatives
        columns.append(_differentiate(func, movable, leaves, duals, k))
    for i, j in enumerate(moved):
        out[j] = Dual(out[j], [column[i].to(out[j].dtype) for column in columns])
    return tree_unflatten(out, out_spec)


class Replay:
    """Lets a function that draws random numbers draw the same ones again."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device if device.type == "cuda" else None
        self._traced = torch.compiler.is_compiling()
        self._state = None if self._traced else self._now()

    def _now(self) -> tuple[Tensor, ...]:
        on_cuda = () if self._cuda is None else (torch.cuda.get_rng_state(self._cuda),)
        return (torch.get_rng_state(), *on_cuda)

    @property
    def was_drawn(self) -> bool:
        """Whether numbers were drawn since the start."""
        return self._state is not None and not all(map(torch.equal, self._state, self._now()))

    def rewind(self) -> None:
        """Go back to the start, unless nothing was drawn since."""
        if self._state is None or not self.was_drawn:
            return
        torch.set_rng_state(self._state[0])
        if self._cuda is not None:
            torch.cuda.set_rng_state(self._state[1], self._cuda)


def _differentiate(
    func: Callable[..., Any],
    run: Callable[..., tuple[Tensor, ...]],
    leaves: list[Any],
    duals: list[int],
    k: int,
) -> Tangents:
    """Tangents of all results that have them, along direction ``k``."""
    primals = tuple(leaves[i].primal.detach().contiguous() for i in duals)  # torch.func refuses expanded ones
    tangents = tuple(leaves[i].tangents[k].contiguous() for i in duals)
    try:
        with torch.no_grad():
            return torch.func.jvp(run, primals, tangents)[1]
    except (RuntimeError, NotImplementedError) as error:
        raise ModelError(
            f"PyTorch has no forward-mode derivative for {name_of(func)!r}; "
            f"register one with spry.forward.rule, or switch to an implementation made of ordinary operations: {error}"
        ) from error
