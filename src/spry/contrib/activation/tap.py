"""Taps: trained maps whose outputs are moved along random directions, example by example, instead of their weights.

A map ``z_t = A x_t`` is shared by all tokens of all examples. Moving ``A`` itself gives one slope a batch; moving each
example's ``z`` gives one slope an example, and what turns the slopes into a gradient of ``A`` is formed during the
pass: the trace ``V_b = sum_t u_t x_t'``, of the shape of ``A``. No input is stored.
Tokens may be moved together in M groups; then M sums of inputs make up the trace.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from spry.contrib.activation.trace import Trace
from spry.core.errors import ModelError
from spry.core.params import Params
from spry.forward.diagnostics import count_dropped, track_fallbacks
from spry.forward.dual import Dual, primal
from spry.forward.promotion import forward_pass

Noise = Callable[[str, int, Tensor], Sequence[Tensor]]
"""``(name, call, like) -> u_1 .. u_K``: draws K tensors like one of shape (B, T, R), or (B, M, R) where tokens move
together, for a weight's call-th use."""


class Tapped(NamedTuple):
    """What one pass with taps gave.

    The examples' losses have the shape (B,), their slopes along each direction (K, B). A tapped map that was never used
    has a trace of zero examples.
    """

    losses: Tensor
    slopes: Tensor
    traces: dict[str, Trace]


def tapped(
    examples: Callable[[Params], Tensor],
    params: Params,
    taps: Params,
    directions: Sequence[Params],
    noise: Noise,
    mask: Tensor | None = None,
    together: Tensor | None = None,
) -> Tapped:
    """Move the outputs of some maps, and some other weights, along K directions in one pass.

    With ``G_b`` the gradient of example b's loss by the outputs of a tapped map and ``u`` the noise in them, the slopes
    are ``s_b = sum <G_b, u_b> + <dL_b/dw, v>``, summed over taps and directions. If ``E[u u'] = I``,
    ``E[s_b V_b] = dL_b/dA``. The losses carry autograd's graph of operations on closed-over tensors that require grad
    (an exact head).

    Args:
        examples: Gives the examples' losses, shape (B,), for the weights; runs on dual numbers.
        params: The weights that ``directions`` move; may be empty.
        taps: Weights of shape (R, D) whose outputs are moved; each may only enter ``torch.nn.functional.linear``.
        mask: 1 for tokens and 0 for padding, shape (B, T); padding is not moved.
        together: How tokens move together, shape (B, T, M), 0 for padding: ``u_t = sum_m together_tm w_m``, where
            ``noise`` draws w, shape (B, M, R). Without it each token moves by itself.

    Raises:
        ModelError: If a tapped weight is used otherwise, its inputs do not lie example by example, or the losses do not
            depend on the weights.

    Source:
        Ren et al. 2022 (arXiv 2210.03310), activity perturbation; the trace formed on the way is ours.
    """
    mask = None if mask is None else mask.to(next(iter(taps.values()), mask).device)
    moved: dict[str, Tensor] = {
        name: _tap(_Site(name, w.detach(), len(directions), noise, mask, together))
        for name, w in taps.items()
    }
    moved |= {name: Dual(w.detach(), [v[name] for v in directions]) for name, w in params.items()}
    with (
        track_fallbacks() as report,
        torch.inference_mode(False),
        torch.enable_grad(),
        forward_pass(),
        _Taps(),
    ):
        losses = examples(moved)
        moving = (losses.primal, torch.stack(losses.tangents)) if isinstance(losses, Dual) else None
    traces = {name: tap.gathered() for name, tap in moved.items() if isinstance(tap, Tap)}
    if moving is not None:
        return Tapped(*moving, traces)
    if report.dropped:
        raise ModelError(
            f"the losses do not depend on the weights: the derivative was stopped by {dict(report.dropped)}"
        )
    return Tapped(losses, losses.new_zeros(len(directions), *losses.shape), traces)


@dataclass
class _Site:
    """What a tap knows and gathers."""

    name: str
    weight: Tensor
    count: int
    noise: Noise
    mask: Tensor | None
    together: Tensor | None
    calls: int = 0
    trace: Trace | None = None


