"""Messages to bytes and back. No pickle; nothing is allocated on the word of a header.

Header fields are one letter, because a reply may be a single slope: r round, c client, n examples, s [steps, K],
t local steps, k key, w trained weights (as indices), d K, m most steps, g group.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from spry.core.errors import WireError
from spry.core.keys import Key
from spry.core.params import Params, restrict
from spry.wire import frame, slopes, tensors
from spry.wire.messages import Gradient, Order, Payload, Reply, Slopes, Weights

ORDER, WEIGHTS, GRADIENT, SLOPES32, SLOPES64 = range(5)
KINDS: Mapping[type, int] = {Weights: WEIGHTS, Gradient: GRADIENT}
MAX_EXAMPLES = 1 << 32
"""A client that claims to own more examples than this would outweigh everybody in the mean."""
MAX_DIRECTIONS = 1 << 16
"""A server that asks for more directions than this is taken for a broken one."""
_LOSS = struct.Struct("<f")


def encode_reply(reply: Reply, order: Order) -> bytes:
    """Write a reply.

    Args:
        reply: The reply.
        order: The order it answers, which both sides know.

    Returns:
        The message.
    """
    header: dict[str, Any] = {"r": reply.round, "c": reply.client, "n": reply.examples}
    payload, loss = reply.payload, _LOSS.pack(reply.loss)
    if isinstance(payload, Slopes):
        header["s"] = list(payload.slopes.shape)
        kind = SLOPES64 if payload.slopes.dtype == torch.float64 else SLOPES32
        rest = slopes.pack(payload.slopes) + tensors.pack(payload.exact, order.trained)
        return frame.pack(kind, header, loss + rest)
    header["t"] = reply.steps
    return frame.pack(KINDS[type(payload)], header, loss + tensors.pack(payload.values, order.trained))


def decode_reply(data: bytes, order: Order) -> Reply:
    """Read a reply, refusing whatever does not fit the order.

    Args:
        data: The message.
        order: The order it claims to answer.

    Returns:
        The reply.

    Raises:
        WireError: If the message is truncated, malformed, of another round, client, version or shape, or not finite.
    """
    kind, header, body = frame.unpack(data)
    if kind not in {WEIGHTS, GRADIENT, SLOPES32, SLOPES64}:
        raise WireError(f"message of kind {kind} is not a reply")
    round, client = frame.count(header, "r"), frame.count(header, "c")
    if (round, client) != (order.round, order.client):
        raise WireError(
            f"reply is of round {round}, client {client}; expected round {order.round}, client {order.client}"
        )
    if len(body) < _LOSS.size:
        raise WireError("reply is truncated: it has no loss")
    loss = float(_LOSS.unpack_from(body)[0])
    known = restrict(order.weights, order.trained)
    payload = _payload(kind, header, bytes(body[_LOSS.size :]), known, order)
    steps = (
        payload.slopes.shape[0]
        if isinstance(payload, Slopes)
        else frame.count(header, "t", _max_steps(order))
    )
    examples = frame.count(header, "n", MAX_EXAMPLES)
    return Reply(round=round, client=client, examples=examples, payload=payload, steps=steps, loss=loss)


def _payload(kind: int, header: dict[str, Any], body: bytes, known: Params, order: Order) -> Payload:
    if kind in {SLOPES32, SLOPES64}:
        shape, width = header.get("s"), 4 if kind == SLOPES32 else 8
        length = slopes.nbytes(shape, width)
        _check_ordered(header["s"], order)
        found = slopes.unpack(body[:length], header["s"], width)
        return Slopes(found, tensors.unpack(body[length:], known, order.trained))
    values = tensors.unpack(body, known, order.trained)
    missing = known.keys() - values.keys()
    if missing:
        raise WireError(f"reply lacks {len(missing)} of the weights it was asked for, such as {min(missing)}")
    return Weights(values) if kind == WEIGHTS else Gradient(values)


def _max_steps(order: Order) -> int:
    return slopes.MAX_STEPS if order.max_steps is None else order.max_steps


def _check_ordered(shape: Sequence[int], order: Order) -> None:
    """Refuse slopes that nobody ordered: replaying them would cost the server their directions."""
    steps, count = shape
    if count not in {0, order.num_directions} or steps > _max_steps(order):
        raise WireError(
            f"reply has {steps} x {count} slopes; ordered were at most {_max_steps(order)} steps of "
            f"{order.num_directions} directions"
        )


def encode_order(order: Order) -> bytes:
    """Write an order with its weights in full.

    Args:
        order: The order.

    Returns:
        The message; its reader must know the model's trainable weights by name.
    """
    names = list(order.weights)
    places = {name: place for place, name in enumerate(names)}
    header = {
        "r": order.round,
        "c": order.client,
        "k": [order.key.seed, *order.key.path],
        "w": [places[name] for name in order.trained],
    }
    optional = {"d": order.num_directions, "m": order.max_steps, "g": order.group}
    header |= {field: value for field, value in optional.items() if value}
    weights = tensors.pack(order.weights, names)
    body = struct.pack("<Q", len(weights)) + weights + tensors.pack(order.guess or {}, names)
    return frame.pack(ORDER, header, body)


def decode_order(data: bytes, like: Params) -> Order:
    """Read an order.

    Args:
        data: The message.
        like: The model's trainable weights, for names, shapes, dtypes and devices.

    Returns:
        The order.

    Raises:
        WireError: If the message is truncated, malformed, or does not fit the model.
    """
    kind, header, body = frame.unpack(data)
    if kind != ORDER:
        raise WireError(f"message of kind {kind} is not an order")
    names = list(like)
    length = struct.unpack_from("<Q", body)[0] if len(body) >= 8 else -1
    if not 0 <= length <= len(body) - 8:
        raise WireError(f"order is truncated: its weights need {length} bytes, {max(len(body) - 8, 0)} came")
    weights = tensors.unpack(bytes(body[8 : 8 + length]), like, names)
    if weights.keys() != like.keys():
        raise WireError(f"order lacks {len(like) - len(weights)} of the model's trainable weights")
    places = header.get("w")
    if not isinstance(places, list) or any(type(p) is not int or not 0 <= p < len(names) for p in places):
        raise WireError(
            f"order has trained weights {places!r}; each must be a place from 0 to {len(names) - 1}"
        )
    return Order(
        round=frame.count(header, "r"),
        client=frame.count(header, "c"),
        weights=weights,
        trained=tuple(names[place] for place in places),
        key=read_key(header),
        num_directions=frame.count({"d": 0, **header}, "d", MAX_DIRECTIONS),
        max_steps=frame.count(header, "m", slopes.MAX_STEPS) if "m" in header else None,
        guess=tensors.unpack(bytes(body[8 + length :]), like, names) or None,
        group=frame.count({"g": 0, **header}, "g", MAX_DIRECTIONS),
    )


def read_key(header: Mapping[str, Any]) -> Key:
    """Read the key from a header.

    Args:
        header: The header; its field k is a list of the seed and the path's parts.

    Returns:
        The key.

    Raises:
        WireError: If it is no such list.
    """
    parts = header.get("k")
    if not isinstance(parts, list) or not parts or any(type(part) not in {int, str} for part in parts):
        raise WireError(f"order has key {parts!r}; it must be a list of a seed and path parts")
    if type(parts[0]) is not int:
        raise WireError(f"order has seed {parts[0]!r}; it must be an integer")
    return Key(parts[0], tuple(parts[1:]))
