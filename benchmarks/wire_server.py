"""What slopes cost the server: time to replay a client's epoch, and memory against the number of replies."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

from wire_stand_in import Bowl

from spry.experiment.build import build
from spry.experiment.config import Config
from spry.measure.meter import tensor_peak
from spry.wire.codec import decode_reply, encode_reply
from spry.wire.messages import Answer

SLOPES = {"method.send": "slopes"}
REPLAYED = {
    "spry": {"method.name": "spry"} | SLOPES,
    "fedfgd (all weights)": {"method.name": "fedfgd"} | SLOPES,
}
ABSORBED = {
    "weights": {"method.name": "fedavg"},
    "slices": {"method.name": "spry"},
    "slopes": {"method.name": "spry"} | SLOPES,
}
REALISTIC = {"client.batch_size": 8, "model.max_length": 64}


def replay_cost(base: Config, steps: int) -> list[dict[str, Any]]:
    """Processor time of absorbing one reply of slopes against that of the client's training, batch 8 of tweets.

    Absorbing is replaying the epoch, the mean of one, and the server's own step, so that the ratio is an upper bound.
    """
    rows = []
    for name, settings in REPLAYED.items():
        experiment = build(base.with_settings({**REALISTIC, **settings, "client.steps": steps}))
        algorithm, clients = experiment.algorithm, experiment.clients
        state = algorithm.init(experiment.task.init())
        chosen = clients.trainable()[:10]
        pairs = []
        for order in list(algorithm.plan(state, chosen, experiment.key).values())[:3]:
            batches = list(clients.batches(order.client, 0, experiment.key))
            train = partial(algorithm.train, experiment.task.loss, order, batches, 8)
            trained, client = _timed(train)
            absorb = partial(algorithm.absorb, state, [Answer(order, trained.reply)])
            server = median(_timed(absorb)[1] for _ in range(5))
            pairs.append((client, server))
        client, server = (median(column) for column in zip(*pairs, strict=True))
        rows.append({
            "method": name, "steps": steps, "client_seconds": client, "server_seconds": server,
            "ratio": server / client, "target": 0.05,
        })  # fmt: skip
    return rows


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    begun = time.process_time()
    done = work()
    return done, time.process_time() - begun


def absorb_memory(base: Config, counts: tuple[int, int] = (10, 1000)) -> list[dict[str, Any]]:
    """Peak tensor bytes while the server decodes and absorbs replies as they come, by the allocator's events."""
    rows = []
    for name, settings in ABSORBED.items():
        experiment = build(base.with_settings(settings))
        algorithm = experiment.algorithm
        state = algorithm.init(experiment.task.init())
        peaks = {}
        for count in counts:
            orders = algorithm.plan(state, range(count), experiment.key).values()
            sent = [
                encode_reply(
                    algorithm.train(lambda batch, key, base: Bowl(), order, range(2), 5).reply, order
                )
                for order in orders
            ]
            answers = (
                Answer(order, decode_reply(data, order, algorithm.slopes_exact))
                for order, data in zip(orders, sent, strict=True)
            )
            peaks[str(count)] = tensor_peak(partial(algorithm.absorb, state, answers))
        few, many = peaks.values()
        rows.append({"mode": name, "peak_bytes": peaks, "ratio": many / few, "target": "0.95 to 1.05"})
    return rows
