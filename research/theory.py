"""The claims of docs/theory.md measured with the library's own composition, on small float64 problems.

    python research/theory.py

Slopes are taken from autograd's gradient, ``<g, v>``, which is what forward mode measures and quicker here. Writes
research/results/theory.json and the pictures docs/pictures/theory_*.png; some minutes on one core.

Runs at commit 2e7a0ee (with its ``benchmarks`` in the place of ``research``), whose features it measures.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
import theory_pictures
import theory_problem as problem

from spry.core.keys import Key
from spry.core.params import Params
from spry.core.units import Unit, names_of
from spry.estimators.directions import gaussian, rademacher
from spry.estimators.projected import Measurement, projected
from spry.estimators.slopes import Measured
from spry.experiment.atomic import write_json
from spry.experiment.provenance import provenance
from spry.federated.algorithm import Algorithm, ServerState, compose
from spry.federated.split import cyclic, everything
from spry.optim.rules import adamw, sgd
from spry.optim.transform import Transform
from spry.wire.messages import Answer

Row = dict[str, Any]
DIRECTIONS = {"gaussian": (gaussian, 1), "rademacher": (rademacher, -1)}


def flat(params: Params) -> Tensor:
    """Join all tensors in one vector."""
    return torch.cat([v.flatten() for v in params.values()])


def absorbed(algorithm: Algorithm, state: ServerState, losses: dict[int, list[Any]], key: Key) -> ServerState:
    """Run one round, in which client c trains on the losses listed under c."""
    orders = algorithm.plan(state, list(losses), key)
    answers = (
        Answer(order, algorithm.train(lambda loss, _: loss, order, losses[c], 1).reply)
        for c, order in orders.items()
    )
    return algorithm.absorb(state, answers)


def known(loss: Any, params: Params, directions: Sequence[Params], exact: Params) -> Measured:
    """A slope from autograd's gradient."""
    leaves = {name: w.clone().requires_grad_() for name, w in {**params, **exact}.items()}
    value = loss(leaves)
    g = dict(zip(leaves, torch.autograd.grad(value, list(leaves.values())), strict=True))
    slopes = [sum(float((g[name] * v).sum()) for name, v in direction.items()) for direction in directions]
    return Measured(
        float(value.detach()), torch.tensor(slopes, dtype=torch.float64), {n: g[n] for n in exact}
    )


def composed(
    units: Sequence[Unit], measurement: Measurement, count: int, split: bool, *, server: Transform,
    client: Transform | None = None,
) -> Algorithm:  # fmt: skip
    """Spry, per iteration or (with a client's optimizer) per epoch, with the split or without."""
    return compose(
        name="spry", units=units, estimator=projected(known, measurement, count), server=server, client=client,
        split=cyclic if split else everything, replayed=measurement,
    )  # fmt: skip


def one_step_error(
    units: int, size: int, m: int, count: int, directions: str, split: bool, draws: int
) -> Row:
    """Measure ``E|g_hat - g|^2 / |g|^2`` of one aggregate, M clients having the same loss."""
    made = problem.row(units, size)
    measurement = Measurement(directions=DIRECTIONS[directions][0])
    algorithm = composed(made, measurement, count, split, server=sgd(1.0))
    g = {unit.names[0]: torch.ones(size, dtype=torch.float64) for unit in made}
    state = algorithm.init({name: torch.zeros_like(v) for name, v in g.items()})
    errors = []
    for draw in range(draws):
        after = absorbed(algorithm, state, {c: [problem.Linear(g)] for c in range(m)}, Key(draw))
        errors.append(float((-flat(after.weights) - flat(g)).square().sum() / flat(g).square().sum()))
    sign, slices = DIRECTIONS[directions][1], min(m, units) if split else 1
    predicted = (units * size + sign * slices) / (m * count)
    return {
        "directions": directions, "split": split, "L": units, "d": units * size, "M": m, "K": count,
        "error": mean(errors), "standard_error": stdev(errors) / len(errors) ** 0.5, "predicted": predicted,
    }  # fmt: skip


