"""What a run in a few dimensions sends, by the messages that Spry's codec writes."""

from __future__ import annotations

import torch
from few_training import Trial

from spry.core.keys import Key
from spry.core.params import Params
from spry.wire.codec import encode_order, encode_reply
from spry.wire.messages import Order, Reply, Slopes

CLASSES, FEATURES = 2, 384
"""Of the head, which orders carry although it stays as it is."""


def message_bytes(trial: Trial, maps: int, steps: int) -> dict[str, int]:
    """Bytes of a client and round: up, down with the fixed head, and down without it."""
    squares = {f"map {place}": torch.ones(trial.rank, trial.rank) for place in range(maps)}
    head = {"weight": torch.ones(CLASSES, FEATURES), "bias": torch.ones(CLASSES)}
    order = _order(trial, {**squares, **head}, tuple(squares), steps)
    reply = Reply(
        round=0,
        client=0,
        examples=500,
        payload=Slopes(torch.ones(steps, trial.slopes), {}),
        steps=steps,
        loss=0.5,
    )
    return {
        "up": len(encode_reply(reply, order)),
        "down": len(encode_order(order)),
        "down_without_head": len(encode_order(_order(trial, squares, tuple(squares), steps))),
    }


def _order(trial: Trial, weights: Params, trained: tuple[str, ...], steps: int) -> Order:
    return Order(
        round=0,
        client=0,
        weights=weights,
        trained=trained,
        key=Key(0).fold("round", 0).fold("client", 0),
        num_directions=trial.slopes,
        max_steps=steps,
    )
