"""Orders and replies to bytes and back. No pickle; a message that lies costs no memory and no work."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from typing import Annotated

from msgspec import Meta

from spry.core.errors import WireError
from spry.core.keys import Key
from spry.core.params import Params, digest, restrict
from spry.wire.frame import Count, Fields, Kind, decode_frame, encode_frame, read_kind
from spry.wire.messages import Gradient, Order, Payload, Reply, Slopes, Weights
from spry.wire.slopes import decode_slopes, encode_slopes
from spry.wire.tensors import TensorFields, decode_tensors, encode_tensors

MAX_EXAMPLES = 1 << 32
"""A client that claims to own more examples than this would outweigh everybody in the mean."""
MAX_DIRECTIONS = 1 << 16
"""A server that asks for more directions than this is taken for a broken one."""
MAX_STEPS = 1 << 20
"""A server that allows more local steps than this is taken for a broken one."""
MAX_UNTOLD_SLOPES = 1 << 16
"""Most slopes (steps x K) where the order does not tell the steps, because clients run through their own data: at K = 1
an epoch of half a million examples in batches of 8. Replaying them is what a lying client costs the server: minutes."""

DIGEST_BYTES = 8

Examples = Annotated[int, Meta(ge=0, le=MAX_EXAMPLES)]
DirectionCount = Annotated[int, Meta(ge=0, le=MAX_DIRECTIONS)]
Steps = Annotated[int, Meta(ge=0, le=MAX_STEPS)]
Path = Annotated[tuple[int | str, ...], Meta(max_length=64)]


class OrderFields(Fields):
    """An order; trained weights are places among all."""

    round: Count
    client: Count
    seed: int
    path: Path
    trained: tuple[Count, ...]
    num_directions: DirectionCount
    max_steps: Steps | None
    group: DirectionCount
    weights: tuple[TensorFields, ...]
    guess: tuple[TensorFields, ...]


class PartFields(OrderFields):
    """An order that leaves out weights which its reader was sent before; ``held`` is their digest."""

    held: Annotated[bytes, Meta(min_length=DIGEST_BYTES, max_length=DIGEST_BYTES)]


class ReplyFields(Fields):
    """A reply; its tensors are all trained weights, or their gradients, or those that no slopes determine."""

    round: Count
    client: Count
    examples: Examples
    loss: float
    steps: Steps
    tensors: tuple[TensorFields, ...]


class SlopesFields(ReplyFields):
    """A reply of slopes, shape (steps, num_directions)."""

    num_directions: DirectionCount
    slopes: bytes


KINDS: Mapping[type[Payload], Kind] = {Weights: Kind.WEIGHTS, Gradient: Kind.GRADIENT, Slopes: Kind.SLOPES}


def encode_reply(reply: Reply, order: Order) -> bytes:
    """Write a reply to an order, which both sides know."""
    payload, kind = reply.payload, KINDS[type(reply.payload)]
    values = payload.exact if isinstance(payload, Slopes) else payload.values
    told = {
        "round": reply.round,
        "client": reply.client,
        "examples": reply.examples,
        "loss": reply.loss,
        "steps": reply.steps,
        "tensors": encode_tensors(values, order.trained),
    }
    if not isinstance(payload, Slopes):
        return encode_frame(kind, ReplyFields(**told))
    slopes = encode_slopes(payload.slopes)
    return encode_frame(kind, SlopesFields(**told, num_directions=payload.slopes.shape[1], slopes=slopes))


def decode_reply(data: bytes, order: Order, slopes_exact: frozenset[str] | None = None) -> Reply:
    """Read a reply, refusing whatever does not fit the order.

    ``slopes_exact`` is the algorithm's: the weights that come beside slopes; None if replies are no slopes.

    Raises:
        WireError: If the message is truncated, malformed, of another round, client, version or shape, or not finite.
    """
    kind = read_kind(data)
    if kind not in KINDS.values():
        raise WireError(f"message of kind {kind} ({kind.name}) is not a reply")
    if (kind is Kind.SLOPES) != (slopes_exact is not None):
        wanted = "weights or a gradient" if slopes_exact is None else "slopes"
        raise WireError(f"reply is of kind {kind} ({kind.name}); ordered were {wanted}")
    fields = decode_frame(data, SlopesFields if kind is Kind.SLOPES else ReplyFields)
    if (fields.round, fields.client) != (order.round, order.client):
        raise WireError(
            f"reply is of round {fields.round}, client {fields.client}; "
            f"expected round {order.round}, client {order.client}"
        )
    check_steps(fields.steps, order)
    reply = Reply(
        round=fields.round,
        client=fields.client,
        examples=fields.examples,
        payload=_payload(kind, fields, order, slopes_exact or frozenset()),
        steps=fields.steps,
        loss=fields.loss,
    )
    if not math.isfinite(reply.loss):  # in float32, as it is kept
        raise WireError(f"loss is {fields.loss:g}")
    return reply


def check_steps(steps: int, order: Order) -> None:
    """Refuse, with a WireError, more local steps than were ordered: replaying costs the receiver their directions."""
    untold = MAX_UNTOLD_SLOPES // max(order.num_directions, 1)
    allowed = untold if order.max_steps is None else order.max_steps
    if steps > allowed:
        raise WireError(f"reply has {steps} local steps; ordered were at most {allowed}")


def _payload(kind: Kind, fields: ReplyFields, order: Order, exact: frozenset[str]) -> Payload:
    if not isinstance(fields, SlopesFields):
        values = _values(fields, order, order.trained)
        return Weights(values) if kind is Kind.WEIGHTS else Gradient(values)
    perturbs = any(name not in exact for name in order.trained)
    count = order.num_directions if perturbs else 0
    if fields.num_directions != count and fields.steps:
        raise WireError(f"reply has slopes along {fields.num_directions} directions; ordered were {count}")
    values = _values(fields, order, [name for name in order.trained if name in exact])
    slopes = decode_slopes(fields.slopes, fields.steps * fields.num_directions)
    return Slopes(slopes.reshape(fields.steps, fields.num_directions), values)


def _values(fields: ReplyFields, order: Order, names: Sequence[str]) -> Params:
    values = decode_tensors(fields.tensors, restrict(order.weights, names), order.trained)
    missing = [name for name in names if name not in values]
    if missing:
        raise WireError(f"reply lacks {len(missing)} of the weights it was asked for, such as {missing[0]}")
    return values


def encode_order(order: Order, held: Container[str] = ()) -> bytes:
    """Write an order with its weights; its reader must know the model's trainable weights by name.

    Weights in ``held`` are left out: the reader was sent them before, and they have not changed.
    """
    names = list(order.weights)
    places = {name: place for place, name in enumerate(names)}
    left_out = {name: weight for name, weight in order.weights.items() if name in held}
    told = {
        "round": order.round,
        "client": order.client,
        "seed": order.key.seed,
        "path": order.key.path,
        "trained": tuple(places[name] for name in order.trained),
        "num_directions": order.num_directions,
        "max_steps": order.max_steps,
        "group": order.group,
        "weights": encode_tensors({n: w for n, w in order.weights.items() if n not in left_out}, names),
        "guess": encode_tensors(order.guess or {}, names),
    }
    if not left_out:
        return encode_frame(Kind.ORDER, OrderFields(**told))
    return encode_frame(Kind.ORDER_OF_PART, PartFields(**told, held=digest(left_out, DIGEST_BYTES)))


def decode_order(data: bytes, like: Params) -> Order:
    """Read an order; ``like`` has the names, shapes, dtypes and devices of the model's trainable weights.

    Where an order leaves out weights, they are those of ``like``: what the reader was sent last.

    Raises:
        WireError: If the message is truncated, malformed, does not fit the model, or leaves out what ``like`` has not.
    """
    kind = read_kind(data)
    if kind not in {Kind.ORDER, Kind.ORDER_OF_PART}:
        raise WireError(f"message of kind {kind} ({kind.name}) is not an order")
    fields = decode_frame(data, OrderFields if kind is Kind.ORDER else PartFields)
    names = list(like)
    weights = decode_tensors(fields.weights, like, names)
    if isinstance(fields, PartFields):
        weights = _with_held(weights, like, fields.held)
    if weights.keys() != like.keys():
        raise WireError(f"order lacks {len(like) - len(weights)} of the model's trainable weights")
    return Order(
        round=fields.round,
        client=fields.client,
        weights=weights,
        trained=tuple(names[place] for place in distinct(fields.trained, len(names), "trained weights")),
        key=Key(fields.seed, fields.path),
        num_directions=fields.num_directions,
        max_steps=fields.max_steps,
        guess=decode_tensors(fields.guess, like, names) or None,
        group=fields.group,
    )


def _with_held(weights: Params, like: Params, told: bytes) -> Params:
    held = {name: weight for name, weight in like.items() if name not in weights}
    if digest(held, DIGEST_BYTES) != told:
        raise WireError(
            f"order leaves out {len(held)} weights that this client was sent before, and it holds others. Ask for all "
            "weights."
        )
    return {name: weights[name] if name in weights else held[name] for name in like}


def distinct(places: Sequence[int], number: int, what: str) -> Sequence[int]:
    """Refuse, with a WireError, places that are out of range or come twice."""
    if max(places, default=0) >= number:
        raise WireError(f"message has {what} at place {max(places)}; places are 0 to {number - 1}")
    if len(set(places)) != len(places):
        raise WireError(
            f"message has {what} that come twice: {len(places)}, of which {len(set(places))} differ"
        )
    return places