def errors(draws: int) -> dict[str, list[Row]]:
    """Sweep K, d and M."""
    both = [(name, False) for name in DIRECTIONS]
    return {
        "K": [one_step_error(8, 16, 1, k, n, s, draws) for n, s in both for k in (1, 2, 4, 8, 16, 32)],
        "d": [one_step_error(8, d // 8, 1, 1, n, s, draws) for n, s in both for d in (8, 32, 128, 512, 2048)],
        "M": [
            one_step_error(8, 16, m, 1, "gaussian", s, draws)
            for s in (False, True)
            for m in (1, 2, 4, 8, 16, 32)
        ],
    }


def biases(populations: int, samples: int) -> list[Row]:
    """Measure the error a split makes with exact gradients, ``E|g_split - g|^2 / |g|^2`` at M clients, by alpha."""
    rows = []
    body = names_of(unit for unit in problem.UNITS if not unit.head)
    for alpha, m in itertools.product((100.0, 1.0, 0.1, 0.01), (8, 16, 32)):
        sums = torch.zeros(4, dtype=torch.float64)
        for population in range(populations):
            key = Key(population).fold("alpha", str(alpha))
            data, weights = problem.clients(64, alpha, 64, key), problem.start(Key(population))
            found = [problem.gradient(problem.NetLoss(batch), weights) for batch in data]
            grads = [{name: g[name] for name in body} for g in found]
            sums += sum(
                (_bias(grads, key.permutation(len(grads), f"{m} {i}")[:m]) for i in range(samples)),
                torch.zeros(4),
            )
        square, one, turned, spread = sums.tolist()
        owners = m // problem.DEPTH
        rows.append({
            "alpha": alpha, "M": m, "L": problem.DEPTH, "one_deal": one / square, "mean_over_deals": turned / square,
            "predicted": (m - owners) / (owners * (m - 1)) * spread / square,
        })  # fmt: skip
    return rows


def _bias(grads: list[dict[str, Tensor]], chosen: list[int]) -> Tensor:
    """Deal M clients in every turn: each weight takes the mean of its owners' gradients instead of everyone's.

    Returns:
        ``|g|^2``, the mean of ``|g_split - g|^2`` over the turns, the same of the mean over the turns, and the mean of
        ``|g_i - g|^2`` over the clients.
    """
    whole, deals = torch.stack([flat(grads[c]) for c in chosen]).mean(0), []
    for turn in range(len(chosen)):
        held = {c: set(names_of(units)) for c, units in cyclic(problem.UNITS, chosen, turn).items()}
        united = {
            name: torch.stack([grads[c][name] for c in chosen if name in held[c]]).mean(0)
            for name in grads[0]
        }
        deals.append(flat(united) - whole)
    off = torch.stack(deals)
    apart = torch.stack([flat(grads[c]) - whole for c in chosen])
    squares = [whole[None], off, off.mean(0)[None], apart]
    return torch.stack([v.square().sum(1).mean() for v in squares])


COMBINATIONS = list(
    itertools.product(("split", "no split"), ("per-iteration", "per-epoch"), ("sgd", "adamw"))
)
RATES = {
    ("per-iteration", "sgd"): (0.1, 0.3, 1.0), ("per-epoch", "sgd"): (0.03, 0.1, 0.3),
    ("per-iteration", "adamw"): (0.01, 0.03, 0.1), ("per-epoch", "adamw"): (0.01, 0.03, 0.1),
}  # fmt: skip


def _combined(split: str, mode: str, optimizer: str, lr: float) -> Algorithm:
    rule = sgd(lr) if optimizer == "sgd" else adamw(lr, weight_decay=0.0)
    server, client = (rule, None) if mode == "per-iteration" else (sgd(1.0), rule)
    measurement = Measurement(exact=frozenset({"head"}))
    return composed(problem.UNITS, measurement, 1, split == "split", server=server, client=client)


def _trained(algorithm: Algorithm, data: list[problem.Batch], rounds: int, seed: int) -> list[float]:
    """Train for some rounds of M = 8 clients with 4 batches of 8 each; the loss on all data after each round."""
    everyone = problem.NetLoss(problem.Batch(torch.cat([b.x for b in data]), torch.cat([b.y for b in data])))
    state, found = algorithm.init(problem.start(Key(seed))), []
    found.append(float(everyone(state.weights)))
    for number in range(rounds):
        chosen = Key(seed).fold("round", number).permutation(len(data), "sample")[:8]
        losses = {}
        for c in chosen:
            places = Key(seed).fold("round", number, "client", c).permutation(len(data[c].y))
            cuts = [torch.tensor(places[i : i + 8]) for i in range(0, 32, 8)]
            losses[c] = [problem.NetLoss(problem.Batch(data[c].x[cut], data[c].y[cut])) for cut in cuts]
        state = absorbed(algorithm, state, losses, Key(seed))
        found.append(float(everyone(state.weights)))
    return found


def combinations(rounds: int, seeds: int) -> list[Row]:
    """Train each combination at each rate of its grid; keep the rate with the lowest mean final loss."""
    data = {alpha: problem.clients(16, alpha, 64, Key(2)) for alpha in (100.0, 0.1)}
    rows = []
    for alpha, (split, mode, optimizer) in itertools.product(data, COMBINATIONS):
        tried = {
            lr: [
                _trained(_combined(split, mode, optimizer, lr), data[alpha], rounds, s) for s in range(seeds)
            ]
            for lr in RATES[mode, optimizer]
        }
        best = min(tried, key=lambda lr: mean(curve[-1] for curve in tried[lr]))
        final = [curve[-1] for curve in tried[best]]
        rows.append({
            "alpha": alpha, "split": split == "split", "mode": mode, "optimizer": optimizer, "lr": best,
            "loss": [mean(at) for at in zip(*tried[best], strict=True)],
            "final_mean": mean(final), "final_std": stdev(final) if len(final) > 1 else 0.0,
            "finals_by_lr": {str(lr): mean(curve[-1] for curve in curves) for lr, curves in tried.items()},
        })  # fmt: skip
    return rows


def main() -> None:
    """Measure everything, write JSON and pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("research/results/theory.json"))
    parser.add_argument("--pictures", type=Path, default=Path("docs/pictures"))
    parser.add_argument("--draws", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    begun = time.perf_counter()
    result = {
        "error": errors(args.draws),
        "bias": biases(6, 10),
        "training": combinations(args.rounds, args.seeds),
        "provenance": provenance(),
    }
    result["seconds"] = round(time.perf_counter() - begun, 1)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(args.out, result)
    theory_pictures.draw(result, args.pictures)


if __name__ == "__main__":
    main()