class Tap(Dual):
    """A weight whose map is moved at its output; it has no tangents of its own and refuses whatever needs them."""

    site: _Site

    @staticmethod
    def __new__(cls, site: _Site) -> Tap:  # ruff: ignore[missing-type-function-argument]
        weight = site.weight
        self = torch.Tensor._make_wrapper_subclass(  # pyright: ignore[reportAttributeAccessIssue]
            cls, weight.shape, strides=weight.stride(), dtype=weight.dtype, device=weight.device
        )
        self._pair = self._aliases = None
        self.site = site
        return self

    def pair(self) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Refuse: whoever asks is not the linear map that this weight was tapped for."""
        raise ModelError(
            f"weight {self.site.name!r} is used in another way than as the weight of torch.nn.functional.linear, "
            f"so its outputs cannot be moved; estimate it with weight directions (method.name = 'spry')"
        )

    def gathered(self) -> Trace:
        """The trace that was gathered; of zero examples if the map was never used."""
        site = self.site
        if site.trace is None:
            return Trace.of(site.weight.new_zeros(site.count, 0, *self.shape))
        return site.trace

    def apply(self, input: Any, bias: Any) -> Tensor:
        """Compute ``z = A x`` with the tangents ``A x_k + u_k`` and add ``u_k x'`` to the traces.

        ``input`` is ``x``, shape (B, ..., D) or (B T, D); it and the bias are dual or plain.
        """
        weight = self.site.weight
        x = primal(input)
        out = F.linear(x, weight, primal(bias))
        if not torch.is_grad_enabled():
            count_dropped(F.linear)
            return out
        noises = self._noises(x.detach(), out)
        tangents = [u.reshape(out.shape) for u in noises]
        if isinstance(input, Dual):
            tangents = [u + F.linear(t, weight) for u, t in zip(tangents, input.tangents, strict=True)]
        if isinstance(bias, Dual):
            tangents = [u + t for u, t in zip(tangents, bias.tangents, strict=True)]
        return Dual(out, tangents)

    def _noises(self, x: Tensor, out: Tensor) -> list[Tensor]:
        site = self.site
        rows = self._by_example(x)
        kept, together = self._tokens(rows.shape[1], out)
        like = out.detach().new_empty(
            len(rows), rows.shape[1] if together is None else together.shape[2], out.shape[-1]
        )
        drawn = torch.stack(list(site.noise(site.name, site.calls, like)))
        if together is None:
            drawn *= kept
            trace = Trace.of(drawn.mT @ rows)  # formed at once: inputs are not stored
        else:
            trace = Trace(drawn, (together.mT @ rows)[None]).smaller()
            drawn = together @ drawn
        site.trace = trace if site.trace is None else site.trace.plus(trace)
        site.calls += 1
        return list(drawn)

    def _tokens(self, count: int, like: Tensor) -> tuple[Tensor | float, Tensor | None]:
        """Which tokens are moved, (B, T, 1), and how together; 1, None where rows are no tokens."""
        mask, together = self.site.mask, self.site.together
        if mask is None or mask.shape[1] != count:
            return 1.0, None
        return mask.to(like).unsqueeze(-1), None if together is None else together.to(like)

    def _by_example(self, x: Tensor) -> Tensor:
        """The inputs as (B, T, D)."""
        count = len(x) if self.site.mask is None else len(self.site.mask)
        if x.dim() < 2 or (len(x) != count and (x.dim() != 2 or len(x) % count)):
            raise ModelError(
                f"the input of {self.site.name!r} has shape {tuple(x.shape)}, which does not lie example by example in "
                f"a batch of {count}; estimate its gradient with weight directions (method.name = 'spry')"
            )
        return x.reshape(count, -1, x.shape[-1])


def _tap(site: _Site) -> Tap:
    if site.weight.dim() != 2:
        raise ModelError(
            f"{site.name!r} has shape {tuple(site.weight.shape)}; only weights of maps, of two dimensions, have "
            f"outputs to move"
        )
    return Tap(site)


class _Taps(TorchFunctionMode):
    """Hands linear maps with a tapped weight to the tap, before anything else sees them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _linear(*args, **(kwargs or {})) if func is F.linear else func(*args, **(kwargs or {}))


def _linear(input: Any, weight: Any, bias: Any = None) -> Tensor:
    return weight.apply(input, bias) if isinstance(weight, Tap) else F.linear(input, weight, bias)
