"""How much less an estimate errs if a token is credited with the losses from its own position on: SmolLM2 on real text.

    python research/credit.py --data ag_news_test.tsv.gz

The next-token loss of a batch of 4 texts of 64 tokens; LoRA r=1 on queries and values, A trained from 0, B frozen at
singular vectors; K = 1, gaussian. Measured is ``|g_hat - g|^2 / |g|^2``, once with one layer's maps in the pass (a
client's slice), and once with all. A pass keeps a trace for every token, of which the estimates of all C are put
together as ``activation`` does; predicted is its formula, with gradients from autograd. Writes
research/results/credit.json; a few minutes on one core.

Runs at commit 2e7a0ee (with its ``benchmarks`` in the place of ``research``), whose features it measures.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import mean, stdev
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from credit_problem import BATCH, TOKENS, NextToken, prepare
from spry.estimators.credit import credit, cut
from spry.forward.tap import tapped
from torch import Tensor

from spry.core.keys import Key
from spry.core.params import Params, dot, tree_map
from spry.estimators.directions import gaussian
from spry.experiment.atomic import write_json
from spry.experiment.provenance import provenance

LAYER = 15
SEGMENTS = (1, 2, 4, 8, 16, TOKENS)
FINEST = 16  # segments whose losses autograd differentiates
TOGETHER = 4  # draws of one pass


def observed(loss: NextToken, w: Params) -> tuple[Params, Params, Params]:
    """Get the gradient, each map's inputs (B, T, D), and the later losses' gradients by its outputs (C, B, T, R)."""
    leaves = {n: v.clone().requires_grad_() for n, v in w.items()}
    names, linear = {id(leaf): n for n, leaf in leaves.items()}, F.linear
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}

    def spy(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        z = linear(x, weight, bias)
        if id(weight) in names:
            inputs[names[id(weight)]], outputs[names[id(weight)]] = x.detach(), z
        return z

    with patch.object(F, "linear", spy):
        losses = loss.tokens(leaves)
    of = [*outputs.values()]
    rows = [torch.autograd.grad(losses[:, s:].sum(), of, retain_graph=True) for s in cut(TOKENS, FINEST)]
    g = {n: torch.stack([row[i] for row in rows]) for i, n in enumerate(outputs)}
    return {n: torch.einsum("btr,btd->rd", g[n][0], inputs[n]) / BATCH for n in g}, inputs, g


def predicted(inputs: Params, g: Params, segments: int) -> float:
    """Predict ``E|g_hat - g|^2`` of one gaussian direction."""
    bounds = list(pairwise((*cut(TOKENS, segments), TOKENS)))
    later = {n: x[:: FINEST // segments] for n, x in g.items()}
    energies = sum(x.square().sum((2, 3)) for x in later.values())
    total = 0.0
    for name, x in inputs.items():
        own = torch.stack([later[name][:, :, a:b].mT @ x[:, a:b] for a, b in bounds], 1)
        far = torch.stack([x[:, a:b].square().sum((1, 2)) for a, b in bounds])
        total += float(own.shape[-2] * (energies * far).sum() + (own * own.transpose(0, 1)).sum())
    return total / BATCH**2


def estimates(loss: NextToken, w: Params, key: Key) -> dict[int, list[Params]]:
    """Draw for every C."""

    def noise(name: str, call: int, like: Tensor) -> list[Tensor]:
        return [u[name] for u in gaussian(key, {name: like}, TOGETHER)]

    got = tapped(loss.tokens, {}, w, [{}] * TOGETHER, noise, loss.mask, starts=range(TOKENS))
    found: dict[int, list[Params]] = {}
    for count in SEGMENTS:
        starts = cut(TOKENS, count)
        owner = torch.bucketize(torch.arange(TOKENS), torch.tensor(starts), right=True) - 1
        slopes = credit(got.slopes.detach(), starts)[..., owner] / BATCH
        found[count] = [
            {n: torch.einsum("bt,btrd->rd", s, trace.product()[k]) for n, trace in got.traces.items()}
            for k, s in enumerate(slopes)
        ]
    return found


def compared(found: Sequence[Params], true: Params) -> dict[str, float]:
    """Summarise errors and cosines."""
    norm = dot(true, true)
    wrong = [tree_map(torch.sub, got, true) for got in found]
    errors = [dot(e, e) / norm for e in wrong]
    cosines = [dot(got, true) / (norm * dot(got, got)) ** 0.5 for got in found]
    return {
        "error": mean(errors),
        "error_se": stdev(errors) / len(errors) ** 0.5,
        "cosine": mean(cosines),
        "cosine_se": stdev(cosines) / len(cosines) ** 0.5,
    }


def main() -> None:
    """Measure one layer's maps, then all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--draws", type=int, default=16)
    parser.add_argument("--out", type=Path, default=Path("research/results/credit.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    loss, weights = prepare(args.data)
    rows: list[dict[str, Any]] = []
    one = {n: w for n, w in weights.items() if f".{LAYER}." in n}
    for which, own in {"layer": one, "all": weights}.items():
        drawn = [estimates(loss, own, Key(i)) for i in range(args.draws // TOGETHER)]
        true, inputs, g = observed(loss, own)
        for c in SEGMENTS:
            wanted = predicted(inputs, g, c) / dot(true, true) if c <= FINEST else None
            found = compared([got for draw in drawn for got in draw[c]], true)
            rows.append({"maps": which, "taps": len(own), "C": c, "predicted": wanted, **found})
            print(rows[-1], flush=True)
        about = {"B": BATCH, "T": TOKENS, "K": 1, "draws": args.draws}
        write_json(args.out, {"provenance": provenance(), **about, "rows": rows})


if __name__ == "__main__":
    main()
