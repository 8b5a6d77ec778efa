"""Forward gradients from directions in activation space: one slope an example instead of one a batch."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import torch
from spry.estimators.amplitudes import Amplitudes, places, spread
from spry.estimators.credit import credit, cut
from spry.forward.loss import CausalLoss, Loss
from spry.forward.tap import tapped
from spry.forward.trace import Trace
from torch import Tensor

from spry.core.errors import ConfigError
from spry.core.keys import Key
from spry.core.params import Params, tree_map
from spry.estimators.directions import JOINT
from spry.estimators.estimate import Estimate, Estimator
from spry.estimators.exact import by_rows
from spry.estimators.projected import Measurement, expand

Choice = Callable[[Params, float], Collection[str]]
"""``(weights, tokens) -> names``: which weights to tap, given the mean number of tokens of an example."""


def maps(params: Params, tokens: float) -> list[str]:
    """Tap every map.

    Args:
        params: Weights.
        tokens: Mean tokens of an example.

    Returns:
        Names of the weights of two dimensions.
    """
    return [name for name, w in params.items() if w.dim() == 2]


def narrow(params: Params, tokens: float) -> list[str]:
    """Tap the maps with no more outputs than inputs, such as LoRA's A and LoRA-XS's R, but not LoRA's B.

    A map of shape (R, D) takes ``R D`` random numbers a batch as a weight, and ``R T`` an example at its outputs, so
    that texts shorter than D pay. LoRA's B has D = r inputs and as many outputs as the model is wide.

    Args:
        params: Weights.
        tokens: Mean tokens of an example.

    Returns:
        Names of the weights to tap.
    """
    return [name for name in maps(params, tokens) if params[name].shape[0] <= params[name].shape[1]]


def activation(
    measurement: Measurement,
    count: int = 1,
    choice: Choice = maps,
    amplitudes: Amplitudes | None = None,
    segments: int = 8,
    tied: bool = False,
) -> Estimator:
    """Estimate a gradient from the slopes of each example along directions in the outputs of trained maps.

    ``g = 1/(B K) sum_b,k s_bk V_bk`` with ``V_bk = sum_t u_bkt x_bt'``, for a map ``z_t = A x_t`` of R outputs. It is
    unbiased. With ``G_b`` the gradient of example b's loss by the outputs of all taps, and ``X_b`` the inputs of this
    one, gaussian directions err by ``E|g - dL/dA|^2 = 1/(B^2 K) sum_b (R |G_b|^2 |X_b|^2 + |dL_b/dA|^2)``: this
    grows with tokens and taps, not with the width D. Weights that are not tapped are moved along weight directions in
    the same pass; the exact ones are not moved.

    The positions of a ``CausalLoss`` are cut into C segments, each with a trace of its own and credited with the losses
    from its first position on: ``g = 1/(B K) sum_b,k,c s_bkc V_bkc``, ``s_bkc = sum_{t >= start(c)} s_bkt``. It stays
    unbiased. With ``G_bc`` the gradient of these losses by the outputs of all taps, and ``P_bcc'`` the part of their
    gradient by A that comes from segment c', gaussian directions err by ``1/(B^2 K) sum_b (R sum_c |G_bc|^2 |X_bc|^2 +
    sum_cc' <P_bcc', P_bc'c>)``.

    Tied, all tokens of a place (``amplitudes.PLACES``: the first, the last, those between) move together, by
    ``u_bt = v_b,place / sqrt(n_place)``: three numbers an output and example instead of T, so that the error grows with
    places instead of tokens. What is estimated is ``sum_place (sum_t G_bt) (mean_t x_bt)'``: the gradient, but for the
    covariance of ``G`` and ``x`` among the tokens of a place. Biased by that, for errors several times smaller.

    Args:
        measurement: How directions are drawn, of weights and of outputs alike: numbers independent of each other
            (``gaussian``, ``rademacher``); and the names whose gradient is taken exactly.
        count: K, >= 1.
        choice: Which weights to tap.
        amplitudes: How far to move which tokens (``calibrate``); all alike without it.
        segments: C, >= 1; at most as many as positions. A tapped weight's trace takes C times its memory an example.
            Tied, there is one.
        tied: Whether tokens of one place move together.

    Returns:
        The estimator; its draws do not depend on how the batch is split into micro-batches. It records no slopes,
        since without the inputs they determine no gradient.

    Raises:
        ConfigError: If K or C is less than 1, or the directions' numbers depend on each other.

    Source:
        Ren et al. 2022 (arXiv 2210.03310), equation 4, there for stacks of dense layers with greedy losses; here for
        any map in an unmodified model, an example's tokens sharing its slope, or in causal models their segment's.
    """
    if count < 1:
        raise ConfigError(f"{count} directions asked for; there must be at least 1")
    if segments < 1:
        raise ConfigError(f"{segments} segments asked for; there must be at least 1")
    if measurement.directions in JOINT:
        raise ConfigError(
            "activation directions need numbers that do not depend on each other: set method.directions = 'gaussian' "
            "or 'rademacher', or method.estimator = 'weight'"
        )

    def estimate(loss: Loss, params: Params, key: Key, hint: Params | None = None) -> Estimate:
        exact = {n: w for n, w in params.items() if n in measurement.exact}
        moved = {n: w for n, w in params.items() if n not in measurement.exact}
        chosen = set(choice(moved, mean_tokens(loss)))
        run = _Pass(
            taps={n: w for n, w in moved.items() if n in chosen},
            weights={n: w for n, w in moved.items() if n not in chosen},
            leaves=tree_map(lambda w: w.detach().clone().requires_grad_(), exact),
            measurement=measurement,
            count=count,
            key=key,
            amplitudes=amplitudes or {},
            segments=1 if tied else segments,
            tied=tied,
        )
        for share, part in loss.parts():
            run.take(share, part)
        gradient = run.gradient()
        return Estimate(value=run.value, gradient={n: gradient[n] for n in params})

    return estimate


@dataclass
class _Pass:
    """One estimate under way, micro-batch by micro-batch."""

    taps: Params
    weights: Params
    leaves: Params
    measurement: Measurement
    count: int
    key: Key
    amplitudes: Amplitudes
    segments: int
    tied: bool
    value: float = 0.0
    seen: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.directions = self.measurement.draw(self.key, self.weights, self.count) or [{}] * self.count
        self.slopes = torch.zeros(self.count, dtype=torch.float64)

    def take(self, share: float, part: Loss) -> None:
        moving = bool(self.taps or self.weights)
        with torch.set_grad_enabled(moving or bool(self.leaves)):
            if moving:
                losses, slopes, traces = self._moved(part)
            else:
                losses, slopes, traces = (
                    by_rows(part.examples, self.leaves),
                    torch.zeros(self.count, 1, 1),
                    {},
                )
        self.value += share * float(losses.detach().mean())
        self.slopes += share * slopes[..., 0].detach().mean(1).double().cpu()
        for name in list(traces):
            trace = traces.pop(name)
            if trace.inputs.shape[1]:
                mean = trace.weighted(slopes.to(trace.inputs.dtype))
                self._add(name, mean * (share / (self.count * len(losses))))
        self._heads(share, losses)
        self.seen += len(losses)

    def _moved(self, part: Loss) -> tuple[Tensor, Tensor, dict[str, Trace]]:
        """The examples' losses, their segments' slopes (K, B, C), of which the first is the example's, and traces."""
        if isinstance(part, CausalLoss) and self.segments > 1:
            evaluate, starts = part.tokens, cut(part.mask.shape[1], self.segments)
        else:
            evaluate, starts = part.examples, [0]
        losses, slopes, traces = tapped(
            lambda w: evaluate({**w, **self.leaves}),
            self.weights, self.taps, self.directions, self.noise, part.mask,
            self._spread(part.mask), starts, self._together(part.mask),
        )  # fmt: skip
        if losses.dim() == 1:
            return losses, slopes.unsqueeze(-1), traces
        return losses.sum(1), credit(slopes, starts), traces

    def noise(self, name: str, call: int, like: Tensor) -> list[Tensor]:
        """Draw for the whole batch up to this micro-batch, whose numbers are the last."""
        whole = like.new_empty(self.seen + len(like), *like.shape[1:])
        key = self.key.fold("tap", call)
        drawn = self.measurement.directions(key, {name: whole}, self.count)
        return [u[name][self.seen :] for u in drawn]

    def _together(self, mask: Tensor | None) -> Tensor | None:
        """How the tokens of each place move together if they are tied, shape (B, T, M)."""
        if not self.tied or mask is None:
            return None
        where = places(mask).float()
        return where / where.sum(1, keepdim=True).clamp(min=1).sqrt()

    def _spread(self, mask: Tensor | None) -> dict[str, Tensor]:
        own = {n: self.amplitudes[n] for n in self.taps if n in self.amplitudes}
        return spread(own, mask) if mask is not None and own else {}

    def gradient(self) -> dict[str, Tensor]:
        zeros = {n: torch.zeros_like(w) for n, w in {**self.taps, **self.leaves}.items()}
        along = expand(self.slopes, self.directions) if self.weights else {}
        return {**zeros, **along, **self.sums}

    def _heads(self, share: float, losses: Tensor) -> None:
        if self.leaves:
            found = torch.autograd.grad(losses.mean(), list(self.leaves.values()))
            for name, gradient in zip(self.leaves, found, strict=True):
                self._add(name, share * gradient)

    def _add(self, name: str, value: Tensor) -> None:
        self.sums[name] = self.sums[name] + value if name in self.sums else value


def mean_tokens(loss: Loss) -> float:
    """Count the tokens of a batch's examples.

    Args:
        loss: The loss of the batch.

    Returns:
        Tokens per example, padding left out; 1 where examples are no sequences.
    """
    mask = loss.mask
    return 1.0 if mask is None else float(mask.sum()) / len(mask)
