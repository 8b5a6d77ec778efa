"""Messages to bytes and back. No pickle; nothing is allocated on the word of a header.

Header fields are one letter, because a reply may be a single slope: r round, c client, n examples, s [steps, K],
t local steps, k key, w trained weights (as places), o the order's other choices.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spry.core.errors import WireError
from spry.core.keys import Key
from spry.core.params import Params, restrict
from spry.wire import frame, tensors
from spry.wire.messages import Gradient, Order, Payload, Reply, Slopes, Weights

ORDER, WEIGHTS, GRADIENT, SLOPES32, SLOPES64 = range(5)
KINDS: Mapping[type, int] = {Weights: WEIGHTS, Gradient: GRADIENT}
MOST_SLOPES = 1 << 24
"""More slopes than this in one reply are taken for an attack or an error: 64 MiB of float32."""
MOST_CHOICE = 1 << 16
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
        raw = payload.slopes.detach().cpu().contiguous().numpy().tobytes()
        return frame.pack(kind, header, loss + raw + tensors.pack(payload.exact, order.trained))
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
    payload = _payload(kind, header, bytes(body[_LOSS.size :]), known, order.trained)
    steps = payload.slopes.shape[0] if isinstance(payload, Slopes) else frame.count(header, "t")
    return Reply(
        round=round, client=client, examples=frame.count(header, "n"), payload=payload, steps=steps, loss=loss
    )


def _payload(kind: int, header: dict[str, Any], body: bytes, known: Params, names: Sequence[str]) -> Payload:
    if kind in {SLOPES32, SLOPES64}:
        slopes, rest = _slopes(header.get("s"), body, np.dtype("<f4" if kind == SLOPES32 else "<f8"))
        return Slopes(slopes, tensors.unpack(rest, known, names))
    values = tensors.unpack(body, known, names)
    missing = known.keys() - values.keys()
    if missing:
        raise WireError(f"reply lacks {len(missing)} of the weights it was asked for, such as {min(missing)}")
    return Weights(values) if kind == WEIGHTS else Gradient(values)


def _slopes(shape: Any, body: bytes, dtype: np.dtype[Any]) -> tuple[Tensor, bytes]:
    if not (isinstance(shape, list) and len(shape) == 2 and all(type(n) is int and n >= 0 for n in shape)):
        raise WireError(f"reply has slopes of shape {shape!r}; it must be [steps, K]")
    number = math.prod(shape)
    if number > MOST_SLOPES or max(shape) > MOST_SLOPES:
        raise WireError(f"reply claims {shape[0]} x {shape[1]} slopes; at most {MOST_SLOPES} are allowed")
    length = number * dtype.itemsize
    if len(body) < length:
        raise WireError(
            f"reply is truncated: {shape[0]} x {shape[1]} slopes need {length} bytes, {len(body)} came"
        )
    values = torch.from_numpy(np.frombuffer(body[:length], dtype=dtype).reshape(shape).copy())
    if not bool(torch.isfinite(values).all()):
        raise WireError("reply has NaN or infinite slopes")
    return values, body[length:]


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
    if order.choices:
        header["o"] = dict(order.choices)
    weights = tensors.pack(order.weights, names)
    body = struct.pack("<Q", len(weights)) + weights + tensors.pack(order.hint or {}, names)
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
        key=_key(header.get("k")),
        hint=tensors.unpack(bytes(body[8 + length :]), like, names) or None,
        choices=_choices(header.get("o", {})),
    )


def _choices(found: Any) -> dict[str, int]:
    if not isinstance(found, dict) or any(
        type(n) is not int or not 0 <= n <= MOST_CHOICE for n in found.values()
    ):
        raise WireError(f"order has choices {found!r}; they must be numbers from 0 to {MOST_CHOICE}, by name")
    return found


def _key(parts: Any) -> Key:
    if not isinstance(parts, list) or not parts or any(type(part) not in {int, str} for part in parts):
        raise WireError(f"order has key {parts!r}; it must be a list of a seed and path parts")
    if type(parts[0]) is not int:
        raise WireError(f"order has seed {parts[0]!r}; it must be an integer")
    return Key(parts[0], tuple(parts[1:]))
